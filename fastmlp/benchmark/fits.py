"""What a whole fit costs: seconds and CPU-seconds until a test accuracy is first reached."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fastmlp.benchmark.contestants import contestant
from fastmlp.benchmark.environment import environment, heading, machine_line
from fastmlp.benchmark.measurement import (
    PAUSE,
    prepared,
    write_samples,
    write_test_samples,
)
from fastmlp.benchmark.report import said_seconds
from fastmlp.benchmark.saved import Saved, read_saved
from fastmlp.benchmark.worker import LIMIT, Worker, WorkerError
from fastmlp.benchmark.workloads import WORKLOADS, Workload, mnist_is_here

#: The share of test rows to be right on, and the epochs to reach it in, unless told otherwise.
ACCURACY = 0.975
MOST_EPOCHS = 50


@dataclass
class Curve:
    """The epochs of one fit, whose first includes its start; looks at test rows are not timed.

    Parameters
    ----------
    seconds, cpu_seconds : list of float
        CPU-seconds are those of all threads, user and system.
    accuracy : list of float
        Share of test rows that the network is right on behind each epoch.
    """

    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)


@dataclass
class Fit:
    """One contestant with some threads on one workload: a fit in each round.

    Parameters
    ----------
    workload, contestant : str
    n_threads : int
    ready_seconds, ready_cpu_seconds : float or None
        Import, compilation and a first epoch, apart from all fits.
    curves : list of Curve
    failure : str or None
        Why there are no (more) figures.
    """

    workload: str
    contestant: str
    n_threads: int
    ready_seconds: float | None = None
    ready_cpu_seconds: float | None = None
    curves: list[Curve] = field(default_factory=list)
    failure: str | None = None

    @property
    def seconds(self) -> float:
        """The median fit, in seconds."""
        return statistics.median(sum(curve.seconds) for curve in self.curves)

    @property
    def cpu_seconds(self) -> float:
        """The median fit, in CPU-seconds."""
        return statistics.median(sum(curve.cpu_seconds) for curve in self.curves)

    @property
    def n_epochs(self) -> float:
        """The median fit, in epochs."""
        return statistics.median(len(curve.seconds) for curve in self.curves)

    @property
    def accuracy(self) -> float:
        """The least that a fit ended with."""
        return min(curve.accuracy[-1] for curve in self.curves)


@dataclass
class Fits(Saved):
    """All that one measurement of fits found.

    Parameters
    ----------
    environment : dict of str to str
    accuracy : float
        The share of test rows to be right on.
    most_epochs : int
        A fit ends behind so many.
    summaries : dict of str to str
        The network and its data in one line, by workload.
    fits : list of Fit

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Fits({"date": "2026-11-22"}, 0.9, 5).save(Path(folder, "fits.json"))
    ...     Fits.load(Path(folder, "fits.json")).accuracy
    0.9
    """

    environment: dict[str, str]
    accuracy: float
    most_epochs: int
    summaries: dict[str, str] = field(default_factory=dict)
    fits: list[Fit] = field(default_factory=list)

    @classmethod
    def load(cls, path: str | Path) -> Fits:
        """Return the fits that `save` wrote."""
        content = read_saved(path)
        for fit in content["fits"]:
            fit["curves"] = [Curve(**curve) for curve in fit["curves"]]
        content["fits"] = [Fit(**fit) for fit in content["fits"]]
        return cls(**content)

    def reached(self, fit: Fit) -> bool:
        """Return whether all of a contestant's fits reached the accuracy."""
        return fit.accuracy >= self.accuracy

    def __str__(self) -> str:
        return "\n\n".join([heading(self.environment, {}), *map(self.table, self.summaries)])

    def table(self, workload: str) -> str:
        """Return one workload's fits as text; ">" stands where the accuracy was not reached."""
        lines = [
            f"{workload}: {self.summaries[workload]}",
            f"until {self.accuracy:.2%} of the test rows are right, at most {self.most_epochs} "
            "epochs; median fit",
            f"{'':<17}{'threads':>7}{'epochs':>8}{'accuracy':>10}{'seconds':>10}"
            f"{'CPU s':>10}{'CPU/s':>7}{'ready s':>9}{'its CPU':>9}",
        ]
        for fit in self.fits:
            if fit.workload != workload:
                continue
            start = f"{fit.contestant:<17}{fit.n_threads:>7}"
            lines.append(start + (f"  {fit.failure}" if fit.failure else self._figures(fit)))
        return "\n".join(lines)

    def _figures(self, fit: Fit) -> str:
        if not fit.curves:
            return ""
        more = "" if self.reached(fit) else ">"
        ready, its_cpu = fit.ready_seconds or 0.0, fit.ready_cpu_seconds or 0.0
        return (
            f"{f'{more}{fit.n_epochs:g}':>8}{fit.accuracy:>10.2%}"
            f"{f'{more}{fit.seconds:.3f}':>10}{f'{more}{fit.cpu_seconds:.3f}':>10}"
            f"{fit.cpu_seconds / fit.seconds:>7.2f}{ready:>9.1f}{its_cpu:>9.1f}"
        )


