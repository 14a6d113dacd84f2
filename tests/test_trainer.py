"""The trainer: what fit, evaluate and predict promise."""

from __future__ import annotations

import pickle
import signal
import sys
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmlp import (
    MLP,
    SGD,
    Adam,
    DivergenceError,
    History,
    Predictor,
    Regularization,
    Trainer,
    TrainingInterrupted,
)
from fastmlp.backends import Backend, Session, get_backend
from fastmlp.backends.numpy_backend import NumpyBackend, NumpySession
from fastmlp.losses import LOSSES, CustomLoss
from fastmlp.metrics import Scores
from fastmlp.schedules import ReduceOnPlateau

RNG = np.random.default_rng(0)
X = RNG.normal(size=(103, 5)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0)
X_VAL = RNG.normal(size=(31, 5)).astype(np.float32)
Y_VAL = (X_VAL[:, 0] > 0).astype(np.int64) + (X_VAL[:, 1] > 0)


def make_trainer(backend: Backend | str = "numpy", **options) -> Trainer:
    network = MLP([5, 8, 3], seed=1)
    return Trainer(
        network, **({"optimizer": Adam(0.01), "batch_size": 10} | options), backend=backend
    )


def fit(trainer: Trainer, epochs: int = 3, **options) -> History:
    return trainer.fit(X, Y, epochs, **({"verbose": False} | options))


def timeless(history: History) -> list[dict[str, float]]:
    return [{k: v for k, v in record.items() if k != "seconds"} for record in history]


class FailingSession(NumpySession):
    """Raises when it has trained so many batches."""

    def _loss_and_gradient(self, X, y, sample_weight, gradient, logits=None):
        if self.step == self.fails_at:
            self.fails_at = None
            raise self.error
        return super()._loss_and_gradient(X, y, sample_weight, gradient, logits)


class FailingBackend(NumpyBackend):
    def __init__(self, fails_at: int, error: BaseException) -> None:
        self.fails_at, self.error = fails_at, error

    def _bind(self, network, loss, optimizer, regularization, batch_size, n_threads, seed):
        session = FailingSession(network, loss, optimizer, regularization, batch_size, seed)
        session.fails_at, session.error = self.fails_at, self.error
        return session


# Learning and recording ----------------------------------------------------------------------


def test_a_fit_learns_and_records(backend):
    trainer = make_trainer(backend)
    history = fit(trainer, epochs=40, validation_data=(X_VAL, Y_VAL))
    assert history.columns == [
        "epoch",
        "loss",
        "accuracy",
        "val_loss",
        "val_accuracy",
        "learning_rate",
        "seconds",
    ]
    assert history["epoch"] == list(range(1, 41))
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert history["val_accuracy"][-1] > 0.7
    assert all(seconds > 0 for seconds in history["seconds"])
    assert set(history["learning_rate"]) == {0.01}


def test_validation_columns_are_what_evaluate_returns(backend):
    trainer = make_trainer(backend)
    history = fit(trainer, validation_data=(X_VAL, Y_VAL))
    scores = trainer.evaluate(X_VAL, Y_VAL)
    assert scores.loss == history["val_loss"][-1]
    assert scores.accuracy == history["val_accuracy"][-1]


def test_running_loss_and_accuracy_are_those_before_each_update(backend):
    trainer = make_trainer(backend, batch_size=40)
    history = fit(trainer, epochs=1, shuffle=False)
    network = MLP([5, 8, 3], seed=1)
    oracle = NumpyBackend().bind(network, optimizer=Adam(0.01), batch_size=40)
    gradient = np.empty(network.n_parameters, dtype=np.float32)
    total = right = 0.0
    for start in range(0, 103, 40):
        rows, labels = X[start : start + 40], Y[start : start + 40]
        right += np.sum(oracle.logits(rows).argmax(axis=1) == labels)
        total += len(rows) * oracle.loss_and_gradient(rows, labels, gradient)
        oracle.update(gradient)
    assert history["loss"][0] == pytest.approx(total / 103, rel=1e-5)
    assert history["accuracy"][0] == pytest.approx(right / 103)
    assert trainer.network.parameters == pytest.approx(oracle.store().parameters, abs=1e-5)


def test_predictions_come_from_the_trained_network(backend):
    trainer = make_trainer(backend)
    fit(trainer)
    np.testing.assert_array_equal(trainer.predict(X_VAL), trainer.network.predict(X_VAL))
    np.testing.assert_allclose(
        trainer.predict_proba(X_VAL), trainer.network.predict_proba(X_VAL), rtol=1e-5, atol=1e-6
    )
    assert trainer.predict(X_VAL[0]) == trainer.network.predict(X_VAL[0])


def test_predictions_follow_a_change_of_the_parameters(backend):
    trainer = make_trainer(backend)
    fit(trainer)
    trainer.network.parameters = np.zeros(trainer.network.n_parameters)
    np.testing.assert_allclose(trainer.predict_proba(X_VAL[0]), np.full(3, 1 / 3), rtol=1e-6)
    assert trainer.evaluate(X_VAL, Y_VAL).loss == pytest.approx(np.log(3))


