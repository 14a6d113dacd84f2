"""Threads and forks that share a network: right numbers, and nobody waits for ever."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable

import numpy as np
import pytest

from fastmlp import MLP, SGD, Predictor, Regularization, Trainer

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0)


def make(backend) -> Trainer:
    optimizer = SGD(0.1, momentum=0.9)
    return Trainer(MLP([4, 3], seed=1), optimizer=optimizer, batch_size=12, backend=backend)


def state(trainer: Trainer) -> tuple[bytes, int]:
    return trainer.network.parameters.tobytes(), len(trainer.history)


def in_threads(n_threads: int, work: Callable[[int], object]) -> list[object]:
    """Return what calls in several threads return or raise."""
    found: list[object] = [None] * n_threads
    start = threading.Barrier(n_threads)

    def run(number: int) -> None:
        start.wait()
        try:
            found[number] = work(number)
        except Exception as error:
            found[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_a_trainer_predicts_in_many_threads(backend):
    trainer = Trainer(MLP([30, 40, 5], seed=3), backend=backend)
    rows = [RNG.normal(size=(60 + number, 30)).astype(np.float32) for number in range(8)]
    expected = [trainer.predict_proba(block) for block in rows]

    def right(number: int) -> bool:
        return all(
            np.array_equal(trainer.predict_proba(rows[number]), expected[number]) for _ in range(40)
        )

    assert in_threads(8, right) == [True] * 8


def test_predictions_during_a_fit_are_of_a_whole_epoch(backend):
    def trainer() -> Trainer:
        return Trainer(MLP([4, 3], seed=1), batch_size=8, backend=backend)

    alone, shared = trainer(), trainer()
    states = [alone.predict_proba(X).tobytes()]
    see = [lambda t, record: states.append(t.predict_proba(X).tobytes())]
    alone.fit(X, Y, 60, callbacks=see, verbose=False)

    def work(number: int) -> bool:
        if number == 0:
            shared.fit(X, Y, 60, verbose=False)
            return True
        return all(shared.predict_proba(X).tobytes() in states for _ in range(60))

    assert in_threads(3, work) == [True] * 3
    assert shared.network.parameters.tobytes() == alone.network.parameters.tobytes()


def test_a_second_fit_at_once_is_refused(backend):
    trainer, alone = make(backend), make(backend)
    begun = threading.Event()
    refused = threading.Event()

    def wait(trainer: Trainer, record: dict[str, float]) -> None:
        begun.set()
        refused.wait(60)

    def work(number: int) -> object:
        if number == 0:
            return len(trainer.fit(X, Y, 2, callbacks=[wait], verbose=False))
        begun.wait(60)
        try:
            return trainer.fit(X, Y, 2, verbose=False)
        finally:
            refused.set()

    first, second = in_threads(2, work)
    assert first == 2
    assert isinstance(second, RuntimeError)
    alone.fit(X, Y, 2, verbose=False)
    assert state(trainer) == state(alone)
    assert len(trainer.fit(X, Y, 1, verbose=False)) == 1


def test_of_three_fits_at_once_every_one_is_whole_or_refused(backend):
    trainer, alone = make(backend), make(backend)
    found = in_threads(3, lambda number: len(trainer.fit(X, Y, 40, verbose=False)))
    whole = [one for one in found if one == 40]
    assert whole
    assert all(
        one == 40 or (isinstance(one, RuntimeError) and "another thread is fitting" in str(one))
        for one in found
    )
    alone.fit(X, Y, 40 * len(whole), verbose=False)
    assert state(trainer) == state(alone)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_a_copied_trainer_goes_on_with_the_same_bits(backend, duplicate):
    trainer = make(backend)
    trainer.fit(X, Y, 2, verbose=False)
    twin = duplicate(trainer)
    trainer.fit(X, Y, 2, verbose=False)
    assert len(twin.history) == 2
    twin.fit(X, Y, 2, verbose=False)
    assert state(twin) == state(trainer)


# Forks ---------------------------------------------------------------------------------------

forks_only = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

FORK = """
import os, signal, sys, threading, time
import numpy as np
from fastmlp import MLP, Predictor
rows = np.ones((2000, 300), "float32")
network = MLP([300, 200, 10])

def child_predicts(*given):
    child = os.fork()
    if child == 0:
        signal.alarm(100)
        Predictor(network, "numba").predict(rows[:3])
        for predictor in given:
            predictor.predict(rows)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def run_forking(code: str, **environment: str) -> None:
    child = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK + code],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, **environment},
    )
    assert child.returncode == 0, child.stderr


@forks_only
def test_a_child_predicts_that_was_forked_during_a_prediction():
    pytest.importorskip("numba")
    run_forking("""
predictor = Predictor(network, "numba", n_threads=2)
predictor.predict(rows)
entered, leave = threading.Event(), threading.Event()
def hold():
    with predictor._bound.lock:
        entered.set()
        leave.wait(100)
thread = threading.Thread(target=hold, daemon=True)
thread.start()
entered.wait()
child_predicts(predictor)
leave.set()
thread.join()
""")


