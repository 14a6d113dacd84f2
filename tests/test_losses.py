from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmlp import MLP
from fastmlp.activations import OUTPUT_ACTIVATIONS
from fastmlp.backends import Backend
from fastmlp.backends.base import default_loss
from fastmlp.losses import LOSSES, CrossEntropy, CustomLoss, Loss, Quantile

PAIRS = [(output, loss.name) for loss in LOSSES.values() for output in loss.output_names]
DTYPES = ["float32", "float64"]


def constant_network(logits, output: str, dtype="float64") -> MLP:
    """Return a network that gives these logits, whatever its one input is."""
    network = MLP([1, len(logits)], output_activation=output, dtype=dtype)
    network.weights[0][:] = 0
    network.biases[0][:] = logits
    return network


def loss_and_gradient(backend: Backend, network: MLP, loss: Loss, y, sample_weight=None):
    gradient = np.full(network.n_parameters, np.nan, network.dtype)
    X = np.ones((len(y), network.n_inputs))
    return backend.bind(network, loss).loss_and_gradient(X, y, gradient, sample_weight), gradient


@pytest.mark.parametrize(
    ("loss", "output", "logits", "y", "expected"),
    [
        ("cross_entropy", "softmax", [0, np.log(3)], [0], np.log(4)),
        ("cross_entropy", "softmax", [0, np.log(3)], [[0.5, 0.5]], np.log(4) - 0.5 * np.log(3)),
        ("cross_entropy", "sigmoid", [0, np.log(3)], [[1, 0]], (np.log(2) + np.log(4)) / 2),
        ("cross_entropy", "sigmoid", [np.log(3)], [1, 0], (np.log(4 / 3) + np.log(4)) / 2),
        ("mse", "softmax", [0, np.log(3)], [1], 0.0625),
        ("mse", "linear", [1, 2], [[3, 5]], 6.5),
        ("squared_error", "linear", [1, 2], [[3, 5]], 3.25),
        ("mae", "linear", [1, 2], [[3, 5]], 2.5),
        ("huber", "linear", [1, 2], [[1.5, 5]], (0.125 + 2.5) / 2),
        ("quantile", "linear", [1, 2], [[3, 1]], (1 + 0.5) / 2),
        ("poisson", "exp", [0, np.log(2)], [[1, 3]], (1 + 2 - 3 * np.log(2)) / 2),
    ],
)
def test_values_by_hand(backend, loss: str, output: str, logits, y, expected: float):
    value, _ = loss_and_gradient(backend, constant_network(logits, output), LOSSES[loss], y)
    assert value == pytest.approx(expected, rel=1e-12)


def test_label_smoothing_by_hand(backend):
    loss = CrossEntropy(label_smoothing=0.1)
    value, _ = loss_and_gradient(backend, constant_network([0, np.log(3)], "softmax"), loss, [0])
    assert value == pytest.approx(np.log(4) - 0.05 * np.log(3))
    value, _ = loss_and_gradient(backend, constant_network([np.log(3)], "sigmoid"), loss, [1])
    assert value == pytest.approx(0.95 * np.log(4 / 3) + 0.05 * np.log(4))


def test_several_quantiles_share_one_target(backend):
    network = constant_network([1, 2, 3], "linear")
    value, gradient = loss_and_gradient(backend, network, Quantile(levels=(0.1, 0.5, 0.9)), [2.5])
    assert value == pytest.approx((0.15 + 0.25 + 0.05) / 3)
    np.testing.assert_allclose(gradient[3:], np.array([-0.1, -0.5, 0.1]) / 3)


def test_a_custom_loss_equals_the_built_in_one_of_the_same_formula(backend):
    mse = CustomLoss(
        lambda outputs, targets: np.mean((outputs - targets) ** 2, axis=1),
        lambda outputs, targets: 2 * (outputs - targets) / outputs.shape[1],
    )
    network = constant_network([0.2, 0.5, -0.1], "softmax")
    value, gradient = loss_and_gradient(backend, network, mse, [0, 2])
    expected_value, expected_gradient = loss_and_gradient(backend, network, LOSSES["mse"], [0, 2])
    assert value == pytest.approx(expected_value, rel=1e-14)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("output", "loss"), [pair for pair in PAIRS if pair[0] != "exp"], ids="-".join
)
def test_extreme_logits(backend, output: str, loss: str, sign: int, dtype: str):
    network = constant_network([sign * 1e4, -sign * 1e4, 0], output, dtype)
    for y in ([[1, 0, 0]], [[0, 1, 0]], [[0, 0, 1]]):
        value, gradient = loss_and_gradient(backend, network, LOSSES[loss], y)
        assert np.isfinite(value)
        assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", [name for output, name in PAIRS if output == "exp"])