def markdown(found: Fits) -> str:
    """Return a table in Markdown for each workload: what a fit takes, of wall and of CPU.

    Examples
    --------
    >>> found = Fits({"processor": "a CPU", "cores": "1", "date": "2026-01-01"}, 0.975, 50)
    >>> found.summaries["digits"] = "[64, 128, 10], adam"
    >>> curve = Curve([0.5, 0.25], [0.5, 0.25], [0.9, 0.98])
    >>> found.fits.append(Fit("digits", "numpy", 1, 0.6, 0.7, [curve]))
    >>> print(markdown(found))
    A whole fit, until 97.50% of the test rows are right (median), on a CPU, 1 core, 2026-01-01.
    <BLANKLINE>
    digits: [64, 128, 10], adam
    <BLANKLINE>
    | | threads | epochs | seconds | CPU-seconds | import, compile, first epoch (s) |
    |---|---|---|---|---|---|
    | numpy | 1 | 2 | 0.75 | 0.75 | 0.6 |
    """
    parts = [
        f"A whole fit, until {found.accuracy:.2%} of the test rows are right (median), on "
        f"{machine_line(found.environment)}."
    ]
    for workload, summary in found.summaries.items():
        parts.append(f"{workload}: {summary}")
        lines = [
            "| | threads | epochs | seconds | CPU-seconds | import, compile, first epoch (s) |",
            "|---|---|---|---|---|---|",
        ]
        for fit in found.fits:
            if fit.workload == workload and fit.curves and not fit.failure:
                more = "" if found.reached(fit) else "more than "
                lines.append(
                    f"| {fit.contestant} | {fit.n_threads} | {more}{fit.n_epochs:g} "
                    f"| {more}{said_seconds(fit.seconds)} | {more}{said_seconds(fit.cpu_seconds)} "
                    f"| {fit.ready_seconds:.1f} |"
                )
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def usual_workload() -> Workload:
    """Return what fits are measured on unless told otherwise: MNIST where it is, or the digits.

    Examples
    --------
    >>> usual_workload().data in ("mnist", "digits")
    True
    """
    return WORKLOADS["first-adam" if mnist_is_here() else "digits"]


def measure_fits(
    workloads: Sequence[Workload],
    contestants: Sequence[str],
    threads: Sequence[int],
    *,
    accuracy: float = ACCURACY,
    most_epochs: int = MOST_EPOCHS,
    rounds: int = 3,
    limit: float = LIMIT,
    progress: Callable[[str], None] | None = None,
) -> Fits:
    """Time whole fits, until a test accuracy is first reached.

    All start from the same network and visit the rows in the same orders; scikit-learn and
    `Trainer.fit` draw orders of their own. Everything is compiled before.

    Parameters
    ----------
    workloads : sequence of Workload
    contestants : sequence of str
        Names, as `contestant_names` lists them.
    threads : sequence of int
        Numbers of threads; every contestant runs with each.
    accuracy : float, default 0.975
        Share of the test rows to be right on, above 0 and at most 1.
    most_epochs : int, default 50
    rounds : int, default 3
        Fits of each, in turns.
    limit : float, default 300
        A contestant that is not ready in so many seconds is given up.
    progress : function of str, optional
        Called with a line of what happens next.

    Returns
    -------
    Fits
        A contestant that fails has its reason there. Ctrl-C ends the measurement, and what was
        measured so far is returned.

    Raises
    ------
    ValueError
        If a contestant is unknown.

    Examples
    --------
    >>> workload = Workload("small", (4, 8, 2), batch_size=16, n_samples=64)
    >>> found = measure_fits([workload], ["numpy"], [1], accuracy=1.0, most_epochs=2, rounds=1)
    >>> [len(curve.seconds) for curve in found.fits[0].curves]
    [2]
    """
    for name in contestants:
        contestant(name)
    found = Fits(environment(), accuracy, most_epochs)
    say = progress or (lambda line: None)
    try:
        for workload in workloads:
            fits = [Fit(workload.name, name, n) for n in threads for name in contestants]
            found.fits += fits
            _measure(found, workload, fits, rounds, limit, say)
    except KeyboardInterrupt:
        say("interrupted: what was measured so far is kept")
    return found


def _measure(
    found: Fits,
    workload: Workload,
    fits: Sequence[Fit],
    rounds: int,
    limit: float,
    say: Callable[[str], None],
) -> None:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        task = write_samples(workload, folder)
        write_test_samples(workload, folder)
        found.summaries[workload.name] = f"{task.summary}; data: {task.data}"
        for fit in fits:
            if not contestant(fit.contestant).trains:
                fit.failure = "only predicts"
        able = [fit for fit in fits if fit.failure is None]
        field = []
        for fit, worker, seconds in prepared(stack, workload, folder, able, limit, say):
            fit.ready_seconds, fit.ready_cpu_seconds = seconds, worker.cpu_seconds()
            field.append((fit, worker))
        for number in range(rounds):
            say(f"{workload.name}: round {number + 1} of {rounds}")
            for fit, worker in field:
                _turn(found, fit, worker)


def _turn(found: Fits, fit: Fit, worker: Worker) -> None:
    if fit.failure:
        return
    time.sleep(PAUSE)
    try:
        epochs = worker.fit(found.accuracy, found.most_epochs)
    except WorkerError as error:
        fit.failure = str(error)
        return
    seconds, cpu_seconds, accuracy = map(list, zip(*epochs, strict=True))
    fit.curves.append(Curve(seconds, cpu_seconds, accuracy))
