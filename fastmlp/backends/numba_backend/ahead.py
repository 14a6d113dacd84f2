"""Rows of inputs asked for ahead of their use, a cache line at a time, while products compute.

The rows of a shuffled batch lie anywhere in memory, and memory is slow: a processor that waits for
them one after another computes nothing meanwhile, and asked for all of them at once it stalls as
well. So every product asks for a line between two terms of its sums.
"""

from __future__ import annotations

from typing import Any

from fastmlp.backends.numba_backend.integers import (
    address_of,
    load_index,
    out_of_line,
    prefetch,
    store_index,
)
from fastmlp.backends.numba_backend.simd import inlined, kernel

# A thread's list: the row to ask for next, how many there are, the bytes of that row that have
# been asked for, those of every row, the bytes from one request to the next, all rows' addresses.
NEXT_ROW, N_ROWS, PROGRESS, ROW_BYTES, PACE, ADDRESSES = range(6)


@kernel
def list_rows(
    X: Any,
    x_stride: Any,
    n_in: Any,
    order: Any,
    first: Any,
    end: Any,
    classes: Any,
    pace: Any,
    ahead: Any,
) -> None:
    """Write the list of the rows order[first] to order[end - 1] of X; ask for their classes."""
    out_of_line()
    row_bytes = address_of(X, n_in) - address_of(X, 0)
    store_index(ahead, NEXT_ROW, 0)
    store_index(ahead, N_ROWS, end - first)
    store_index(ahead, PROGRESS, 0)
    store_index(ahead, ROW_BYTES, row_bytes)
    store_index(ahead, PACE, pace)
    for i in range(end - first):
        row = load_index(order, first + i)
        store_index(ahead, ADDRESSES + i, address_of(X, row * x_stride))
        prefetch(address_of(classes, row))


@inlined
def take_requests(ahead: Any, n_requests: Any) -> Any:
    """Return where the next `n_requests` requests of a list begin, and their distance in bytes."""
    row = load_index(ahead, NEXT_ROW)
    if row >= load_index(ahead, N_ROWS):
        return address_of(ahead, 0), 0
    progress, pace = load_index(ahead, PROGRESS), load_index(ahead, PACE)
    address = load_index(ahead, ADDRESSES + row) + progress
    row_bytes = load_index(ahead, ROW_BYTES)
    left = row_bytes - progress
    if n_requests * pace > left + row_bytes:  # a little too much costs less than to divide
        pace = left // n_requests + 1
    progress += n_requests * pace
    if progress >= row_bytes:
        progress = 0
        store_index(ahead, NEXT_ROW, row + 1)
    store_index(ahead, PROGRESS, progress)
    return address, pace
