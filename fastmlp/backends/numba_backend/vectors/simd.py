"""SIMD vectors as Numba values.

A vector holds 64 bytes: 16 float32 or 8 float64 lanes. LLVM splits it into the registers that the
machine has (one on AVX-512, two on AVX2, four on SSE and NEON), so kernels are written once.

Every operation is an ordinary Python function with a plain NumPy meaning: a pointer is a 1-D
array that starts at the element pointed to, a vector an array of lanes, a mask a Boolean array.
That is what runs when Python calls it, and what runs inside kernels under
``NUMBA_DISABLE_JIT=1``, where running off the end of an array raises. Inside jitted code Numba
replaces the call by the instructions registered beside the function with ``instructions_of``. The
annotations of the plain function (`Pointer`, `Index`, `Vector`, ...) are its Numba signature too.

There is no implicit conversion: vectors combine with vectors of the same type only
(``x * full(x, 2.0)``, not ``x * 2.0``). Indices and strides count elements, not bytes. Jitted code
checks no bounds, and a pointer does not keep its array alive: the caller must.
"""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from fastmlp._bfloat16 import rounded
from fastmlp.backends.numba_backend.numba_target.later import cgutils, ir, types
from fastmlp.backends.numba_backend.vectors.emit import Emit, instructions_of, register_operation
from fastmlp.backends.numba_backend.vectors.pointers import first_of
from fastmlp.backends.numba_backend.vectors.types import (
    LANES_BYTES,
    Array,
    Coefficients,
    Count,
    Index,
    Indices,
    Like,
    Mask,
    Nothing,
    Pair,
    Pointer,
    Rows,
    Scalar,
    Vector,
)

for _operator, _instruction in {
    operator.add: "fadd",
    operator.sub: "fsub",
    operator.mul: "fmul",
    operator.truediv: "fdiv",
}.items():
    register_operation(
        _operator,
        ("vector", "vector"),
        "vector",
        lambda emit, a, b, name=_instruction: getattr(emit.builder, name)(a, b),
    )

for _operator, _sign in {
    operator.lt: "<",
    operator.le: "<=",
    operator.gt: ">",
    operator.ge: ">=",
    operator.eq: "==",
}.items():
    register_operation(
        _operator,
        ("vector", "vector"),
        "mask",
        lambda emit, a, b, sign=_sign: emit.builder.fcmp_ordered(sign, a, b),
    )
register_operation(
    operator.ne,
    ("vector", "vector"),
    "mask",
    lambda emit, a, b: emit.builder.fcmp_unordered("!=", a, b),  # NaN differs from itself
)

register_operation(operator.neg, ("vector",), "vector", lambda emit, v: emit.builder.fneg(v))
register_operation(
    operator.and_, ("mask", "mask"), "mask", lambda emit, a, b: emit.builder.and_(a, b)
)
register_operation(
    operator.or_, ("mask", "mask"), "mask", lambda emit, a, b: emit.builder.or_(a, b)
)
register_operation(operator.invert, ("mask",), "mask", lambda emit, a: emit.builder.not_(a))


# --- Pointers and memory ---------------------------------------------------------------------


def _window(p: Any, i: int, count: int) -> Any:
    if i < 0 or count < 0 or i + count > len(p):
        raise IndexError(f"element {i} and those after it lie outside of the {len(p)} elements")
    return p[i : i + count]


def lanes(like: Like) -> Index:
    """Return the number of lanes: 16 for float32, 8 for float64; a constant in jitted code.

    Examples
    --------
    >>> lanes(np.empty(0, dtype=np.float32))
    16
    """
    return LANES_BYTES // like.dtype.itemsize


@instructions_of(lanes)
def _(emit: Emit, like: Any) -> Any:
    return emit.context.get_constant(types.intp, emit.lanes)


def pointer(array: Array, index: Index) -> Pointer:
    """Return a pointer to element `index` of a contiguous 1-D float array, or of a pointer.

    Examples
    --------
    >>> load_scalar(pointer(np.arange(4.0), 1), 2)
    np.float64(3.0)
    """
    if array.ndim != 1 or not array.flags.c_contiguous:
        raise ValueError("a pointer needs a contiguous 1-D array")
    return advance(array, index)


