"""`fastmlp bench`: measure training time here."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastmlp._cores import allowed_cores
from fastmlp.backends import available_backends, get_backend
from fastmlp.benchmark import (
    WORKLOADS,
    Fits,
    Predictions,
    Report,
    Sweep,
    Workload,
    contestant_names,
    measure,
    measure_fits,
    measure_predictions,
    measure_sweep,
)
from fastmlp.benchmark.contestants import PEERS
from fastmlp.benchmark.environment import machine_name
from fastmlp.benchmark.fits import ACCURACY, MOST_EPOCHS, usual_workload
from fastmlp.benchmark.predictions import N_ROWS
from fastmlp.benchmark.startup import start_times
from fastmlp.benchmark.sweep import AXES, VALUES
from fastmlp.benchmark.workloads import SHORT
from fastmlp.cli.files import check_folder
from fastmlp.cli.options import number, whole_number


def add_bench(commands: Any) -> None:
    """Add the command `bench`.

    Parameters
    ----------
    commands : subparsers action of argparse
        What `ArgumentParser.add_subparsers` returns.

    Examples
    --------
    >>> parser = argparse.ArgumentParser()
    >>> add_bench(parser.add_subparsers())
    >>> parser.parse_args(["bench", "--rounds", "3"]).rounds
    3
    """
    parser = commands.add_parser(
        "bench",
        help="measure training time here, against the libraries that are installed",
        description="Measure seconds per training epoch of every backend and of the libraries "
        "that are installed, in turns, and how far they are from this machine's limit; or "
        "predictions, whole fits, or what a multiply-add costs. "
        "MNIST is read if FASTMLP_DATA names its folder, else similar images are generated.",
    )
    parser.set_defaults(run=bench)
    parser.add_argument(
        "--workloads",
        nargs="+",
        choices=[*WORKLOADS, "all"],
        metavar="NAME",
        help=f"all, or some of {', '.join(WORKLOADS)} ({' '.join(SHORT)}; with --accuracy "
        "first-adam on MNIST, or digits)",
    )
    parser.add_argument(
        "--contestants",
        nargs="+",
        choices=[*contestant_names(), "all"],
        metavar="NAME",
        help=f"all, or some of {', '.join(contestant_names())} (the backends, and of "
        f"{', '.join(_USUAL_PEERS)} those that are installed; with --sweep the fastest backend)",
    )
    parser.add_argument(
        "--threads",
        type=whole_number,
        nargs="+",
        metavar="N",
        help="(one, and as many as there are cores)",
    )
    parser.add_argument(
        "--rounds", type=whole_number, default=5, metavar="N", help="epochs of each (%(default)s)"
    )
    parser.add_argument(
        "--seconds",
        type=number,
        default=60,
        metavar="S",
        help="begin no new round after this time, shared by the workloads (%(default)s)",
    )
    parser.add_argument(
        "--limit",
        type=number,
        default=60,
        metavar="S",
        help="give up who takes longer to import, compile and train an epoch (%(default)s)",
    )
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument(
        "--predict",
        type=whole_number,
        nargs="*",
        metavar="ROWS",
        help=f"measure predictions instead, of so many rows at once ({' '.join(map(str, N_ROWS))})",
    )
    kinds.add_argument(
        "--accuracy",
        type=number,
        nargs="?",
        const=ACCURACY,
        metavar="SHARE",
        help="measure whole fits instead, in seconds and CPU-seconds, until this share of the test "
        f"rows is right ({ACCURACY})",
    )
    kinds.add_argument(
        "--sweep",
        nargs="*",
        choices=AXES,
        metavar="AXIS",
        help="measure what a multiply-add costs instead, as networks grow from 1 to 4096 in "
        f"{', '.join(AXES)} (all)",
    )
    parser.add_argument(
        "--compile", action="store_true", help="measure compiling from an empty cache, too"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one round of a few rows and steps: to see that all works, not for figures",
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write all figures; in a folder, to a file with the name of this machine",
    )
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE",
        help="write a chart, of epochs or of a sweep (.png, .svg)",
    )


def bench(options: argparse.Namespace) -> None:
    """Measure as the options of `fastmlp bench` say, and print tables.

    Parameters
    ----------
    options : argparse.Namespace
        The options that `add_bench` defines.

    Raises
    ------
    ImportError, OSError, ValueError
        If an option or an installation is wrong.

    Examples
    --------
    >>> parser = argparse.ArgumentParser()
    >>> add_bench(parser.add_subparsers())
    >>> bench(parser.parse_args(["bench", "--workloads", "width-8", "--contestants", "numpy",
    ...                          "--threads", "1", "--rounds", "1"]))
    date ...
    """
    check_folder("--json", options.json)
    check_folder("--plot", options.plot)
    if options.plot is not None and importlib.util.find_spec("matplotlib") is None:
        raise ImportError("--plot needs matplotlib: pip install 'fastmlp[plot]'")
    for name in ("rounds", "seconds", "limit"):
        if not getattr(options, name) > 0:
            raise ValueError(f"--{name} must be above 0, got {getattr(options, name)}")
    threads = sorted(set(options.threads or [1, allowed_cores()]))
    if threads[0] < 1 or threads[-1] > allowed_cores():
        raise ValueError(f"--threads must be 1 to {allowed_cores()} here, got {threads}")
    options.threads = threads
    if options.quick:
        options.rounds = 1
    kind, measurement = _kind(options)
    for name, kinds in (("compile", ["epochs"]), ("plot", ["epochs", "sweep"])):
        if getattr(options, name) and kind not in kinds:
            raise ValueError(f"--{name} goes with training, not with --{kind}")
    if kind == "sweep" and options.workloads:
        raise ValueError("--sweep has networks of its own: leave out --workloads")
    found = measurement(options)
    print(found)
    if options.json is not None:
        path = options.json / f"{machine_name()}.json" if options.json.is_dir() else options.json
        found.save(path)
        print(f"\nfigures written to {path}")
    if options.plot is not None and isinstance(found, Report | Sweep):
        found.plot(options.plot)
        print(f"\nchart written to {options.plot}")


def _kind(
    options: argparse.Namespace,
) -> tuple[str, Callable[[argparse.Namespace], Report | Predictions | Fits | Sweep]]:
    """Return what is to be measured, and by which function."""
    if options.predict is not None:
        return "predict", _predictions
    if options.accuracy is not None:
        return "accuracy", _fits
    if options.sweep is not None:
        return "sweep", _sweep
    return "epochs", _epochs


def _epochs(options: argparse.Namespace) -> Report:
    names = _contestants(options)
    report = measure(
        _workloads(options, SHORT),
        names,
        options.threads,
        rounds=options.rounds,
        seconds=options.seconds,
        limit=options.limit,
        progress=_say,
    )
    backends = [name for name in names if name in _usable_backends()]
    report.start = start_times(backends, cold=options.compile)
    return report


def _predictions(options: argparse.Namespace) -> Predictions:
    n_rows = options.predict or (N_ROWS[:3] if options.quick else N_ROWS)
    if min(n_rows) < 1:
        raise ValueError(f"--predict must be at least 1, got {min(n_rows)}")
    return measure_predictions(
        _workloads(options, SHORT),
        _contestants(options),
        options.threads,
        n_rows=n_rows,
        rounds=options.rounds,
        limit=options.limit,
        progress=_say,
    )


def _fits(options: argparse.Namespace) -> Fits:
    if not 0 < options.accuracy <= 1:
        raise ValueError(f"--accuracy must be above 0 and at most 1, got {options.accuracy}")
    return measure_fits(
        _workloads(options, [usual_workload().name]),
        _contestants(options),
        options.threads,
        accuracy=options.accuracy,
        most_epochs=2 if options.quick else MOST_EPOCHS,
        rounds=options.rounds,
        limit=options.limit,
        progress=_say,
    )


def _sweep(options: argparse.Namespace) -> Sweep:
    return measure_sweep(
        options.sweep or AXES,
        _contestants(options, usual=[get_backend("auto").name]),
        options.threads,
        values=VALUES[:5] if options.quick else VALUES,
        rounds=options.rounds,
        limit=options.limit,
        progress=_say,
    )


def _workloads(options: argparse.Namespace, usual: Sequence[str]) -> list[Workload]:
    names = options.workloads or usual
    chosen = [WORKLOADS[name] for name in (WORKLOADS if "all" in names else names)]
    if not options.quick:
        return chosen
    return [replace(w, n_samples=min(w.n_samples, 4 * w.batch_size)) for w in chosen]


def _contestants(options: argparse.Namespace, usual: Sequence[str] | None = None) -> Sequence[str]:
    if options.contestants is None:
        return usual or [*_usable_backends(), *(n for n in _USUAL_PEERS if _is_installed(n))]
    return contestant_names() if "all" in options.contestants else options.contestants


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


#: Peers that `fastmlp bench` runs where they are installed; others take long to get ready.
_USUAL_PEERS = ("scikit-learn", "pytorch", "jax-scan", "tensorflow", "keras")


def _usable_backends() -> list[str]:
    return [name for name, reason in available_backends().items() if reason is None]


def _is_installed(peer: str) -> bool:
    return PEERS[peer]().missing() is None
