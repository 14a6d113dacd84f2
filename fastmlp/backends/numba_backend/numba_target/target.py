"""A target of Numba's that only programs are compiled for.

Numba keeps what it knows in a typing context (which calls have which types) and a target context
(which instructions they become); those of its own target serve all jitted code of a process. So
ours are other ones: they know what Numba knows of numbers, loops, tuples, records and arrays, and
what this package registers, which no other jitted code sees.
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable
from typing import Any

import numba
from numba import types
from numba.core import typing
from numba.core.cpu import CPUContext
from numba.core.dispatcher import Dispatcher
from numba.core.imputils import Registry as Lowerings
from numba.core.imputils import builtin_registry
from numba.core.registry import CPUTarget, cpu_target
from numba.core.runtime import rtsys
from numba.core.target_extension import (
    CPU,
    dispatcher_registry,
    jit_registry,
    target_override,
    target_registry,
)
from numba.core.typing import Signature
from numba.core.typing.templates import Registry as Typings
from numba.core.utils import threadsafe_cached_property

from fastmlp.backends.numba_backend.numba_target.later import Lowering, Typer
from fastmlp.backends.numba_backend.numba_target.templates import (
    constructed,
    fields_of,
    lower_construction,
    typed_by,
)

_NAME = "fastmlp"

_typings = Typings()
_lowerings = Lowerings(_NAME)


class _View(Lowerings):
    """All that a registry holds, and will hold, under another name.

    Numba writes what it finds out for a target into its own registry if the target has that, else
    into the first that the target has.
    """

    def __init__(self, registry: Lowerings) -> None:
        self.__dict__.update(registry.__dict__)


_numbas = _View(builtin_registry)


def register(function: Callable[..., Any], typer: Typer, lower: Lowering, *formals: Any) -> None:
    """Teach our target to type and to lower calls of `function`.

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
    _typings.register_global(function, typed_by(function, typer, _NAME))
    # Numba asks for it at every call.
    lower.__signature__ = inspect.signature(lower)  # type: ignore[attr-defined]
    _lowerings.lower(function, *formals)(lower)


def register_value(kind: Any) -> None:
    """Teach our target to make named tuples of a class."""
    _typings.register_global(kind, constructed(kind, _NAME))
    _lowerings.lower(kind, types.VarArg(types.Any))(lower_construction)


def register_fields(kind: Any, resolve: Typer, load: Lowering, store: Lowering) -> None:
    """Teach our target the fields of values whose types are of a class.

    Parameters
    ----------
    kind : subclass of numba.types.Type
    resolve : callable
        Takes a type and a name, and returns the field's type, or None.
    load, store : callable
        As `numba.extending.lower_getattr_generic` and `lower_setattr_generic` take them.
    """
    _typings.register_attr(fields_of(kind, resolve))
    _lowerings.lower_getattr_generic(kind)(load)
    _lowerings.lower_setattr_generic(kind)(store)


# Numba looks for the types of arithmetic among those of arrays first, a dozen times more slowly.
_NUMBERS = (types.int64, types.float32, types.float64)
_ARITHMETIC = {(t, t): Signature(t, (t, t), None) for t in _NUMBERS}
_COMPARISON = {(t, t): Signature(types.boolean, (t, t), None) for t in _NUMBERS}
_TRUTH = {(t,): Signature(types.boolean, (t,), None) for t in (types.boolean, types.int64)}
for _operators, _known in (
    ((operator.add, operator.sub, operator.mul), _ARITHMETIC),
    ((operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge), _COMPARISON),
    ((bool,), _TRUTH),
):
    for _operator in _operators:
        _typer = functools.partial(lambda known, *given: known.get(given), _known)
        _typings.register_global(_operator, typed_by(_operator, _typer, _NAME))


class _TypingContext(typing.Context):
    """The types of calls, of which it remembers those of one program.

    A program calls the same few functions with the same few types thousands of times.
    """

    def __init__(self) -> None:
        self._meanings: dict[Any, Any] = {}
        super().__init__()

    def load_additional_registries(self) -> None:
        super().load_additional_registries()
        self.install_registry(_typings)

    def resolve_function_type(self, func: Any, args: Any, kws: Any) -> Any:
        key = (func, tuple(args), *dict(kws).items())
        if key not in self._meanings:
            self._meanings[key] = super().resolve_function_type(func, args, kws)
        return self._meanings[key]

    def forget(self) -> None:
        """Forget the types of calls: other code may have changed what Numba keeps beside them."""
        self._meanings.clear()


class _TargetContext(CPUContext):
    """The instructions of calls. Machine code lies where Numba's does and uses the same runtime."""

    def init(self) -> None:
        shared = cpu_target.target_context
        self.is32bit = shared.is32bit
        self._internal_codegen = shared.codegen()
        self._sizes: dict[str, int] = {}

    def install_registry(self, registry: Any) -> None:
        super().install_registry(_numbas if registry is builtin_registry else registry)

    def load_additional_registries(self) -> None:
        self.install_registry(_lowerings)
        # Numba would import all that it can compile and all extensions of it, for half a second.
        rtsys.initialize(cpu_target.target_context)
        from numba.cpython import builtins, iterators, numbers, rangeobj, slicing, tupleobj  # noqa: F401
        from numba.np import arrayobj, npyimpl  # noqa: F401

        self.install_registry(npyimpl.registry)

    def get_abi_sizeof(self, ty: Any) -> int:
        # Asked for every variable, and LLVM takes its time.
        name = str(ty)
        if name not in self._sizes:
            self._sizes[name] = super().get_abi_sizeof(ty)
        return self._sizes[name]


class _Target(CPUTarget):
    @threadsafe_cached_property
    def _toplevel_target_context(self) -> _TargetContext:
        return _TargetContext(self.typing_context, _NAME)

    @threadsafe_cached_property
    def _toplevel_typing_context(self) -> _TypingContext:
        return _TypingContext()


class Programs(Dispatcher):
    """What compiles a function for our target, as the types of its arguments come up."""

    targetdescr = _Target(_NAME)

    def compile(self, sig: Any) -> Any:
        with target_override(_NAME):
            return super().compile(sig)


class _Fastmlp(CPU):
    """The name of our target in the lists of Numba's: a processor, for what Numba has for those."""


target_registry[_NAME] = _Fastmlp
dispatcher_registry[_Fastmlp] = Programs
# What Numba writes as Python for all targets, such as int(x), it compiles for ours with this.
jit_registry[_Fastmlp] = functools.partial(numba.jit, _target=_NAME)
