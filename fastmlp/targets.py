"""Labels and real targets, checked and brought into one of two forms.

Every backend is given targets as class numbers, an int64 vector of shape (n_samples,) for a
softmax output, or as a float matrix of shape (n_samples, target_width).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp._frames import as_numbers
from fastmlp.activations import OutputActivation
from fastmlp.losses import Loss

Array = NDArray[Any]


def prepare_targets(
    y: Any, loss: Loss, output: OutputActivation, n_outputs: int, dtype: np.dtype[Any]
) -> Array:
    """Return `y` as class numbers or as a matrix, checked against the network's width.

    Parameters
    ----------
    y : array-like
        Softmax: integer labels 0 to n_outputs - 1 of shape (n_samples,), or one-hot or probability
        rows of shape (n_samples, n_outputs). Sigmoid: 0/1 labels of shape (n_samples,) for one
        output, or rows of labels or probabilities. Otherwise real targets, of shape (n_samples,)
        or (n_samples, target_width).
    loss : Loss
    output : OutputActivation
    n_outputs : int
    dtype : dtype
        Of the matrix form.

    Returns
    -------
    ndarray of shape (n_samples,) and int64, or of shape (n_samples, target_width) and `dtype`

    Raises
    ------
    ValueError
        If the shape, the values or the kind of `y` do not fit, or some are masked.

    Examples
    --------
    >>> from fastmlp.losses import LOSSES
    >>> from fastmlp.activations import Softmax
    >>> prepare_targets([0, 2], LOSSES["cross_entropy"], Softmax(), 3, np.dtype("float32"))
    array([0, 2])
    """
    y = as_numbers(y, "y")
    if hasattr(y, "toarray"):
        y = y.toarray()
    if y.dtype.kind not in "biuf":
        raise ValueError(f"y must hold numbers, got {_kind_of(y, output)}")
    width = loss.target_width(n_outputs)
    if output.name == "softmax" and (y.ndim == 1 or (y.ndim == 2 and y.shape[1] == 1 < width)):
        return _class_numbers(y.reshape(-1), n_outputs)
    matrix = _matrix(y, width, dtype)
    # Softmax outputs and sigmoids are probabilities: their targets are too, except for a plain
    # regression loss behind a sigmoid, where any reachable value is allowed but not demanded.
    if loss.name == "cross_entropy":
        _check_probabilities(matrix, rows_sum_to_one=output.name == "softmax")
    if loss.name == "poisson" and matrix.size and matrix.min() < 0:
        raise ValueError(f"poisson targets must be at least 0, got {matrix.min():g}")
    return matrix


def dense_targets(targets: Array, n_outputs: int, dtype: np.dtype[Any]) -> Array:
    """Return class numbers as one-hot rows, and a matrix as it is.

    Examples
    --------
    >>> dense_targets(np.array([1, 0]), 2, np.dtype("float32"))
    array([[0., 1.],
           [1., 0.]], dtype=float32)
    """
    if targets.ndim == 2:
        return targets
    rows = np.zeros((len(targets), n_outputs), dtype=dtype)
    rows[np.arange(len(targets)), targets] = 1
    return rows


def weight_shares(sample_weight: Array | None, n_samples: int, dtype: np.dtype[Any]) -> Array:
    """Return each sample's share of the mean; none where all weights are zero.

    Examples
    --------
    >>> weight_shares(np.array([3e38, 3e38], dtype="float32"), 2, np.dtype("float32"))
    array([0.5, 0.5], dtype=float32)
    """
    if sample_weight is None:
        return np.full(n_samples, 1 / n_samples, dtype=dtype)
    largest = float(sample_weight.max())
    if largest == 0:
        return np.zeros(n_samples, dtype=dtype)
    # A power of two, so that no digit is lost where the sum of the weights alone would overflow.
    weights = np.ldexp(sample_weight.astype(np.float64), -np.frexp(largest)[1])
    return np.asarray(weights / weights.sum(), dtype=dtype)


def _kind_of(y: Array, output: OutputActivation) -> str:
    """Return what y holds in place of numbers, and what helps where it is text."""
    texts = [value for value in y.reshape(-1)[:1].tolist() if isinstance(value, str)]
    if not texts:
        return f"an array of dtype {y.dtype}"
    if output.name not in ("softmax", "sigmoid"):
        return f"text such as {texts[0]!r}"
    return (
        f"text such as {texts[0]!r}; the estimator fastmlp.sklearn.MLPClassifier takes labels of "
        "any kind, and np.unique(y, return_inverse=True) numbers them"
    )


def _class_numbers(y: Array, n_outputs: int) -> Array:
    if y.dtype.kind == "f":
        if not np.all(np.isfinite(y)):
            raise ValueError("y holds NaN or infinite values; labels must be integers")
        if np.any(y != np.floor(y)):
            raise ValueError(
                f"labels must be integers from 0 to {n_outputs - 1} for {n_outputs} softmax "
                f"outputs, got {y[y != np.floor(y)][0]:g}"
            )
    if y.size and (y.min() < 0 or y.max() >= n_outputs):
        wrong = y.min() if y.min() < 0 else y.max()
        raise ValueError(
            f"labels must lie between 0 and {n_outputs - 1} for {n_outputs} softmax outputs, "
            f"got {wrong:g}"
        )
    return np.ascontiguousarray(y, dtype=np.int64)


def _matrix(y: Array, width: int, dtype: np.dtype[Any]) -> Array:
    if y.ndim == 1 and width == 1:
        y = y.reshape(-1, 1)
    if y.ndim != 2 or y.shape[1] != width:
        raise ValueError(
            f"y must have shape (n_samples, {width}) for this network and loss, got {y.shape}"
        )
    with np.errstate(over="ignore"):  # the sentence below says it better
        matrix = np.ascontiguousarray(y, dtype=dtype)
    if not np.all(np.isfinite(matrix)):
        raise ValueError(f"y holds NaN, or values that are infinite as {dtype}")
    return matrix


def _check_probabilities(matrix: Array, rows_sum_to_one: bool) -> None:
    if not matrix.size:
        return
    if matrix.min() < 0 or matrix.max() > 1:
        wrong = matrix.min() if matrix.min() < 0 else matrix.max()
        raise ValueError(
            f"cross entropy needs labels or probabilities between 0 and 1, got {wrong:g}"
        )
    if rows_sum_to_one:
        sums = matrix.sum(axis=1)
        if np.abs(sums - 1).max() > 1e-3:
            wrong = sums[np.argmax(np.abs(sums - 1))]
            raise ValueError(
                f"softmax targets must be one-hot or probability rows that sum to 1, "
                f"got a row that sums to {wrong:g}"
            )
