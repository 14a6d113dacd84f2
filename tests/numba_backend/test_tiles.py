"""Products of rows with panels against NumPy; runs as well under NUMBA_DISABLE_JIT=1."""

import numpy as np
import pytest
from numba import config

from fastmlp import MLP, SGD
from fastmlp.backends import get_backend
from fastmlp.backends.numba_backend.numba_target import jit
from fastmlp.backends.numba_backend.products import heights as tile_heights
from fastmlp.backends.numba_backend.products import packing
from fastmlp.backends.numba_backend.products.prefetch import (
    N_LISTS,
    OF_WEIGHTS,
    Ahead,
    Requests,
    ahead_size,
)
from fastmlp.backends.numba_backend.products.rows import (
    ListedRows,
    Panels,
    Room,
    Rows,
    Strips,
    ask_for_panel,
    multiply_rows,
)
from fastmlp.backends.numba_backend.products.rows import multiply_listed as multiply_listed_rows
from fastmlp.backends.numba_backend.vectors.pointers import index_pointer, nowhere
from fastmlp.backends.numba_backend.vectors.records import nothing_like, records_from
from fastmlp.backends.numba_backend.vectors.simd import pointer
from fastmlp.backends.numba_backend.vectors.types import LANES_BYTES, inlined
from fastmlp.losses import LOSSES

both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


#: In place of lists of what to ask for: `nothing_like` these.
NO_REQUESTS = Requests.array(N_LISTS)


@inlined
def nothing_ahead(requests):
    return Ahead(nothing_like(records_from(requests, 0)), nowhere())


@jit
def multiply(
    a, a_stride, n_rows, panels, height, listed, turned, depth, initial, out, packed, requests
):
    width = LANES_BYTES // initial.itemsize
    n_panels = initial.size // width
    numbers = index_pointer(listed, 0) if listed.size > 0 else nowhere()
    begin = pointer(initial, 0)
    weights = Panels(pointer(panels, 0), height, numbers, turned, depth, begin, width)
    strips = Strips(pointer(out, 0), width, n_panels * width, 0, n_panels)
    room = Room(pointer(packed, 0), pointer(packed, 0), nothing_ahead(requests), None)
    multiply_rows(Rows(pointer(a, 0), a_stride, n_rows), weights, strips, room)


@jit
def multiply_listed(a, rows, a_stride, panels, columns, initial, out, n_panels, requests):
    height, width = panels.size // n_panels, initial.size // n_panels
    numbers, begin = index_pointer(columns, 0), pointer(initial, 0)
    weights = Panels(pointer(panels, 0), height, numbers, 0, columns.size, begin, width)
    strips = Strips(pointer(out, 0), width, n_panels * width, 0, n_panels)
    listed = ListedRows(pointer(a, 0), index_pointer(rows, 0), a_stride, rows.size)
    multiply_listed_rows(listed, weights, strips, nothing_ahead(requests))


