"""Samples on the device: all of them for the length of a fit, or those of a call's next steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp._mapped import is_mapped

Array = NDArray[Any]


def can_be_kept(X: Any, y: Array, dtype: np.dtype[Any], n_bytes: int) -> bool:
    """Return whether samples are to be put on a device whole: plain arrays that take so much.

    Examples
    --------
    >>> can_be_kept(np.zeros((9, 2), "uint8"), np.zeros(9), np.dtype("float32"), 100)
    True
    """
    if not isinstance(X, np.ndarray) or is_mapped(X):
        return False
    return X.size * device_dtype(X.dtype, dtype).itemsize + y.nbytes <= n_bytes


def device_dtype(given: np.dtype[Any], dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return what a device holds numbers as: their own dtype where that takes less than `dtype`.

    Examples
    --------
    >>> [str(device_dtype(np.dtype(given), np.dtype("float32"))) for given in (">i2", "float64")]
    ['int16', 'float32']
    """
    return given.newbyteorder("=") if given.itemsize < dtype.itemsize else dtype


def on_host(X: Any, dtype: np.dtype[Any], n_places: int) -> Array:
    """Return a copy of rows as a device is to hold them, with room for so many.

    Parameters
    ----------
    X : ndarray or SciPy sparse rows
        Of inputs, or of targets, also a vector of class numbers.
    dtype : dtype
        The network's.
    n_places : int
        At least the number of rows. What the places left over hold is not meant to be read.

    Examples
    --------
    >>> on_host(np.array([[7]], "uint8"), np.dtype("float32"), 1)
    array([[7]], dtype=uint8)
    """
    dense = X.toarray() if hasattr(X, "toarray") else X
    is_labels = dense.ndim == 1
    whole = np.empty(
        (n_places, *dense.shape[1:]), np.int32 if is_labels else device_dtype(dense.dtype, dtype)
    )
    with np.errstate(over="ignore"):  # as the caller wants it: what is too large is infinite
        whole[: len(dense)] = dense
    return whole


def rounded_up(n_rows: int, n_devices: int) -> int:
    """Return a number that is at most an eighth larger, of few, so that few programs are compiled.

    It is a multiple of the number of devices, and at least 8.

    Examples
    --------
    >>> rounded_up(5, 1), rounded_up(60_000, 1), rounded_up(60_001, 1), rounded_up(5, 3)
    (8, 61440, 61440, 9)
    """
    unit = 1 << max(0, n_rows.bit_length() - 4)
    return multiple_of(n_devices, max(8, multiple_of(unit, n_rows)))


def multiple_of(unit: int, number: int) -> int:
    """Return the least multiple of `unit` that is not below `number`.

    Examples
    --------
    >>> multiple_of(3, 7)
    9
    """
    return -(-number // unit) * unit
