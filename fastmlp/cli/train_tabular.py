"""`fastmlp train TABLE`: the estimators for tables on a table as it is."""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.cli.files import check_model_file, is_model_file
from fastmlp.cli.options import number, whole_number
from fastmlp.cli.problem import guess_task, table_options, to_classes
from fastmlp.cli.tabular import TASKS_BY_KIND, estimators, series_of
from fastmlp.datasets.cells import DATES_NOTE, Column
from fastmlp.datasets.files import has_polars, needs_polars
from fastmlp.datasets.table import MixedTable, read_mixed_table
from fastmlp.errors import TrainingInterrupted
from fastmlp.history import format_value

Array = NDArray[Any]

#: So many different texts are few in any table.
_FEW_NAMES = 20
_RESULTS = {"classification": "classes", "regression": "values"}


def add_tabular(group: Any) -> None:
    """Add the options of models for tables.

    Parameters
    ----------
    group : ArgumentParser or argument group

    Examples
    --------
    >>> parser = argparse.ArgumentParser()
    >>> add_tabular(parser)
    >>> parser.parse_args(["--members", "4"]).members
    4
    """
    group.add_argument(
        "--members", type=whole_number, metavar="N", help="networks, each without one fold (8)"
    )
    group.add_argument(
        "--time-limit", type=number, metavar="SECONDS", help="fewer epochs where they take longer"
    )
    group.add_argument(
        "--scoring",
        metavar="NAME",
        help="what a network's best epoch is chosen by: accuracy, log_loss, roc_auc, rmse, mae or "
        "another of scikit-learn's scorers (auto)",
    )


def train_table(options: argparse.Namespace) -> None:
    """Train a model for tables as the options of `fastmlp train` say, and print how good it is.

    Parameters
    ----------
    options : argparse.Namespace

    Raises
    ------
    ImportError, OSError, ValueError
        If an option, the data or an installation is wrong.
    TrainingInterrupted
        After Ctrl-C, when everything that was asked for is written.
    """
    _check(options)
    table = read_mixed_table(options.table or options.data, table_options(options))
    task, reason, y = _target(table, options.task)
    notes = [one.replace(DATES_NOTE, "dates") for one in table.notes]
    for note in [*notes, *_many_names(table), reason]:
        _say(note, options)
    X = _frame(table)
    if not options.quiet:
        size = f"{X.shape[0]} rows, {X.shape[1]} columns"
        what = f"{len(np.unique(y))} classes" if task == "classification" else "values"
        print(f"data: {table.source}, {size}, target {table.target} ({what})", flush=True)
    estimator = _estimator(task, table, options)
    started = time.perf_counter()
    interrupted = _fit(estimator, X, y, options)
    seconds = time.perf_counter() - started
    estimator.describe_source(tuple(column.name for column in table.targets), _formats(table))
    try:
        for line in _scores(estimator, y, task):
            print(line)
        print(f"elapsed time: {seconds:.2f} s")
    finally:  # a reader that went away loses no model
        if options.save is not None:
            estimator.save(options.save)
    if interrupted:
        fate = f"{options.save} is written" if options.save else "nothing is saved without --save"
        raise TrainingInterrupted(f"interrupted; {fate}")
    if options.save is not None:
        print(f"{options.save} is written")


def _check(options: argparse.Namespace) -> None:
    """Refuse what would fail in the end before the training."""
    name = options.table or options.data
    if name is None:
        raise ValueError("--recipe tabular wants a table: fastmlp train TABLE")
    if options.save is not None and not is_model_file(options.save):
        raise ValueError(f"--save of a table's model must end in .safetensors, got {options.save}")
    check_model_file(options.save)
    if options.task == "multilabel":
        raise ValueError("--task multilabel is for --recipe network")
    estimators()
    if not has_polars():
        raise needs_polars(f"{name}, as a table of mixed columns")


