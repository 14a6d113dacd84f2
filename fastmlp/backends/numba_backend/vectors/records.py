"""Records, for what lies in memory, and named tuples, for what travels, as Numba values.

A record is a pointer to fields of fixed places; in plain Python it is a row of a record array.
A named tuple of pointers, records and numbers passes to a kernel as one argument, and costs what
its fields would cost.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, TypeVar, get_type_hints

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing import Signature
from numba.extending import models, register_model

from fastmlp.backends.numba_backend.numba_target import (
    register,
    register_fields,
    register_value,
)
from fastmlp.backends.numba_backend.numba_target.templates import ValueType
from fastmlp.backends.numba_backend.vectors.pointers import lowers

Records = Annotated[Any, "records"]  # a pointer to records of one kind

T = TypeVar("T", bound=type)


#: All kinds of records, by the names of their fields.
_KINDS: dict[Any, type[Record]] = {}


class Record:
    """A description of records: a subclass's annotations, int or float, are the fields.

    Examples
    --------
    >>> class Point(Record):
    ...     x: float
    ...     number: int
    >>> points = Point.array(2)
    >>> points[1].number = 3
    >>> points.number
    array([0, 3])
    """

    dtype: ClassVar[np.dtype[Any]]

    def __init_subclass__(cls) -> None:
        kinds = {int: np.int64, float: np.float64}
        hints = get_type_hints(cls).items()
        cls.dtype = np.dtype([(name, kinds[k]) for name, k in hints if k in kinds], align=True)
        taken = [name for name in cls.dtype.fields or () if hasattr(np.record, name)]
        if taken:
            raise TypeError(f"NumPy's records have other attributes of these names: {taken}")
        _KINDS[cls.dtype.names] = cls

    @classmethod
    def array(cls, n: int) -> Any:
        """Return `n` records of zeros."""
        return np.zeros(n, dtype=cls.dtype).view(np.recarray)


class RecordType(types.Type):
    """Numba type of a record, and of a pointer to records of its kind: of the first of them."""

    def __init__(self, kind: type[Record]) -> None:
        self.dtype = kind.dtype
        super().__init__(name=f"record({kind.__name__})")


@register_model(RecordType)
class _RecordModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: RecordType) -> None:
        super().__init__(dmm, fe_type, ir.IntType(8).as_pointer())


def _type_of_field(kind: RecordType, name: str) -> types.Type | None:
    fields: Any = kind.dtype.fields
    return numba.from_dtype(fields[name][0]) if name in fields else None


def _place(builder: Any, kind: RecordType, p: Any, name: str) -> Any:
    element, offset = kind.dtype.fields[name][:2]  # type: ignore[index]
    llvm = ir.DoubleType() if element.kind == "f" else ir.IntType(64)
    place = builder.gep(p, [ir.Constant(ir.IntType(64), offset)], inbounds=True)
    return builder.bitcast(place, llvm.as_pointer())


def _load_field(context: Any, builder: Any, kind: Any, p: Any, name: str) -> Any:
    return builder.load(_place(builder, kind, p, name))


def _store_field(context: Any, builder: Any, signature: Any, values: Any, name: str) -> None:
    builder.store(values[1], _place(builder, signature.args[0], values[0], name))


register_fields(RecordType, _type_of_field, _load_field, _store_field)


def record(p: Any, i: int) -> Any:
    """Return record `i` of a pointer to records, or of an array.

    Examples
    --------
    >>> class Point(Record):
    ...     x: float
    >>> record(Point.array(2), 1).x
    np.float64(0.0)
    """
    return p[i]


def records_from(p: Any, i: int) -> Any:
    """Return the pointer to record `i`, of an array or a pointer, and those behind it.

    Examples
    --------
    >>> class Point(Record):
    ...     x: float
    >>> len(records_from(Point.array(5), 2))
    3
    """
    return p[i:]


def _pointed(kind: types.Type) -> types.Type:
    """Return the type of a pointer to the elements of an array; other types are left."""
    if not isinstance(kind, types.Array):
        return kind
    if isinstance(kind.dtype, types.Record):
        return RecordType(_KINDS[tuple(kind.dtype.fields)])
    return types.CPointer(kind.dtype)


def _pointer(context: Any, builder: Any, kind: types.Type, p: Any) -> Any:
    """Return the pointer to the elements of an array; other values are left."""
    if not isinstance(kind, types.Array):
        return p
    data = context.make_array(kind)(context, builder, value=p).data
    return builder.bitcast(data, context.get_value_type(_pointed(kind)))


@lowers(record, lambda p, i: _pointed(p))
@lowers(records_from, lambda p, i: _pointed(p))
def _(context: Any, builder: Any, signature: Any, p: Any, i: Any) -> Any:
    size = ir.Constant(ir.IntType(64), signature.return_type.dtype.itemsize)
    first = _pointer(context, builder, signature.args[0], p)
    return builder.gep(first, [builder.mul(i, size)], inbounds=True)


def nothing_like(p: Any) -> Any:
    """Return a pointer like another, to nothing, which may be passed on but not followed."""
    return None


@lowers(nothing_like, lambda p: p)
def _(context: Any, builder: Any, signature: Any, p: Any) -> Any:
    return cgutils.get_null_value(context.get_value_type(signature.return_type))


def value(kind: T) -> T:
    """Let jitted code make named tuples of a class.

    Parameters
    ----------
    kind : type
        A subclass of NamedTuple, at the top level of a module.

    Returns
    -------
    type
        `kind` itself.
    """
    register_value(kind)
    return kind


def pointers_of(arrays: Any) -> Any:
    """Return a named tuple like `arrays` with pointers to the first elements of its arrays."""
    return arrays


def _pointers(given: types.Type) -> Signature | None:
    if not isinstance(given, types.BaseNamedTuple):
        return None
    kinds = [_pointed(kind) for kind in given.types]
    return Signature(ValueType(kinds, given.instance_class), (given,), None)


def _lower_pointers(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    fields = cgutils.unpack_tuple(builder, arguments[0])
    kinds = signature.args[0].types
    pointers = [_pointer(context, builder, *pair) for pair in zip(kinds, fields, strict=True)]
    return context.make_tuple(builder, signature.return_type, pointers)


register(pointers_of, _pointers, _lower_pointers, types.Any)
