"""Which rows each of many networks trains on, and which it is measured on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp._weights import row_numbers

Array = NDArray[Any]

#: How rows can be divided; None gives every network all of them.
RESAMPLINGS = ("folds", "bootstrap", None)


@dataclass(frozen=True)
class Split:
    """Rows to train on and others to measure, by their numbers among `n_rows`.

    Examples
    --------
    >>> Split(np.array([0, 1]), np.array([2]), 3).held_out
    array([2])
    """

    rows: Array
    held_out: Array
    n_rows: int


def splits(
    resampling: str | None, n_members: int, n_folds: int, labels: Array, seed: int
) -> list[Split]:
    """Return every member's split.

    Parameters
    ----------
    resampling : {"folds", "bootstrap"} or None
    n_members : int
    n_folds : int
        Where there are more members, rows are shuffled and divided again.
    labels : ndarray of shape (n_rows,)
        Class numbers or the like, of which every fold gets equal shares.
    seed : int

    Raises
    ------
    ValueError
        If there are fewer rows than folds.

    Examples
    --------
    >>> [one.held_out for one in splits("folds", 2, 2, np.array([0, 0, 1, 1]), seed=0)]
    [array([0, 2]), array([1, 3])]
    """
    n_rows = len(labels)
    everything = np.arange(n_rows)
    if resampling is None:
        return [Split(everything, everything[:0], n_rows)] * n_members
    if resampling == "bootstrap":
        drawn = [
            np.random.default_rng([seed, i]).integers(0, n_rows, n_rows) for i in range(n_members)
        ]
        return [Split(np.sort(rows), np.setdiff1d(everything, rows), n_rows) for rows in drawn]
    if n_rows < n_folds:
        raise ValueError(f"{n_folds} folds need at least as many rows, got {n_rows}")
    made = []
    for repetition in range(-(-n_members // n_folds)):
        generator = np.random.default_rng([seed, repetition])
        fold = _folds(labels, n_folds, generator)
        made += [
            Split(np.flatnonzero(fold != i), np.flatnonzero(fold == i), n_rows)
            for i in range(n_folds)
        ]
    return made[:n_members]


def _folds(labels: Array, n_folds: int, generator: np.random.Generator) -> Array:
    """Return the fold of every row; folds differ by one row at most, in all and of each label."""
    shuffled = generator.permutation(len(labels))
    by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
    fold = np.empty(len(labels), dtype=np.int64)
    fold[by_label] = np.arange(len(labels)) % n_folds  # dealt like cards, label after label
    return fold


def given_splits(folds: Iterable[Any], n_members: int, n_rows: int) -> list[Split]:
    """Return every member's split of those that a user gives, again from the first if too few.

    Raises
    ------
    ValueError, TypeError
        If they are no pairs of row numbers, more than members, or one holds out rows that it
        trains on.

    Examples
    --------
    >>> [one.held_out for one in given_splits([([0, 1], [2]), ([1, 2], [0])], 3, 3)]
    [array([2]), array([0]), array([2])]
    """
    made = [_given_split(pair, f"folds[{i}]", n_rows) for i, pair in enumerate(_listed(folds))]
    if not 0 < len(made) <= n_members:
        raise ValueError(
            f"folds must be 1 to {n_members} pairs, one for each of {n_members} members or fewer, "
            f"got {len(made)}"
        )
    return [made[i % len(made)] for i in range(n_members)]


def _listed(folds: Iterable[Any]) -> list[Any]:
    if not isinstance(folds, Iterable):
        raise TypeError(
            "folds must be pairs of row numbers to train on and to hold out, such as "
            f"scikit-learn's splitters yield by split(X, y), got {folds!r}"
        )
    return list(folds)


def _given_split(pair: Any, what: str, n_rows: int) -> Split:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise ValueError(f"{what} must be a pair of row numbers to train on and to hold out")
    rows = row_numbers(pair[0], f"{what}[0]", n_rows)
    held_out = np.empty(0, dtype=np.int64)
    if np.size(pair[1]):
        held_out = row_numbers(pair[1], f"{what}[1]", n_rows)
    both = np.intersect1d(rows, held_out)
    if len(both):
        raise ValueError(f"{what} holds out rows that it trains on, such as row {both[0]}")
    return Split(rows, held_out, n_rows)
