"""Other libraries agree: scikit-learn and PyTorch, from equal parameters and in equal order."""

from __future__ import annotations

import warnings
from itertools import pairwise

import numpy as np
import pytest

from fastmlp import MLP, SGD, Adagrad, Adam, AdamW, RMSprop, Trainer
from fastmlp.activations import ACTIVATIONS, ELU, OUTPUT_ACTIVATIONS, LeakyReLU
from fastmlp.backends import Backend
from fastmlp.datasets import load_mnist
from fastmlp.losses import LOSSES, CrossEntropy, Huber, Loss, Quantile
from fastmlp.optimizers import Optimizer
from fastmlp.targets import prepare_targets

SKLEARN_NAMES = {"sigmoid": "logistic"}
N_SAMPLES, N_FEATURES, BATCH_SIZE = 50, 6, 8  # the last batch is smaller


@pytest.fixture
def neural_network():
    return pytest.importorskip("sklearn.neural_network")


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def make_data(output: str, n_outputs: int):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N_SAMPLES, N_FEATURES))
    if output == "softmax":
        return X, np.arange(N_SAMPLES) % n_outputs
    if output == "sigmoid":
        return X, rng.integers(0, 2, (N_SAMPLES, n_outputs))
    return X, rng.normal(size=(N_SAMPLES, n_outputs))


