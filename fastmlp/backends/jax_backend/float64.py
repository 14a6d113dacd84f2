"""JAX's float64, for our calls alone."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax

P = ParamSpec("P")
T = TypeVar("T")


def in_float64(function: Callable[P, T]) -> Callable[P, T]:
    """Return a function that runs with float64 switched on, in its own thread alone.

    Examples
    --------
    >>> in_float64(lambda: jax.numpy.ones(2).dtype)(), jax.numpy.ones(2).dtype
    (dtype('float64'), dtype('float32'))
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        # An interrupt may strike within the inner switch, which then stays on. The outer one knows
        # what was before, and puts it back.
        with jax.enable_x64(jax.config.jax_enable_x64), jax.enable_x64(True):
            return function(*args, **kwargs)

    return wrapped
