"""Pointers to int64 and atomic operations as Numba values, and the random bits of masks.

Like `simd`: every function has a plain meaning, which also runs under ``NUMBA_DISABLE_JIT=1``,
where a pointer is a 1-D array that starts at the element pointed to.
"""

from __future__ import annotations

import platform
import sys
import time
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from fastmlp.backends.numba_backend.simd import MaskType

_WORD = ir.IntType(64)
_INLINE = {"forceinline": True}


def index_pointer(array: Any, i: int) -> Any:
    """Return a pointer to element `i` of an int64 array.

    Examples
    --------
    >>> load_index(index_pointer(np.arange(5), 2), 1)
    3
    """
    return array[i:]


@intrinsic
def _index_pointer(typing: Any, array: Any, i: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, value=arguments[0]).data
        return builder.gep(data, [arguments[1]], inbounds=True)

    return types.CPointer(types.int64)(array, types.intp), lower


@overload(index_pointer, jit_options=_INLINE)
def _(array: Any, i: Any) -> Any:
    return lambda array, i: _index_pointer(array, i)


def load_index(p: Any, i: int) -> int:
    """Return element `i` of an int64 pointer.

    Examples
    --------
    >>> load_index(np.arange(5), 1)
    1
    """
    return int(p[i])


@intrinsic
def _load_index(typing: Any, p: Any, i: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(builder.gep(arguments[0], [arguments[1]], inbounds=True))

    return types.int64(p, types.intp), lower


@overload(load_index, jit_options=_INLINE)
def _(p: Any, i: Any) -> Any:
    return lambda p, i: _load_index(p, i)


def atomic_add(p: Any, i: int, amount: int) -> int:
    """Add to element `i` of an int64 pointer, seen by all threads at once; return the old value.

    Examples
    --------
    >>> counter = np.array([5])
    >>> atomic_add(counter, 0, 2), counter
    (5, array([7]))
    """
    old = int(p[i])
    p[i] += amount
    return old


@intrinsic
def _atomic_add(typing: Any, p: Any, i: Any, amount: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        where = builder.gep(arguments[0], [arguments[1]], inbounds=True)
        return builder.atomic_rmw("add", where, arguments[2], "seq_cst")

    return types.int64(p, types.intp, types.int64), lower


@overload(atomic_add, jit_options=_INLINE)
def _(p: Any, i: Any, amount: Any) -> Any:
    return lambda p, i, amount: _atomic_add(p, i, amount)


def atomic_load(p: Any, i: int) -> int:
    """Return element `i` of an int64 pointer as the last writer left it.

    Examples
    --------
    >>> atomic_load(np.array([5]), 0)
    5
    """
    return int(p[i])


@intrinsic
def _atomic_load(typing: Any, p: Any, i: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        where = builder.gep(arguments[0], [arguments[1]], inbounds=True)
        return builder.load_atomic(where, "acquire", 8)

    return types.int64(p, types.intp), lower


@overload(atomic_load, jit_options=_INLINE)
def _(p: Any, i: Any) -> Any:
    return lambda p, i: _atomic_load(p, i)


def atomic_store(p: Any, i: int, value: int) -> None:
    """Write element `i` of an int64 pointer, after everything written before.

    Examples
    --------
    >>> flag = np.array([0])
    >>> atomic_store(flag, 0, 1)
    >>> flag
    array([1])
    """
    p[i] = value


@intrinsic
def _atomic_store(typing: Any, p: Any, i: Any, value: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        where = builder.gep(arguments[0], [arguments[1]], inbounds=True)
        builder.store_atomic(arguments[2], where, "release", 8)
        return context.get_dummy_value()

    return types.none(p, types.intp, types.int64), lower


@overload(atomic_store, jit_options=_INLINE)
def _(p: Any, i: Any, value: Any) -> Any:
    return lambda p, i, value: _atomic_store(p, i, value)


#: The hint that a loop is waiting, by machine; others just loop.
_PAUSE = {
    "x86_64": ("llvm.x86.sse2.pause", ()),
    "AMD64": ("llvm.x86.sse2.pause", ()),
    "aarch64": ("llvm.aarch64.hint", (1,)),
    "arm64": ("llvm.aarch64.hint", (1,)),
}.get(platform.machine())


def pause() -> None:
    """Tell the processor that this loop waits for another thread."""


@intrinsic
def _pause(typing: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if _PAUSE is not None:
            name, values = _PAUSE
            word = ir.IntType(32)
            kind = ir.FunctionType(ir.VoidType(), [word] * len(values))
            function = cgutils.get_or_insert_function(builder.module, kind, name)
            builder.call(function, [ir.Constant(word, value) for value in values])
        return context.get_dummy_value()

    return types.none(), lower


@overload(pause, jit_options=_INLINE)
def _() -> Any:
    return lambda: _pause()


def sleep_briefly() -> None:
    """Give the processor away for some 50 microseconds."""
    time.sleep(50e-6)


@intrinsic
def _sleep_briefly(typing: Any) -> Any:
    # C's usleep takes microseconds; Windows' Sleep milliseconds, and 0 ends the time slice.
    name, amount = ("Sleep", 0) if sys.platform == "win32" else ("usleep", 50)

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(word, [word]), name
        )
        builder.call(function, [ir.Constant(word, amount)])
        return context.get_dummy_value()

    return types.none(), lower


@overload(sleep_briefly)
def _() -> Any:
    return lambda: _sleep_briefly()


def random_mask(like: Any, key: int, index: int, threshold: int) -> Any:
    """Return the mask of lanes whose random bits are at least `threshold`.

    Lane i holds the bits of element index + i, as `fastmlp.regularization.random_bits` defines
    them; all numbers are taken modulo 2**32.

    Examples
    --------
    >>> random_mask(np.zeros(8), 1, 0, 2**31).sum()
    np.int64(4)
    """
    bits = _plain_bits(like, key, index)
    return bits >= np.uint32(threshold)


def random_unit(like: Any, key: int, index: int) -> Any:
    """Return the random bits of elements index, index + 1, ... divided by 2**32, as floats.

    Examples
    --------
    >>> random_unit(np.zeros(8), 1, 0).max() < 1
    np.True_
    """
    return (_plain_bits(like, key, index) / 2**32).astype(like.dtype)


def _plain_bits(like: Any, key: int, index: int) -> Any:
    lanes = 64 // like.dtype.itemsize
    value = (np.arange(index, index + lanes) & 0xFFFFFFFF).astype(np.uint32)
    value = value * np.uint32(0x9E3779B9) + np.uint32(key & 0xFFFFFFFF)
    value = (value ^ (value >> np.uint32(16))) * np.uint32(0x7FEB352D)
    value = (value ^ (value >> np.uint32(15))) * np.uint32(0x846CA68B)
    return value ^ (value >> np.uint32(16))


def _emit_bits(builder: Any, lanes: int, key: Any, index: Any) -> Any:
    half = ir.IntType(32)
    vector = ir.VectorType(half, lanes)

    def splat(x: Any) -> Any:
        x = builder.trunc(x, half)
        first = builder.insert_element(ir.Constant(vector, ir.Undefined), x, ir.Constant(half, 0))
        return builder.shuffle_vector(first, first, ir.Constant(vector, [0] * lanes))

    def constant(x: int) -> Any:
        return ir.Constant(vector, [x] * lanes)

    value = builder.add(splat(index), ir.Constant(vector, list(range(lanes))))
    value = builder.add(builder.mul(value, constant(0x9E3779B9)), splat(key))
    value = builder.xor(value, builder.lshr(value, constant(16)))
    value = builder.mul(value, constant(0x7FEB352D))
    value = builder.xor(value, builder.lshr(value, constant(15)))
    value = builder.mul(value, constant(0x846CA68B))
    return builder.xor(value, builder.lshr(value, constant(16)))


@intrinsic
def _random_mask(typing: Any, like: Any, key: Any, index: Any, threshold: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = 64 * 8 // like.dtype.bitwidth
        bits = _emit_bits(builder, lanes, arguments[1], arguments[2])
        half = ir.IntType(32)
        limit = builder.trunc(arguments[3], half)
        first = builder.insert_element(
            ir.Constant(bits.type, ir.Undefined), limit, ir.Constant(half, 0)
        )
        limits = builder.shuffle_vector(first, first, ir.Constant(bits.type, [0] * lanes))
        return builder.icmp_unsigned(">=", bits, limits)

    word = types.int64
    return MaskType(like.dtype)(like, word, word, word), lower


@overload(random_mask, jit_options=_INLINE)
def _(like: Any, key: Any, index: Any, threshold: Any) -> Any:
    return lambda like, key, index, threshold: _random_mask(like, key, index, threshold)
