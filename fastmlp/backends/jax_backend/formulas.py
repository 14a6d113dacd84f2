"""Activations and losses in `jax.numpy`, by their definitions; JAX differentiates them.

At kinks the derivative is that of the reference, where JAX's own might be half of two sides: a
`where` whose condition decides has the derivative of the branch that it takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fastmlp import activations as kinds
from fastmlp import losses as loss_kinds
from fastmlp.losses import Loss


def absolute(x: Any) -> Any:
    """Return the absolute value; its derivative at 0 is 0.

    Examples
    --------
    >>> jax.grad(absolute)(0.0).item()
    0.0
    """
    return x * jax.lax.stop_gradient(jnp.sign(x))


def _clipped(z: Any, low: float, high: float) -> Any:
    """Return z within bounds; on them, its derivative is 0."""
    inside = (z > low) & (z < high)
    return jnp.where(inside, z, jax.lax.stop_gradient(jnp.clip(z, low, high)))


def _hard_sigmoid(z: Any) -> Any:
    return _clipped(z * (1 / 6) + 0.5, 0, 1)


def _softplus(z: Any) -> Any:
    return jnp.logaddexp(z, jnp.zeros_like(z))


def _elu(z: Any, scale: float, alpha: float) -> Any:
    below = jnp.where(z > 0, 0, z)  # so that no exponential overflows on the other side
    return jnp.where(z > 0, scale * z, scale * alpha * jnp.expm1(below))


#: Hidden activations by their exact types, as functions of z and the description.
HIDDEN: dict[type, Callable[[Any, Any], Any]] = {
    kinds.Identity: lambda z, _: z,
    kinds.ReLU: lambda z, _: jax.nn.relu(z),
    kinds.Sigmoid: lambda z, _: jax.nn.sigmoid(z),
    kinds.Tanh: lambda z, _: jnp.tanh(z),
    kinds.LeakyReLU: lambda z, kind: jnp.where(z > 0, z, kind.negative_slope * z),
    kinds.ELU: lambda z, kind: _elu(z, 1.0, kind.alpha),
    kinds.SELU: lambda z, kind: _elu(z, kind.scale, kind.alpha),
    kinds.GELU: lambda z, _: 0.5 * z * (1 + jax.lax.erf(z * math.sqrt(0.5))),
    kinds.GELUTanh: lambda z, _: (
        0.5 * z * (1 + jnp.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z * z * z)))
    ),
    kinds.SiLU: lambda z, _: z * jax.nn.sigmoid(z),
    kinds.Mish: lambda z, _: z * jnp.tanh(_softplus(z)),
    kinds.Softplus: lambda z, _: _softplus(z),
    kinds.ReLU6: lambda z, _: _clipped(z, 0, 6),
    kinds.HardTanh: lambda z, _: _clipped(z, -1, 1),
    kinds.HardSigmoid: lambda z, _: _hard_sigmoid(z),
    kinds.HardSwish: lambda z, _: z * _hard_sigmoid(z),
}

#: Output activations by their exact types, as functions of the logits.
OUTPUTS: dict[type, Callable[[Any], Any]] = {
    kinds.Softmax: lambda z: jax.nn.softmax(z, axis=1),
    kinds.SigmoidOutput: jax.nn.sigmoid,
    kinds.Linear: lambda z: z,
    kinds.Exp: jnp.exp,
}


def _cross_entropy(loss: Any, output: type, z: Any, t: Any) -> Any:
    share = loss.label_smoothing
    n_classes = t.shape[1] if output is kinds.Softmax else 2
    t = t * (1 - share) + share / n_classes if share else t
    if output is kinds.Softmax:
        return -jnp.sum(t * jax.nn.log_softmax(z, axis=1), axis=1)
    # A sum of what is not negative: nothing cancels where a row is sure, of either label.
    return jnp.mean(t * _softplus(-z) + (1 - t) * _softplus(z), axis=1)


def _of_errors(cost: Callable[[Any, Any], Any]) -> Callable[[Any, type, Any, Any], Any]:
    """Return a loss that is the mean over a row of costs of its errors, target - output."""
    return lambda loss, output, z, t: jnp.mean(cost(loss, t - OUTPUTS[output](z)), axis=1)


def _huber(loss: Any, e: Any) -> Any:
    far = loss.threshold * (absolute(e) - loss.threshold / 2)
    return jnp.where(jnp.abs(e) <= loss.threshold, e * e / 2, far)


def _quantile(loss: Any, e: Any) -> Any:
    level = jnp.asarray(loss.levels, dtype=e.dtype)
    return jnp.where(e > 0, level, jnp.where(e < 0, level - 1, 0)) * e


#: Losses by their exact types, as functions of the description, the output activation's type, the
#: logits and the targets; of every row.
_LOSSES: dict[type, Callable[[Any, type, Any, Any], Any]] = {
    loss_kinds.CrossEntropy: _cross_entropy,
    loss_kinds.MeanSquaredError: _of_errors(lambda _, e: e * e),
    loss_kinds.SquaredError: _of_errors(lambda _, e: e * e / 2),
    loss_kinds.MeanAbsoluteError: _of_errors(lambda _, e: absolute(e)),
    loss_kinds.Huber: _of_errors(_huber),
    loss_kinds.Quantile: _of_errors(_quantile),
    loss_kinds.Poisson: lambda _loss, _output, z, t: jnp.mean(jnp.exp(z) - t * z, axis=1),
}
LOSSES = frozenset(_LOSSES)


def row_losses(loss: Loss, output: type, logits: Any, targets: Any) -> Any:
    """Return every row's loss, of class numbers or of rows of targets.

    Examples
    --------
    >>> from fastmlp.activations import Linear
    >>> from fastmlp.losses import MeanSquaredError
    >>> row_losses(MeanSquaredError(), Linear, jnp.ones((1, 2)), jnp.zeros((1, 2))).tolist()
    [1.0]
    """
    if targets.ndim == 1:
        targets = jax.nn.one_hot(targets, logits.shape[1], dtype=logits.dtype)
    return _LOSSES[type(loss)](loss, output, logits, targets)
