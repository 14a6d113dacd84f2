"""Rows as programs read them: in the network's dtype, side by side, if it can be without a copy."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: Inputs that are not in the network's dtype are converted in portions of this many bytes.
PORTION_BYTES = 4 << 20


def portion_of(n_inputs: int, dtype: np.dtype[Any]) -> int:
    """Return how many rows are converted at once.

    Examples
    --------
    >>> portion_of(256, np.dtype("float32"))
    4096
    """
    return max(1, PORTION_BYTES // (n_inputs * dtype.itemsize))


def native_rows(X: Any, dtype: np.dtype[Any]) -> tuple[Array, int] | None:
    """Return rows as a 1-D array and their stride, without a copy, or None where that cannot be.

    Examples
    --------
    >>> flat, stride = native_rows(np.ones((3, 4)), np.dtype("float64"))
    >>> flat.shape, stride
    ((12,), 4)
    """
    if not isinstance(X, np.ndarray) or X.dtype != dtype or not X.dtype.isnative:
        return None
    if X.flags.carray and X.size:
        return np.asarray(X).reshape(-1), X.shape[1]
    row, column = X.strides
    if X.size == 0 or X.ctypes.data % dtype.itemsize:
        return None
    if (X.shape[1] > 1 and column != dtype.itemsize) or row < 0 or row % dtype.itemsize:
        return None
    stride = row // dtype.itemsize if X.shape[0] > 1 else X.shape[1]
    count = (X.shape[0] - 1) * stride + X.shape[1]
    flat = np.lib.stride_tricks.as_strided(X, (count,), (dtype.itemsize,), writeable=False)
    return writable(np.asarray(flat)), stride


def writable(array: Array) -> Array:
    """Return a view that Numba sees as writable: a read-only type would compile everything anew.

    Kernels never write to it.

    Examples
    --------
    >>> writable(np.frombuffer(b"readonly")).flags.writeable
    True
    """
    if array.flags.writeable or not array.size:
        return array
    # The buffer does not own the memory: the caller keeps `array` alive during the call.
    raw = (ctypes.c_ubyte * array.nbytes).from_address(array.ctypes.data)
    return np.ctypeslib.as_array(raw).view(array.dtype)


def converted(rows: Any, dtype: np.dtype[Any]) -> Array:
    """Return a portion of rows of any dtype, or sparse, as a contiguous array.

    Examples
    --------
    >>> converted(np.eye(2, dtype=np.int8), np.dtype("float32")).dtype
    dtype('float32')
    """
    dense = rows.toarray() if hasattr(rows, "toarray") else rows
    return writable(np.ascontiguousarray(dense, dtype=dtype))


def native_or_converted(X: Any, dtype: np.dtype[Any]) -> tuple[Array, int]:
    """Return rows as a 1-D array and their stride.

    Examples
    --------
    >>> native_or_converted(np.eye(2, dtype=np.int8), np.dtype("float32"))[1]
    2
    """
    native = native_rows(X, dtype)
    return (converted(X, dtype).ravel(), X.shape[1]) if native is None else native
