"""Full-batch L-BFGS: it finds the minimum, and fits into the trainer like any optimizer."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from fastmlp import LBFGS, MLP, Regularization, Trainer, TrainingInterrupted

pytest.importorskip("scipy")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5000, 3))
Y = X @ [1.0, -2.0, 3.0] + 4 + RNG.normal(size=5000)
WEIGHTS = RNG.uniform(size=5000)
EXACT = LBFGS(tolerance=1e-10)


def fit_linear(backend, **options) -> np.ndarray:
    network = MLP([3, 1], output_activation="linear", dtype="float64")
    regularization = Regularization(l2=options.pop("l2", 0.0))
    trainer = Trainer(network, "mse", EXACT, backend=backend, regularization=regularization)
    trainer.fit(X, Y, epochs=10, verbose=False, **options)
    return network.parameters


def solve(weights: np.ndarray, l2: float = 0.0) -> np.ndarray:
    """Return the weights and the bias that least squares give."""
    A = np.hstack([X, np.ones((5000, 1))])
    penalty = np.diag([l2, l2, l2, 0.0]) / 2
    normal = A.T @ (weights[:, None] * A) / weights.sum() + penalty
    return np.linalg.solve(normal, A.T @ (weights * Y) / weights.sum())


def test_it_solves_least_squares(backend):
    np.testing.assert_allclose(fit_linear(backend), solve(np.ones(5000)), rtol=1e-7)


def test_weights_and_penalties_count_once_however_many_blocks(backend):
    found = fit_linear(backend, sample_weight=WEIGHTS, l2=0.5)
    np.testing.assert_allclose(found, solve(WEIGHTS, l2=0.5), rtol=1e-7)


def test_it_agrees_with_logistic_regression(backend):
    linear_model = pytest.importorskip("sklearn.linear_model")
    y = (Y > 4).astype(int)
    network = MLP([3, 1], output_activation="sigmoid", dtype="float64")
    trainer = Trainer(network, optimizer=EXACT, backend=backend)
    trainer.fit(X, y, epochs=20, verbose=False)
    expected = linear_model.LogisticRegression(C=np.inf, tol=1e-10).fit(X, y)
    np.testing.assert_allclose(network.weights[0][:, 0], expected.coef_[0], rtol=1e-4)


def test_a_deep_float32_network_learns_and_stops_when_converged(backend):
    network = MLP([3, 8, 1], "tanh", "linear")
    trainer = Trainer(network, optimizer="lbfgs", backend=backend)
    history = trainer.fit(X, X[:, 0], epochs=1000, validation_data=(X, X[:, 0]), verbose=False)
    assert len(history) < 1000
    assert history.columns == ["epoch", "loss", "r2", "val_loss", "val_r2", "seconds"]
    assert history["val_loss"] == history["loss"], "both are measured after the epoch"
    assert history["r2"][-1] > 0.999
    assert network.parameters.dtype == np.float32


def test_it_resumes_with_the_same_bits(tmp_path):
    def make() -> Trainer:
        network = MLP([3, 8, 1], "tanh", "linear")
        return Trainer(network, optimizer=LBFGS(iterations=3), backend="numpy")

    whole, first, second = make(), make(), make()
    whole.fit(X, Y, 4, verbose=False)
    first.fit(X, Y, 2, verbose=False)
    first.save_checkpoint(tmp_path / "run.npz")
    second.load_checkpoint(tmp_path / "run.npz")
    second.fit(X, Y, 2, verbose=False)
    np.testing.assert_array_equal(whole.network.parameters, second.network.parameters)


def test_ctrl_c_leaves_the_last_whole_epoch(monkeypatch):
    trainer = Trainer(MLP([3, 1], output_activation="linear"), optimizer="lbfgs", backend="numpy")
    trainer.fit(X[:9], Y[:9], 0, verbose=False)
    before = trainer.network.parameters.copy()
    monkeypatch.setattr(LBFGS, "minimize", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.warns(TrainingInterrupted):
        trainer.fit(X, Y, 5, verbose=False)
    np.testing.assert_array_equal(trainer.network.parameters, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "cosine"}, "no learning rate for the schedule 'cosine'"),
        ({"regularization": Regularization(dropout=0.5)}, "takes only l1 and l2"),
        ({"regularization": Regularization(ema=0.5)}, "takes only l1 and l2"),
    ],
)
def test_what_has_no_meaning_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Trainer(MLP([3, 1]), optimizer="lbfgs", backend="numpy", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iterations": 0}, "iterations must be at least 1"),
        ({"memory": 0}, "memory must be at least 1"),
        ({"tolerance": 0.0}, "tolerance must be greater than 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        LBFGS(**options)


def test_without_scipy_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    trainer = Trainer(MLP([3, 1], output_activation="linear"), optimizer="lbfgs", backend="numpy")
    with pytest.raises(ImportError, match=r"pip install 'fastmlp\[sklearn\]'"):
        trainer.fit(X, Y, verbose=False)
