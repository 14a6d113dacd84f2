"""How Numba is told of the types of a call."""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Callable
from typing import Any, ClassVar

from numba import types
from numba.core.typing import Signature
from numba.core.typing.templates import AbstractTemplate, AttributeTemplate
from numba.extending import models, register_model

from fastmlp.backends.numba_backend.numba_target.later import Typer


def typed_by(function: Callable[..., Any], typer: Typer, target: str) -> types.Function:
    """Return Numba's type of a function whose calls `typer` types.

    Parameters
    ----------
    function : callable
        What jitted code calls.
    typer : callable
        Takes the types of the arguments and returns a signature; None where they do not fit.
    target : str
        For whom. Numba asks a target's own typers before those of "generic", which is all.

    Examples
    --------
    >>> typed_by(abs, lambda kind: None, "generic").typing_key
    <built-in function abs>
    """

    class Operation(AbstractTemplate):
        metadata: ClassVar = {"target": target}
        key = function

        def generic(self, args: Any, kws: Any) -> Any:
            return None if kws else typer(*args)

    return types.Function(Operation)


class ValueType(types.NamedTuple):
    """Numba type of a named tuple.

    Numba looks at a type's hash and writes its name so often that naming all fields took seconds.
    """

    def __init__(self, fields: Any, kind: Any) -> None:
        super().__init__(fields, kind)
        whole = ", ".join(map(str, fields))
        self.name = f"{kind.__name__}_{zlib.crc32(whole.encode()):08x}"
        self._hash = hash(self.key)

    @property
    def mangling_args(self) -> tuple[str, tuple[()]]:
        return self.name, ()

    def __hash__(self) -> int:
        return self._hash


@register_model(ValueType)
class _ValueModel(models.TupleModel):
    pass


def constructed(kind: Any, target: str) -> types.Function:
    """Return Numba's type of a class of named tuples: what is called to make one."""
    parameters = inspect.signature(kind)

    class Construction(AbstractTemplate):
        metadata: ClassVar = {"target": target}
        key = kind

        def generic(self, args: Any, kws: Any) -> Any:
            fields = parameters.bind(*args, **dict(kws)).args
            signature = Signature(ValueType(fields, kind), fields, None)
            signature.pysig = parameters  # by which keywords find their places
            return signature

    return types.Function(Construction)


def lower_construction(context: Any, builder: Any, signature: Any, fields: Any) -> Any:
    """Write the instructions that make a named tuple."""
    return context.make_tuple(builder, signature.return_type, fields)


def fields_of(kind: Any, resolve: Typer) -> type[AttributeTemplate]:
    """Return how Numba is told of the fields of values whose types are of a class.

    Parameters
    ----------
    kind : subclass of numba.types.Type
    resolve : callable
        Takes a type and a name, and returns the field's type, or None.
    """

    class Fields(AttributeTemplate):
        key = kind

        def generic_resolve(self, given: Any, name: str) -> Any:
            return resolve(given, name)

    return Fields
