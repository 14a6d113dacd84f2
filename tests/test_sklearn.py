"""The scikit-learn estimators: the numbers of scikit-learn's own, and what they add."""

from __future__ import annotations

import ast
import copy
import dataclasses
import inspect
import pickle
import re
import runpy
import sys
import threading
import typing
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import sklearn
import sklearn.neural_network as theirs
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_iris,
    make_classification,
    make_multilabel_classification,
    make_regression,
)
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.metrics import balanced_accuracy_score, log_loss
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from sklearn.utils.estimator_checks import check_sample_weight_equivalence_on_dense_data

import fastmlp.sklearn as ours
from fastmlp import MLP, SGD, Adagrad, Backend, Callback, CSVLog, EarlyStopping
from fastmlp.backends.base import Session
from fastmlp.losses import CustomLoss, Huber, Quantile
from fastmlp.schedules import Cosine, ReduceOnPlateau
from fastmlp.sklearn import LossCurveDisplay, MLPClassifier, MLPRegressor
from fastmlp.sklearn._learned import OptimizerState

# Short fits do not converge, and need not.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X_IRIS, Y_IRIS = load_iris(return_X_y=True)
X_CANCER, Y_CANCER = load_breast_cancer(return_X_y=True)
X_CANCER = scale(X_CANCER)
X_DIABETES, Y_DIABETES = load_diabetes(return_X_y=True)
Y_DIABETES = scale(Y_DIABETES)
X_LABELS, Y_LABELS = make_multilabel_classification(n_samples=300, random_state=0)
X_LABELS = scale(X_LABELS)
X_THREE, Y_THREE = make_regression(n_samples=300, n_features=6, n_targets=3, random_state=0)
Y_THREE = scale(Y_THREE)
WEIGHTS = np.random.default_rng(0).uniform(0.5, 2.0, len(X_IRIS))


def both(kind: str, backend: Backend, X: Any, y: Any, fit: dict[str, Any], **parameters: Any):
    """Return scikit-learn's estimator and ours, fitted with the same parameters."""
    parameters = {"random_state": 0, **parameters}
    their = getattr(theirs, kind)(**parameters).fit(X, y, **fit)
    our = getattr(ours, kind)(**parameters, backend=backend).fit(X, y, **fit)
    return their, our


# The same numbers as scikit-learn --------------------------------------------------------------

SGD_FITS = {
    "plain": (X_IRIS, Y_IRIS, {"momentum": 0}),
    "momentum": (X_IRIS, Y_IRIS, {"nesterovs_momentum": False}),
    "nesterov": (X_IRIS, Y_IRIS, {"batch_size": 50, "learning_rate_init": 0.01}),
    "two classes": (X_CANCER, Y_CANCER, {"hidden_layer_sizes": (20, 10), "activation": "tanh"}),
    "logistic": (X_CANCER, Y_CANCER, {"activation": "logistic", "max_iter": 30}),
    "linear": (X_IRIS, Y_IRIS, {"hidden_layer_sizes": ()}),
    "much alpha": (X_IRIS, Y_IRIS, {"alpha": 3.0, "learning_rate_init": 0.05}),
    "in order": (X_IRIS, Y_IRIS, {"shuffle": False, "batch_size": 10, "max_iter": 5}),
    "sparse": (scipy.sparse.csc_matrix(X_IRIS), Y_IRIS, {"batch_size": 50, "max_iter": 20}),
    "inverse scaling": (
        X_IRIS,
        Y_IRIS,
        {"learning_rate": "invscaling", "learning_rate_init": 0.1, "power_t": 0.3},
    ),
    "adaptive": (
        X_IRIS,
        Y_IRIS,
        {
            "learning_rate": "adaptive",
            "tol": 1e-2,
            "n_iter_no_change": 3,
            "learning_rate_init": 0.1,
            "max_iter": 500,
        },
    ),
    "early stopping": (
        X_IRIS,
        Y_IRIS,
        {"early_stopping": True, "learning_rate_init": 0.1, "max_iter": 100},
    ),
    "stratified": (
        X_CANCER,
        Y_CANCER,
        {"early_stopping": True, "batch_size": 32, "learning_rate_init": 0.01},
    ),
    "several labels": (X_LABELS, Y_LABELS, {"batch_size": 100}),
    "strings": (X_IRIS, np.array(["a", "b", "c"])[Y_IRIS], {}),
}