@instructions_of(pointer)
def _(emit: Emit, array: Any, index: Any) -> Any:
    data = first_of(emit.context, emit.builder, emit.signature.args[0], array)
    return emit.element(data, index)


def advance(p: Pointer, n: Index) -> Pointer:
    """Return the pointer `n` elements after `p`; `n` is not negative.

    Examples
    --------
    >>> load_scalar(advance(np.arange(4.0), 3), 0)
    np.float64(3.0)
    """
    return _window(p, n, len(p) - n)


@instructions_of(advance)
def _(emit: Emit, p: Any, n: Any) -> Any:
    return emit.element(p, n)


def load(p: Pointer, i: Index) -> Vector:
    """Return the vector of p[i], p[i + 1], ...; no alignment is needed.

    Examples
    --------
    >>> load(np.arange(10.0), 2)
    array([2., 3., 4., 5., 6., 7., 8., 9.])
    """
    return _window(p, i, lanes(p)).copy()


@instructions_of(load)
def _(emit: Emit, p: Any, i: Any) -> Any:
    return emit.load(p, i)


def store(p: Pointer, i: Index, v: Vector) -> Nothing:
    """Write the lanes of `v` to p[i], p[i + 1], ...

    Examples
    --------
    >>> p = np.zeros(10)
    >>> store(p, 1, np.ones(8))
    >>> p
    array([0., 1., 1., 1., 1., 1., 1., 1., 1., 0.])
    """
    _window(p, i, lanes(p))[:] = v


@instructions_of(store)
def _(emit: Emit, p: Any, i: Any, v: Any) -> None:
    emit.store(p, i, v)


def broadcast(p: Pointer, i: Index) -> Vector:
    """Return a vector with every lane p[i].

    Examples
    --------
    >>> broadcast(np.arange(4.0), 3)
    array([3., 3., 3., 3., 3., 3., 3., 3.])
    """
    return full(p, load_scalar(p, i))


@instructions_of(broadcast)
def _(emit: Emit, p: Any, i: Any) -> Any:
    return emit.splat(emit.builder.load(emit.element(p, i)))


def load_scalar(p: Pointer, i: Index) -> Scalar:
    """Return p[i].

    Examples
    --------
    >>> load_scalar(np.arange(4.0), 3)
    np.float64(3.0)
    """
    return _window(p, i, 1)[0]


@instructions_of(load_scalar)
def _(emit: Emit, p: Any, i: Any) -> Any:
    return emit.builder.load(emit.element(p, i))


def store_scalar(p: Pointer, i: Index, x: Scalar) -> Nothing:
    """Write `x` to p[i].

    Examples
    --------
    >>> p = np.zeros(2)
    >>> store_scalar(p, 1, 3.0)
    >>> p
    array([0., 3.])
    """
    _window(p, i, 1)[0] = x


@instructions_of(store_scalar)
def _(emit: Emit, p: Any, i: Any, x: Any) -> None:
    emit.builder.store(x, emit.element(p, i))


# --- Making vectors --------------------------------------------------------------------------


def full(like: Like, x: Scalar) -> Vector:
    """Return a vector with every lane `x`, of the lane type of a pointer or vector.

    Examples
    --------
    >>> full(np.zeros(8), 2)
    array([2., 2., 2., 2., 2., 2., 2., 2.])
    """
    return np.full(lanes(like), x, dtype=like.dtype)


@instructions_of(full)
def _(emit: Emit, like: Any, x: Any) -> Any:
    return emit.splat(x)


def zero(like: Like) -> Vector:
    """Return a vector of zeros, of the lane type of a pointer or vector.

    Examples
    --------
    >>> zero(np.ones(8))
    array([0., 0., 0., 0., 0., 0., 0., 0.])
    """
    return full(like, 0.0)


