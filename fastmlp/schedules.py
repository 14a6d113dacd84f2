"""Learning-rate schedules: small frozen descriptions of a factor on the optimizer's rate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastmlp import _checks

Array = NDArray[Any]


@dataclass(frozen=True)
class Schedule(ABC):
    """A factor for the learning rate of every step.

    A schedule is a pure function of what was taken and what is planned, so that a resumed run
    continues it. One of your own is a subclass with a `name` and `factors`.

    Examples
    --------
    >>> import numpy as np
    >>> class WarmUp(Schedule):
    ...     name = "warm_up"
    ...     def factors(self, steps, epoch, total_epochs):
    ...         return np.minimum((steps + 1) / 4, 1.0)
    >>> WarmUp().factors(np.arange(6), epoch=0, total_epochs=1)
    array([0.25, 0.5 , 0.75, 1.  , 1.  , 1.  ])
    """

    name: ClassVar[str]

    @abstractmethod
    def factors(self, steps: Array, epoch: int, total_epochs: int) -> Array:
        """Return the factors of all steps of one epoch.

        Epochs may differ in their number of steps, where data of another size comes.

        Parameters
        ----------
        steps : ndarray of int64, of shape (n_steps,)
            The numbers of the epoch's steps. They count from 0 at the start of training, as steps
            were taken.
        epoch : int
            The number of whole epochs before; the first is epoch 0.
        total_epochs : int
            Epochs of the whole training, as far as it is planned: more than `epoch`.

        Returns
        -------
        ndarray of float64, of shape (n_steps,)
        """


def _in_equal_epochs(steps: Array, epoch: int, total_epochs: int) -> tuple[Array, int]:
    """Return the numbers of an epoch's steps, and of all, if all epochs had as many."""
    n_steps = len(steps)
    return epoch * n_steps + np.arange(n_steps), total_epochs * n_steps


def _shares_over(steps: Array, epoch: int, total_epochs: int) -> Array:
    """Return the share of the training that is over before each step of an epoch."""
    numbers, total_steps = _in_equal_epochs(steps, epoch, total_epochs)
    return np.asarray(numbers / total_steps)


@dataclass(frozen=True)
class Constant(Schedule):
    """The same rate throughout.

    Examples
    --------
    >>> import numpy as np
    >>> Constant().factors(np.arange(3), epoch=0, total_epochs=1)
    array([1., 1., 1.])
    """

    name: ClassVar[str] = "constant"

    def factors(self, steps: Array, epoch: int, total_epochs: int) -> Array:
        return np.ones(len(steps))


