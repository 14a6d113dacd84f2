"""The measurement: contestants take turns, so that a drifting machine favors none of them."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from fastmlp.benchmark.contestants import contestant
from fastmlp.benchmark.environment import environment
from fastmlp.benchmark.report import Report, Row, Task
from fastmlp.benchmark.worker import LIMIT, Worker, WorkerError
from fastmlp.benchmark.workloads import Workload

#: Libraries let idle threads spin for some milliseconds, which must not fall into another's turn.
PAUSE = 0.05
_PEAK_SECONDS = 0.05


def measure(
    workloads: Sequence[Workload],
    contestants: Sequence[str],
    threads: Sequence[int],
    *,
    rounds: int = 5,
    seconds: float = 60.0,
    limit: float = LIMIT,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Time contestants on workloads.

    Parameters
    ----------
    workloads : sequence of Workload
    contestants : sequence of str
        Names, as `contestant_names` lists them.
    threads : sequence of int
        Numbers of threads; every contestant runs with each.
    rounds : int, default 5
        Epochs of each.
    seconds : float, default 60
        No new round begins where a workload has taken its share of these; the first always does.
    limit : float, default 300
        A contestant that has not imported, compiled and trained an epoch in so many seconds is
        given up.
    progress : function of str, optional
        Called with a line of what happens next.

    Returns
    -------
    Report
        A contestant that fails has its reason in its row. Ctrl-C ends the measurement, and what
        was measured so far is returned.

    Raises
    ------
    ValueError
        If a contestant is unknown.

    Examples
    --------
    >>> workload = Workload("small", (4, 8, 2), batch_size=16, n_samples=64)
    >>> report = measure([workload], ["numpy"], [1], rounds=2)
    >>> len(report.rows[0].epoch_seconds)
    2
    """
    for name in contestants:
        contestant(name)
    report = Report(environment())
    say = progress or (lambda line: None)
    try:
        for workload in workloads:
            stop = time.monotonic() + seconds / len(workloads)
            _measure_workload(report, workload, contestants, threads, rounds, stop, limit, say)
    except KeyboardInterrupt:
        say("interrupted: what was measured so far is kept")
    return report


def _measure_workload(
    report: Report,
    workload: Workload,
    contestants: Sequence[str],
    threads: Sequence[int],
    rounds: int,
    stop: float,
    limit: float,
    say: Callable[[str], None],
) -> None:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        report.tasks[workload.name] = write_samples(workload, folder)
        rows = [Row(workload.name, name, n) for n in threads for name in contestants]
        report.rows += rows
        field = []
        for row, worker, seconds in prepared(stack, workload, folder, rows, limit, say):
            row.prepare_seconds = seconds
            field.append((row, worker))
        for number in range(rounds):
            if number and time.monotonic() > stop:
                break
            say(f"{workload.name}: round {number + 1} of {rounds}")
            _round(report, workload, field, threads)


class Entrant(Protocol):
    """What a contestant with some threads brought, or why it failed."""

    contestant: str
    n_threads: int
    failure: str | None


E = TypeVar("E", bound=Entrant)


def prepared(
    stack: contextlib.ExitStack,
    workload: Workload,
    folder: Path,
    entrants: Sequence[E],
    limit: float,
    say: Callable[[str], None],
) -> Iterator[tuple[E, Worker, float]]:
    """Yield those who are ready to train a workload, each in a process, with the seconds it took.

    The others have their reason in `failure`. The processes end with the stack.

    Examples
    --------
    >>> workload = Workload("small", (4, 8, 2), batch_size=16, n_samples=64)
    >>> with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
    ...     task = write_samples(workload, Path(folder))
    ...     rows = [Row("small", "numpy", 1)]
    ...     [(row, worker, seconds)] = prepared(stack, workload, Path(folder), rows, LIMIT, str)
    ...     worker.epoch() > 0
    True
    """
    for entrant in entrants:
        say(f"{workload.name}: preparing {entrant.contestant}, threads: {entrant.n_threads}")
        worker = Worker(entrant.contestant, entrant.n_threads)
        stack.callback(worker.close)
        try:
            seconds = worker.prepare(workload, folder, limit)
        except WorkerError as error:
            entrant.failure = str(error)
            worker.close()
            continue
        yield entrant, worker, seconds


def write_samples(workload: Workload, folder: Path) -> Task:
    """Write a workload's samples to where workers read them, and describe them.

    Examples
    --------
    >>> workload = Workload("small", (4, 8, 2), batch_size=16, n_samples=64)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_samples(workload, Path(folder)).data
    'generated, normal'
    """
    X, y, source = workload.samples()
    np.save(folder / "X.npy", X)
    np.save(folder / "y.npy", y)
    return Task(workload.summary, source, workload.dtype, workload.n_samples, workload.flops)


def write_test_samples(workload: Workload, folder: Path) -> None:
    """Write the rows that a workload is judged by to where workers read them.

    Examples
    --------
    >>> workload = Workload("small", (4, 8, 2), batch_size=16, n_samples=64)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_test_samples(workload, Path(folder))
    ...     np.load(Path(folder, "X_test.npy")).shape
    (100, 4)
    """
    X, y = workload.test_samples()
    np.save(folder / "X_test.npy", X)
    np.save(folder / "y_test.npy", y)


def _round(
    report: Report,
    workload: Workload,
    field: list[tuple[Row, Worker]],
    threads: Sequence[int],
) -> None:
    """Let everybody who has not failed take one turn; then look at the machine's peak."""
    for row, worker in field:
        if row.failure:
            continue
        time.sleep(PAUSE)
        try:
            if contestant(row.contestant).trains:
                row.epoch_seconds.append(worker.epoch())
            row.predict_seconds.append(worker.predict())
            row.latency_seconds.append(worker.latency())
        except WorkerError as error:
            row.failure = str(error)
    for n_threads in threads:
        note_peak(report.peaks, workload.dtype, n_threads)


def note_peak(peaks: dict[str, float], dtype: str, n_threads: int) -> None:
    """Keep the best FMA rate seen; without Numba there is none.

    Examples
    --------
    >>> peaks = {"float32/1": 1e15}
    >>> note_peak(peaks, "float32", 1)
    >>> peaks
    {'float32/1': 1000000000000000.0}
    """
    try:
        from fastmlp.backends.numba_backend.peak import measure_peak
    except ImportError:
        return
    key = f"{dtype}/{n_threads}"
    time.sleep(PAUSE)
    rate = measure_peak(dtype, n_threads, _PEAK_SECONDS)
    peaks[key] = max(rate, peaks.get(key, 0.0))
