"""The estimators against scikit-learn's own: the same numbers to 1e-9, in float64."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import sklearn.neural_network as theirs
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.exceptions import ConvergenceWarning

import fastmlp.sklearn as ours
from fastmlp import Backend
from fastmlp.backends import get_backend

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


def fit_task(task: str, backend: Backend, weighted: bool, **parameters: Any) -> tuple[Any, Any]:
    """Return scikit-learn's estimator and ours, fitted to a task."""
    kind, loss, y = TASKS[task]
    weights = {"sample_weight": WEIGHTS} if weighted else {}
    if loss:  # counts diverge sooner
        parameters["learning_rate_init"] = parameters.get("learning_rate_init", 0.01) / 10
    return fit_both(kind, backend, lambda m: m.fit(X_SMALL, y, **weights), **loss, **parameters)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("task", TASKS)
def test_sgd_is_scikit_learns(task: str, setting: str, backend: Backend):
    assert_same(*fit_task(task, backend, False, solver="sgd", **SETTINGS[setting]), X_SMALL)


@pytest.mark.parametrize("setting", ["a smaller last batch", "whole batches", "early stopping"])
@pytest.mark.parametrize("task", TASKS)
def test_weighted_samples_are_scikit_learns(task: str, setting: str, backend: Backend):
    assert_same(*fit_task(task, backend, True, solver="sgd", **SETTINGS[setting]), X_SMALL)


@pytest.mark.parametrize("setting", ["a smaller last batch", "stops", "early stopping"])
@pytest.mark.parametrize("task", TASKS)
def test_adam_is_scikit_learns(task: str, setting: str, backend: Backend):
    parameters = {"epsilon": 1e-3} | SETTINGS[setting]
    assert_same(*fit_task(task, backend, True, solver="adam", **parameters), X_SMALL)


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("alpha", [0.0, 5.0])
@pytest.mark.parametrize("activation", ["relu", "logistic"])
@pytest.mark.parametrize("task", TASKS)
def test_lbfgs_is_scikit_learns(
    task: str, activation: str, alpha: float, weighted: bool, backend: Backend
):
    parameters = {"solver": "lbfgs", "alpha": alpha, "activation": activation}
    assert_same(*fit_task(task, backend, weighted, **parameters), X_SMALL)


@given(data=st.data())
@settings(max_examples=60)
def test_any_fit_is_scikit_learns(data: st.DataObject):
    drawn = {
        "solver": ["sgd", "adam"],
        "alpha": [0.0, 1e-4, 0.3, 30.0],
        "batch_size": ["auto", 1, 7, 16, 22, 66, 67, 200],
        "activation": ["relu", "tanh", "logistic", "identity"],
        "learning_rate": ["constant", "invscaling", "adaptive"],
        "learning_rate_init": [1e-3, 0.02],
        "momentum": [0.0, 0.5, 0.9],
        "nesterovs_momentum": [True, False],
        "early_stopping": [True, False],
        "shuffle": [True, False],
        "tol": [1e-4, 0.05],
        "n_iter_no_change": [1, 3],
        "hidden_layer_sizes": [(), (3,), (9, 5)],
        "random_state": [0, 1],
    }
    parameters = {name: data.draw(st.sampled_from(values), name) for name, values in drawn.items()}
    task, weighted = data.draw(st.sampled_from(list(TASKS))), data.draw(st.booleans())
    backend = get_backend(data.draw(st.sampled_from(["numpy", "numba"])))
    assert_same(*fit_task(task, backend, weighted, **parameters), X_SMALL)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("task", TASKS)
def test_incremental_fits_are_scikit_learns(task: str, solver: str, backend: Backend):
    kind, loss, y = TASKS[task]

    def fit(model: Any) -> None:
        n_classes = 3 if y.ndim == 2 else len(np.unique(y))
        first = {"classes": np.arange(n_classes)} if kind == "MLPClassifier" else {}
        for rows in (slice(0, 50), slice(20, 67), slice(0, 67)):
            model.partial_fit(X_SMALL[rows], y[rows], sample_weight=WEIGHTS[rows], **first)
            first = {}

    parameters = {"solver": solver, "alpha": 1.0, "batch_size": 30, "learning_rate": "invscaling"}
    assert_same(*fit_both(kind, backend, fit, **parameters, **loss), X_SMALL)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("task", ["three classes", "three targets"])
def test_warm_starts_are_scikit_learns(
    task: str, solver: str, early_stopping: bool, backend: Backend
):
    kind, loss, y = TASKS[task]
    parameters = {"solver": solver, "alpha": 1.0, "batch_size": 25, "max_iter": 6}
    parameters |= {"warm_start": True, "early_stopping": early_stopping}
    models = fit_both(
        kind, backend, lambda m: m.fit(X_SMALL, y).fit(X_SMALL, y), **parameters, **loss
    )
    assert_same(*models, X_SMALL)


