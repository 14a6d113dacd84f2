"""Intervals and sets that hold the truth as often as they say: by how wrong members were.

Every member is judged by rows that it was not trained on, whose errors are its *scores*. CV+
(Barber, Candès, Ramdas and Tibshirani 2021, arXiv 1905.02928) puts them around its own predictions
of a new row, and takes quantiles of all. With one member it is split conformal prediction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: So many scores say enough of their distribution.
_MOST_SCORES = 8192
_ELEMENTS_AT_ONCE = 2**22


def sorted_scores(scores: Sequence[Array]) -> list[Array]:
    """Return every member's scores in order, thinned out evenly where they are very many.

    Examples
    --------
    >>> sorted_scores([np.array([3.0, 1.0])])
    [array([1., 3.])]
    """
    total = sum(map(len, scores))
    kept = []
    for own in scores:
        own = np.sort(own)
        if total > _MOST_SCORES:
            n_kept = max(1, round(len(own) * _MOST_SCORES / total)) if len(own) else 0
            middles = (np.arange(n_kept) + 0.5) * len(own) / max(n_kept, 1)
            own = own[middles.astype(np.int64)]
        kept.append(own)
    return kept


def intervals(predictions: Array, scores: Sequence[Array], coverage: float) -> tuple[Array, Array]:
    """Return the lower and upper ends of intervals for rows.

    Parameters
    ----------
    predictions : ndarray of shape (n_members, n_samples)
    scores : sequence of ndarray
        Every member's absolute errors on rows held out, as `sorted_scores` returns them.
    coverage : float
        In (0, 1).

    Returns
    -------
    lower, upper : ndarray of float64 and shape (n_samples,)
        Infinite where there are too few scores to promise so much.

    Examples
    --------
    >>> lower, upper = intervals(np.zeros((1, 1)), [np.arange(1.0, 10.0)], coverage=0.8)
    >>> lower, upper
    (array([-8.]), array([8.]))
    """
    lower, upper = (np.empty(predictions.shape[1]) for _ in range(2))
    errors = np.concatenate(list(scores))
    owner = np.repeat(np.arange(len(scores)), list(map(len, scores)))
    place = math.ceil(coverage * (len(errors) + 1)) - 1  # of the upper end, in ascending order
    if place >= len(errors):
        return np.full_like(lower, -np.inf), np.full_like(upper, np.inf)
    rows = max(1, _ELEMENTS_AT_ONCE // len(errors))
    for start in range(0, predictions.shape[1], rows):
        part = slice(start, start + rows)
        centers = predictions[:, part].astype(np.float64)[owner].T
        upper[part] = np.partition(centers + errors, place, axis=1)[:, place]
        lower[part] = -np.partition(errors - centers, place, axis=1)[:, place]
    return lower, upper


def label_sets(probabilities: Array, scores: Sequence[Array], coverage: float) -> Array:
    """Return which classes may be the rows' own.

    A class is left out where it is less likely than the true classes of held-out rows were, as a
    rule (Sadinle, Lei and Wasserman 2019, arXiv 1609.00451).

    Parameters
    ----------
    probabilities : ndarray of shape (n_members, n_samples, n_classes)
    scores : sequence of ndarray
        Of every member's held-out rows, 1 - the true class's probability, as `sorted_scores`
        returns them.
    coverage : float
        In (0, 1).

    Returns
    -------
    ndarray of bool and shape (n_samples, n_classes)
        At least the likeliest class of every row.

    Examples
    --------
    >>> scores = [np.linspace(0.0, 0.6, 99)]
    >>> label_sets(np.array([[[0.7, 0.25, 0.05], [0.5, 0.48, 0.02]]]), scores, coverage=0.9)
    array([[ True, False, False],
           [ True,  True, False]])
    """
    n_scores = sum(map(len, scores))
    smaller = np.zeros(probabilities.shape[1:])
    for own, chances in zip(scores, probabilities, strict=True):
        smaller += np.searchsorted(own, 1 - chances.astype(np.float64), side="left")
    sets = smaller < coverage * (n_scores + 1)
    likeliest = probabilities.mean(axis=0).argmax(axis=1)
    sets[np.arange(len(sets)), likeliest] = True
    return np.asarray(sets)
