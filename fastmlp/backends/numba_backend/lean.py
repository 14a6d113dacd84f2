"""Compiling kernels to instructions that programs link: a fifth of the time that Numba takes.

Numba compiles a function that compiled code calls as if Python called it too: optimizes it,
turns it into machine code, and does both again within each of its callers. A kernel is called by
programs only. So it is lowered to unoptimized LLVM instructions and no further; a program links
those of all kernels that it reaches and optimizes them together, once.

What Numba does for all that it can compile, and anew for every call and variable, is done for
what kernels use, and once.

This is the one module that leans on Numba's insides. Where they are not as it expects, kernels
are compiled as Numba compiles any function; see `registry`.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

from llvmlite.binding import (
    ModuleRef,
    create_pass_builder,
    create_pipeline_tuning_options,
    parse_assembly,
)
from numba.core import utils
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, Flags, compile_extra
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import PassManager
from numba.core.registry import cpu_target
from numba.core.runtime import rtsys
from numba.core.typed_passes import (
    AnnotateTypes,
    IRLegalization,
    NativeLowering,
    NoPythonBackend,
    NopythonTypeInference,
    PreLowerStripPhis,
)
from numba.core.types.functions import BaseFunction
from numba.core.untyped_passes import IRProcessing, ReconstructSSA, TranslateByteCode

from fastmlp.backends.numba_backend.machine import VECTORS


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


class _ProgramLibrary(JITCodeLibrary):
    """The machine code of a program.

    Kernels say themselves what is a vector and how tiles are unrolled. So LLVM's first level of
    optimization, once, gives code as fast as Numba's twice the third, in two thirds of the time.
    """

    def _optimize_final_module(self) -> None:
        if VECTORS.instructions is not None:
            self._final_module: ModuleRef = _limited(self._final_module, VECTORS.instructions)
        options = create_pipeline_tuning_options(speed_level=1)
        options.loop_vectorization = options.slp_vectorization = False
        builder = create_pass_builder(self._codegen._tm, options)
        passes = builder.getModulePassManager()
        passes.add_refprune_pass()
        passes.run(self._final_module, builder)


def _limited(module: ModuleRef, attributes: str) -> ModuleRef:
    """Return a module whose functions have these attributes too."""
    text = re.sub(r"^(define .*)( \{)$", rf"\1 {attributes}\2", str(module), flags=re.MULTILINE)
    limited = parse_assembly(text)
    limited.name = module.name
    return limited


class ProgramCompiler(CompilerBase):
    """As for kernels, but arrays are counted, and their names reused for pointers to them."""

    def define_pipelines(self) -> list[PassManager]:
        state = self.state
        state.library = _ProgramLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()  # as Numba does with the library that it would make
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


@contextlib.contextmanager
def remembering() -> Iterator[None]:
    """Let Numba remember, while it compiles programs, what it otherwise finds out again and again.

    For every call: which of a function's meanings fits; for every variable: its size, from LLVM.
    And before it compiles anything, Numba imports all that it can compile, and all extensions of
    it, which takes half a second; programs use little of that. No other thread compiles meanwhile.
    """
    context = cpu_target.target_context
    find_meaning, find_size = BaseFunction.get_call_type, context.get_abi_sizeof
    meanings: dict[Any, Any] = {}
    sizes: dict[str, int] = {}

    def meaning_of(function: Any, typing_context: Any, args: Any, kws: Any) -> Any:
        key = (function, args, *kws.items())
        if key not in meanings:
            meanings[key] = find_meaning(function, typing_context, args, kws)
        return meanings[key]

    def size_of(kind: Any) -> int:
        name = str(kind)
        if name not in sizes:
            sizes[name] = find_size(kind)
        return sizes[name]

    with (
        global_compiler_lock,
        _replaced(context, "load_additional_registries", _load_registries),
        _replaced(context, "get_abi_sizeof", size_of),
        _replaced(BaseFunction, "get_call_type", meaning_of),
        _replaced(utils, "pysignature", functools.cache(utils.pysignature)),
    ):
        yield


@contextlib.contextmanager
def _replaced(thing: Any, name: str, value: Any) -> Iterator[None]:
    """Give an attribute another value for a while."""
    before = functools.partial(setattr, thing, name, getattr(thing, name))
    undo = before if name in vars(thing) else functools.partial(delattr, thing, name)
    try:
        setattr(thing, name, value)  # within: an interrupt may come right behind
        yield
    finally:
        undo()


def _load_registries() -> None:
    """Import the meanings of what programs consist of: numbers, loops, tuples and arrays."""
    context = cpu_target.target_context
    rtsys.initialize(context)
    from numba.cpython import builtins, iterators, numbers, rangeobj, slicing, tupleobj  # noqa: F401
    from numba.np import arrayobj, npyimpl  # noqa: F401

    # What Numba registers as it goes may be in any registry that it has used before.
    for registry in (npyimpl.registry, *context._registries):
        context.install_registry(registry)