@pytest.mark.parametrize("name", SGD_FITS)
def test_a_classifier_by_sgd_is_scikit_learns(name: str, backend: Backend):
    X, y, parameters = SGD_FITS[name]
    their, our = both("MLPClassifier", backend, X, y, {}, solver="sgd", **parameters)
    assert our.n_iter_ == their.n_iter_
    assert our.t_ == their.t_
    np.testing.assert_allclose(our.loss_curve_, their.loss_curve_, atol=2e-6)
    for mine, its in ((our.coefs_, their.coefs_), (our.intercepts_, their.intercepts_)):
        for a, b in zip(mine, its, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
    np.testing.assert_allclose(our.predict_proba(X), their.predict_proba(X), atol=1e-6)
    np.testing.assert_array_equal(our.predict(X), their.predict(X))
    assert our.validation_scores_ == their.validation_scores_
    assert our.best_validation_score_ == their.best_validation_score_
    assert our.out_activation_ == their.out_activation_
    assert (our.best_loss_ is None) == (their.best_loss_ is None)


@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
@pytest.mark.parametrize("y", [np.abs(Y_THREE), np.abs(Y_THREE[:, 0])], ids=["three", "one"])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_a_regressor_is_scikit_learns(solver: str, y: Any, loss: str, backend: Backend):
    their, our = both(
        "MLPRegressor", backend, X_THREE, y, {}, solver=solver, loss=loss, batch_size=100
    )
    np.testing.assert_allclose(our.loss_curve_, their.loss_curve_, atol=1e-8)
    np.testing.assert_allclose(our.predict(X_THREE), their.predict(X_THREE), atol=1e-8)


@pytest.mark.parametrize(
    ("kind", "X", "y", "parameters"),
    [
        ("MLPClassifier", X_IRIS, Y_IRIS, {}),
        ("MLPClassifier", X_CANCER, Y_CANCER, {"activation": "logistic", "alpha": 1.0}),
        ("MLPClassifier", X_LABELS, Y_LABELS, {}),
        ("MLPRegressor", X_DIABETES, Y_DIABETES, {}),
        ("MLPRegressor", X_DIABETES, np.abs(Y_DIABETES), {"loss": "poisson"}),
    ],
)
def test_lbfgs_is_scikit_learns(
    kind: str, X: Any, y: Any, parameters: dict[str, Any], backend: Backend
):
    fit = {"sample_weight": WEIGHTS} if len(X) == len(WEIGHTS) else {}
    their, our = both(kind, backend, X, y, fit, solver="lbfgs", max_iter=10, **parameters)
    assert our.loss_ == pytest.approx(their.loss_, abs=1e-8)
    np.testing.assert_allclose(our.coefs_[0], their.coefs_[0], atol=1e-6)
    assert our.n_iter_ == their.n_iter_


def test_weighted_samples_are_scikit_learns(backend: Backend):
    fit = {"sample_weight": WEIGHTS}
    their, our = both("MLPClassifier", backend, X_IRIS, Y_IRIS, fit, solver="sgd")
    np.testing.assert_allclose(our.loss_curve_, their.loss_curve_, atol=1e-6)


@pytest.mark.parametrize(
    "estimator",
    [
        MLPClassifier(solver="lbfgs", backend="numba"),
        MLPRegressor(solver="sgd", tol=1e-2, random_state=42, backend="numba"),
    ],
)
def test_a_weight_of_two_is_a_sample_twice(estimator: Any):
    check_sample_weight_equivalence_on_dense_data(type(estimator).__name__, estimator)


def test_partial_fit_is_scikit_learns(backend: Backend):
    models = [
        theirs.MLPClassifier(solver="sgd", random_state=0, learning_rate="invscaling"),
        MLPClassifier(solver="sgd", random_state=0, learning_rate="invscaling", backend=backend),
    ]
    for model in models:
        for start in (0, 40, 80, 0):
            rows = np.arange(start, start + 60)
            model.partial_fit(X_IRIS[rows], Y_IRIS[rows], classes=[0, 1, 2])
    np.testing.assert_allclose(models[1].loss_curve_, models[0].loss_curve_, atol=1e-8)
    assert models[1].t_ == models[0].t_ == 240


def test_a_warm_start_goes_on_as_scikit_learns(backend: Backend):
    models = [
        theirs.MLPClassifier(solver="sgd", random_state=0, warm_start=True, max_iter=7),
        MLPClassifier(solver="sgd", random_state=0, warm_start=True, max_iter=7, backend=backend),
    ]
    for model in models:
        model.fit(X_IRIS, Y_IRIS).fit(X_IRIS, Y_IRIS)
    assert models[1].n_iter_ == 7
    np.testing.assert_allclose(models[1].loss_curve_, models[0].loss_curve_, atol=1e-7)


def test_every_parameter_of_scikit_learn_is_there_with_its_default():
    for kind in ("MLPClassifier", "MLPRegressor"):
        its = getattr(theirs, kind)().get_params()
        mine = getattr(ours, kind)().get_params()
        assert {name: mine[name] for name in its} == its


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_signature_constraints_and_docstring_state_the_same_parameters(kind: Any):
    parameters = dict(inspect.signature(kind).parameters)
    assert list(kind._parameter_constraints) == list(parameters)
    section = kind.__doc__.partition("Parameters\n")[2].partition("Attributes\n")[0]
    documented = re.findall(r"^    (\w+) : .+, default (.+)$", section, flags=re.MULTILINE)
    assert [name for name, _ in documented] == list(parameters)
    assert [ast.literal_eval(default) for _, default in documented] == [
        one.default for one in parameters.values()
    ]
    assert typing.get_type_hints(kind.__init__).keys() == {*parameters, "return"}


def test_a_wrong_argument_is_an_error_of_the_constructor():
    with pytest.raises(TypeError, match=r"MLPRegressor.__init__\(\) got an unexpected .*'alhpa'"):
        MLPRegressor(alhpa=1)
    with pytest.raises(TypeError, match=r"MLPClassifier.__init__\(\) takes from 1 to 3"):
        MLPClassifier((5,), "relu", "adam")


def test_a_subclass_may_have_parameters_of_its_own():
    class Named(MLPClassifier):
        def __init__(self, alpha: float = 0.5, name: str = "none"):
            super().__init__(alpha=alpha, max_iter=2, backend="numpy")
            self.name = name

    model = clone(Named(name="iris")).fit(X_IRIS, Y_IRIS)
    assert model.get_params() == {"alpha": 0.5, "name": "iris"}
    assert model.n_iter_ == 2


def test_an_estimator_is_none_of_the_dataclasses_that_become_dicts_of_their_parameters():
    @dataclasses.dataclass
    class Experiment:
        model: Any

    model = MLPClassifier(max_iter=2, backend="numpy").fit(X_IRIS, Y_IRIS)
    kept = dataclasses.asdict(Experiment(model))["model"]
    np.testing.assert_array_equal(kept.predict(X_IRIS), model.predict(X_IRIS))


def test_verbose_lines_are_scikit_learns(capsys: pytest.CaptureFixture[str]):
    for kind, extra in ((theirs.MLPClassifier, {}), (MLPClassifier, {"backend": "numpy"})):
        kind(
            solver="sgd", verbose=True, early_stopping=True, max_iter=3, random_state=0, **extra
        ).fit(X_IRIS, Y_IRIS)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 12
    assert lines[:6] == lines[6:]


@pytest.mark.filterwarnings("default::sklearn.exceptions.ConvergenceWarning")
def test_a_fit_that_did_not_converge_warns():
    message = r"Maximum iterations \(2\) reached and the optimization hasn't converged yet"
    with pytest.warns(ConvergenceWarning, match=message):
        MLPClassifier(max_iter=2, backend="numpy").fit(X_IRIS, Y_IRIS)


def test_ctrl_c_warns_and_keeps_the_model(monkeypatch: pytest.MonkeyPatch):
    model = MLPClassifier(backend="numpy", random_state=0, max_iter=50, verbose=True)
    lines = iter(range(5))

    def interrupt(*_: object) -> None:
        if next(lines, None) is None:
            raise KeyboardInterrupt

    monkeypatch.setattr("builtins.print", interrupt)
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        model.fit(X_IRIS, Y_IRIS)
    assert model.n_iter_ == len(model.loss_curve_) == 5
    assert model.predict(X_IRIS).shape == (150,)


# Weights as attributes -------------------------------------------------------------------------


def test_changed_weights_change_the_model():
    model = MLPRegressor(backend="numpy", max_iter=2).fit(X_DIABETES, Y_DIABETES)
    model.intercepts_[-1][:] += 1
    shifted = model.predict(X_DIABETES)
    model.intercepts_[-1] = model.intercepts_[-1] - 1
    np.testing.assert_allclose(model.predict(X_DIABETES), shifted - 1, atol=1e-12)


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_pickles_predict_and_go_on_alike(kind: Any, backend: Backend):
    model = kind(backend=backend.name, random_state=0, solver="sgd").partial_fit(
        X_IRIS, Y_IRIS, **({"classes": [0, 1, 2]} if kind is MLPClassifier else {})
    )
    twin = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(twin.predict(X_IRIS), model.predict(X_IRIS))
    for each in (model, twin):
        each.partial_fit(X_IRIS, Y_IRIS)
    np.testing.assert_array_equal(twin.coefs_[0], model.coefs_[0])
    assert len(pickle.dumps(model)) < 3.5 * model._network.parameters.nbytes + 5000


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_older_pickles_go_on_alike(kind: Any):
    """Those of the time when both estimators, and a plateau's two parts, had one home."""
    plateau = ReduceOnPlateau(metric="loss", patience=0, threshold=1.0)
    model = kind(backend="numpy", random_state=0, solver="sgd", schedule=plateau, max_iter=3)
    model.fit(X_IRIS, Y_IRIS)
    old = clone(model)
    vars(old).update(vars(model))
    old._optimizer = object.__new__(OptimizerState)
    now = model._optimizer
    assert now.plateau.factor < 1
    vars(old._optimizer).update(vars(now), plateau=now.plateau.watch)
    vars(old._optimizer)["plateau_factor"] = now.plateau.factor
    text = pickle.dumps(old, protocol=0)
    for module, name, older in (
        (kind.__module__, kind.__name__, "fastmlp.sklearn._estimators"),
        (OptimizerState.__module__, "OptimizerState", "fastmlp.sklearn._objective"),
    ):
        assert f"c{module}\n{name}\n".encode() in text
        text = text.replace(f"c{module}\n{name}\n".encode(), f"c{older}\n{name}\n".encode())
    twin = pickle.loads(text)
    for each in (model, twin):
        each.partial_fit(X_IRIS, Y_IRIS)
    assert twin._optimizer.plateau == model._optimizer.plateau
    np.testing.assert_array_equal(twin.coefs_[0], model.coefs_[0])


# Additions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parameters",
    [
        {"activation": "gelu"},
        {
            "activation": ["silu", "tanh"],
            "hidden_layer_sizes": (16, 8),
            "learning_rate_init": 0.01,
        },
        {"optimizer": "rmsprop"},
        {"optimizer": Adagrad(0.1)},
        {"optimizer": SGD(0.1, momentum=0.9), "schedule": Cosine(warm_up=0.1)},
        {"schedule": "cosine", "learning_rate_init": 0.01},
        {"schedule": ReduceOnPlateau(patience=1), "learning_rate_init": 0.01},
        {"weight_decay": 0.01},
        {"weight_decay": 0.01, "solver": "sgd", "learning_rate_init": 0.1},
        {"dropout": 0.2, "learning_rate_init": 0.01},
        {"dropout": (0.1, 0.2)},
        {"gradient_clip": 1.0, "solver": "sgd", "learning_rate_init": 0.1},
        {"label_smoothing": 0.1},
        {"loss": "mse", "learning_rate_init": 0.01},
        {"dtype": "float32"},
        {"dtype": np.float32, "n_threads": 1},
    ],
    ids=str,
)
def test_each_addition_learns_on_either_backend(parameters: dict[str, Any]):
    models = [
        MLPClassifier(max_iter=100, random_state=0, backend=backend, **parameters)
        for backend in ("numpy", "numba")
    ]
    X = scale(X_IRIS)
    for model in models:
        assert model.fit(X, Y_IRIS).score(X, Y_IRIS) > 0.9
    close = 1e-2 if "dtype" in parameters else 1e-6
    np.testing.assert_allclose(models[1].loss_curve_, models[0].loss_curve_, rtol=close)


