"""PyTorch: tensors indexed directly (no DataLoader), fused optimizers; eager and compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmlp.benchmark.contestants.base import (
    Array,
    Contestant,
    Run,
    mean_over_samples,
    one_hot,
)
from fastmlp.benchmark.workloads import Workload
from fastmlp.network import MLP
from fastmlp.optimizers import Adam


class PyTorch(Contestant):
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


class CompiledPyTorch(Contestant):
    """PyTorch with network and loss through `torch.compile`, which needs a C++ compiler.

    Examples
    --------
    >>> CompiledPyTorch().name
    'pytorch-compiled'
    """

    name = "pytorch-compiled"
    packages = ("torch",)

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
        self.torch = torch
        self.model = _model(workload, network)
        self.optimizer = _optimizer(workload, self.model)
        self.batch_size = workload.batch_size
        self.X = torch.from_numpy(X)
        if workload.loss == "mse":
            self.targets = torch.from_numpy(one_hot(y, network.n_outputs, workload.dtype))
            self.loss = self._mse
        else:
            self.targets = torch.from_numpy(np.array(y, dtype=np.int64))
            self.loss = self._cross_entropy

    def _cross_entropy(self, X: Any, targets: Any) -> Any:
        return self.torch.nn.functional.cross_entropy(self.model(X), targets)

    def _mse(self, X: Any, targets: Any) -> Any:
        return self.torch.nn.functional.mse_loss(self.model(X).softmax(dim=1), targets)

    def epoch(self, order: Array) -> float:
        losses = []
        for rows in self.torch.from_numpy(order).split(self.batch_size):
            loss = self.loss(self.X[rows], self.targets[rows])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.detach())
        return mean_over_samples(self.torch.stack(losses), len(order), self.batch_size)

    def outputs(self, X: Array) -> Array:
        with self.torch.inference_mode():
            return self.model(self.torch.from_numpy(np.atleast_2d(X))).softmax(dim=1).numpy()


def _model(workload: Workload, network: MLP) -> Any:
    """Return a module that gives logits, with the network's weights."""
    import torch

    hidden = {"relu": torch.nn.ReLU, "sigmoid": torch.nn.Sigmoid}[workload.hidden_activation]
    modules: list[Any] = []
    for w, b in zip(network.weights, network.biases, strict=True):
        layer = torch.nn.Linear(*w.shape, dtype=getattr(torch, workload.dtype))
        with torch.no_grad():
            layer.weight[:] = torch.from_numpy(w.T.copy())
            layer.bias[:] = torch.from_numpy(b.copy())
        modules += [layer, hidden()]
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
