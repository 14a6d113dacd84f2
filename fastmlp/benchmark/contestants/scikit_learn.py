"""scikit-learn's `MLPClassifier`, an epoch at a time by `partial_fit`."""

from __future__ import annotations

import importlib
from typing import Any, ClassVar

import numpy as np

from fastmlp.benchmark.contestants.base import Array, Contestant, Run, what_is_missing
from fastmlp.benchmark.workloads import Workload
from fastmlp.network import MLP
from fastmlp.optimizers import Adam

_NAMES = {"sigmoid": "logistic"}


class ScikitLearn(Contestant):
    """`MLPClassifier`, which has cross entropy only, and its own shuffling.

    Examples
    --------
    >>> ScikitLearn().name
    'scikit-learn'
    """

    name = "scikit-learn"
    packages = ("sklearn",)
    module: ClassVar[str] = "sklearn.neural_network"

    def _refusal(self, workload: Workload) -> str | None:
        heads = (("softmax", "cross_entropy"), ("sigmoid", "cross_entropy"))
        return what_is_missing(workload, heads=heads)

    def prepare(self, workload: Workload, network: MLP, X: Array, y: Array, n_threads: int) -> Run:
        return _Run(self.module, workload, network, X, y)


class OurEstimator(ScikitLearn):
    """Our `MLPClassifier` in its place: what predictions cost through an estimator.

    Examples
    --------
    >>> OurEstimator().trains
    False
    """

    name = "numba-estimator"
    module = "fastmlp.sklearn"
    trains = False


class _Run(Run):
    def __init__(self, module: str, workload: Workload, network: MLP, X: Array, y: Array) -> None:
        MLPClassifier = importlib.import_module(module).MLPClassifier
        optimizer = workload.optimizer
        options: dict[str, Any]
        if isinstance(optimizer, Adam):
            options = {
                "solver": "adam",
                "beta_1": optimizer.beta_1,
                "beta_2": optimizer.beta_2,
                "epsilon": optimizer.epsilon,
            }
        else:
            options = {"solver": "sgd", "momentum": 0.0}
        self.X, self.y, self.output = X, y, workload.output_activation
        self.model = MLPClassifier(
            hidden_layer_sizes=workload.layer_sizes[1:-1],
            activation=_NAMES.get(workload.hidden_activation, workload.hidden_activation),
            alpha=0.0,
            batch_size=workload.batch_size,
            learning_rate_init=optimizer.learning_rate,
            **options,
        )
        self.start(network)

    def start(self, network: MLP) -> None:
        # The model has its shapes by one batch; then come our weights and a fresh optimizer.
        size, classes = self.model.batch_size, np.arange(max(2, network.n_outputs))
        self.model.partial_fit(self.X[:size], self.y[:size], classes=classes)
        weights, biases = list(network.weights), list(network.biases)
        if network.n_outputs == 2:  # it has one logistic output for two classes
            weights[-1] = np.diff(weights[-1])
            biases[-1] = np.diff(biases[-1])
        for theirs, ours in zip(
            [*self.model.coefs_, *self.model.intercepts_], [*weights, *biases], strict=True
        ):
            theirs[:] = ours
        if hasattr(self.model, "_optimizer"):
            del self.model._optimizer

    def epoch(self, order: Array) -> float:
        self.model.partial_fit(self.X[: len(order)], self.y[: len(order)])
        return float(self.model.loss_)

    def outputs(self, X: Array) -> Array:
        probabilities = self.model.predict_proba(X)
        return probabilities[:, 1:] if self.output == "sigmoid" else probabilities
