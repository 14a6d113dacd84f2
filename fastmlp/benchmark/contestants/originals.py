"""Two ways in which networks are written in NumPy first, in float64: columns, and one by one."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from fastmlp.benchmark.contestants.base import (
    Array,
    Contestant,
    Run,
    mean_over_samples,
    one_hot,
    what_is_missing,
)
from fastmlp.benchmark.workloads import Workload
from fastmlp.network import MLP


class _Original(Contestant):
    def _refusal(self, workload: Workload) -> str | None:
        return what_is_missing(
            workload,
            hidden=("relu", "sigmoid"),
            heads=(("softmax", "cross_entropy"), ("softmax", "mse")),
            optimizers=("sgd",),
        )


class Columns(_Original):
    """Samples are columns; a batch goes through whole, layer by layer.

    Examples
    --------
    >>> Columns().name
    'columns'
    """

    name = "columns"

    def prepare(self, workload: Workload, network: MLP, X: Array, y: Array, n_threads: int) -> Run:
        return _ColumnsRun(workload, network, X, y)


class OneByOne(_Original):
    """Every sample goes through alone; a batch sums the gradients of its samples.

    Examples
    --------
    >>> OneByOne().share
    0.05
    """

    name = "one-by-one"
    share = 0.05

    def prepare(self, workload: Workload, network: MLP, X: Array, y: Array, n_threads: int) -> Run:
        return _OneByOneRun(workload, network, X, y)


class _OriginalRun(Run):
    """Weights of shape (n_out, n_in), biases (n_out, 1), samples (n_in, n) in float64."""

    def __init__(self, workload: Workload, network: MLP, X: Array, y: Array) -> None:
        self.start(network)
        self.X = X.astype(np.float64).T
        self.targets = one_hot(y, network.n_outputs, "float64").T.copy()
        self.batch_size = workload.batch_size
        self.learning_rate = workload.optimizer.learning_rate
        self.hidden = workload.hidden_activation
        self.loss = workload.loss

    def start(self, network: MLP) -> None:
        self.weights = [w.T.astype(np.float64) for w in network.weights]
        self.biases = [b.astype(np.float64)[:, None] for b in network.biases]

    def epoch(self, order: Array) -> float:
        batches = [
            order[start : start + self.batch_size]
            for start in range(0, len(order), self.batch_size)
        ]
        losses = [self._step(self.X[:, rows], self.targets[:, rows]) for rows in batches]
        return mean_over_samples(losses, len(order), self.batch_size)

    @abstractmethod
    def _step(self, x: Array, t: Array) -> float:
        """Train on one batch and return its mean loss."""

    def outputs(self, X: Array) -> Array:
        return self._forward(np.atleast_2d(X).T.astype(np.float64))[-1].T

    def _forward(self, x: Array) -> list[Array]:
        """Return the inputs of every layer and the outputs."""
        activations = [x]
        for w, b in zip(self.weights[:-1], self.biases[:-1], strict=True):
            z = w @ activations[-1] + b
            if self.hidden == "relu":
                activations.append(np.maximum(z, 0))
            else:
                activations.append(1 / (1 + np.exp(-z)))
        z = self.weights[-1] @ activations[-1] + self.biases[-1]
        exponentials = np.exp(z - z.max(axis=0))
        return [*activations, exponentials / exponentials.sum(axis=0)]

    def _loss_and_gradients(self, x: Array, t: Array) -> tuple[float, list[Array], list[Array]]:
        """Return sums over samples: the loss, and the gradients of weights and biases."""
        activations = self._forward(x)
        y = activations[-1]
        if self.loss == "cross_entropy":
            loss = -float(np.sum(t * np.log(np.maximum(y, np.finfo(np.float64).tiny))))
            delta = y - t
        else:
            difference = (y - t) / len(y)
            loss = float(np.sum(difference * (y - t)))
            delta = 2 * y * (difference - np.sum(difference * y, axis=0))
        weight_gradients: list[Array] = []
        bias_gradients: list[Array] = []
        for layer in reversed(range(len(self.weights))):
            a = activations[layer]
            weight_gradients.insert(0, delta @ a.T)
            bias_gradients.insert(0, delta.sum(axis=1, keepdims=True))
            if layer:
                slope = (a > 0) if self.hidden == "relu" else a * (1 - a)
                delta = (self.weights[layer].T @ delta) * slope
        return loss, weight_gradients, bias_gradients

    def _update(
        self, weight_gradients: list[Array], bias_gradients: list[Array], n_samples: int
    ) -> None:
        rate = self.learning_rate / n_samples
        for w, b, dw, db in zip(
            self.weights, self.biases, weight_gradients, bias_gradients, strict=True
        ):
            w -= rate * dw
            b -= rate * db


class _ColumnsRun(_OriginalRun):
    def _step(self, x: Array, t: Array) -> float:
        loss, weight_gradients, bias_gradients = self._loss_and_gradients(x, t)
        self._update(weight_gradients, bias_gradients, x.shape[1])
        return loss / x.shape[1]


class _OneByOneRun(_OriginalRun):
    def _step(self, x: Array, t: Array) -> float:
        n_samples, total = x.shape[1], 0.0
        weight_sums = [np.zeros_like(w) for w in self.weights]
        bias_sums = [np.zeros_like(b) for b in self.biases]
        for i in range(n_samples):
            loss, weight_gradients, bias_gradients = self._loss_and_gradients(
                x[:, i : i + 1], t[:, i : i + 1]
            )
            total += loss
            weight_sums = [s + g for s, g in zip(weight_sums, weight_gradients, strict=True)]
            bias_sums = [s + g for s, g in zip(bias_sums, bias_gradients, strict=True)]
        self._update(weight_sums, bias_sums, n_samples)
        return total / n_samples
