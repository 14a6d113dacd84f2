"""The programs that JAX compiles: training, a gradient, an update, logits.

All are traced and run within `in_float64`, for their losses, norms and constants are float64;
what is the network's stays in its dtype. Parameters are tuples of vectors, weights and biases in
turn, and then the scaling layer's factors: on processors, XLA has vector instructions for loops
over vectors, but none for those over matrices with few columns.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from fastmlp.backends.jax_backend.description import Description
from fastmlp.backends.jax_backend.devices import divided, everywhere
from fastmlp.backends.jax_backend.formulas import HIDDEN, absolute, row_losses
from fastmlp.backends.jax_backend.rules import RULES, Numbers, times
from fastmlp.regularization import NOISE_ANGLE_STREAM, NOISE_RADIUS_STREAM


class State(NamedTuple):
    """What training changes, on the device.

    Parameters
    ----------
    parameters : tuple of vector
    moments : tuple of tuple of vector
        Of every part of the parameters, the optimizer's.
    average : tuple of vector or None
    """

    parameters: Any
    moments: Any
    average: Any


class Batch(NamedTuple):
    """What a step is given, beside the samples; for several steps, with an axis before all others.

    Parameters
    ----------
    rows : array of int32, of shape (batch_size,)
        Where the batch's samples lie; places that are left over repeat one of them.
    shares : array of shape (batch_size,)
        Every sample's share of the mean, in the network's dtype; 0 in places left over.
    rate, l2 : float64
    correction : array of float64, of shape (2,)
        What Adam divides its moments by.
    keys : array of uint32, of shape (n_streams,)
        Of the step's random numbers.
    """

    rows: Any
    shares: Any
    rate: Any
    l2: Any
    correction: Any
    keys: Any


class Programs:
    """The compiled programs of a description.

    Every device has the samples and the state whole, and computes its part of a batch's rows; the
    gradient is summed over all. So the number of rows is a multiple of the number of devices.

    `train(state, X, y, batches, n_batches, numbers, with_logits, with_penalties)` takes steps by
    the first of some batches, or of None by all of them. It returns the new state and, of every
    batch, the loss, and the logits and the penalties if they are wanted, else None.
    `gradient(parameters, X, y, batch, numbers)` returns the loss of a batch, its gradient and its
    logits, `update(state, gradient, batch, numbers)` the new state alone, and `logits(parameters,
    X)` logits. The states given are consumed; those returned are plain tuples, the first of what is
    returned.

    Parameters
    ----------
    description : Description
    devices : tuple of jax.Device
    """

    def __init__(self, description: Description, devices: tuple[Any, ...]) -> None:
        self._of, self._devices = description, devices
        self.train = jax.jit(self._train, donate_argnums=0, static_argnums=(6, 7))
        self.gradient = jax.jit(self._gradient)
        self.update = jax.jit(lambda *given: (tuple(self._update(*given)),), donate_argnums=0)
        self.logits = jax.jit(
            lambda parameters, X: self._forward(parameters, self._inputs(self._divided(X)))
        )

    # Training ----------------------------------------------------------------------------------

    def _train(
        self,
        state: State,
        X: Any,
        y: Any,
        batches: Batch,
        n_batches: Any,
        numbers: Numbers,
        with_logits: bool,
        with_penalties: bool,
    ) -> tuple[tuple[Any, ...], tuple[Any, Any, Any]]:
        n_places, batch_size = batches.rows.shape
        width, dtype = self._of.layer_shapes[-1][1], self._of.dtype
        # Of every batch: the losses of its rows, and what is wanted of its logits and penalties.
        seen = (
            self._divided(jnp.zeros((n_places, batch_size), dtype), axis=1),
            self._divided(jnp.zeros((n_places, batch_size, width), dtype), axis=1)
            if with_logits
            else None,
            jnp.zeros(n_places, jnp.float64) if with_penalties else None,
        )

        def step(number: Any, carried: tuple[State, Any]) -> tuple[State, Any]:
            state, seen = carried
            batch = Batch(*(jax.lax.dynamic_index_in_dim(a, number, 0, False) for a in batches))
            gradient, (losses, logits) = self._slopes(state.parameters, X, y, batch, numbers)
            now = (
                losses,
                logits if with_logits else None,
                self._penalty(state.parameters, batch, numbers) if with_penalties else None,
            )
            seen = jax.tree.map(
                lambda whole, one: jax.lax.dynamic_update_index_in_dim(whole, one, number, 0),
                seen,
                now,
            )
            return self._update(state, gradient, batch, numbers), seen

        # Of a fixed number of steps, no device has to ask after each whether it was the last. An
        # unsigned number is never taken from the end of an array, which costs a step its test.
        n_steps = np.uint32(n_places) if n_batches is None else n_batches
        state, (losses, *others) = jax.lax.fori_loop(np.uint32(0), n_steps, step, (state, seen))
        return tuple(state), (_means(losses, batches.shares), *others)

    def _gradient(
        self, parameters: Any, X: Any, y: Any, batch: Batch, numbers: Numbers
    ) -> tuple[Any, Any, Any]:
        gradient, (losses, logits) = self._slopes(parameters, X, y, batch, numbers)
        return _means(losses, batch.shares), gradient, logits

    def _slopes(
        self, parameters: Any, X: Any, y: Any, batch: Batch, numbers: Numbers
    ) -> tuple[Any, tuple[Any, ...]]:
        """Return the gradient of a batch, the losses of its rows, and its logits."""
        rows = self._divided(batch.rows)
        inputs = self._inputs(X.at[rows].get(mode="promise_in_bounds"))
        targets = y.at[rows].get(mode="promise_in_bounds")

        def objective(parameters: Any) -> Any:
            logits = self._forward(parameters, inputs, batch.keys, numbers)
            losses = row_losses(self._of.loss, self._of.output, logits, targets)
            whole = jnp.sum(losses * batch.shares)
            for w in self._weights(parameters):
                if "l1" in self._of.settings:
                    whole += times(numbers["l1"], jnp.sum(absolute(w)))
                if "l2" in self._of.settings:
                    whole += times(batch.l2 / 2, jnp.sum(w * w))
            return whole, (losses, logits)

        gradient, seen = jax.grad(objective, has_aux=True)(parameters)
        return tuple(self._placed(g, everywhere) for g in gradient), seen

    def _penalty(self, parameters: Any, batch: Batch, numbers: Numbers) -> Any:
        weights = [w.astype(jnp.float64) for w in self._weights(parameters)]
        of_sizes = sum(jnp.sum(jnp.abs(w)) for w in weights)
        of_squares = sum(jnp.sum(w * w) for w in weights)
        return numbers["l1"] * of_sizes + batch.l2 / 2 * of_squares

    def _weights(self, parameters: Any) -> list[Any]:
        return list(parameters[: 2 * self._of.n_layers : 2])

    # Several devices ---------------------------------------------------------------------------

    def _divided(self, a: Any, axis: int = 0) -> Any:
        """Return an array of rows, of which every device is to have its part."""
        return self._placed(a, functools.partial(divided, axis=axis))

    def _placed(self, a: Any, where: Callable[[tuple[Any, ...]], Sharding]) -> Any:
        if len(self._devices) == 1:
            return a
        return jax.lax.with_sharding_constraint(a, where(self._devices))

    # The network -------------------------------------------------------------------------------

    def _inputs(self, X: Any) -> Any:
        inputs = X.astype(self._of.dtype)
        return inputs if self._of.input_scale == 1.0 else inputs * self._of.input_scale

    def _forward(self, parameters: Any, a: Any, keys: Any = None, numbers: Any = None) -> Any:
        """Return the logits; with keys, those of a step, with its noise and its dropout."""
        if keys is not None:
            a = self._dropped(self._noisy(a, keys, numbers), 0, keys, numbers)
        if self._of.scaling_layer:
            a = a * parameters[-1]
        for layer in range(self._of.n_layers):
            w, b = parameters[2 * layer : 2 * layer + 2]
            w = w.reshape(self._of.layer_shapes[layer])
            a = jnp.matmul(a, w, precision="highest") + b
            if layer < self._of.n_layers - 1:
                activation = self._of.hidden_activations[layer]
                a = HIDDEN[type(activation)](a, activation)
                if keys is not None:
                    a = self._dropped(a, layer + 1, keys, numbers)
        return a

    def _dropped(self, a: Any, layer: int, keys: Any, numbers: Numbers) -> Any:
        if not self._of.dropped[layer]:
            return a
        rate = numbers["dropout"][layer]
        kept = self._bits(layer, keys, a.shape) >= (rate * 2.0**32).astype(jnp.uint32)
        return a * jnp.where(kept, (1 / (1 - rate)).astype(a.dtype), 0)

    def _noisy(self, a: Any, keys: Any, numbers: Numbers) -> Any:
        """Return inputs with the noise of `fastmlp.regularization.gaussian_noise`."""
        if "input_noise" not in self._of.settings:
            return a
        radius, angle = (
            self._bits(stream, keys, a.shape).astype(jnp.float64) / 2.0**32
            for stream in (NOISE_RADIUS_STREAM, NOISE_ANGLE_STREAM)
        )
        radius += 0.5 / 2.0**32  # so that the logarithm never sees zero
        noise = jnp.sqrt(-2 * jnp.log(radius)) * jnp.cos(2 * jnp.pi * angle)
        return a + times(numbers["input_noise"], noise.astype(a.dtype))

    def _bits(self, stream: int, keys: Any, shape: tuple[int, ...]) -> Any:
        """Return the bits of `fastmlp.regularization.random_bits`."""
        index = jnp.arange(shape[0] * shape[1], dtype=jnp.uint32)
        value = index * jnp.uint32(0x9E3779B9) + keys[self._of.streams.index(stream)]
        value = (value ^ (value >> 16)) * jnp.uint32(0x7FEB352D)
        value = (value ^ (value >> 15)) * jnp.uint32(0x846CA68B)
        return (value ^ (value >> 16)).reshape(shape)

    # Updates -----------------------------------------------------------------------------------

    def _update(self, state: State, gradient: Any, batch: Batch, numbers: Numbers) -> State:
        on = self._of.settings
        if "clip_value" in on:
            gradient = tuple(_clamped(g, numbers["clip_value"]) for g in gradient)
        if "clip_norm" in on:
            gradient = _shortened(gradient, numbers["clip_norm"])
        rule, parts = RULES[self._of.optimizer], []
        for part, (p, g, m) in enumerate(
            zip(state.parameters, gradient, state.moments, strict=True)
        ):
            factor = numbers["rate_factors"][part] if "rate_factors" in on else 1.0
            parts.append(rule(on, numbers, p, g, m, batch.rate * factor, batch.correction))
        parameters, moments = (tuple(one) for one in zip(*parts, strict=True))
        if "max_norm" in on:
            shapes = dict(
                zip(range(0, 2 * self._of.n_layers, 2), self._of.layer_shapes, strict=True)
            )
            parameters = tuple(
                _shortened_columns(p, shapes[part], numbers["max_norm"]) if part in shapes else p
                for part, p in enumerate(parameters)
            )
        average = state.average
        if average is not None:
            average = tuple(
                a + times(1 - numbers["ema"], p - a)
                for a, p in zip(average, parameters, strict=True)
            )
        return State(parameters, moments, average)


@functools.lru_cache(maxsize=256)
def programs_of(description: Description, devices: tuple[Any, ...]) -> Programs:
    """Return the programs of a description on some devices, which sessions share.

    Examples
    --------
    >>> from fastmlp import MLP, SGD, Regularization
    >>> from fastmlp.backends.jax_backend.devices import find_devices
    >>> from fastmlp.losses import CrossEntropy
    >>> described = Description.of(MLP([2, 3]), CrossEntropy(), SGD(), Regularization())
    >>> devices = find_devices("cpu")
    >>> programs_of(described, devices) is programs_of(described, devices)
    True
    """
    return Programs(description, devices)


def _means(losses: Any, shares: Any) -> Any:
    """Return the losses of batches, in float64, by those of their rows and the rows' shares."""
    return jnp.sum(losses.astype(jnp.float64) * shares.astype(jnp.float64), axis=-1)


