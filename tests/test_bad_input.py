"""Bad input gets one clear sentence each: what was wrong, what was seen, what is allowed."""

from __future__ import annotations

import numpy as np
import pytest

from fastmlp import (
    MLP,
    SGD,
    Adagrad,
    Adam,
    AdamW,
    Lion,
    Predictor,
    Regularization,
    RMSprop,
    Trainer,
)
from fastmlp.activations import ELU, LeakyReLU
from fastmlp.backends import Backend, TrainingState, get_backend
from fastmlp.initializers import Normal
from fastmlp.losses import LOSSES, CrossEntropy, Huber, Quantile
from fastmlp.schedules import Cosine, Exponential, OneCycle, StepDecay

NAN, INF = float("nan"), float("inf")
BAD_CALLS = [
    # The network
    (lambda: MLP([]), ValueError, r"layer_sizes needs at least .* inputs and of outputs, got \[\]"),
    (lambda: MLP([5]), ValueError, r"layer_sizes needs at least .*, got \[5\]"),
    (lambda: MLP([5, 0, 2]), ValueError, "a layer size must be at least 1, got 0"),
    (lambda: MLP([5, -3]), ValueError, "a layer size must be at least 1, got -3"),
    (lambda: MLP([5, 2.5]), TypeError, "a layer size must be an integer, got 2.5"),
    (lambda: MLP([5, True]), TypeError, "a layer size must be an integer, got True"),
    (lambda: MLP([5, "2"]), TypeError, "a layer size must be an integer, got '2'"),
    (lambda: MLP("52"), TypeError, "layer_sizes must be a list of integers, got '52'"),
    (lambda: MLP(5), TypeError, "layer_sizes must be a list of integers, got 5"),
    (lambda: MLP([2, 3, 2], "rleu"), ValueError, "unknown hidden activation 'rleu'; .* 'relu'"),
    (lambda: MLP([2, 2], "rleu"), ValueError, "unknown hidden activation 'rleu'; .* 'relu'"),
    (lambda: MLP([2, 3, 2], 5), TypeError, "hidden_activation must be a name or .*, got 5"),
    (lambda: MLP([2, 3, 2], [5]), TypeError, "hidden activation must be a name .*, got 5"),
    (
        lambda: MLP([2, 3, 2], ["relu", "relu"]),
        ValueError,
        "needs one activation for each of the 1 hidden layers, got 2",
    ),
    (
        lambda: MLP([2, 2], output_activation="relu"),
        ValueError,
        "unknown output activation 'relu'; choose one of 'softmax', 'sigmoid', 'linear'",
    ),
    (lambda: MLP([2, 2], output_activation=None), TypeError, "output activation must be a name"),
    (lambda: MLP([2, 2], initializer="xavier"), ValueError, "unknown initializer 'xavier'; .*he_"),
    (lambda: MLP([2, 2], initializer=1), TypeError, "initializer must be a name .*, got 1"),
    (lambda: MLP([2, 2], dtype="float16"), ValueError, "float32 or float64, got 'float16'"),
    (lambda: MLP([2, 2], dtype="int64"), ValueError, "dtype must be .*, got 'int64'"),
    (lambda: MLP([2, 2], dtype="real"), ValueError, "dtype must be .*, got 'real'"),
    (lambda: MLP([2, 2], dtype=None), ValueError, "dtype must be .*, got None"),
    (lambda: MLP([2, 2], seed=-1), ValueError, "seed must be at least 0, got -1"),
    (lambda: MLP([2, 2], seed=1.5), TypeError, "seed must be an integer, got 1.5"),
    (lambda: MLP([2, 2], input_scale=0), ValueError, "input_scale must be greater than 0, got 0"),
    (
        lambda: setattr(MLP([2, 2]), "parameters", np.zeros(5)),
        ValueError,
        r"parameters must have shape \(6,\), got \(5,\)",
    ),
    # Optimizers
    (lambda: SGD(-0.1), ValueError, "learning_rate must be greater than 0, got -0.1"),
    (lambda: SGD(0), ValueError, "learning_rate must be greater than 0, got 0"),
    (lambda: SGD(NAN), ValueError, "learning_rate must be greater than 0, got nan"),
    (lambda: SGD(INF), ValueError, "learning_rate must be greater than 0, got inf"),
    (lambda: SGD("0.1"), TypeError, "learning_rate must be a number, got '0.1'"),
    (lambda: SGD(None), TypeError, "learning_rate must be a number, got None"),
    (lambda: SGD(momentum=1), ValueError, "momentum must be at least 0 and less than 1, got 1"),
    (lambda: SGD(nesterov=True), ValueError, "nesterov needs a momentum greater than 0"),
    (lambda: SGD(weight_decay=-1), ValueError, "weight_decay must be at least 0, got -1"),
    (lambda: Adam(-1), ValueError, "learning_rate must be greater than 0, got -1"),
    (lambda: Adam(beta_1=1.0), ValueError, "beta_1 must be at least 0 and less than 1, got 1.0"),
    (lambda: Adam(beta_2=-0.1), ValueError, "beta_2 must be .*, got -0.1"),
    (lambda: Adam(epsilon=0), ValueError, "epsilon must be greater than 0, got 0"),
    (lambda: AdamW(weight_decay=-1), ValueError, "weight_decay must be at least 0, got -1"),
    (lambda: RMSprop(smoothing=1), ValueError, "smoothing must be .*, got 1"),
    (lambda: RMSprop(momentum=-1), ValueError, "momentum must be .*, got -1"),
    (lambda: Adagrad(epsilon=-1), ValueError, "epsilon must be greater than 0, got -1"),
    (lambda: Lion(beta_2=2), ValueError, "beta_2 must be .*, got 2"),
    # The rest of the vocabulary
    (lambda: CrossEntropy(1.0), ValueError, "label_smoothing must be .* less than 1, got 1.0"),
    (lambda: Huber(0), ValueError, "threshold must be greater than 0, got 0"),
    (lambda: Quantile((0.5, 1)), ValueError, "a quantile level must be .* less than 1, got 1"),
    (lambda: Quantile("0.5"), TypeError, "levels must be a number or at least one of them, got"),
    (lambda: Quantile(()), TypeError, r"levels must be a number or at least one of them, got \(\)"),
    (lambda: LeakyReLU(-1), ValueError, "negative_slope must be at least 0, got -1"),
    (lambda: ELU(0), ValueError, "alpha must be greater than 0, got 0"),
    (lambda: Normal(0), ValueError, "standard_deviation must be greater than 0, got 0"),
    (lambda: StepDecay(epochs=0), ValueError, "epochs must be at least 1, got 0"),
    (lambda: Exponential(1.5), ValueError, "factor must be .* at most 1, got 1.5"),
    (lambda: Cosine(warm_up=1), ValueError, "warm_up must be .* less than 1, got 1"),
    (lambda: OneCycle(rise=0), ValueError, "rise must be greater than 0 .*, got 0"),
    (lambda: Regularization(l1=-1), ValueError, "l1 must be at least 0, got -1"),
    (lambda: Regularization(l2=NAN), ValueError, "l2 must be at least 0, got nan"),
    (lambda: Regularization(dropout=1), ValueError, "a dropout share .* less than 1, got 1"),
    (lambda: Regularization(dropout=(0, 2)), ValueError, "a dropout share .*, got 2"),
    (lambda: Regularization(input_noise=-1), ValueError, "input_noise must be at least 0, got -1"),
    (lambda: Regularization(clip_norm=0), ValueError, "clip_norm must be greater than 0, got 0"),
    (lambda: Regularization(clip_value=-1), ValueError, "clip_value must be .*, got -1"),
    (lambda: Regularization(max_norm=0), ValueError, "max_norm must be .*, got 0"),
    (lambda: Regularization(ema=1), ValueError, "ema must be .* less than 1, got 1"),
    # The look-up
    (
        lambda: get_backend("nunpy"),
        ValueError,
        r"unknown backend 'nunpy'; did you mean 'numpy'\? Otherwise, choose 'auto' or one of",
    ),
    (lambda: get_backend(3), TypeError, "backend must be a name or a Backend instance, got 3"),
]

