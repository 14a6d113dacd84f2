"""The estimators against scikit-learn's own: the same numbers to 1e-9, in float64."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import sklearn.neural_network as theirs
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer, load_iris

import fastmlp.sklearn as ours
from fastmlp import Backend

X_IRIS, Y_IRIS = load_iris(return_X_y=True)
X_CANCER, Y_CANCER = load_breast_cancer(return_X_y=True)  # unscaled: outputs saturate
RNG = np.random.default_rng(0)
X_SMALL = RNG.normal(size=(67, 5))
Z_SMALL = X_SMALL @ RNG.normal(size=(5, 3)) / 2 + 0.3 * RNG.normal(size=(67, 3))
WEIGHTS = RNG.uniform(0.1, 3.0, 67)
#: An estimator's name, its loss, and targets.
TASKS: dict[str, tuple[str, dict[str, Any], Any]] = {
    "two classes": ("MLPClassifier", {}, (Z_SMALL[:, 0] > 0).astype(int)),
    "three classes": ("MLPClassifier", {}, Z_SMALL.argmax(axis=1)),
    "several labels": ("MLPClassifier", {}, (Z_SMALL > 0).astype(int)),
    "one target": ("MLPRegressor", {}, Z_SMALL[:, 0]),
    "three targets": ("MLPRegressor", {}, Z_SMALL),
    "counts": ("MLPRegressor", {"loss": "poisson"}, np.exp(Z_SMALL[:, 0]).round()),
    "three counts": ("MLPRegressor", {"loss": "poisson"}, np.exp(Z_SMALL).round()),
}
FITTED = (
    "coefs_",
    "intercepts_",
    "loss_curve_",
    "loss_",
    "best_loss_",
    "validation_scores_",
    "best_validation_score_",
)


def fit_both(kind: str, backend: Backend, fit: Any, **parameters: Any) -> tuple[Any, Any]:
    """Return scikit-learn's estimator and ours, after `fit` of each."""
    parameters = {"hidden_layer_sizes": (7, 4), "random_state": 3, "max_iter": 12} | parameters
    models = (
        getattr(theirs, kind)(**parameters),
        getattr(ours, kind)(**parameters, backend=backend),
    )
    for model in models:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of fits that do not converge, and clipped batches
            fit(model)
    return models


def assert_same(their: Any, our: Any, X: Any, tolerance: float = 1e-9) -> None:
    assert our.n_iter_ == their.n_iter_
    assert our.t_ == their.t_
    for name in FITTED:
        expected, actual = getattr(their, name, None), getattr(our, name, None)
        if expected is None:
            assert actual is None, name
            continue
        pairs = [(expected, actual)]
        if name in ("coefs_", "intercepts_"):
            pairs = list(zip(expected, actual, strict=True))
        for its, mine in pairs:
            assert np.shape(mine) == np.shape(its), name
            np.testing.assert_allclose(mine, its, rtol=tolerance, atol=tolerance, err_msg=name)
    method = "predict_proba" if hasattr(their, "predict_proba") else "predict"
    expected, actual = getattr(their, method)(X), getattr(our, method)(X)
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance, err_msg=method)


SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {"momentum": 0},
    "much alpha": {"alpha": 10.0, "learning_rate_init": 0.01},
    "no alpha": {"alpha": 0.0},
    "a smaller last batch": {"alpha": 1.0, "batch_size": 20, "learning_rate_init": 0.1},
    "a last batch of one": {"alpha": 1.0, "batch_size": 22, "nesterovs_momentum": False},
    "whole batches": {"alpha": 1e-3, "batch_size": 67, "learning_rate_init": 0.1, "max_iter": 40},
    "a batch of all": {"batch_size": 1000},
    "single samples": {"batch_size": 1, "max_iter": 3},
    "in order": {"shuffle": False, "batch_size": 30},
    "inverse scaling": {"learning_rate": "invscaling", "power_t": 0.3, "learning_rate_init": 0.5},
    "adaptive": {
        "learning_rate": "adaptive",
        "tol": 0.05,
        "n_iter_no_change": 1,
        "learning_rate_init": 0.2,
        "max_iter": 40,
    },
    "stops": {"tol": 0.02, "n_iter_no_change": 2, "max_iter": 60, "learning_rate_init": 0.05},
    "early stopping": {
        "early_stopping": True,
        "validation_fraction": 0.3,
        "batch_size": 16,
        "learning_rate_init": 0.1,
        "n_iter_no_change": 3,
        "max_iter": 30,
    },
    "logistic": {"activation": "logistic", "learning_rate_init": 0.1},
    "tanh": {"activation": "tanh", "batch_size": 25, "alpha": 0.1},
    "identity": {"activation": "identity", "hidden_layer_sizes": (5,)},
    "linear": {"hidden_layer_sizes": (), "alpha": 0.5, "batch_size": 9},
}


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("task", TASKS)
def test_stochastic_fits_are_scikit_learns(
    task: str, setting: str, solver: str, weighted: bool, backend: Backend
):
    kind, loss, y = TASKS[task]
    weights = {"sample_weight": WEIGHTS} if weighted else {}
    parameters = {"solver": solver} | SETTINGS[setting] | loss
    models = fit_both(kind, backend, lambda m: m.fit(X_SMALL, y, **weights), **parameters)
    assert_same(*models, X_SMALL)


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("alpha", [0.0, 1e-4, 5.0])
@pytest.mark.parametrize("task", TASKS)
def test_lbfgs_is_scikit_learns(
    task: str, alpha: float, dtype: str, weighted: bool, backend: Backend
):
    kind, loss, y = TASKS[task]
    weights = {"sample_weight": WEIGHTS} if weighted else {}
    X = X_SMALL.astype(dtype)
    parameters = {"solver": "lbfgs", "alpha": alpha, "activation": "tanh"} | loss
    models = fit_both(kind, backend, lambda m: m.fit(X, y, **weights), **parameters)
    assert_same(*models, X, tolerance=1e-7)
    assert models[1].coefs_[0].dtype == models[0].coefs_[0].dtype == np.float64