@pytest.mark.parametrize("alpha", [1e-4, 1.0])
def test_a_smaller_last_batch_at_any_alpha(alpha: float, backend: Backend):
    parameters = {"solver": "sgd", "alpha": alpha, "batch_size": 40, "max_iter": 20}
    models = fit_both("MLPClassifier", backend, lambda m: m.fit(X_IRIS, Y_IRIS), **parameters)
    assert_same(*models, X_IRIS)


#: Whole batches, so that only the penalty in the curve of losses tells when a fit is over.
PENALTIES: list[tuple[str, dict[str, Any]]] = [
    (
        "MLPRegressor",
        {"alpha": 0.1, "n_iter_no_change": 3, "learning_rate_init": 0.01, "random_state": 0},
    ),
    ("MLPClassifier", {"alpha": 1.0, "n_iter_no_change": 1, "random_state": 1}),
    ("MLPClassifier", {"alpha": 1.0, "n_iter_no_change": 3, "random_state": 1}),
    ("MLPClassifier", {"alpha": 1.0, "n_iter_no_change": 1, "random_state": 2}),
]


@pytest.mark.parametrize(("kind", "setting"), PENALTIES)
def test_the_penalty_of_the_curve_ends_a_fit_as_scikit_learns(
    kind: str, setting: dict[str, Any], backend: Backend
):
    rng = np.random.default_rng(setting["random_state"])
    for n_rows in (67, 45, 31, 60):  # the draws of the smaller ones come first
        X, noise = rng.normal(size=(n_rows, 4)), rng.normal(size=n_rows)
        target = X[:, 0] + 0.1 * rng.normal(size=n_rows)
    y = target if kind == "MLPRegressor" else (X[:, 0] + 0.3 * noise > 0).astype(int)
    parameters = {"hidden_layer_sizes": (5,), "solver": "sgd", "batch_size": 20, "tol": 1e-3}
    parameters |= {"learning_rate_init": 0.1, "max_iter": 60} | setting
    their, our = fit_both(kind, backend, lambda m: m.fit(X, y), **parameters)
    assert their.n_iter_ < 60
    assert_same(their, our, X)


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
@pytest.mark.parametrize("three", [False, True])
def test_clipped_probabilities_are_scikit_learns(solver: str, three: bool, backend: Backend):
    X, y = (100 * X_IRIS, Y_IRIS) if three else (X_CANCER, Y_CANCER)
    parameters = {"solver": solver, "max_iter": 3, "learning_rate_init": 1e-5, "momentum": 0}
    their, our = fit_both("MLPClassifier", backend, lambda m: m.fit(X, y), **parameters)
    if solver == "sgd":
        assert max(their.loss_curve_) > 2  # so large a loss is of what is clipped
    assert_same(their, our, X, tolerance=1e-6 if solver == "lbfgs" else 1e-9)


def test_scores_that_are_no_numbers_leave_the_first_weights(backend: Backend):
    parameters = {"solver": "sgd", "learning_rate_init": 1e200, "early_stopping": True}
    y = TASKS["one target"][2]
    models = fit_both("MLPRegressor", backend, lambda m: m.fit(X_SMALL, y), **parameters)
    for its, mine in zip(models[0].coefs_, models[1].coefs_, strict=True):
        np.testing.assert_array_equal(mine, its)


@pytest.mark.parametrize("task", TASKS)
def test_lbfgs_leaves_float64_as_scikit_learns(task: str, backend: Backend):
    kind, loss, y = TASKS[task]
    X = X_SMALL.astype(np.float32)
    parameters = {"solver": "lbfgs", "max_iter": 4, "alpha": 1.0} | loss
    their, our = fit_both(kind, backend, lambda m: m.fit(X, y), **parameters)
    assert our.coefs_[0].dtype == their.coefs_[0].dtype == np.float64
    assert our.predict(X).dtype == their.predict(X).dtype
    # It evaluates its loss in float32.
    np.testing.assert_allclose(our.predict(X), their.predict(X), rtol=1e-3, atol=1e-3)


def test_a_batch_without_weight_has_no_loss(backend: Backend):
    weights = np.where(np.arange(67) % 3 == 0, 0.0, 1.0)
    parameters = {"solver": "sgd", "momentum": 0, "batch_size": 1, "shuffle": False, "max_iter": 1}
    model = ours.MLPRegressor(random_state=0, backend=backend, **parameters)
    with pytest.warns(ConvergenceWarning):
        model.fit(X_SMALL, Z_SMALL, sample_weight=weights)
    there = weights > 0
    alone = clone(model)
    with pytest.warns(ConvergenceWarning):
        alone.fit(X_SMALL[there], Z_SMALL[there])
    np.testing.assert_array_equal(model.coefs_[0], alone.coefs_[0])
    assert model.loss_ == pytest.approx(alone.loss_ * there.mean(), rel=1e-12)
