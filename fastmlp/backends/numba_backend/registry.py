"""What Numba is told of operations and kernels: how calls are typed, and lowered."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable
from typing import Any, ClassVar

from numba import types
from numba.core.compiler import Compiler
from numba.core.typing import Signature
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import lower_builtin, register_jitable

try:
    from fastmlp.backends.numba_backend import lean
except ImportError:  # a Numba whose insides have changed
    LEAN = False
else:
    LEAN = True

#: How programs are compiled.
ProgramCompiler = lean.ProgramCompiler if LEAN else Compiler
remembering = lean.remembering if LEAN else contextlib.nullcontext

Typer = Callable[..., Signature | None]
Lowering = Callable[..., Any]


def register(function: Callable[..., Any], typer: Typer, lower: Lowering, *formals: Any) -> None:
    """Teach Numba to type and to lower calls of `function`.

    Parameters
    ----------
    function : callable
        What jitted code calls.
    typer : callable
        Takes the types of the arguments and returns a signature; None where they do not fit.
    lower : callable
        Takes a target context, a builder, the signature and the values of the arguments.
    *formals : type
        The Numba types of the arguments that `lower` serves.
    """
    _type(function, typer)
    lower_builtin(function, *formals)(lower)


def _type(function: Callable[..., Any], typer: Typer) -> None:
    class Operation(AbstractTemplate):
        # Numba tries what is registered for the CPU before its own meanings of an operator.
        metadata: ClassVar = {"target": "cpu"}
        key = function

        def generic(self, args: Any, kws: Any) -> Any:
            return None if kws else typer(*args)

    infer_global(function, types.Function(Operation))


def register_kernel(function: Callable[..., Any], inline: bool) -> None:
    """Teach Numba to compile `function` where jitted code calls it."""
    if not LEAN:
        register_jitable(
            forceinline=inline, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True
        )(function)
        return
    compiled: dict[tuple[types.Type, ...], Any] = {}

    def typer(*args: types.Type) -> Signature:
        if args not in compiled:
            compiled[args] = lean.compile_kernel(function, args, inline)
        return compiled[args].signature

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kernel = compiled[signature.args]
        context.add_linking_libs([kernel.library, *kernel.library.callees])
        # Kernels raise nothing: whether they have is not asked.
        _, result = context.call_internal_no_propagate(builder, kernel.fndesc, signature, values)
        return result

    register(function, typer, lower, types.VarArg(types.Any))


# Numba looks for the types of arithmetic among those of arrays first, a dozen times more slowly.
_NUMBERS = (types.int64, types.float32, types.float64)
_ARITHMETIC = {(t, t): Signature(t, (t, t), None) for t in _NUMBERS}
_COMPARISON = {(t, t): Signature(types.boolean, (t, t), None) for t in _NUMBERS}
_TRUTH = {(t,): Signature(types.boolean, (t,), None) for t in (types.boolean, types.int64)}
for _operator in (operator.add, operator.sub, operator.mul):
    _type(_operator, lambda *given: _ARITHMETIC.get(given))
for _operator in (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge):
    _type(_operator, lambda *given: _COMPARISON.get(given))
_type(bool, lambda *given: _TRUTH.get(given))