@pytest.mark.parametrize("form", ["labels", "one-hot", "probabilities"])
def test_labels_in_any_form_give_an_accuracy(backend, form):
    targets = {"labels": Y, "one-hot": np.eye(3)[Y], "probabilities": np.eye(3)[Y] * 0.7 + 0.1}
    trainer = make_trainer(backend)
    trainer.fit(X, targets[form], epochs=30, verbose=False)
    assert trainer.evaluate(X, targets[form]).accuracy > 0.8


def test_a_single_sigmoid_has_an_accuracy(backend):
    y = (X[:, 0] > 0).astype(int)
    trainer = Trainer(
        MLP([5, 1], output_activation="sigmoid"), optimizer=Adam(0.05), backend=backend
    )
    history = trainer.fit(X, y, epochs=60, verbose=False)
    assert history["accuracy"][-1] > 0.9
    assert trainer.evaluate(X, y).accuracy == np.mean(trainer.predict(X) == y)


def test_several_labels_are_scored_by_whole_rows(backend):
    labels = (X[:, :3] > 0).astype(int)
    trainer = Trainer(
        MLP([5, 3], output_activation="sigmoid"), optimizer=Adam(0.05), backend=backend
    )
    trainer.fit(X, labels, epochs=20, verbose=False)
    expected = np.mean((trainer.predict(X) == labels).all(axis=1))
    assert trainer.evaluate(X, labels).accuracy == pytest.approx(expected)


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_regression_is_scored_by_r2(backend, n_outputs):
    metrics = pytest.importorskip("sklearn.metrics")
    y = X[:, :n_outputs] * 2 + 100
    trainer = Trainer(
        MLP([5, n_outputs], output_activation="linear"), optimizer=Adam(0.1), backend=backend
    )
    history = trainer.fit(X, y, epochs=5, validation_data=(X, y), verbose=False)
    expected = metrics.r2_score(y, trainer.predict(X).reshape(y.shape))
    assert history["val_r2"][-1] == pytest.approx(expected, rel=1e-4)
    loss, r2 = trainer.evaluate(X, y)
    assert (loss, r2) == (history["val_loss"][-1], history["val_r2"][-1])


def test_r2_of_a_constant_target_is_as_scikit_learns():
    network = MLP([1, 1], output_activation="linear", seed=0)
    network.parameters = [0.0, 2.0]
    trainer = Trainer(network, backend="numpy")
    assert trainer.evaluate([[0.0], [1.0]], [2.0, 2.0]).r2 == 1.0
    assert trainer.evaluate([[0.0], [1.0]], [3.0, 3.0]).r2 == 0.0


def test_scores_answer_to_names_and_positions():
    scores = Scores({"loss": 0.25, "accuracy": 0.5})
    loss, accuracy = scores
    assert (loss, accuracy) == (scores.loss, scores["accuracy"]) == (0.25, 0.5)
    assert dict(scores.items()) == dict(scores) == scores.to_dict()
    assert pickle.loads(pickle.dumps(scores)).accuracy == 0.5
    with pytest.raises(KeyError, match="no score 'r2'"):
        scores["r2"]
    with pytest.raises(AttributeError, match="r2"):
        _ = scores.r2


# Same bits -----------------------------------------------------------------------------------


def test_two_equal_fits_give_equal_bits(backend):
    one, two = make_trainer(backend), make_trainer(backend)
    assert timeless(fit(one)) == timeless(fit(two))
    np.testing.assert_array_equal(one.network.parameters, two.network.parameters)


def test_another_seed_gives_another_order():
    one, two = make_trainer(seed=1), make_trainer(seed=2)
    fit(one)
    fit(two)
    assert not np.array_equal(one.network.parameters, two.network.parameters)
    assert make_trainer().seed == 1, "without a seed, the network's is taken"


@given(split=st.integers(0, 6), ema=st.sampled_from([None, 0.9]))
def test_fit_again_continues(split, ema):
    options = {
        "optimizer": SGD(0.1, momentum=0.9),
        "regularization": Regularization(dropout=0.2, ema=ema),
    }
    whole, parts = make_trainer(**options), make_trainer(**options)
    history = fit(whole, epochs=6)
    first = fit(parts, epochs=split)
    parts.evaluate(X_VAL, Y_VAL)
    second = fit(parts, epochs=6 - split)
    assert timeless(first) + timeless(second) == timeless(history) == timeless(parts.history)
    np.testing.assert_array_equal(whole.network.parameters, parts.network.parameters)


@pytest.mark.parametrize("seconds", [1e-9, 1.0])
def test_chunks_do_not_change_results(backend, seconds, monkeypatch):
    whole = make_trainer(backend)
    history = fit(whole)
    monkeypatch.setattr("fastmlp.trainer._CHUNK_SECONDS", seconds)
    chunked = make_trainer(backend)
    again = fit(chunked)
    np.testing.assert_array_equal(whole.network.parameters, chunked.network.parameters)
    assert timeless(again) == timeless(history)


