"""Whole programs: the same bits however they are run, and nothing touched outside their buffers.

Every array lies between guard bands of NaN, and so does every region of a session's memory.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config

from fastmlp import testing
from fastmlp.activations import ACTIVATIONS
from fastmlp.backends.numba_backend import NumbaBackend, memory, session
from fastmlp.regularization import Regularization

jitted_only = pytest.mark.skipif(config.DISABLE_JIT, reason="threads need compiled code")

# The same bits -------------------------------------------------------------------------------

WIDTHS = st.one_of(st.integers(1, 40), st.sampled_from([128, 129, 255, 300]))


@st.composite
def cases(draw) -> testing.Setting:
    """Draw any training: shape, dtype, activation, output and loss, optimizer, regularization."""
    sizes = tuple(draw(st.lists(WIDTHS, min_size=2, max_size=5)))
    output, loss = draw(st.sampled_from([pair for pair in testing._losses() if fits(*pair)]))
    dtype = draw(st.sampled_from(["float32", "float64"]))
    precisions = ["full", "bfloat16"] if dtype == "float32" else ["full"]
    return testing.Setting(
        sizes=sizes,
        hidden=draw(st.sampled_from(sorted(ACTIVATIONS))),
        output=output,
        loss=loss,
        optimizer=draw(st.sampled_from(testing.OPTIMIZER_CASES)),
        regularization=draw(
            st.sampled_from(testing.REGULARIZATION_CASES).filter(
                lambda one: not isinstance(one.dropout, tuple) or len(one.dropout) == len(sizes) - 1
            )
        ),
        n_rows=draw(st.integers(1, 70)),
        batch_size=draw(st.integers(1, 40)),
        dtype=dtype,
        precision=draw(st.sampled_from(precisions)),
        weighted=draw(st.booleans()),
        scaling_layer=draw(st.booleans()),
    )


def fits(output: str, loss) -> bool:
    return loss.name != "custom" and len(getattr(loss, "levels", (0.5,))) == 1


def trained(case: testing.Setting, n_threads: int | None = 1, **options) -> list[bytes]:
    with np.errstate(all="ignore"):
        arrays = testing._train(case, case.bind(NumbaBackend(), n_threads), **options)
    return [array.tobytes() for array in arrays.values()]


@jitted_only
@given(case=cases(), n_threads=st.sampled_from([2, 3, 4, None]))
def test_the_number_of_threads_changes_no_bit(case, n_threads):
    assert trained(case, n_threads) == trained(case, 1)


@jitted_only
@pytest.mark.slow
@settings(max_examples=400)
@given(case=cases(), n_threads=st.sampled_from([2, 3, 4, None]))
def test_the_number_of_threads_changes_no_bit_of_many_trainings(case, n_threads):
    assert trained(case, n_threads) == trained(case, 1)


@jitted_only
@pytest.mark.parametrize("n_threads", [2, 3, 4, None])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", testing.OPTIMIZER_CASES, ids=str)
def test_every_optimizer_has_its_bits(optimizer, dtype, n_threads):
    for regularization in (Regularization(), testing.REGULARIZATION_CASES[-1]):
        case = testing.Setting(
            (33, 70, 17, 10), optimizer=optimizer, regularization=regularization, dtype=dtype
        )
        assert trained(case, n_threads) == trained(case, 1)


@jitted_only
@given(case=cases(), batches_per_call=st.integers(1, 5))
def test_calls_cut_anywhere_change_no_bit(case, batches_per_call):
    assert trained(case, None, batches_per_call=batches_per_call) == trained(case, None)


@jitted_only
@given(case=cases(), n_threads=st.sampled_from([2, 4]))
def test_prediction_and_gradients_have_the_same_bits(case, n_threads):
    X, y, weights = case.data()
    results = []
    for threads in (1, n_threads):
        bound = case.bind(NumbaBackend(), threads)
        gradient = np.full(bound.n_parameters, np.nan, bound.dtype)
        with np.errstate(all="ignore"):
            loss = bound.loss_and_gradient(X, y, gradient, weights)
        results.append((np.float64(loss).tobytes(), gradient.tobytes(), bound.logits(X).tobytes()))
    assert results[0] == results[1]


@jitted_only
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_row_has_the_same_logits_in_any_company(dtype):
    case = testing.Setting((30, 50, 7), n_rows=500, dtype=dtype)
    X = case.data()[0]
    for n_threads in (1, 2, 3):
        bound = case.bind(NumbaBackend(), n_threads)
        together = bound.logits(X)
        alone = np.array([bound.logits(row) for row in X[::37]])
        np.testing.assert_array_equal(alone, together[::37])


@jitted_only
def test_the_choice_of_threads_changes_no_bit_while_it_changes(monkeypatch):
    """Every call with another number of threads, as happens when cores come and go."""
    case = testing.Setting((64, 100, 10), n_rows=600, batch_size=8)
    expected = trained(case, 1)
    turns = iter(range(10_000))
    monkeypatch.setattr(
        session.ThreadChoice,
        "next_call",
        lambda self, batches: (1 + next(turns) % self.most, min(batches, 1 + next(turns) % 7)),
    )
    monkeypatch.setattr(session.ThreadChoice, "learn", lambda self, n, batches, seconds: None)
    assert trained(case, 4) == expected


@jitted_only
@pytest.mark.slow
def test_another_process_gets_the_same_bits():
    code = """
