"""Finite differences confirm every gradient, in float64 and to 1e-6 relative."""

from __future__ import annotations

import numpy as np
import pytest

from fastmlp import MLP, Regularization
from fastmlp.activations import ACTIVATIONS, ELU, OUTPUT_ACTIVATIONS, LeakyReLU
from fastmlp.backends import Backend, Session, TrainingState
from fastmlp.losses import LOSSES, CrossEntropy, CustomLoss, Huber, Loss, Quantile

N_INPUTS, N_OUTPUTS = 3, 4

PAIRS = [
    pytest.param(output, loss, id=f"{output}-{loss.name}")
    for loss in LOSSES.values()
    for output in loss.output_names
]
FOURTH_POWER = CustomLoss(
    lambda outputs, targets: np.mean((outputs - targets) ** 4, axis=1),
    lambda outputs, targets: 4 * (outputs - targets) ** 3 / outputs.shape[1],
)


def make_network(n_hidden: int, hidden, output: str, n_outputs: int = N_OUTPUTS) -> MLP:
    """Return a float64 network whose biases are not zero: there many activations have a kink."""
    sizes = [N_INPUTS, *[5] * n_hidden, n_outputs]
    network = MLP(sizes, hidden, output, dtype="float64", seed=2)
    network.parameters += np.random.default_rng(3).normal(0, 0.3, network.n_parameters)
    return network


def make_data(n_samples: int, output: str, n_targets: int = N_OUTPUTS):
    """Return inputs, and targets that suit the output: probabilities, counts or any numbers."""
    rng = np.random.default_rng(4)
    X = rng.normal(0, 1.5, (n_samples, N_INPUTS))
    targets = {
        "softmax": rng.dirichlet(np.ones(n_targets), n_samples),
        "sigmoid": rng.uniform(0, 1, (n_samples, n_targets)),
        "linear": rng.normal(0, 2, (n_samples, n_targets)),
        "exp": rng.poisson(2, (n_samples, n_targets)).astype(float),
    }
    return X, targets[output]


def assert_gradient_is_that_of_finite_differences(
    session: Session, X, y, sample_weight=None, n_directions: int = 8, step: float = 1e-5
) -> None:
    state = session.store()
    gradient = np.full(session.n_parameters, np.nan)
    session.loss_and_gradient(X, y, gradient, sample_weight)
    assert np.any(gradient)
    directions = np.random.default_rng(5).normal(size=(n_directions, session.n_parameters))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    scratch = np.empty_like(gradient)

    def loss_at(parameters) -> float:
        session.load(TrainingState(parameters, state.moments, state.average, state.step))
        return session.loss_and_gradient(X, y, scratch, sample_weight)

    measured = np.array(
        [
            (loss_at(state.parameters + step * d) - loss_at(state.parameters - step * d))
            / (2 * step)
            for d in directions
        ]
    )
    error = np.linalg.norm(measured - directions @ gradient) / np.linalg.norm(measured)
    assert error < 1e-6


@pytest.mark.parametrize("n_samples", [1, 7])
@pytest.mark.parametrize(("output", "loss"), PAIRS)
def test_without_a_hidden_layer(backend: Backend, output: str, loss: Loss, n_samples: int):
    X, y = make_data(n_samples, output)
    session = backend.bind(make_network(0, "relu", output), loss)
    assert_gradient_is_that_of_finite_differences(session, X, y)


@pytest.mark.parametrize("n_samples", [1, 7])
@pytest.mark.parametrize("n_hidden", [1, 3])
@pytest.mark.parametrize("hidden", ACTIVATIONS)
@pytest.mark.parametrize(("output", "loss"), PAIRS)
def test_every_combination(
    backend: Backend, hidden: str, output: str, loss: Loss, n_hidden: int, n_samples: int
):
    X, y = make_data(n_samples, output)
    session = backend.bind(make_network(n_hidden, hidden, output), loss)
    assert_gradient_is_that_of_finite_differences(session, X, y)


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_label_smoothing(backend: Backend, output: str):
    X, y = make_data(7, output)
    session = backend.bind(make_network(1, "tanh", output), CrossEntropy(label_smoothing=0.2))
    assert_gradient_is_that_of_finite_differences(session, X, y)