def test_dropout_is_drawn_from_the_random_state():
    fits = [
        MLPClassifier(dropout=0.5, max_iter=3, random_state=seed, backend="numpy")
        .fit(X_IRIS, Y_IRIS)
        .loss_
        for seed in (0, 0, 1)
    ]
    assert fits[0] == fits[1] != fits[2]


def test_weight_decay_shrinks_weights():
    norms = [
        np.linalg.norm(
            MLPClassifier(weight_decay=decay, random_state=0, learning_rate_init=0.01)
            .fit(X_IRIS, Y_IRIS)
            .coefs_[0]
        )
        for decay in (0.0, 1.0)
    ]
    assert norms[1] < 0.8 * norms[0]


@pytest.mark.parametrize(
    "loss", ["mae", "huber", Huber(0.5), "quantile", "mse", "half_fourth_power"], ids=str
)
def test_a_regressor_takes_any_loss(loss: Any, backend: Backend):
    if loss == "half_fourth_power":
        loss = CustomLoss(
            lambda o, t: 0.5 * np.mean((o - t) ** 4, axis=1),
            lambda o, t: 2 * (o - t) ** 3 / o.shape[1],
        )
    model = MLPRegressor(loss=loss, learning_rate_init=0.01, random_state=0, backend=backend)
    model.fit(X_DIABETES, Y_DIABETES)
    assert model.loss_ < 0.8 * model.loss_curve_[0]
    assert model.score(X_DIABETES, Y_DIABETES) > 0.4