def _target(table: MixedTable, task: str | None) -> tuple[str, str, Array]:
    """Return the task, why it is that, and the target as an estimator takes it."""
    y, name = table.y, table.target
    reason = ""
    if task is None:
        task, why = guess_task(y, name)
        if task == "multilabel":
            raise ValueError(f"{why}: several labels are for --recipe network")
        reason = f"{why}: {_RESULTS[task]} are predicted"
        if y.ndim == 1 and y.dtype.kind in "iuf" and (y == np.floor(y)).all():
            (other,) = (one for one in _RESULTS if one != task)
            reason += f"; --task {other} would predict {_RESULTS[other]}"
    if task == "classification":
        numbers, classes = to_classes(y, name)
        y = classes[numbers]
    return task, reason, y


def _many_names(table: MixedTable) -> list[str]:
    """Return notes on columns of text that hardly repeat, such as names of rows."""
    notes = []
    for column in table.features:
        if isinstance(column, Column) and column.is_text and column.name not in table.categorical:
            n_texts, n_rows = len(np.unique(column.values)), len(column.values)
            if n_texts > max(_FEW_NAMES, n_rows / 2):
                notes.append(
                    f"column {column.name!r} holds {n_texts} different texts in {n_rows} rows; "
                    "--drop leaves it out"
                )
    return notes


def _frame(table: MixedTable) -> Any:
    import polars as pl

    return pl.DataFrame(
        [
            series_of(one, is_date=one.is_date) if isinstance(one, Column) else one
            for one in table.features
        ]
    )


def _formats(table: MixedTable) -> dict[str, str]:
    formats = {one.name: getattr(one, "date_format", None) for one in table.features}
    return {name: form for name, form in formats.items() if form is not None}


def _estimator(task: str, table: MixedTable, options: argparse.Namespace) -> Any:
    (kind,) = (kind for kind, of in TASKS_BY_KIND.items() if of == task)
    given = {
        "n_members": options.members,
        "n_epochs": options.epochs,
        "time_limit": options.time_limit,
        "scoring": options.scoring,
        "n_threads": options.threads,
        "categorical_features": table.categorical or None,
    }
    return estimators()[kind](
        **{name: value for name, value in given.items() if value is not None},
        random_state=options.seed,
        backend=options.backend,
        verbose=not options.quiet,
    )


def _fit(estimator: Any, X: Any, y: Array, options: argparse.Namespace) -> bool:
    """Train, and return whether Ctrl-C ended that."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator.fit(X, y)
    interrupted = False
    for warning in caught:
        interrupted |= issubclass(warning.category, TrainingInterrupted)
        _say(str(warning.message), options)
    return interrupted


def _scores(estimator: Any, y: Array, task: str) -> list[str]:
    """Return what the folds say: of every score the mean, and how far folds lie apart."""
    is_classes = task == "classification"
    predicted = estimator.oof_probabilities_ if is_classes else estimator.oof_predictions_
    truth = np.searchsorted(estimator.classes_, y) if is_classes else y.astype(np.float64)
    functions: dict[str, Callable[[Array, Array], float]] = (
        {"accuracy": _accuracy, "log loss": _log_loss} if is_classes else {"r2": _r2, "rmse": _rmse}
    )
    folds = [rows for rows in estimator.ensemble_.held_out if len(rows)]
    lines = []
    for name, function in functions.items():
        each = np.array([function(truth[rows], predicted[rows]) for rows in folds])
        spread = f" ± {format_value(name, float(each.std()))}" if len(each) > 1 else ""
        mean = format_value(name, float(each.mean()))
        lines.append(f"out-of-fold {name}: {mean}{spread} ({len(each)} fold{'s'[: len(each) > 1]})")
    return lines


def _accuracy(classes: Array, probabilities: Array) -> float:
    return float((probabilities.argmax(axis=1) == classes).mean())


def _log_loss(classes: Array, probabilities: Array) -> float:
    own = probabilities[np.arange(len(classes)), classes].astype(np.float64)
    return float(-np.log(np.maximum(own, np.finfo(np.float32).tiny)).mean())


def _r2(values: Array, predictions: Array) -> float:
    from sklearn.metrics import r2_score

    return float(r2_score(values, predictions)) if len(values) > 1 else float("nan")


def _rmse(values: Array, predictions: Array) -> float:
    return float(np.sqrt(np.square(values - predictions).mean()))


def _say(note: str, options: argparse.Namespace) -> None:
    if note and not options.quiet:
        print(f"fastmlp: {note}", file=sys.stderr, flush=True)
