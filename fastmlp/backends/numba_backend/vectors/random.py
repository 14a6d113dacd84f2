"""Random bits as vectors: `fastmlp.regularization.random_bits`, lane by lane."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmlp.backends.numba_backend.numba_target.later import ir
from fastmlp.backends.numba_backend.vectors.pointers import lowers
from fastmlp.backends.numba_backend.vectors.types import LANES_BYTES, kinds


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


@lowers(random_mask, lambda like, key, index, threshold: kinds.MaskType(like.dtype))
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


@lowers(random_unit, lambda like, key, index: kinds.VectorType(like.dtype))
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
    word = vector.element
    first = builder.insert_element(
        ir.Constant(vector, ir.Undefined), builder.trunc(x, word), ir.Constant(word, 0)
    )
    return builder.shuffle_vector(first, first, ir.Constant(vector, [0] * vector.count))


def _emit_bits(builder: Any, dtype: Any, key: Any, index: Any) -> Any:
    lanes = LANES_BYTES * 8 // dtype.bitwidth
    vector = ir.VectorType(ir.IntType(32), lanes)

    def constant(x: int) -> Any:
        return ir.Constant(vector, [x] * lanes)

    value = builder.add(_splat(builder, index, vector), ir.Constant(vector, list(range(lanes))))
    value = builder.add(builder.mul(value, constant(0x9E3779B9)), _splat(builder, key, vector))
    value = builder.xor(value, builder.lshr(value, constant(16)))
    value = builder.mul(value, constant(0x7FEB352D))
    value = builder.xor(value, builder.lshr(value, constant(15)))
    value = builder.mul(value, constant(0x846CA68B))
    return builder.xor(value, builder.lshr(value, constant(16)))