def train(
    backend: Backend, network: MLP, X, y, optimizer: Optimizer, loss: str | None, n_epochs: int = 1
):
    """Train in the order of the rows; return the parameters and every batch's loss."""
    session = backend.bind(
        network, None if loss is None else LOSSES[loss], optimizer, batch_size=BATCH_SIZE
    )
    targets = prepare_targets(
        y, session.loss, network.output_activation, network.n_outputs, network.dtype
    )
    n_batches = -(-N_SAMPLES // BATCH_SIZE)
    rates = np.full(n_batches, optimizer.learning_rate)
    losses = [session.train(X, targets, np.arange(N_SAMPLES), rates) for _ in range(n_epochs)]
    return session.store().parameters, np.concatenate(losses)


def assert_equal_to_1e_10(actual, expected) -> None:
    error = np.linalg.norm(np.subtract(actual, expected)) / np.linalg.norm(expected)
    assert error < 1e-10


# scikit-learn --------------------------------------------------------------------------------


def sklearn_epoch(model, network: MLP, X, y) -> tuple[np.ndarray, float]:
    """Let scikit-learn train one epoch from the network's parameters; return them and the loss."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Stochastic Optimizer: Maximum iterations")
        model.fit(X, y)  # gives the model its shapes
        model.coefs_ = [w.copy() for w in network.weights]
        model.intercepts_ = [b.copy() for b in network.biases]
        model.fit(X, y)
    pairs = zip(model.coefs_, model.intercepts_, strict=True)
    return np.concatenate([part.ravel() for pair in pairs for part in pair]), model.loss_


@pytest.mark.parametrize("hidden", ["relu", "sigmoid", "tanh", "identity"])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
@pytest.mark.parametrize(
    ("kind", "output", "n_outputs", "loss"),
    [
        ("MLPClassifier", "softmax", 3, "cross_entropy"),
        ("MLPClassifier", "sigmoid", 1, "cross_entropy"),
        ("MLPClassifier", "sigmoid", 4, "cross_entropy"),
        ("MLPRegressor", "linear", 1, "squared_error"),
        ("MLPRegressor", "linear", 4, "squared_error"),
    ],
)
def test_an_epoch_equals_scikit_learn(
    backend, neural_network, kind, output, n_outputs, loss, hidden, momentum, nesterov
):
    network = MLP([N_FEATURES, 7, 5, n_outputs], hidden, output, dtype="float64")
    X, y = make_data(output, n_outputs)
    # scikit-learn's gradient is a sum over several outputs, ours a mean (as PyTorch and Keras).
    rate = 0.1
    scale = 1 if output == "softmax" else n_outputs
    model = getattr(neural_network, kind)(
        hidden_layer_sizes=(7, 5),
        activation=SKLEARN_NAMES.get(hidden, hidden),
        solver="sgd",
        alpha=0,
        batch_size=BATCH_SIZE,
        learning_rate_init=rate,
        momentum=momentum,
        nesterovs_momentum=nesterov,
        max_iter=1,
        shuffle=False,
        warm_start=True,
    )
    expected, expected_loss = sklearn_epoch(model, network, X, y.ravel() if n_outputs == 1 else y)

    optimizer = SGD(rate * scale, momentum=momentum, nesterov=nesterov)
    parameters, losses = train(backend, network, X, y, optimizer, loss)

    assert_equal_to_1e_10(parameters, expected)
    last_batch = N_SAMPLES - BATCH_SIZE * (len(losses) - 1)
    loss_scale = scale if output == "sigmoid" else 1  # its log loss is a sum as well
    mean_loss = np.average(losses, weights=[BATCH_SIZE] * (len(losses) - 1) + [last_batch])
    assert mean_loss * loss_scale == pytest.approx(expected_loss, rel=1e-10)


# PyTorch -------------------------------------------------------------------------------------

TORCH_ACTIVATIONS = {
    "relu": ("relu", {}),
    "sigmoid": ("sigmoid", {}),
    "tanh": ("tanh", {}),
    "identity": ("leaky_relu", {"negative_slope": 1.0}),
    "leaky_relu": ("leaky_relu", {}),
    "elu": ("elu", {}),
    "selu": ("selu", {}),
    "gelu": ("gelu", {}),
    "gelu_tanh": ("gelu", {"approximate": "tanh"}),
    "silu": ("silu", {}),
    "mish": ("mish", {}),
    "softplus": ("softplus", {"threshold": 1e9}),  # PyTorch is linear above its threshold
    "relu6": ("relu6", {}),
    "hard_tanh": ("hardtanh", {}),
    "hard_sigmoid": ("hardsigmoid", {}),
    "hard_swish": ("hardswish", {}),
}


def torch_activation(torch, name: str, z, **options):
    function, defaults = TORCH_ACTIVATIONS[name]
    return getattr(torch.nn.functional, function)(z, **(defaults | options))


def torch_output(torch, name: str, z):
    outputs = {
        "softmax": lambda: torch.softmax(z, dim=1),
        "sigmoid": lambda: torch.sigmoid(z),
        "linear": lambda: z,
        "exp": lambda: torch.exp(z),
    }
    return outputs[name]()


def torch_loss(torch, loss: Loss, output: str, z, t):
    """Return PyTorch's mean over a batch, from logits."""
    functional = torch.nn.functional
    y = torch_output(torch, output, z)
    if isinstance(loss, CrossEntropy) and output == "softmax":
        return functional.cross_entropy(z, t, label_smoothing=loss.label_smoothing)
    if isinstance(loss, CrossEntropy):
        smooth = t * (1 - loss.label_smoothing) + loss.label_smoothing / 2
        return functional.binary_cross_entropy_with_logits(z, smooth)
    if isinstance(loss, Huber):
        return functional.huber_loss(y, t, delta=loss.threshold)
    if isinstance(loss, Quantile):
        levels = torch.tensor(loss.levels, dtype=z.dtype)
        return torch.maximum(levels * (t - y), (levels - 1) * (t - y)).mean()
    return {
        "mse": lambda: functional.mse_loss(y, t),
        "squared_error": lambda: 0.5 * functional.mse_loss(y, t),
        "mae": lambda: functional.l1_loss(y, t),
        "poisson": lambda: functional.poisson_nll_loss(z, t, log_input=True),
    }[loss.name]()


def logits_with_autograd(torch, values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(
    "activation",
    [*ACTIVATIONS.values(), LeakyReLU(0.3), ELU(0.4)],
    ids=str,
)
def test_activations_equal_those_of_pytorch(torch, activation):
    z = np.random.default_rng(0).normal(0, 4, (200, 5))
    options = {}
    if isinstance(activation, LeakyReLU):
        options = {"negative_slope": activation.negative_slope}
    elif isinstance(activation, ELU):
        options = {"alpha": activation.alpha}
    z_torch = logits_with_autograd(torch, z)
    expected = torch_activation(torch, activation.name, z_torch, **options)
    expected.sum().backward()

    a = activation.forward(z, out=np.empty_like(z))

    assert_equal_to_1e_10(a, expected.detach().numpy())
    slope = z_torch.grad.numpy()
    if activation.name == "hard_sigmoid":  # PyTorch rounds its 1/6 to float32
        slope = np.where(slope == np.float32(1 / 6), 1 / 6, slope)
    assert_equal_to_1e_10(activation.derivative(z, a), slope)


@pytest.mark.parametrize("name", OUTPUT_ACTIVATIONS)
def test_outputs_equal_those_of_pytorch(torch, name: str):
    rng = np.random.default_rng(0)
    z, upstream = rng.normal(0, 4, (40, 5)), rng.normal(size=(40, 5))
    z_torch = logits_with_autograd(torch, z)
    expected = torch_output(torch, name, z_torch)
    expected.backward(torch.tensor(upstream))

    outputs = OUTPUT_ACTIVATIONS[name].forward(z, out=np.empty_like(z))

    assert_equal_to_1e_10(outputs, expected.detach().numpy())
    gradient = OUTPUT_ACTIVATIONS[name].backward(upstream, outputs)
    assert_equal_to_1e_10(gradient, z_torch.grad.numpy())


@pytest.mark.parametrize(
    ("output", "loss"),
    [
        pytest.param(output, loss, id=f"{output}-{loss}")
        for loss in [
            *LOSSES.values(),
            CrossEntropy(label_smoothing=0.1),
            Huber(threshold=0.2),
            Quantile(levels=(0.9,)),
        ]
        for output in loss.output_names
    ],
)
def test_losses_equal_those_of_pytorch(backend, torch, output: str, loss: Loss):
    n_samples, n_outputs = 30, 4
    rng = np.random.default_rng(0)
    X = rng.normal(0, 2, (n_samples, N_FEATURES))
    targets = {
        "softmax": rng.dirichlet(np.ones(n_outputs), n_samples),
        "sigmoid": rng.uniform(size=(n_samples, n_outputs)),
        "linear": rng.normal(size=(n_samples, n_outputs)),
        "exp": rng.poisson(2, (n_samples, n_outputs)).astype(float),
    }[output]
    network = MLP([N_FEATURES, n_outputs], output_activation=output, dtype="float64")
    weights = logits_with_autograd(torch, network.weights[0])
    biases = logits_with_autograd(torch, network.biases[0])
    z = torch.tensor(X) @ weights + biases
    expected = torch_loss(torch, loss, output, z, torch.tensor(targets))
    expected.backward()

    gradient = np.full(network.n_parameters, np.nan)
    value = backend.bind(network, loss).loss_and_gradient(X, targets, gradient)

    assert value == pytest.approx(expected.item(), rel=1e-10)
    assert_equal_to_1e_10(
        gradient, np.concatenate([weights.grad.numpy().ravel(), biases.grad.numpy()])
    )


TORCH_OPTIMIZERS = [
    (SGD(0.05), "SGD", {}),
    (SGD(0.05, momentum=0.9), "SGD", {"momentum": 0.9}),
    (SGD(0.05, momentum=0.9, nesterov=True), "SGD", {"momentum": 0.9, "nesterov": True}),
    (SGD(0.05, momentum=0.5, weight_decay=0.1), "SGD", {"momentum": 0.5, "weight_decay": 0.1}),
    (Adam(0.01), "Adam", {}),
    (Adam(0.01, 0.8, 0.99, 1e-4, 0.1), "Adam", {"betas": (0.8, 0.99), "eps": 1e-4}),
    (AdamW(0.01), "AdamW", {}),
    (AdamW(0.01, weight_decay=0.3), "AdamW", {"weight_decay": 0.3}),
    (RMSprop(0.01), "RMSprop", {}),
    (RMSprop(0.003, smoothing=0.9, momentum=0.9), "RMSprop", {"alpha": 0.9, "momentum": 0.9}),
    (RMSprop(0.01, weight_decay=0.1), "RMSprop", {"weight_decay": 0.1}),
    (Adagrad(0.05), "Adagrad", {}),
    (Adagrad(0.05, weight_decay=0.1), "Adagrad", {"weight_decay": 0.1}),
]


@pytest.mark.parametrize(("optimizer", "kind", "options"), TORCH_OPTIMIZERS, ids=str)
def test_a_hundred_steps_equal_pytorch(backend, torch, optimizer, kind: str, options: dict):
    network = MLP([N_FEATURES, 7, 5, 3], "tanh", dtype="float64")
    X, y = make_data("softmax", 3)
    layers = []
    for weights, biases in zip(network.weights, network.biases, strict=True):
        layer = torch.nn.Linear(*weights.shape, dtype=torch.float64)
        with torch.no_grad():
            layer.weight[:] = torch.tensor(weights.T)
            layer.bias[:] = torch.tensor(biases)
        layers += [layer, torch.nn.Tanh()]
    peer = torch.nn.Sequential(*layers[:-1])
    if optimizer.weight_decay:
        options = {"weight_decay": optimizer.weight_decay} | options
    peer_optimizer = getattr(torch.optim, kind)(
        peer.parameters(), lr=optimizer.learning_rate, **options
    )
    n_epochs = 15  # of 7 batches: 105 steps
    expected_losses = []
    for _ in range(n_epochs):
        for start in range(0, N_SAMPLES, BATCH_SIZE):
            rows = slice(start, start + BATCH_SIZE)
            logits = peer(torch.tensor(X[rows]))
            loss = torch.nn.functional.cross_entropy(logits, torch.tensor(y[rows]))
            peer_optimizer.zero_grad()
            loss.backward()
            peer_optimizer.step()
            expected_losses.append(loss.item())
    expected = [
        part.ravel()
        for layer in peer
        if isinstance(layer, torch.nn.Linear)
        for part in (layer.weight.detach().numpy().T, layer.bias.detach().numpy())
    ]

    parameters, losses = train(backend, network, X, y, optimizer, None, n_epochs)

    np.testing.assert_allclose(losses, expected_losses, rtol=1e-6)
    np.testing.assert_allclose(parameters, np.concatenate(expected), rtol=1e-6, atol=1e-9)


# The figures of the original networks on the real MNIST ----------------------------------------


@pytest.fixture
def mnist(mnist_folder):
    return load_mnist()


@pytest.mark.slow
def test_the_first_original_network_reaches_its_accuracy(backend, mnist):
    (X, y), test = mnist
    trainer = Trainer(
        MLP([784, 128, 64, 10], hidden_activation="relu", output_activation="softmax", seed=0),
        loss="cross_entropy",
        optimizer=SGD(learning_rate=0.01),
        batch_size=64,
        backend=backend,
    )
    trainer.fit(X, y, epochs=10, verbose=False)
    assert trainer.evaluate(*test).accuracy >= 0.945


@pytest.mark.slow
@pytest.mark.parametrize(("learning_rate", "accuracy"), [(0.01, 0.1), (1, 0.93), (3, 0.93)])
def test_the_second_original_network_learns_from_one_hot_labels(
    backend, mnist, learning_rate: float, accuracy: float
):
    """It crashed in the original; 0.01 is the original's rate, 1 to 3 suits it."""
    (X, y), test = mnist
    trainer = Trainer(
        MLP([784, 16, 16, 10], hidden_activation="sigmoid", output_activation="softmax", seed=0),
        loss="mse",
        optimizer=SGD(learning_rate=learning_rate),
        batch_size=32,
        backend=backend,
    )
    history = trainer.fit(X, np.eye(10)[y], epochs=20, verbose=False)
    assert all(after < before for before, after in pairwise(history["loss"]))
    assert trainer.evaluate(*test).accuracy >= accuracy
