"""Compiling kernels to instructions that programs link: a third of the time that Numba takes.

Numba compiles a function that compiled code calls as if Python called it too: optimizes it,
turns it into machine code, and does both again within each of its callers. A kernel is called by
programs only. So it is lowered to unoptimized LLVM instructions and no further; a program links
those of all kernels that it reaches and optimizes them together, once.

This is the one module that leans on Numba's insides. Where they are not as it expects, kernels
are compiled as Numba compiles any function; see `registry`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, Flags, compile_extra
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
from numba.core.untyped_passes import IRProcessing, ReconstructSSA, TranslateByteCode


def compile_kernel(function: Callable[..., Any], args: tuple[Any, ...], inline: bool) -> Any:
    """Return a kernel lowered for the types of its arguments, as Numba describes a result.

    Examples
    --------
    >>> from numba import types
    >>> compile_kernel(lambda x: x + x, (types.float64,), inline=False).signature
    (float64,) -> float64
    """
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
