"""PyTorch from C++: the network, its losses and whole epochs in C++, compiled here on first use."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
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


class CppPyTorch(Differentiating):
    """PyTorch without Python, which needs a C++ compiler; fused optimizers.

    Examples
    --------
    >>> CppPyTorch().name
    'pytorch-cpp'
    """

    name = "pytorch-cpp"
    packages = ("torch", "ninja")
    extra = "bench-cpp"

    def prepare(self, workload: Workload, network: MLP, X: Array, y: Array, n_threads: int) -> Run:
        return _Run(workload, network, X, y, n_threads)


class _Run(Run):
    def __init__(
        self, workload: Workload, network: MLP, X: Array, y: Array, n_threads: int
    ) -> None:
        import torch

        torch.set_num_threads(n_threads)
        self.torch, self.batch_size = torch, workload.batch_size
        optimizer = workload.optimizer
        rates = (0.0, 0.0, 0.0)
        if isinstance(optimizer, Adam):
            rates = (optimizer.beta_1, optimizer.beta_2, optimizer.epsilon)
        self.run = _module().Run(
            torch.from_numpy(X),
            torch.from_numpy(targets(workload, y)),
            workload.hidden_activation,
            workload.output_activation,
            workload.loss,
            workload.batch_size,
            isinstance(optimizer, Adam),
            optimizer.learning_rate,
            *rates,
        )
        self.start(network)

    def start(self, network: MLP) -> None:
        self.run.start(
            [self.torch.from_numpy(w.T.copy()) for w in network.weights],
            [self.torch.from_numpy(b.copy()) for b in network.biases],
        )

    def epoch(self, order: Array) -> float:
        losses = self.run.epoch(self.torch.from_numpy(order))
        return mean_over_samples(losses, len(order), self.batch_size)

    def outputs(self, X: Array) -> Array:
        return self.run.outputs(self.torch.from_numpy(np.atleast_2d(X))).numpy()


@functools.cache
def _module() -> Any:
    """Return the compiled module; PyTorch keeps it for the next process."""
    from torch.utils import cpp_extension

    # Where `ninja` lies when it came with this Python.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    source = Path(__file__).with_name("pytorch.cpp")
    return cpp_extension.load("fastmlp_pytorch_cpp", [str(source)], extra_cflags=["-O2"])
