"""Programs as Numba compiles any function: slower to compile, and by its public interface only.

What kernels are made of is then registered where all jitted code of the process finds it. Nobody
else's means anything new: all of it is functions, and operators of vectors, of this package.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numba import types
from numba.core.typing.templates import infer_getattr, infer_global
from numba.extending import (
    lower_builtin,
    lower_getattr_generic,
    lower_setattr_generic,
    register_jitable,
)

from fastmlp.backends.numba_backend.numba_target.later import Lowering, Typer
from fastmlp.backends.numba_backend.numba_target.templates import (
    constructed,
    fields_of,
    lower_construction,
    typed_by,
)


def register(function: Callable[..., Any], typer: Typer, lower: Lowering, *formals: Any) -> None:
    """Teach Numba to type and to lower calls of `function`; see `target.register`."""
    infer_global(function, typed_by(function, typer, "generic"))
    lower_builtin(function, *formals)(lower)


def register_value(kind: Any) -> None:
    """Teach Numba to make named tuples of a class."""
    infer_global(kind, constructed(kind, "generic"))
    lower_builtin(kind, types.VarArg(types.Any))(lower_construction)


def register_fields(kind: Any, resolve: Typer, load: Lowering, store: Lowering) -> None:
    """Teach Numba the fields of values of a class of types; see `target.register_fields`."""
    infer_getattr(fields_of(kind, resolve))
    lower_getattr_generic(kind)(load)
    lower_setattr_generic(kind)(store)


def register_kernel(function: Callable[..., Any], inline: bool) -> None:
    """Teach Numba to compile `function` where jitted code calls it; see `lean.register_kernel`."""
    register_jitable(
        forceinline=inline, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True
    )(function)


def jit(function: Callable[..., Any]) -> Any:
    """Return what compiles a program; as `numba.njit` does."""
    return numba.njit(nogil=True, error_model="numpy", no_cfunc_wrapper=True)(function)