def test_several_quantiles_lie_where_they_should(backend: Backend):
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (2000, 1))
    y = X[:, 0] + rng.normal(0, 0.5, 2000)
    model = MLPRegressor(
        loss=Quantile((0.1, 0.5, 0.9)), learning_rate_init=0.01, random_state=0, backend=backend
    ).fit(X, y)
    below = (y[:, None] < model.predict(X)).mean(axis=0)
    np.testing.assert_allclose(below, [0.1, 0.5, 0.9], atol=0.04)
    assert 0 < model.score(X, y) < 1
    model.set_params(early_stopping=True, max_iter=5).fit(X, y)
    assert model.best_validation_score_ == max(model.validation_scores_)


@pytest.mark.parametrize("weights", ["balanced", {0: 1.0, 1: 20.0}], ids=str)
def test_class_weights_help_the_rare_class(weights: Any, backend: Backend):
    X, y = make_classification(
        600, n_informative=4, weights=[0.95], class_sep=0.5, flip_y=0.05, random_state=0
    )
    scores = [
        balanced_accuracy_score(
            y,
            MLPClassifier(class_weight=given, random_state=0, max_iter=60, backend=backend)
            .fit(X, y)
            .predict(X),
        )
        for given in (None, weights)
    ]
    assert scores[1] > scores[0] + 0.1


