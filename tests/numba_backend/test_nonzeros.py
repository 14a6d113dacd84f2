"""Products without the terms that are zero: the same bits, whatever is left out."""

from __future__ import annotations

import numpy as np
import pytest
from numba import config

from fastmlp import MLP, SGD
from fastmlp.backends import get_backend
from fastmlp.backends.numba_backend.first_layer import nonzeros
from fastmlp.backends.numba_backend.first_layer.nonzeros import Marks
from fastmlp.backends.numba_backend.numba_target import jit
from fastmlp.backends.numba_backend.products import packing
from fastmlp.backends.numba_backend.products.chunks import CHUNK
from fastmlp.backends.numba_backend.products.heights import FULL, full_tiles
from fastmlp.backends.numba_backend.products.prefetch import N_LISTS, Ahead, Requests
from fastmlp.backends.numba_backend.products.rows import Panels, Room, Rows, Strips, multiply_rows
from fastmlp.backends.numba_backend.products.tiles import Product, Terms
from fastmlp.backends.numba_backend.vectors.pointers import index_pointer, nowhere
from fastmlp.backends.numba_backend.vectors.records import nothing_like, records_from
from fastmlp.backends.numba_backend.vectors.simd import pointer
from fastmlp.backends.numba_backend.vectors.strips import Strip
from fastmlp.backends.numba_backend.vectors.types import LANES_BYTES, inlined
from fastmlp.losses import LOSSES

both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@jit
def mark(a, stride, n_rows, n_columns, words):
    for row in range(n_rows):
        own = index_pointer(words, row * nonzeros.n_words(n_columns))
        nonzeros.mark_terms(pointer(a, row * stride), n_columns, own)


@jit
def gaps(words, n_rows, n_columns, lists):
    marks = Marks(index_pointer(words, 0), nonzeros.n_words(n_columns))
    return nonzeros.has_gaps(marks, n_rows, n_columns, index_pointer(lists, 0))


#: In place of lists of what to ask for: `nothing_like` these.
NO_REQUESTS = Requests.array(N_LISTS)


@inlined
def nothing_ahead(requests):
    return Ahead(nothing_like(records_from(requests, 0)), nowhere())


