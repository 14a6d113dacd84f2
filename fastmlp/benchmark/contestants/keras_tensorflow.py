"""Keras on TensorFlow: `Model.fit` as its users call it, and a whole epoch as one function."""

from __future__ import annotations

import os
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

#: Steps that `Model.fit` takes between two looks from Python.
_STEPS_AT_ONCE = 50


class Keras(Differentiating):
    """Keras's `Model.fit`, many steps at a time, its rows in an order that is given.

    Examples
    --------
    >>> Keras().name
    'keras'
    """

    name = "keras"
    packages = ("tensorflow", "keras")
    extra = "bench-keras"

    def prepare(self, workload: Workload, network: MLP, X: Array, y: Array, n_threads: int) -> Run:
        return _FitRun(workload, network, X, y, n_threads)


class TensorFlow(Keras):
    """The same model, with an epoch in one `tf.function`: TensorFlow at its best that we know.

    Examples
    --------
    >>> TensorFlow().name
    'tensorflow'
    """

    name = "tensorflow"

    def prepare(self, workload: Workload, network: MLP, X: Array, y: Array, n_threads: int) -> Run:
        return _FunctionRun(workload, network, X, y, n_threads)


class _KerasRun(Run):
    def __init__(
        self, workload: Workload, network: MLP, X: Array, y: Array, n_threads: int
    ) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        os.environ.setdefault("KERAS_BACKEND", "tensorflow")
        import keras
        import tensorflow as tf

        if tf.config.threading.get_intra_op_parallelism_threads() != n_threads:
            tf.config.threading.set_intra_op_parallelism_threads(n_threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        self.tf, self.dtype, self.batch_size = tf, workload.dtype, workload.batch_size
        self.X, self.targets = X, targets(workload, y)
        self.activation = getattr(keras.activations, workload.output_activation)
        self.model = _model(workload)
        self.optimizer, self.loss = _optimizer(workload), _loss(workload)
        self.optimizer.build(self.model.trainable_variables)
        self.fresh = [np.array(variable) for variable in self.optimizer.variables]
        self.start(network)
        self._outputs = tf.function(lambda X: self.activation(self.model(X)))

    def start(self, network: MLP) -> None:
        pairs = zip(network.weights, network.biases, strict=True)
        self.model.set_weights([np.array(part) for pair in pairs for part in pair])
        for variable, value in zip(self.optimizer.variables, self.fresh, strict=True):
            variable.assign(value)

    def outputs(self, X: Array) -> Array:
        return self._outputs(self.tf.constant(np.atleast_2d(X))).numpy()


class _FitRun(_KerasRun):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.model.compile(self.optimizer, self.loss, steps_per_execution=_STEPS_AT_ONCE)

    def epoch(self, order: Array) -> float:
        history = self.model.fit(
            self.X[order],
            self.targets[order],
            batch_size=self.batch_size,
            shuffle=False,
            verbose=0,
        )
        return float(history.history["loss"][0])


class _FunctionRun(_KerasRun):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.X, self.targets = self.tf.constant(self.X), self.tf.constant(self.targets)
        self._epoch = self.tf.function(self._steps)

    def epoch(self, order: Array) -> float:
        losses = self._epoch(self.tf.constant(order))
        return mean_over_samples(losses.numpy(), len(order), self.batch_size)

    def _steps(self, order: Any) -> Any:
        """Train on every batch in turn, the last one as small as it is; return their losses."""
        tf, size = self.tf, self.batch_size
        n_batches = (tf.shape(order)[0] + size - 1) // size
        losses = tf.TensorArray(self.dtype, n_batches)

        def step(i: Any, losses: Any) -> Any:
            rows = order[i * size : (i + 1) * size]
            return i + 1, losses.write(i, self._step(rows))

        _, losses = tf.while_loop(
            lambda i, _: i < n_batches, step, (0, losses), parallel_iterations=1
        )
        return losses.stack()

    def _step(self, rows: Any) -> Any:
        variables = self.model.trainable_variables
        X, targets = self.tf.gather(self.X, rows), self.tf.gather(self.targets, rows)
        with self.tf.GradientTape() as tape:
            loss = self.loss(targets, self.model(X, training=True))
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        return loss


def _model(workload: Workload) -> Any:
    """Return a model of the network's shape that gives logits."""
    import keras

    n_in, *hidden, n_out = workload.layer_sizes
    dtype = workload.dtype
    model = keras.Sequential([keras.Input((n_in,), dtype=dtype)])
    for width in hidden:
        model.add(keras.layers.Dense(width, workload.hidden_activation, dtype=dtype))
    model.add(keras.layers.Dense(n_out, dtype=dtype))
    return model


def _loss(workload: Workload) -> Any:
    """Return the loss of logits."""
    import keras

    losses = keras.losses
    if workload.output_activation == "sigmoid":
        return losses.BinaryCrossentropy(from_logits=True, dtype=workload.dtype)
    if workload.loss == "cross_entropy":
        return losses.SparseCategoricalCrossentropy(from_logits=True, dtype=workload.dtype)

    def squared(t: Any, logits: Any) -> Any:
        return losses.mean_squared_error(t, keras.activations.softmax(logits))

    return lambda t, logits: keras.ops.mean(squared(t, logits))


def _optimizer(workload: Workload) -> Any:
    import keras

    optimizer = workload.optimizer
    if isinstance(optimizer, Adam):
        return keras.optimizers.Adam(
            optimizer.learning_rate, optimizer.beta_1, optimizer.beta_2, optimizer.epsilon
        )
    return keras.optimizers.SGD(optimizer.learning_rate)