def as_panels(w):
    n_panels = w.shape[1] * w.itemsize // LANES_BYTES
    panels = w.reshape(len(w), n_panels, w.shape[1] // n_panels)
    return panels.transpose(1, 0, 2).ravel(), n_panels


def spread(a):
    """Return the rows of `a` with more between them, of which none may be used."""
    wide = np.full((len(a), a.shape[1] + LANES_BYTES // a.itemsize), np.nan, a.dtype)
    wide[:, : a.shape[1]] = a
    return wide.ravel(), wide.shape[1]


def product(a, w, bias, rows_of_w=None):
    """Return a @ w[rows_of_w] + bias, or without a list a @ w + bias, by the kernels."""
    panels, n_panels = as_panels(w)
    numbers = np.array([], dtype=np.int64) if rows_of_w is None else rows_of_w
    packed = np.full(packing.PACKED_SIZE, np.nan, a.dtype)
    out = np.full((len(a), w.shape[1]), np.nan, a.dtype)
    height = panels.size // n_panels
    operands = panels, height, numbers, 0, a.shape[1], bias, out.ravel(), packed, NO_REQUESTS
    multiply(*spread(a), len(a), *operands)
    return out


def assert_is_product(actual, a, w, bias):
    """Compare with NumPy: every term and every sum is rounded at most once."""
    bound = (len(w) + 1) * np.finfo(actual.dtype).eps * (np.abs(a) @ np.abs(w) + np.abs(bias))
    assert np.all(np.abs(actual - (a.astype(np.float64) @ w + bias)) <= bound)


@both_dtypes
@pytest.mark.parametrize("n_panels", [1, packing.WORTH_PACKING])
@pytest.mark.parametrize("depth", [0, 1, 7, packing.DEPTH * 3 // 2 + 3])
@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("n_rows", [1, 4, 11])
def test_products_are_numpys(n_rows, listed, depth, n_panels, dtype):
    rng = np.random.default_rng(0)
    n_out = n_panels * (LANES_BYTES // np.dtype(dtype).itemsize)
    a = rng.normal(size=(n_rows, depth)).astype(dtype)
    w = rng.normal(size=(depth + 5 if listed else depth, n_out)).astype(dtype)
    bias = rng.normal(size=n_out).astype(dtype)
    chosen = np.sort(rng.permutation(len(w))[:depth]) if listed else None
    used = w if chosen is None else w[chosen]
    assert_is_product(product(a, w, bias, chosen), a, used, bias)


@both_dtypes
@pytest.mark.parametrize("n_columns", [1, 7, packing.DEPTH * 3 // 2 + 3])
@pytest.mark.parametrize("n_rows", [1, 5, packing.ROWS + 7])
def test_rows_are_read_where_they_lie(n_rows, n_columns, dtype):
    rng = np.random.default_rng(4)
    lanes = LANES_BYTES // np.dtype(dtype).itemsize
    a = rng.normal(size=(n_rows + 9, n_columns + 5)).astype(dtype)
    w = rng.normal(size=(n_columns + 5, 2 * lanes)).astype(dtype)
    bias = rng.normal(size=2 * lanes).astype(dtype)
    rows = rng.permutation(len(a))[:n_rows]
    columns = np.sort(rng.permutation(len(w))[:n_columns])
    out = np.full((n_rows, 2 * lanes), np.nan, dtype)
    whole, stride = spread(a)
    panels, n_panels = as_panels(w)
    rest = (bias, out.ravel(), n_panels, NO_REQUESTS)
    multiply_listed(whole, rows, stride, panels, columns, *rest)
    assert_is_product(out, a[np.ix_(rows, columns)], w[columns], bias)


@both_dtypes
@pytest.mark.parametrize("depth", [1, 7, packing.DEPTH * 3 // 2 + 3])
@pytest.mark.parametrize("n_out", [1, 40])
@pytest.mark.parametrize("n_rows", [1, 7, packing.ROWS + 3])
def test_a_matrix_is_multiplied_as_its_transpose_too(n_rows, n_out, depth, dtype):
    rng = np.random.default_rng(5)
    lanes = LANES_BYTES // np.dtype(dtype).itemsize
    a = rng.normal(size=(n_rows, depth)).astype(dtype)
    w = np.zeros((n_out, -(-depth // lanes) * lanes), dtype)
    w[:, :depth] = rng.normal(size=(n_out, depth))
    panels, n_panels = as_panels(np.vstack((w, np.full(w.shape[1], np.nan, dtype))))  # its biases
    initial = np.zeros(-(-n_out // lanes) * lanes, dtype)
    out = np.full((n_rows, len(initial)), np.nan, dtype)
    packed = np.full(packing.PACKED_SIZE, np.nan, dtype)
    none, height = np.array([], dtype=np.int64), panels.size // n_panels
    rest = (initial, out.ravel(), packed, NO_REQUESTS)
    multiply(*spread(a), n_rows, panels, height, none, n_out, depth, *rest)
    assert_is_product(out[:, :n_out], a, w[:, :depth].T.copy(), initial[:n_out])
    assert not np.any(out[:, n_out:])


@both_dtypes
def test_packing_changes_no_bit(dtype):
    rng = np.random.default_rng(1)
    lanes = LANES_BYTES // np.dtype(dtype).itemsize
    a = rng.normal(size=(9, packing.DEPTH * 2)).astype(dtype)
    w = rng.normal(size=(packing.DEPTH * 2, packing.WORTH_PACKING * lanes)).astype(dtype)
    bias = np.zeros(w.shape[1], dtype)
    alone = product(a, np.ascontiguousarray(w[:, :lanes]), bias[:lanes])
    np.testing.assert_array_equal(product(a, w, bias)[:, :lanes], alone)


@jit
def pack(source, row_stride, depth_stride, n_rows, depth, out):
    rows = packing.Source(pointer(source, 0), row_stride, depth_stride, depth, pointer(out, 0))
    packing.pack_tiles(rows, n_rows)


@both_dtypes
@pytest.mark.parametrize("n_rows", [1, 2, 3, 5, 6, 17, 24])
@pytest.mark.parametrize("by_rows", [True, False])
def test_packed_rows_follow_the_tiles(n_rows, by_rows, dtype):
    rng, depth = np.random.default_rng(2), 4
    a = rng.normal(size=(n_rows, depth)).astype(dtype)
    lanes = LANES_BYTES // a.itemsize
    expected, row = [], 0
    heights = map(len, (tile_heights.FULL, tile_heights.SHORT, tile_heights.LOW, tile_heights.ONE))
    for n_tiles, height in zip(tile_heights.divide_rows(n_rows), heights, strict=True):
        for _ in range(n_tiles):
            expected.append(a[row : row + height].T.ravel())
            row += height
    source = np.zeros((depth, n_rows + lanes) if not by_rows else a.shape, dtype)
    if by_rows:
        source[:] = a
    else:
        source[:, :n_rows] = a.T
    strides = (depth, 1) if by_rows else (1, n_rows + lanes)
    out = np.full(a.size + lanes, np.nan, dtype)
    pack(source.ravel(), *strides, n_rows, depth, out)
    np.testing.assert_array_equal(out[: a.size], np.concatenate(expected))


@jit
def ask(panels, height, listed, turned, panel, begin, width, requests, addresses):
    numbers = index_pointer(listed, 0) if listed.size > 0 else nowhere()
    first = pointer(panels, 0)
    weights = Panels(first, height, numbers, turned, 0, first, 0)
    ahead = Ahead(records_from(requests, 0), index_pointer(addresses, 0))
    ask_for_panel(weights, panel, begin, width, ahead)


@both_dtypes
@pytest.mark.parametrize("listed", [np.array([], dtype=np.int64), np.arange(60) * 2 + 1])
@pytest.mark.parametrize("turned", [False, True])
def test_what_is_asked_for_is_what_the_next_panel_holds(turned, listed, dtype):
    lanes = LANES_BYTES // np.dtype(dtype).itemsize
    n_rows, begin, width = 150, 2 * lanes, lanes + 3
    numbers = np.arange((n_rows + 1) * 5 * lanes, dtype=dtype)  # five panels and their biases
    requests, addresses = Requests.array(N_LISTS), np.full(ahead_size(0), -1)
    where = (1, begin, width, requests, addresses)
    ask(numbers, (n_rows + 1) * lanes, listed, n_rows if turned else 0, *where)
    wanted = requests[OF_WEIGHTS]
    starts = addresses[: wanted.n] - numbers.ctypes.data
    asked = {(start + i) // numbers.itemsize for start in starts for i in range(wanted.n_bytes)}
    panels = numbers.reshape(5, n_rows + 1, lanes)
    used = panels[1, begin : begin + width]
    if turned:
        used = panels[2:4, lanes : 2 * lanes]
    elif listed.size > 0:
        used = panels[1, listed[begin] : listed[begin + width - 1] + 1]
    assert asked == set(used.ravel())


@pytest.mark.skipif(config.DISABLE_JIT, reason="too much for plain Python")
@pytest.mark.parametrize("has_zero_columns", [False, True])
def test_wide_layers_train_as_the_reference(has_zero_columns):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(300, 1100))  # so that weights are asked for ahead
    if has_zero_columns:
        X[:, ::3] = 0
    y, order = np.arange(300) % 3, rng.permutation(300)

    def trained(backend, **threads):
        network = MLP([1100, 300, 900, 3], dtype=np.float64)
        session = get_backend(backend).bind(
            network, None, SGD(momentum=0.9), batch_size=128, **threads
        )
        session.train(X, y, order, np.full(3, 0.01))
        return session.store().parameters

    one = trained("numba", n_threads=1)
    np.testing.assert_allclose(one, trained("numpy"), rtol=1e-9, atol=1e-12)
    for n_threads in (2, 3):
        np.testing.assert_array_equal(trained("numba", n_threads=n_threads), one)


@pytest.mark.skipif(config.DISABLE_JIT, reason="too much for plain Python")
@both_dtypes
@pytest.mark.parametrize("n_first", [31, 250, 600])  # narrow; packed in float64; in both dtypes
@pytest.mark.parametrize("batch_size", [64, 65, 128, 300])  # of 784 inputs 65 rows and more are far
def test_dense_layers_train_as_the_reference(batch_size, n_first, dtype):
    rng = np.random.default_rng(7)
    X = rng.normal(size=(batch_size, 784)).astype(dtype)
    y = rng.normal(size=(batch_size, 10)).astype(dtype)

    def trained(backend, kind, **threads):
        network = MLP([784, n_first, 130, 10], output_activation="linear", dtype=kind)
        before = network.parameters.astype(np.float64)
        session = get_backend(backend).bind(
            network, LOSSES["mse"], SGD(), batch_size=batch_size, **threads
        )
        session.train(X.astype(kind), y.astype(kind), np.arange(batch_size), np.ones(1))
        return session.store().parameters - before

    step = trained("numpy", np.float64)
    for n_threads in (1, 2):
        error = np.linalg.norm(trained("numba", dtype, n_threads=n_threads) - step)
        # Sums over inputs, units and rows, and the rounding of the weights that were stepped from.
        assert error <= 2000 * np.finfo(dtype).eps * np.linalg.norm(step)
