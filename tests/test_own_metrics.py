"""Metrics of probabilities that need no scikit-learn, held against scikit-learn's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss

from fastmlp import MLP, Trainer

Array = np.ndarray[Any, Any]


@pytest.mark.parametrize(("output", "n_outputs"), [("softmax", 4), ("softmax", 2), ("sigmoid", 1)])
@given(seed=st.integers(0, 10**6), weighted=st.booleans())
def test_they_are_scikit_learns(output: str, n_outputs: int, seed: int, weighted: bool):
    generator = np.random.default_rng(seed)
    network = MLP([3, n_outputs], output_activation=output, dtype="float64")
    network.parameters = generator.standard_normal(network.n_parameters)
    trainer = Trainer(network, backend="numpy", metrics=["log_loss", "brier_score"])
    X, y = generator.standard_normal((40, 3)), np.arange(40) % max(n_outputs, 2)
    weights = generator.random(40) if weighted else None
    scores = trainer.evaluate(X, y, sample_weight=weights)
    chances = network.predict_proba(X)
    chances = np.hstack([1 - chances, chances]) if n_outputs == 1 else chances
    assert scores.log_loss == pytest.approx(log_loss(y, chances, sample_weight=weights))
    squares = np.square(chances - np.eye(chances.shape[1])[y]).sum(axis=1)
    by_definition = np.average(squares, weights=weights)
    if n_outputs > 2:
        assert scores.brier_score == pytest.approx(by_definition)
    else:
        expected = brier_score_loss(y, chances[:, 1], sample_weight=weights)
        assert scores.brier_score == pytest.approx(expected)


def test_of_several_labels_they_are_the_mean():
    network = MLP([3, 2], output_activation="sigmoid", dtype="float64", seed=1)
    generator = np.random.default_rng(0)
    X, y = generator.standard_normal((30, 3)), generator.integers(0, 2, (30, 2))
    scores = Trainer(network, backend="numpy", metrics=["log_loss", "brier_score"]).evaluate(X, y)
    chances = network.predict_proba(X)
    each = [log_loss(y[:, k], chances[:, k]) for k in range(2)]
    assert scores.log_loss == pytest.approx(np.mean(each))
    assert scores.brier_score == pytest.approx(np.mean((chances - y) ** 2))


def test_a_sure_mistake_is_finite_and_label_smoothing_has_no_part_in_it():
    network = MLP([1, 2])
    network.weights[0][:] = [[-500.0, 500.0]]
    trainer = Trainer(network, backend="numpy", metrics=["log_loss", "brier_score"])
    scores = trainer.evaluate([[1.0]], [0])
    assert scores.log_loss == pytest.approx(1000)
    assert scores.brier_score == pytest.approx(1)


def test_they_are_refused_for_values():
    with pytest.raises(ValueError, match="'log_loss' is for softmax and sigmoid"):
        Trainer(MLP([1, 1], output_activation="linear"), metrics=["log_loss"])


def test_less_is_better():
    directions = Trainer(MLP([1, 2]), metrics=["log_loss", "brier_score"]).directions
    assert directions["val_log_loss"] is False
    assert directions["brier_score"] is False