@pytest.mark.parametrize("seconds", [1e-9, 1.0])
def test_chunks_do_not_change_weighted_r2(seconds, monkeypatch):
    network = MLP([5, 2], output_activation="linear")
    weights = np.linspace(0, 1, len(X))
    whole = Trainer(network.copy(), backend="numpy", batch_size=3)
    whole.fit(X, X[:, :2] + 1000, 2, sample_weight=weights, verbose=False)
    monkeypatch.setattr("fastmlp.trainer._CHUNK_SECONDS", seconds)
    chunked = Trainer(network.copy(), backend="numpy", batch_size=3)
    chunked.fit(X, X[:, :2] + 1000, 2, sample_weight=weights, verbose=False)
    assert timeless(whole.history) == timeless(chunked.history)


def test_without_shuffle_the_order_is_that_of_the_rows(backend):
    kept, shuffled = make_trainer(backend), make_trainer(backend)
    fit(kept, shuffle=False)
    fit(shuffled)
    assert not np.array_equal(kept.network.parameters, shuffled.network.parameters)


def test_changed_parameters_are_trained_on(backend):
    trainer, fresh = make_trainer(backend, optimizer="sgd"), make_trainer(backend, optimizer="sgd")
    fit(trainer, shuffle=False)
    trainer.network.parameters = fresh.network.parameters
    fit(trainer, shuffle=False)
    fit(fresh, shuffle=False)
    np.testing.assert_array_equal(trainer.network.parameters, fresh.network.parameters)


def test_the_network_ends_with_the_moving_average(backend):
    trainer = make_trainer(backend, regularization=Regularization(ema=0.5), batch_size=103)
    path = []
    plain = make_trainer(backend, batch_size=103)
    average = plain.network.parameters.copy()
    for _ in range(4):
        fit(plain, epochs=1)
        average += 0.5 * (plain.network.parameters - average)
        fit(trainer, epochs=1, validation_data=(X_VAL, Y_VAL))
        path.append(trainer.evaluate(X_VAL, Y_VAL).loss)
        np.testing.assert_allclose(trainer.network.parameters, average, rtol=1e-5, atol=1e-6)
    assert trainer.history["val_loss"] == path


# Weights -------------------------------------------------------------------------------------


def test_a_weight_of_two_counts_like_two_rows(backend):
    weights = RNG.integers(0, 3, len(X))
    weighted = make_trainer(backend, batch_size=1000, optimizer=SGD(0.1))
    repeated = make_trainer(backend, batch_size=1000, optimizer=SGD(0.1))
    one = weighted.fit(X, Y, 3, sample_weight=weights, verbose=False, shuffle=False)
    rows = np.repeat(np.arange(len(X)), weights)
    two = repeated.fit(X[rows], Y[rows], 3, verbose=False, shuffle=False)
    for column in ("loss", "accuracy"):
        assert one[column] == pytest.approx(two[column], rel=1e-5)
    np.testing.assert_allclose(
        weighted.network.parameters, repeated.network.parameters, rtol=1e-4, atol=1e-6
    )
    with_weights = weighted.evaluate(X, Y, weights)
    assert with_weights == pytest.approx(weighted.evaluate(X[rows], Y[rows]), rel=1e-5)


def test_the_epochs_loss_weighs_batches_by_their_weights():
    weights = np.linspace(0, 1, len(X))
    trainer = make_trainer(optimizer=SGD(1e-12))
    history = trainer.fit(X, Y, 1, sample_weight=weights, verbose=False)
    assert history["loss"][0] == pytest.approx(trainer.evaluate(X, Y, weights).loss, rel=1e-5)


def test_balanced_class_weights_are_scikit_learns(backend):
    utils = pytest.importorskip("sklearn.utils")
    weights = utils.compute_sample_weight("balanced", Y)
    balanced = make_trainer(backend, class_weight="balanced")
    weighted = make_trainer(backend)
    one = fit(balanced)
    two = fit(weighted, sample_weight=weights)
    np.testing.assert_allclose(balanced.network.parameters, weighted.network.parameters, rtol=1e-4)
    assert one["loss"] == pytest.approx(two["loss"], rel=1e-5)


def test_class_weights_leave_the_score_alone():
    plain, tilted = make_trainer(optimizer=SGD(1e-12)), None
    tilted = make_trainer(optimizer=SGD(1e-12), class_weight={0: 0.0, 2: 9.0})
    assert fit(plain)["accuracy"] == fit(tilted)["accuracy"]
    assert plain.history["loss"] != tilted.history["loss"]


def test_class_weights_of_a_single_sigmoid(backend):
    y = (X[:, 0] > 1).astype(int)
    network = MLP([5, 1], output_activation="sigmoid")
    trainer = Trainer(network, optimizer=Adam(0.02), backend=backend, class_weight={0: 0.0, 1: 1.0})
    trainer.fit(X, y, epochs=50, verbose=False)
    assert y.mean() < 0.3
    assert trainer.predict(X).mean() > 0.6


