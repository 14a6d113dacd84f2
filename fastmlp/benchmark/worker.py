"""A process of its own for each contestant: its threads are limited before anything is imported.

What fails there, a missing package, memory, a crash, is one contestant's failure. The parent sends
pickled requests to the process it started, and gets pickled replies; nobody else can.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fastmlp.benchmark.contestants import contestant
from fastmlp.benchmark.contestants.base import Run
from fastmlp.benchmark.workloads import Workload

#: What BLAS, OpenMP and our backends take their number of threads from.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "FASTMLP_NUM_THREADS",
)
#: A contestant that does not answer within this many seconds is given up.
LIMIT = 300.0
#: Epochs are repeated for about this long, and averaged: a short one alone, after everybody else's
#: turn, would tell how soon threads and caches are warm. So is prediction.
_EPOCH_SECONDS = 0.2
_PREDICT_SECONDS = 0.05
PREDICT_ROWS = 4096


class WorkerError(RuntimeError):
    """A contestant cannot do what it was asked to; the message says why."""


class Worker:
    """A contestant in a process of its own, limited to some threads and as many cores.

    Parameters
    ----------
    name : str
        The contestant's.
    n_threads : int
    """

    def __init__(self, name: str, n_threads: int) -> None:
        self.name, self.n_threads = name, n_threads
        limits = dict.fromkeys(_THREAD_VARIABLES, str(n_threads))
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        with _cores(n_threads):  # the child inherits them
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fastmlp.benchmark.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env={**os.environ, **limits},
            )

    def prepare(self, workload: Workload, data: Path, limit: float = LIMIT) -> float:
        """Load the samples, import, compile, train one whole epoch; return the seconds it took.

        Raises
        ------
        WorkerError
            If the contestant cannot.
        """
        return float(self._ask("prepare", self.name, workload, data, self.n_threads, limit=limit))

    def epoch(self) -> float:
        """Return the seconds of one epoch, a fresh permutation of the rows included."""
        return float(self._ask("epoch"))

    def fit(self, accuracy: float, most_epochs: int) -> list[tuple[float, float, float]]:
        """Train a network from its start until it is right on this share of rows not trained on.

        Returns
        -------
        list of (float, float, float)
            Of every epoch: its seconds, its CPU-seconds (of all threads, user and system), and the
            share of the rows in `write_test_samples` that the network is right on behind it.
        """
        epochs: list[tuple[float, float, float]] = self._ask("fit", accuracy, most_epochs)
        return epochs

    def cpu_seconds(self) -> float:
        """Return the CPU-seconds of all threads, and of programs they ran, since the beginning."""
        return float(self._ask("cpu_seconds"))

    def predict(self) -> float:
        """Return the seconds a row takes when thousands are predicted at once."""
        return self.call(PREDICT_ROWS) / PREDICT_ROWS

    def latency(self) -> float:
        """Return the seconds that the outputs of a single row take."""
        return self.call(1)

    def call(self, n_rows: int) -> float:
        """Return the seconds that the outputs of so many rows take."""
        return float(self._ask("call", n_rows))

    def close(self) -> None:
        """End the process, if it has not ended yet."""
        if self._errors.closed:
            return
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _ask(self, request: str, *arguments: Any, limit: float = LIMIT) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(limit, give_up)
        timer.start()
        try:
            pickle.dump((request, arguments), self._process.stdin)
            self._process.stdin.flush()
            failure, value = pickle.load(self._process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            failure, value = self._last_words(late.is_set(), limit), None
        finally:
            timer.cancel()
        if failure:
            raise WorkerError(failure)
        return value

    def _last_words(self, late: bool, limit: float) -> str:
        if late:
            return f"took longer than {limit:.0f} s"
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"its process ended with code {code}" + (f": {last}" if last else "")


@contextlib.contextmanager
def _cores(n: int) -> Iterator[None]:
    """Let this thread run on `n` of its cores only, where the system can do that."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:n])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class _Job:
    """What a worker's process does on request."""

    def prepare(self, name: str, workload: Workload, data: Path, n_threads: int) -> float:
        chosen = contestant(name)
        reason = chosen.reason_against(workload)
        if reason:
            raise WorkerError(reason)
        X = np.load(data / "X.npy")
        y = np.load(data / "y.npy")
        self.workload, self.data = workload, data
        self.generator = np.random.default_rng(0)
        self.n_samples = len(X)
        n_batches = max(1, round(workload.n_batches * chosen.share))
        self.n_timed = min(self.n_samples, n_batches * workload.batch_size)
        self.X = X
        start = time.perf_counter()
        self.run: Run = chosen.prepare(workload, workload.network(), X, y, n_threads)
        if chosen.trains:
            self.epoch()
        else:
            self.run.outputs(self.X[:PREDICT_ROWS])
        return time.perf_counter() - start

    def epoch(self) -> float:
        seconds, n_epochs = 0.0, 0
        while seconds < _EPOCH_SECONDS:
            order = self.generator.permutation(self.n_samples)[: self.n_timed]
            start = time.perf_counter()
            self.run.epoch(order)
            seconds += time.perf_counter() - start
            n_epochs += 1
        return seconds / n_epochs * self.n_samples / self.n_timed

    def fit(self, accuracy: float, most_epochs: int) -> list[tuple[float, float, float]]:
        X, y = np.load(self.data / "X_test.npy"), np.load(self.data / "y_test.npy")
        network, generator = self.workload.network(), np.random.default_rng(0)
        epochs: list[tuple[float, float, float]] = []
        while len(epochs) < most_epochs and (not epochs or epochs[-1][2] < accuracy):
            order = generator.permutation(self.n_samples)
            start, cpu = time.perf_counter(), self.cpu_seconds()
            if not epochs:
                self.run.start(network)
            self.run.epoch(order)
            seconds, cpu = time.perf_counter() - start, self.cpu_seconds() - cpu
            epochs.append((seconds, cpu, _share_right(self.run.outputs(X), y)))
        return epochs

    def cpu_seconds(self) -> float:
        times = os.times()
        return time.process_time() + times.children_user + times.children_system

    def call(self, n_rows: int) -> float:
        X, outputs = np.resize(self.X, (n_rows, self.X.shape[1])), self.run.outputs
        outputs(X)
        start = time.perf_counter()
        outputs(X)
        n_calls = max(1, int(_PREDICT_SECONDS / (time.perf_counter() - start)))
        start = time.perf_counter()
        for _ in range(n_calls):
            outputs(X)
        return (time.perf_counter() - start) / n_calls


def _share_right(outputs: Any, y: Any) -> float:
    """Return the share of rows whose likeliest class is theirs.

    Examples
    --------
    >>> _share_right(np.array([[0.9], [0.2], [0.7], [0.8]]), np.array([1, 0, 0, 1]))
    0.75
    """
    classes = outputs.argmax(axis=1) if outputs.shape[1] > 1 else outputs[:, 0] > 0.5
    return float(np.mean(classes == y))


def main() -> None:
    """Serve the parent's requests until it closes the pipe."""
    requests = sys.stdin.buffer
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries may print
    job = _Job()
    while True:
        try:
            request, arguments = pickle.load(requests)
        except EOFError:
            return
        failure, value = None, None
        try:
            value = getattr(job, request)(*arguments)
        except WorkerError as error:
            failure = str(error)
        except Exception as error:  # whatever goes wrong in a peer is its row in the table
            failure = f"{type(error).__name__}: {error}".split("\n")[0].strip(": ")
        pickle.dump((failure, value), replies)
        replies.flush()


if __name__ == "__main__":
    main()
