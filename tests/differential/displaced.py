"""The reference displaced at random, in every place where others may round, by as much as they may.

A product's element is a sum of n terms: roundings move it by about sqrt(n) eps of the sum of its
terms' magnitudes (Higham & Mary 2019, SIAM J. Sci. Comput. 41), which is at most the product of the
two vectors' lengths. Where roundings conspire, as they do where terms are equal, it is n eps.
Everything else is a handful of roundings of one element.

Displacements are of a fixed size, only their signs are random, and runs come in pairs of opposite
signs. So what jumps at a threshold (the kink of a relu, a sign, a clipped value) jumps in one of
the two, and all that follows from it counts as allowed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fastmlp._weights import total_weight
from fastmlp.backends.numpy_backend import NumpySession
from fastmlp.network import layer_views, scale_view
from fastmlp.regularization import gaussian_noise
from fastmlp.targets import dense_targets, weight_shares

Array = np.ndarray[Any, Any]

#: Roundings of one element beside those of sums.
_ROUNDINGS = 16
#: Largest magnitude of a normal number that the hash can make.
_FARTHEST_NOISE = 7
#: Activations made of straight pieces: their slopes are exact.
_STRAIGHT = ("identity", "relu", "leaky_relu", "relu6", "hard_tanh", "hard_sigmoid")


class DisplacedSession(NumpySession):
    """A session of the reference, displaced by a backend's roundings in `eps`."""

    def displace_by(
        self, eps: float, seed: int, sign: int, conspires: bool = False
    ) -> DisplacedSession:
        self.eps, self.sign, self.conspires = eps, sign, conspires
        self.rng = np.random.default_rng(seed)
        return self

    def _signs(self, shape: Any) -> Array:
        return self.sign * (2.0 * self.rng.integers(0, 2, shape, dtype=np.int8) - 1)

    def _moved(self, x: Array, size: Any) -> Array:
        return x + self.eps * self._signs(x.shape) * size

    def _roundings_of_sum(self, n_terms: Any) -> Any:
        return _ROUNDINGS + (n_terms if self.conspires else np.sqrt(n_terms))

    def _product(self, a: Array, b: Array, summand: Any = 0.0) -> Array:
        roundings = self._roundings_of_sum(np.count_nonzero(a, axis=1))[:, None]
        lengths = np.sqrt(np.einsum("ik,ik->i", a, a))
        columns = np.sqrt(np.einsum("kj,kj->j", b, b))
        # Sums may begin with the summand, so that it is part of all that is rounded.
        size = roundings * (lengths[:, None] * columns + np.abs(summand))
        return self._moved(a @ b + summand, size)

    def _logits(self, X: Any) -> Array:
        rates, regularization = self.rates, self.regularization
        self.rates = (0.0,) * len(rates)
        self.regularization = type(regularization)()
        try:
            return self._forward(X, 0)[2]
        finally:
            self.rates, self.regularization = rates, regularization

    def _forward(self, X: Any, first_row: int) -> tuple[list[Array], list[Array], Array]:
        network, last = self.network, self.network.n_layers - 1
        a = network.scaled(X)
        a = self._moved(a, np.abs(a)) if network.input_scale != 1 else a
        if self.regularization.input_noise:
            deviation = self.regularization.input_noise
            a = a + deviation * gaussian_noise(self.seed, self.step, a.shape, self.dtype, first_row)
            a = self._moved(a, _ROUNDINGS * (np.abs(a) + _FARTHEST_NOISE * deviation))
        if self.rates[0]:
            a = a * self._mask(0, a.shape, first_row)
        inputs, slopes = [a], []
        if network.scale is not None:
            a = self._moved(a * network.scale, np.abs(a * network.scale))
        for layer in range(last):
            activation = network.hidden_activations[layer]
            z = self._product(a, network.weights[layer], network.biases[layer])
            a = activation.forward(z, out=np.empty_like(z))
            slope = np.asarray(activation.derivative(z, a), dtype=float)
            # Some are products with z that nearly vanish, and slopes differences of about one.
            a = self._moved(
                a, _ROUNDINGS * np.maximum(np.abs(a), np.abs(z) if activation.needs_input else 0)
            )
            least = 0 if activation.name in _STRAIGHT else 1
            slope = self._moved(slope, _ROUNDINGS / 2 * np.maximum(np.abs(slope), least))
            if self.rates[layer + 1]:
                mask = self._mask(layer + 1, a.shape, first_row)
                a, slope = a * mask, slope * mask
            inputs.append(a)
            slopes.append(slope)
        return inputs, slopes, self._product(a, network.weights[last], network.biases[last])

    def _loss_and_gradient(
        self,
        X: Any,
        y: Array,
        sample_weight: Array | None,
        gradient: Array,
        logits: Array | None = None,
    ) -> float:
        inputs, slopes, z = self._forward(X, 0)
        if logits is not None:
            logits[:] = z
        output = self.output_activation
        targets = dense_targets(y, self.n_outputs, self.dtype)
        outputs = output.forward(z, out=np.empty_like(z))
        roundings = self._roundings_of_sum(self.n_outputs)
        outputs = self._moved(outputs, roundings * np.abs(outputs))
        if output.name == "softmax":  # the sum that all are divided by
            outputs = outputs * self._moved(np.ones((len(z), 1)), roundings)
        values = self.loss.value(z, outputs, targets, output)
        delta = self.loss.delta(z, outputs, targets, output)
        delta = self._moved_delta(outputs, targets, delta)
        total = total_weight(sample_weight, len(z))
        shares = weight_shares(sample_weight, len(z), self.dtype)
        self._backward(delta * shares[:, None], inputs, slopes, gradient)
        self._add_penalty_gradient(gradient, total)
        # A loss is a difference of terms of about these sizes.
        sizes = 1 + np.abs(values) + np.mean(np.abs(targets * z), axis=1)
        roundings += self._roundings_of_sum(len(z))
        return float(self._moved(np.dot(values, shares), roundings * np.dot(sizes, shares)))

    def _moved_delta(self, outputs: Array, targets: Array, delta: Array) -> Array:
        """Displace the gradient by the logits."""
        if self.output_activation.name != "softmax" or self.loss.name == "cross_entropy":
            return self._moved(delta, _ROUNDINGS * np.abs(delta))
        # A difference of each output's slope and the mean of all, which may nearly cancel; the
        # mean's own roundings are common to a row.
        slopes = np.abs(self.loss.gradient(outputs, targets))
        mean = np.sum(slopes * outputs, axis=1, keepdims=True)
        roundings = self._roundings_of_sum(self.n_outputs)
        delta = self._moved(delta, _ROUNDINGS * outputs * (slopes + mean))
        return delta + outputs * self._moved(np.zeros_like(mean), roundings * mean)

    def _backward(
        self, delta: Array, inputs: list[Array], slopes: list[Array], gradient: Array
    ) -> None:
        weight_gradients, bias_gradients = layer_views(gradient, self.layer_shapes)
        for layer in reversed(range(self.network.n_layers)):
            weight_gradients[layer][:] = self._product(inputs[layer].T, delta)
            bias_gradients[layer][:] = self._product(np.ones((1, len(delta))), delta)[0]
            if layer:
                delta = self._product(delta, self.network.weights[layer].T) * slopes[layer - 1]
        scale, scale_gradient = self.network.scale, scale_view(gradient, self.layer_shapes)
        if scale is not None and scale_gradient is not None:
            g, w = weight_gradients[0], self.network.weights[0]
            terms = np.sqrt(np.sum(np.square(g), axis=1) * np.sum(np.square(w), axis=1))
            size = self._roundings_of_sum(w.shape[1]) * terms
            scale_gradient[:] = self._moved(np.sum(g * w, axis=1), size)
            g[:] = self._moved(g * scale[:, None], np.abs(g * scale[:, None]))

    def _update(self, gradient: Array, learning_rate: float) -> None:
        before = self._store()
        kept = self.regularization
        if kept.clip_norm is not None:  # a common factor, off by the norm's own roundings
            roundings = self._roundings_of_sum(len(gradient))
            limit = float(self._moved(np.array(kept.clip_norm), roundings * kept.clip_norm))
            self.regularization = replace(kept, clip_norm=limit)
        try:
            super()._update(gradient, learning_rate)
        finally:
            self.regularization = kept
        parameters = self.network.parameters
        change = np.abs(parameters - before.parameters)
        roundings = 4.0
        if self.regularization.max_norm is not None:  # a factor common to each unit's weights
            roundings += self._roundings_of_sum(max(self.network.layer_sizes))
        larger = np.maximum(np.abs(before.parameters), np.abs(parameters))
        size = roundings * larger + _ROUNDINGS * change
        self.network.parameters = self._moved(parameters, size)
        for now, then in zip(self.moments, before.moments, strict=True):
            now[:] = self._moved(now, _ROUNDINGS * np.maximum(np.abs(now), np.abs(then)))
        if self.average is not None and before.average is not None:
            size = np.maximum(np.abs(self.average), np.abs(before.average)) + change
            self.average[:] = self._moved(self.average, 4 * size)