def test_class_weights_are_sample_weights(backend: Backend):
    by_class = MLPClassifier(
        class_weight={0: 3.0, 1: 0.5}, max_iter=5, random_state=0, backend=backend
    ).fit(X_IRIS, Y_IRIS)
    by_sample = MLPClassifier(max_iter=5, random_state=0, backend=backend).fit(
        X_IRIS, Y_IRIS, sample_weight=np.array([3.0, 0.5, 1.0])[Y_IRIS]
    )
    np.testing.assert_array_equal(by_class.coefs_[0], by_sample.coefs_[0])


def test_validation_data_are_watched(backend: Backend):
    rows, held = np.arange(0, 150, 2), np.arange(1, 150, 2)
    model = MLPClassifier(max_iter=10, random_state=0, alpha=0, backend=backend)
    model.fit(X_IRIS[rows], Y_IRIS[rows], validation_data=(X_IRIS[held], Y_IRIS[held]))
    assert len(model.validation_loss_curve_) == len(model.validation_scores_) == 10
    expected = log_loss(Y_IRIS[held], model.predict_proba(X_IRIS[held]))
    assert model.validation_loss_curve_[-1] == pytest.approx(expected)
    assert model.validation_scores_[-1] == model.score(X_IRIS[held], Y_IRIS[held])
    unwatched = clone(model).fit(X_IRIS[rows], Y_IRIS[rows])
    np.testing.assert_array_equal(unwatched.coefs_[0], model.coefs_[0])


@pytest.mark.parametrize("scoring", ["f1_macro", "neg_log_loss", "loss", balanced_accuracy_score])
def test_early_stopping_takes_any_scorer(scoring: Any, backend: Backend):
    if callable(scoring):
        scoring = sklearn.metrics.make_scorer(scoring)
    X = pd.DataFrame(X_IRIS, columns=["a", "b", "c", "d"])
    model = MLPClassifier(
        early_stopping=True,
        scoring=scoring,
        solver="sgd",
        learning_rate_init=0.1,
        random_state=0,
        max_iter=60,
        backend=backend,
    )
    model.fit(X, Y_IRIS, validation_data=(X, Y_IRIS))
    assert model.best_validation_score_ == max(model.validation_scores_)
    if isinstance(scoring, str) and scoring != "loss":
        # The best epoch's weights were kept.
        again = sklearn.metrics.get_scorer(scoring)(model, X, Y_IRIS)
        assert again == pytest.approx(model.best_validation_score_)


def test_our_callbacks_are_called(tmp_path: Any, backend: Backend):
    seen = []
    model = MLPClassifier(
        random_state=0,
        backend=backend,
        callbacks=[
            lambda fit, record: seen.append((record["epoch"], fit.network.parameters[0])),
            CSVLog(tmp_path / "log.csv"),
            lambda fit, record: record["epoch"] == 4,
        ],
    ).fit(X_IRIS, Y_IRIS)
    assert [epoch for epoch, _ in seen] == [1, 2, 3, 4]
    assert seen[-1][1] == model.coefs_[0][0, 0] != seen[0][1]
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 5
    plain = MLPClassifier(random_state=0, backend=backend, max_iter=4).fit(X_IRIS, Y_IRIS)
    np.testing.assert_array_equal(model.coefs_[0], plain.coefs_[0])


def test_a_callback_may_change_the_weights(backend: Backend):
    class Zero(Callback):
        def on_epoch_end(self, trainer: Any, record: Any) -> None:
            trainer.network.parameters[:] = 0

    model = MLPRegressor(max_iter=2, backend=backend, callbacks=[Zero()])
    assert not model.fit(X_DIABETES, Y_DIABETES).predict(X_DIABETES).any()


def test_our_early_stopping_callback_restores_the_best(backend: Backend):
    stop = EarlyStopping("val_loss", patience=2)
    model = MLPRegressor(
        solver="sgd", learning_rate_init=0.3, random_state=0, backend=backend, callbacks=[stop]
    )
    data = X_DIABETES[:100], Y_DIABETES[:100]
    model.fit(X_DIABETES[100:], Y_DIABETES[100:], validation_data=data)
    assert min(model.validation_loss_curve_) == stop.best
    mean_square = np.mean((model.predict(data[0]) - data[1]) ** 2)
    assert mean_square / 2 == pytest.approx(stop.best)


def test_scikit_learns_callbacks_are_called(backend: Backend):
    callback = pytest.importorskip("sklearn.callback")
    monitor = callback.ScoringMonitor(scoring="accuracy")
    model = MLPClassifier(max_iter=4, random_state=0, backend=backend).set_callbacks(monitor)
    model.fit(X_IRIS, Y_IRIS)
    logs = monitor.get_logs()
    scores = logs.data_as_pandas["accuracy"]
    assert len(scores) >= 4
    assert scores.iloc[-1] == model.score(X_IRIS, Y_IRIS)