BAD_X = [
    (np.zeros((2, 3)), r"X must have shape \(n_samples, 4\) for this network, got \(2, 3\)"),
    (np.zeros(3), r"X must have shape \(n_samples, 4\) for this network, got \(3,\)"),
    (np.zeros((2, 2, 4)), r"X must have shape .*, got \(2, 2, 4\)"),
    (5.0, r"X must have shape .*, got \(\)"),
    ([["a", "b", "c", "d"]], "X must hold numbers, got an array of dtype <U1"),
    ("text", "X must hold numbers"),
    ([[1, 2, 3, None]], "X must hold numbers, got an array of dtype object"),
    (np.zeros((2, 4), complex), "X must hold numbers, got an array of dtype complex128"),
]
NOT_FINITE_X = [
    ([[0, 0, 0, 0], [0, NAN, 0, 0]], r"X holds NaN or infinite values \(first in row 1\)"),
    ([[0, 0, INF, 0]], r"X holds NaN or infinite values \(first in row 0\)"),
    ([0, 0, -INF, 0], r"X holds NaN or infinite values \(first in row 0\)"),
    ([[1e39, -1e39, 0, 0]], r"X holds values that are infinite as float32 \(first in row 0\)"),
]

#: Output and loss of a network of 3 outputs, its targets, the message.
BAD_Y = [
    ("softmax", "cross_entropy", [0, 3], "labels must lie between 0 and 2 for 3 .*, got 3"),
    ("softmax", "cross_entropy", [-1, 0], "labels must lie between 0 and 2 .*, got -1"),
    ("softmax", "mse", [0, 3], "labels must lie between 0 and 2 .*, got 3"),
    ("softmax", "cross_entropy", [0, 0.5], "labels must be integers from 0 to 2 .*, got 0.5"),
    ("softmax", "cross_entropy", [0, NAN], "y holds NaN or infinite values"),
    ("softmax", "cross_entropy", ["a", "b"], "y must hold numbers, got text such as 'a'"),
    ("softmax", "cross_entropy", [None, 1], "y must hold numbers, got an array of dtype object"),
    ("softmax", "cross_entropy", np.eye(2), r"y must have shape \(n_samples, 3\) .*, got \(2, 2\)"),
    ("softmax", "cross_entropy", [[1, 1, 0], [0, 0, 1]], "rows that sum to 1, .* sums to 2"),
    ("softmax", "cross_entropy", [[2, -1, 0], [0, 0, 1]], "between 0 and 1, got -1"),
    ("softmax", "cross_entropy", [[NAN, 1, 0], [0, 0, 1]], "y holds NaN"),
    ("softmax", "cross_entropy", [0, 1, 2], "X has 2 rows, but y has 3"),
    ("softmax", "cross_entropy", 1, r"y must have shape .*, got \(\)"),
    ("sigmoid", "cross_entropy", [[0, 1, 2], [0, 0, 0]], "between 0 and 1, got 2"),
    ("sigmoid", "cross_entropy", [0, 1], r"y must have shape \(n_samples, 3\) .*, got \(2,\)"),
    ("linear", "mse", [0, 1], r"y must have shape \(n_samples, 3\) .*, got \(2,\)"),
    ("linear", "mse", [[0, 1, INF], [0, 0, 0]], "y holds NaN, or values that are infinite"),
    ("linear", "mse", [[0, 1, 1e39], [0, 0, 0]], "y holds .* infinite as float32"),
    ("linear", "mse", [["a"] * 3] * 2, "y must hold numbers"),
    ("exp", "poisson", [[0, 1, -2], [0, 0, 0]], "poisson targets must be at least 0, got -2"),
]

