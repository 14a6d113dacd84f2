"""Compiling kernels to instructions that programs link: a fifth of the time that Numba takes.

Numba compiles a function that compiled code calls as if Python called it too: optimizes it,
turns it into machine code, and does both again within each of its callers. A kernel is called by
programs only. So it is lowered to unoptimized LLVM instructions and no further; a program links
those of all kernels that it reaches and optimizes them together, once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, ClassVar

from llvmlite.binding import (
    ModuleRef,
    TargetMachine,
    create_pass_builder,
    create_pipeline_tuning_options,
    parse_assembly,
)
from numba import types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, Flags, compile_extra
from numba.core.compiler_machinery import PassManager
from numba.core.lowering import Lower
from numba.core.typed_passes import (
    AnnotateTypes,
    IRLegalization,
    NativeLowering,
    NoPythonBackend,
    NopythonTypeInference,
    PreLowerStripPhis,
)
from numba.core.typing import Signature
from numba.core.untyped_passes import IRProcessing, ReconstructSSA, TranslateByteCode

from fastmlp.backends.numba_backend.machine import VECTORS
from fastmlp.backends.numba_backend.numba_target.target import Programs, register


def register_kernel(function: Callable[..., Any], inline: bool) -> None:
    """Teach our target to compile `function` where jitted code calls it.

    Parameters
    ----------
    function : callable
        A kernel; it raises nothing, and returns numbers, pointers, vectors or tuples of them.
    inline : bool
        Whether every call of it becomes a copy.
    """
    compiled: dict[tuple[types.Type, ...], Any] = {}

    def typer(*args: types.Type) -> Signature:
        if args not in compiled:
            compiled[args] = _compile_kernel(function, args, inline)
        return compiled[args].signature

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kernel = compiled[signature.args]
        context.add_linking_libs([kernel.library, *kernel.library.callees])
        # Kernels raise nothing: whether they have is not asked.
        _, result = context.call_internal_no_propagate(builder, kernel.fndesc, signature, values)
        return result

    register(function, typer, lower, types.VarArg(types.Any))


def jit(function: Callable[..., Any]) -> Any:
    """Return what compiles a program for the types of its arguments, as `numba.njit` does."""
    options = {"nopython": True, "nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
    return Programs(function, targetoptions=options, pipeline_class=_ProgramCompiler)


def _compile_kernel(function: Callable[..., Any], args: tuple[Any, ...], inline: bool) -> Any:
    """Return a kernel lowered for the types of its arguments, as Numba describes a result."""
    flags = Flags()
    flags.error_model = "numpy"
    flags.forceinline = inline
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    target = Programs.targetdescr
    typing_context, context = target.typing_context, target.target_context
    library = _KernelLibrary(context.codegen(), function.__qualname__)
    return compile_extra(
        *(typing_context, context, function, args, None, flags, {}),
        library=library,
        pipeline_class=_KernelCompiler,
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


class _Translation:
    """Bytecode as Numba's own instructions, which no later pass of a kernel changes.

    So once for all types: a third of the kernels are compiled for several.
    """

    _known: ClassVar[dict[Callable[..., Any], Any]] = {}

    def run_pass(self, state: Any) -> bool:
        function = state.func_id.func
        if function not in self._known:
            TranslateByteCode().run_pass(state)
            IRProcessing().run_pass(state)
            self._known[function] = state.func_ir
        state.func_ir = self._known[function]
        return True


class _KernelLower(Lower):
    def setup_function(self, fndesc: Any) -> None:
        super().setup_function(fndesc)
        # LLVM would otherwise copy every kernel into every caller, which takes half a minute to
        # compile and gains nothing.
        if "alwaysinline" not in self.function.attributes:
            self.function.attributes.add("noinline")


class _KernelLowering(NativeLowering):
    lowering_class = _KernelLower


class _Passes(PassManager):
    """Runs passes one after the other, without looking at what each has done."""

    def __init__(self, kinds: tuple[type, ...]) -> None:
        super().__init__("fastmlp")
        self.passes = [(kind, kind.__name__) for kind in kinds]
        self._finalized = True

    def run(self, state: Any) -> None:
        for kind, _ in self.passes:
            kind().run_pass(state)


class _KernelCompiler(CompilerBase):
    """Numba's compiler, less what kernels have no use for.

    They hold no references that must be counted, no closures, and no arrays whose expressions
    could be fused; and a variable keeps its type, so that LLVM's own single assignment is enough.
    """

    def define_pipelines(self) -> list[PassManager]:
        return [_pipeline(_Translation, NopythonTypeInference, lowering=_KernelLowering)]


class _ProgramLibrary(JITCodeLibrary):
    """The machine code of a program.

    Kernels say themselves what is a vector and how tiles are unrolled. So LLVM's first level of
    optimization, once, gives code as fast as Numba's twice the third, in two thirds of the time.
    """

    def _optimize_final_module(self) -> None:
        if VECTORS.instructions is not None:
            self._final_module: ModuleRef = _limited(self._final_module, VECTORS.instructions)
        optimize(self._final_module, self._codegen._tm)


def optimize(module: ModuleRef, machine: TargetMachine) -> None:
    """Optimize a program that all its kernels are linked to, for a machine."""
    options = create_pipeline_tuning_options(speed_level=1)
    options.loop_vectorization = options.slp_vectorization = False
    builder = create_pass_builder(machine, options)
    passes = builder.getModulePassManager()
    passes.add_refprune_pass()
    passes.run(module, builder)


def _limited(module: ModuleRef, attributes: str) -> ModuleRef:
    """Return a module whose functions have these attributes too."""
    text = re.sub(r"^(define .*)( \{)$", rf"\1 {attributes}\2", str(module), flags=re.MULTILINE)
    limited = parse_assembly(text)
    limited.name = module.name
    return limited


class _ProgramCompiler(CompilerBase):
    """As for kernels, but arrays are counted, and their names reused for pointers to them."""

    def __init__(self, typing_context: Any, *rest: Any) -> None:
        typing_context.forget()
        super().__init__(typing_context, *rest)

    def define_pipelines(self) -> list[PassManager]:
        state = self.state
        state.library = _ProgramLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()  # as Numba does with the library that it would make
        return [program_pipeline()]


def program_pipeline() -> PassManager:
    """Return what translates a program, and lowers it."""
    translation = (TranslateByteCode, IRProcessing, ReconstructSSA)
    return _pipeline(*translation, NopythonTypeInference, PreLowerStripPhis, IRLegalization)


def _pipeline(*first: type, lowering: type = NativeLowering) -> PassManager:
    return _Passes((*first, AnnotateTypes, lowering, NoPythonBackend))
