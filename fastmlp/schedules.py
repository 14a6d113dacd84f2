"""Learning-rate schedules: small frozen descriptions of a factor on the optimizer's rate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastmlp import _checks

Array = NDArray[Any]


@dataclass(frozen=True)
class Schedule(ABC):
    """A factor for the learning rate of every step.

    A schedule is a pure function of the step, so that a resumed run continues it. Its clock is the
    epochs that were taken: steps are counted as if all epochs had as many as the present one, so
    that data of another size do not move it.
    """

    name: ClassVar[str]

    @abstractmethod
    def factors(self, steps: Array, steps_per_epoch: int, total_steps: int) -> Array:
        """Return the factors of some steps, as float64.

        Parameters
        ----------
        steps : ndarray of int
            Steps since the start of training, from 0: ``steps // steps_per_epoch`` whole epochs
            were taken before.
        steps_per_epoch : int
            Of the present epoch.
        total_steps : int
            `steps_per_epoch` times the epochs of the whole training, as far as it is planned.
        """


@dataclass(frozen=True)
class Constant(Schedule):
    """The same rate throughout.

    Examples
    --------
    >>> import numpy as np
    >>> Constant().factors(np.arange(3), 1, 3)
    array([1., 1., 1.])
    """

    name: ClassVar[str] = "constant"

    def factors(self, steps: Array, steps_per_epoch: int, total_steps: int) -> Array:
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
    >>> StepDecay(epochs=1, factor=0.5).factors(np.arange(4), 2, 4)
    array([1. , 1. , 0.5, 0.5])
    """

    name: ClassVar[str] = "step"
    epochs: int = 10
    factor: float = 0.1

    def __post_init__(self) -> None:
        _checks.integer(self.epochs, "epochs", at_least=1)
        _checks.real(self.factor, "factor", above=0, at_most=1)

    def factors(self, steps: Array, steps_per_epoch: int, total_steps: int) -> Array:
        drops: Array = steps // (steps_per_epoch * self.epochs)
        return np.power(self.factor, drops.astype(np.float64))


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
    >>> Exponential(0.5).factors(np.arange(4), 2, 4)
    array([1. , 1. , 0.5, 0.5])
    """

    name: ClassVar[str] = "exponential"
    factor: float = 0.95

    def __post_init__(self) -> None:
        _checks.real(self.factor, "factor", above=0, at_most=1)

    def factors(self, steps: Array, steps_per_epoch: int, total_steps: int) -> Array:
        return np.power(self.factor, (steps // steps_per_epoch).astype(np.float64))


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
    >>> InverseScaling(1.0).factors(np.arange(4), 2, 4)
    array([1. , 1. , 0.5, 0.5])
    """

    name: ClassVar[str] = "inverse_scaling"
    power: float = 0.5

    def __post_init__(self) -> None:
        _checks.real(self.power, "power", at_least=0)

    def factors(self, steps: Array, steps_per_epoch: int, total_steps: int) -> Array:
        return np.power(steps // steps_per_epoch + 1.0, -self.power)


@dataclass(frozen=True)
class Cosine(Schedule):
    """A linear warm-up, then half a cosine down to `final` (arXiv 1608.03983).

    Parameters
    ----------
    warm_up : float, default 0.0
        Share of all steps in [0, 1) that raise the rate linearly.
    final : float, default 0.0
        Factor at the last step, in [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> Cosine().factors(np.arange(3), 1, 3)
    array([1. , 0.5, 0. ])
    """

    name: ClassVar[str] = "cosine"
    warm_up: float = 0.0
    final: float = 0.0

    def __post_init__(self) -> None:
        _checks.real(self.warm_up, "warm_up", at_least=0, below=1)
        _checks.real(self.final, "final", at_least=0, at_most=1)

    def factors(self, steps: Array, steps_per_epoch: int, total_steps: int) -> Array:
        rising = int(self.warm_up * total_steps)
        falling = max(total_steps - 1 - rising, 1)
        phase = np.clip((steps - rising) / falling, 0, 1)
        fall = self.final + (1 - self.final) * 0.5 * (1 + np.cos(np.pi * phase))
        return np.where(steps < rising, (steps + 1) / (rising + 1), fall)


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Half a cosine up from 1 / `start_division` to 1, then down (arXiv 1708.07120).

    The optimizer's rate is the highest of the cycle.

    Parameters
    ----------
    rise : float, default 0.3
        Share of all steps in (0, 1) that go up.
    start_division, final_division : float, default 25 and 1e4
        The cycle starts at 1 / start_division and ends at 1 / (start_division * final_division),
        as in PyTorch.

    Examples
    --------
    >>> import numpy as np
    >>> OneCycle(rise=0.5).factors(np.arange(6), 1, 6).round(2)
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

    def factors(self, steps: Array, steps_per_epoch: int, total_steps: int) -> Array:
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
        _checks.mode(self.mode)

    def factors(self, steps: Array, steps_per_epoch: int, total_steps: int) -> Array:
        return np.ones(len(steps))


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
            OneCycle,
            ReduceOnPlateau,
        )
    },
    {
        "step": ("StepLR", "step_decay"),
        "exponential": ("ExponentialLR", "exponential_decay"),
        "inverse_scaling": ("invscaling",),
        "cosine": ("CosineAnnealingLR", "cosine_decay"),
        "one_cycle": ("OneCycleLR",),
        "reduce_on_plateau": ("ReduceLROnPlateau",),
    },
)
