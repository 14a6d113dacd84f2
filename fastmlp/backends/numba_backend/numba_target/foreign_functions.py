"""Programs as functions for C: machine code for any processor, with nothing of Python or Numba.

A program that takes addresses (`AddressesType`, records, pointers, int64) holds no arrays, so that
nothing is counted, allocated or raised. It is lowered as any other, then called by a function of
C's calling convention, and written as an object by LLVM instead of being loaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, Flags, compile_extra
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import PassManager

from fastmlp.backends.numba_backend.numba_target.later import teach_all
from fastmlp.backends.numba_backend.numba_target.lean import optimize, program_pipeline
from fastmlp.backends.numba_backend.numba_target.target import Programs
from fastmlp.backends.numba_backend.processor import Level

#: What LLVM is told beyond a level's name: vectors of 64 bytes are no slower than narrower ones.
_FEATURES = {"avx512": "-prefer-256-bit"}

#: The processor's hint that a loop is waiting.
_HINT = "llvm.aarch64.hint"


class _LinkedLibrary(JITCodeLibrary):
    """The instructions of a program and of all kernels that it reaches, not yet optimized."""

    @property
    def module(self) -> binding.ModuleRef:
        return self._final_module

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalized = True


class _Compiler(CompilerBase):
    def define_pipelines(self) -> list[PassManager]:
        return [program_pipeline()]


@global_compiler_lock
def compile_object(
    function: Callable[..., Any], arguments: tuple[types.Type, ...], name: str, level: Level
) -> bytes:
    """Return an object file that defines a program as a function for C.

    Parameters
    ----------
    function : callable
    arguments : tuple of types.Type
        Of addresses and int64.
    name : str
        What C calls it.
    level : Level
        What the machine code may use.
    """
    teach_all()
    typing_context = Programs.targetdescr.typing_context
    context = Programs.targetdescr.target_context
    typing_context.forget()
    library = _LinkedLibrary(context.codegen(), name)
    flags = Flags()
    flags.error_model = "numpy"
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    result = compile_extra(
        *(typing_context, context, function, arguments, None, flags, {}),
        library=library,
        pipeline_class=_Compiler,
    )
    library.add_ir_module(_called_from_c(context, result.fndesc, name))
    library.finalize()
    machine = _machine_of(level)
    module = _for_machine(str(library.module), machine, level)
    for defined in (*module.functions, *module.global_variables):
        if not defined.is_declaration and defined.name != name:
            defined.linkage = "internal"
    optimize(module, machine)
    code: bytes = machine.emit_object(module)
    return code


def _called_from_c(context: Any, described: Any, name: str) -> ir.Module:
    """Return the instructions of a function of C's calling convention that calls a program."""
    module = context.create_module(name)
    convention = context.call_conv
    kind = convention.get_function_type(described.restype, described.argtypes)
    program = ir.Function(module, kind, described.llvm_func_name)
    returned = _returned(described.restype)
    arguments = [context.get_value_type(argument) for argument in described.argtypes]
    function = ir.Function(module, ir.FunctionType(returned, arguments), name)
    builder = ir.IRBuilder(function.append_basic_block())
    # Programs raise nothing: whether they have is not asked.
    _, result = convention.call_function(
        builder, program, described.restype, described.argtypes, function.args
    )
    if isinstance(returned, ir.VoidType):
        builder.ret_void()
    elif result.type == returned:
        builder.ret(result)
    else:
        builder.ret(builder.zext(result, returned))
    return module


def _returned(kind: types.Type) -> ir.Type:
    """Return what C gets for a result: nothing, an int for a truth, an int64_t for a number."""
    if kind == types.none:
        return ir.VoidType()
    return ir.IntType(32 if isinstance(kind, types.Boolean) else 64)


def _machine_of(level: Level) -> binding.TargetMachine:
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    triple = binding.get_process_triple()
    if not triple.startswith(level.machine):
        triple = f"{level.machine}-unknown-linux-gnu"
    options = {"features": _FEATURES.get(level.vectors, ""), "opt": 3, "reloc": "pic"}
    cpu = level.name if level.machine == "x86_64" else "generic"
    return binding.Target.from_triple(triple).create_target_machine(cpu=cpu, **options)


def _for_machine(text: str, machine: binding.TargetMachine, level: Level) -> binding.ModuleRef:
    """Return a module as it would have been written on a machine."""
    for what, value in (("triple", machine.triple), ("datalayout", machine.target_data)):
        text = re.sub(f'^target {what} = ".*"$', f'target {what} = "{value}"', text, flags=re.M)
    if level.machine == "aarch64":  # the one instruction that is chosen when kernels are lowered
        text = text.replace("declare void @llvm.x86.sse2.pause()", f"declare void @{_HINT}(i32)")
        text = text.replace("@llvm.x86.sse2.pause()", f"@{_HINT}(i32 1)")
    module = binding.parse_assembly(text)
    module.verify()
    return module