import hashlib
from fastmlp import testing
from fastmlp.backends.numba_backend import NumbaBackend
from fastmlp.backends.numba_backend.team import choice
choice.WORTH_A_THREAD = 1
case = testing.Setting((33, 70, 10), optimizer=testing.OPTIMIZER_CASES[3], dtype="float32")
for n_threads in (1, 2):
    arrays = testing._train(case, case.bind(NumbaBackend(), n_threads), 3)
    print(hashlib.sha256(b"".join(a.tobytes() for a in arrays.values())).hexdigest())
"""
    seen = set()
    for _ in range(2):
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
        )
        seen.update(run.stdout.split())
    assert len(seen) == 1


# Guard bands ---------------------------------------------------------------------------------

BAND = 4096  # bytes, more than any row of a kernel's tile
GAP = 256  # elements between regions of a session's memory

#: What lies around integers: as an index or a pointer's offset it leads far away.
POISON = -(2**62)


class Guarded:
    """A copy of an array between two bands that nobody may read with effect, or write."""

    def __init__(self, array: np.ndarray) -> None:
        width = BAND // array.itemsize
        whole = np.empty(array.size + 2 * width, array.dtype)
        for field in array.dtype.names or ((),):
            whole[field] = poison(array.dtype[field] if field else array.dtype)
        whole = whole.view(type(array))
        self.bands = whole[:width], whole[-width:]
        self.before = [band.tobytes() for band in self.bands]
        self.original = array
        self.inside = whole[width : width + array.size].reshape(array.shape)
        self.inside[...] = array

    def close(self) -> None:
        for band, before in zip(self.bands, self.before, strict=True):
            assert band.tobytes() == before, "a guard band was written"
        if self.original.flags.writeable:
            self.original[...] = self.inside


def poison(dtype: np.dtype) -> float:
    return np.nan if dtype.kind == "f" else POISON


def guarded_call(function, arguments):
    guards = []

    def guarded(argument):
        if isinstance(argument, tuple):
            return argument._make(map(guarded, argument))
        if not isinstance(argument, np.ndarray):
            return argument
        guards.append(Guarded(argument))
        return guards[-1].inside

    result = function(*map(guarded, arguments))
    for guard in guards:
        guard.close()
    return result


@contextmanager
def guards():
    """Put bands around every array that a program gets; yield the list of calls."""
    calls = []
    run_team, compiled = session.run_team, session.compiled

    def run_guarded(program, n_threads, at_most, arguments):
        calls.append("team")
        return guarded_call(
            lambda *inside: run_team(program, n_threads, at_most, inside), arguments
        )

    def compiled_guarded(name, dtype):
        program = compiled(name, dtype)
        if name != "apply":  # the others are called by teams
            return program
        calls.append(name)
        return lambda *arguments: guarded_call(program, arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "run_team", run_guarded)
        patch.setattr(session, "compiled", compiled_guarded)
        yield calls


class SpacedLayout(memory.Layout):
    """Regions of memory with gaps between them, whose starts are in `gaps`."""

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.gaps = []

    def take(self, count: int) -> int:
        start = super().take(count)
        self.gaps.append(self.size)
        self.size += GAP
        return start


@contextmanager
def gaps():
    """Put gaps between the regions of sessions' memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "Layout", SpacedLayout)
        yield


