"""Rows listed ahead of their use are asked for in order, without a gap, and little beyond."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from fastmlp.backends.numba_backend.ahead import ADDRESSES, list_rows, take_requests
from fastmlp.backends.numba_backend.integers import index_pointer
from fastmlp.backends.numba_backend.simd import pointer

WIDTH, STRIDE = 70, 80  # elements of a row, and from one row to the next


@njit
def requests(X, order, first, end, pace, sizes, ahead):
    ahead = index_pointer(ahead, 0)
    order = index_pointer(order, 0)
    list_rows(pointer(X, 0), STRIDE, WIDTH, order, first, end, order, pace, ahead)
    return [take_requests(ahead, n_requests) for n_requests in sizes]


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
    ahead = np.full(ADDRESSES + 9, -1)
    starts = [X.ctypes.data + row * stride_bytes for row in order[first:end]]
    done = 0
    for n_requests, (address, distance) in zip(
        sizes, requests(X, order, first, end, pace, np.array(sizes), ahead), strict=True
    ):
        if not starts:
            assert distance == 0  # nothing is left to ask for
            continue
        left = row_bytes - done
        assert address == starts[0] + done
        fits = n_requests * pace <= left + row_bytes
        assert distance == (pace if fits else left // n_requests + 1)
        done += n_requests * distance
        if done >= row_bytes:
            starts, done = starts[1:], 0
