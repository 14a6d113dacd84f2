"""Records, for what lies in memory, and named tuples, for what travels, as Numba values.

A record is a pointer to fields of fixed places; in plain Python it is a row of a record array.
A named tuple of pointers, records and numbers passes to a kernel as one argument, and costs what
its fields would cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, TypeVar, get_type_hints

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.numba_backend.numba_target import (
    register,
    register_fields,
    register_value,
)
from fastmlp.backends.numba_backend.numba_target.later import Later, cgutils, ir, types
from fastmlp.backends.numba_backend.vectors.pointers import first_of, lowers
from fastmlp.backends.numba_backend.vectors.types import kinds

_templates = Later("fastmlp.backends.numba_backend.numba_target.templates")

Records = Annotated[Any, "records"]  # a pointer to records of one kind

T = TypeVar("T", bound=type)


#: All kinds of records, by the names of their fields.
_KINDS: dict[Any, type[Record]] = {}


def kind_of(fields: Any) -> type[Record]:
    """Return the kind of records that have fields of these names."""
    return _KINDS[tuple(fields)]


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


def fields(records: Any) -> NDArray[Any]:
    """Return records as an array whose fields are taken and given by name, ten times as fast.

    Examples
    --------
    >>> class Point(Record):
    ...     x: float
    >>> points = Point.array(1)
    >>> fields(points)["x"] = 3
    >>> points.x
    array([3.])
    """
    return np.asarray(records)


def _type_of_field(kind: kinds.RecordType, name: str) -> types.Type | None:
    fields: Any = kind.dtype.fields
    if name not in fields:
        return None
    return types.float64 if fields[name][0].kind == "f" else types.int64


def _place(builder: Any, kind: kinds.RecordType, p: Any, name: str) -> Any:
    element, offset = kind.dtype.fields[name][:2]
    llvm = ir.DoubleType() if element.kind == "f" else ir.IntType(64)
    place = builder.gep(p, [ir.Constant(ir.IntType(64), offset)], inbounds=True)
    return builder.bitcast(place, llvm.as_pointer())


def _load_field(context: Any, builder: Any, kind: Any, p: Any, name: str) -> Any:
    return builder.load(_place(builder, kind, p, name))


def _store_field(context: Any, builder: Any, signature: Any, values: Any, name: str) -> None:
    builder.store(values[1], _place(builder, signature.args[0], values[0], name))


register_fields(lambda: (kinds.RecordType, _type_of_field, _load_field, _store_field))


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
        return kinds.RecordType(kind_of(kind.dtype.fields))
    return types.CPointer(kind.dtype)


def _pointer(context: Any, builder: Any, kind: types.Type, p: Any) -> Any:
    """Return the pointer to the elements of an array; other values are left."""
    if not isinstance(kind, types.Array):
        return p
    data = first_of(context, builder, kind, p)
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
    """Return a named tuple like `arrays` with pointers to the first elements of its arrays.

    In a program that takes addresses, `arrays` is that of a struct of such pointers.
    """
    return arrays


def _pointers(given: types.Type) -> Any:
    if isinstance(given, kinds.AddressesType):
        return _templates.ValueType(given.fields, given.kind)(given)
    if not isinstance(given, types.BaseNamedTuple):
        return None
    pointed = [_pointed(kind) for kind in given.types]
    return _templates.ValueType(pointed, given.instance_class)(given)


def _lower_pointers(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    given = signature.args[0]
    if isinstance(given, kinds.AddressesType):
        pointers = list(_loaded(context, builder, given, arguments[0]))
    else:
        fields = cgutils.unpack_tuple(builder, arguments[0])
        pairs = zip(given.types, fields, strict=True)
        pointers = [_pointer(context, builder, *pair) for pair in pairs]
    return context.make_tuple(builder, signature.return_type, pointers)


def _loaded(context: Any, builder: Any, given: Any, struct: Any) -> Iterator[Any]:
    """Yield the fields of a struct of pointers and int64, of eight bytes each."""
    for number, kind in enumerate(given.fields):
        place = builder.gep(struct, [ir.Constant(ir.IntType(64), 8 * number)], inbounds=True)
        yield builder.load(builder.bitcast(place, context.get_value_type(kind).as_pointer()))


register(lambda: (pointers_of, _pointers, _lower_pointers, types.Any))