@dataclass(frozen=True)
class StepDecay(Schedule):
    """Multiplies the rate by `factor` after every `epochs` epochs.

    Parameters
    ----------
    epochs : int, default 10
    factor : float, default 0.1
        In (0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> StepDecay(epochs=5, factor=0.5).factors(np.arange(20, 22), epoch=10, total_epochs=12)
    array([0.25, 0.25])
    """

    name: ClassVar[str] = "step"
    epochs: int = 10
    factor: float = 0.1

    def __post_init__(self) -> None:
        _checks.integer(self.epochs, "epochs", at_least=1)
        _checks.real(self.factor, "factor", above=0, at_most=1)

    def factors(self, steps: Array, epoch: int, total_epochs: int) -> Array:
        return np.power(self.factor, np.full(len(steps), float(epoch // self.epochs)))


@dataclass(frozen=True)
class Exponential(Schedule):
    """Multiplies the rate by `factor` after every epoch.

    Parameters
    ----------
    factor : float, default 0.95
        In (0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> Exponential(0.5).factors(np.arange(4, 6), epoch=2, total_epochs=3)
    array([0.25, 0.25])
    """

    name: ClassVar[str] = "exponential"
    factor: float = 0.95

    def __post_init__(self) -> None:
        _checks.real(self.factor, "factor", above=0, at_most=1)

    def factors(self, steps: Array, epoch: int, total_epochs: int) -> Array:
        return np.power(self.factor, np.full(len(steps), float(epoch)))


@dataclass(frozen=True)
class InverseScaling(Schedule):
    """Divides the rate by t ** power, where t counts epochs from 1.

    Parameters
    ----------
    power : float, default 0.5
        At least 0.

    Examples
    --------
    >>> import numpy as np
    >>> InverseScaling(1.0).factors(np.arange(2, 4), epoch=1, total_epochs=2)
    array([0.5, 0.5])
    """

    name: ClassVar[str] = "inverse_scaling"
    power: float = 0.5

    def __post_init__(self) -> None:
        _checks.real(self.power, "power", at_least=0)

    def factors(self, steps: Array, epoch: int, total_epochs: int) -> Array:
        return np.power(np.full(len(steps), epoch + 1.0), -self.power)


@dataclass(frozen=True)
class Cosine(Schedule):
    """A linear warm-up, then half a cosine down to `final` (arXiv 1608.03983).

    Parameters
    ----------
    warm_up : float, default 0.0
        Share of the training in [0, 1) that raises the rate linearly.
    final : float, default 0.0
        Factor at the last step, in [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> Cosine().factors(np.arange(3), epoch=0, total_epochs=1)
    array([1. , 0.5, 0. ])
    """

    name: ClassVar[str] = "cosine"
    warm_up: float = 0.0
    final: float = 0.0

    def __post_init__(self) -> None:
        _checks.real(self.warm_up, "warm_up", at_least=0, below=1)
        _checks.real(self.final, "final", at_least=0, at_most=1)

    def factors(self, steps: Array, epoch: int, total_epochs: int) -> Array:
        steps, total_steps = _in_equal_epochs(steps, epoch, total_epochs)
        rising = int(self.warm_up * total_steps)
        falling = max(total_steps - 1 - rising, 1)
        phase = np.clip((steps - rising) / falling, 0, 1)
        fall = self.final + (1 - self.final) * 0.5 * (1 + np.cos(np.pi * phase))
        return np.where(steps < rising, (steps + 1) / (rising + 1), fall)


@dataclass(frozen=True)
class CosineLog(Schedule):
    """Cycles of a cosine, each twice as long as the one before (arXiv 2407.04491, "coslog").

    0.5 (1 - cos(2 pi log2(1 + (2^cycles - 1) t))), where t in [0, 1) is the share of the training
    that is over: every cycle rises from 0 to 1 and falls again, and the training ends near 0.

    Parameters
    ----------
    cycles : int, default 4
        From 1 to 52.

    Examples
    --------
    >>> import numpy as np
    >>> CosineLog(cycles=2).factors(np.arange(6), epoch=0, total_epochs=1).round(2)
    array([0.  , 0.93, 0.  , 0.72, 0.93, 0.32])
    """

    name: ClassVar[str] = "cosine_log"
    cycles: int = 4

    def __post_init__(self) -> None:
        _checks.integer(self.cycles, "cycles", at_least=1)
        _checks.real(self.cycles, "cycles", at_most=52)  # beyond it, steps are lost in rounding

    def factors(self, steps: Array, epoch: int, total_epochs: int) -> Array:
        t = _shares_over(steps, epoch, total_epochs)
        cycle = np.log2(1 + (2.0**self.cycles - 1) * t)
        return np.asarray(0.5 * (1 - np.cos(2 * np.pi * cycle)))


@dataclass(frozen=True)
class FunctionSchedule(Schedule):
    """A user's own function of the share of the training that is over.

    A function that is given as a schedule becomes one.

    Parameters
    ----------
    function : callable
        Takes an array of t, in [0, 1), for the steps of an epoch: the number of each step divided
        by that of all. Returns as many factors, finite and at least 0. Without a state of its own:
        a resumed training calls it anew.

    Examples
    --------
    >>> import numpy as np
    >>> linear = FunctionSchedule(lambda t: 1 - t)
    >>> linear.factors(np.arange(4), epoch=0, total_epochs=1)
    array([1.  , 0.75, 0.5 , 0.25])
    """

    name: ClassVar[str] = "function"
    function: Callable[[Array], Array]

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(f"function must be a function of t, got {self.function!r}")

    def factors(self, steps: Array, epoch: int, total_epochs: int) -> Array:
        return self.function(_shares_over(steps, epoch, total_epochs))


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Half a cosine up from 1 / `start_division` to 1, then down (arXiv 1708.07120).

    The optimizer's rate is the highest of the cycle.

    Parameters
    ----------
    rise : float, default 0.3
        Share of the training in (0, 1) that goes up.
    start_division, final_division : float, default 25 and 1e4
        The cycle starts at 1 / start_division and ends at 1 / (start_division * final_division),
        as in PyTorch.

    Examples
    --------
    >>> import numpy as np
    >>> OneCycle(rise=0.5).factors(np.arange(6), epoch=0, total_epochs=1).round(2)
    array([0.04, 0.52, 1.  , 0.75, 0.25, 0.  ])
    """

    name: ClassVar[str] = "one_cycle"
    rise: float = 0.3
    start_division: float = 25.0
    final_division: float = 1e4

    def __post_init__(self) -> None:
        _checks.real(self.rise, "rise", above=0, below=1)
        _checks.real(self.start_division, "start_division", at_least=1)
        _checks.real(self.final_division, "final_division", at_least=1)

    def factors(self, steps: Array, epoch: int, total_epochs: int) -> Array:
        steps, total_steps = _in_equal_epochs(steps, epoch, total_epochs)
        last = max(total_steps - 1, 1)
        peak = max(self.rise * total_steps - 1, 1e-9)
        start = 1 / self.start_division
        end = start / self.final_division

        def swing(low: float, high: float, phase: Array) -> Array:
            return low + (high - low) * 0.5 * (1 + np.cos(np.pi * np.clip(phase, 0, 1)))

        up = swing(1.0, start, steps / peak)
        down = swing(end, 1.0, (steps - peak) / max(last - peak, 1e-9))
        return np.where(steps < peak, up, down)


@dataclass(frozen=True)
class ReduceOnPlateau(Schedule):
    """Multiplies the rate by `factor` when a metric has not improved for `patience` epochs.

    The trainer watches the metric and multiplies the rate; the factor within an epoch is 1.

    Parameters
    ----------
    factor : float, default 0.1
        In (0, 1).
    patience : int, default 10
        Epochs without improvement that are borne, at least 0.
    threshold : float, default 1e-4
        Improvement of the metric that counts, at least 0, absolute.
    metric : str, default "loss"
        A recorded metric, such as "val_loss".
    minimum : float, default 0.0
        The least product of all factors.
    mode : {"auto", "min", "max"}, default "auto"
        Whether less or more is better; "auto" asks the metric, as `EarlyStopping` does.

    Examples
    --------
    >>> ReduceOnPlateau(patience=2).metric
    'loss'
    """

    name: ClassVar[str] = "reduce_on_plateau"
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    metric: str = "loss"
    minimum: float = 0.0
    mode: str = "auto"

    def __post_init__(self) -> None:
        _checks.real(self.factor, "factor", above=0, below=1)
        _checks.integer(self.patience, "patience", at_least=0)
        _checks.real(self.threshold, "threshold", at_least=0)
        _checks.real(self.minimum, "minimum", at_least=0, at_most=1)
        _checks.text(self.metric, "metric")
        _checks.mode(self.mode)

    def factors(self, steps: Array, epoch: int, total_epochs: int) -> Array:
        return np.ones(len(steps))


def epoch_factors(
    schedule: Schedule, first_step: int, n_steps: int, epoch: int, total_epochs: int
) -> Array:
    """Return a schedule's factors of one epoch's steps.

    Parameters
    ----------
    schedule : Schedule
    first_step, n_steps : int
        The number of steps that were taken before, and of those to come.
    epoch, total_epochs : int
        As in `Schedule.factors`.

    Raises
    ------
    ValueError
        If the schedule does not return one factor of at least 0 for each step.

    Examples
    --------
    >>> epoch_factors(Exponential(0.5), first_step=10, n_steps=2, epoch=1, total_epochs=3)
    array([0.5, 0.5])
    """
    steps = np.arange(first_step, first_step + n_steps)
    factors = np.asarray(schedule.factors(steps, epoch, total_epochs), dtype=np.float64)
    if factors.shape != (n_steps,):
        raise ValueError(
            f"the schedule {type(schedule).__name__} must return {n_steps} factors, one for each "
            f"step of the epoch, got an array of shape {factors.shape}"
        )
    wrong = np.flatnonzero(~((factors >= 0) & np.isfinite(factors)))
    if len(wrong):
        raise ValueError(
            f"the schedule {type(schedule).__name__} must return finite factors of at least 0, got "
            f"{factors[wrong[0]]} for step {steps[wrong[0]]}"
        )
    return factors


def goes_on(earlier: Schedule | None, later: Schedule | None) -> bool:
    """Return whether a schedule continues another's waiting for a better metric.

    Examples
    --------
    >>> goes_on(ReduceOnPlateau(), ReduceOnPlateau(patience=3))
    True
    >>> goes_on(ReduceOnPlateau(), ReduceOnPlateau(metric="val_loss"))
    False
    """
    if not (isinstance(earlier, ReduceOnPlateau) and isinstance(later, ReduceOnPlateau)):
        return False
    return (earlier.metric, earlier.mode) == (later.metric, later.mode)


#: Every schedule by name, with default parameters.
SCHEDULES: _checks.Vocabulary[Schedule] = _checks.Vocabulary(
    {
        kind.name: kind()
        for kind in (
            Constant,
            StepDecay,
            Exponential,
            InverseScaling,
            Cosine,
            CosineLog,
            OneCycle,
            ReduceOnPlateau,
        )
    },
    {
        "step": ("StepLR", "step_decay"),
        "exponential": ("ExponentialLR", "exponential_decay"),
        "inverse_scaling": ("invscaling",),
        "cosine": ("CosineAnnealingLR", "cosine_decay"),
        "cosine_log": ("coslog", "coslog4"),
        "one_cycle": ("OneCycleLR",),
        "reduce_on_plateau": ("ReduceLROnPlateau",),
    },
)


def choose_schedule(given: str | Schedule | Callable[[Array], Array]) -> Schedule:
    """Return the schedule that a name, an instance or a function of t stands for.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If it is none of them.

    Examples
    --------
    >>> choose_schedule("coslog4")
    CosineLog(cycles=4)
    >>> choose_schedule(lambda t: 1 - t).name
    'function'
    """
    if isinstance(given, str | Schedule):
        return _checks.choose(given, Schedule, SCHEDULES, "schedule")
    # A class is a mistake: Cosine for Cosine().
    if callable(given) and not isinstance(given, type):
        return FunctionSchedule(given)
    raise TypeError(
        f"schedule must be a name ({_checks.listing(SCHEDULES)}), a Schedule instance or a "
        f"function of t, got {given!r}"
    )
