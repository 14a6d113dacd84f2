"""Products of pairs of bfloat16: the bits of products of their numbers, and when they are taken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numba import config, float32

from fastmlp import MLP, SGD, Adam, Regularization, testing
from fastmlp._bfloat16 import rounded
from fastmlp.backends.numba_backend import NumbaBackend, memory, session
from fastmlp.backends.numba_backend.machine import VECTORS
from fastmlp.backends.numba_backend.numba_target import jit
from fastmlp.backends.numba_backend.processor import choose_vectors
from fastmlp.backends.numba_backend.products.pairs import (
    MOST_PAIRS,
    PAIRED_ROWS,
    PAIRED_WIDTH,
)
from fastmlp.backends.numba_backend.team import choice
from fastmlp.backends.numba_backend.vectors import simd
from fastmlp.backends.numba_backend.vectors.pairs import dot_rows, pair_lanes, pair_vectors
from fastmlp.backends.numba_backend.vectors.pointers import offsets_of
from tests.numba_backend.test_programs import compute, gaps, guards

jitted_only = pytest.mark.skipif(config.DISABLE_JIT, reason="about jitted code")
any_bits = arrays(np.uint32, (3, 16), elements=st.integers(0, 2**32 - 1))
TWO = (0, 0)


# Operations ----------------------------------------------------------------------------------


@jit
def paired(a, out):
    p, o = simd.pointer(a, 0), simd.pointer(out, 0)
    simd.store(o, 0, pair_vectors(simd.load(p, 0), simd.load(p, 16)))
    simd.store(o, 16, pair_lanes(simd.load(p, 0), simd.load(p, 16)))
    simd.store(o, 32, simd.round_bfloat16(simd.load(p, 32)))


@given(bits=any_bits)
def test_pairs_hold_the_upper_halves(bits):
    out = np.zeros(48, np.float32)
    paired(bits.reshape(-1).view(np.float32), out)
    halves, found = (bits >> 16).reshape(-1), out.view(np.uint32).reshape(3, 16)
    np.testing.assert_array_equal(found[0], halves[:16] << 16 | halves[16:32])
    np.testing.assert_array_equal(found[1], halves[:32:2] << 16 | halves[1:32:2])
    np.testing.assert_array_equal(found[2], rounded(bits[2].view(np.float32)).view(np.uint32))


@jit
def summed(pairs, panel, out):
    a, w, o = simd.pointer(pairs, 0), simd.pointer(panel, 0), simd.pointer(out, 0)
    acc = simd.load_rows(TWO, o, 0, 16)
    acc = dot_rows(acc, a, offsets_of(TWO, None, 0, 1), 0, simd.load(w, 0))
    simd.store_rows(acc, o, 0, 16)


# Products and sums that are no subnormal numbers, which the instruction takes for zero.
normal = st.floats(2.0**-30, 2.0**30, width=32)
signed = st.builds(lambda x, sign: x * sign, normal, st.sampled_from([1.0, -1.0]))


@given(data=st.data())
def test_both_products_are_added_one_after_the_other(data):
    def draw(*shape):
        return data.draw(arrays(np.float32, shape, elements=signed))

    a, w, sums = rounded(draw(2, 2)), rounded(draw(2, 16)), draw(2, 16)
    pairs = np.array([pair_vectors(*(np.full(16, x) for x in row))[0] for row in a])
    found = sums.reshape(-1).copy()
    summed(pairs, pair_vectors(w[0], w[1]), found)
    for row in range(2):
        expected = sums[row]
        for term in range(2):  # products are exact in float32 already, sums nearly so in float64
            product = a[row, term].astype(np.float64) * w[term]
            expected = (expected.astype(np.float64) + product).astype(np.float32)
        np.testing.assert_array_equal(found.reshape(2, 16)[row], expected)


@jitted_only
def test_the_instruction_is_used_where_there_is_one():
    dispatcher = jit(summed.py_func)
    dispatcher.compile((float32[::1],) * 3)
    (code,) = dispatcher.inspect_asm().values()
    assert ("vdpbf16ps" in code) == VECTORS.multiplies_pairs


def test_the_processor_says_whether_there_is_one():
    triple = "x86_64-unknown-linux-gnu"
    zen_3 = frozenset({"sse2", "avx2", "fma"})
    zen_4 = zen_3 | {"avx512f", "avx512bf16"}
    assert choose_vectors(None, triple, zen_4).multiplies_pairs
    assert choose_vectors("avx512", triple, zen_4).multiplies_pairs
    assert not choose_vectors("avx2", triple, zen_4).multiplies_pairs
    assert not choose_vectors("avx512", triple, zen_3).multiplies_pairs
    assert not choose_vectors(None, triple, zen_4 - {"avx512bf16"}).multiplies_pairs


# Programs ------------------------------------------------------------------------------------


@contextmanager
def in_pairs(is_so: bool = True, least_width: int = 1, least_rows: int = 1) -> Iterator[list[str]]:
    """Let layers of some width be multiplied in pairs, or none; yield the programs that run."""
    names, compiled = [], session.compiled

    def noting(name, dtype):
        names.append(name)
        return compiled(name, dtype)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "IN_PAIRS", is_so)
        patch.setattr(memory, "PAIRED_WIDTH", least_width)
        patch.setattr(memory, "PAIRED_ROWS", least_rows)
        patch.setattr(session, "PAIRED_ROWS", least_rows)
        patch.setattr(session, "compiled", noting)
        yield names


def setting(*sizes: int, **options) -> testing.Setting:
    given = {"hidden": "relu", "dtype": "float32", "precision": "bfloat16", "labels": True}
    return testing.Setting(sizes, **given | options)


NOISY = Regularization(dropout=0.2, input_noise=0.1)
#: Odd and even numbers of terms, in one portion and in several; columns that are zero; rows in
#: several blocks; panels and tasks of one thread and of several.
SETTINGS = {
    "small": setting(5, 18, 4),
    "odd": setting(33, 17, 7, n_rows=21, batch_size=21),
    "narrow first layer": setting(130, 17, 5, rows="gaps"),
    "zeros": setting(200, 90, 10, rows="gaps", n_rows=70, batch_size=64),
    "noise": setting(200, 90, 10, regularization=NOISY, optimizer=Adam(0.01)),
    "scaled": setting(100, 70, 10, scaling_layer=True, rows="gaps"),
    "deep sums": setting(801, 400, 10, n_rows=30, batch_size=17),
    "many rows": setting(20, 65, 10, n_rows=600, batch_size=299),
    "whole gradient": setting(64, 64, 3, regularization=Regularization(clip_norm=0.1)),
}
if config.DISABLE_JIT:
    SETTINGS = {name: one for name, one in SETTINGS.items() if name in ("small", "odd")}


@pytest.mark.parametrize("n_threads", [1] if config.DISABLE_JIT else [1, 2, 3])
@pytest.mark.parametrize("case", SETTINGS.values(), ids=SETTINGS)
def test_pairs_give_the_bits_of_their_numbers(case: testing.Setting, n_threads: int):
    with in_pairs(False) as programs:
        expected = compute(case)
    assert {"train", "predict"} <= set(programs)
    with in_pairs() as programs:
        assert compute(case, n_threads) == expected
    assert {"train_paired", "predict_paired"} <= set(programs)


@jitted_only
@given(
    sizes=st.lists(st.integers(1, 80), min_size=2, max_size=4),
    n_rows=st.integers(1, 60),
    batch_size=st.integers(1, 40),
    rows=st.sampled_from(["dense", "blank first", "blank second"]),
    n_threads=st.sampled_from([1, 2, 3]),
    least_width=st.sampled_from([1, 20]),
)
def test_pairs_stay_in_their_buffers(sizes, n_rows, batch_size, rows, n_threads, least_width):
    case = setting(*sizes, n_rows=n_rows, batch_size=batch_size, rows=rows)
    with in_pairs(False):
        expected = compute(case)
    with in_pairs(least_width=least_width), guards(), gaps():
        assert compute(case, n_threads) == expected


@jitted_only
@pytest.mark.parametrize("batch_size", [2 * MOST_PAIRS, 2 * MOST_PAIRS + 1])
def test_gradients_by_many_rows_are_summed_unpaired(batch_size: int):
    case = setting(40, 33, 4, n_rows=batch_size + 9, batch_size=batch_size)
    with in_pairs(False):
        expected = compute(case)
    with in_pairs():
        assert compute(case, 2) == expected


@jitted_only
def test_more_threads_predict_than_train(monkeypatch):
    monkeypatch.setattr(choice, "WORTH_A_THREAD", 2**62)
    case = setting(70, 200, 100, 10, n_rows=500)
    X = case.data()[0]
    with in_pairs(False):
        expected = case.bind(NumbaBackend(), 1).logits(X)
    with in_pairs(), guards(), gaps():
        bound = case.bind(NumbaBackend(), 3)
        assert bound.threads.most_in_training < bound.threads.for_prediction(500) == 3
        bound.memory.floats[int(bound.memory.plan.pairs[0]) :] = np.nan
        np.testing.assert_array_equal(bound.logits(X), expected)
        assert np.all(np.isnan(bound.memory.floats[int(bound.memory.plan.pairs[0]) :]))


@jitted_only
def test_narrow_or_full_networks_and_few_rows_have_the_usual_programs():
    def programs_of(width: int, precision: str, batch_size: int, n_rows: int) -> list[str]:
        X, y = np.zeros((n_rows, PAIRED_WIDTH), np.float32), np.zeros(n_rows, np.int64)
        with in_pairs(True, PAIRED_WIDTH, PAIRED_ROWS) as programs:
            network = MLP([PAIRED_WIDTH, width, 3], precision=precision)
            bound = NumbaBackend().bind(network, None, SGD(), batch_size=batch_size)
            bound.train(X, y, np.arange(n_rows), np.full(-(-n_rows // batch_size), 0.1))
            bound.logits(X)
        return programs

    usual, wide, rows = ["train", "predict"], PAIRED_WIDTH, PAIRED_ROWS
    assert programs_of(wide, "bfloat16", rows, rows) == ["train_paired", "predict_paired"]
    assert programs_of(wide, "bfloat16", rows, rows - 1) == ["train_paired", "predict"]
    assert programs_of(wide, "bfloat16", rows - 1, rows) == usual
    assert programs_of(wide - 1, "bfloat16", rows, rows) == usual
    assert programs_of(wide, "full", rows, rows) == usual


@jitted_only
def test_infinite_and_missing_numbers_come_through():
    X = np.ones((3, 70), np.float32)
    for value in (np.inf, np.nan):
        found = []
        for is_so in (False, True):
            with in_pairs(is_so):
                network = MLP([70, 70, 2], precision="bfloat16", seed=1)
                network.weights[0][3, 5] = value
                found.append(NumbaBackend().bind(network).logits(X))
        np.testing.assert_array_equal(np.isnan(found[0]), np.isnan(found[1]))
        assert not np.all(np.isfinite(found[0]))


@jitted_only
def test_every_check_of_the_kit_passes_in_pairs():
    with in_pairs():
        for case in testing.cases(dtypes=["bfloat16"]):
            testing.check_case("numba", case)
