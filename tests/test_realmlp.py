"""RealMLP-TD-S of pytabkit is ours, step by step: the same weights, order, losses, parameters.

The numbers are in tests/data/realmlp, with the script that computes them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastmlp import MLP, Adam, RateFactors
from fastmlp.backends import Backend
from fastmlp.losses import CrossEntropy, Loss, MeanSquaredError
from fastmlp.schedules import CosineLog
from fastmlp.targets import prepare_targets

FILE = Path(__file__).parent / "data" / "realmlp" / "td_s.npz"
N_EPOCHS, BATCH_SIZE = 10, 32


class Recorded:
    """What pytabkit went through, its weights in the ordinary form.

    It computes z = x @ weights / sqrt(n_in) + biases. With weights that were divided at the start
    that is z = x @ weights + biases, their rate divided likewise.
    """

    def __init__(self, task: str) -> None:
        with np.load(FILE) as file:
            self.train, self.validation = file["train"], file["validation"]
            self._arrays = {
                name.removeprefix(f"{task}/"): file[name] for name in file if task in name
            }
        self.hidden_sizes = [self["weights1"].shape[1], *self["weights2"].shape[1:]]
        self.n_outputs = self["weights3"].shape[2]

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def parameters(self, epoch: int) -> np.ndarray:
        """Return all after `epoch` epochs, in the layout of `MLP.parameters`."""
        parts = []
        for i in range(4):
            weights = self[f"weights{i}"][epoch]
            parts += [weights.ravel() / np.sqrt(len(weights)), self[f"biases{i}"][epoch]]
        return np.concatenate([*parts, self["scale"][epoch]])


def network_of(recorded: Recorded, activation: str, output: str) -> MLP:
    sizes = [recorded["inputs"].shape[1], *recorded.hidden_sizes, recorded.n_outputs]
    network = MLP(
        sizes,
        hidden_activation=activation,
        output_activation=output,
        dtype="float64",
        scaling_layer=True,
    )
    network.parameters = recorded.parameters(0)
    return network


def replay(
    backend: Backend, recorded: Recorded, network: MLP, loss: Loss, rate: float, targets
) -> tuple[list[np.ndarray], np.ndarray]:
    """Train in the recorded order; return the parameters after every epoch, and the losses."""
    factors = RateFactors(
        weights=tuple(1 / np.sqrt(n_in) for n_in in network.layer_sizes[:-1]), biases=0.1, scale=6.0
    )
    # Both forms are the same as long as epsilon plays no part.
    optimizer = Adam(rate, beta_2=0.95, epsilon=1e-30, rate_factors=factors)
    session = backend.bind(network, loss, optimizer, batch_size=BATCH_SIZE)
    targets = prepare_targets(
        targets, loss, network.output_activation, network.n_outputs, network.dtype
    )
    batches = recorded["batches"].reshape(N_EPOCHS, -1)  # the rest of an epoch's rows are left out
    n_steps = batches.shape[1] // BATCH_SIZE
    parameters, losses = [], []
    for epoch, rows in enumerate(batches):
        steps = np.arange(epoch * n_steps, (epoch + 1) * n_steps)
        rates = rate * CosineLog().factors(steps, epoch, N_EPOCHS)
        losses.append(session.train(recorded["inputs"], targets, rows.astype(np.int64), rates))
        parameters.append(session.store().parameters.copy())
    return parameters, np.concatenate(losses)


def assert_the_same(recorded: Recorded, parameters: list[np.ndarray], losses: np.ndarray) -> None:
    np.testing.assert_allclose(losses, recorded["losses"], rtol=1e-9)
    for epoch, ours in enumerate(parameters, start=1):
        np.testing.assert_allclose(ours, recorded.parameters(epoch), rtol=0, atol=1e-9)


def test_classes_are_learned_as_by_pytabkit(backend: Backend):
    recorded = Recorded("classes")
    network = network_of(recorded, "selu", "softmax")
    loss = CrossEntropy(label_smoothing=0.1)
    parameters, losses = replay(backend, recorded, network, loss, 0.04, recorded["targets"])
    assert_the_same(recorded, parameters, losses)

    errors = []
    for ours in parameters:
        network.parameters = ours
        classes = network.predict(recorded["inputs"][recorded.validation])
        errors.append(np.mean(classes != recorded["targets"][recorded.validation]))
    np.testing.assert_allclose(errors, recorded["validation_error"])
    # Of epochs that are equally good it keeps the last.
    assert recorded["best_epoch"] == N_EPOCHS - np.argmin(errors[::-1])


def test_values_are_learned_as_by_pytabkit(backend: Backend):
    recorded = Recorded("values")
    network = network_of(recorded, "mish", "linear")
    values = recorded["targets"]
    mean, deviation = values[recorded.train].mean(), values[recorded.train].std()
    standardized = (values - mean) / deviation
    parameters, losses = replay(backend, recorded, network, MeanSquaredError(), 0.07, standardized)
    assert_the_same(recorded, parameters, losses)

    errors = []
    for ours in parameters:
        network.parameters = ours
        predicted = network.predict(recorded["inputs"][recorded.validation]).ravel()
        difference = predicted * deviation + mean - values[recorded.validation]
        errors.append(np.sqrt(np.mean(difference**2)))
    np.testing.assert_allclose(errors, recorded["validation_error"], rtol=1e-9)
