"""Very large, very small and very sure numbers: no square overflows, and no digit cancels."""

from __future__ import annotations

import numpy as np
import pytest

from fastmlp import MLP, SGD, Adam, Regularization, RMSprop, Trainer
from fastmlp.backends import Backend
from fastmlp.backends.base import TrainingState
from fastmlp.errors import DivergenceError
from fastmlp.losses import LOSSES, CrossEntropy, Huber, Quantile

DTYPES = ["float32", "float64"]
#: Magnitudes whose squares are beyond the range of the dtype, or just inside.
MAGNITUDES = {
    "float32": [1e-38, 1e-25, 1e-3, 1.0, 1e15, 1e20, 1e30],
    "float64": [1e-300, 1e-200, 1e-3, 1.0, 1e100, 1e200, 1e300],
}
SIZES = [(dtype, size) for dtype in DTYPES for size in MAGNITUDES[dtype]]


def updated(backend: Backend, dtype, parameters, gradient, optimizer, regularization):
    """Return the parameters of [20, 3] after one update."""
    network = MLP([20, 3], output_activation="linear", dtype=dtype)
    session = backend.bind(network, None, optimizer, regularization)
    session.load(
        TrainingState(parameters.astype(dtype), np.zeros((optimizer.n_moments, 63), dtype), None, 0)
    )
    with np.errstate(under="ignore"):
        session.update(gradient.astype(dtype), 1.0)
    return session.store().parameters.astype(np.longdouble)


@pytest.mark.parametrize(("dtype", "size"), SIZES)
@pytest.mark.parametrize("limit", [0.1, 1.0])
def test_a_gradient_of_any_size_is_clipped_to_its_norm(backend, dtype, size, limit):
    gradient = size * np.random.default_rng(0).normal(size=63)
    moved = updated(
        backend, dtype, np.zeros(63), gradient, SGD(1.0), Regularization(clip_norm=limit)
    )
    wide = gradient.astype(dtype).astype(np.longdouble)
    norm = np.sqrt(np.sum(wide**2))
    expected = -wide * min(np.longdouble(1), limit / norm)
    # A factor of 1e-31 keeps its digits in float32; the sums have 63 terms.
    error = np.sqrt(np.sum((moved - expected) ** 2)) / np.sqrt(np.sum(expected**2))
    assert error <= 100 * np.finfo(dtype).eps


@pytest.mark.parametrize(("dtype", "size"), SIZES)
@pytest.mark.parametrize("share", [0.5, 2.0, 1e-3])
def test_weights_of_any_size_are_scaled_to_their_norm(backend, dtype, size, share):
    parameters = size * np.random.default_rng(1).normal(size=63)
    parameters[:3] = [3 * size, 4 * size, 0]
    limit = float(share * size)
    moved = updated(
        backend, dtype, parameters, np.zeros(63), SGD(1.0), Regularization(max_norm=limit)
    )
    weights = parameters.astype(dtype).astype(np.longdouble)[:60].reshape(20, 3)
    norms = np.sqrt(np.sum(weights**2, axis=0))
    expected = weights * np.minimum(np.longdouble(1), limit / norms)
    smallest = np.finfo(dtype).smallest_subnormal
    bound = 100 * np.finfo(dtype).eps * np.abs(expected) + 2 * smallest
    assert np.all(np.abs(moved[:60].reshape(20, 3) - expected) <= bound)


def test_units_without_weights_keep_none(backend: Backend):
    moved = updated(
        backend, "float32", np.zeros(63), np.zeros(63), SGD(1.0), Regularization(max_norm=1e-30)
    )
    np.testing.assert_array_equal(moved, 0)