def test_extreme_logits_of_rates(backend, loss: str, dtype: str):
    """The rate exp(1e4) is beyond any float, exp(-1e4) is zero and allowed."""
    network = constant_network([-1e4, 20, 0], "exp", dtype)
    value, gradient = loss_and_gradient(backend, network, LOSSES[loss], [[1, 2, 3]])
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("output", "y", "expected"),
    [("softmax", [1], 2e4), ("softmax", [0], 0), ("sigmoid", [[0, 1]], 1e4)],
)
def test_cross_entropy_of_extreme_logits_is_exact(backend, output: str, y, expected, dtype: str):
    network = constant_network([1e4, -1e4], output, dtype)
    value, _ = loss_and_gradient(backend, network, LOSSES["cross_entropy"], y)
    assert value == expected


@given(weights=st.lists(st.integers(0, 3), min_size=3, max_size=3).filter(any))
def test_a_sample_of_weight_n_counts_as_n_samples(backend, weights):
    network = MLP([1, 3], dtype="float64")
    X, y = np.array([[0.5], [-1.0], [2.0]]), np.array([0, 1, 2])
    gradients = np.full((2, network.n_parameters), np.nan)
    session = backend.bind(network)
    weighted = session.loss_and_gradient(X, y, gradients[0], weights)
    repeated = session.loss_and_gradient(
        np.repeat(X, weights, axis=0), np.repeat(y, weights), gradients[1]
    )
    assert weighted == pytest.approx(repeated, rel=1e-12)
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-10, atol=1e-15)


def test_samples_of_no_weight_at_all_teach_nothing(backend):
    value, gradient = loss_and_gradient(
        backend, MLP([1, 3]), LOSSES["cross_entropy"], [0, 1], sample_weight=[0, 0]
    )
    assert value == 0
    assert not np.any(gradient)


def test_labels_and_their_one_hot_rows_are_the_same(backend):
    network = MLP([1, 3], dtype="float64")
    for loss in ("cross_entropy", "mse"):
        by_label = loss_and_gradient(backend, network, LOSSES[loss], [2, 0])
        by_row = loss_and_gradient(backend, network, LOSSES[loss], [[0, 0, 1], [1, 0, 0]])
        assert by_label[0] == pytest.approx(by_row[0], rel=1e-14)
        np.testing.assert_allclose(by_label[1], by_row[1], rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("y", [[2, 0], [2.0, 0.0], np.uint8([2, 0]), [[2], [0]]])
def test_labels_may_be_of_any_numeric_type(backend, y):
    network = MLP([1, 3], dtype="float64")
    value, _ = loss_and_gradient(backend, network, LOSSES["cross_entropy"], y)
    expected, _ = loss_and_gradient(backend, network, LOSSES["cross_entropy"], [2, 0])
    assert value == expected


@pytest.mark.parametrize(
    ("output", "loss"),
    [
        (output, loss)
        for output in OUTPUT_ACTIVATIONS
        for loss in LOSSES
        if (output, loss) not in PAIRS
    ],
)
def test_a_pair_without_meaning_is_refused_with_those_that_have_one(backend, output, loss):
    with pytest.raises(ValueError, match="has no meaning") as caught:
        backend.bind(MLP([2, 2], output_activation=output), LOSSES[loss])
    for name, allowed in LOSSES.items():
        assert f"{name}: {', '.join(allowed.output_names)}" in str(caught.value)


def test_linear_output_with_cross_entropy_has_no_meaning():
    assert ("linear", "cross_entropy") not in PAIRS
    assert ("softmax", "mse") in PAIRS


@pytest.mark.parametrize(
    ("output", "loss"),
    [
        ("softmax", "cross_entropy"),
        ("sigmoid", "cross_entropy"),
        ("linear", "mse"),
        ("exp", "poisson"),
    ],
)
def test_the_default_loss_suits_the_output(output: str, loss: str):
    assert default_loss(MLP([1, 2], output_activation=output)).name == loss