@jit
def multiply(a, stride, n_rows, words, lists, panels, numbers, initial, out, room, requests):
    width = LANES_BYTES // initial.itemsize
    n_panels, n_columns = initial.size // width, numbers.size
    used = (index_pointer(numbers, 0), 0, n_columns, pointer(initial, 0), width)
    weights = Panels(pointer(panels, 0), panels.size // n_panels, *used)
    strips = Strips(pointer(out, 0), width, n_panels * width, 0, n_panels)
    own = Room(pointer(room, 0), pointer(room, 0), nothing_ahead(requests), None)
    rows = Rows(pointer(a, 0), stride, n_rows)
    if words.size > 0:
        marks = Marks(index_pointer(words, 0), nonzeros.n_words(n_columns))
        terms = index_pointer(lists, 0)
        nonzeros.multiply_rows_by_terms(rows, weights, marks, terms, strips, own)
    else:
        multiply_rows(rows, weights, strips, own)


@jit
def gradient(a, stride, n_rows, words, lists, n_columns, deltas, zeros, out, requests):
    lanes = LANES_BYTES // a.itemsize
    own = index_pointer(lists, 0)
    marks = Marks(index_pointer(words, 0), nonzeros.n_words(n_columns))
    nonzeros.list_rows_of_columns(marks, n_rows, 0, n_columns, own)
    terms = Terms(None, stride, pointer(deltas, 0), None, 0)
    initial, strip = Strip(pointer(zeros, 0), 0), Strip(pointer(out, 0), lanes)
    product = Product(pointer(a, 0), None, 1, terms, initial, strip, nothing_ahead(requests))
    nonzeros.multiply_terms(full_tiles(n_columns), own, 1 + n_rows, product)


def rows_with_zeros(n_rows: int, n_columns: int, dtype, share: float = 0.8):
    """Return rows of which a share is zero, in memory with more between them, and their stride."""
    rng = np.random.default_rng(n_rows * n_columns)
    rows = rng.normal(size=(n_rows, n_columns)).astype(dtype)
    rows[rng.random(rows.shape) < share] = 0
    rows[:, n_columns // 2] = 0
    rows[n_rows // 2] = 0
    lanes = LANES_BYTES // rows.itemsize
    stride = -(-n_columns // lanes) * lanes + lanes
    memory = np.full((n_rows, stride), 7, dtype)  # finite, and nowhere used
    memory[:, :n_columns] = rows
    return rows, memory.ravel(), stride


def marks_of(memory, stride, rows):
    words = np.full(rows.shape[0] * nonzeros.n_words(rows.shape[1]), -1)
    mark(memory, stride, *rows.shape, words)
    return words


def lists_for(n_rows: int) -> np.ndarray:
    return np.full(nonzeros.lists_size(n_rows, CHUNK), -1)


@both_dtypes
@pytest.mark.parametrize("n_columns", [1, 16, 47, 48, 49, 130])
def test_marks_tell_what_is_not_zero(n_columns, dtype):
    rows, memory, stride = rows_with_zeros(3, n_columns, dtype, share=0.5)
    words = marks_of(memory, stride, rows).reshape(3, -1)
    bits = words[:, :, None] >> np.arange(nonzeros.WORD) & 1
    np.testing.assert_array_equal(bits.reshape(3, -1)[:, :n_columns], rows != 0)
    assert not np.any(bits.reshape(3, -1)[:, n_columns:])


def test_tiles_end_where_words_do():
    assert nonzeros.WORD % len(FULL) == 0
    assert CHUNK % nonzeros.WORD == 0


@both_dtypes
@pytest.mark.parametrize("n_panels", [1, 3])
@pytest.mark.parametrize("n_columns", [1, 50, nonzeros.SPAN + 7])
@pytest.mark.parametrize("n_rows", [1, 4, 17, packing.ROWS + 3])
def test_terms_that_are_zero_change_no_sum(n_rows, n_columns, n_panels, dtype):
    if config.DISABLE_JIT and n_rows * n_columns > 5000:
        pytest.skip("too much for plain Python")
    rows, memory, stride = rows_with_zeros(n_rows, n_columns, dtype)
    rng = np.random.default_rng(1)
    lanes = LANES_BYTES // rows.itemsize
    numbers = np.sort(rng.permutation(n_columns + 5)[:n_columns])  # of the panels' rows
    panels = rng.normal(size=n_panels * (n_columns + 5) * lanes).astype(dtype)
    bias = rng.normal(size=n_panels * lanes).astype(dtype)
    room = np.empty(packing.PACKED_SIZE, dtype)
    results = []
    for words in (marks_of(memory, stride, rows), np.empty(0, np.int64)):
        out = np.full((n_rows, n_panels * lanes), np.nan, dtype)
        operands = (words, lists_for(n_rows), panels, numbers, bias, out.ravel(), room, NO_REQUESTS)
        multiply(memory, stride, n_rows, *operands)
        results.append(out)
    np.testing.assert_array_equal(*results)
    weights = panels.reshape(n_panels, -1, lanes)[:, numbers].transpose(1, 0, 2)
    expected = rows.astype(float) @ weights.reshape(n_columns, -1) + bias
    tolerance = (n_columns + 1) * np.finfo(dtype).eps
    size = np.abs(rows) @ np.abs(weights.reshape(n_columns, -1)) + np.abs(bias)
    assert np.all(np.abs(results[0] - expected) <= tolerance * size)


@both_dtypes
@pytest.mark.parametrize("n_columns", [1, 6, 47, CHUNK])
@pytest.mark.parametrize("n_rows", [1, 40])
def test_rows_that_are_zero_in_a_tile_change_no_gradient(n_rows, n_columns, dtype):
    rows, memory, stride = rows_with_zeros(n_rows, n_columns, dtype)
    lanes = LANES_BYTES // rows.itemsize
    deltas = np.random.default_rng(2).normal(size=(n_rows, lanes)).astype(dtype)
    out = np.full((CHUNK, lanes), np.nan, dtype)
    rest = (deltas.ravel(), np.zeros(lanes, dtype), out.ravel(), NO_REQUESTS)
    operands = (lists_for(n_rows), n_columns, *rest)
    # A last tile may read, but not use, what lies behind the last row.
    behind = np.zeros(len(FULL), dtype)
    gradient(np.append(memory, behind), stride, n_rows, marks_of(memory, stride, rows), *operands)
    exact = rows.T.astype(float) @ deltas
    tolerance = (n_rows + 1) * np.finfo(dtype).eps
    assert np.all(np.abs(out[:n_columns] - exact) <= tolerance * (np.abs(rows.T) @ np.abs(deltas)))


@pytest.mark.parametrize(("share", "expected"), [(0.95, True), (0.1, False)])
def test_lists_are_made_where_they_gain(share, expected):
    rows, memory, stride = rows_with_zeros(30, 100, np.float32, share)
    assert gaps(marks_of(memory, stride, rows), 30, 100, lists_for(30)) == expected


@pytest.mark.parametrize("batch_size", [7, 64, 1100])
@pytest.mark.parametrize("sizes", [(300, 130, 3), (90, 70, 20, 4)], ids=str)
def test_training_on_zeros_has_the_same_bits_on_any_threads(sizes, batch_size):
    if config.DISABLE_JIT:
        sizes, batch_size = (60, 70, 3), 9
    n_samples = 2 * batch_size + 3
    rng = np.random.default_rng(3)
    X = rng.normal(size=(n_samples, sizes[0])) * (rng.random((n_samples, sizes[0])) < 0.1)
    X[:, ::4] = 0
    y, order = np.arange(n_samples) % sizes[-1], rng.permutation(n_samples)

    def trained(backend, **threads):
        network = MLP(sizes, dtype=np.float64)
        session = get_backend(backend).bind(network, None, SGD(), batch_size=batch_size, **threads)
        session.train(X, y, order, np.full(3, 0.1))
        return session.store().parameters

    one = trained("numba", n_threads=1)
    np.testing.assert_allclose(one, trained("numpy"), rtol=1e-9, atol=1e-13)
    for n_threads in () if config.DISABLE_JIT else (2, 3, 4):
        np.testing.assert_array_equal(trained("numba", n_threads=n_threads), one)


BLANKS = {"none": [], "first": [0], "middle": [1], "last": [2], "two": [1, 2], "all": [0, 1, 2]}


@pytest.mark.parametrize("blank", BLANKS.values(), ids=BLANKS)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.95], ids=lambda share: f"{share} zeros")
@pytest.mark.parametrize("width", [9, 70, 200])
@both_dtypes
def test_a_blank_batch_gives_the_biases_outputs(dtype, width, share, blank):
    rng, size = np.random.default_rng(8), 8 if config.DISABLE_JIT else 32
    X = rng.normal(size=(3 * size, 100)) * (rng.random((3 * size, 100)) >= share)
    for batch in blank:
        X[batch * size : (batch + 1) * size] = 0
    X, y = X.astype(dtype), rng.normal(size=(3 * size, 3)).astype(dtype)

    def trained(backend, kind, n_threads=None, at_once=3):
        network = MLP([100, width, 3], output_activation="linear", dtype=kind)
        network.parameters += np.linspace(-0.1, 0.1, network.n_parameters, dtype=kind)
        session = get_backend(backend).bind(
            network, LOSSES["mse"], SGD(), batch_size=size, n_threads=n_threads
        )
        logits = np.full((3 * size, 3), np.nan, kind)
        for first in range(0, 3, at_once):
            rows = np.arange(first * size, (first + at_once) * size)
            rates = np.full(at_once, 0.01)
            session.train(
                X.astype(kind), y.astype(kind), rows, rates, None, logits[rows[0] :][: len(rows)]
            )
        return logits

    expected = trained("numpy", np.float64)
    one = trained("numba", dtype, 1)
    np.testing.assert_allclose(one, expected, rtol=0, atol=300 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(trained("numba", dtype, 1, at_once=1), one)
    for n_threads in () if config.DISABLE_JIT else (2, 3):
        np.testing.assert_array_equal(trained("numba", dtype, n_threads), one)


@pytest.mark.parametrize("n_features", [1, 15, 16, 37, 100])
@pytest.mark.parametrize("width", [9, 70])
@pytest.mark.parametrize("share", [0.0, 0.9], ids=lambda share: f"{share} zeros")
def test_scaled_inputs_are_rounded_once_wherever_they_lie(n_features, width, share):
    rng, n_samples = np.random.default_rng(9), 20
    X = rng.normal(size=(n_samples, n_features)) * (rng.random((n_samples, n_features)) >= share)
    X, scale = X.astype(np.float32), np.float32(1 / 255)

    def session_of(X, **options):
        network = MLP([n_features, width, 3], seed=1, **options)
        session = get_backend("numba").bind(network, batch_size=8)
        session.train(X, np.arange(n_samples) % 3, np.arange(n_samples), np.full(3, 0.1))
        return session

    ours, plain = session_of(X, input_scale=1 / 255), session_of(X * scale)
    np.testing.assert_array_equal(ours.store().parameters, plain.store().parameters)
    np.testing.assert_array_equal(ours.logits(X), plain.logits(X * scale))
    row = np.empty(3, np.float32)
    assert ours.row_function("linear")(X[0], row)
    np.testing.assert_array_equal(row, ours.logits(X)[0])
