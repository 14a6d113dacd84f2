"""The estimators for tables: frames as they are, members on folds, and honest uncertainty."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_diabetes, load_iris, make_classification, make_regression
from sklearn.inspection import PartialDependenceDisplay, permutation_importance
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from fastmlp import Trainer
from fastmlp.callbacks import Callback
from fastmlp.errors import TrainingInterrupted
from fastmlp.sklearn import TabularClassifier, TabularRegressor

QUICK = {"n_members": 2, "n_epochs": 12, "hidden_layer_sizes": (16,), "random_state": 0}


def troubled_table(n: int = 240, seed: int = 0) -> pd.DataFrame:
    """Return a table with every trouble that tables have."""
    generator = np.random.default_rng(seed)
    number = generator.standard_normal(n)
    with_missing = np.where(generator.random(n) < 0.2, np.nan, number**2)
    colours = generator.choice(["red", "green", "blue"], n).astype(object)
    colours[generator.random(n) < 0.1] = None
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(generator.integers(0, 900, n), unit="D")
    return pd.DataFrame(
        {
            "number": number,
            "with missing": with_missing,
            "tiny": number * 1e-25,
            "huge": number * 1e25 + 1e27,
            "constant": np.ones(n),
            "nothing": np.full(n, np.nan),
            "count": generator.integers(0, 5, n),
            "flag": generator.random(n) < 0.5,
            "maybe": pd.array(generator.choice([True, False, None], n), dtype="boolean"),
            "colour": colours,
            "size": pd.Categorical(generator.choice(["S", "M", "L"], n)),
            "day": days,
        }
    )


def classes_of(table: pd.DataFrame) -> np.ndarray[Any, Any]:
    return np.where(table["number"] + (table["colour"] == "red") > 0.3, "yes", "no")


def values_of(table: pd.DataFrame) -> np.ndarray[Any, Any]:
    return np.asarray(np.exp(table["number"] * 1.5) + 3.0 * (table["colour"] == "red"))


def test_a_table_with_every_trouble_is_classified(backend: str):
    table = troubled_table()
    model = TabularClassifier(**{**QUICK, "n_epochs": 40}, backend=backend)
    model.fit(table[:180], classes_of(table[:180]))
    assert model.score(table[180:], classes_of(table[180:])) > 0.8
    assert np.isfinite(model.predict_proba(table)).all()


def test_a_table_with_every_trouble_has_its_values_predicted(backend: str):
    table = troubled_table(600)
    model = TabularRegressor(
        **{**QUICK, "n_epochs": 60, "hidden_layer_sizes": (64,)}, backend=backend
    )
    model.fit(table[:450], values_of(table[:450]))
    assert np.corrcoef(values_of(table[450:]), model.predict(table[450:]))[0, 1] > 0.9
    assert model.predict(table).max() <= values_of(table[:450]).max()


def test_frames_of_pandas_and_polars_give_the_same_bits():
    table = troubled_table()
    ours = TabularClassifier(**QUICK).fit(table, classes_of(table))
    columns = {name: table[name].tolist() for name in ("number", "size", "count")}
    same = [
        TabularClassifier(**QUICK)
        .fit(frame(columns), classes_of(table))
        .predict_proba(frame(columns))
        for frame in (pd.DataFrame, pl.DataFrame)
    ]
    assert np.array_equal(*same)
    assert np.array_equal(
        ours.predict_proba(table), pickle.loads(pickle.dumps(ours)).predict_proba(table)
    )


def test_a_category_that_fit_never_saw_counts_as_missing():
    table = troubled_table()
    model = TabularClassifier(**QUICK).fit(table, classes_of(table))
    unseen, missing = table.copy(), table.copy()
    unseen["colour"], missing["colour"] = "violet", None
    assert np.array_equal(model.predict_proba(unseen), model.predict_proba(missing))


def test_equal_seeds_give_equal_bits_whatever_the_number_of_threads(backend: str):
    X, y = make_classification(200, random_state=0)
    first, second = (
        TabularClassifier(**QUICK, backend=backend, n_threads=n).fit(X, y).predict_proba(X)
        for n in (1, 2)
    )
    assert np.array_equal(first, second)


def test_every_row_is_held_out_once_and_predicted_by_who_did_not_see_it():
    X, y = load_iris(return_X_y=True)
    model = TabularClassifier(**{**QUICK, "n_members": 5}).fit(X, y)
    held_out = np.concatenate(model.ensemble_.held_out)
    assert np.array_equal(np.sort(held_out), np.arange(len(X)))
    for member, rows in zip(model.ensemble_.members, model.ensemble_.held_out, strict=True):
        assert np.bincount(y[rows]).tolist() == [10, 10, 10]
        outputs = member.predict_proba(model.encoder_.transform(X[rows]))
        again = np.log(model.oof_probabilities_[rows]) * model.temperature_
        again -= np.log(np.exp(again).sum(axis=1, keepdims=True))
        np.testing.assert_allclose(np.exp(again), outputs, rtol=1e-4, atol=1e-6)


def test_predictions_are_the_mean_of_the_members(backend: str):
    X, y = load_diabetes(return_X_y=True)
    model = TabularRegressor(**QUICK, backend=backend).fit(X, y)
    each = model.ensemble_.member_outputs(model.encoder_.transform(X))[:, :, 0]
    values = np.clip(each * model.target_scale_ + model.target_mean_, y.min(), y.max())
    np.testing.assert_allclose(model.predict(X), values.mean(axis=0), rtol=1e-6)


def test_probabilities_are_calibrated_by_rows_held_out():
    X, y = load_iris(return_X_y=True)
    quick = {**QUICK, "n_epochs": 60, "n_members": 4}
    plain, calibrated = (
        TabularClassifier(**quick, calibrate=one).fit(X, y) for one in (False, True)
    )
    assert plain.temperature_ == 1.0
    assert calibrated.temperature_ < 1.0  # label smoothing makes them too modest
    losses = [
        -np.log(model.oof_probabilities_[np.arange(len(y)), y]).mean()
        for model in (plain, calibrated)
    ]
    assert losses[1] < losses[0]


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9])
def test_intervals_hold_the_value_as_often_as_they_say(coverage: float):
    X, y = make_regression(1200, 5, noise=60, random_state=0)
    model = TabularRegressor(**{**QUICK, "n_members": 4, "n_epochs": 40}).fit(X[:400], y[:400])
    lower, upper = model.predict_interval(X[400:], coverage)
    assert abs(np.mean((lower <= y[400:]) & (y[400:] <= upper)) - coverage) < 0.07


@pytest.mark.parametrize("coverage", [0.7, 0.9])
def test_sets_hold_the_class_as_often_as_they_say(coverage: float):
    X, y = make_classification(
        1500, 8, n_informative=4, n_classes=4, n_clusters_per_class=1, flip_y=0.3, random_state=0
    )
    model = TabularClassifier(**{**QUICK, "n_members": 4}).fit(X[:500], y[:500])
    sets = model.predict_set(X[500:], coverage)
    assert sets.any(axis=1).all()
    assert abs(sets[np.arange(1000), y[500:]].mean() - coverage) < 0.07


def test_intervals_of_too_few_rows_promise_nothing():
    X, y = np.arange(8.0)[:, None], np.arange(8.0)
    lower, upper = TabularRegressor(**QUICK).fit(X, y).predict_interval(X, 0.95)
    assert np.isinf(lower).all()
    assert np.isinf(upper).all()


def test_a_regressor_takes_several_outputs():
    X, y = make_regression(150, 4, n_targets=3, random_state=0)
    model = TabularRegressor(**QUICK).fit(X, y)
    lower, upper = model.predict_interval(X)
    assert model.predict(X).shape == lower.shape == upper.shape == (150, 3)
    assert model.oof_predictions_.shape == (150, 3)


@pytest.mark.parametrize(
    "scoring",
    ["auto", "loss", "accuracy", "log_loss", "neg_log_loss", "roc_auc", "balanced_accuracy"],
)
def test_the_best_epoch_is_chosen_by_any_score(scoring: str):
    X, y = make_classification(80, random_state=0)
    model = TabularClassifier(**{**QUICK, "n_epochs": 3}, scoring=scoring).fit(X, y)
    assert model.fold_scores_.min() >= 0


@pytest.mark.parametrize("scoring", ["auto", "rmse", "mae", "r2", "neg_mean_absolute_error"])
def test_the_best_epoch_of_values_is_chosen_by_any_score(scoring: str):
    X, y = make_regression(80, 3, random_state=0)
    TabularRegressor(**{**QUICK, "n_epochs": 3}, scoring=scoring).fit(X, y)


def test_an_unknown_score_is_refused_with_a_hint():
    with pytest.raises(ValueError, match="unknown scoring 'acuracy'; did you mean 'accuracy'"):
        TabularClassifier(scoring="acuracy").fit(*load_iris(return_X_y=True))


def test_groups_are_held_out_whole():
    X, y = load_iris(return_X_y=True)
    groups = np.arange(150) // 15
    model = TabularClassifier(**{**QUICK, "n_members": 5}, cv=GroupKFold(5)).fit(
        X, y, groups=groups
    )
    for rows, others in zip(model.ensemble_.held_out, model.ensemble_.rows, strict=True):
        assert not set(groups[rows]) & set(groups[others])


def test_weights_of_rows_and_classes_reach_the_loss():
    X, y = np.zeros((200, 1)), np.repeat([0, 1], 100)
    quick = {**QUICK, "n_epochs": 30, "calibrate": False, "label_smoothing": 0.0}
    by_rows = TabularClassifier(**quick).fit(X, y, sample_weight=np.where(y == 1, 4.0, 1.0))
    by_classes = TabularClassifier(**quick, class_weight={1: 4.0}).fit(X, y)
    for model in (by_rows, by_classes):
        assert abs(model.predict_proba([[0.0]])[0, 1] - 0.8) < 0.05


@pytest.mark.parametrize(
    ("y", "reason"),
    [
        ([np.nan] * 6, "nothing but missing values"),
        ([0, 1, np.nan, 0, 1, 0], "y holds 1 missing value"),
        (["a"] * 6, "y holds one class, .*'a'"),
        ([0, 1, 0], "X has 6 rows, but y has 3"),
    ],
)
def test_a_bad_target_of_classes_is_refused_in_a_sentence(y: list[Any], reason: str):
    with pytest.raises(ValueError, match=reason):
        TabularClassifier(**QUICK).fit(np.arange(6.0)[:, None], y)


@pytest.mark.parametrize(
    ("y", "reason"),
    [
        ([None] * 6, "nothing but missing values"),
        (["cheap"] * 6, "must hold numbers, got .* such as .*'cheap'.*TabularClassifier"),
        ([0, 1, np.inf, 0, 1, 0], "y holds infinite values"),
    ],
)
def test_a_bad_target_of_values_is_refused_in_a_sentence(y: list[Any], reason: str):
    with pytest.raises(ValueError, match=reason):
        TabularRegressor(**QUICK).fit(np.arange(6.0)[:, None], y)


def test_a_fit_that_fails_leaves_the_model_as_it_was():
    X, y = load_iris(return_X_y=True)
    model = TabularClassifier(**QUICK).fit(X, y)
    before = model.predict_proba(X)
    with pytest.raises(ValueError, match="one class"):
        model.fit(X[:, :2], np.zeros(150))
    assert np.array_equal(model.predict_proba(X), before)


def test_it_is_a_part_of_scikit_learn():
    X, y = load_iris(return_X_y=True, as_frame=True)
    model = TabularClassifier(**{**QUICK, "n_epochs": 30})
    assert cross_val_score(clone(model), X, y, cv=2).mean() > 0.8
    search = GridSearchCV(model, {"learning_rate": [0.01, 0.04]}, cv=2).fit(X, y)
    best = make_pipeline(FunctionTransformer(), search.best_estimator_).fit(X, y)
    importances = permutation_importance(best, X, y, n_repeats=2, random_state=0).importances_mean
    assert importances[2:].max() > importances[:2].max()
    calibrated = CalibratedClassifierCV(model, cv=2).fit(X, y)
    assert calibrated.predict_proba(X).shape == (150, 3)
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        PartialDependenceDisplay.from_estimator(best, X, [2], target=0, grid_resolution=5)


class InterruptingCallback(Callback):
    """Presses Ctrl-C when so many fits have begun."""

    def __init__(self, after: int) -> None:
        self.after = after

    def __deepcopy__(self, memo: object) -> InterruptingCallback:
        return self

    def on_fit_begin(self, trainer: Trainer) -> None:
        self.after -= 1
        if self.after < 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("kind", [TabularClassifier, TabularRegressor])
def test_ctrl_c_leaves_the_members_that_had_an_epoch(kind: Any, monkeypatch: pytest.MonkeyPatch):
    X, y = load_iris(return_X_y=True)
    interrupt = InterruptingCallback(after=2)
    monkeypatch.setattr(kind, "_callbacks", lambda self, watched: [interrupt])
    model = kind(**{**QUICK, "n_members": 3}, n_threads=1, backend="numpy")
    with pytest.warns(TrainingInterrupted):
        model.fit(X, y)
    assert model.ensemble_.n_members == len(model.best_epochs_) == len(model.fold_scores_) == 2
    encoded = model.encoder_.transform(X)
    assert len(model.ensemble_.member_outputs(encoded)) == 2
    assert np.isfinite(model.predict(X)).all()


def test_ctrl_c_before_any_epoch_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch):
    X, y = load_iris(return_X_y=True)
    model = TabularClassifier(**QUICK, n_threads=1, backend="numpy").fit(X, y)
    before = model.predict_proba(X)
    interrupt = InterruptingCallback(after=0)
    monkeypatch.setattr(TabularClassifier, "_callbacks", lambda self, watched: [interrupt])
    with pytest.warns(TrainingInterrupted), pytest.raises(KeyboardInterrupt):
        model.fit(X[:, :2], y)
    assert np.array_equal(model.predict_proba(X), before)
