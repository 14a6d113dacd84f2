"""Optimizers follow the trajectories that PyTorch was recorded with.

``python tests/test_optimizers.py`` records them anew (with PyTorch, into tests/data).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmlp import MLP, SGD, Adagrad, Adam, AdamW, Lion, RMSprop
from fastmlp.backends import Backend
from fastmlp.optimizers import OPTIMIZERS, Optimizer

RECORD = Path(__file__).parent / "data" / "optimizers.json"

#: Our optimizer, and PyTorch's by its name and options.
CASES: dict[str, tuple[Optimizer, str, dict]] = {
    "sgd": (SGD(0.01), "SGD", {"lr": 0.01}),
    "momentum": (SGD(0.01, momentum=0.9), "SGD", {"lr": 0.01, "momentum": 0.9}),
    "nesterov": (
        SGD(0.01, momentum=0.9, nesterov=True, weight_decay=0.1),
        "SGD",
        {"lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    ),
    "adam": (Adam(), "Adam", {}),
    "adam with decay": (Adam(0.01, weight_decay=0.1), "Adam", {"lr": 0.01, "weight_decay": 0.1}),
    "adam with betas": (
        Adam(0.01, beta_1=0.5, beta_2=0.9, epsilon=0.1),
        "Adam",
        {"lr": 0.01, "betas": (0.5, 0.9), "eps": 0.1},
    ),
    "adamw": (AdamW(), "AdamW", {}),
    "rmsprop": (RMSprop(), "RMSprop", {}),
    "rmsprop with momentum": (
        RMSprop(0.001, smoothing=0.9, momentum=0.9, weight_decay=0.1),
        "RMSprop",
        {"lr": 0.001, "alpha": 0.9, "momentum": 0.9, "weight_decay": 0.1},
    ),
    "adagrad": (Adagrad(), "Adagrad", {}),
    "adagrad with decay": (
        Adagrad(0.1, weight_decay=0.1),
        "Adagrad",
        {"lr": 0.1, "weight_decay": 0.1},
    ),
}

START = np.array([1.0, -2.0, 0.5, 3.0, 0.0])
CURVATURE = np.array([0.1, 1.0, 10.0, 0.5, 2.0])
N_STEPS = 100


def gradient_at(parameters, step: int):
    """Return the slope of a bowl whose middle moves, so that momentum and signs matter."""
    return CURVATURE * (parameters - np.sin(0.3 * step + np.arange(5)))


def trajectory(optimizer: Optimizer):
    parameters = START.copy()
    moments = np.zeros((optimizer.n_moments, len(parameters)))
    path = []
    for step in range(1, N_STEPS + 1):
        gradient = gradient_at(parameters, step)
        optimizer.update(parameters, gradient, moments, optimizer.learning_rate, step)
        path.append(parameters.copy())
    return np.array(path)


def torch_trajectory(kind: str, options: dict):
    import torch

    parameters = torch.nn.Parameter(torch.tensor(START))
    optimizer = getattr(torch.optim, kind)([parameters], **options)
    path = []
    for step in range(1, N_STEPS + 1):
        parameters.grad = torch.tensor(gradient_at(parameters.detach().numpy(), step))
        optimizer.step()
        path.append(parameters.detach().numpy().copy())
    return np.array(path)


@pytest.mark.parametrize("name", CASES)
def test_the_path_is_the_recorded_one(name: str):
    recorded = json.loads(RECORD.read_text())[name]
    path = trajectory(CASES[name][0])
    np.testing.assert_allclose(path[[0, 1, 9, 99]], recorded, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_the_path_is_that_of_pytorch(name: str):
    pytest.importorskip("torch")
    optimizer, kind, options = CASES[name]
    np.testing.assert_allclose(
        trajectory(optimizer), torch_trajectory(kind, options), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("weight_decay", [0.0, 0.2])
def test_lion_follows_its_paper(weight_decay: float):
    """Algorithm 2 of arXiv 2302.06675, one number at a time."""
    rate, beta_1, beta_2 = 0.01, 0.8, 0.95
    expected = START.copy()
    momentum = [0.0] * len(expected)
    for step in range(1, N_STEPS + 1):
        gradient = gradient_at(expected, step)
        for i, g in enumerate(gradient):
            direction = np.sign(beta_1 * momentum[i] + (1 - beta_1) * g)
            expected[i] -= rate * (direction + weight_decay * expected[i])
            momentum[i] = beta_2 * momentum[i] + (1 - beta_2) * g
    path = trajectory(Lion(rate, beta_1, beta_2, weight_decay))
    np.testing.assert_allclose(path[-1], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_every_optimizer_goes_down(optimizer: Optimizer):
    parameters = np.array([1.0, -1.0])
    moments = np.zeros((optimizer.n_moments, 2))
    for step in range(1, 51):
        optimizer.update(parameters, 2 * parameters, moments, optimizer.learning_rate, step)
    assert np.all(np.abs(parameters) < 1)


@pytest.mark.parametrize(
    "optimizer", [*OPTIMIZERS.values(), *(case[0] for case in CASES.values())], ids=str
)
@given(seed=st.integers(0, 2**32))
def test_nothing_promotes(optimizer: Optimizer, seed: int):
    rng = np.random.default_rng(seed)
    parameters, gradient = rng.normal(size=(2, 7)).astype(np.float32)
    moments = np.zeros((optimizer.n_moments, 7), np.float32)
    before = parameters.copy()
    optimizer.update(parameters, gradient, moments, 0.1, 1)
    assert parameters.dtype == gradient.dtype == moments.dtype == np.float32
    assert np.all(np.isfinite(parameters))
    assert np.all(parameters != before)


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_gradient_of_zero_moves_nothing(optimizer: Optimizer):
    parameters = np.zeros(3, np.float32)
    moments = np.zeros((optimizer.n_moments, 3), np.float32)
    optimizer.update(parameters, np.zeros(3, np.float32), moments, 0.1, 1)
    np.testing.assert_array_equal(parameters, 0)


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_rate_of_a_step_counts_not_the_optimizers(backend: Backend, optimizer: Optimizer):
    """A schedule changes the rate: the update must take the one it is given."""
    network = MLP([3, 2], dtype="float64")
    gradient = np.linspace(-1, 1, network.n_parameters)
    results = []
    for described in (optimizer, type(optimizer)(learning_rate=0.25)):
        session = backend.bind(network, None, described)
        session.update(gradient.copy(), learning_rate=0.25)
        results.append(session.store().parameters)
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize(
    "optimizer", [*OPTIMIZERS.values(), *(case[0] for case in CASES.values())], ids=str
)
def test_backends_apply_the_same_rule(backend: Backend, optimizer: Optimizer):
    network = MLP([3, 4, 2], dtype="float64")
    session = backend.bind(network, None, optimizer)
    expected = network.parameters.copy()
    moments = np.zeros((optimizer.n_moments, network.n_parameters))
    rng = np.random.default_rng(0)
    for step in range(1, 21):
        gradient = rng.normal(size=network.n_parameters)
        session.update(gradient.copy())
        optimizer.update(expected, gradient, moments, optimizer.learning_rate, step)
    state = session.store()
    assert state.step == 20
    np.testing.assert_allclose(state.parameters, expected, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(state.moments, moments, rtol=1e-10, atol=1e-14)


if __name__ == "__main__":
    recorded = {
        name: torch_trajectory(kind, options)[[0, 1, 9, 99]].tolist()
        for name, (_, kind, options) in CASES.items()
    }
    RECORD.write_text(json.dumps(recorded, indent=1) + "\n")
