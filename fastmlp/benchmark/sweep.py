"""Cost as work grows: seconds of a multiply-add over width, depth, batch and features."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fastmlp._files import write_figure
from fastmlp.benchmark.contestants import contestant
from fastmlp.benchmark.environment import environment, heading, machine_line
from fastmlp.benchmark.measurement import PAUSE, write_samples
from fastmlp.benchmark.saved import Saved, read_saved
from fastmlp.benchmark.worker import LIMIT, Worker, WorkerError
from fastmlp.benchmark.workloads import Workload

AXES = ("width", "depth", "batch", "features")
#: What an axis takes unless told otherwise: powers of two and what lies half-way between them.
VALUES = (1, *sorted(part * 2**power for power in range(11) for part in (2, 3)), 4096)
#: The network that each axis leaves from.
_WIDTH, _DEPTH, _BATCH, _FEATURES, _N_OUTPUTS = 64, 2, 128, 64, 10
#: An epoch takes about so many multiply-adds, within so many steps and numbers in its rows.
_MULTIPLY_ADDS = 2**27
_MOST_STEPS = 2048
_MOST_NUMBERS = 2**22
#: A valley is at least so much below the lower of the two heights beside it.
DEPTH = 0.2


def workload_at(axis: str, value: int) -> Workload:
    """Return the workload of one point: a network with ReLU, trained by plain SGD.

    Parameters
    ----------
    axis : {"width", "depth", "batch", "features"}
    value : int
        Units of every hidden layer, hidden layers, rows of a batch, or inputs; 1 or more.

    Examples
    --------
    >>> workload_at("width", 3).layer_sizes, workload_at("depth", 3).layer_sizes
    ((64, 3, 3, 10), (64, 64, 64, 64, 10))
    """
    width = value if axis == "width" else _WIDTH
    depth = value if axis == "depth" else _DEPTH
    batch = value if axis == "batch" else _BATCH
    features = value if axis == "features" else _FEATURES
    sizes = (features, *[width] * depth, _N_OUTPUTS)
    of_a_step = Workload("", sizes, batch, batch).flops // 2
    n_steps = min(_MULTIPLY_ADDS // of_a_step, _MOST_NUMBERS // (features * batch), _MOST_STEPS)
    return Workload(f"{axis}-{value}", sizes, batch, batch * max(1, n_steps))


@dataclass
class Point:
    """A contestant with some threads at one value of an axis.

    Parameters
    ----------
    axis : str
    value : int
    contestant : str
    n_threads : int
    multiply_adds : int
        Of an epoch.
    seconds : list of float
        Of an epoch, one figure a round.
    failure : str or None
        Why there are no (more) figures.
    """

    axis: str
    value: int
    contestant: str
    n_threads: int
    multiply_adds: int
    seconds: list[float] = field(default_factory=list)
    failure: str | None = None

    @property
    def cost(self) -> float | None:
        """Median seconds of a multiply-add."""
        return statistics.median(self.seconds) / self.multiply_adds if self.seconds else None


@dataclass
class Sweep(Saved):
    """All that one sweep found.

    Parameters
    ----------
    environment : dict of str to str
    points : list of Point

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Sweep({"cores": "2"}).save(Path(folder, "sweep.json"))
    ...     Sweep.load(Path(folder, "sweep.json")).points
    []
    """

    environment: dict[str, str]
    points: list[Point] = field(default_factory=list)

    @classmethod
    def load(cls, path: str | Path) -> Sweep:
        """Return the sweep that `save` wrote."""
        content = read_saved(path)
        content["points"] = [Point(**point) for point in content["points"]]
        return cls(**content)

    @property
    def axes(self) -> list[str]:
        """What was swept over."""
        return list(dict.fromkeys(point.axis for point in self.points))

    def curves(self, axis: str) -> dict[tuple[str, int], dict[int, float]]:
        """Return the seconds of a multiply-add by value, by contestant and threads."""
        found: dict[tuple[str, int], dict[int, float]] = {}
        for point in self.points:
            if point.axis == axis and point.cost is not None:
                curve = found.setdefault((point.contestant, point.n_threads), {})
                curve[point.value] = point.cost
        return found

    def valleys(self) -> list[str]:
        """Return a line for every value whose speed is a fifth or more below both sides'."""
        return [
            f"{axis} {value}, {name}, threads: {n_threads}: {depth:.0%} below {left} and {right}"
            for axis in self.axes
            for (name, n_threads), curve in self.curves(axis).items()
            for value, depth, left, right in valleys(curve)
        ]

    def __str__(self) -> str:
        failures = dict.fromkeys(f"{p.contestant}: {p.failure}" for p in self.points if p.failure)
        low = self.valleys() or ["none"]
        return "\n\n".join(
            [
                heading(self.environment, {}),
                *map(self._table, self.axes),
                "\n  ".join([f"valleys of speed, {DEPTH:.0%} or more:", *low]),
                *failures,
            ]
        )

    def _table(self, axis: str) -> str:
        curves = self.curves(axis)
        names = [f"{name}, {n_threads}" for name, n_threads in curves]
        lines = [
            f"{axis}: picoseconds of a multiply-add (contestant, threads)",
            f"{axis:>9}" + "".join(f"{name:>17}" for name in names),
        ]
        for value in dict.fromkeys(point.value for point in self.points if point.axis == axis):
            cells = [curve.get(value) for curve in curves.values()]
            lines.append(
                f"{value:>9}"
                + "".join(f"{'' if s is None else format(s * 1e12, '.1f'):>17}" for s in cells)
            )
        return "\n".join(lines)

    def plot(self, path: str | Path) -> None:
        """Draw seconds of a multiply-add over each axis; rings mark the valleys of speed.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError("a chart needs matplotlib: pip install 'fastmlp[plot]'") from error
        figure = Figure(figsize=(10, 1 + 3 * -(-len(self.axes) // 2)), layout="constrained")
        panels = figure.subplots(-(-len(self.axes) // 2), 2, sharey=True, squeeze=False).ravel()
        for ax in panels[len(self.axes) :]:
            ax.remove()
        for ax, axis in zip(panels, self.axes, strict=False):
            for (name, n_threads), curve in self.curves(axis).items():
                (line,) = ax.plot(
                    list(curve), list(curve.values()), ".-", label=f"{name}, {n_threads} thr."
                )
                low = [value for value, *_ in valleys(curve)]
                ax.plot(
                    low,
                    [curve[value] for value in low],
                    "o",
                    markersize=12,
                    fillstyle="none",
                    color=line.get_color(),
                )
            ax.set_xscale("log", base=2)
            ax.set_yscale("log")
            ax.set(xlabel=axis, ylabel="seconds of a multiply-add")
            ax.xaxis.set_major_formatter("{x:g}")
            ax.grid(alpha=0.3)
        panels[0].legend()
        figure.suptitle(machine_line(self.environment), fontsize=6, wrap=True)
        write_figure(path, figure)


def valleys(curve: dict[int, float]) -> list[tuple[int, float, int, int]]:
    """Return where speed falls and rises again: the value, how deep, and what it lies between.

    The speed of a value is compared with the lower of the fastest on its left and the fastest on
    its right, as water would stand in a valley.

    Parameters
    ----------
    curve : dict of int to float
        Seconds by value.

    Examples
    --------
    >>> valleys({8: 1.0, 16: 2.0, 32: 1.0, 64: 0.5, 128: 0.55})
    [(16, 0.5, 8, 64)]
    """
    found = []
    values = sorted(curve)
    for i in range(1, len(values) - 1):
        left, right = (min(part, key=lambda v: curve[v]) for part in (values[:i], values[i + 1 :]))
        depth = 1 - max(curve[left], curve[right]) / curve[values[i]]
        if depth >= DEPTH:
            found.append((values[i], depth, left, right))
    return found


def measure_sweep(
    axes: Sequence[str],
    contestants: Sequence[str],
    threads: Sequence[int],
    *,
    values: Sequence[int] = VALUES,
    rounds: int = 5,
    limit: float = LIMIT,
    progress: Callable[[str], None] | None = None,
) -> Sweep:
    """Time epochs over one property of a network after the other.

    Every round goes through all points, so that a busy moment makes no valley of the same point
    in each.

    Parameters
    ----------
    axes : sequence of {"width", "depth", "batch", "features"}
    contestants : sequence of str
        Names, as `contestant_names` lists them.
    threads : sequence of int
        Numbers of threads; every contestant runs with each.
    values : sequence of int, default ``VALUES``
    rounds : int, default 5
    limit : float, default 300
        A contestant that is not ready in so many seconds is given up at that point.
    progress : function of str, optional
        Called with a line of what happens next.

    Returns
    -------
    Sweep
        Ctrl-C ends the measurement, and what was measured so far is returned.

    Raises
    ------
    ValueError
        If a contestant is unknown.

    Examples
    --------
    >>> sweep = measure_sweep(["batch"], ["numpy"], [1], values=[1, 64], rounds=1)
    >>> [point.value for point in sweep.points if point.cost > 0]
    [1, 64]
    """
    for name in contestants:
        contestant(name)
    sweep = Sweep(environment())
    say = progress or (lambda line: None)
    places = [(axis, value) for axis in axes for value in values]
    points = {
        place: [
            Point(*place, name, n, workload_at(*place).flops // 2)
            for n in threads
            for name in contestants
        ]
        for place in places
    }
    sweep.points = [point for field in points.values() for point in field]
    with contextlib.ExitStack() as stack:
        try:
            workers: dict[tuple[str, int], Worker] = {}
            for number in range(rounds):
                for place in places:
                    say(f"{place[0]} {place[1]}: round {number + 1} of {rounds}")
                    _turns(points[place], workload_at(*place), workers, stack, limit)
        except KeyboardInterrupt:
            say("interrupted: what was measured so far is kept")
    return sweep


def _turns(
    field: Sequence[Point],
    workload: Workload,
    workers: dict[tuple[str, int], Worker],
    stack: contextlib.ExitStack,
    limit: float,
) -> None:
    """Let everybody who has not failed here take one turn."""
    with tempfile.TemporaryDirectory() as folder:
        write_samples(workload, Path(folder))
        for point in field:
            if point.failure:
                continue
            who = point.contestant, point.n_threads
            if who not in workers:
                workers[who] = Worker(*who)
                stack.callback(workers[who].close)
            time.sleep(PAUSE)
            try:
                workers[who].prepare(workload, Path(folder), limit)
                point.seconds.append(workers[who].epoch())
            except WorkerError as error:
                point.failure = str(error)
                workers.pop(who).close()