BAD_BINDINGS = [
    (
        {"loss": LOSSES["cross_entropy"]},
        ValueError,
        "'cross_entropy' has no meaning for .*'linear'",
    ),
    ({"loss": Quantile((0.1, 0.9))}, ValueError, "of 2 levels needs as many outputs, .* has 3"),
    ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
    ({"batch_size": 2.0}, TypeError, "batch_size must be an integer, got 2.0"),
    ({"n_threads": 0}, ValueError, "n_threads must be at least 1, got 0"),
    ({"n_threads": "2"}, TypeError, "n_threads must be an integer, got '2'"),
    ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
    ({"regularization": Regularization(dropout=(0.1, 0.1))}, ValueError, "needs 1 shares .* got 2"),
]


def refuses(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "error", "message"), BAD_CALLS, ids=[message for *_, message in BAD_CALLS]
)
def test_bad_arguments(call, error, message: str):
    refuses(call, error, message)


@pytest.mark.parametrize(("X", "message"), BAD_X, ids=[message for _, message in BAD_X])
def test_bad_inputs(backend: Backend, X, message: str):
    network = MLP([4, 3])
    session = backend.bind(network)
    gradient = np.empty(network.n_parameters, np.float32)
    for predict in (network.predict, network.predict_proba, network.logits):
        refuses(lambda predict=predict: predict(X), ValueError, message)
    refuses(lambda: session.logits(X), ValueError, message)
    refuses(lambda: session.outputs(X), ValueError, message)
    refuses(lambda: session.loss_and_gradient(X, [0, 1], gradient), ValueError, message)
    refuses(lambda: session.train(X, np.array([0, 1]), [0], [0.1]), ValueError, message)


