"""What a network, a trainer or an estimator is told has one owner: all that use it agree."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import warnings
from typing import Any

import numpy as np
import pytest

from fastmlp import MLP, SGD, Adagrad, Adam, AdamW, Lion, Predictor, RMSprop, Trainer
from fastmlp.activations import ELU, OUTPUT_ACTIVATIONS
from fastmlp.backends import Backend
from fastmlp.optimizers import Optimizer

X = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
y = (X[:, 0] > 0).astype(np.int64)


def outputs_everywhere(network: MLP, backend: Backend) -> list[np.ndarray]:
    """Return the outputs of everything that computes by a network."""
    users = [network.copy(), pickle.loads(pickle.dumps(network)), Predictor(network, backend)]
    return [user.predict_proba(X) for user in (network, *users, Trainer(network, backend=backend))]


def assign_one(network: MLP, weights: list[np.ndarray]) -> None:
    network.weights[0] = weights[0]
    network.weights[-1] = weights[1].tolist()


def assign_all(network: MLP, weights: list[np.ndarray]) -> None:
    network.weights = weights


def assign_slice(network: MLP, weights: list[np.ndarray]) -> None:
    network.weights[:1], network.weights[1:] = weights[:1], weights[1:]


def assign_flat(network: MLP, weights: list[np.ndarray]) -> None:
    network.parameters = np.concatenate([*(w.ravel() for w in weights), network.parameters[-6:]])


def assign_to_a_view(network: MLP, weights: list[np.ndarray]) -> None:
    views = list(network.weights)
    network.biases[1][...] = [2.0, -2.0]
    for view, values in zip(views, weights, strict=True):
        view[...] = values


def assign_in_place(network: MLP, weights: list[np.ndarray]) -> None:
    network.weights[0][:] = weights[0]
    network.weights[1] *= 0
    network.weights[1] += weights[1]


@pytest.mark.parametrize(
    "assign",
    [assign_one, assign_all, assign_slice, assign_flat, assign_to_a_view, assign_in_place],
)
def test_assigned_weights_are_the_weights_of_all(backend: Backend, assign: Any) -> None:
    network = MLP([3, 4, 2])
    trainer = Trainer(network, backend=backend)
    before = trainer.predict_proba(X)
    assign(network, [np.full((3, 4), 0.5), np.tile([1.0, -1.0], (4, 1))])
    first, *others = outputs_everywhere(network, backend)
    assert not np.allclose(first, before)
    for other in [*others, trainer.predict_proba(X)]:
        np.testing.assert_allclose(other, first, rtol=1e-5)


def test_layers_can_change_places() -> None:
    network = MLP([3, 3, 3])
    first, second = (w.copy() for w in network.weights)
    network.weights = [network.weights[1], network.weights[0].T]
    np.testing.assert_array_equal(network.weights[0], second)
    np.testing.assert_array_equal(network.weights[1], first.T)
    network.biases = ([1, 2, 3], [4, 5, 6])
    assert network.parameters[-3:].tolist() == [4, 5, 6]


@pytest.mark.parametrize(
    "values", [[np.zeros((3, 4))], [np.zeros((3, 4)), np.zeros(2)], [np.zeros((3, 4)), "text"]]
)
def test_weights_of_other_shapes_are_refused_and_change_nothing(values: list[Any]) -> None:
    network = MLP([3, 4, 2])
    before = network.parameters.copy()
    with pytest.raises(ValueError, match=r"shape|layers"):
        network.weights = values
    with pytest.raises(ValueError, match="shape"):
        network.weights[0] = 1.0
    np.testing.assert_array_equal(network.parameters, before)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("output_activation", OUTPUT_ACTIVATIONS["sigmoid"]),
        ("hidden_activations", (ELU(),)),
        ("input_scale", 0.5),
        ("scaling_layer", True),
        ("dtype", np.dtype("float64")),
        ("layer_sizes", (3, 5, 2)),
        ("seed", 3),
    ],
)
def test_what_a_network_is_cannot_be_changed_behind_its_users(name: str, value: Any) -> None:
    network = MLP([3, 4, 2])
    for one in (network, network.copy(), pickle.loads(pickle.dumps(network))):
        with pytest.raises(AttributeError, match=f"{name} is fixed"):
            setattr(one, name, value)


def test_descriptions_are_frozen() -> None:
    for description in (ELU(), SGD(), OUTPUT_ACTIVATIONS["softmax"]):
        with pytest.raises(dataclasses.FrozenInstanceError):
            description.learning_rate = 1.0  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loss", "mse"),
        ("batch_size", 8),
        ("network", MLP([3, 2])),
        ("backend", "numpy"),
        ("n_threads", 2),
        ("seed", 1),
        ("regularization", None),
        ("class_weight", {0: 2.0}),
        ("metrics", ["f1_macro"]),
    ],
)
def test_what_a_trainer_binds_is_fixed(name: str, value: Any) -> None:
    trainer = Trainer(MLP([3, 2]), backend="numpy")
    with pytest.raises(AttributeError, match=f"{name} is fixed"):
        setattr(trainer, name, value)


def test_settings_are_the_trainers_own() -> None:
    weights, metrics = {0: 5.0}, [("always", lambda t, p: 1.0)]
    trainer = Trainer(MLP([3, 2]), backend="numpy", class_weight=weights, metrics=metrics)
    same = Trainer(MLP([3, 2]), backend="numpy", class_weight={0: 5.0})
    weights[0], weights[9] = 1.0, 3.0
    metrics.clear()
    history = trainer.fit(X, y, epochs=1, verbose=False)
    assert history["loss"] == same.fit(X, y, epochs=1, verbose=False)["loss"]
    assert history["always"] == [1.0]


def test_a_copy_after_an_assignment_is_whole() -> None:
    network = MLP([3, 4, 2])
    network.weights[0] = np.ones((3, 4))
    twin = copy.deepcopy(network)
    twin.weights[0][:] = 0
    assert np.shares_memory(twin.weights[0], twin.parameters)
    assert (network.weights[0].sum(), twin.parameters[:12].sum()) == (12.0, 0.0)


def test_an_assigned_optimizer_is_what_trains(backend: Backend) -> None:
    def train(first: SGD, then: SGD | None) -> np.ndarray:
        trainer = Trainer(MLP([3, 2]), optimizer=first, batch_size=5, backend=backend)
        trainer.fit(X, y, epochs=1, verbose=False)
        if then is not None:
            trainer.optimizer = then
        trainer.fit(X, y, epochs=1, verbose=False)
        return trainer.network.parameters

    with_momentum = SGD(0.1, momentum=0.9)
    # Momentum goes on: the same settings again change nothing, others do.
    np.testing.assert_array_equal(
        train(with_momentum, SGD(0.1, momentum=0.9)), train(with_momentum, None)
    )
    assert not np.allclose(train(with_momentum, SGD(0.1, momentum=0.5)), train(with_momentum, None))
    assert not np.allclose(train(SGD(0.1), with_momentum), train(SGD(0.1), None))


def test_an_optimizer_of_another_kind_is_refused(backend: Backend) -> None:
    trainer = Trainer(MLP([3, 2]), optimizer=SGD(0.1, momentum=0.9), backend=backend)
    with pytest.raises(ValueError, match="moments mean nothing to RMSprop"):
        trainer.optimizer = "rmsprop"
    assert trainer.optimizer == SGD(0.1, momentum=0.9)


# The estimators ------------------------------------------------------------------------------

TARGETS = {
    "two classes": (X[:, 0] > 0).astype(int),
    "one class": np.array(["only"] * 20),
    "three classes": np.arange(20) % 3,
    "labels": (X > 0).astype(int),
    "values": 1e3 + X[:, 0].astype(np.float64),
    "columns": X[:, :2].astype(np.float64),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("target", TARGETS)
def test_the_score_that_early_stopping_watches_is_the_score(
    backend: Backend, target: str, weighted: bool
) -> None:
    ours = pytest.importorskip("fastmlp.sklearn")
    kind = ours.MLPRegressor if target in ("values", "columns") else ours.MLPClassifier
    weights = (np.arange(20) % 4 / 3,) if weighted else ()
    validation_data = (X, TARGETS[target], *weights)
    model = kind(
        hidden_layer_sizes=(4,), early_stopping=True, max_iter=5, random_state=0, backend=backend
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few epochs do not converge
        model.fit(X, TARGETS[target], *weights, validation_data=validation_data)
    assert model.score(*validation_data) == pytest.approx(model.best_validation_score_, rel=1e-5)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (SGD(0.1, momentum=0.9), RMSprop(0.001)),
        (RMSprop(0.01), Lion(0.001)),
        (Adagrad(0.1), SGD(0.1, momentum=0.5)),
        (Adam(0.1), AdamW(0.1)),
    ],
)
def test_an_optimizer_of_another_kind_starts_with_moments_of_its_own(
    backend: Backend, first: Optimizer, then: Optimizer
) -> None:
    ours = pytest.importorskip("fastmlp.sklearn")
    model = ours.MLPClassifier((4,), optimizer=first, random_state=0, backend=backend, batch_size=5)
    for _ in range(3):
        model.partial_fit(X, y, classes=[0, 1])
    fresh = ours.MLPClassifier((4,), optimizer=then, random_state=0, backend=backend, batch_size=5)
    fresh.partial_fit(X, y, classes=[0, 1])
    fresh.coefs_ = [w.copy() for w in model.coefs_]
    fresh.intercepts_ = [b.copy() for b in model.intercepts_]
    del fresh._optimizer
    model.set_params(optimizer=then, shuffle=False).partial_fit(X, y)
    fresh.set_params(shuffle=False).partial_fit(X, y)
    for ours_, theirs in zip(model.coefs_, fresh.coefs_, strict=True):
        np.testing.assert_array_equal(ours_, theirs)


def test_an_optimizer_of_the_same_kind_goes_on_at_its_new_rate(backend: Backend) -> None:
    ours = pytest.importorskip("fastmlp.sklearn")
    moved = []
    for rate in (0.1, 0.001):
        model = ours.MLPClassifier(
            (4,), optimizer=SGD(0.1), shuffle=False, random_state=0, backend=backend
        ).partial_fit(X, y, classes=[0, 1])
        before = model.coefs_[0].copy()
        model.set_params(optimizer=SGD(rate)).partial_fit(X, y)
        moved.append(np.abs(model.coefs_[0] - before).max())
    assert moved[1] == pytest.approx(moved[0] / 100, rel=0.05)


def fitted(backend: Backend, **settings: Any) -> Any:
    ours = pytest.importorskip("fastmlp.sklearn")
    model = ours.MLPClassifier((4,), random_state=0, backend=backend, **settings)
    return model.partial_fit(X, y, classes=[0, 1])


def test_the_activation_that_is_set_is_that_of_all(backend: Backend) -> None:
    """As in scikit-learn, where the parameter is looked at in every call."""
    theirs = pytest.importorskip("sklearn.neural_network").MLPClassifier((4,), random_state=0)
    model, theirs = fitted(backend), theirs.partial_fit(X, y, classes=[0, 1])
    for one in (model, theirs):
        one.set_params(activation="tanh")
    # The first update differs by where Adam's epsilon stands, and by float32.
    expected = theirs.predict_proba(X)
    for one in (model, pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_allclose(one.predict_proba(X), expected, rtol=1e-3)
    for one in (model, theirs):
        one.partial_fit(X, y)
    np.testing.assert_allclose(model.predict_proba(X), theirs.predict_proba(X), rtol=1e-3)


def test_a_fit_that_goes_on_has_the_layers_that_it_had(backend: Backend) -> None:
    model = fitted(backend)
    before = model.coefs_[0].copy()
    model.set_params(hidden_layer_sizes=(7,))
    with pytest.raises(ValueError, match=r"hidden_layer_sizes is \[7\], but .* with \[4\]"):
        model.partial_fit(X, y)
    np.testing.assert_array_equal(model.coefs_[0], before)


@pytest.mark.parametrize("weights", ["balanced", {0: 5.0, 1: 0.1}])
def test_weights_of_classes_leave_the_watched_score_alone(backend: Backend, weights: Any) -> None:
    ours = pytest.importorskip("fastmlp.sklearn")
    model = ours.MLPClassifier(
        (4,), early_stopping=True, max_iter=4, class_weight=weights, random_state=0, backend=backend
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few epochs do not converge
        model.fit(X, y, validation_data=(X, y))
    assert model.score(X, y) == pytest.approx(model.best_validation_score_)
