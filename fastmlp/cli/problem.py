"""From a data set or a table to what a network learns: the task, the split, and the units."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.cli.reading import reading_options
from fastmlp.datasets import load_digits, load_fashion_mnist, load_mnist
from fastmlp.datasets.files import ARRAYS, COLUMNAR, TEXT
from fastmlp.datasets.idx import Split
from fastmlp.datasets.table import Table, TableOptions, read_table
from fastmlp.preprocessing import Feature, Preprocessing

Array = NDArray[Any]

DATA_SETS: dict[str, Callable[[], Split]] = {
    "digits": load_digits,
    "mnist": load_mnist,
    "fashion-mnist": load_fashion_mnist,
}

SHOWN_CLASSES = 10
#: Whole numbers are guessed to be classes up to so many, if each occurs so often on average.
MOST_CLASSES = 100
LEAST_ROWS_PER_CLASS = 3
#: Features beyond this are hard to learn as they are.
LARGE = 50


@dataclass(frozen=True)
class Problem:
    """Data as the trainer takes it, and what it means.

    Parameters
    ----------
    name : str
    task : str
        One of `TASKS`.
    X_train, y_train, X_test, y_test : ndarray
        The features standardized if that is asked for; classes as numbers from 0; regression
        targets in their own unit.
    classes : ndarray or None
    notes : list of str
        What was guessed, and why.
    preprocessing : Preprocessing or None
        What was done to the rows, for others to be treated alike.

    Examples
    --------
    >>> X, y = np.ones((2, 1)), np.array([0, 1])
    >>> print(Problem("two", "classification", X, y, X, y, np.array(["a", "b"])))
    data: two, 2 training and 2 test samples, 1 features, 2 classes (a, b)
    """

    name: str
    task: str
    X_train: Array
    y_train: Array
    X_test: Array
    y_test: Array
    classes: Array | None = None
    notes: list[str] = field(default_factory=list)
    preprocessing: Preprocessing | None = None

    @property
    def label_names(self) -> list[Any] | None:
        """What the outputs stand for, where that has names."""
        if self.classes is not None:
            return list(self.classes.tolist())
        names = [] if self.preprocessing is None else list(self.preprocessing.target)
        return names if len(set(names)) == self.n_outputs else None

    @property
    def n_outputs(self) -> int:
        """How many outputs the network needs."""
        if self.classes is not None:
            return len(self.classes)
        return 1 if self.y_train.ndim == 1 else int(self.y_train.shape[1])

    def __str__(self) -> str:
        sizes = f"{len(self.X_train)} training and {len(self.X_test)} test samples"
        if self.classes is None:
            what = "label" if self.task == "multilabel" else "target"
            target = f"{self.n_outputs} {what}{'s' if self.n_outputs > 1 else ''}"
        else:
            shown = ", ".join(str(label) for label in self.classes[:SHOWN_CLASSES])
            more = ", ..." if len(self.classes) > SHOWN_CLASSES else ""
            target = f"{len(self.classes)} classes ({shown}{more})"
        return f"data: {self.name}, {sizes}, {self.X_train.shape[1]} features, {target}"


def load_problem(options: argparse.Namespace) -> Problem:
    """Return what the options of `fastmlp train` ask to learn.

    Parameters
    ----------
    options : argparse.Namespace

    Raises
    ------
    ImportError, OSError, ValueError
        If an option, the data or an installation is wrong.
    """
    if options.data in DATA_SETS:
        if options.target:
            raise ValueError(f"--target is for files; {options.data!r} has its own target")
        (X_train, y_train), (X_test, y_test) = DATA_SETS[options.data]()
        task = options.task or "classification"
        if task == "classification":
            classes = np.unique(y_train)
            problem = Problem(options.data, task, X_train, y_train, X_test, y_test, classes)
        else:
            problem = Problem(options.data, task, X_train, y_train, X_test, y_test)
        features = tuple(Feature(str(i)) for i in range(X_train.shape[1]))
        return _scaled(problem, options, None, Preprocessing(features, task=task))
    if not str(options.data).lower().endswith((*TEXT, *ARRAYS, *COLUMNAR, ".gz")):
        raise ValueError(
            f"unknown data {options.data!r}; choose {', '.join(DATA_SETS)}, or a "
            f"{', '.join((*TEXT, *ARRAYS))} or {COLUMNAR[0]} file"
        )
    table = read_table(options.data, table_options(options))
    if (table.X[0] == table.X).all():
        raise ValueError(f"{options.data}: every feature is the same in all rows")
    return _from_table(table, options)


def table_options(options: argparse.Namespace) -> TableOptions:
    """Return how the options of `fastmlp train` say that a file is read."""
    return replace(
        reading_options(options),
        target=options.target or (),
        features=options.features or "X",
        columns=options.columns,
        drop=options.drop,
        categorical=options.categorical,
        missing=options.missing or "error",
    )


def _from_table(table: Table, options: argparse.Namespace) -> Problem:
    notes = list(table.notes)
    task, y = options.task, table.y
    if task is None:
        task, reason = guess_task(y, table.target)
        notes.append(f"{reason}, so the task is {task}; choose another by --task")
    classes = None
    if task == "classification":
        y, classes = to_classes(y, table.target)
    elif y.dtype.kind not in "biuf":
        raise ValueError(f"{task} needs a numeric target, got text such as {str(y.flat[0])!r}")
    elif task == "multilabel":
        if not np.isin(y, (0, 1)).all():
            raise ValueError(f"labels must be 0 and 1 for --task multilabel, in {table.target!r}")
    elif (y == y[0]).all():
        raise ValueError(f"the target {table.target!r} is {y.flat[0]} in every row")
    train, test = split(len(y), options.test_fraction, options.seed, _strata(classes, y, options))
    if classes is not None and len(unseen := np.setdiff1d(y[test], y[train])):
        notes.append(f"class {classes[unseen[0]]} occurs only in test rows; see --stratify")
    problem = Problem(
        str(options.data), task, table.X[train], y[train], table.X[test], y[test], classes, notes
    )
    rows = np.concatenate([train, test])
    given = Preprocessing(tuple(table.features), target=table.targets, task=task)
    return _scaled(problem, options, lambda row: table.place(int(rows[row])), given)


def guess_task(y: Array, name: str) -> tuple[str, str]:
    """Return the task that a target suggests, and why.

    Text, truth values and whole numbers of few values are classes, as in scikit-learn's
    `type_of_target`; there, whole numbers of many values are too.

    Parameters
    ----------
    y : ndarray of shape (n_samples,) or (n_samples, n_targets)
    name : str

    Raises
    ------
    ValueError
        If it is text of too many values.

    Examples
    --------
    >>> guess_task(np.array([0.0, 1.0, 1.0]), "y")
    ('classification', "target 'y' has 2 whole values")
    >>> guess_task(np.arange(200), "y")
    ('regression', "target 'y' has 200 different numbers in 200 rows")
    """
    title = f"target {name!r}"
    if y.ndim == 2:
        if y.dtype.kind in "biuf" and np.isin(y, (0, 1)).all():
            if (y.sum(axis=1) == 1).all():
                return "classification", f"{title} has one 1 in each row"
            return "multilabel", f"{title} is {y.shape[1]} columns of 0 and 1"
        return "regression", f"{title} has {y.shape[1]} columns"
    values = np.unique(y)
    few = len(values) <= 2 or (
        len(values) <= MOST_CLASSES and len(values) * LEAST_ROWS_PER_CLASS <= len(y)
    )
    if y.dtype.kind == "b":
        return "classification", f"{title} is true or false"
    if y.dtype.kind not in "iuf":
        if len(values) > max(2, len(y) / 2) and len(values) > 20:
            raise ValueError(
                f"{title} has {len(values)} different texts in {len(y)} rows, such as "
                f"{str(values[0])!r}: too many for classes; choose --target, or insist by "
                "--task classification"
            )
        return "classification", f"{title} is text of {len(values)} values"
    if y.dtype.kind == "f" and (y != np.floor(y)).any():
        return "regression", f"{title} has fractions"
    if few:
        return "classification", f"{title} has {len(values)} whole values"
    return "regression", f"{title} has {len(values)} different numbers in {len(y)} rows"


def to_classes(y: Array, name: str) -> tuple[Array, Array]:
    """Return class numbers, and the classes.

    Raises
    ------
    ValueError
        If there is one class, or a target of several columns is not one 1 in each row.

    Examples
    --------
    >>> to_classes(np.array(["b", "a", "b"]), "kind")
    (array([1, 0, 1]), array(['a', 'b'], dtype='<U1'))
    """
    if y.ndim == 2:
        one_hot = y.dtype.kind in "biuf" and np.isin(y, (0, 1)).all() and (y.sum(1) == 1).all()
        if not one_hot:
            raise ValueError(
                f"classes must be one column, got a target of shape {y.shape}; use --task "
                "multilabel or regression for several columns"
            )
        return y.argmax(axis=1), np.arange(y.shape[1])
    if y.dtype.kind == "f" and (y == np.floor(y)).all() and np.abs(y).max() < 2**53:
        y = y.astype(np.int64)
    classes, numbers = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            f"the target {name!r} is {str(classes[0])!r} in every row; two classes are needed"
        )
    return numbers, classes


def _strata(classes: Array | None, y: Array, options: argparse.Namespace) -> Array | None:
    if not options.stratify:
        return None
    if classes is None:
        raise ValueError("--stratify needs classes")
    return y


def split(
    n_samples: int, fraction: float, seed: int, strata: Array | None = None
) -> tuple[Array, Array]:
    """Return the rows that are kept and those that are held out.

    Parameters
    ----------
    n_samples : int
    fraction : float
        Share that is held out.
    seed : int
    strata : ndarray of shape (n_samples,), optional
        Classes that both parts hold in equal shares.

    Raises
    ------
    ValueError
        If a part would be empty.

    Examples
    --------
    >>> [len(rows) for rows in split(10, 0.2, seed=0)]
    [8, 2]
    """
    n_held = round(n_samples * fraction)
    if not 0 < n_held < n_samples:
        raise ValueError(
            f"--test-fraction must leave samples for training and for test, got {fraction} "
            f"of {n_samples} samples"
        )
    rows = np.random.default_rng(seed).permutation(n_samples)
    if strata is not None:
        # A row's place within its class, from 0 to 1: the lowest of all classes are held out.
        of_class = strata[rows]
        place = np.empty(n_samples)
        for label in np.unique(of_class):
            where = np.flatnonzero(of_class == label)
            place[where] = (np.arange(len(where)) + 0.5) / len(where)
        rows = rows[np.argsort(place, kind="stable")]
    return rows[n_held:], rows[:n_held]


def _scaled(
    problem: Problem,
    options: argparse.Namespace,
    place: Callable[[int], str] | None,
    preprocessing: Preprocessing,
) -> Problem:
    """Return the problem with gaps filled and features standardized, in the dtype asked for."""
    X_train, X_test, notes = problem.X_train, problem.X_test, list(problem.notes)
    if options.missing == "mean":
        gaps = np.isnan(X_train)
        if gaps.all(axis=0).any():
            raise ValueError(
                f"{problem.name}: a column has values in test rows alone, and so no mean; leave it "
                "out by --drop, or use another --seed"
            )
        counts = (~gaps).sum(axis=0)
        mean = np.where(gaps, 0, X_train).sum(axis=0) / counts
        X_train = np.where(gaps, mean, X_train)
        n_gaps = int(gaps.sum() + np.isnan(X_test).sum())
        if n_gaps:
            notes.append(f"{n_gaps} missing values are replaced by their columns' means")
        X_test = np.where(np.isnan(X_test), mean, X_test)
        preprocessing = replace(preprocessing, fill=tuple(mean.tolist()))
    if options.standardize:
        mean, deviation = X_train.mean(axis=0), X_train.std(axis=0)
        deviation[deviation == 0] = 1
        X_train, X_test = (X_train - mean) / deviation, (X_test - mean) / deviation
        preprocessing = replace(
            preprocessing, mean=tuple(mean.tolist()), deviation=tuple(deviation.tolist())
        )
    elif place is not None and np.abs(X_train).max() > LARGE:
        notes.append(
            f"features reach {np.abs(X_train).max():.3g}: --standardize may help to learn them"
        )
    with np.errstate(over="ignore"):
        X_train, X_test = X_train.astype(options.dtype), X_test.astype(options.dtype)
    infinite = ~np.isfinite(np.concatenate([X_train, X_test])).all(axis=1)
    if infinite.any() and place is not None:
        raise ValueError(
            f"{problem.name}, {place(int(np.argmax(infinite)))}: a feature is infinite as "
            f"{options.dtype}; try --dtype float64 or --standardize"
        )
    return replace(
        problem, X_train=X_train, X_test=X_test, notes=notes, preprocessing=preprocessing
    )
