"""Seconds to predict so many rows at once: from one to a hundred thousand, everybody in turns."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from fastmlp.benchmark.contestants import contestant
from fastmlp.benchmark.environment import environment, heading, machine_line
from fastmlp.benchmark.measurement import PAUSE, note_peak, prepared, write_samples
from fastmlp.benchmark.saved import Saved, read_saved
from fastmlp.benchmark.worker import LIMIT, Worker, WorkerError
from fastmlp.benchmark.workloads import Workload

#: How many rows are predicted at once, unless told otherwise.
N_ROWS = (1, 8, 32, 256, 1024, 10_000, 100_000)
#: Whose time is set against the best of the others'.
OURS = "numba"


@dataclass
class Calls:
    """How long a contestant's calls took.

    Parameters
    ----------
    workload, contestant : str
    n_threads : int
    seconds : dict of int to list of float
        By the number of rows: one figure a round.
    failure : str or None
        Why there are no (more) figures.
    """

    workload: str
    contestant: str
    n_threads: int
    seconds: dict[int, list[float]] = field(default_factory=dict)
    failure: str | None = None

    def median(self, n_rows: int) -> float | None:
        """Return the seconds of a call with so many rows, if it was measured."""
        return statistics.median(self.seconds[n_rows]) if self.seconds.get(n_rows) else None


@dataclass
class Network:
    """What is to be known of a workload's network.

    Parameters
    ----------
    summary, dtype : str
    flops : int
        Floating-point operations that the products of a row need: two for each weight.
    """

    summary: str
    dtype: str
    flops: int


@dataclass
class Predictions(Saved):
    """All that one measurement of predictions found.

    Parameters
    ----------
    environment : dict of str to str
    peaks : dict of str to float
        FMA peak in FLOP/s, by dtype and threads, such as "float32/2".
    networks : dict of str to Network
        By workload.
    calls : list of Calls

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Predictions({"date": "2026-11-22"}).save(Path(folder, "predictions.json"))
    ...     Predictions.load(Path(folder, "predictions.json")).calls
    []
    """

    environment: dict[str, str]
    peaks: dict[str, float] = field(default_factory=dict)
    networks: dict[str, Network] = field(default_factory=dict)
    calls: list[Calls] = field(default_factory=list)

    @classmethod
    def load(cls, path: str | Path) -> Predictions:
        """Return the predictions that `save` wrote."""
        content = read_saved(path)
        content["networks"] = {name: Network(**kept) for name, kept in content["networks"].items()}
        for calls in content["calls"]:
            calls["seconds"] = {int(n): kept for n, kept in calls["seconds"].items()}
        content["calls"] = [Calls(**calls) for calls in content["calls"]]
        return cls(**content)

    def __str__(self) -> str:
        parts = [heading(self.environment, self.peaks)]
        kinds = dict.fromkeys((c.workload, c.n_threads) for c in self.calls)
        return "\n\n".join([*parts, *(self.table(*kind) for kind in kinds)])

    def table(self, workload: str, n_threads: int) -> str:
        """Return the microseconds of calls as text: rows at once down, contestants across.

        Behind them stand our time over that of the best of the others, and our share of the
        machine's FMA peak.
        """
        calls = [c for c in self.calls if (c.workload, c.n_threads) == (workload, n_threads)]
        network = self.networks[workload]
        lines = [
            f"{workload}: {network.summary}; threads: {n_threads}; microseconds of a call",
            f"{'rows':>7}"
            + "".join(f"{c.contestant:>17}" for c in calls)
            + f"{f'{OURS}/best':>12}{'peak':>7}",
        ]
        for n_rows in sorted({n for c in calls for n in c.seconds}):
            cells = [c.median(n_rows) for c in calls]
            lines.append(
                f"{n_rows:>7}"
                + "".join(f"{'' if s is None else format(s * 1e6, ',.1f'):>17}" for s in cells)
                + self._comparison(calls, n_rows)
            )
        lines += [f"{c.contestant}: {c.failure}" for c in calls if c.failure]
        return "\n".join(lines)

    def _comparison(self, calls: Sequence[Calls], n_rows: int) -> str:
        ours = next((c.median(n_rows) for c in calls if c.contestant == OURS), None)
        others = [
            seconds
            for c in calls
            if not c.contestant.startswith(OURS) and (seconds := c.median(n_rows)) is not None
        ]
        if ours is None or not others:
            return ""
        network = self.networks[calls[0].workload]
        peak = self.peaks.get(f"{network.dtype}/{calls[0].n_threads}")
        share = f"{network.flops * n_rows / ours / peak:>7.0%}" if peak else ""
        return f"{ours / min(others):>12.2f}{share}"


def markdown(found: Predictions) -> str:
    """Return a table in Markdown for each workload and number of threads: microseconds of a call.

    Examples
    --------
    >>> found = Predictions({"processor": "a CPU", "cores": "1", "date": "2026-01-01"})
    >>> found.networks["tiny"] = Network("[2, 2], relu, softmax, float32", "float32", 8)
    >>> found.calls.append(Calls("tiny", "numpy", 1, {1: [2e-6], 8: [1.4e-5]}))
    >>> print(markdown(found))
    Microseconds of a call that predicts (median) on a CPU, 1 core, 2026-01-01.
    <BLANKLINE>
    tiny: [2, 2], relu, softmax, float32; threads: 1
    <BLANKLINE>
    | rows at once | 1 | 8 |
    |---|---|---|
    | numpy | 2.0 | 14.0 |
    """
    parts = [
        "Microseconds of a call that predicts (median) on " + machine_line(found.environment) + "."
    ]
    for workload, n_threads in dict.fromkeys((c.workload, c.n_threads) for c in found.calls):
        calls = [c for c in found.calls if (c.workload, c.n_threads) == (workload, n_threads)]
        n_rows = sorted({n for c in calls for n in c.seconds})
        parts.append(f"{workload}: {found.networks[workload].summary}; threads: {n_threads}")
        lines = [
            f"| rows at once | {' | '.join(f'{n:,}' for n in n_rows)} |",
            "|---" * (1 + len(n_rows)) + "|",
        ]
        for c in calls:
            if c.seconds:
                cells = [_microseconds(c.median(n)) for n in n_rows]
                lines.append(f"| {c.contestant} | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _microseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1e6:,.1f}" if seconds < 1e-4 else f"{seconds * 1e6:,.0f}"


def measure_predictions(
    workloads: Sequence[Workload],
    contestants: Sequence[str],
    threads: Sequence[int],
    *,
    n_rows: Sequence[int] = N_ROWS,
    rounds: int = 5,
    limit: float = LIMIT,
    progress: Callable[[str], None] | None = None,
) -> Predictions:
    """Time calls that predict.

    Parameters
    ----------
    workloads : sequence of Workload
    contestants : sequence of str
        Names, as `contestant_names` lists them.
    threads : sequence of int
        Numbers of threads; every contestant runs with each.
    n_rows : sequence of int, default ``N_ROWS``
        How many rows a call has; the samples are repeated where there are not so many.
    rounds : int, default 5
    limit : float, default 300
        A contestant that is not ready in so many seconds is given up.
    progress : function of str, optional
        Called with a line of what happens next.

    Returns
    -------
    Predictions
        A contestant that fails has its reason there. Ctrl-C ends the measurement, and what was
        measured so far is returned.

    Raises
    ------
    ValueError
        If a contestant is unknown.

    Examples
    --------
    >>> workload = Workload("small", (4, 8, 2), batch_size=16, n_samples=64)
    >>> found = measure_predictions([workload], ["numpy"], [1], n_rows=[1, 100], rounds=2)
    >>> [len(seconds) for seconds in found.calls[0].seconds.values()]
    [2, 2]
    """
    for name in contestants:
        contestant(name)
    found = Predictions(environment())
    say = progress or (lambda line: None)
    try:
        for workload in workloads:
            for number in threads:
                field = [Calls(workload.name, name, number) for name in contestants]
                found.calls += field
                _measure(found, workload, field, n_rows, rounds, limit, say)
    except KeyboardInterrupt:
        say("interrupted: what was measured so far is kept")
    return found


def _measure(
    found: Predictions,
    workload: Workload,
    field: Sequence[Calls],
    n_rows: Sequence[int],
    rounds: int,
    limit: float,
    say: Callable[[str], None],
) -> None:
    """Measure a workload with a number of threads."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        task = write_samples(workload, folder)
        summary = (
            f"{list(workload.layer_sizes)}, {workload.hidden_activation}, "
            f"{workload.output_activation}, {workload.dtype}; data: {task.data}"
        )
        flops = 2 * sum(a * b for a, b in pairwise(workload.layer_sizes))
        found.networks[workload.name] = Network(summary, workload.dtype, flops)
        ready = [each[:2] for each in prepared(stack, workload, folder, field, limit, say)]
        for number in range(rounds):
            say(f"{workload.name}: round {number + 1} of {rounds}")
            for n in n_rows:
                for calls, worker in ready:
                    _turn(calls, worker, n)
            note_peak(found.peaks, workload.dtype, field[0].n_threads)


def _turn(calls: Calls, worker: Worker, n_rows: int) -> None:
    if calls.failure:
        return
    time.sleep(PAUSE)
    try:
        calls.seconds.setdefault(n_rows, []).append(worker.call(n_rows))
    except WorkerError as error:
        calls.failure = str(error)
