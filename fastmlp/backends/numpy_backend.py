"""The reference backend: plain NumPy, short and readable, the definition of right."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp._weights import total_weight
from fastmlp.backends.base import Backend, Session, TrainingState
from fastmlp.losses import Loss
from fastmlp.network import MLP, layer_views, scale_view
from fastmlp.optimizers import Optimizer
from fastmlp.regularization import Regularization, dropout_mask, gaussian_noise
from fastmlp.targets import dense_targets, weight_shares

Array = NDArray[Any]


class NumpyBackend(Backend):
    """The pure-NumPy reference.

    It runs on the threads of NumPy's own linear algebra library; `n_threads` is accepted and has
    no effect.

    Examples
    --------
    >>> from fastmlp import MLP
    >>> gradient = np.empty(6, dtype=np.float32)
    >>> session = NumpyBackend().bind(MLP([2, 2]))
    >>> round(session.loss_and_gradient([[0.0, 0.0]], [1], gradient), 4)
    0.6931
    """

    name = "numpy"
    has_parts = True

    def _bind(
        self,
        network: MLP,
        loss: Loss,
        optimizer: Optimizer,
        regularization: Regularization,
        batch_size: int,
        n_threads: int | None,
        seed: int,
    ) -> Session:
        return NumpySession(network, loss, optimizer, regularization, batch_size, seed)


class NumpySession(Session):
    """A session whose parameters are a network's own flat vector.

    Examples
    --------
    >>> session = NumpyBackend().bind(MLP([2, 3]))
    >>> type(session).__name__, session.network.parameters.shape
    ('NumpySession', (9,))
    """

    def __init__(
        self,
        network: MLP,
        loss: Loss,
        optimizer: Optimizer,
        regularization: Regularization,
        batch_size: int,
        seed: int,
    ) -> None:
        super().__init__(network, loss, optimizer, regularization, batch_size, seed)
        self.network = network.copy()
        self.rates = regularization.dropout_rates(network.n_layers)
        initial = TrainingState.initial(network, optimizer, regularization)
        self.moments, self.average = initial.moments, initial.average
        factors = optimizer.rate_factors
        self._part = np.empty(self.n_parameters, dtype=self.dtype)
        #: Every parameter's factor on the learning rate.
        self.rate_factors = None
        if factors is not None:
            given = self.layer_shapes, self.dtype, self.scaling_layer
            self.rate_factors = factors.of_parameters(*given)

    def _load(self, state: TrainingState) -> None:
        self.network.parameters = state.parameters
        self.moments[:] = state.moments
        self.average = None if state.average is None else state.average.copy()

    def _store(self) -> TrainingState:
        return TrainingState(self.network.parameters, self.moments, self.average, self.step).copy()

    def _weight_matrices(self) -> list[Array]:
        return list(self.network.weights)

    def _logits(self, X: Any) -> Array:
        return self.network.forward(X)

    def _loss_and_gradient(
        self,
        X: Any,
        y: Array,
        sample_weight: Array | None,
        gradient: Array,
        logits: Array | None = None,
    ) -> float:
        shares = weight_shares(sample_weight, X.shape[0], np.dtype(np.float64))
        loss = self._mean(X, y, shares, gradient, logits)
        self._add_penalty_gradient(gradient, total_weight(sample_weight, X.shape[0]))
        return loss

    @property
    def part(self) -> Array:
        return self._part

    def _part_gradient(
        self,
        X: Any,
        y: Array,
        sample_weight: Array | None,
        first_row: int,
        total: float,
        logits: Array | None,
    ) -> float:
        weights = np.ones(X.shape[0]) if sample_weight is None else sample_weight
        shares = weights.astype(np.float64) / (total if total > 0 else np.inf)
        return self._mean(X, y, shares, self.part, logits, first_row)

    def _mean(
        self,
        X: Any,
        y: Array,
        shares: Array,
        gradient: Array,
        logits: Array | None,
        first_row: int = 0,
    ) -> float:
        """Write the gradient of the rows' losses times their shares, and return their sum."""
        inputs, slopes, z = self._forward(X, first_row)
        if logits is not None:
            logits[:] = z
        output = self.output_activation
        targets = dense_targets(y, self.n_outputs, self.dtype)
        outputs = output.forward(z, out=np.empty_like(z))
        values = self.loss.value(z, outputs, targets, output)
        delta = self.loss.delta(z, outputs, targets, output)
        shares = shares.astype(self.dtype)
        self._backward(delta * shares[:, None], inputs, slopes, gradient)
        return float(np.dot(values.astype(np.float64), shares.astype(np.float64)))

    def _forward(self, X: Any, first_row: int) -> tuple[list[Array], list[Array], Array]:
        """Return every layer's inputs, every hidden layer's da/dz, and the logits.

        Inputs are as products read them.

        The first layer's inputs are those of the scaling layer, where there is one. `first_row` is
        the number in the batch of the first row of X.
        """
        network, last = self.network, self.network.n_layers - 1
        weights, scale = network.factors()
        a = network.scaled(X)
        if self.regularization.input_noise:
            noise = gaussian_noise(self.seed, self.step, a.shape, self.dtype, first_row)
            a = a + self.dtype.type(self.regularization.input_noise) * noise
        if self.rates[0]:
            a = a * self._mask(0, a.shape, first_row)
        a = network.as_factor(a)
        inputs, slopes = [a], []
        if scale is not None:
            a = a * scale
        for layer in range(last):
            activation = network.hidden_activations[layer]
            z = a @ weights[layer]
            z += network.biases[layer]
            # Where the derivative is had from `a`, the activation overwrites z.
            a = activation.forward(z, out=np.empty_like(z) if activation.needs_input else z)
            slope = activation.derivative(z, a)
            if self.rates[layer + 1]:
                mask = self._mask(layer + 1, a.shape, first_row)
                a, slope = a * mask, slope * mask
            a = network.as_factor(a)
            inputs.append(a)
            slopes.append(slope)
        z = a @ weights[last]
        z += network.biases[last]
        return inputs, slopes, z

    def _backward(
        self, delta: Array, inputs: list[Array], slopes: list[Array], gradient: Array
    ) -> None:
        """Write the gradient, given `delta`, the loss's gradient by the logits."""
        weight_gradients, bias_gradients = layer_views(gradient, self.layer_shapes)
        weights, _ = self.network.factors()
        for layer in reversed(range(self.network.n_layers)):
            delta = self.network.as_factor(delta)
            np.matmul(inputs[layer].T, delta, out=weight_gradients[layer])
            np.sum(delta, axis=0, out=bias_gradients[layer])
            if layer:
                delta = delta @ weights[layer].T
                delta *= slopes[layer - 1]
        scale, scale_gradient = self.network.scale, scale_view(gradient, self.layer_shapes)
        if scale is not None and scale_gradient is not None:
            # So far it is the gradient by the product of both: scale[:, None] * weights.
            by_product = weight_gradients[0]
            np.sum(by_product * self.network.weights[0], axis=1, out=scale_gradient)
            by_product *= scale[:, None]

    def _update(self, gradient: Array, learning_rate: float) -> None:
        regularization, parameters = self.regularization, self.network.parameters
        if regularization.clip_value is not None:
            np.clip(gradient, -regularization.clip_value, regularization.clip_value, out=gradient)
        if regularization.clip_norm is not None:
            _limit_norm(gradient, regularization.clip_norm)
        self.step += 1
        rates = learning_rate if self.rate_factors is None else learning_rate * self.rate_factors
        self.optimizer.update(parameters, gradient, self.moments, rates, self.step)
        if regularization.max_norm is not None:
            _limit_norms(list(self.network.weights), regularization.max_norm)
        if self.average is not None and regularization.ema is not None:
            self.average += (1 - regularization.ema) * (parameters - self.average)

    def _mask(self, layer: int, shape: tuple[int, ...], first_row: int) -> Array:
        given = self.seed, self.step, layer, (shape[0], shape[1]), self.dtype, first_row
        return dropout_mask(self.rates[layer], *given)


def _limit_norm(gradient: Array, limit: float) -> None:
    largest = float(np.max(np.abs(gradient)))
    if not 0 < largest < np.inf:
        return  # nothing to scale, or divergence, which the trainer sees
    # By the largest element, so that no square overflows or vanishes.
    norm = float(np.linalg.norm(gradient.astype(np.float64) / largest))
    if norm > limit / largest:
        gradient *= limit / largest / norm


def _limit_norms(weights: list[Array], limit: float) -> None:
    for w in weights:
        largest = np.max(np.abs(w), axis=0)
        unit = np.where(largest > 0, largest, 1)
        norms = np.sqrt(np.sum(np.square(w / unit), axis=0))
        bounds = (limit / unit).astype(w.dtype)
        w *= np.where(norms > bounds, bounds / np.maximum(norms, 1), 1).astype(w.dtype)
