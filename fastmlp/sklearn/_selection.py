"""What the best epoch is chosen by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sklearn.metrics import get_scorer_names

from fastmlp import _checks

#: Of classes: what every epoch's record holds in any case, and what it can hold beside that.
_OF_CLASSES = {
    "auto": "selection_loss",
    "loss": None,
    "accuracy": None,
    "log_loss": "log_loss",
    "brier_score": "brier_score",
}
#: Of values; the root of the loss has its least where the loss has.
_OF_VALUES = dict.fromkeys(
    ("auto", "loss", "mean_squared_error", "root_mean_squared_error", "mse", "rmse"), "loss"
) | {"r2": "r2"}
_SHORT = {"mae": "mean_absolute_error"}


def choose_score(
    scoring: str | Callable[..., float], of_values: bool
) -> tuple[tuple[Any, ...], str]:
    """Return the metrics that members record, and the column that their best epoch is best in.

    Parameters
    ----------
    scoring : str or callable
        As the estimators take it.
    of_values : bool
        Whether it is for a regressor.

    Raises
    ------
    ValueError
        If the name is unknown.

    Examples
    --------
    >>> choose_score("accuracy", of_values=False)
    ((), 'val_accuracy')
    >>> choose_score("auto", of_values=False)
    (('selection_loss',), 'val_selection_loss')
    """
    if not isinstance(scoring, str):
        return (("score", scoring),), "val_score"
    name = scoring.removeprefix("neg_")
    if of_values and name in _OF_VALUES:
        return (), f"val_{_OF_VALUES[name]}"
    if not of_values and name in _OF_CLASSES:
        added = _OF_CLASSES[name]
        return ((), f"val_{name}") if added is None else ((added,), f"val_{added}")
    name = _SHORT.get(name, name)
    known = get_scorer_names()
    for one in (name, f"neg_{name}"):
        if one in known:
            return (one,), f"val_{one}"
    names = sorted({*(_OF_VALUES if of_values else _OF_CLASSES), *_SHORT, *known})
    near = _checks.hint(_checks.nearest(scoring, names))
    raise ValueError(
        f"unknown scoring {scoring!r}; {near}choose 'auto', 'loss', or a name of "
        "sklearn.metrics.get_scorer_names()"
    )
