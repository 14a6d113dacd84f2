"""`fastmlp bench`: measure training time here."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastmlp.backends import available_backends
from fastmlp.benchmark import (
    WORKLOADS,
    Workload,
    contestant_names,
    measure,
    measure_predictions,
)
from fastmlp.benchmark.contestants import PEERS
from fastmlp.benchmark.environment import usable_cores
from fastmlp.benchmark.predictions import N_ROWS
from fastmlp.benchmark.startup import start_times
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
        "that are installed, in turns, and how far they are from this machine's limit. "
        "MNIST is read if FASTMLP_DATA names its folder, else similar images are generated.",
    )
    parser.set_defaults(run=bench)
    parser.add_argument(
        "--workloads",
        nargs="+",
        default=list(SHORT),
        choices=[*WORKLOADS, "all"],
        metavar="NAME",
        help=f"all, or some of {', '.join(WORKLOADS)} ({' '.join(SHORT)})",
    )
    parser.add_argument(
        "--contestants",
        nargs="+",
        choices=[*contestant_names(), "all"],
        metavar="NAME",
        help=f"all, or some of {', '.join(contestant_names())} (the backends, and of "
        f"{', '.join(_USUAL_PEERS)} those that are installed)",
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
    parser.add_argument(
        "--predict",
        type=whole_number,
        nargs="*",
        metavar="ROWS",
        help=f"measure predictions instead, of so many rows at once ({' '.join(map(str, N_ROWS))})",
    )
    parser.add_argument(
        "--compile", action="store_true", help="measure compiling from an empty cache, too"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a bar chart (.png, .svg)")


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
    threads = sorted(set(options.threads or [1, usable_cores()]))
    if threads[0] < 1 or threads[-1] > usable_cores():
        raise ValueError(f"--threads must be 1 to {usable_cores()} here, got {threads}")
    wanted = list(WORKLOADS) if "all" in options.workloads else options.workloads
    names = contestant_names()
    if options.contestants is None:
        names = [*_usable_backends(), *(n for n in _USUAL_PEERS if _is_installed(n))]
    elif "all" not in options.contestants:
        names = options.contestants
    workloads = [WORKLOADS[name] for name in wanted]
    if options.predict is not None:
        _predictions(options, workloads, names, threads)
        return
    report = measure(
        workloads,
        names,
        threads,
        rounds=options.rounds,
        seconds=options.seconds,
        limit=options.limit,
        progress=_say,
    )
    backends = [name for name in names if name in _usable_backends()]
    report.start = start_times(backends, cold=options.compile)
    print(report)
    if options.json is not None:
        report.save(options.json)
        print(f"\nfigures written to {options.json}")
    if options.plot is not None:
        report.plot(options.plot)
        print(f"\nchart written to {options.plot}")


def _predictions(
    options: argparse.Namespace,
    workloads: Sequence[Workload],
    names: Sequence[str],
    threads: Sequence[int],
) -> None:
    n_rows = options.predict or N_ROWS
    if min(n_rows) < 1:
        raise ValueError(f"--predict must be at least 1, got {min(n_rows)}")
    for name in ("compile", "plot"):
        if getattr(options, name):
            raise ValueError(f"--{name} goes with training, not with --predict")
    found = measure_predictions(
        workloads,
        names,
        threads,
        n_rows=n_rows,
        rounds=options.rounds,
        limit=options.limit,
        progress=_say,
    )
    print(found)
    if options.json is not None:
        found.save(options.json)
        print(f"\nfigures written to {options.json}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


#: Peers that `fastmlp bench` runs where they are installed; others take long to get ready.
_USUAL_PEERS = ("scikit-learn", "pytorch", "jax-scan")


def _usable_backends() -> list[str]:
    return [name for name, reason in available_backends().items() if reason is None]


def _is_installed(peer: str) -> bool:
    return all(importlib.util.find_spec(package) for package in PEERS[peer].packages)
