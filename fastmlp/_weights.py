"""Weights of samples, and those that follow from weights of classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastmlp import _checks
from fastmlp.activations import OutputActivation

Array = NDArray[Any]

ClassWeight = Mapping[Any, float] | str | None


def sample_weights(
    given: ArrayLike, n_samples: int, dtype: DTypeLike, rows: Array | None = None
) -> Array:
    """Return weights, checked, whose sum is no more and no less than a float64 can hold.

    Of some rows alone, those are checked and summed, and the others weigh 0.

    Raises
    ------
    ValueError
        If they are not `n_samples` finite numbers of at least 0, all are 0, or some are masked.

    Examples
    --------
    >>> sample_weights([1, 2], 2, "float32")
    array([1., 2.], dtype=float32)
    """
    _checks.in_memory(given, "sample_weight")
    _checks.not_masked(given, "sample_weight")
    weights = np.asarray(given)
    if weights.shape != (n_samples,) or weights.dtype.kind not in "biuf":
        raise ValueError(
            f"sample_weight must be {n_samples} numbers, one for each row, "
            f"got shape {weights.shape} and dtype {weights.dtype}"
        )
    chosen = weights if rows is None else weights[rows]
    return spread(_summable(chosen, dtype), rows, n_samples)


def spread(values: Array, rows: Array | None, n_rows: int) -> Array:
    """Return the values of some rows in their places among all, where the others have 0.

    Examples
    --------
    >>> spread(np.array([5.0, 7.0, 5.0]), np.array([2, 0, 2]), 4)
    array([7., 0., 5., 0.])
    """
    if rows is None:
        return values
    whole = np.zeros(n_rows, dtype=values.dtype)
    whole[rows] = values
    return whole


def row_numbers(given: ArrayLike, what: str, n_rows: int) -> Array:
    """Return numbers of rows, in any order and as often as they are named, as int64.

    Raises
    ------
    ValueError
        If they are no integers, none, or out of range.

    Examples
    --------
    >>> row_numbers([2, 0, 2], "rows", 3)
    array([2, 0, 2])
    """
    _checks.in_memory(given, what)
    _checks.not_masked(given, what)
    rows = np.asarray(given)
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
        hint = "; np.flatnonzero(mask) gives them" if rows.dtype.kind == "b" else ""
        raise ValueError(
            f"{what} must be a vector of row numbers, got {rows.dtype} of shape {rows.shape}{hint}"
        )
    if len(rows) == 0:
        raise ValueError(f"{what} must name at least one row, got none")
    if rows.min() < 0 or rows.max() >= n_rows:
        wrong = rows.min() if rows.min() < 0 else rows.max()
        raise ValueError(
            f"{what} must lie between 0 and {n_rows - 1} for {n_rows} rows, got {wrong}"
        )
    return np.ascontiguousarray(rows, dtype=np.int64)


def _summable(weights: Array, dtype: DTypeLike) -> Array:
    """Return weights in a unit in which their sum can be held."""
    weights = np.ascontiguousarray(weights, dtype=dtype)
    if not (np.all(np.isfinite(weights)) and weights.min() >= 0 and weights.max() > 0):
        raise ValueError("sample_weight must be finite, at least 0, and not all 0")
    with np.errstate(over="ignore"):
        total = float(weights.sum(dtype=np.float64))
    if np.finfo(np.float64).tiny < total < np.inf:
        return weights
    # Means do not depend on their unit; a power of two changes no digit.
    return np.asarray(np.ldexp(weights, -np.frexp(weights.max())[1]), dtype=dtype)


def check_class_weight(given: ClassWeight, output: OutputActivation, n_outputs: int) -> None:
    """Raise an error unless `given` has a meaning for the output.

    Raises
    ------
    ValueError
        If there are no classes, or a class or a weight is out of range.
    TypeError
        If it is neither a mapping nor "balanced".

    Examples
    --------
    >>> from fastmlp.activations import Softmax
    >>> check_class_weight({0: 1.0, 2: 5.0}, Softmax(), 3)
    """
    if given is None:
        return
    n_classes = _n_classes(output, n_outputs)
    if n_classes is None:
        raise ValueError(
            "class_weight needs a softmax output or a single sigmoid output, "
            f"got {n_outputs} {output.name} outputs"
        )
    if isinstance(given, str):
        if given != "balanced":
            raise ValueError(f"class_weight must be 'balanced' or a dict, got {given!r}")
        return
    if not isinstance(given, Mapping):
        raise TypeError(f"class_weight must be 'balanced' or a dict, got {given!r}")
    for label, weight in given.items():
        if label not in range(n_classes):
            raise ValueError(f"class_weight names classes 0 to {n_classes - 1}, got {label!r}")
        _checks.real(weight, f"the weight of class {label}", at_least=0)


def class_weights(given: Mapping[Any, float] | str, labels: Array, n_classes: int) -> Array:
    """Return every sample's class weight; classes that are not named weigh 1.

    "balanced" weighs each class by n_samples / (n_present * n_samples_of_class), as scikit-learn.

    Examples
    --------
    >>> class_weights("balanced", np.array([0, 0, 0, 1]), 2).round(3)
    array([0.667, 0.667, 0.667, 2.   ])
    """
    each = np.ones(n_classes)
    if isinstance(given, str):
        counts = np.bincount(labels, minlength=n_classes)
        each = len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    else:
        for label, weight in given.items():
            each[int(label)] = weight  # True and 1.0 name class 1, as in y
    return each[labels]


def total_weight(weights: Array | None, n_rows: int) -> float:
    """Return the sum of weights, or the number of rows where there are none.

    Examples
    --------
    >>> total_weight(None, 3), total_weight(np.array([0.5, 1.0]), 2)
    (3.0, 1.5)
    """
    return float(n_rows) if weights is None else float(weights.sum(dtype=np.float64))


def batch_weights(n_rows: int, batch_size: int, weights: Array | None, n_epochs: int = 1) -> Array:
    """Return every batch's number of rows, or the sum of their weights, as float64.

    The rows are those of so many epochs, one after the other.

    Examples
    --------
    >>> batch_weights(5, 2, None)
    array([2., 2., 1.])
    >>> batch_weights(6, 2, None, n_epochs=2)
    array([2., 1., 2., 1.])
    """
    epoch_rows = n_rows // n_epochs
    if weights is None:
        sizes = np.full(-(-epoch_rows // batch_size), float(batch_size))
        sizes[-1:] -= len(sizes) * batch_size - epoch_rows
        return np.tile(sizes, n_epochs)
    in_epoch = np.arange(0, epoch_rows, batch_size)
    starts = np.add.outer(epoch_rows * np.arange(n_epochs), in_epoch).reshape(-1)
    return np.asarray(np.add.reduceat(weights, starts, dtype=np.float64))


def _n_classes(output: OutputActivation, n_outputs: int) -> int | None:
    if output.name == "softmax":
        return n_outputs
    return 2 if output.name == "sigmoid" and n_outputs == 1 else None
