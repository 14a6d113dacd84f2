"""The command line: `fastmlp train`, `fastmlp info`, `fastmlp warmup`, `fastmlp bench`."""

from __future__ import annotations

import argparse
import importlib.util
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastmlp
from fastmlp.activations import ACTIVATIONS, OUTPUT_ACTIVATIONS
from fastmlp.backends import available_backends, get_backend
from fastmlp.benchmark import WORKLOADS, contestant_names, measure
from fastmlp.benchmark.contestants import PEERS
from fastmlp.benchmark.environment import usable_cores
from fastmlp.benchmark.startup import start_times
from fastmlp.benchmark.workloads import SHORT
from fastmlp.datasets import load_digits, load_fashion_mnist, load_mnist
from fastmlp.datasets.idx import Split
from fastmlp.datasets.table import read_table
from fastmlp.errors import DivergenceError
from fastmlp.history import History
from fastmlp.losses import LOSSES
from fastmlp.network import MLP
from fastmlp.optimizers import OPTIMIZERS, Optimizer
from fastmlp.trainer import Trainer

DATA_SETS: dict[str, Callable[[], Split]] = {
    "digits": load_digits,
    "mnist": load_mnist,
    "fashion-mnist": load_fashion_mnist,
}

SHOWN_CLASSES = 10
# What a shell reports for a process that Ctrl-C ended.
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        The words after `fastmlp`, by default those that the process was started with.

    Returns
    -------
    int
        The exit code: 0; 1 if the training diverged; 2 if an option, the data or an installation
        is wrong; 130 if Ctrl-C ended the command outside of the training.

    Raises
    ------
    SystemExit
        After `--help` and `--version` (code 0), and if an option is unknown (code 2).

    Examples
    --------
    >>> main(["train", "--epochs", "1", "--layers", "16", "--backend", "numpy"])
    data: digits, 1442 training and 355 test samples, 64 features, 10 classes (0, 1, ...)
    MLP([64, 16, 10], ...)
    Epoch 1/1 ...
    test loss: ...
    test accuracy: ...
    elapsed time: ... s
    0
    """
    parser = argparse.ArgumentParser(
        prog="fastmlp", description="Train multilayer perceptrons on the CPU, fast."
    )
    parser.add_argument("--version", action="version", version=f"fastmlp {fastmlp.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_train(commands)
    add_info(commands)
    add_warmup(commands)
    add_bench(commands)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (DivergenceError, ImportError, OSError, ValueError) as error:
        print(f"fastmlp: error: {error}", file=sys.stderr)
        return 1 if isinstance(error, DivergenceError) else 2
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def add_train(commands: Any) -> None:
    """Add the command `train`.

    Parameters
    ----------
    commands : subparsers action of argparse
        What `ArgumentParser.add_subparsers` returns.

    Examples
    --------
    >>> parser = argparse.ArgumentParser()
    >>> add_train(parser.add_subparsers())
    >>> parser.parse_args(["train", "--layers", "32", "16"]).layers
    [32, 16]
    """
    parser = commands.add_parser(
        "train",
        help="train a network on a data set or a file",
        description="Train a network and print its accuracy (or loss) on held-out test data. "
        "With no options it learns the bundled handwritten digits in seconds.",
    )
    parser.set_defaults(run=train)

    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        default="digits",
        metavar="NAME_OR_FILE",
        help=f"{', '.join(DATA_SETS)}, or a .csv or .npz file (%(default)s)",
    )
    data.add_argument(
        "--target",
        metavar="COLUMN",
        help="name or index of a CSV file's target column (by default the last), or name of an "
        "NPZ file's target array (by default y; the features are X)",
    )
    data.add_argument(
        "--task",
        choices=["classification", "regression"],
        help="by default classification if the target is whole numbers or text, else regression",
    )
    data.add_argument(
        "--test-fraction",
        type=float,
        default=0.2,
        metavar="SHARE",
        help="share of a file that is held out (%(default)s)",
    )
    data.add_argument(
        "--standardize",
        action="store_true",
        help="shift and scale every feature to mean 0 and deviation 1 over the training data",
    )

    network = parser.add_argument_group("network")
    network.add_argument(
        "--layers",
        type=int,
        nargs="*",
        default=[128],
        metavar="WIDTH",
        help="hidden layers' widths (128)",
    )
    network.add_argument(
        "--hidden-activation",
        nargs="+",
        default=["relu"],
        choices=list(ACTIVATIONS),
        metavar="NAME",
        help=f"one for all hidden layers, or one per layer: {', '.join(ACTIVATIONS)} (relu)",
    )
    network.add_argument(
        "--output-activation",
        choices=list(OUTPUT_ACTIVATIONS),
        help="by default softmax for classification, linear for regression",
    )
    network.add_argument(
        "--dtype", choices=["float32", "float64"], default="float32", help="precision (%(default)s)"
    )

    training = parser.add_argument_group("training")
    training.add_argument(
        "--loss",
        choices=list(LOSSES),
        help="by default what suits the output: cross_entropy, mse or poisson",
    )
    training.add_argument(
        "--optimizer", choices=list(OPTIMIZERS), default="adam", help="(%(default)s)"
    )
    training.add_argument(
        "--learning-rate", type=float, metavar="RATE", help="by default the optimizer's own"
    )
    training.add_argument(
        "--batch-size", type=int, default=32, metavar="N", help="samples per step (%(default)s)"
    )
    training.add_argument(
        "--epochs", type=int, default=20, metavar="N", help="passes over the data (%(default)s)"
    )
    training.add_argument(
        "--backend",
        default="auto",
        metavar="NAME",
        help="auto, or a name that `fastmlp info` lists (%(default)s)",
    )
    training.add_argument("--threads", type=int, metavar="N", help="by default the backend chooses")
    training.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="of weights, order and held-out share (%(default)s)",
    )
    training.add_argument(
        "--history", type=Path, metavar="FILE", help="write the epochs to a .csv, or plot to a .png"
    )


def train(options: argparse.Namespace) -> None:
    """Train a network as the options of `fastmlp train` say, and print how well it does.

    Parameters
    ----------
    options : argparse.Namespace
        The options that `add_train` defines.

    Raises
    ------
    ImportError, OSError, ValueError
        If an option, the data or an installation is wrong.

    Examples
    --------
    >>> parser = argparse.ArgumentParser()
    >>> add_train(parser.add_subparsers())
    >>> train(parser.parse_args(["train", "--epochs", "1", "--backend", "numpy"]))
    data: ...
    """
    _check_history_file(options.history)
    data = _load_data(options)
    classifies = data.classes is not None
    network = MLP(
        [data.X_train.shape[1], *options.layers, data.n_outputs],
        hidden_activation=_one_or_several(options.hidden_activation),
        output_activation=options.output_activation or ("softmax" if classifies else "linear"),
        dtype=options.dtype,
        seed=options.seed,
    )
    trainer = Trainer(
        network,
        loss=options.loss,
        optimizer=_choose_optimizer(options.optimizer, options.learning_rate),
        batch_size=options.batch_size,
        backend=options.backend,
        n_threads=options.threads,
        seed=options.seed,
    )
    print(data)
    print(network)
    started = time.perf_counter()
    history = trainer.fit(
        data.X_train,
        data.y_train,
        epochs=options.epochs,
        validation_data=(data.X_test, data.y_test),
    )
    elapsed = time.perf_counter() - started
    for name, value in trainer.evaluate(data.X_test, data.y_test).items():
        print(f"test {name}: {value:.4f}")
    print(f"elapsed time: {elapsed:.2f} s")
    if options.history:
        _save_history(history, options.history)
        print(f"history written to {options.history}")


def add_info(commands: Any) -> None:
    """Add the command `info`.

    Parameters
    ----------
    commands : subparsers action of argparse
        What `ArgumentParser.add_subparsers` returns.

    Examples
    --------
    >>> parser = argparse.ArgumentParser()
    >>> add_info(parser.add_subparsers())
    >>> parser.parse_args(["info"]).run.__name__
    'info'
    """
    parser = commands.add_parser(
        "info",
        help="print versions and backends",
        description="Print the versions in use, the backends available, and why others are not.",
    )
    parser.add_argument(
        "--peak", action="store_true", help="also measure the most multiply-adds a core can do"
    )
    parser.set_defaults(run=info)


def info(options: argparse.Namespace) -> None:
    """Print the versions in use and the backends, with the reason where one is missing.

    Parameters
    ----------
    options : argparse.Namespace
        The options that `add_info` defines.

    Examples
    --------
    >>> info(argparse.Namespace(peak=False))
    fastmlp ...
    """
    rows = [
        ("fastmlp", fastmlp.__version__),
        ("Python", f"{platform.python_version()} ({platform.system()} {platform.machine()})"),
        ("NumPy", np.__version__),
    ]
    for name, reason in available_backends().items():
        status = "available" if reason is None else f"not available: {reason}"
        rows.append((f"backend {name}", status))
        if name == "numba" and reason is None:
            rows.extend(_numba_facts(options.peak))
    for name, value in rows:
        print(f"{name:<15} {value}")


def _numba_facts(peak: bool) -> list[tuple[str, str]]:
    """Return what the Numba backend finds on this machine, for `fastmlp info`."""
    from fastmlp.backends.numba_backend.machine import VECTORS
    from fastmlp.backends.numba_backend.peak import measure_peak
    from fastmlp.backends.numba_backend.threads import usable_cores

    facts = [
        ("SIMD", str(VECTORS)),
        ("tile height", f"{VECTORS.tile_rows} rows"),
        ("threads", str(usable_cores())),
        ("cache folder", _cache_place()),
    ]
    if peak:
        facts += [
            (f"peak {dtype}", f"{measure_peak(dtype) / 1e9:.1f} GFLOP/s on one core")
            for dtype in ("float32", "float64")
        ]
    return facts


def _cache_place() -> str:
    from fastmlp.backends.numba_backend.compiled import cache_folder

    try:
        return str(cache_folder())
    except OSError as error:
        return f"none: {error}"


def add_warmup(commands: Any) -> None:
    """Add the command `warmup`.

    Parameters
    ----------
    commands : subparsers action of argparse
        What `ArgumentParser.add_subparsers` returns.

    Examples
    --------
    >>> parser = argparse.ArgumentParser()
    >>> add_warmup(parser.add_subparsers())
    >>> parser.parse_args(["warmup"]).run.__name__
    'warmup'
    """
    parser = commands.add_parser(
        "warmup",
        help="compile the Numba backend's kernels ahead of their first use",
        description="Compile the kernels that training and prediction use, in both precisions, "
        "into the cache folder. What is there already is only loaded.",
    )
    parser.set_defaults(run=warmup)


def warmup(options: argparse.Namespace) -> None:
    """Compile the Numba backend's programs, or load them from the cache.

    Parameters
    ----------
    options : argparse.Namespace
        `fastmlp warmup` has no options.

    Raises
    ------
    ImportError
        If Numba is not installed.

    Examples
    --------
    >>> warmup(argparse.Namespace())
    float32 train    ... s
    ...
    """
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    get_backend("numba")
    started = time.perf_counter()
    dtypes = ("float32", "float64")
    # Numba compiles one function at a time in a process.
    with ProcessPoolExecutor(len(dtypes), mp_context=get_context("spawn")) as pool:
        done = list(pool.map(_compile_programs, dtypes))
        for dtype, (times, _) in zip(dtypes, done, strict=True):
            for program, seconds in times.items():
                print(f"{dtype} {program:<8} {seconds:6.2f} s", flush=True)
    reason = next((reason for _, reason in done if reason is not None), None)
    if reason is not None:
        print(f"compiled, but nothing was kept: {reason}")
        return
    print(f"ready in {time.perf_counter() - started:.2f} s; cache folder {_cache_place()}")


def _compile_programs(dtype: str) -> tuple[dict[str, float], str | None]:
    """Compile or load the programs for a dtype; return their seconds, and why none were kept."""
    from fastmlp.backends.numba_backend.compiled import compiled, why_not_kept

    times = {}
    for program in ("train", "apply", "predict", "row"):
        before = time.perf_counter()
        compiled(program, np.dtype(dtype))
        times[program] = time.perf_counter() - before
    return times, why_not_kept()


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
        "--threads", type=int, nargs="+", metavar="N", help="(one, and as many as there are cores)"
    )
    parser.add_argument(
        "--rounds", type=int, default=5, metavar="N", help="epochs of each (%(default)s)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=60,
        metavar="S",
        help="begin no new round after this time, shared by the workloads (%(default)s)",
    )
    parser.add_argument(
        "--limit",
        type=float,
        default=60,
        metavar="S",
        help="give up who takes longer to import, compile and train an epoch (%(default)s)",
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
    _check_folder("--json", options.json)
    _check_folder("--plot", options.plot)
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
    report = measure(
        [WORKLOADS[name] for name in wanted],
        names,
        threads,
        rounds=options.rounds,
        seconds=options.seconds,
        limit=options.limit,
        progress=lambda line: print(line, file=sys.stderr, flush=True),
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


#: Peers that `fastmlp bench` runs where they are installed; others take long to get ready.
_USUAL_PEERS = ("scikit-learn", "pytorch", "jax")


def _usable_backends() -> list[str]:
    return [name for name, reason in available_backends().items() if reason is None]


def _is_installed(peer: str) -> bool:
    return all(importlib.util.find_spec(package) for package in PEERS[peer].packages)


def _check_folder(option: str, path: Path | None) -> None:
    if path is not None and not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"{option}: the folder {path.absolute().parent} does not exist")


@dataclass(frozen=True)
class _Data:
    """Training and test data as the trainer takes them."""

    name: str
    X_train: NDArray[Any]
    y_train: NDArray[Any]
    X_test: NDArray[Any]
    y_test: NDArray[Any]
    classes: NDArray[Any] | None

    @property
    def n_outputs(self) -> int:
        if self.classes is not None:
            return len(self.classes)
        return 1 if self.y_train.ndim == 1 else int(self.y_train.shape[1])

    def __str__(self) -> str:
        sizes = f"{len(self.X_train)} training and {len(self.X_test)} test samples"
        if self.classes is None:
            target = f"{self.n_outputs} target{'s' if self.n_outputs > 1 else ''}"
        else:
            shown = ", ".join(str(label) for label in self.classes[:SHOWN_CLASSES])
            more = ", ..." if len(self.classes) > SHOWN_CLASSES else ""
            target = f"{len(self.classes)} classes ({shown}{more})"
        return f"data: {self.name}, {sizes}, {self.X_train.shape[1]} features, {target}"


def _load_data(options: argparse.Namespace) -> _Data:
    if options.data in DATA_SETS:
        if options.target is not None:
            raise ValueError(f"--target is for files; {options.data!r} has its own target")
        (X_train, y_train), (X_test, y_test) = DATA_SETS[options.data]()
    elif Path(options.data).suffix.lower() in (".csv", ".npz"):
        X, y = read_table(options.data, options.target)
        train_rows, test_rows = _split(len(X), options.test_fraction, options.seed)
        X_train, y_train, X_test, y_test = X[train_rows], y[train_rows], X[test_rows], y[test_rows]
    else:
        raise ValueError(
            f"unknown data {options.data!r}; choose {', '.join(DATA_SETS)}, or a .csv or .npz file"
        )
    if options.standardize:
        mean, deviation = X_train.mean(axis=0), X_train.std(axis=0)
        deviation[deviation == 0] = 1
        X_train, X_test = (X_train - mean) / deviation, (X_test - mean) / deviation
    y_train, y_test, classes = _encode_targets(y_train, y_test, options)
    X_train, X_test = X_train.astype(options.dtype), X_test.astype(options.dtype)
    return _Data(options.data, X_train, y_train, X_test, y_test, classes)


def _split(n_samples: int, test_fraction: float, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    n_test = round(n_samples * test_fraction)
    if not 0 < n_test < n_samples:
        raise ValueError(
            f"--test-fraction must leave samples for training and for test, got {test_fraction} "
            f"of {n_samples} samples"
        )
    rows = np.random.default_rng(seed).permutation(n_samples)
    return rows[n_test:], rows[:n_test]


def _encode_targets(
    y_train: NDArray[Any], y_test: NDArray[Any], options: argparse.Namespace
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]:
    """Return both targets as the network wants them, and the classes where there are any."""
    task = options.task or ("regression" if y_train.dtype.kind == "f" else "classification")
    if task == "classification":
        if y_train.ndim != 1:
            raise ValueError(
                f"classes must be one column, got a target of shape {y_train.shape}; "
                "use --task regression for several columns"
            )
        classes, codes = np.unique(np.concatenate([y_train, y_test]), return_inverse=True)
        if options.output_activation not in (None, "softmax"):
            codes = np.eye(len(classes), dtype=options.dtype)[codes]
        return codes[: len(y_train)], codes[len(y_train) :], classes
    if y_train.dtype.kind not in "biuf":
        raise ValueError(f"regression needs a numeric target, got text such as {str(y_train[0])!r}")
    return y_train.astype(options.dtype), y_test.astype(options.dtype), None


def _one_or_several(names: list[str]) -> str | list[str]:
    return names[0] if len(names) == 1 else names


def _choose_optimizer(name: str, learning_rate: float | None) -> Optimizer:
    optimizer = OPTIMIZERS[name]
    return optimizer if learning_rate is None else replace(optimizer, learning_rate=learning_rate)


def _check_history_file(path: Path | None) -> None:
    """Refuse what could not be written, before the training rather than after it."""
    if path is None:
        return
    if path.suffix.lower() not in (".csv", ".png"):
        raise ValueError(f"--history must end in .csv or .png, got {str(path)!r}")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"--history: the folder {path.absolute().parent} does not exist")
    if path.suffix.lower() == ".png" and importlib.util.find_spec("matplotlib") is None:
        raise ImportError("--history FILE.png needs matplotlib: pip install 'fastmlp[plot]'")


def _save_history(history: History, path: Path) -> None:
    if path.suffix.lower() == ".csv":
        history.to_csv(path)
    else:
        history.plot(path)
