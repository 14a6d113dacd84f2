"""Watching a recorded metric for improvement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from fastmlp.schedules import ReduceOnPlateau, Schedule, goes_on

T = TypeVar("T")


@dataclass(frozen=True)
class Watch:
    """The best value of a metric so far, and for how many epochs it was not improved.

    Examples
    --------
    >>> watch = Watch().seen(0.5, upward=False).seen(0.6, upward=False)
    >>> watch
    Watch(best=0.5, waited=1)
    """

    best: float | None = None
    waited: int = 0

    def seen(self, value: float, *, upward: bool, threshold: float = 0.0) -> Watch:
        """Return the watch after one more epoch; an improvement exceeds `threshold`."""
        gain = 0.0 if self.best is None else (value - self.best) * (1 if upward else -1)
        # NaN is no improvement: it compares as False.
        if (self.best is None and value == value) or gain > threshold:
            return Watch(float(value), 0)
        return Watch(self.best, self.waited + 1)


@dataclass(frozen=True)
class Plateau:
    """What a training has come to that may reduce its rate on plateaus.

    Examples
    --------
    >>> schedule, directions = ReduceOnPlateau(factor=0.5, patience=0), {"loss": False}
    >>> plateau = Plateau().after({"loss": 0.3}, schedule, directions)
    >>> plateau.after({"loss": 0.4}, schedule, directions)
    Plateau(watch=Watch(best=0.3, waited=0), factor=0.5)
    """

    #: Of the epochs since the rate was reduced.
    watch: Watch = field(default_factory=Watch)
    #: The product of all reductions.
    factor: float = 1.0

    def after(
        self,
        record: Mapping[str, float],
        schedule: Schedule | None,
        directions: Mapping[str, bool | None],
    ) -> Plateau:
        """Return the plateau after one more epoch; another schedule leaves it as it is.

        Raises
        ------
        ValueError
            If the schedule's metric was not recorded, or nobody said which way it counts.
        """
        if not isinstance(schedule, ReduceOnPlateau):
            return self
        upward = counts_upward(schedule.metric, schedule.mode, directions)
        value = recorded(record, schedule.metric)
        watch = self.watch.seen(value, upward=upward, threshold=schedule.threshold)
        if watch.waited <= schedule.patience:
            return replace(self, watch=watch)
        factor = max(self.factor * schedule.factor, schedule.minimum)
        return Plateau(replace(watch, waited=0), factor)

    def under(self, later: Schedule | None, earlier: Schedule | None) -> Plateau:
        """Return the plateau that a later schedule goes on from, a new one if it is another's."""
        return self if goes_on(earlier, later) else Plateau()


def counts_upward(metric: str, mode: str, directions: Mapping[str, bool | None]) -> bool:
    """Return whether more of a metric is better.

    Parameters
    ----------
    metric : str
    mode : {"auto", "min", "max"}
        "auto" takes what the metric itself declares.
    directions : mapping of str to bool or None
        Of every column of the history, whether more is better; None where no one said.

    Raises
    ------
    ValueError
        If mode is "auto" and there is no such column, or nobody said which way it counts.

    Examples
    --------
    >>> counts_upward("loss", "auto", {"loss": False}), counts_upward("cost", "max", {"cost": None})
    (False, True)
    """
    if mode != "auto":
        return mode == "max"
    upward = recorded(directions, metric)
    if upward is None:
        raise ValueError(
            f"whether more or less of {metric!r} is better is not known: say mode='min' or "
            "mode='max', or let the metric say it, by an attribute greater_is_better or as "
            "scikit-learn's make_scorer(...)"
        )
    return upward


def check_watched(metric: str, mode: str, directions: Mapping[str, bool | None]) -> None:
    """Raise ValueError unless a fit with these columns can watch a metric.

    Examples
    --------
    >>> check_watched("loss", "auto", {"loss": False})
    """
    recorded(directions, metric)
    counts_upward(metric, mode, directions)


def recorded(record: Mapping[str, T], metric: str) -> T:
    """Return what an epoch's record, or another mapping of its columns, holds of a metric.

    Raises
    ------
    ValueError
        If it was not recorded.

    Examples
    --------
    >>> recorded({"epoch": 1, "loss": 0.5}, "loss")
    0.5
    """
    if metric not in record:
        hint = "; pass validation_data to fit" if metric.startswith("val_") else ""
        raise ValueError(
            f"the metric {metric!r} is not recorded, only {', '.join(map(repr, record))} are{hint}"
        )
    return record[metric]
