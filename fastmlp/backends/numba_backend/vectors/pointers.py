"""Pointers to int64, atomic operations and random bits as Numba values.

Like `simd`: every function has a plain meaning, which also runs under ``NUMBA_DISABLE_JIT=1``,
where a pointer is a 1-D array that starts at the element pointed to.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

from fastmlp.backends.numba_backend.numba_target import register
from fastmlp.backends.numba_backend.numba_target.later import Lowering, cgutils, ir, types
from fastmlp.backends.numba_backend.vectors.types import inlined

Numbers = Annotated[Any, "numbers"]  # a pointer to int64, often a list of numbers


def _pointer_type() -> types.Type:
    return types.CPointer(types.int64)


def lowers(
    function: Callable[..., Any], result: Callable[..., Any]
) -> Callable[[Lowering], Lowering]:
    """Register the decorated instructions as what `function` means inside jitted code.

    `result` gives the type of the result from the types of the arguments. Integers other than
    int64 are converted.
    """

    def typer(*given: Any) -> Any:
        formals = [types.int64 if isinstance(t, types.Integer) else t for t in given]
        return result(*formals)(*formals)

    def decorate(lowering: Lowering) -> Lowering:
        def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            value = lowering(context, builder, signature, *arguments)
            return context.get_dummy_value() if value is None else value

        n_arguments = len(inspect.signature(function).parameters)
        register(lambda: (function, typer, lower, *[types.Any] * n_arguments))
        return lowering

    return decorate


def first_of(context: Any, builder: Any, kind: types.Type, elements: Any) -> Any:
    """Return the pointer to the first element of an array; pointers are left."""
    if not isinstance(kind, types.Array):
        return elements
    return context.make_array(kind)(context, builder, value=elements).data


def index_pointer(array: Any, i: int) -> Any:
    """Return a pointer to element `i` of a 1-D int64 array, or of a pointer.

    Examples
    --------
    >>> import numpy as np
    >>> load_index(index_pointer(np.arange(5), 2), 1)
    3
    """
    return array[i:]


@lowers(index_pointer, lambda array, i: _pointer_type())
def _(context: Any, builder: Any, signature: Any, array: Any, i: Any) -> Any:
    data = first_of(context, builder, signature.args[0], array)
    return builder.gep(data, [i], inbounds=True)


def load_index(p: Any, i: int) -> int:
    """Return element `i` of an int64 pointer.

    Examples
    --------
    >>> import numpy as np
    >>> load_index(np.arange(5), 1)
    1
    """
    return int(p[i])


@lowers(load_index, lambda p, i: types.int64)
def _(context: Any, builder: Any, signature: Any, p: Any, i: Any) -> Any:
    return builder.load(builder.gep(p, [i], inbounds=True))


def store_index(p: Any, i: int, value: int) -> None:
    """Write element `i` of an int64 pointer.

    Examples
    --------
    >>> import numpy as np
    >>> numbers = np.zeros(2, dtype=np.int64)
    >>> store_index(numbers, 1, 7)
    >>> numbers
    array([0, 7])
    """
    p[i] = value


@lowers(store_index, lambda p, i, value: types.none)
def _(context: Any, builder: Any, signature: Any, p: Any, i: Any, value: Any) -> None:
    builder.store(value, builder.gep(p, [i], inbounds=True))


def advance_index(p: Any, n: int) -> Any:
    """Return the int64 pointer `n` elements after `p`.

    Examples
    --------
    >>> import numpy as np
    >>> load_index(advance_index(np.arange(5), 2), 1)
    3
    """
    return p[n:]


@lowers(advance_index, lambda p, n: _pointer_type())
def _(context: Any, builder: Any, signature: Any, p: Any, n: Any) -> Any:
    return builder.gep(p, [n], inbounds=True)


def address_of(p: Any, i: int) -> int:
    """Return the address in bytes of element `i` of a pointer to anything.

    Examples
    --------
    >>> import numpy as np
    >>> p = np.arange(5)
    >>> address_of(p, 2) - address_of(p, 0)
    16
    """
    return int(p.ctypes.data) + i * int(p.itemsize)


@lowers(address_of, lambda p, i: types.int64)
def _(context: Any, builder: Any, signature: Any, p: Any, i: Any) -> Any:
    return builder.ptrtoint(builder.gep(p, [i]), ir.IntType(64))


def prefetch(address: int) -> None:
    """Ask for the cache line at an address, of an array or not; changes no value.

    Examples
    --------
    >>> import numpy as np
    >>> prefetch(address_of(np.arange(5), 100))
    """


@lowers(prefetch, lambda address: types.none)
def _(context: Any, builder: Any, signature: Any, address: Any) -> None:
    byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(ir.VoidType(), [byte, word, word, word]),
        "llvm.prefetch.p0",
    )
    read, keep_near, data = (ir.Constant(word, n) for n in (0, 3, 1))
    builder.call(function, [builder.inttoptr(address, byte), read, keep_near, data])


def nowhere() -> Any:
    """Return an int64 pointer to nothing, which may be passed on but not followed.

    Examples
    --------
    >>> import numpy as np
    >>> leads_somewhere(nowhere()), leads_somewhere(np.arange(5))
    (False, True)
    """
    return None


@lowers(nowhere, lambda: _pointer_type())
def _(context: Any, builder: Any, signature: Any) -> Any:
    return cgutils.get_null_value(context.get_value_type(_pointer_type()))


def leads_somewhere(p: Any) -> bool:
    """Return whether a pointer is not `nowhere`.

    Examples
    --------
    >>> leads_somewhere(nowhere())
    False
    """
    return p is not None


@lowers(leads_somewhere, lambda p: types.boolean)
def _(context: Any, builder: Any, signature: Any, p: Any) -> Any:
    return builder.not_(cgutils.is_null(builder, p))


def by_presence(what: Any, present: Any, absent: Any) -> Any:
    """Return a function to call where something is there, or another where it is None.

    Which one it is follows from the type of `what`: jitted code has no more of the other.

    Examples
    --------
    >>> by_presence(None, min, max)(2, 3)
    3
    """
    return absent if what is None else present


@lowers(by_presence, lambda what, present, absent: absent if what == types.none else present)
def _(context: Any, builder: Any, signature: Any, what: Any, present: Any, absent: Any) -> Any:
    return context.get_dummy_value()


def offset_of(numbers: Any, i: int, stride: int) -> int:
    """Return `stride` times number `i` of a list; `numbers` is None for 0, 1, 2, and so on.

    Examples
    --------
    >>> import numpy as np
    >>> offset_of(np.array([0, 2, 3]), 2, 16), offset_of(None, 2, 16)
    (48, 32)
    """
    return stride * (i if numbers is None else int(numbers[i]))


@lowers(offset_of, lambda numbers, i, stride: types.int64)
def _(context: Any, builder: Any, signature: Any, numbers: Any, i: Any, stride: Any) -> Any:
    if signature.args[0] != types.none:
        i = builder.load(builder.gep(numbers, [i], inbounds=True))
    return builder.mul(i, stride)


def offsets_of(count: Any, numbers: Any, i: int, stride: int) -> Any:
    """Return `offset_of` i, i + 1, and so on, as a tuple as long as `count`.

    Examples
    --------
    >>> offsets_of((0, 0), None, 3, 10)
    (30, 40)
    """
    return tuple(offset_of(numbers, i + r, stride) for r in range(len(count)))


@lowers(offsets_of, lambda count, numbers, i, stride: types.UniTuple(types.int64, len(count)))
def _(
    context: Any, builder: Any, signature: Any, count: Any, numbers: Any, i: Any, stride: Any
) -> Any:
    offsets = []
    for r in range(len(signature.args[0])):
        number = builder.add(i, ir.Constant(i.type, r))
        if signature.args[1] != types.none:
            number = builder.load(builder.gep(numbers, [number], inbounds=True))
        offsets.append(builder.mul(number, stride))
    return context.make_tuple(builder, signature.return_type, offsets)


# --- Comparing -------------------------------------------------------------------------------
# Numba compiles the built-in min and max, anew for every kind of caller.


def smaller(a: int, b: int) -> int:
    """Return the smaller of two integers.

    Examples
    --------
    >>> smaller(2, 3)
    2
    """
    return min(a, b)


@lowers(smaller, lambda a, b: types.int64)
def _(context: Any, builder: Any, signature: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.icmp_signed("<", b, a), b, a)


def larger(a: int, b: int) -> int:
    """Return the larger of two integers.

    Examples
    --------
    >>> larger(2, 3)
    3
    """
    return max(a, b)


@lowers(larger, lambda a, b: types.int64)
def _(context: Any, builder: Any, signature: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.icmp_signed(">", b, a), b, a)


@inlined
def share(total: Any, part: Any, parts: Any) -> Any:
    """Return where part `part` of `parts` equal parts of range(total) begins."""
    return total * part // parts