# Metrics -------------------------------------------------------------------------------------


def test_metrics_by_name_and_by_function(backend):
    metrics = pytest.importorskip("sklearn.metrics")

    def errors(y_true, y_pred):
        return np.sum(y_true != y_pred)

    trainer = make_trainer(backend, metrics=["f1_macro", "roc_auc_ovr", errors])
    history = fit(trainer, validation_data=(X_VAL, Y_VAL))
    scores = trainer.evaluate(X_VAL, Y_VAL)
    predicted = trainer.predict(X_VAL)
    assert scores.errors == np.sum(predicted != Y_VAL) == history["val_errors"][-1]
    assert scores.f1_macro == metrics.f1_score(Y_VAL, predicted, average="macro")
    assert scores.roc_auc_ovr == pytest.approx(
        metrics.roc_auc_score(Y_VAL, trainer.predict_proba(X_VAL), multi_class="ovr"), abs=1e-6
    )
    assert history["errors"] == pytest.approx(103 * (1 - np.array(history["accuracy"])))


@pytest.mark.parametrize("name", ["roc_auc", "neg_log_loss", "average_precision"])
def test_binary_metrics_of_a_single_sigmoid(name):
    pytest.importorskip("sklearn")
    y = (X[:, 0] > 0).astype(int)
    network = MLP([5, 1], output_activation="sigmoid")
    trainer = Trainer(network, optimizer=Adam(0.05), backend="numpy", metrics=[name])
    history = trainer.fit(X, y, epochs=30, verbose=False)
    assert history[name][-1] > history[name][0]


def test_regression_metrics_by_name():
    metrics = pytest.importorskip("sklearn.metrics")
    network = MLP([5, 1], output_activation="linear")
    trainer = Trainer(network, backend="numpy", metrics=["neg_mean_absolute_error"])
    scores = trainer.evaluate(X, X[:, 0])
    expected = -metrics.mean_absolute_error(X[:, 0], network.predict(X))
    assert scores.neg_mean_absolute_error == pytest.approx(expected)


# Data ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["float16", "float64", "uint8", "int32", "bool", "fortran", "list"]
)
def test_inputs_of_any_dtype_are_trained_on(backend, kind):
    whole = RNG.integers(0, 2, (40, 5))
    y = whole[:, 0]
    given = {"fortran": np.asfortranarray(whole.astype("f4")), "list": whole.tolist()}
    inputs = given[kind] if kind in given else whole.astype(kind)
    one, two = make_trainer(backend), make_trainer(backend)
    one.fit(inputs, y, epochs=3, verbose=False)
    two.fit(whole.astype(np.float32), y, epochs=3, verbose=False)
    np.testing.assert_array_equal(one.network.parameters, two.network.parameters)


def test_sparse_rows_are_trained_on(backend):
    sparse = pytest.importorskip("scipy.sparse")
    dense = np.where(np.abs(X) > 1, X, 0)
    one, two = make_trainer(backend), make_trainer(backend)
    one.fit(sparse.csr_array(dense), Y, 3, (sparse.csr_array(X_VAL), Y_VAL), verbose=False)
    two.fit(dense, Y, 3, (X_VAL, Y_VAL), verbose=False)
    np.testing.assert_array_equal(one.network.parameters, two.network.parameters)
    assert timeless(one.history) == timeless(two.history)


def test_scaled_bytes_train_like_floats(backend):
    images = RNG.integers(0, 256, (50, 5), dtype=np.uint8)
    y = (images[:, 0] > 128).astype(int)
    scaled = Trainer(MLP([5, 2], input_scale=1 / 255), batch_size=8, backend=backend)
    plain = Trainer(MLP([5, 2]), batch_size=8, backend=backend)
    scaled.fit(images, y, epochs=3, verbose=False)
    plain.fit(images * np.float32(1 / 255), y, epochs=3, verbose=False)
    np.testing.assert_allclose(scaled.network.parameters, plain.network.parameters, rtol=1e-5)


