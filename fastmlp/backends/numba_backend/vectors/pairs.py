"""Pairs of numbers that bfloat16 holds, in the place of a float32: the first is its upper half.

Processors with AVX512_BF16 multiply two pairs and add both products, one after the other, to a
float32. So sums of pairs have the bits of sums of their numbers, one fused multiply-add at a time,
but that numbers below 2**-126 are zero to those processors. Other ones do what the plain functions
say. All lanes are float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmlp.backends.numba_backend.machine import VECTORS
from fastmlp.backends.numba_backend.numba_target.later import Later, cgutils, ir
from fastmlp.backends.numba_backend.vectors.emit import Emit, instructions_of
from fastmlp.backends.numba_backend.vectors.simd import fma, full, load_scalar
from fastmlp.backends.numba_backend.vectors.types import Index, Indices, Pointer, Rows, Vector

_kinds = Later("fastmlp.backends.numba_backend.vectors.kinds")

_UPPER, _HALF = 0xFFFF0000, 16


def pair_vectors(a: Vector, b: Vector) -> Vector:
    """Return the pairs of lanes of two vectors.

    Examples
    --------
    >>> pair_vectors(np.full(16, 1.0, "float32"), np.full(16, 2.0, "float32")).view("uint32")[0]
    np.uint32(1065369600)
    """
    upper, lower = (v.view(np.uint32) for v in (a, b))
    return ((upper & np.uint32(_UPPER)) | (lower >> np.uint32(_HALF))).view(np.float32)


def _paired(emit: Emit, a: Any, b: Any) -> Any:
    builder = emit.builder
    upper = builder.and_(builder.bitcast(a, emit.bits), emit.integers(_UPPER))
    lower = builder.lshr(builder.bitcast(b, emit.bits), emit.integers(_HALF))
    return builder.bitcast(builder.or_(upper, lower), emit.vector)


@instructions_of(pair_vectors)
def _(emit: Emit, a: Any, b: Any) -> Any:
    return _paired(emit, a, b)


def pair_lanes(a: Vector, b: Vector) -> Vector:
    """Return the pairs of neighbouring lanes, of `a` and then of `b`.

    Examples
    --------
    >>> a, b = np.full(16, 1.0, "float32"), np.full(16, 2.0, "float32")
    >>> np.array_equal(pair_lanes(a, b)[8:], pair_vectors(b, b)[8:])
    True
    """
    both = np.concatenate([a, b])
    return pair_vectors(both[::2], both[1::2])


@instructions_of(pair_lanes)
def _(emit: Emit, a: Any, b: Any) -> Any:
    even, odd = (list(range(first, 2 * emit.lanes, 2)) for first in (0, 1))
    return _paired(emit, emit.merge(a, b, even), emit.merge(a, b, odd))


def dot_rows(acc: Rows, a: Pointer, rows: Indices, column: Index, w: Vector) -> Rows:
    """Return the tuple of acc[r] plus both products of pairs a[rows[r] + column] and w.

    Examples
    --------
    >>> pair = pair_vectors(np.full(16, 3.0, "float32"), np.full(16, 5.0, "float32"))
    >>> dot_rows((np.ones(16, "float32"),), pair, (0,), 0, pair)[0][0]
    np.float32(35.0)
    """
    found = []
    for row, sums in zip(rows, acc, strict=True):
        x = full(w, load_scalar(a, row + column))
        for first, second in zip(_halves(x), _halves(w), strict=True):
            sums = fma(first, second, sums)
        found.append(sums)
    return tuple(found)


def _halves(pairs: Any) -> tuple[Any, Any]:
    bits = pairs.view(np.uint32)
    upper, lower = bits & np.uint32(_UPPER), bits << np.uint32(_HALF)
    return upper.view(np.float32), lower.view(np.float32)


@instructions_of(dot_rows)
def _(emit: Emit, acc: Any, a: Any, rows: Any, column: Any, w: Any) -> Any:
    begins = [emit.element(a, offset) for offset in emit.unpack(rows)]
    elements = [emit.splat(emit.builder.load(emit.element(p, column))) for p in begins]
    add = _add_by_instruction if VECTORS.multiplies_pairs else _add_by_halves
    pairs = zip(elements, emit.unpack(acc), strict=True)
    return emit.rows([add(emit, sums, x, w) for x, sums in pairs])


def _add_by_instruction(emit: Emit, sums: Any, x: Any, w: Any) -> Any:
    halves = ir.VectorType(_kinds.BFloat(), 2 * emit.lanes)
    function = cgutils.get_or_insert_function(
        emit.builder.module,
        ir.FunctionType(emit.vector, [emit.vector, halves, halves]),
        "llvm.x86.avx512bf16.dpbf16ps.512",
    )
    pairs = [emit.builder.bitcast(v, halves) for v in (w, x)]
    return emit.builder.call(function, [sums, *pairs])


def _add_by_halves(emit: Emit, sums: Any, x: Any, w: Any) -> Any:
    builder = emit.builder

    def halves(v: Any) -> tuple[Any, Any]:
        bits = builder.bitcast(v, emit.bits)
        upper = builder.and_(bits, emit.integers(_UPPER))
        lower = builder.shl(bits, emit.integers(_HALF))
        return builder.bitcast(upper, emit.vector), builder.bitcast(lower, emit.vector)

    for first, second in zip(halves(x), halves(w), strict=True):
        sums = emit.call("llvm.fmuladd", first, second, sums)
    return sums