@pytest.mark.parametrize("loss", [Huber(threshold=0.3), Quantile(levels=(0.8,)), FOURTH_POWER])
def test_loss_parameters_and_custom_losses(backend: Backend, loss: Loss):
    X, y = make_data(7, "linear")
    session = backend.bind(make_network(1, "tanh", "linear"), loss)
    assert_gradient_is_that_of_finite_differences(session, X, y)


def test_several_quantiles_of_one_target(backend: Backend):
    X, y = make_data(7, "linear", n_targets=1)
    network = make_network(1, "tanh", "linear", n_outputs=3)
    session = backend.bind(network, Quantile(levels=(0.1, 0.5, 0.9)))
    assert_gradient_is_that_of_finite_differences(session, X, y)


@pytest.mark.parametrize("activation", [LeakyReLU(0.3), LeakyReLU(0.0), ELU(0.4), ELU(2.5)])
def test_activation_parameters(backend: Backend, activation):
    X, y = make_data(7, "linear")
    session = backend.bind(make_network(2, activation, "linear"), LOSSES["mse"])
    assert_gradient_is_that_of_finite_differences(session, X, y)


@pytest.mark.parametrize("output", OUTPUT_ACTIVATIONS)
def test_one_activation_for_each_layer(backend: Backend, output: str):
    X, y = make_data(7, output)
    session = backend.bind(make_network(3, ["tanh", "gelu", "relu"], output), LOSSES["mse"])
    assert_gradient_is_that_of_finite_differences(session, X, y)


@pytest.mark.parametrize("output", ["softmax", "linear"])
@pytest.mark.parametrize(
    "regularization",
    [
        Regularization(l2=0.3),
        Regularization(l1=0.2),
        Regularization(l1=0.1, l2=0.2),
        Regularization(dropout=0.5),
        Regularization(dropout=(0.3, 0.2, 0.4)),
        Regularization(input_noise=0.5),
        Regularization(l1=0.1, l2=0.2, dropout=(0.3, 0.5, 0.5), input_noise=0.5),
    ],
    ids=str,
)
def test_regularization(backend: Backend, regularization: Regularization, output: str):
    X, y = make_data(7, output)
    network = make_network(2, ["relu", "gelu"], output)
    session = backend.bind(network, None, None, regularization, seed=6)
    assert_gradient_is_that_of_finite_differences(session, X, y)


@pytest.mark.parametrize(("output", "loss"), PAIRS)
def test_sample_weights(backend: Backend, output: str, loss: Loss):
    X, y = make_data(7, output)
    session = backend.bind(make_network(1, "tanh", output), loss)
    assert_gradient_is_that_of_finite_differences(
        session, X, y, sample_weight=[0.5, 0, 2, 1, 3, 0.1, 1]
    )


def test_class_numbers(backend: Backend):
    X, _ = make_data(7, "softmax")
    for loss in ("cross_entropy", "mse"):
        session = backend.bind(make_network(1, "relu", "softmax"), LOSSES[loss])
        assert_gradient_is_that_of_finite_differences(session, X, [0, 1, 2, 3, 0, 1, 2])


def test_the_scale_of_inputs(backend: Backend):
    network = MLP([N_INPUTS, 5, 2], "tanh", "linear", dtype="float64", input_scale=1 / 255)
    X = np.random.default_rng(0).integers(0, 256, (7, N_INPUTS), dtype=np.uint8)
    y = np.random.default_rng(1).normal(size=(7, 2))
    assert_gradient_is_that_of_finite_differences(backend.bind(network), X, y)


@pytest.mark.parametrize("n_hidden", [0, 2])
@pytest.mark.parametrize(
    "regularization",
    [
        Regularization(),
        Regularization(l1=0.1, l2=0.2, dropout=0.3, input_noise=0.5),
    ],
    ids=str,
)
def test_the_scaling_layer(backend: Backend, regularization: Regularization, n_hidden: int):
    sizes = [N_INPUTS, *[5] * n_hidden, N_OUTPUTS]
    network = MLP(
        sizes, "tanh", "linear", dtype="float64", seed=2, input_scale=0.7, scaling_layer=True
    )
    network.parameters += np.random.default_rng(3).normal(0, 0.3, network.n_parameters)
    session = backend.bind(network, None, None, regularization, seed=6)
    assert_gradient_is_that_of_finite_differences(session, *make_data(7, "linear"))
