"""Names that people know from scikit-learn, Keras and PyTorch, and names with a typo."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastmlp import MLP, Trainer, losses
from fastmlp.activations import ACTIVATIONS, OUTPUT_ACTIVATIONS
from fastmlp.backends import get_backend
from fastmlp.initializers import INITIALIZERS
from fastmlp.losses import LOSSES, Quantile
from fastmlp.optimizers import OPTIMIZERS
from fastmlp.schedules import SCHEDULES

VOCABULARIES = [ACTIVATIONS, OUTPUT_ACTIVATIONS, INITIALIZERS, LOSSES, OPTIMIZERS, SCHEDULES]


@pytest.mark.parametrize(
    ("vocabulary", "known", "name"),
    [
        (LOSSES, "absolute_error", "mae"),
        (LOSSES, "MeanSquaredError", "mse"),
        (LOSSES, "CrossEntropyLoss", "cross_entropy"),
        (LOSSES, "log_loss", "cross_entropy"),
        (LOSSES, "sparse_categorical_crossentropy", "cross_entropy"),
        (LOSSES, "SmoothL1Loss", "huber"),
        (LOSSES, "pinball", "quantile"),
        (ACTIVATIONS, "swish", "silu"),
        (ACTIVATIONS, "logistic", "sigmoid"),
        (ACTIVATIONS, "LeakyReLU", "leaky_relu"),
        (ACTIVATIONS, "Hardswish", "hard_swish"),
        (OUTPUT_ACTIVATIONS, "logistic", "sigmoid"),
        (OUTPUT_ACTIVATIONS, "identity", "linear"),
        (OPTIMIZERS, "Adam", "adam"),
        (OPTIMIZERS, "RMSProp", "rmsprop"),
        (SCHEDULES, "ReduceLROnPlateau", "reduce_on_plateau"),
        (SCHEDULES, "CosineAnnealingLR", "cosine"),
        (SCHEDULES, "invscaling", "inverse_scaling"),
        (INITIALIZERS, "kaiming_normal", "he_normal"),
        (INITIALIZERS, "GlorotUniform", "glorot_uniform"),
    ],
)
def test_names_known_from_elsewhere(vocabulary: Any, known: str, name: str) -> None:
    assert vocabulary[known] is vocabulary[name]
    assert vocabulary[known.upper().replace("_", "-")] is vocabulary[name]
    assert known not in list(vocabulary)  # one name each is listed


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_a_vocabulary_holds_its_own_names_and_nothing_else(vocabulary: Any) -> None:
    for name, description in vocabulary.items():
        assert vocabulary[name] is description
        assert getattr(description, "name", name) == name
    for unknown in ("", "nothing", 3, None):
        assert unknown not in vocabulary


def test_trainers_take_them() -> None:
    network = MLP([3, 4, 1], hidden_activation="Swish", output_activation="identity")
    trainer = Trainer(network, "absolute_error", "Adam", schedule="ReduceLROnPlateau")
    assert trainer.loss == losses.MeanAbsoluteError()
    assert Trainer(network, optimizer="L-BFGS").optimizer.name == "lbfgs"


@pytest.mark.parametrize(
    ("call", "near"),
    [
        (lambda: Trainer(MLP([2, 2]), optimizer="adm"), "'adam'"),
        (lambda: Trainer(MLP([2, 2]), "cros_entropy"), "'cross_entropy'"),
        (lambda: Trainer(MLP([2, 2]), "absolut_error"), "'absolute_error'"),
        (lambda: Trainer(MLP([2, 2]), schedule="cosin"), "'cosine'"),
        (lambda: MLP([2, 2, 2], "rellu"), "'relu'"),
        (lambda: MLP([2, 2], output_activation="sofmax"), "'softmax'"),
        (lambda: MLP([2, 2], initializer="he_norml"), "'he_normal'"),
        (lambda: get_backend("nunba"), "'numba'"),
    ],
)
def test_a_typo_is_answered_with_the_nearest_name(call: Any, near: str) -> None:
    with pytest.raises(ValueError, match=rf"did you mean {near}\? Otherwise, choose"):
        call()


def test_what_resembles_nothing_is_answered_with_the_list() -> None:
    with pytest.raises(ValueError, match="unknown optimizer 'zzz'; choose one of 'sgd'"):
        Trainer(MLP([2, 2]), optimizer="zzz")


@pytest.mark.parametrize("levels", [0.9, np.float64(0.9), [0.9], np.array([0.9]), (0.9,)])
def test_quantile_levels_may_be_one_number(levels: Any) -> None:
    assert Quantile(levels) == Quantile((0.9,))
    assert hash(Quantile(levels)) == hash(Quantile((0.9,)))


@pytest.mark.parametrize("levels", ["0.9", (), 1.0, [0.5, 0.0], None, True])
def test_other_quantile_levels_are_refused(levels: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="level"):
        Quantile(levels)


def test_estimators_take_them_too() -> None:
    ours = pytest.importorskip("fastmlp.sklearn")
    X, y = np.random.default_rng(0).normal(size=(2, 30, 3))
    settings = {"random_state": 0, "solver": "lbfgs", "max_iter": 3, "backend": "numpy"}
    with pytest.warns():
        fitted = [
            ours.MLPRegressor(loss=loss, activation=activation, **settings).fit(X, y[:, 0])
            for loss, activation in (("absolute_error", "Swish"), ("mae", "silu"))
        ]
    np.testing.assert_array_equal(*(model.predict(X) for model in fitted))
    before = fitted[0].coefs_[0].copy()
    for name, value, near in (
        ("optimizer", "adm", "adam"),
        ("schedule", "cosin", "cosine"),
        ("loss", "absolut_error", "absolute_error"),
        ("activation", "rellu", "relu"),
    ):
        with pytest.raises(ValueError, match=f"did you mean '{near}'"):
            ours.MLPRegressor(**settings).set_params(**{name: value}).fit(X, y[:, 0])
    with pytest.raises(ValueError, match="did you mean 'adam'"):
        fitted[0].set_params(solver="sgd", optimizer="adm").fit(X, y[:, 0])
    np.testing.assert_array_equal(fitted[0].coefs_[0], before)
    with pytest.raises(ValueError, match="for a regressor"):
        ours.MLPClassifier(loss="poisson").fit(X, y[:, 0] > 0)
    with pytest.raises(ValueError, match="for a classifier"):
        ours.MLPRegressor(loss="log_loss").fit(X, y[:, 0])


@pytest.mark.parametrize("name", ["label_accuracy", "binary_accuracy"])
def test_label_accuracy_counts_labels_where_accuracy_counts_rows(backend: Any, name: str) -> None:
    network = MLP([2, 2], output_activation="sigmoid")
    network.weights[0] = np.eye(2)
    X = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    y = np.array([[1, 1], [1, 1], [1, 1], [0, 0]])
    trainer = Trainer(network, metrics=[name], backend=backend)
    scores = trainer.evaluate(X, y)
    assert (scores.accuracy, scores[name]) == (0.5, 0.75)
    history = trainer.fit(X, y, epochs=1, validation_data=(X, y), verbose=False)
    assert f"val_{name}" in history


def test_label_accuracy_of_values_is_refused() -> None:
    with pytest.raises(ValueError, match="softmax and sigmoid"):
        Trainer(MLP([2, 1], output_activation="linear"), metrics=["label_accuracy"])
