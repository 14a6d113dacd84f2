"""What was measured: seconds by workload and contestant, as a table, as JSON and as a chart."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastmlp._files import write_figure
from fastmlp.benchmark.contestants.base import NOT_EXPRESSIBLE
from fastmlp.benchmark.environment import heading, machine_line
from fastmlp.benchmark.saved import Saved, read_saved

#: Whom all others are compared with, where they took part.
_YARDSTICKS = ("numpy", "numba")


@dataclass
class Row:
    """One contestant with some threads on one workload.

    Parameters
    ----------
    workload, contestant : str
    n_threads : int
    prepare_seconds : float or None
        Import, compilation and the first epoch together, apart from all rounds.
    epoch_seconds, predict_seconds, latency_seconds : list of float
        One of each a round: an epoch; a row, when thousands are predicted at once; a single row.
    failure : str or None
        Why there are no (more) figures.
    """

    workload: str
    contestant: str
    n_threads: int
    prepare_seconds: float | None = None
    epoch_seconds: list[float] = field(default_factory=list)
    predict_seconds: list[float] = field(default_factory=list)
    latency_seconds: list[float] = field(default_factory=list)
    failure: str | None = None

    @property
    def seconds(self) -> float | None:
        """The median epoch."""
        return _median(self.epoch_seconds)


@dataclass
class Task:
    """What a report needs to know of a workload.

    Parameters
    ----------
    summary : str
        The network and its training in one line.
    data : str
        Where the samples come from.
    dtype : str
    n_samples, flops : int
        Of an epoch.
    """

    summary: str
    data: str
    dtype: str
    n_samples: int
    flops: int


@dataclass
class Report(Saved):
    """All that one run of the benchmark measured.

    Parameters
    ----------
    environment : dict of str to str
    peaks : dict of str to float
        FMA peak in FLOP/s, by dtype and threads, such as "float32/2".
    start : dict of str to float or str
        Seconds of importing and of first fits, or why there are none.
    tasks : dict of str to Task
        By workload.
    rows : list of Row

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Report({"date": "2026-11-22"}).save(Path(folder, "result.json"))
    ...     Report.load(Path(folder, "result.json")).environment
    {'date': '2026-11-22'}
    """

    environment: dict[str, str]
    peaks: dict[str, float] = field(default_factory=dict)
    start: dict[str, float | str] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """Return the report that `save` wrote."""
        content = read_saved(path)
        content["tasks"] = {name: Task(**task) for name, task in content["tasks"].items()}
        content["rows"] = [Row(**row) for row in content["rows"]]
        return cls(**content)

    def of(self, workload: str) -> list[Row]:
        """Return a workload's rows."""
        return [row for row in self.rows if row.workload == workload]

    def share_of_peak(self, row: Row) -> float | None:
        """Return an epoch's FLOP/s over the measured FMA peak of as many threads."""
        task = self.tasks[row.workload]
        peak = self.peaks.get(f"{task.dtype}/{row.n_threads}")
        return task.flops / row.seconds / peak if peak and row.seconds else None

    def relative_to(self, row: Row, yardstick: str) -> float | None:
        """Return a row's seconds over a yardstick's, of the same workload and threads."""
        for other in self.of(row.workload):
            if (other.contestant, other.n_threads) == (yardstick, row.n_threads):
                return row.seconds / other.seconds if row.seconds and other.seconds else None
        return None

    def __str__(self) -> str:
        parts = [heading(self.environment, self.peaks)]
        if self.start:
            parts.append(
                "seconds to start: "
                + ", ".join(
                    f"{name} {value if isinstance(value, str) else format(value, '.2f')}"
                    for name, value in self.start.items()
                )
            )
        parts += [self.table(workload) for workload in self.tasks]
        return "\n\n".join(parts)

    def table(self, workload: str) -> str:
        """Return one workload's rows as text."""
        task = self.tasks[workload]
        lines = [f"{workload}: {task.summary}; data: {task.data}", _HEADINGS]
        for row in self.of(workload):
            start = f"{row.contestant:<17}{row.n_threads:>7}"
            if row.failure:
                lines.append(f"{start}  {row.failure}")
            else:
                lines.append(start + self._figures(row, task))
        return "\n".join(lines)

    def _figures(self, row: Row, task: Task) -> str:
        seconds, epochs = row.seconds, row.epoch_seconds
        share = self.share_of_peak(row)
        rate = _inverse(_median(row.predict_seconds))
        latency = _median(row.latency_seconds)
        return (
            _cell(seconds, 9, ".4f")
            + _cell(min(epochs, default=None), 9, ".4f")
            + _cell(max(epochs, default=None), 9, ".4f")
            + _cell(task.n_samples / seconds if seconds else None, 12, ",.0f")
            + _cell(task.flops / seconds / 1e9 if seconds else None, 9, ".1f")
            + _cell(share, 7, ".0%")
            + "".join(_cell(self.relative_to(row, name), 8, ".2f") for name in _YARDSTICKS)
            + _cell(rate, 13, ",.0f")
            + _cell(latency * 1e6 if latency else None, 9, ".1f")
            + _cell(row.prepare_seconds, 8, ".1f")
        )

    def plot(self, path: str | Path) -> None:
        """Write a bar chart: seconds per epoch, by workload, contestant and threads.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError("a chart needs matplotlib: pip install 'fastmlp[plot]'") from error
        figure = Figure(figsize=(8, 1 + 0.25 * len(self.rows)), layout="constrained")
        axes = figure.subplots(len(self.tasks), 1, squeeze=False)[:, 0]
        for ax, workload in zip(axes, self.tasks, strict=True):
            rows = [row for row in self.of(workload) if row.seconds]
            names = [f"{row.contestant}, {row.n_threads} thr." for row in rows]
            bars = ax.barh(names, [row.seconds for row in rows])
            ax.bar_label(bars, fmt="%.3g", padding=3)
            ax.invert_yaxis()
            ax.set_xscale("log")
            ax.margins(x=0.15)
            ax.set_title(f"{workload}: {self.tasks[workload].summary}", fontsize=8)
        axes[-1].set_xlabel("seconds per epoch (median)")
        write_figure(path, figure)


_HEADINGS = (
    f"{'':<17}{'threads':>7}{'s/epoch':>9}{'min':>9}{'max':>9}{'samples/s':>12}{'GFLOP/s':>9}"
    f"{'peak':>7}{'/ numpy':>8}{'/ numba':>8}{'predict/s':>13}{'1 row µs':>9}{'ready s':>8}"
)


def _cell(value: float | None, width: int, form: str) -> str:
    return f"{'' if value is None else format(value, form):>{width}}"


def _median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None


def _inverse(value: float | None) -> float | None:
    return 1 / value if value else None


def markdown(report: Report) -> str:
    """Return the comparison as a table in Markdown: contestants down, workloads across.

    Every cell holds median seconds per epoch, for each number of threads. Who cannot express a
    workload has the reason below the table.

    Examples
    --------
    >>> report = Report({"processor": "a CPU", "cores": "1", "date": "2026-01-01"})
    >>> report.tasks["tiny"] = Task("[2, 2]", "generated", "float32", 10, 80)
    >>> report.rows.append(Row("tiny", "numpy", 1, 0.1, [0.5, 0.25, 0.75]))
    >>> print(markdown(report))  # doctest: +NORMALIZE_WHITESPACE
    Seconds per epoch (median; 1 thread) on a CPU, 1 core, 2026-01-01.
    <BLANKLINE>
    | | tiny |
    |---|---|
    | numpy | 0.50 |
    <BLANKLINE>
    - tiny: [2, 2]; data: generated
    """
    threads = sorted({row.n_threads for row in report.rows})
    contestants = list(dict.fromkeys(row.contestant for row in report.rows if row.seconds))
    cells = {(r.contestant, r.workload, r.n_threads): r.seconds for r in report.rows}
    refusals = {
        (row.contestant, row.workload): row.failure.partition(": ")[2]
        for row in report.rows
        if row.failure and row.failure.startswith(NOT_EXPRESSIBLE)
    }
    lines = [
        f"Seconds per epoch (median; {said_threads(threads)}) on "
        f"{machine_line(report.environment)}.",
        "",
        f"| | {' | '.join(report.tasks)} |",
        "|---" * (1 + len(report.tasks)) + "|",
    ]
    for contestant in contestants:
        row = [
            NOT_EXPRESSIBLE
            if (contestant, workload) in refusals
            else " / ".join(said_seconds(cells.get((contestant, workload, n))) for n in threads)
            for workload in report.tasks
        ]
        lines.append(f"| {contestant} | {' | '.join(row)} |")
    lines.append("")
    lines += [f"- {name}: {task.summary}; data: {task.data}" for name, task in report.tasks.items()]
    lines += [
        f"- {contestant} {refusals[contestant, workload]} ({workload})"
        for contestant, workload in refusals
        if contestant in contestants
    ]
    return "\n".join(lines)


def said_threads(threads: list[int]) -> str:
    """Return numbers of threads in words.

    Examples
    --------
    >>> said_threads([1]), said_threads([1, 2])
    ('1 thread', '1 / 2 threads')
    """
    return f"{' / '.join(map(str, threads))} thread{'s' if threads[-1] > 1 else ''}"


def said_seconds(value: Any) -> str:
    """Return seconds with about two significant digits.

    Examples
    --------
    >>> said_seconds(10.62), said_seconds(0.185), said_seconds(0.01234), said_seconds(None)
    ('10.6', '0.18', '0.012', '-')
    """
    if value is None:
        return "-"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"
