"""What leans on Numba's insides: how kernels are typed, lowered, compiled and kept; see README.md.

``FASTMLP_COMPILER`` names how programs are compiled: "lean", the default, for a target of their
own; "numba" as Numba compiles any function. Both give the same numbers. Numba is loaded when the
first program is compiled, and told then of all that `register` and its like were given.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable
from typing import Any

from fastmlp.backends.numba_backend.numba_target.choice import check_name, choose_compiler
from fastmlp.backends.numba_backend.numba_target.later import teach_all, when_compiling
from fastmlp.backends.numba_backend.prebuilt import JIT_DISABLED

_WANTED = check_name(os.environ.get("FASTMLP_COMPILER", "").strip().lower() or None)
_HERE = "fastmlp.backends.numba_backend.numba_target"
#: Where the lean compiler's functions lie that do not lie in `target`.
_LEAN = {"jit": "lean", "register_kernel": "lean"}


@functools.cache
def compiler() -> str:
    """Return how programs of this process are compiled: "lean" or "numba".

    Examples
    --------
    >>> compiler() in ("lean", "numba")
    True
    """
    return choose_compiler(_WANTED)


def _of_compiler(name: str) -> Callable[..., Any]:
    """Return the function of this name by which the chosen compiler is told something."""
    module = "ordinary" if compiler() == "numba" else _LEAN.get(name, "target")
    found: Callable[..., Any] = getattr(importlib.import_module(f"{_HERE}.{module}"), name)
    return found


def register(teaching: Callable[[], tuple[Any, ...]]) -> None:
    """Teach Numba to type and to lower calls of a function, when it compiles.

    Parameters
    ----------
    teaching : callable
        Returns what `target.register` takes; it may ask for Numba's types.
    """
    when_compiling(lambda: _of_compiler("register")(*teaching()))


def register_fields(teaching: Callable[[], tuple[Any, ...]]) -> None:
    """Teach Numba the fields of values of a class of types, when it compiles.

    Parameters
    ----------
    teaching : callable
        Returns what `target.register_fields` takes.
    """
    when_compiling(lambda: _of_compiler("register_fields")(*teaching()))


def register_kernel(function: Callable[..., Any], inline: bool) -> None:
    """Teach Numba to compile `function` where jitted code calls it; see `lean.register_kernel`."""
    when_compiling(lambda: _of_compiler("register_kernel")(function, inline))


def register_value(kind: Any) -> None:
    """Teach Numba to make named tuples of a class."""
    when_compiling(lambda: _of_compiler("register_value")(kind))


def jit(function: Callable[..., Any]) -> Any:
    """Return what compiles a program for the types of its arguments, as `numba.njit` does.

    Parameters
    ----------
    function : callable
        A function of arrays and numbers that calls kernels.

    Returns
    -------
    numba.core.dispatcher.Dispatcher or callable
        `function` itself where ``NUMBA_DISABLE_JIT`` is set.

    Examples
    --------
    >>> jit(lambda a, b: a + b)(2, 3)
    5
    """
    if JIT_DISABLED:
        return function
    teach_all()
    return _of_compiler("jit")(function)


__all__ = [
    "JIT_DISABLED",
    "compiler",
    "jit",
    "register",
    "register_fields",
    "register_kernel",
    "register_value",
]
