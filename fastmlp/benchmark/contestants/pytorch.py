"""PyTorch: tensors indexed directly (no DataLoader), fused optimizers; eager and compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmlp.benchmark.contestants.base import (
    Array,
    Differentiating,
    Run,
    mean_over_samples,
    targets,
)
from fastmlp.benchmark.workloads import Workload
from fastmlp.network import MLP
from fastmlp.optimizers import Adam


class PyTorch(Differentiating):
    """PyTorch as it runs without further ado.

    Examples
    --------
    >>> PyTorch().name
    'pytorch'
    """

    name = "pytorch"
    packages = ("torch",)

    def prepare(self, workload: Workload, network: MLP, X: Array, y: Array, n_threads: int) -> Run:
        return _Run(workload, network, X, y, n_threads)


class CompiledPyTorch(PyTorch):
    """PyTorch with network and loss through `torch.compile`, which needs a C++ compiler.

    Examples
    --------
    >>> CompiledPyTorch().name
    'pytorch-compiled'
    """

    name = "pytorch-compiled"

    def prepare(self, workload: Workload, network: MLP, X: Array, y: Array, n_threads: int) -> Run:
        import torch

        run = _Run(workload, network, X, y, n_threads)
        run.loss = torch.compile(run.loss, dynamic=False)
        return run


class _Run(Run):
    def __init__(
        self, workload: Workload, network: MLP, X: Array, y: Array, n_threads: int
    ) -> None:
        import torch

        torch.set_num_threads(n_threads)
        self.torch, self.workload = torch, workload
        self.model = _model(workload, network)
        self.start(network)
        self.X = torch.from_numpy(X)
        self.targets = torch.from_numpy(targets(workload, y))
        self.loss = getattr(self, _LOSSES[workload.output_activation, workload.loss])

    def start(self, network: MLP) -> None:
        layers = [module for module in self.model if hasattr(module, "weight")]
        with self.torch.no_grad():
            for layer, w, b in zip(layers, network.weights, network.biases, strict=True):
                layer.weight[:] = self.torch.from_numpy(w.T.copy())
                layer.bias[:] = self.torch.from_numpy(b.copy())
        self.optimizer = _optimizer(self.workload, self.model)

    def _cross_entropy(self, X: Any, targets: Any) -> Any:
        return self.torch.nn.functional.cross_entropy(self.model(X), targets)

    def _binary_cross_entropy(self, X: Any, targets: Any) -> Any:
        return self.torch.nn.functional.binary_cross_entropy_with_logits(self.model(X), targets)

    def _mse(self, X: Any, targets: Any) -> Any:
        return self.torch.nn.functional.mse_loss(self.model(X).softmax(dim=1), targets)

    def epoch(self, order: Array) -> float:
        losses = []
        for rows in self.torch.from_numpy(order).split(self.workload.batch_size):
            loss = self.loss(self.X[rows], self.targets[rows])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.detach())
        return mean_over_samples(self.torch.stack(losses), len(order), self.workload.batch_size)

    def outputs(self, X: Array) -> Array:
        with self.torch.inference_mode():
            logits = self.model(self.torch.from_numpy(np.atleast_2d(X)))
            if self.workload.output_activation == "sigmoid":
                return logits.sigmoid().numpy()
            return logits.softmax(dim=1).numpy()


_LOSSES = {
    ("softmax", "cross_entropy"): "_cross_entropy",
    ("softmax", "mse"): "_mse",
    ("sigmoid", "cross_entropy"): "_binary_cross_entropy",
}


def _model(workload: Workload, network: MLP) -> Any:
    """Return a module of the network's shape that gives logits."""
    import torch

    hidden = {"relu": torch.nn.ReLU, "sigmoid": torch.nn.Sigmoid, "tanh": torch.nn.Tanh}
    modules: list[Any] = []
    for w in network.weights:
        layer = torch.nn.Linear(*w.shape, dtype=getattr(torch, workload.dtype))
        modules += [layer, hidden[workload.hidden_activation]()]
    return torch.nn.Sequential(*modules[:-1])


def _optimizer(workload: Workload, model: Any) -> Any:
    import torch

    optimizer = workload.optimizer
    if isinstance(optimizer, Adam):
        return torch.optim.Adam(
            model.parameters(),
            lr=optimizer.learning_rate,
            betas=(optimizer.beta_1, optimizer.beta_2),
            eps=optimizer.epsilon,
            fused=True,
        )
    return torch.optim.SGD(model.parameters(), lr=optimizer.learning_rate, fused=True)
