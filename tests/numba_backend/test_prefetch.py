"""Rows listed ahead of their use are asked for in order, without a gap, and little beyond."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmlp.backends.numba_backend.numba_target import jit
from fastmlp.backends.numba_backend.plan import Visits
from fastmlp.backends.numba_backend.products.prefetch import (
    N_LISTS,
    Ahead,
    Requests,
    ahead_size,
    list_pieces,
    list_rows,
    take_requests,
)
from fastmlp.backends.numba_backend.vectors.pointers import index_pointer, nowhere
from fastmlp.backends.numba_backend.vectors.records import nothing_like, records_from
from fastmlp.backends.numba_backend.vectors.simd import pointer

WIDTH, STRIDE = 70, 80  # elements of a row, and from one row to the next
IDLE = 1234  # an address


def lists(batch_size):
    return Requests.array(N_LISTS), np.full(ahead_size(batch_size), -1)


@jit
def requests(X, order, first, end, pace, sizes, given, listed, addresses, distances):
    ahead = Ahead(records_from(given, 0), index_pointer(listed, 0))
    order = index_pointer(order, 0)
    list_pieces(pointer(X, 0), 0, 0, 0, ahead)
    rows = Visits(pointer(X, 0), STRIDE, order, first, end)
    list_rows(rows, WIDTH, order, pace, ahead)
    for i in range(len(sizes)):
        addresses[i], distances[i] = take_requests(ahead, sizes[i], IDLE)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(
    st.integers(0, 3),
    st.integers(3, 9),
    st.sampled_from([4, 16, 64]),
    st.lists(st.integers(1, 100), min_size=1, max_size=60),
)
@settings(deadline=None)
def test_every_product_goes_on_where_the_one_before_stopped(dtype, first, end, pace, sizes):
    X, order = np.zeros(9 * STRIDE, dtype), np.array([5, 3, 8, 0, 7, 1, 2, 6, 4])
    row_bytes, stride_bytes = WIDTH * X.itemsize, STRIDE * X.itemsize
    starts = [X.ctypes.data + row * stride_bytes for row in order[first:end]]
    done, sizes = 0, np.array(sizes)
    addresses, distances = np.zeros_like(sizes), np.zeros_like(sizes)
    requests(X, order, first, end, pace, sizes, *lists(9), addresses, distances)
    for n_requests, address, distance in zip(sizes, addresses, distances, strict=True):
        if not starts:
            assert (address, distance) == (IDLE, 0)  # nothing is left to ask for
            continue
        left = row_bytes - done
        assert address == starts[0] + done
        fits = n_requests * pace <= left + row_bytes
        assert distance == (pace if fits else left // n_requests + 1)
        done += n_requests * distance
        if done >= row_bytes:
            starts, done = starts[1:], 0


@jit
def all_requests(weights, X, order, n_requests, given, listed, addresses):
    ahead = Ahead(records_from(given, 0), index_pointer(listed, 0))
    order = index_pointer(order, 0)
    list_rows(Visits(pointer(X, 0), STRIDE, order, 0, 2), WIDTH, order, 16, ahead)
    list_pieces(pointer(weights, 0), 40, 100, 2, ahead)
    for i in range(len(addresses)):
        addresses[i] = take_requests(ahead, n_requests, IDLE)[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_are_asked_for_before_inputs(dtype):
    weights, X, order = np.zeros(200, dtype), np.zeros(2 * STRIDE, dtype), np.array([1, 0])
    size, n_requests = weights.itemsize, 1000  # enough for a piece or row at once
    addresses = np.zeros(5, np.int64)
    all_requests(weights, X, order, n_requests, *lists(2), addresses)
    first = weights.ctypes.data
    rows = [X.ctypes.data + row * STRIDE * size for row in order]
    assert addresses.tolist() == [first, first + 100 * size, *rows, IDLE]


@jit
def requests_of_nothing(requests):
    ahead = Ahead(nothing_like(records_from(requests, 0)), nowhere())
    return take_requests(ahead, 10, IDLE)


def test_without_lists_nothing_is_asked_for():
    assert requests_of_nothing(Requests.array(N_LISTS)) == (IDLE, 0)