def compute(case: testing.Setting, n_threads: int = 1) -> list[bytes]:
    """Return the bits of all that a session computes; gaps in its memory must stay as they are."""
    X, y, weights = case.data()
    bound = case.bind(NumbaBackend(), n_threads)
    starts = getattr(bound.layout, "gaps", [])
    for start in starts:
        bound.memory.floats[start : start + GAP] = np.nan
    with np.errstate(all="ignore"):
        arrays = list(testing._train(case, bound, 2).values())
        gradient = np.full(bound.n_parameters, np.nan, bound.dtype)
        bound.loss_and_gradient(X, y, gradient, weights)
        arrays += [gradient.copy(), bound.logits(X), bound.logits(X[0])]
        bound.update(gradient, 0.01)
    for start in starts:
        assert np.all(np.isnan(bound.memory.floats[start : start + GAP])), "a gap was written"
    return [array.tobytes() for array in (*arrays, bound.store().parameters)]


def odd_cases():
    plain, dropout, everything = (testing.REGULARIZATION_CASES[i] for i in (0, 3, -1))
    for case in testing._shapes():
        for regularization in (plain, dropout, replace(everything, dropout=0.3)):
            yield replace(case, regularization=regularization)
        yield replace(case, regularization=dropout, scaling_layer=True)
        if case.dtype == "float32":
            yield replace(case, regularization=dropout, precision="bfloat16")


ODD_CASES = list(odd_cases())
if config.DISABLE_JIT:  # plain Python takes its time
    ODD_CASES = [case for case in ODD_CASES if max(case.sizes) * case.n_rows < 60]

on_threads = pytest.mark.parametrize("n_threads", [1] if config.DISABLE_JIT else [1, 2, 3])


@on_threads
def test_no_array_is_touched_beyond_its_ends(n_threads: int):
    for case in ODD_CASES:
        expected = compute(case)
        with guards() as calls:
            assert compute(case, n_threads) == expected
        assert set(calls) == {"team", "apply"}


@on_threads
def test_no_region_of_memory_runs_into_the_next(n_threads: int):
    for case in ODD_CASES:
        expected = compute(case)
        with gaps():
            assert compute(case, n_threads) == expected


@jitted_only
@given(case=cases(), n_threads=st.sampled_from([1, 2, 3]))
def test_no_training_leaves_its_buffers(case, n_threads):
    expected = compute(case)
    with guards(), gaps():
        assert compute(case, n_threads) == expected


def test_rows_amid_nan_are_read_exactly():
    for case in ODD_CASES[:6]:
        X, y, weights = case.data()
        n, width = X.shape
        amid = np.full((n + 4, width + 40), np.nan, X.dtype)
        amid[2:-2, 20:-20] = X
        expected = case.bind(NumbaBackend()), X
        guarded = case.bind(NumbaBackend()), amid[2:-2, 20:-20]
        bits = []
        for bound, rows in (expected, guarded):
            targets = testing._targets(bound, y)
            order, rates = next(case.epochs(1))
            losses = bound.train(rows, targets, order, rates, weights)
            bits.append([losses.tobytes(), bound.logits(rows).tobytes()])
        assert bits[0] == bits[1]


def test_the_guards_notice_a_write_beyond():
    def program(array):
        array.base[BAND // array.itemsize - 1] = 0

    with pytest.raises(AssertionError, match="a guard band was written"):
        guarded_call(program, [np.zeros(5)])


@pytest.mark.skipif(not config.DISABLE_JIT, reason="jitted code checks no bounds")
def test_plain_kernels_raise_beyond_the_end():
    case = testing.Setting()
    bound = case.bind(NumbaBackend())
    floats = bound.memory.floats
    bound.memory = bound.memory._replace(floats=floats[: len(floats) // 2])
    X, y, weights = case.data()
    with pytest.raises((IndexError, ValueError)):
        bound.loss_and_gradient(X, y, np.empty(bound.n_parameters), weights)
