"""Watching a recorded metric for improvement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


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


def counts_upward(metric: str) -> bool:
    """Return whether more is better: not for losses, errors and deviances.

    scikit-learn names its metrics so.

    Examples
    --------
    >>> counts_upward("val_accuracy"), counts_upward("val_loss")
    (True, False)
    """
    return not metric.endswith(("loss", "error", "deviance", "seconds"))


def recorded(record: Mapping[str, float], metric: str) -> float:
    """Return a metric of an epoch's record.

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