@forks_only
@pytest.mark.slow
def test_children_predict_that_were_forked_at_any_moment_of_predictions():
    pytest.importorskip("numba")
    run_forking("""
predictor = Predictor(network, "numba", n_threads=2)
predictor.predict(rows)
over = threading.Event()
def predict():
    while not over.is_set():
        predictor.predict(rows)
threads = [threading.Thread(target=predict, daemon=True) for _ in range(2)]
for thread in threads:
    thread.start()
for _ in range(10):
    time.sleep(0.02)
    child_predicts(predictor)
over.set()
for thread in threads:
    thread.join()
""")


@forks_only
def test_a_child_trains_and_predicts_that_was_forked_during_a_fit():
    run_forking("""
from fastmlp import Trainer
trainer = Trainer(MLP([3, 2]), backend="numpy")
X, y = np.ones((4, 3), "float32"), np.array([0, 1, 0, 1])
entered, leave = threading.Event(), threading.Event()
def hold(trainer, record):
    with trainer._lock:
        entered.set()
        leave.wait(100)
def train():
    trainer.fit(X, y, 1, callbacks=[hold], verbose=False)
thread = threading.Thread(target=train, daemon=True)
thread.start()
entered.wait()
child = os.fork()
if child == 0:
    signal.alarm(60)
    trainer.predict(X)
    trainer.fit(X, y, 1, verbose=False)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
leave.set()
thread.join()
""")


@forks_only
@pytest.mark.slow
def test_a_child_compiles_that_was_forked_while_its_parent_did(tmp_path):
    pytest.importorskip("numba")
    run_forking(
        """
from fastmlp.backends.numba_backend.compiled import compiled
thread = threading.Thread(target=compiled, args=("predict", np.dtype("float32")))
thread.start()
time.sleep(1)
child_predicts()
thread.join()
""",
        FASTMLP_CACHE_DIR=str(tmp_path),
    )


@forks_only
def test_a_child_refuses_to_compile_that_was_forked_while_other_code_compiled():
    """Else it would wait for ever for a lock of Numba, held by a thread that it does not have."""
    pytest.importorskip("numba")
    run_forking("""
from numba.core.compiler_lock import global_compiler_lock
import fastmlp.backends.numba_backend
entered, leave = threading.Event(), threading.Event()
def hold():
    with global_compiler_lock:
        entered.set()
        leave.wait(100)
thread = threading.Thread(target=hold, daemon=True)
thread.start()
entered.wait()
child = os.fork()
if child == 0:
    signal.alarm(60)
    try:
        Predictor(network, "numba").predict(rows)
    except RuntimeError as error:
        os._exit(0 if "forked while another thread compiled" in str(error) else 1)
    os._exit(2)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
leave.set()
thread.join()
child_predicts()
""")


def one_at_a_time(trainer: Trainer) -> None:
    trainer.fit(X, Y, 1, verbose=False)


def changed(trainer: Trainer) -> None:
    trainer.fit(X, Y, 1, verbose=False)
    trainer.network.parameters = trainer.network.parameters + 1


@pytest.mark.parametrize("before", [lambda trainer: None, one_at_a_time, changed])
@pytest.mark.parametrize("regularization", [None, Regularization(ema=0.9)])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_copies_have_the_parameters_of_training_and_of_the_network(
    before, regularization, duplicate
):
    trainer = Trainer(MLP([4, 3], seed=1), regularization=regularization, backend="numpy")
    before(trainer)
    twin = duplicate(trainer)
    trainer.fit(X, Y, 2, verbose=False)
    twin.fit(X, Y, 2, verbose=False)
    assert twin.network.parameters.tobytes() == trainer.network.parameters.tobytes()
    twin.network.parameters += 1  # in place, as its owner may
    trainer.network.parameters += 1
    assert duplicate(twin).network.parameters.tobytes() == twin.network.parameters.tobytes()
    trainer.fit(X, Y, 1, verbose=False)
    twin.fit(X, Y, 1, verbose=False)
    assert twin.network.parameters.tobytes() == trainer.network.parameters.tobytes()


#: Of pickles besides parameters and moments: names, settings, records, the generator.
ROOM = 12_000


@pytest.mark.parametrize(
    ("optimizer", "n_moments"), [("sgd", 0), (SGD(0.1, momentum=0.9), 1), ("adam", 2)]
)
def test_a_pickle_has_parameters_and_moments_and_hardly_more(optimizer, n_moments: int):
    rows, labels = np.zeros((400, 200), np.float32), np.arange(400) % 10
    trainer = Trainer(MLP([200, 150, 10]), optimizer=optimizer, backend="numpy")
    trainer.fit(rows, labels, 2, (rows, labels), verbose=False)
    trainer.predict(rows)
    n_bytes = trainer.network.parameters.nbytes
    assert len(pickle.dumps(trainer)) < (1 + n_moments) * n_bytes + ROOM
    assert len(pickle.dumps(trainer.network)) < n_bytes + ROOM
    predictor = Predictor(trainer.network, "numpy")
    assert len(pickle.dumps(predictor)) < n_bytes + ROOM
    trainer.fit(rows, labels, 1, verbose=False)
    old = predictor.predict_proba(rows[:3])
    assert len(pickle.dumps(predictor)) > 2 * n_bytes  # its own, and those of `refresh`
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(predictor)).predict_proba(rows[:3]), old
    )