@pytest.mark.parametrize(
    ("X", "message"), NOT_FINITE_X, ids=[message for _, message in NOT_FINITE_X]
)
def test_inputs_that_are_not_finite(X, message: str):
    network = MLP([4, 3])
    for predict in (network.predict, network.predict_proba, network.logits):
        refuses(lambda predict=predict: predict(X), ValueError, message)


@pytest.mark.parametrize(
    ("output", "loss", "y", "message"), BAD_Y, ids=[message for *_, message in BAD_Y]
)
def test_bad_targets(backend: Backend, output: str, loss: str, y, message: str):
    network = MLP([4, 3], output_activation=output)
    session = backend.bind(network, LOSSES[loss])
    gradient = np.empty(network.n_parameters, np.float32)
    refuses(lambda: session.loss_and_gradient(np.zeros((2, 4)), y, gradient), ValueError, message)


@pytest.mark.parametrize(
    ("options", "error", "message"), BAD_BINDINGS, ids=[message for *_, message in BAD_BINDINGS]
)
def test_bad_bindings(backend: Backend, options, error, message: str):
    network = MLP([4, 3], output_activation="linear")
    refuses(lambda: backend.bind(network, **options), error, message)


def test_no_rows_at_all(backend: Backend):
    gradient = np.empty(15, np.float32)
    session = backend.bind(MLP([4, 3]))
    refuses(
        lambda: session.loss_and_gradient(np.empty((0, 4)), [], gradient),
        ValueError,
        "X must hold at least one row, got none",
    )


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1], r"sample_weight must have shape \(2,\), got \(1,\)"),
        ([1, -1], "sample_weight must hold finite numbers of at least 0, got -1"),
        ([1, NAN], "sample_weight must hold finite numbers of at least 0, got nan"),
    ],
)
def test_bad_sample_weights(backend: Backend, weights, message: str):
    session = backend.bind(MLP([4, 3]))
    X, y, gradient = np.zeros((2, 4)), np.array([0, 1]), np.empty(15, np.float32)
    refuses(lambda: session.loss_and_gradient(X, y, gradient, weights), ValueError, message)
    refuses(lambda: session.train(X, y, [0, 1], [0.1], weights), ValueError, message)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"order": [0, 2]}, "order must point at rows 0 to 1"),
        ({"order": [-1]}, "order must point at rows 0 to 1"),
        ({"learning_rates": [0.1, 0.1]}, r"1 batches need as many learning rates, got \(2,\)"),
        ({"y": np.array([0, 1, 2])}, "X has 2 rows, but y has 3"),
        ({"y": np.array([0, 3])}, "labels must lie between 0 and 2 for 3 softmax outputs, got 3"),
        ({"y": np.array([-1, 0])}, "labels must lie between 0 and 2 .* got -1"),
        ({"y": np.zeros((2, 2))}, r"y must be a matrix of 3 target columns or class numbers"),
        ({"order": [0.5, 1.0]}, "order must be a vector of integers, got float64"),
        ({"logits": np.empty((1, 3))}, r"logits must be float32 of shape \(2, 3\), got float64"),
        ({"logits": np.empty((2, 3))}, r"logits must be float32 of shape \(2, 3\), got float64"),
        ({"logits": np.empty((2, 3), "f4", "F")}, "logits must be contiguous and writable"),
        ({"logits": np.broadcast_to(np.float32(0), (2, 3))}, "logits .*, but is read-only"),
    ],
)
def test_bad_training(backend: Backend, changed, message: str):
    session = backend.bind(MLP([4, 3]))
    arguments = {
        "X": np.zeros((2, 4)),
        "y": np.array([0, 1]),
        "order": [0, 1],
        "learning_rates": [0.1],
    }
    refuses(lambda: session.train(**arguments | changed), ValueError, message)


