"""Pointers to int64, atomic operations and random bits as Numba values.

Like `simd`: every function has a plain meaning, which also runs under ``NUMBA_DISABLE_JIT=1``,
where a pointer is a 1-D array that starts at the element pointed to.
"""

from __future__ import annotations

import inspect
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from fastmlp.backends.numba_backend.numba_target import register
from fastmlp.backends.numba_backend.numba_target.templates import Lowering
from fastmlp.backends.numba_backend.simd import LANES_BYTES, MaskType, VectorType, inlined

_POINTER = types.CPointer(types.int64)
_HALF = ir.IntType(32)


def _lowers(
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
        register(function, typer, lower, *[types.Any] * n_arguments)
        return lowering

    return decorate


def index_pointer(array: Any, i: int) -> Any:
    """Return a pointer to element `i` of a 1-D int64 array.

    Examples
    --------
    >>> load_index(index_pointer(np.arange(5), 2), 1)
    3
    """
    return array[i:]


@_lowers(index_pointer, lambda array, i: _POINTER)
def _(context: Any, builder: Any, signature: Any, array: Any, i: Any) -> Any:
    data = context.make_array(signature.args[0])(context, builder, value=array).data
    return builder.gep(data, [i], inbounds=True)


def load_index(p: Any, i: int) -> int:
    """Return element `i` of an int64 pointer.

    Examples
    --------
    >>> load_index(np.arange(5), 1)
    1
    """
    return int(p[i])


@_lowers(load_index, lambda p, i: types.int64)
def _(context: Any, builder: Any, signature: Any, p: Any, i: Any) -> Any:
    return builder.load(builder.gep(p, [i], inbounds=True))


def store_index(p: Any, i: int, value: int) -> None:
    """Write element `i` of an int64 pointer.

    Examples
    --------
    >>> numbers = np.zeros(2, dtype=np.int64)
    >>> store_index(numbers, 1, 7)
    >>> numbers
    array([0, 7])
    """
    p[i] = value


@_lowers(store_index, lambda p, i, value: types.none)
def _(context: Any, builder: Any, signature: Any, p: Any, i: Any, value: Any) -> None:
    builder.store(value, builder.gep(p, [i], inbounds=True))


def advance_index(p: Any, n: int) -> Any:
    """Return the int64 pointer `n` elements after `p`.

    Examples
    --------
    >>> load_index(advance_index(np.arange(5), 2), 1)
    3
    """
    return p[n:]


@_lowers(advance_index, lambda p, n: _POINTER)
def _(context: Any, builder: Any, signature: Any, p: Any, n: Any) -> Any:
    return builder.gep(p, [n], inbounds=True)


def address_of(p: Any, i: int) -> int:
    """Return the address in bytes of element `i` of a pointer to anything.

    Examples
    --------
    >>> p = np.arange(5)
    >>> address_of(p, 2) - address_of(p, 0)
    16
    """
    return int(p.ctypes.data) + i * int(p.itemsize)


@_lowers(address_of, lambda p, i: types.int64)
def _(context: Any, builder: Any, signature: Any, p: Any, i: Any) -> Any:
    return builder.ptrtoint(builder.gep(p, [i]), ir.IntType(64))


def prefetch(address: int) -> None:
    """Ask for the cache line at an address, of an array or not; changes no value.

    Examples
    --------
    >>> prefetch(address_of(np.arange(5), 100))
    """


@_lowers(prefetch, lambda address: types.none)
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
    >>> leads_somewhere(nowhere()), leads_somewhere(np.arange(5))
    (False, True)
    """
    return None


@_lowers(nowhere, lambda: _POINTER)
def _(context: Any, builder: Any, signature: Any) -> Any:
    return cgutils.get_null_value(context.get_value_type(_POINTER))


def leads_somewhere(p: Any) -> bool:
    """Return whether a pointer is not `nowhere`.

    Examples
    --------
    >>> leads_somewhere(nowhere())
    False
    """
    return p is not None


@_lowers(leads_somewhere, lambda p: types.boolean)
def _(context: Any, builder: Any, signature: Any, p: Any) -> Any:
    return builder.not_(cgutils.is_null(builder, p))


def offset_of(numbers: Any, i: int, stride: int) -> int:
    """Return `stride` times number `i` of a list; `numbers` is None for 0, 1, 2, and so on.

    Examples
    --------
    >>> offset_of(np.array([0, 2, 3]), 2, 16), offset_of(None, 2, 16)
    (48, 32)
    """
    return stride * (i if numbers is None else int(numbers[i]))


@_lowers(offset_of, lambda numbers, i, stride: types.int64)
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


@_lowers(offsets_of, lambda count, numbers, i, stride: types.UniTuple(types.int64, len(count)))
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


@_lowers(smaller, lambda a, b: types.int64)
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


@_lowers(larger, lambda a, b: types.int64)
def _(context: Any, builder: Any, signature: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.icmp_signed(">", b, a), b, a)


@inlined
def share(total: Any, part: Any, parts: Any) -> Any:
    """Return where part `part` of `parts` equal parts of range(total) begins."""
    return total * part // parts


# --- Atomic operations -----------------------------------------------------------------------


def atomic_add(p: Any, i: int, amount: int) -> int:
    """Add to element `i` of an int64 pointer as one step for all threads; return the old value.

    Examples
    --------
    >>> counter = np.array([5])
    >>> atomic_add(counter, 0, 2), counter
    (5, array([7]))
    """
    old = int(p[i])
    p[i] += amount
    return old


@_lowers(atomic_add, lambda p, i, amount: types.int64)
def _(context: Any, builder: Any, signature: Any, p: Any, i: Any, amount: Any) -> Any:
    return builder.atomic_rmw("add", builder.gep(p, [i], inbounds=True), amount, "seq_cst")


def atomic_load(p: Any, i: int) -> int:
    """Return element `i` of an int64 pointer as its last writer left it.

    Examples
    --------
    >>> atomic_load(np.array([5]), 0)
    5
    """
    return int(p[i])


@_lowers(atomic_load, lambda p, i: types.int64)
def _(context: Any, builder: Any, signature: Any, p: Any, i: Any) -> Any:
    return builder.load_atomic(builder.gep(p, [i], inbounds=True), "acquire", 8)


def atomic_store(p: Any, i: int, value: int) -> None:
    """Write element `i` of an int64 pointer, after everything that was written before.

    Examples
    --------
    >>> flag = np.array([0])
    >>> atomic_store(flag, 0, 1)
    >>> flag
    array([1])
    """
    p[i] = value


@_lowers(atomic_store, lambda p, i, value: types.none)
def _(context: Any, builder: Any, signature: Any, p: Any, i: Any, value: Any) -> None:
    builder.store_atomic(value, builder.gep(p, [i], inbounds=True), "release", 8)


# --- Compiling -------------------------------------------------------------------------------


def out_of_line() -> None:
    """Keep the kernel that calls this a function of its own in compiled code.

    LLVM would otherwise copy every kernel into every caller, which takes half a minute to compile
    and gains nothing.
    """


@_lowers(out_of_line, lambda: types.none)
def _(context: Any, builder: Any, signature: Any) -> None:
    builder.function.attributes.add("noinline")


# --- Waiting ---------------------------------------------------------------------------------

#: The hint that a loop is waiting, by machine; other machines just loop.
_PAUSE = {
    "x86_64": ("llvm.x86.sse2.pause", ()),
    "amd64": ("llvm.x86.sse2.pause", ()),
    "aarch64": ("llvm.aarch64.hint", (1,)),
    "arm64": ("llvm.aarch64.hint", (1,)),
}.get(platform.machine().lower())


def _call_with_words(builder: Any, result: Any, name: str, values: tuple[int, ...]) -> None:
    kind = ir.FunctionType(result, [_HALF] * len(values))
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    builder.call(function, [ir.Constant(_HALF, value) for value in values])


def pause() -> None:
    """Tell the processor that this loop waits for another thread."""


@_lowers(pause, lambda: types.none)
def _(context: Any, builder: Any, signature: Any) -> None:
    if _PAUSE is not None:
        _call_with_words(builder, ir.VoidType(), *_PAUSE)


def sleep_briefly() -> None:
    """Give the processor away for some 50 microseconds."""
    time.sleep(50e-6)


@_lowers(sleep_briefly, lambda: types.none)
def _(context: Any, builder: Any, signature: Any) -> None:
    # C's usleep takes microseconds; Windows' Sleep milliseconds, and 0 ends the time slice.
    if sys.platform == "win32":
        _call_with_words(builder, ir.VoidType(), "Sleep", (0,))
    else:
        _call_with_words(builder, _HALF, "usleep", (50,))


# --- Random bits -----------------------------------------------------------------------------


def random_mask(like: Any, key: int, index: int, threshold: int) -> Any:
    """Return the mask of lanes whose random bits are at least `threshold`.

    Lane i has the bits of element index + i that `fastmlp.regularization.random_bits` defines;
    all numbers are taken modulo 2**32.

    Examples
    --------
    >>> random_mask(np.zeros(8), 1, 0, 2**31).shape
    (8,)
    """
    return _plain_bits(like, key, index) >= np.uint32(threshold)


@_lowers(random_mask, lambda like, key, index, threshold: MaskType(like.dtype))
def _(
    context: Any, builder: Any, signature: Any, like: Any, key: Any, index: Any, threshold: Any
) -> Any:
    bits = _emit_bits(builder, signature.args[0].dtype, key, index)
    return builder.icmp_unsigned(">=", bits, _splat(builder, threshold, bits.type))


def random_unit(like: Any, key: int, index: int) -> Any:
    """Return the random bits of elements index, index + 1, ... over 2**32, as a vector in [0, 1].

    Examples
    --------
    >>> bool(random_unit(np.zeros(8), 1, 0).max() <= 1)
    True
    """
    return (_plain_bits(like, key, index) / 2**32).astype(like.dtype)


@_lowers(random_unit, lambda like, key, index: VectorType(like.dtype))
def _(context: Any, builder: Any, signature: Any, like: Any, key: Any, index: Any) -> Any:
    dtype = signature.args[0].dtype
    bits = _emit_bits(builder, dtype, key, index)
    vector = ir.VectorType(context.get_value_type(dtype), bits.type.count)
    scale = ir.Constant(vector, [2.0**-32] * vector.count)
    return builder.fmul(builder.uitofp(bits, vector), scale)


def _plain_bits(like: Any, key: int, index: int) -> Any:
    lanes = LANES_BYTES // like.dtype.itemsize
    value = (np.arange(index, index + lanes) & 0xFFFFFFFF).astype(np.uint32)
    value = value * np.uint32(0x9E3779B9) + np.uint32(key & 0xFFFFFFFF)
    value = (value ^ (value >> np.uint32(16))) * np.uint32(0x7FEB352D)
    value = (value ^ (value >> np.uint32(15))) * np.uint32(0x846CA68B)
    return value ^ (value >> np.uint32(16))


def _splat(builder: Any, x: Any, vector: Any) -> Any:
    first = builder.insert_element(
        ir.Constant(vector, ir.Undefined), builder.trunc(x, _HALF), ir.Constant(_HALF, 0)
    )
    return builder.shuffle_vector(first, first, ir.Constant(vector, [0] * vector.count))


def _emit_bits(builder: Any, dtype: Any, key: Any, index: Any) -> Any:
    lanes = LANES_BYTES * 8 // dtype.bitwidth
    vector = ir.VectorType(_HALF, lanes)

    def constant(x: int) -> Any:
        return ir.Constant(vector, [x] * lanes)

    value = builder.add(_splat(builder, index, vector), ir.Constant(vector, list(range(lanes))))
    value = builder.add(builder.mul(value, constant(0x9E3779B9)), _splat(builder, key, vector))
    value = builder.xor(value, builder.lshr(value, constant(16)))
    value = builder.mul(value, constant(0x7FEB352D))
    value = builder.xor(value, builder.lshr(value, constant(15)))
    value = builder.mul(value, constant(0x846CA68B))
    return builder.xor(value, builder.lshr(value, constant(16)))