@instructions_of(zero)
def _(emit: Emit, like: Any) -> Any:
    return emit.constant(0.0)


def constant(like: Like, single: Scalar, double: Scalar) -> Vector:
    """Return a vector filled with `single` if the lanes are float32, with `double` if float64.

    Examples
    --------
    >>> constant(np.zeros(8), 88.0, 709.0)[0]
    np.float64(709.0)
    """
    return full(like, single if like.dtype == np.float32 else double)


@instructions_of(constant)
def _(emit: Emit, like: Any, single: Any, double: Any) -> Any:
    return emit.splat(single if emit.dtype == types.float32 else double)


# --- Lane-wise arithmetic --------------------------------------------------------------------


def fma(a: Vector, b: Vector, c: Vector) -> Vector:
    """Return a * b + c, rounded once where the machine can do so fast, otherwise twice.

    Examples
    --------
    >>> fma(np.full(8, 2.0), np.full(8, 3.0), np.ones(8))[0]
    np.float64(7.0)
    """
    return a * b + c


@instructions_of(fma)
def _(emit: Emit, a: Any, b: Any, c: Any) -> Any:
    # llvm.fma would call the C library, lane by lane, where there is no FMA instruction.
    return emit.call("llvm.fmuladd", a, b, c)


def maximum(a: Vector, b: Vector) -> Vector:
    """Return `b` where b > a, else `a`.

    A NaN in `a` is kept, a NaN in `b` is ignored: ``maximum(x, zero(x))`` keeps the NaN of x.

    Examples
    --------
    >>> maximum(np.array([1.0, np.nan] * 4), np.full(8, 2.0))[:2]
    array([ 2., nan])
    """
    return select(b > a, b, a)


@instructions_of(maximum)
def _(emit: Emit, a: Any, b: Any) -> Any:
    return emit.builder.select(emit.builder.fcmp_ordered(">", b, a), b, a)


def minimum(a: Vector, b: Vector) -> Vector:
    """Return `b` where b < a, else `a`.

    A NaN in `a` is kept, a NaN in `b` is ignored.

    Examples
    --------
    >>> minimum(np.array([3.0, np.nan] * 4), np.full(8, 2.0))[:2]
    array([ 2., nan])
    """
    return select(b < a, b, a)


@instructions_of(minimum)
def _(emit: Emit, a: Any, b: Any) -> Any:
    return emit.builder.select(emit.builder.fcmp_ordered("<", b, a), b, a)


def absolute(v: Vector) -> Vector:
    """Return the absolute value of every lane.

    Examples
    --------
    >>> absolute(np.full(8, -2.0))[0]
    np.float64(2.0)
    """
    return np.abs(v)


@instructions_of(absolute)
def _(emit: Emit, v: Any) -> Any:
    return emit.call("llvm.fabs", v)


def sqrt(v: Vector) -> Vector:
    """Return the correctly rounded square root of every lane; NaN for negative ones.

    Examples
    --------
    >>> sqrt(np.full(8, 4.0))[0]
    np.float64(2.0)
    """
    with np.errstate(invalid="ignore"):
        return np.sqrt(v)


@instructions_of(sqrt)
def _(emit: Emit, v: Any) -> Any:
    return emit.call("llvm.sqrt", v)


def floor(v: Vector) -> Vector:
    """Return the largest integral value not above every lane.

    Examples
    --------
    >>> floor(np.full(8, -1.5))[0]
    np.float64(-2.0)
    """
    return np.floor(v)


@instructions_of(floor)
def _(emit: Emit, v: Any) -> Any:
    return emit.call("llvm.floor", v)


def round_even(v: Vector) -> Vector:
    """Return the nearest integral value of every lane, halves to the even one.

    Examples
    --------
    >>> round_even(np.array([0.5, 1.5, 2.5, -0.7] * 2))[:4]
    array([ 0.,  2.,  2., -1.])
    """
    return np.rint(v)


@instructions_of(round_even)
def _(emit: Emit, v: Any) -> Any:
    return emit.call("llvm.rint", v)