def _clamped(gradient: Any, limit: Any) -> Any:
    limit = limit.astype(gradient.dtype)
    return jnp.clip(gradient, -limit, limit)


def _shortened(gradient: Any, limit: Any) -> Any:
    """Return a gradient whose whole Euclidean norm is at most `limit`."""
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(g)) for g in gradient])).astype(jnp.float64)
    usual = (largest > 0) & (largest < jnp.inf)  # else nothing to scale, or divergence
    unit = jnp.where(usual, largest, 1.0)  # so that no square overflows or vanishes
    norm = jnp.sqrt(sum(jnp.sum(jnp.square(g.astype(jnp.float64) / unit)) for g in gradient))
    factor = jnp.where(usual & (norm > limit / unit), limit / unit / norm, 1.0)
    return tuple(times(factor, g) for g in gradient)


def _shortened_columns(flat: Any, shape: tuple[int, int], limit: Any) -> Any:
    """Return weights, each of whose columns has at most this Euclidean norm."""
    w = flat.reshape(shape)
    largest = jnp.max(jnp.abs(w), axis=0)
    unit = jnp.where(largest > 0, largest, 1)
    norms = jnp.sqrt(jnp.sum(jnp.square(w / unit), axis=0))
    bounds = limit.astype(w.dtype) / unit
    return (w * jnp.where(norms > bounds, bounds / jnp.maximum(norms, 1), 1)).reshape(-1)