# Data ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_frames_leave_their_columns_names(frame: Any):
    X = frame({"width": X_IRIS[:, 0], "height": X_IRIS[:, 1]})
    model = MLPClassifier(max_iter=2, early_stopping=True, backend="numpy").fit(X, Y_IRIS)
    assert list(model.feature_names_in_) == ["width", "height"]
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame({"a": X_IRIS[:, 0], "b": X_IRIS[:, 1]}))


@pytest.mark.parametrize("container", [scipy.sparse.csr_matrix, scipy.sparse.csc_array])
@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_sparse_rows_give_what_dense_rows_give(container: Any, solver: str, backend: Backend):
    X = np.where(np.random.default_rng(0).random(X_CANCER.shape) < 0.8, 0, X_CANCER)
    models = [
        MLPClassifier(solver=solver, random_state=0, max_iter=5, backend=backend).fit(x, Y_CANCER)
        for x in (X, container(X))
    ]
    np.testing.assert_allclose(models[1].coefs_[0], models[0].coefs_[0], atol=1e-9)
    np.testing.assert_array_equal(models[1].predict(container(X)), models[0].predict(X))


@pytest.mark.parametrize(
    "parameters",
    [{"solver": "sgd"}, {"solver": "adam"}, {"solver": "lbfgs", "dtype": "float32"}],
    ids=str,
)
def test_float32_is_kept(parameters: dict[str, Any], backend: Backend):
    model = MLPRegressor(max_iter=5, backend=backend, **parameters)
    model.fit(X_DIABETES.astype(np.float32), Y_DIABETES)
    assert {w.dtype for w in model.coefs_} == {np.dtype(np.float32)}
    assert model.predict(X_DIABETES.astype(np.float32)).dtype == np.float32


def test_no_hidden_layer_is_a_linear_model(backend: Backend):
    X = scale(X_DIABETES)
    model = MLPRegressor(hidden_layer_sizes=(), solver="lbfgs", alpha=0, tol=1e-8, backend=backend)
    linear = LinearRegression().fit(X, Y_DIABETES)
    predicted = model.fit(X, Y_DIABETES).predict(X)
    np.testing.assert_allclose(predicted, linear.predict(X), atol=1e-3)


@given(
    n_classes=st.integers(2, 5),
    n_samples=st.integers(12, 40),
    batch_size=st.integers(1, 12),
    seed=st.integers(0, 1000),
)
def test_any_shape_is_scikit_learns(n_classes: int, n_samples: int, batch_size: int, seed: int):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(n_samples, 3)), np.arange(n_samples) % n_classes
    parameters: dict[str, Any] = {
        "hidden_layer_sizes": (5,),
        "solver": "sgd",
        "alpha": 0.1,
        "batch_size": batch_size,
        "max_iter": 4,
        "random_state": seed,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        their = theirs.MLPClassifier(**parameters).fit(X, y)
        our = MLPClassifier(**parameters, backend="numba").fit(X, y)
    np.testing.assert_allclose(our.loss_curve_, their.loss_curve_, rtol=1e-9)


# Mistakes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"activation": "foo"}, "unknown activation 'foo'; choose one of 'relu'"),
        ({"alpha": -1}, "The 'alpha' parameter of MLPClassifier must be a float in the range"),
        ({"hidden_layer_sizes": (3, -1)}, r"hidden_layer_sizes must be > 0, got \[3, -1\]"),
        ({"backend": "abacus"}, "unknown backend 'abacus'"),
        ({"activation": ["relu", "tanh"]}, "one activation for each of the 1 hidden layers"),
        ({"schedule": "cosine", "learning_rate": "adaptive"}, "schedule takes the place of"),
        ({"solver": "lbfgs", "dropout": 0.1}, "the solver 'lbfgs' cannot use 'dropout'"),
        ({"optimizer": "adam", "weight_decay": 0.1}, "an optimizer has its own"),
        ({"loss": "mse", "label_smoothing": 0.1}, "label_smoothing is for the loss 'log_loss'"),
        ({"dropout": (0.1, 0.2, 0.3)}, "dropout as a tuple needs 2 shares"),
        ({"schedule": ReduceOnPlateau(metric="val_loss")}, "pass validation_data to fit"),
    ],
)
def test_a_wrong_parameter_gets_a_clear_sentence(parameters: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        MLPClassifier(**parameters).fit(X_IRIS, Y_IRIS)


def test_wrong_data_get_a_clear_sentence():
    model = MLPClassifier(max_iter=1, backend="numpy")
    with pytest.raises(NotFittedError):
        model.predict(X_IRIS)
    with pytest.raises(ValueError, match=r"validation_data must be a tuple \(X, y\)"):
        model.fit(X_IRIS, Y_IRIS, validation_data=X_IRIS)
    with pytest.raises(ValueError, match=r"`y` has classes not in `self\.classes_`"):
        model.fit(X_IRIS, Y_IRIS, validation_data=(X_IRIS, Y_IRIS + 1))
    with pytest.raises(ValueError, match="class_weight and sample_weight leave no sample"):
        clone(model).set_params(class_weight={0: 0, 1: 0, 2: 0}).fit(X_IRIS, Y_IRIS)
    with pytest.raises(ValueError, match="Unknown label type"):
        model.fit(X_IRIS, X_IRIS[:, 0])
    with pytest.raises(ValueError, match="poisson targets must be at least 0"):
        MLPRegressor("poisson").fit(X_DIABETES, Y_DIABETES)


def test_without_scikit_learn_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"pip install 'fastmlp\[sklearn\]'"):
        runpy.run_module("fastmlp.sklearn.__init__")