@pytest.mark.parametrize(
    "gradient",
    [
        np.empty(14, np.float32),
        np.empty(15, np.float64),
        np.empty(30, np.float32)[::2],
        np.broadcast_to(np.float32(0), 15),
    ],
    ids=["short", "float64", "strided", "read-only"],
)
def test_a_gradient_of_another_shape_or_dtype(backend: Backend, gradient):
    session = backend.bind(MLP([4, 3]))
    message = r"gradient must be (float32 of shape \(15,\), got|contiguous and writable, but is)"
    refuses(lambda: session.update(gradient), ValueError, message)
    refuses(
        lambda: session.loss_and_gradient(np.zeros((2, 4)), [0, 1], gradient), ValueError, message
    )


def test_a_state_of_another_network_or_optimizer(backend: Backend):
    session = backend.bind(MLP([4, 3]), None, Adam())
    for other in (backend.bind(MLP([4, 2]), None, Adam()), backend.bind(MLP([4, 3]))):
        refuses(lambda other=other: session.load(other.store()), ValueError, "the state must hold")
    state = session.store()
    averaged = TrainingState(state.parameters, state.moments, state.parameters, 0)
    refuses(lambda: session.load(averaged), ValueError, "an average exactly where ema is set")


# Masks ---------------------------------------------------------------------------------------

ROWS = np.arange(8.0, dtype=np.float32).reshape(2, 4)


def masked(values, where=0):
    """Return an array that is masked in one place."""
    mask = np.zeros(np.shape(values), dtype=bool)
    mask.flat[where] = True
    return np.ma.masked_array(values, mask)


MASKED_ROWS = {
    "rows": masked(ROWS),
    "one row": masked(ROWS[0]),
    "a list of rows": [ROWS[0], masked(ROWS[1])],
    "a list of numbers": [1.0, 2.0, np.ma.masked, 4.0],
    "whole numbers": masked(ROWS.astype(int)),
    "a view": masked(np.repeat(ROWS, 2, axis=0))[::2],
}


@pytest.mark.parametrize("rows", MASKED_ROWS.values(), ids=MASKED_ROWS)
def test_masked_rows_are_refused_by_all_that_predict(backend: Backend, rows):
    network = MLP([4, 3])
    users = (network, Trainer(network, backend=backend), Predictor(network, backend))
    calls = [getattr(user, name) for user in users for name in ("predict", "predict_proba")]
    for call in [*calls, network.logits, backend.bind(network).logits]:
        with pytest.raises(ValueError, match="X has masked values"):
            call(rows)


@pytest.mark.parametrize("what", ["X", "y", "sample_weight"])
def test_masked_data_are_refused_by_sessions_and_scores(backend: Backend, what: str):
    network = MLP([4, 3])
    data = {"X": ROWS, "y": np.array([0, 1]), "sample_weight": np.ones(2)}
    data[what] = masked(data[what])
    session, gradient = backend.bind(network), np.empty(network.n_parameters, np.float32)
    trainer = Trainer(network, backend=backend)
    X, y, weights = data.values()
    calls = [
        lambda: session.loss_and_gradient(X, y, gradient, weights),
        lambda: session.train(X, y, [0, 1], [0.1], weights),
        lambda: trainer.evaluate(X, y, weights),
    ]
    if what != "sample_weight":
        calls.append(lambda: trainer.fit(ROWS, [0, 1], validation_data=(X, y)))
    for call in calls:
        with pytest.raises(ValueError, match=f"{what} has masked values"):
            call()


def test_masked_parameters_are_refused(backend: Backend):
    network = MLP([4, 3])
    before = network.parameters.copy()
    with pytest.raises(ValueError, match="parameters has masked values"):
        network.parameters = masked(before)
    with pytest.raises(ValueError, match="a layer's array has masked values"):
        network.weights[0] = masked(np.ones((4, 3)))
    with pytest.raises(ValueError, match="a layer's array has masked values"):
        network.biases = [masked(np.ones(3))]
    np.testing.assert_array_equal(network.parameters, before)
