"""The optimizers' rules, for one array of parameters at a time.

A rule takes the names of the settings that are on, all settings as float64 numbers, the parameters
`p`, their gradient `g`, the moments `m`, the learning rate, and what Adam corrects its moments by.
It returns the new parameters and the new moments. Numbers are combined in float64 and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from typing import Any

import jax.numpy as jnp

from fastmlp import optimizers as kinds

Numbers = Mapping[str, Any]
Rule = Callable[[Set[str], Numbers, Any, Any, Any, Any, Any], tuple[Any, tuple[Any, ...]]]


def times(number: Any, array: Any) -> Any:
    """Return a float64 number, rounded to an array's dtype, times the array.

    Examples
    --------
    >>> times(jnp.float32(0.5), jnp.ones(1, "float32")).dtype
    dtype('float32')
    """
    return number.astype(array.dtype) * array


def _sgd(on: Set[str], n: Numbers, p: Any, g: Any, m: Any, rate: Any, _: Any) -> Any:
    g = _decayed(on, n, p, g)
    if "momentum" in on:
        kept = times(n["momentum"], m[0]) + g
        m, g = (kept,), g + times(n["momentum"], kept) if "nesterov" in on else kept
    return p - times(rate, g), m


def _adam(on: Set[str], n: Numbers, p: Any, g: Any, m: Any, rate: Any, correction: Any) -> Any:
    return _adaptive(n, p, _decayed(on, n, p, g), m, rate, correction, hat=False)


def _adamw(on: Set[str], n: Numbers, p: Any, g: Any, m: Any, rate: Any, correction: Any) -> Any:
    return _adaptive(n, _shrunk(on, n, p, rate), g, m, rate, correction, hat=False)


def _epsilon_hat(on: Set[str], n: Numbers, p: Any, g: Any, m: Any, rate: Any, correct: Any) -> Any:
    return _adaptive(n, _shrunk(on, n, p, rate), g, m, rate, correct, hat=True)


def _adaptive(n: Numbers, p: Any, g: Any, m: Any, rate: Any, correction: Any, *, hat: bool) -> Any:
    first = times(n["beta_1"], m[0]) + times(1 - n["beta_1"], g)
    # A square alone overflows sooner.
    second = times(n["beta_2"], m[1]) + times(1 - n["beta_2"], g) * g
    mean, root = correction[0], jnp.sqrt(correction[1])
    epsilon = n["epsilon"] / root if hat else n["epsilon"]
    below = jnp.sqrt(second) / root.astype(p.dtype) + epsilon.astype(p.dtype)
    return p - times(rate / mean, first / below), (first, second)


def _rmsprop(on: Set[str], n: Numbers, p: Any, g: Any, m: Any, rate: Any, _: Any) -> Any:
    g = _decayed(on, n, p, g)
    square = times(n["smoothing"], m[0]) + times(1 - n["smoothing"], g) * g
    step = g / (jnp.sqrt(square) + n["epsilon"].astype(p.dtype))
    if "momentum" not in on:
        return p - times(rate, step), (square,)
    kept = times(n["momentum"], m[1]) + step
    return p - times(rate, kept), (square, kept)


def _adagrad(on: Set[str], n: Numbers, p: Any, g: Any, m: Any, rate: Any, _: Any) -> Any:
    g = _decayed(on, n, p, g)
    total = m[0] + g * g
    return p - times(rate, g / (jnp.sqrt(total) + n["epsilon"].astype(p.dtype))), (total,)


def _lion(on: Set[str], n: Numbers, p: Any, g: Any, m: Any, rate: Any, _: Any) -> Any:
    direction = jnp.sign(times(n["beta_1"], m[0]) + times(1 - n["beta_1"], g))
    kept = times(n["beta_2"], m[0]) + times(1 - n["beta_2"], g)
    return _shrunk(on, n, p, rate) - times(rate, direction), (kept,)


def _decayed(on: Set[str], n: Numbers, p: Any, g: Any) -> Any:
    """Return the gradient with weight decay in it."""
    return g + times(n["weight_decay"], p) if "weight_decay" in on else g


def _shrunk(on: Set[str], n: Numbers, p: Any, rate: Any) -> Any:
    """Return the parameters under decoupled weight decay."""
    return times(1 - rate * n["weight_decay"], p) if "weight_decay" in on else p


#: By the optimizers' exact types.
RULES: dict[type, Rule] = {
    kinds.SGD: _sgd,
    kinds.Adam: _adam,
    kinds.AdamW: _adamw,
    kinds.EpsilonHatAdam: _epsilon_hat,
    kinds.RMSprop: _rmsprop,
    kinds.Adagrad: _adagrad,
    kinds.Lion: _lion,
}