# Among scikit-learn's tools --------------------------------------------------------------------


def test_a_pipeline_in_a_grid_search(backend: Backend):
    search = GridSearchCV(
        make_pipeline(StandardScaler(), MLPClassifier(max_iter=40, backend=backend.name)),
        {"mlpclassifier__alpha": [1e-4, 1e-2], "mlpclassifier__activation": ["relu", "gelu"]},
        cv=3,
    ).fit(X_IRIS, Y_IRIS)
    assert search.best_score_ > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["loky", "threading", "multiprocessing"])
def test_two_workers_find_what_one_finds(parallel: str, backend: Backend):
    joblib = pytest.importorskip("joblib")
    model = MLPClassifier(max_iter=40, random_state=0, backend=backend.name)
    MLPClassifier(max_iter=2, backend=backend.name).fit(X_CANCER, Y_CANCER)  # before any fork
    alone = cross_val_score(model, X_CANCER, Y_CANCER, cv=4)
    with joblib.parallel_config(backend=parallel, n_jobs=2):
        together = cross_val_score(model, X_CANCER, Y_CANCER, cv=4)
    np.testing.assert_array_equal(together, alone)


def test_metadata_are_routed():
    with sklearn.config_context(enable_metadata_routing=True):
        model = MLPRegressor(max_iter=2, backend="numpy")
        model.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        scores = cross_val_score(
            model, X_DIABETES, Y_DIABETES, cv=3, params={"sample_weight": np.ones(len(X_DIABETES))}
        )
    assert len(scores) == 3
    requests = MLPClassifier().get_metadata_routing().fit.requests
    assert set(requests) == {"sample_weight", "validation_data"}


def test_notebooks_show_the_estimator():
    html = MLPClassifier(alpha=0.5)._repr_html_()
    assert "MLPClassifier" in html
    assert "0.5" in html


# The loss curve --------------------------------------------------------------------------------


def test_the_loss_curve_is_drawn():
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("Agg")
    model = MLPClassifier(max_iter=5, backend="numpy", early_stopping=True).fit(X_IRIS, Y_IRIS)
    figure, ax = plt.subplots()
    display = LossCurveDisplay.from_estimator(model, ax=ax, name="iris", linestyle=":")
    assert display.ax_ is ax
    assert display.figure_ is figure
    training, validation = display.lines_
    np.testing.assert_array_equal(training.get_ydata(), model.loss_curve_)
    np.testing.assert_array_equal(validation.get_ydata(), model.validation_loss_curve_)
    assert training.get_label() == "iris: training loss"
    assert training.get_linestyle() == ":"
    plt.close(figure)


def test_there_is_no_curve_of_what_has_none():
    with pytest.raises(NotFittedError):
        LossCurveDisplay.from_estimator(MLPClassifier())
    model = MLPClassifier(solver="lbfgs", backend="numpy", max_iter=3).fit(X_IRIS, Y_IRIS)
    with pytest.raises(ValueError, match="has no loss curve"):
        LossCurveDisplay.from_estimator(model)


@pytest.mark.parametrize("what", ["X", "y", "sample_weight"])
def test_masked_values_are_refused(what: str):
    data = {"X": X_IRIS, "y": Y_IRIS, "sample_weight": np.ones(len(Y_IRIS))}
    mask = np.zeros(data[what].shape, dtype=bool)
    mask[3] = True
    data[what] = np.ma.masked_array(data[what], mask)
    with pytest.raises(ValueError, match=f"{what} has masked values"):
        MLPClassifier((3,), max_iter=1).fit(**data)
    if what == "X":
        with pytest.raises(ValueError, match="X has masked values"):
            _short_fit().predict(data["X"])


def test_weights_of_nan_predict_no_class():
    model = _short_fit()
    model.coefs_[0][:] = np.nan
    with pytest.raises(ValueError, match="the network's logits are NaN or infinite"):
        model.predict(X_IRIS)


def _short_fit() -> MLPClassifier:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return MLPClassifier((3,), max_iter=2, random_state=0).fit(X_IRIS, Y_IRIS)