def copysign(magnitude: Vector, sign: Vector) -> Vector:
    """Return the absolute value of `magnitude` with the sign of `sign`, lane by lane.

    Examples
    --------
    >>> copysign(np.full(8, 3.0), np.full(8, -0.0))[0]
    np.float64(-3.0)
    """
    return np.copysign(magnitude, sign)


@instructions_of(copysign)
def _(emit: Emit, magnitude: Any, sign: Any) -> Any:
    return emit.call("llvm.copysign", magnitude, sign)


def polynomial(x: Vector, single: Coefficients, double: Coefficients) -> Vector:
    """Return c[0] + c[1] x + c[2] x**2 + ... by Horner's rule.

    Parameters
    ----------
    x : vector
        Where to evaluate.
    single, double : tuple of float
        The coefficients c, lowest degree first, for float32 and for float64 lanes.

    Returns
    -------
    vector
        The value of the polynomial in every lane.

    Examples
    --------
    >>> polynomial(np.full(8, 2.0), (1.0,), (1.0, 2.0, 3.0))[0]
    np.float64(17.0)
    """
    coefficients = single if x.dtype == np.float32 else double
    value = full(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        value = fma(value, x, full(x, c))
    return value


@instructions_of(polynomial)
def _(emit: Emit, x: Any, single: Any, double: Any) -> Any:
    chosen = emit.unpack(single if emit.dtype == types.float32 else double)
    narrow = [emit.context.cast(emit.builder, c, types.float64, emit.dtype) for c in chosen]
    value, *lower = (emit.splat(c) for c in reversed(narrow))
    for c in lower:
        value = emit.call("llvm.fmuladd", value, x, c)
    return value


# --- Masks -----------------------------------------------------------------------------------


def select(mask: Mask, a: Vector, b: Vector) -> Vector:
    """Return `a` in the lanes where `mask` is set, `b` in the others.

    Examples
    --------
    >>> select(np.array([True, False] * 4), np.ones(8), np.zeros(8))[:2]
    array([1., 0.])
    """
    return np.where(mask, a, b)


@instructions_of(select)
def _(emit: Emit, mask: Any, a: Any, b: Any) -> Any:
    return emit.builder.select(mask, a, b)


def first_lanes(like: Like, n: Index) -> Mask:
    """Return the mask of the lanes whose index is below `n`.

    Examples
    --------
    >>> first_lanes(np.zeros(8), 3).sum()
    np.int64(3)
    """
    return np.arange(lanes(like)) < n


@instructions_of(first_lanes)
def _(emit: Emit, like: Any, n: Any) -> Any:
    builder = emit.builder
    few = ir.Constant(n.type, 0)
    many = ir.Constant(n.type, emit.lanes)
    n = builder.select(builder.icmp_signed("<", n, few), few, n)
    n = builder.select(builder.icmp_signed(">", n, many), many, n)
    # n now fits a lane, however narrow.
    width = emit.bits.element
    narrow = builder.trunc(n, width) if width.width < n.type.width else n
    index = ir.Constant(emit.bits, list(range(emit.lanes)))
    return builder.icmp_signed("<", index, emit.splat(narrow))


def lane_bits(mask: Mask) -> Index:
    """Return a number whose bit i is set if lane i of `mask` is.

    Examples
    --------
    >>> lane_bits(np.array([True, False, True, False] + [False] * 4))
    5
    """
    return sum(int(lane) << i for i, lane in enumerate(mask))


@instructions_of(lane_bits)
def _(emit: Emit, mask: Any) -> Any:
    packed = emit.builder.bitcast(mask, ir.IntType(emit.lanes))
    return emit.builder.zext(packed, ir.IntType(64))


def either(a: Vector, b: Vector) -> Vector:
    """Return a vector whose lanes are zero where both vectors' are, otherwise anything but zero.

    Examples
    --------
    >>> either(np.array([0.0, 0.0, 1.0, -3.0] * 2), np.array([0.0, 2.0, 0.0, 3.0] * 2))[:4] != 0
    array([False,  True,  True,  True])
    """
    return np.where(a != 0, a, b)


@instructions_of(either)
def _(emit: Emit, a: Any, b: Any) -> Any:
    builder = emit.builder
    bits = builder.or_(builder.bitcast(a, emit.bits), builder.bitcast(b, emit.bits))
    return builder.bitcast(bits, emit.vector)


# --- From a vector to one number -------------------------------------------------------------


def _tree(v: Any, combine: Callable[[Any, Any], Any]) -> Any:
    while len(v) > 1:
        half = len(v) // 2
        v = combine(v[:half], v[half:])
    return v[0]


def lane_sum(v: Vector) -> Scalar:
    """Return the sum of the lanes, always added in the same order: upper half to lower half.

    Examples
    --------
    >>> lane_sum(np.arange(8.0))
    np.float64(28.0)
    """
    return _tree(v, operator.add)


@instructions_of(lane_sum)
def _(emit: Emit, v: Any) -> Any:
    return emit.tree(v, emit.builder.fadd)


def lane_max(v: Vector) -> Scalar:
    """Return the largest lane; with a NaN among them, some lane or NaN.

    Examples
    --------
    >>> lane_max(np.arange(8.0))
    np.float64(7.0)
    """
    return _tree(v, maximum)


@instructions_of(lane_max)
def _(emit: Emit, v: Any) -> Any:
    builder = emit.builder
    return emit.tree(v, lambda a, b: builder.select(builder.fcmp_ordered(">", b, a), b, a))


def lane_min(v: Vector) -> Scalar:
    """Return the smallest lane; with a NaN among them, some lane or NaN.

    Examples
    --------
    >>> lane_min(np.arange(8.0))
    np.float64(0.0)
    """
    return _tree(v, minimum)


@instructions_of(lane_min)
def _(emit: Emit, v: Any) -> Any:
    builder = emit.builder
    return emit.tree(v, lambda a, b: builder.select(builder.fcmp_ordered("<", b, a), b, a))


def extract(v: Vector, i: Index) -> Scalar:
    """Return lane `i`, which may be known at run time only.

    Examples
    --------
    >>> extract(np.arange(8.0), 5)
    np.float64(5.0)
    """
    return _window(v, i, 1)[0]


@instructions_of(extract)
def _(emit: Emit, v: Any, i: Any) -> Any:
    return emit.builder.extract_element(v, i)


# --- Exponents -------------------------------------------------------------------------------


def scale_by_power_of_two(v: Vector, n: Vector) -> Vector:
    """Return v * 2**n, exactly, by adding to the exponent bits.

    Parameters
    ----------
    v : vector
        Normal numbers (not 0, subnormal, infinite or NaN, except where n is 0).
    n : vector
        Integral values such that v * 2**n is a normal number, below 2**21 in magnitude.

    Returns
    -------
    vector
        The scaled lanes.

    Examples
    --------
    >>> scale_by_power_of_two(np.full(8, 1.5), np.full(8, -3.0))[0]
    np.float64(0.1875)
    """
    with np.errstate(invalid="ignore"):  # NaN has no integer: any will do
        return np.ldexp(v, n.astype(np.int32))


@instructions_of(scale_by_power_of_two)
def _(emit: Emit, v: Any, n: Any) -> Any:
    # In n + 1.5 * 2**mantissa_bits the low bits are the integer n: AVX2 has no conversion of
    # float64 to int64.
    builder, width = emit.builder, emit.mantissa_bits
    shifted = builder.fadd(n, emit.constant(1.5 * 2.0**width))
    exponent = builder.shl(builder.bitcast(shifted, emit.bits), emit.integers(width))
    return builder.bitcast(builder.add(builder.bitcast(v, emit.bits), exponent), emit.vector)


def split_exponent(v: Vector) -> Pair:
    """Return (m, e) with v = m * 2**e and m in [sqrt(1/2), sqrt(2)), for positive normal numbers.

    Examples
    --------
    >>> m, e = split_exponent(np.full(8, 6.0))
    >>> m[0], e[0]
    (np.float64(0.75), np.float64(3.0))
    """
    m, e = np.frexp(v)
    small = m < v.dtype.type(np.sqrt(0.5))
    return np.where(small, m + m, m), np.where(small, e - 1, e).astype(v.dtype)


@instructions_of(split_exponent)
def _(emit: Emit, v: Any) -> Any:
    builder, width = emit.builder, emit.mantissa_bits
    bias = 2 ** (emit.dtype.bitwidth - width - 2) - 1
    as_float, as_bits = (np.float32, np.uint32) if width == 23 else (np.float64, np.uint64)
    root = emit.integers(int(as_float(np.sqrt(0.5)).view(as_bits)))
    # Counted from sqrt(1/2), the exponent bits change where e does.
    distance = builder.sub(builder.bitcast(v, emit.bits), root)
    fraction = builder.and_(distance, emit.integers(2**width - 1))
    m = builder.bitcast(builder.add(fraction, root), emit.vector)
    # Small integers become floats as the low mantissa bits of 2**width: AVX2 converts no int64.
    biased = builder.lshr(builder.add(distance, emit.integers(bias << width)), emit.integers(width))
    two_to_width = emit.integers((bias + width) << width)
    e = builder.bitcast(builder.or_(biased, two_to_width), emit.vector)
    return emit.rows([m, builder.fsub(e, emit.constant(2.0**width + bias))])


# --- bfloat16 --------------------------------------------------------------------------------


def round_bfloat16(v: Vector) -> Vector:
    """Return float32 lanes rounded as `fastmlp._bfloat16.rounded` does; float64 lanes as they are.

    Examples
    --------
    >>> round_bfloat16(np.full(16, 1.004, dtype=np.float32))[0]
    np.float32(1.0078125)
    """
    return rounded(v) if v.dtype == np.float32 else v


@instructions_of(round_bfloat16)
def _(emit: Emit, v: Any) -> Any:
    if emit.dtype != types.float32:
        return v
    builder = emit.builder
    bits = builder.bitcast(v, emit.bits)
    last = builder.and_(builder.lshr(bits, emit.integers(16)), emit.integers(1))
    nearest = builder.add(bits, builder.add(last, emit.integers(0x7FFF)))
    quiet = builder.or_(bits, emit.integers(0x00400000))
    is_nan = builder.fcmp_unordered("uno", v, v)
    chosen = builder.select(is_nan, quiet, nearest)
    upper = builder.and_(chosen, emit.integers(0xFFFF0000))
    return builder.bitcast(upper, emit.vector)


# --- Rows: tuples of vectors, unrolled -------------------------------------------------------


def rows(v: Vector, count: Count) -> Rows:
    """Return a tuple of ``len(count)`` copies of `v`.

    Examples
    --------
    >>> len(rows(np.zeros(8), (0,) * 6))
    6
    """
    return (v,) * len(count)


@instructions_of(rows)
def _(emit: Emit, v: Any, count: Any) -> Any:
    return emit.rows([v] * len(emit.signature.args[1]))


def load_rows(count: Count, p: Pointer, offset: Index, row_stride: Index) -> Rows:
    """Return the vectors at p[offset + r * row_stride] for r in ``range(len(count))``.

    Examples
    --------
    >>> [v[0] for v in load_rows((0, 0), np.arange(24.0), 1, 10)]
    [np.float64(1.0), np.float64(11.0)]
    """
    return tuple(load(p, offset + r * row_stride) for r in range(len(count)))


@instructions_of(load_rows)
def _(emit: Emit, count: Any, p: Any, offset: Any, row_stride: Any) -> Any:
    offsets = emit.row_offsets(offset, row_stride, len(emit.signature.args[0]))
    return emit.rows([emit.load(p, i) for i in offsets])


def store_rows(values: Rows, p: Pointer, offset: Index, row_stride: Index) -> Nothing:
    """Write vector r of a tuple to p[offset + r * row_stride], for every r.

    Examples
    --------
    >>> p = np.zeros(20)
    >>> store_rows((np.ones(8), np.ones(8)), p, 0, 10)
    >>> p.sum()
    np.float64(16.0)
    """
    for r, v in enumerate(values):
        store(p, offset + r * row_stride, v)


@instructions_of(store_rows)
def _(emit: Emit, values: Any, p: Any, offset: Any, row_stride: Any) -> None:
    vectors = emit.unpack(values)
    offsets = emit.row_offsets(offset, row_stride, len(vectors))
    for i, v in zip(offsets, vectors, strict=True):
        emit.store(p, i, v)


def fma_rows(acc: Rows, a: Pointer, rows: Indices, column: Index, w: Vector) -> Rows:
    """Return the tuple of acc[r] + a[rows[r] + column] * w: one step of a matmul tile.

    Examples
    --------
    >>> acc = (np.zeros(8), np.ones(8))
    >>> [v[0] for v in fma_rows(acc, np.arange(4.0), (0, 2), 1, np.full(8, 10.0))]
    [np.float64(10.0), np.float64(31.0)]
    """
    return tuple(fma(broadcast(a, r + column), w, v) for r, v in zip(rows, acc, strict=True))


@instructions_of(fma_rows)
def _(emit: Emit, acc: Any, a: Any, rows: Any, column: Any, w: Any) -> Any:
    vectors = emit.unpack(acc)
    begins = [emit.element(a, offset) for offset in emit.unpack(rows)]
    elements = [emit.splat(emit.builder.load(emit.element(p, column))) for p in begins]
    return emit.rows(
        [emit.call("llvm.fmuladd", x, w, v) for x, v in zip(elements, vectors, strict=True)]
    )


# --- Squares ---------------------------------------------------------------------------------


def transpose_square(
    source: Pointer,
    source_stride: Index,
    n_rows: Index,
    out: Pointer,
    out_stride: Index,
    n_columns: Index,
) -> Nothing:
    """Write out[c * out_stride + r] = source[r * source_stride + c] for as many r as lanes.

    Rows of the source from `n_rows` on are not read and count as zeros; of the result's rows, only
    the first `n_columns` are written. Both are at most the number of lanes.

    Examples
    --------
    >>> out = np.zeros(64)
    >>> transpose_square(np.arange(16.0), 8, 2, out, 8, 8)
    >>> out[8:16]
    array([1., 9., 0., 0., 0., 0., 0., 0.])
    """
    square = [load(source, r * source_stride) for r in range(n_rows)]
    square += [zero(source)] * (lanes(source) - n_rows)
    for c in range(n_columns):
        store(out, c * out_stride, np.array([row[c] for row in square]))


@instructions_of(transpose_square)
def _(
    emit: Emit,
    source: Any,
    source_stride: Any,
    n_rows: Any,
    out: Any,
    out_stride: Any,
    n_columns: Any,
) -> None:
    builder = emit.builder
    absent = builder.bitcast(cgutils.alloca_once_value(builder, emit.constant(0.0)), source.type)
    square = []
    for r, offset in enumerate(emit.row_offsets(n_rows.type(0), source_stride, emit.lanes)):
        is_there = builder.icmp_signed("<", n_rows.type(r), n_rows)
        row = builder.select(is_there, emit.element(source, offset), absent)
        square.append(emit.load(row, n_rows.type(0)))
    # A swap of the blocks off the diagonal, for blocks of every size (Eklundh 1972).
    size = emit.lanes // 2
    while size:
        for upper in (i for i in range(emit.lanes) if not i & size):
            a, b = square[upper], square[upper + size]
            low = [i + emit.lanes - size if i & size else i for i in range(emit.lanes)]
            square[upper] = emit.merge(a, b, low)
            square[upper + size] = emit.merge(a, b, [i + size for i in low])
        size //= 2
    for c, offset in enumerate(emit.row_offsets(n_rows.type(0), out_stride, emit.lanes)):
        with builder.if_then(builder.icmp_signed("<", n_rows.type(c), n_columns)):
            emit.store(out, offset, square[c])
