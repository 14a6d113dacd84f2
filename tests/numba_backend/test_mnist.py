"""A whole MNIST epoch: the compiled program against the reference."""

import numpy as np
import pytest

from fastmlp import MLP, SGD, Adam
from fastmlp.backends import get_backend
from fastmlp.datasets import load_mnist

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("optimizer", [SGD(0.01), Adam(0.001)], ids=["sgd", "adam"])
def test_an_epoch_of_mnist_ends_where_the_reference_does(mnist_folder, optimizer):
    (X, y), _ = load_mnist()
    X = X.astype(np.float64)
    network = MLP([784, 128, 64, 10], dtype=np.float64)
    order = np.random.default_rng(0).permutation(len(X))
    rates = np.full(-(-len(X) // 64), optimizer.learning_rate)
    ends = []
    for name in ("numpy", "numba"):
        session = get_backend(name).bind(network, optimizer=optimizer, batch_size=64)
        losses = session.train(X, y, order, rates)
        ends.append((losses, session.store().parameters))
    (losses, parameters), (compiled_losses, compiled_parameters) = ends
    # Rounding grows along the epoch: plain descent stays at 1e-15, Adam's normalized steps at 1e-9.
    distance = np.linalg.norm(compiled_parameters - parameters) / np.linalg.norm(parameters)
    assert distance < 1e-8
    np.testing.assert_allclose(compiled_losses, losses, rtol=1e-8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_epoch_of_mnist_has_equal_bits_with_1_to_4_threads(mnist_folder, dtype):
    (X, y), _ = load_mnist()
    X, y = X[:12_800].astype(dtype), y[:12_800]
    network = MLP([784, 128, 64, 10], dtype=dtype)
    order = np.random.default_rng(0).permutation(len(X))
    ends = set()
    for n_threads in (1, 2, 3, 4):
        session = get_backend("numba").bind(network, batch_size=64, n_threads=n_threads)
        losses = session.train(X, y, order, np.full(200, 0.01))
        ends.add((losses.tobytes(), session.store().parameters.tobytes()))
    assert len(ends) == 1
