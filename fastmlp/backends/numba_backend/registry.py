"""What Numba is told of operations and kernels, and how it compiles kernels.

Numba compiles a function that compiled code calls as if Python called it too: optimizes it,
turns it into machine code, and does both again within each of its callers. A kernel is called by
programs only. So it is lowered to unoptimized LLVM instructions and no further; a program links
those of all kernels that it reaches and optimizes them together, once.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, ClassVar

from numba import types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, CompileResult, Flags, compile_extra
from numba.core.compiler_machinery import PassManager
from numba.core.registry import cpu_target
from numba.core.typed_passes import (
    AnnotateTypes,
    IRLegalization,
    NativeLowering,
    NoPythonBackend,
    NopythonTypeInference,
    PreLowerStripPhis,
)
from numba.core.typing import Signature
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.core.untyped_passes import IRProcessing, ReconstructSSA, TranslateByteCode
from numba.extending import lower_builtin

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
    compiled: dict[tuple[types.Type, ...], CompileResult] = {}

    def typer(*args: types.Type) -> Signature:
        if args not in compiled:
            compiled[args] = _compile(function, args, inline)
        return compiled[args].signature

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kernel = compiled[signature.args]
        context.add_linking_libs([kernel.library, *kernel.library.callees])
        # Kernels raise nothing: whether they have is not asked.
        _, result = context.call_internal_no_propagate(builder, kernel.fndesc, signature, values)
        return result

    register(function, typer, lower, types.VarArg(types.Any))


def _compile(function: Callable[..., Any], args: tuple[types.Type, ...], inline: bool) -> Any:
    flags = Flags()
    flags.error_model = "numpy"
    flags.forceinline = inline
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    context = cpu_target.target_context
    library = _KernelLibrary(context.codegen(), function.__qualname__)
    return compile_extra(
        cpu_target.typing_context,
        context,
        function,
        args,
        None,
        flags,
        {},
        library,
        _KernelCompiler,
    )


class _KernelLibrary(JITCodeLibrary):
    """The unoptimized instructions of one kernel, for others to link."""

    @property
    def callees(self) -> list[Any]:
        return self._linking_libraries

    def add_linking_library(self, library: Any) -> None:
        if library not in self._linking_libraries:
            super().add_linking_library(library)

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout

    def finalize(self) -> None:
        self._finalized = True


class _Passes(PassManager):
    """Runs passes one after the other, without looking at what each has done."""

    def run(self, state: Any) -> None:
        for kind, _ in self.passes:
            kind().run_pass(state)


class _KernelCompiler(CompilerBase):
    """Numba's compiler, less what kernels have no use for.

    They hold no references that must be counted, no closures, and no arrays whose expressions
    could be fused; and a variable keeps its type, so that LLVM's own single assignment is enough.
    """

    def define_pipelines(self) -> list[PassManager]:
        return [_pipeline(NopythonTypeInference)]


class ProgramCompiler(CompilerBase):
    """As for kernels, but arrays are counted, and their names reused for pointers to them."""

    def define_pipelines(self) -> list[PassManager]:
        return [_pipeline(ReconstructSSA, NopythonTypeInference, PreLowerStripPhis, IRLegalization)]


def _pipeline(*middle: type) -> PassManager:
    passes = _Passes("fastmlp")
    for kind in (
        *(TranslateByteCode, IRProcessing),
        *middle,
        *(AnnotateTypes, NativeLowering, NoPythonBackend),
    ):
        passes.add_pass(kind, kind.__name__)
    passes.finalize()
    return passes


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
