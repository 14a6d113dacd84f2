"""Arrays that lie in files: read in pieces, without keeping the pieces in memory."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: A row that is touched may bring in the 2 MiB around it, so that these hold at most 64 MiB.
_ROWS_BETWEEN_LOOKS = 32
#: Releasing is not free: pages may grow to so many bytes first.
_BYTES_KEPT = 64 * 2**20


def is_mapped(X: Any) -> bool:
    """Return whether an array is a view of a `numpy.memmap` whose pages can be released.

    Examples
    --------
    >>> is_mapped(np.zeros(3))
    False
    """
    return _mapping(X) is not None


def release_pages(X: Any) -> None:
    """Let go of the pages that reading a memory map left in this process's memory.

    They stay in the system's file cache while there is room. Nothing happens to other arrays,
    nor to private maps (mode "c"), whose changes are in no file.

    Examples
    --------
    >>> release_pages(np.zeros(3))
    """
    mapping = _mapping(X)
    if mapping is not None:
        mapping.madvise(mmap.MADV_DONTNEED)


def gather_rows(X: Any, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Return some rows of a memory map as an array, without keeping its pages.

    Examples
    --------
    >>> gather_rows(np.arange(4).reshape(2, 2), np.array([1]))
    array([[2, 3]])
    """
    gathered = np.empty((len(rows), X.shape[1]), dtype=X.dtype)
    before = _resident_bytes()
    for start in range(0, len(rows), _ROWS_BETWEEN_LOOKS):
        block = slice(start, start + _ROWS_BETWEEN_LOOKS)
        gathered[block] = X[rows[block]]
        resident = _resident_bytes()
        if resident is None or before is None or resident - before > _BYTES_KEPT:
            release_pages(X)
            before = _resident_bytes()
    release_pages(X)
    return gathered


def _resident_bytes() -> int | None:
    """Return how much memory this process occupies, where the system tells (Linux)."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * mmap.PAGESIZE
    except OSError:
        return None


def _mapping(X: Any) -> mmap.mmap | None:
    array = X
    while isinstance(array, np.ndarray) and not isinstance(array.base, mmap.mmap):
        array = array.base
    shared = isinstance(array, np.memmap) and array.mode != "c"
    # Windows has no madvise.
    if shared and hasattr(mmap, "MADV_DONTNEED") and isinstance(array.base, mmap.mmap):
        return array.base
    return None