@pytest.mark.parametrize("loss", ["mse", "mae", "huber", "squared_error"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_dtype_is_kept(backend, loss, dtype):
    network = MLP([5, 4, 1], output_activation="linear", dtype=dtype)
    trainer = Trainer(network, LOSSES[loss], Adam(0.01), backend=backend)
    trainer.fit(X.astype(np.float64), X[:, 0], epochs=2, verbose=False)
    assert network.parameters.dtype == dtype
    assert trainer.predict_proba(X).dtype == dtype


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: t.fit(X[:, :4], Y), r"X must have shape \(n_samples, 5\).*got \(103, 4\)"),
        (lambda t: t.fit(X[0], [1]), r"X must have shape \(n_samples, 5\), got \(5,\)"),
        (lambda t: t.fit(X[:0], Y[:0]), "at least one row"),
        (lambda t: t.fit(X, Y[:9]), "X has 103 rows, but y has 9"),
        (lambda t: t.fit(X, Y + 1), "labels must lie between 0 and 2.*got 3"),
        (lambda t: t.fit(X, Y, epochs=-1), "epochs must be at least 0"),
        (lambda t: t.fit(np.where(X > 2, np.nan, X), Y), "NaN or infinite values .first in row"),
        (lambda t: t.fit(np.full((3, 5), "a"), [0, 1, 2]), "X must hold numbers"),
        (lambda t: t.fit(X, Y, validation_data=X_VAL), "must be .X, y. or .X, y, sample_weight."),
        (lambda t: t.fit(X, Y, sample_weight=[1.0]), "must be 103 numbers"),
        (lambda t: t.fit(X, Y, sample_weight=np.zeros(103)), "not all 0"),
        (lambda t: t.fit(X, Y, sample_weight=np.full(103, -1)), "at least 0"),
        (lambda t: t.evaluate(X, Y[:3]), "X has 103 rows, but y has 3"),
        (lambda t: t.predict([[np.inf] * 5]), "NaN or infinite"),
        (lambda t: make_trainer(optimizer="newton"), "unknown optimizer 'newton'; choose one of"),
        (lambda t: make_trainer(schedule="sometimes"), "unknown schedule 'sometimes'"),
        (lambda t: make_trainer(loss="poisson"), "allowed pairs"),
        (lambda t: make_trainer("abacus"), "unknown backend 'abacus'"),
        (lambda t: make_trainer(batch_size=0), "batch_size must be at least 1"),
        (lambda t: make_trainer(n_threads=0), "n_threads must be at least 1"),
        (lambda t: make_trainer(seed=-1), "seed must be at least 0"),
        (lambda t: make_trainer(class_weight="fair"), "'balanced' or a dict, got 'fair'"),
        (lambda t: make_trainer(class_weight={3: 1.0}), "classes 0 to 2, got 3"),
        (lambda t: make_trainer(class_weight={0: -1.0}), "weight of class 0 must be at least 0"),
        (lambda t: make_trainer(metrics=["magic"]), "unknown metric 'magic'"),
    ],
)
def test_bad_input_gets_one_clear_sentence(call, message):
    trainer = make_trainer()
    before = trainer.network.parameters.copy()
    with pytest.raises(ValueError, match=message):
        call(trainer)
    np.testing.assert_array_equal(trainer.network.parameters, before)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Trainer("network"), "network must be an MLP"),
        (lambda: make_trainer(backend=3), "backend must be a name"),
        (lambda: make_trainer(metrics=[3]), "a metric must be a name or a function"),
        (lambda: make_trainer(class_weight=3), "'balanced' or a dict"),
        (lambda: fit(make_trainer(), epochs=1.5), "epochs must be an integer"),
        (lambda: fit(make_trainer(), callbacks=[3]), "a callback must be"),
        (lambda: fit(make_trainer(), callbacks=3), "callbacks must be a list"),
    ],
)
def test_wrong_types_get_one_clear_sentence(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def test_class_weights_need_classes():
    network = MLP([5, 2], output_activation="sigmoid")
    with pytest.raises(ValueError, match="softmax output or a single sigmoid"):
        Trainer(network, class_weight="balanced", backend="numpy")


def test_class_weights_must_leave_something():
    trainer = make_trainer(class_weight={0: 0.0, 1: 0.0})
    with pytest.raises(ValueError, match="all samples weigh 0"):
        trainer.fit(X[Y < 2], Y[Y < 2], verbose=False)


@pytest.mark.parametrize("given", [{True: 5.0}, {1.0: 5.0}, {np.int64(1): 5.0}])
def test_whatever_equals_a_class_names_it(backend, given):
    weights, reference = (
        make_trainer(backend, class_weight=given),
        make_trainer(backend, class_weight={1: 5.0}),
    )
    fit(weights)
    fit(reference)
    np.testing.assert_array_equal(weights.network.parameters, reference.network.parameters)


@pytest.mark.parametrize("given", [{False: 5.0}, {0.0: 5.0}])
def test_false_names_class_0(given):
    ours, reference = make_trainer(class_weight=given), make_trainer(class_weight={0: 5.0})
    assert fit(ours)["loss"] == fit(reference)["loss"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_whose_sum_overflows_are_a_mean_still(backend, dtype):
    def loss(weight: float) -> float:
        trainer = Trainer(MLP([5, 3], seed=1, dtype=dtype), backend=backend, batch_size=20)
        weights = np.full(len(X), weight, dtype)
        return trainer.fit(X, Y, 1, sample_weight=weights, verbose=False)["loss"][0]

    most = 3e38 if dtype == "float32" else 1e306
    assert loss(most) == pytest.approx(loss(1.0), rel=1e-5)


@pytest.mark.parametrize("what", ["X", "y", "sample_weight"])
def test_masked_values_are_refused(what):
    given = {"X": X, "y": Y, "sample_weight": np.ones(len(X))}
    values = np.ma.array(given[what])
    make_trainer().fit(**(given | {what: values}), epochs=1, verbose=False)
    values[3] = np.ma.masked
    with pytest.raises(ValueError, match=f"{what} has masked values"):
        make_trainer().fit(**(given | {what: values}), epochs=1, verbose=False)


def test_parameters_that_are_nan_predict_nothing(backend):
    network = MLP([5, 4, 3])
    network.parameters[-1] = np.nan
    for one in (network, Trainer(network, backend=backend), Predictor(network, backend)):
        for rows in (X, X[:1], X[0]):
            with pytest.raises(ValueError, match="logits are NaN or infinite"):
                one.predict(rows)


def test_parameters_that_are_nan_have_no_score(backend):
    trainer = make_trainer(backend)
    trainer.network.parameters[-1] = np.nan
    with pytest.raises(ValueError, match="logits are NaN or infinite"):
        trainer.evaluate(X, Y)


def test_a_scale_that_makes_inputs_infinite_is_refused(backend):
    network = MLP([5, 3], input_scale=1e38)
    for one in (network, Trainer(network, backend=backend), Predictor(network, backend)):
        for rows in (np.full((2, 5), 9.0, "float32"), np.full((2, 5), 9)):
            with pytest.raises(ValueError, match=r"infinite as float32, times input_scale=1e\+38"):
                one.predict(rows)


def test_a_custom_loss_of_a_batch_without_weight_is_0(backend):
    loss = CustomLoss(
        lambda outputs, targets: np.mean((outputs - targets) ** 2, axis=1),
        lambda outputs, targets: 2 * (outputs - targets) / outputs.shape[1],
    )
    network = MLP([5, 1], output_activation="linear")
    gradient = np.ones(6, np.float32)
    session = get_backend(backend).bind(network, loss)
    assert session.loss_and_gradient(X[:4], X[:4, 0], gradient, np.zeros(4)) == 0
    assert not gradient.any()


def test_a_thousand_threads_are_no_more_than_help():
    pytest.importorskip("numba")
    from fastmlp._cores import most_threads

    trainer, one = make_trainer("numba", n_threads=1000), make_trainer("numba", n_threads=1)
    fit(trainer)
    fit(one)
    assert trainer.backend.bind(trainer.network, n_threads=1000).threads.most == most_threads()
    np.testing.assert_array_equal(trainer.network.parameters, one.network.parameters)


def test_bad_data_keeps_the_users_change_of_the_parameters():
    trainer = make_trainer()
    fit(trainer)
    trainer.network.parameters[:] = 0.5
    with pytest.raises(ValueError, match="labels"):
        trainer.fit(X, Y + 1, verbose=False)
    assert np.all(trainer.network.parameters == 0.5)


# Ends that nobody planned --------------------------------------------------------------------


@pytest.mark.parametrize("fails_at", [0, 5, 11, 25, 32])
def test_an_interrupt_leaves_the_last_whole_epoch_and_fit_goes_on(fails_at):
    trainer = make_trainer(FailingBackend(fails_at, KeyboardInterrupt()))
    whole_epochs = fails_at // 11
    with pytest.warns(TrainingInterrupted, match=f"as it was after epoch {whole_epochs}"):
        history = fit(trainer, epochs=4)
    assert len(history) == whole_epochs
    reference = make_trainer()
    fit(reference, epochs=whole_epochs)
    np.testing.assert_array_equal(trainer.network.parameters, reference.network.parameters)
    fit(trainer, epochs=4 - whole_epochs)
    fit(reference, epochs=4 - whole_epochs)
    np.testing.assert_array_equal(trainer.network.parameters, reference.network.parameters)
    assert timeless(trainer.history) == timeless(reference.history)


def test_an_error_in_the_backend_leaves_the_last_whole_epoch():
    trainer, reference = make_trainer(FailingBackend(25, OSError("worn out"))), make_trainer()
    with pytest.raises(OSError, match="worn out"):
        fit(trainer, epochs=4)
    fit(reference, epochs=2)
    np.testing.assert_array_equal(trainer.network.parameters, reference.network.parameters)
    assert timeless(trainer.history) == timeless(reference.history)


@pytest.fixture
def interrupts():
    """Ctrl-C as in a terminal: a shell's background jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
def test_a_real_ctrl_c_is_answered(backend):
    trainer = make_trainer(backend, batch_size=1)
    rows = np.tile(X, (20, 1))
    labels = np.tile(Y, 20)
    fit(trainer, epochs=1)
    seen = []

    def interrupt_soon(trainer, record):
        seen.append(record)
        if len(seen) == 1:
            threading.Timer(0.02, signal.raise_signal, [signal.SIGINT]).start()

    with pytest.warns(TrainingInterrupted):
        trainer.fit(rows, labels, epochs=10_000, callbacks=[interrupt_soon], verbose=False)
    assert len(trainer.history) == 1 + len(seen)
    whole = make_trainer(backend, batch_size=1)
    fit(whole, epochs=1)
    whole.fit(rows, labels, epochs=len(seen), verbose=False)
    np.testing.assert_array_equal(trainer.network.parameters, whole.network.parameters)


@pytest.mark.filterwarnings("error")
def test_divergence_names_the_epoch_and_keeps_finite_parameters(backend):
    network = MLP([5, 8, 1], output_activation="linear", seed=1)
    trainer = Trainer(network, optimizer=SGD(0.01), backend=backend, batch_size=10)
    good = trainer.fit(X, X[:, 0], epochs=1, verbose=False)
    kept = network.parameters.copy()
    with pytest.raises(DivergenceError, match=r"in epoch 2.*learning rate may be too high"):
        trainer.fit(X, X[:, 0] * 1e30, epochs=9, verbose=False)
    np.testing.assert_array_equal(network.parameters, kept)
    assert timeless(trainer.history) == timeless(good)
    trainer.fit(X, X[:, 0], epochs=1, verbose=False)
    assert np.all(np.isfinite(network.parameters))


def test_parameters_that_overflow_in_the_last_batch_are_noticed(backend):
    network = MLP([1, 1], output_activation="linear")
    trainer = Trainer(network, optimizer=SGD(1e38), backend=backend)
    with pytest.raises(DivergenceError, match="a parameter became NaN or infinite in epoch 1"):
        trainer.fit([[1.0]], [1e3], epochs=1, verbose=False)
    assert np.all(np.isfinite(network.parameters))


# What is shown -------------------------------------------------------------------------------


def test_a_line_an_epoch_where_nobody_looks(capsys):
    fit(make_trainer(), epochs=2, validation_data=(X_VAL, Y_VAL), verbose=True)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert len(lines) == 2
    for name in ("Epoch 2/2  loss 0.", "accuracy 0.", "val_loss 0.", "val_accuracy 0.", " s"):
        assert name in lines[1] or name.replace("0.", "1.") in lines[1]


def test_silence_on_request(capfd):
    fit(make_trainer(), verbose=False)
    assert capfd.readouterr() == ("", "")


def test_a_bar_on_a_terminal(capfd, monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)  # other tests may import it
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    fit(make_trainer(), epochs=2, verbose=True)
    out, err = capfd.readouterr()
    assert "Epoch 2/2  loss" in err
    assert "batch/s" in err
    assert out == ""


def test_lines_on_a_terminal_without_tqdm(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    fit(make_trainer(), epochs=1, verbose=True)
    assert capsys.readouterr().err.startswith("Epoch 1/1  loss")


# History -------------------------------------------------------------------------------------


def test_a_history_prints_as_a_table():
    history = fit(make_trainer(), epochs=30)
    lines = repr(history).splitlines()
    assert lines[0].split() == ["epoch", "loss", "accuracy", "learning_rate", "seconds"]
    assert len(lines) == 22
    assert lines[1].split()[0] == "1"
    assert lines[-1].split()[0] == "30"
    assert len({len(line) for line in lines}) == 1
    assert repr(History()) == "History of no epoch"


def test_a_history_becomes_a_dict_a_csv_and_a_plot(tmp_path):
    history = fit(make_trainer(), validation_data=(X_VAL, Y_VAL))
    columns = history.to_dict()
    assert list(columns) == history.columns
    assert columns["loss"] == history["loss"]
    history.to_csv(tmp_path / "history.csv")
    table = np.genfromtxt(tmp_path / "history.csv", delimiter=",", names=True)
    assert table["val_loss"].tolist() == history["val_loss"]
    pytest.importorskip("matplotlib")
    losses, scores = history.plot(tmp_path / "history.png")
    assert (tmp_path / "history.png").stat().st_size > 1000
    labels = [line.get_label() for line in losses.lines]
    assert labels == ["loss", "val_loss"]
    assert list(scores.lines[0].get_ydata()) == history["accuracy"]


def test_a_plot_is_one_that_pyplot_shows(tmp_path):
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot as plt

    history = History([{"epoch": 1, "loss": 1.0, "accuracy": 0.5}])
    plt.close("all")
    history.plot(tmp_path / "history.png")
    assert plt.get_fignums() == []  # what is only written is not kept
    axes = history.plot()
    assert plt.gcf() is axes[0].figure
    plt.close("all")
    figure, given = plt.subplots(1, 2)
    assert history.plot(axes=given)[1].figure is figure
    plt.close("all")


def test_a_plot_without_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'fastmlp\[plot\]'"):
        History([{"epoch": 1, "loss": 1.0}]).plot()


def test_an_unknown_column_is_named():
    with pytest.raises(KeyError, match="no column 'speed'; there are epoch, loss"):
        History([{"epoch": 1, "loss": 1.0}])["speed"]
    with pytest.raises(ValueError, match="nothing to plot"):
        History().plot()


def test_weights_of_validation_data_weigh_its_scores(backend: str):
    network = MLP([1, 2], seed=0)
    trainer = Trainer(network, backend=backend, metrics=["log_loss"])
    X, y, weights = [[0.5], [-1.0], [2.0]], [0, 1, 1], [1.0, 0.0, 3.0]
    history = trainer.fit(X, y, epochs=1, validation_data=(X, y, weights), verbose=False)
    scores = trainer.evaluate(X, y, sample_weight=weights)
    assert history["val_loss"][0] == pytest.approx(scores.loss)
    assert history["val_log_loss"][0] == pytest.approx(scores.log_loss)
    assert history["val_accuracy"][0] == pytest.approx(scores.accuracy)


# Several epochs in one call --------------------------------------------------------------------


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return how many epochs the calls of sessions train."""
    seen: list[int] = []
    train = Session.train

    def note(self: Session, *arguments: Any, n_epochs: int = 1) -> Any:
        seen.append(n_epochs)
        return train(self, *arguments, n_epochs=n_epochs)

    monkeypatch.setattr(Session, "train", note)
    return seen


def small(backend: Backend, **options: Any) -> Trainer:
    output = options.pop("output", "softmax")
    network = MLP([4, 8, 3], output_activation=output, seed=0)
    return Trainer(network, backend=backend, batch_size=16, **options)


def of_all_but_time(trainer: Trainer) -> tuple[Any, ...]:
    state = trainer._progress.state
    records = [{**record, "seconds": 0} for record in trainer.history.records]
    return records, state.parameters.tobytes(), state.moments.tobytes(), trainer._progress.generator


AT_ONCE: dict[str, dict[str, Any]] = {
    "plain": {},
    "values": {"output": "linear"},
    "labels": {"output": "sigmoid"},
    "schedule": {"optimizer": Adam(0.01), "schedule": "cosine"},
    "regularized": {
        "optimizer": SGD(0.1, momentum=0.9),
        "regularization": Regularization(l2=0.1, dropout=0.3, input_noise=0.1, ema=0.9),
    },
}


@pytest.mark.parametrize("name", AT_ONCE)
@pytest.mark.parametrize("how", ["whole", "weighted", "some rows", "in order"])
def test_epochs_that_nobody_looks_at_are_one_call_with_the_same_bits(
    backend: Backend, name: str, how: str, calls: list[int]
):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(37, 4)).astype(np.float32)
    output = AT_ONCE[name].get("output", "softmax")
    y = rng.integers(0, 3, 37) if output == "softmax" else rng.integers(0, 2, (37, 3))
    given = {
        "whole": {},
        "weighted": {"sample_weight": rng.integers(0, 3, 37)},
        "some rows": {"rows": np.arange(30)[::-1]},
        "in order": {"shuffle": False},
    }[how]
    together, apart = (small(backend, **AT_ONCE[name]) for _ in range(2))
    together.fit(X, y, 40, verbose=False, **given)
    assert len(calls) < 20
    calls.clear()
    apart.fit(X, y, 40, callbacks=[lambda trainer, record: None], verbose=False, **given)
    assert len(calls) >= 40
    assert of_all_but_time(together) == of_all_but_time(apart)


def test_epochs_that_diverge_in_one_call_leave_those_before(backend: Backend, calls: list[int]):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(37, 4)).astype(np.float32), rng.normal(size=(37, 3))

    def rates(t: Any) -> Any:
        return np.where(t < 0.6, 1.0, 1e20)

    together, apart = (
        small(backend, output="linear", optimizer=SGD(0.01), schedule=rates) for _ in range(2)
    )
    with pytest.raises(DivergenceError) as first:
        together.fit(X, y, 60, verbose=False)
    assert max(calls) > 1
    with pytest.raises(DivergenceError) as second:
        apart.fit(X, y, 60, callbacks=[lambda trainer, record: None], verbose=False)
    assert str(first.value) == str(second.value)
    assert len(together.history) == 36
    assert of_all_but_time(together) == of_all_but_time(apart)


@pytest.mark.parametrize(
    "watched",
    [
        {"validation_split": 0.2},
        {"callbacks": [lambda trainer, record: None]},
        {"verbose": 2},
        {"made": {"metrics": ["log_loss"]}},
        {"made": {"schedule": ReduceOnPlateau()}},
    ],
)
def test_epochs_that_somebody_looks_at_are_calls_of_their_own(calls: list[int], watched):
    X, y = np.random.default_rng(0).normal(size=(37, 4)), np.arange(37) % 3
    trainer = small(get_backend("numba"), **watched.pop("made", {}))
    trainer.fit(X, y, 12, **{"verbose": False, **watched})
    assert set(calls) == {1}


def test_as_many_epochs_are_one_call_as_have_room(calls: list[int], monkeypatch):
    X, y = np.random.default_rng(0).normal(size=(37, 4)), np.arange(37) % 3
    monkeypatch.setattr("fastmlp.trainer._LOGITS_AT_ONCE", 4 * 37 * 3)
    small(get_backend("numba")).fit(X, y, 20, verbose=False)
    assert max(calls) == 4