@pytest.mark.parametrize("what", [0, 1, 2])
def test_masked_validation_data_are_refused(what: int):
    data = [X_IRIS, Y_IRIS, np.ones(len(Y_IRIS))]
    data[what] = np.ma.masked_array(data[what], np.zeros(data[what].shape, dtype=bool))
    data[what][3] = np.ma.masked
    model = MLPClassifier((3,), max_iter=1, early_stopping=True)
    with pytest.raises(ValueError, match="has masked values"):
        model.fit(X_IRIS, Y_IRIS, validation_data=tuple(data))


@pytest.mark.parametrize(
    ("watcher", "settings"),
    [
        (EarlyStopping(), {}),
        (EarlyStopping("accuracy"), {}),
        (EarlyStopping("val_accuracy"), {"early_stopping": True, "scoring": "f1_macro"}),
        (EarlyStopping("learning_rate"), {}),
        (ReduceOnPlateau(metric="val_loss"), {}),
        (ReduceOnPlateau(metric="val_r2"), {"early_stopping": True}),
    ],
    ids=str,
)
def test_a_column_that_there_will_not_be_is_named_before_anything_changes(watcher, settings):
    if isinstance(watcher, EarlyStopping):
        settings = {**settings, "callbacks": [watcher]}
    else:
        settings = {**settings, "schedule": watcher}
    new = MLPClassifier((3,), random_state=0, **settings)
    fitted = _short_fit().set_params(**settings)
    before = [w.copy() for w in fitted.coefs_]
    for model in (new, fitted):
        with pytest.raises(ValueError, match=r"is not recorded|is not known"):
            model.fit(X_IRIS, Y_IRIS)
    assert not hasattr(new, "coefs_")
    for now, then in zip(fitted.coefs_, before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("dropout", [[0.1, 0.2], (0.1, 0.2), 0.2])
def test_shares_of_dropout_may_be_a_list(dropout):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = MLPClassifier((3,), max_iter=2, random_state=0, dropout=dropout)
        assert np.isfinite(model.fit(X_IRIS, Y_IRIS).loss_)


# Predictions -----------------------------------------------------------------------------------


def test_an_estimator_predicts_by_its_backend_and_by_its_weights_of_now(backend: Backend):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 4)), rng.integers(0, 3, 60)
    model = MLPClassifier((5,), max_iter=5, random_state=0, backend=backend).fit(X, y)

    def expected() -> np.ndarray:
        return MLP.from_sklearn(model).predict_proba(X)

    np.testing.assert_allclose(model.predict_proba(X), expected(), rtol=1e-12)
    model.coefs_[0][:] += 1.0
    np.testing.assert_allclose(model.predict_proba(X), expected(), rtol=1e-12)
    model.partial_fit(X, y)
    np.testing.assert_allclose(model.predict_proba(X), expected(), rtol=1e-12)
    model.set_params(activation="tanh")
    np.testing.assert_allclose(model.predict_proba(X), expected(), rtol=1e-12)
    for again in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), copy.copy(model)):
        np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    model.coefs_[0][:] = np.nan
    with pytest.raises(ValueError, match="the network's logits are NaN or infinite"):
        model.predict(X)


def test_an_estimator_of_a_backend_that_is_missing_predicts_by_the_reference(monkeypatch):
    X, y = np.eye(4), [0, 1, 0, 1]
    model = MLPClassifier(max_iter=2, random_state=0, backend="numba").fit(X, y)
    expected = model.predict_proba(X)
    moved = pickle.loads(pickle.dumps(model))
    monkeypatch.setitem(sys.modules, "fastmlp.backends.numba_backend", None)
    np.testing.assert_allclose(moved.predict_proba(X), expected, rtol=1e-12)
    with pytest.raises(ImportError):
        moved.fit(X, y)


def test_threads_that_predict_by_one_estimator_do_not_wait_for_each_other(monkeypatch):
    X, together = np.eye(4), threading.Barrier(2)
    model = MLPClassifier(backend="numpy", random_state=0).partial_fit(
        X, [0, 1, 0, 1], classes=[0, 1]
    )
    expected, predict = model.predict_proba(X), Session.predict

    def meet(session: Session, rows: np.ndarray, kind: str) -> np.ndarray:
        together.wait(timeout=10)
        return predict(session, rows, kind)

    monkeypatch.setattr(Session, "predict", meet)
    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(model.predict_proba, [X, X]):
            np.testing.assert_array_equal(found, expected)


def test_threads_may_predict_by_one_estimator_at_once(backend: Backend):
    X = np.random.default_rng(0).normal(size=(300, 4))
    y = (X[:, 0] > 0).astype(int)
    model = MLPClassifier((5,), max_iter=5, random_state=0, backend=backend).fit(X, y)
    parts = [X[i : i + 50] for i in range(0, 300, 50)]
    expected = [model.predict_proba(part) for part in parts]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(20):
            for found, right in zip(pool.map(model.predict_proba, parts), expected, strict=True):
                np.testing.assert_array_equal(found, right)
