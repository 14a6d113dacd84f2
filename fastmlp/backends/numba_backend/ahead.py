"""What is asked for ahead of its use, a cache line at a time, while products compute.

The rows of a shuffled batch lie anywhere in memory, large matrices of weights lie beyond the
caches, and memory is slow: a processor that waits for one line after another computes nothing
meanwhile, and asked for all of them at once it stalls as well. So every product asks for a line
between two terms of its sums: for the weights that are used next, then for rows of the inputs.
"""

from __future__ import annotations

from typing import Any

from fastmlp.backends.numba_backend.integers import (
    address_of,
    advance_index,
    leads_somewhere,
    load_index,
    out_of_line,
    prefetch,
    store_index,
)
from fastmlp.backends.numba_backend.simd import inlined, kernel

# A list: the row to ask for next, how many there are, the bytes of that row that have been asked
# for, those of every row, the bytes from one request to the next, all rows' addresses.
NEXT_ROW, N_ROWS, PROGRESS, ROW_BYTES, PACE, ADDRESSES = range(6)

#: Pieces of weights that can be listed at once.
MOST_PIECES = 64
#: Where a thread's list of rows of the inputs begins, behind its list of pieces of weights.
OF_INPUTS = ADDRESSES + MOST_PIECES
#: Bytes of weights from one request to the next: quick, because they are used soon.
_WEIGHTS_PACE = 32


@inlined
def ahead_size(batch_size: Any) -> Any:
    """Return the length of a thread's lists.

    Examples
    --------
    >>> ahead_size(10) - ahead_size(0)
    10
    """
    return OF_INPUTS + ADDRESSES + batch_size


@inlined
def begin_list(ahead: Any, n_rows: Any, row_bytes: Any, pace: Any) -> None:
    """Write all of a list but the addresses of its rows."""
    store_index(ahead, NEXT_ROW, 0)
    store_index(ahead, N_ROWS, n_rows)
    store_index(ahead, PROGRESS, 0)
    store_index(ahead, ROW_BYTES, row_bytes)
    store_index(ahead, PACE, pace)


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
    ahead = advance_index(ahead, OF_INPUTS)
    row_bytes = address_of(X, n_in) - address_of(X, 0)
    begin_list(ahead, end - first, row_bytes, pace)
    for i in range(end - first):
        row = load_index(order, first + i)
        store_index(ahead, ADDRESSES + i, address_of(X, row * x_stride))
        prefetch(address_of(classes, row))


@kernel
def list_pieces(weights: Any, size: Any, distance: Any, n: Any, ahead: Any) -> None:
    """Write the list of `n` pieces of weights, of `size` elements and `distance` apart."""
    out_of_line()
    begin_list(ahead, n, address_of(weights, size) - address_of(weights, 0), _WEIGHTS_PACE)
    for i in range(n):
        store_index(ahead, ADDRESSES + i, address_of(weights, i * distance))


@inlined
def take_requests(ahead: Any, n_requests: Any, idle: Any) -> Any:
    """Return where the next `n_requests` requests begin, and their distance in bytes.

    They are requests of the first list that is not done, at most a row's; `idle` and 0 if all are
    done, or there are no lists.
    """
    if not leads_somewhere(ahead):
        return idle, 0
    if load_index(ahead, NEXT_ROW) >= load_index(ahead, N_ROWS):
        ahead = advance_index(ahead, OF_INPUTS)
    row = load_index(ahead, NEXT_ROW)
    if row >= load_index(ahead, N_ROWS):
        return idle, 0
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
