"""Columns of the inputs that are zero in a whole batch are left out, and it changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
from numba import config

from fastmlp import MLP, SGD, Adam, Regularization
from fastmlp.backends import get_backend

BATCH_SIZE = 8


def sparse_rows(n_samples: int, n_features: int, seed: int) -> np.ndarray:
    """Return rows whose zero columns differ from batch to batch; the last rows are all zero."""
    generator = np.random.default_rng(seed)
    X = generator.normal(size=(n_samples, n_features))
    for start in range(0, n_samples, BATCH_SIZE):
        X[start : start + BATCH_SIZE, generator.random(n_features) < 0.5] = 0
    X[generator.random(X.shape) < 0.3] = 0
    X[-BATCH_SIZE:] = 0
    return X


def trained(backend: str, X: np.ndarray, network, optimizer, regularization, **threads):
    session = get_backend(backend).bind(
        network, None, optimizer, regularization, batch_size=BATCH_SIZE, **threads
    )
    y = np.arange(len(X)) % network.n_outputs
    rates = np.full(-(-len(X) // BATCH_SIZE), 0.1)
    losses = session.train(X, y, np.arange(len(X)), rates)
    return losses, session.store()


@pytest.mark.parametrize("n_full", [0, 60])  # columns that are never zero
@pytest.mark.parametrize("sizes", [(40, 3), (37, 5, 3), (170, 18, 2), (80, 30, 2)], ids=str)
@pytest.mark.parametrize(
    ("optimizer", "regularization"),
    [
        (SGD(), Regularization()),
        (SGD(momentum=0.9), Regularization(ema=0.9)),
        (Adam(weight_decay=0.1), Regularization()),
        (SGD(), Regularization(l1=0.01, l2=0.1, clip_value=0.05)),
        (SGD(), Regularization(clip_norm=0.1, max_norm=0.5)),
    ],
    ids=str,
)
@pytest.mark.parametrize("scaling_layer", [False, True])
def test_training_agrees_with_the_reference(
    sizes, optimizer, regularization, n_full, scaling_layer
):
    network = MLP(sizes, dtype=np.float64, scaling_layer=scaling_layer)
    if scaling_layer:
        network.scale = np.random.default_rng(2).uniform(0.5, 2, sizes[0])
    X = sparse_rows(5 * BATCH_SIZE - 3, sizes[0], seed=sizes[0])
    X[:, :n_full] = np.random.default_rng(1).normal(size=X[:, :n_full].shape)
    expected_losses, expected = trained("numpy", X, network, optimizer, regularization)
    losses, state = trained("numba", X, network, optimizer, regularization, n_threads=1)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-10)
    np.testing.assert_allclose(state.parameters, expected.parameters, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(state.moments, expected.moments, rtol=1e-9, atol=1e-12)
    for n_threads in () if config.DISABLE_JIT else (2, 3, 4):
        _, same = trained("numba", X, network, optimizer, regularization, n_threads=n_threads)
        np.testing.assert_array_equal(same.parameters, state.parameters)


def test_not_a_number_is_no_zero():
    X = sparse_rows(2 * BATCH_SIZE, 40, seed=0)
    X[1, 3] = np.nan
    losses, _ = trained("numba", X, MLP((40, 3)), SGD(), Regularization(), n_threads=1)
    assert np.isnan(losses[0])
