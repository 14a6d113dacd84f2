"""Probabilities that mean what they say: a temperature, by predictions of rows held out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

Array = NDArray[Any]

#: Temperatures that are looked at: this factor below and above 1.
MOST_TEMPERATURE = 100.0


def find_temperature(probabilities: Array, classes: Array, weights: Array | None = None) -> float:
    """Return the temperature under which held-out rows have the least log loss.

    Logits are divided by it (Guo et al. 2017, arXiv 1706.04599). One row of each class more is
    thought to be predicted as all classes alike, as Platt (1999) did, so that a few rows that are
    all right do not make the network sure of everything.

    Parameters
    ----------
    probabilities : ndarray of shape (n_samples, n_classes)
    classes : ndarray of int and shape (n_samples,)
        The true classes' numbers.
    weights : ndarray of shape (n_samples,), optional

    Examples
    --------
    >>> sure = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.9, 0.1]])
    >>> find_temperature(sure, np.array([0, 0, 1, 1])) > 1
    True
    """
    logs = log_of(probabilities)
    n_samples, n_classes = logs.shape
    weights = np.ones(n_samples) if weights is None else np.asarray(weights, dtype=np.float64)
    total = weights.sum()
    if total == 0:
        return 1.0
    spread = n_classes / (total + n_classes)
    # The mean over rows of what the target's logits are, whatever the temperature.
    own = (1 - spread) * logs[np.arange(n_samples), classes] + spread * logs.mean(axis=1)
    wanted = float(weights @ own)

    def loss(log_temperature: float) -> float:
        inverse = math.exp(-log_temperature)
        return float(weights @ np.log(np.exp(inverse * logs).sum(axis=1))) - inverse * wanted

    bound = math.log(MOST_TEMPERATURE)
    return math.exp(minimize_scalar(loss, bounds=(-bound, bound), method="bounded").x)


def at_temperature(probabilities: Array, temperature: float) -> Array:
    """Return probabilities as they are when the logits are divided by a temperature.

    Parameters
    ----------
    probabilities : ndarray of shape (..., n_classes)

    Examples
    --------
    >>> at_temperature(np.array([[0.8, 0.2]]), 0.5).round(3)
    array([[0.941, 0.059]])
    """
    if temperature == 1.0:
        return probabilities
    logs = log_of(probabilities) / temperature
    logs -= logs.max(axis=-1, keepdims=True)
    powers = np.exp(logs)
    powers /= powers.sum(axis=-1, keepdims=True)
    return powers.astype(probabilities.dtype, copy=False)


def log_of(probabilities: Array) -> Array:
    """Return logarithms, in float64, of what may have underflowed to 0."""
    least = np.finfo(probabilities.dtype).tiny
    return np.log(np.maximum(probabilities, least).astype(np.float64))
