"""What is asked for ahead of its use, a cache line at a time, while products compute.

The rows of a shuffled batch lie anywhere in memory, large matrices of weights lie beyond the
caches, and memory is slow: a processor that waits for one line after another computes nothing
meanwhile, and asked for all of them at once it stalls as well. So every product asks for a line
between two terms of its sums: for the weights that are used next, then for rows of the inputs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fastmlp.backends.numba_backend.plan import Visits
from fastmlp.backends.numba_backend.vectors.pointers import (
    Numbers,
    address_of,
    advance_index,
    leads_somewhere,
    load_index,
    prefetch,
    store_index,
)
from fastmlp.backends.numba_backend.vectors.records import Record, Records, record, value
from fastmlp.backends.numba_backend.vectors.types import Index, Pointer, inlined, kernel


class Requests(Record):
    """What is still to be asked for of a list of addresses."""

    next: int  # number of the address that is asked for next
    n: int  # addresses
    progress: int  # bytes from there on that have been asked for
    n_bytes: int  # that are wanted from every address on
    pace: int  # bytes from one request to the next


#: A thread's lists: of pieces of weights, which are used first, and of rows of the inputs.
OF_WEIGHTS, OF_INPUTS, N_LISTS = range(3)
#: Pieces of weights that can be listed at once.
MOST_PIECES = 64
#: Bytes of weights from one request to the next: quick, because they are used soon.
_WEIGHTS_PACE = 32


@value
class Ahead(NamedTuple):
    """A thread's lists of what to ask for."""

    requests: Records  # of both lists
    addresses: Numbers  # those of the weights, then those of the inputs


@inlined
def ahead_size(batch_size: Index) -> Index:
    """Return how many addresses a thread may list.

    Examples
    --------
    >>> ahead_size(10) - ahead_size(0)
    10
    """
    return MOST_PIECES + batch_size


@kernel
def begin_list(requests: Requests, n: Index, size: Index, pace: Index) -> None:
    """Begin a list of `n` addresses."""
    requests.next = 0
    requests.n = n
    requests.progress = 0
    requests.n_bytes = size
    requests.pace = pace


@kernel
def list_rows(rows: Visits, width: Index, classes: Numbers, pace: Index, ahead: Ahead) -> None:
    """List the first `width` elements of some rows; ask for their classes."""
    size = address_of(rows.X, width) - address_of(rows.X, 0)
    begin_list(record(ahead.requests, OF_INPUTS), rows.end - rows.first, size, pace)
    addresses = advance_index(ahead.addresses, MOST_PIECES)
    for i in range(rows.end - rows.first):
        row = load_index(rows.order, rows.first + i)
        store_index(addresses, i, address_of(rows.X, row * rows.stride))
        prefetch(address_of(classes, row))


@kernel
def list_pieces(weights: Pointer, size: Index, distance: Index, n: Index, ahead: Ahead) -> None:
    """List `n` pieces of weights, of `size` elements and `distance` apart."""
    n_bytes = address_of(weights, size) - address_of(weights, 0)
    begin_list(record(ahead.requests, OF_WEIGHTS), n, n_bytes, _WEIGHTS_PACE)
    for i in range(n):
        store_index(ahead.addresses, i, address_of(weights, i * distance))


@inlined
def take_requests(ahead: Ahead, n_requests: Index, idle: Index) -> Any:
    """Return where the next `n_requests` requests begin, and their distance in bytes.

    They are requests of the first list that is not done, at most a row's; `idle` and 0 if all are
    done, or there are no lists.
    """
    if not leads_somewhere(ahead.addresses):
        return idle, 0
    requests, addresses = record(ahead.requests, OF_WEIGHTS), ahead.addresses
    if requests.next >= requests.n:
        requests = record(ahead.requests, OF_INPUTS)
        addresses = advance_index(ahead.addresses, MOST_PIECES)
    row = requests.next
    if row >= requests.n:
        return idle, 0
    progress, pace = requests.progress, requests.pace
    address = load_index(addresses, row) + progress
    left = requests.n_bytes - progress
    if n_requests * pace > left + requests.n_bytes:  # a little too much costs less than to divide
        pace = left // n_requests + 1
    progress += n_requests * pace
    if progress >= requests.n_bytes:
        progress = 0
        requests.next = row + 1
    requests.progress = progress
    return address, pace