@pytest.mark.parametrize("optimizer", [Adam(1.0), RMSprop(1.0)], ids=lambda one: one.name)
@pytest.mark.parametrize("size", [1e-15, 1.0, 1e18, 9e19])
def test_a_large_gradient_makes_a_step_all_the_same(backend: Backend, optimizer, size):
    gradient = size * np.linspace(1, 2, 63) * (-1) ** np.arange(63)
    moved = updated(backend, "float32", np.zeros(63), gradient, optimizer, Regularization())
    wide = gradient.astype(np.float32).astype(np.longdouble)
    if isinstance(optimizer, Adam):
        expected = -wide / (np.abs(wide) + optimizer.epsilon)
    else:
        expected = -wide / (np.sqrt(1 - optimizer.smoothing) * np.abs(wide) + optimizer.epsilon)
    np.testing.assert_allclose(moved.astype(float), expected.astype(float), rtol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("logit", [0.0, 1e-3, 3.0, 12.0, 30.0, 80.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_sure_row_costs_the_same_for_either_label(backend: Backend, dtype, logit, smoothing):
    """Mirrored logits and labels have the same loss and opposite gradients, with all digits."""
    network = MLP([1, 1], output_activation="sigmoid", dtype=dtype)
    session = backend.bind(network, CrossEntropy(label_smoothing=smoothing))
    found = []
    for sign, label in ((1, 1), (-1, 0)):
        network.parameters = [0.0, sign * logit]
        session.load(TrainingState.initial(network, session.optimizer, session.regularization))
        gradient = np.empty(2, dtype)
        loss = session.loss_and_gradient([[1.0]], [label], gradient)
        found.append((loss, sign * float(gradient[1])))
    z = np.longdouble(np.asarray(logit, dtype))
    wrong = np.longdouble(smoothing) / 2
    expected = np.log1p(np.exp(-z)) + wrong * z, 1 / (1 + np.exp(-z)) - (1 - wrong)
    if not smoothing:
        expected = np.log1p(np.exp(-z)), -1 / (1 + np.exp(z))
    tolerance = 16 * float(np.finfo(dtype).eps)
    for loss, slope in found:
        assert loss == pytest.approx(float(expected[0]), rel=tolerance)
        assert slope == pytest.approx(
            float(expected[1]), rel=tolerance, abs=tolerance if smoothing else 0.0
        )


@pytest.mark.parametrize("size", [1e21, 1e25, 1e30, 1e37])
@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop", "adagrad"])
def test_moments_beyond_all_numbers_are_a_divergence(backend: Backend, name, size):
    """With an infinite mean of squares, every further step would be zero, in silence."""
    network = MLP([2, 1], output_activation="linear", seed=0)
    trainer = Trainer(network, "mae", name, backend=backend)  # whose gradient is the input
    before = network.parameters.copy()
    with pytest.raises(DivergenceError, match="a moment of the optimizer became NaN or infinite"):
        trainer.fit([[size, size / 2]], [0.0], epochs=1, verbose=False)
    np.testing.assert_array_equal(network.parameters, before)
    trainer.fit([[1.0, 2.0]], [1.0], epochs=1, verbose=False)
    assert not np.array_equal(network.parameters, before)


@pytest.mark.parametrize(
    ("dtype", "weight"),
    [
        ("float32", 1e-45),
        ("float32", 1e-38),
        ("float32", 3e38),
        ("float64", 5e-324),
        ("float64", 1e-310),
        ("float64", 1e300),
        ("float64", 1.7e308),
    ],
)
def test_the_unit_of_weights_does_not_matter(backend: Backend, dtype, weight):
    rng = np.random.default_rng(2)
    X, y = rng.normal(size=(60, 3)), np.arange(60) % 2

    def scores(weights):
        trainer = Trainer(MLP([3, 4, 2], dtype=dtype, seed=0), batch_size=16, backend=backend)
        history = trainer.fit(X, y, epochs=1, sample_weight=weights, verbose=False)
        shown = history["loss"] + history["accuracy"] + list(trainer.evaluate(X, y, weights))
        return np.concatenate([shown, trainer.network.parameters])

    np.testing.assert_allclose(
        scores(np.full(60, weight, dtype)), scores(None), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1e-30, 1.0, 1e18, 1e30])
@pytest.mark.parametrize(
    ("output", "loss"),
    [("linear", Huber(1.0)), ("linear", LOSSES["mae"]), ("linear", Quantile((0.9,)))],
    ids=lambda value: getattr(value, "name", value),
)
def test_losses_of_far_values_are_their_formulas(backend: Backend, dtype, size, output, loss):
    network = MLP([1, 1], output_activation=output, dtype=dtype)
    network.parameters = [0.0, size]
    gradient = np.empty(2, dtype)
    value = backend.bind(network, loss).loss_and_gradient([[1.0]], [[-size]], gradient)
    gap = 2 * np.longdouble(np.asarray(size, dtype))
    expected, slope = {
        "huber": (gap - np.longdouble(0.5), 1.0) if gap > 1 else (gap**2 / 2, gap),
        "mae": (gap, 1.0),
        "quantile": (gap * (1 - np.longdouble(0.9)), 0.1),
    }[loss.name]
    tolerance = 16 * float(np.finfo(dtype).eps)
    smallest = float(np.finfo(dtype).smallest_subnormal)
    assert value == pytest.approx(float(expected), rel=tolerance, abs=smallest)
    assert float(gradient[1]) == pytest.approx(float(slope), rel=tolerance, abs=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rate", [-60.0, -3.0, 0.0, 3.0, 60.0])
@pytest.mark.parametrize("count", [0.0, 1.0, 1e20])
def test_far_rates_of_counts_are_their_formula(backend: Backend, dtype, rate, count):
    network = MLP([1, 1], output_activation="exp", dtype=dtype)
    network.parameters = [0.0, rate]
    gradient = np.empty(2, dtype)
    value = backend.bind(network, LOSSES["poisson"]).loss_and_gradient([[1.0]], [[count]], gradient)
    mean, count = np.exp(np.longdouble(rate)), np.longdouble(np.asarray(count, dtype))
    largest = float(max(mean, count * abs(np.longdouble(rate))))
    tolerance = 64 * float(np.finfo(dtype).eps)
    assert value == pytest.approx(float(mean - count * rate), abs=tolerance * largest)
    assert float(gradient[1]) == pytest.approx(
        float(mean - count), abs=tolerance * float(max(mean, count))
    )
