"""SIMD vectors as Numba values.

A vector holds 64 bytes: 16 float32 or 8 float64 lanes. LLVM splits it into the registers that the
machine has (one on AVX-512, two on AVX2, four on SSE and NEON), so kernels are written once.

Every operation is an ordinary Python function with a plain NumPy meaning: a pointer is a 1-D
array that starts at the element pointed to, a vector an array of lanes, a mask a Boolean array.
That is what runs when Python calls it, and what runs inside kernels under
``NUMBA_DISABLE_JIT=1``, where running off the end of an array raises. Inside jitted code Numba
replaces the call by the instructions registered beside the function with ``_lowers``. The
annotations of the plain function (`Pointer`, `Index`, `Vector`, ...) are its Numba signature too.

There is no implicit conversion: vectors combine with vectors of the same type only
(``x * full(x, 2.0)``, not ``x * 2.0``). Indices and strides count elements, not bytes. Jitted code
checks no bounds, and a pointer does not keep its array alive: the caller must.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, get_type_hints

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import models, register_model

from fastmlp.backends.numba_backend.numba_target import register, register_kernel
from fastmlp.backends.numba_backend.numba_target.templates import Lowering

LANES_BYTES = 64

Array = Annotated[Any, "array"]
Pointer = Annotated[Any, "pointer"]
Vector = Annotated[Any, "vector"]
Mask = Annotated[Any, "mask"]
Like = Annotated[Any, "like"]  # a pointer or a vector: tells the lane type
Index = Annotated[Any, "index"]
Scalar = Annotated[Any, "scalar"]
Nothing = Annotated[None, "nothing"]
Count = Annotated[Any, "count"]  # a tuple whose length is a number known when compiling
Rows = Annotated[Any, "rows"]  # a tuple of vectors
Pair = Annotated[Any, "pair"]  # a tuple of two vectors
Indices = Annotated[Any, "indices"]  # a tuple of integers
Coefficients = Annotated[Any, "coefficients"]  # a tuple of floats

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Make a plain function callable from jitted code.

    From Python it stays the function it was; no optimization that changes results is allowed.

    Parameters
    ----------
    function : callable
        A function of pointers, vectors and numbers, at the top level of a module.

    Returns
    -------
    callable
        `function` itself.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.backends.numba_backend.vectors import simd
    >>> @simd.kernel
    ... def first(p):
    ...     return simd.load_scalar(p, 0)
    >>> first(np.ones(8))
    np.float64(1.0)
    """
    register_kernel(function, inline=False)
    return function


def inlined(function: F) -> F:
    """Make a plain function callable from jitted code, always inlined; otherwise as `kernel`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.backends.numba_backend.vectors import simd
    >>> @simd.inlined
    ... def double(v):
    ...     return v + v
    >>> double(np.ones(8))
    array([2., 2., 2., 2., 2., 2., 2., 2.])
    """
    register_kernel(function, inline=True)
    return function


# --- Types -----------------------------------------------------------------------------------


class VectorType(types.Type):
    """Numba type of a vector of `dtype` lanes."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        super().__init__(name=f"simd_vector({dtype})")


class MaskType(types.Type):
    """Numba type of one bit per lane of a vector of `dtype`."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        super().__init__(name=f"simd_mask({dtype})")


def _lane_count(dtype: types.Float) -> int:
    return LANES_BYTES * 8 // int(dtype.bitwidth)


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: VectorType) -> None:
        lane = dmm.lookup(fe_type.dtype).get_value_type()
        super().__init__(dmm, fe_type, ir.VectorType(lane, _lane_count(fe_type.dtype)))


@register_model(MaskType)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: MaskType) -> None:
        super().__init__(dmm, fe_type, ir.VectorType(ir.IntType(1), _lane_count(fe_type.dtype)))


def _lane_type(given: types.Type) -> types.Float | None:
    """Return the float type that a pointer, vector, mask, row tuple or array carries, if any."""
    element = given.dtype if isinstance(given, types.UniTuple) else given
    if isinstance(element, types.CPointer | VectorType | MaskType | types.Array):
        return element.dtype
    return None


def _formal_type(kind: str, given: types.Type, dtype: types.Float) -> Any:
    """Return the type an argument of `kind` is passed as, None when `given` does not fit."""
    if kind == "array":
        fits = isinstance(given, types.Array) and given.ndim == 1 and given.layout == "C"
        return given if fits else None
    if kind == "index":
        return types.intp if isinstance(given, types.Integer) else None
    if kind == "scalar":
        return dtype if isinstance(given, types.Integer | types.Float) else None
    if kind == "count":
        return given if isinstance(given, types.BaseTuple) else None
    if kind == "rows":
        fits = isinstance(given, types.UniTuple) and given.dtype == VectorType(dtype)
        return given if fits else None
    if kind == "indices":
        fits = isinstance(given, types.UniTuple) and given.dtype == types.int64
        return given if fits else None
    if kind == "coefficients":
        fits = isinstance(given, types.UniTuple) and given.dtype == types.float64
        return given if fits else None
    if kind == "like":
        return given if given in (types.CPointer(dtype), VectorType(dtype)) else None
    exact = {
        "pointer": types.CPointer(dtype),
        "vector": VectorType(dtype),
        "mask": MaskType(dtype),
    }[kind]
    return exact if given == exact else None


def _result_type(kind: str, dtype: types.Float, formals: list[types.Type]) -> types.Type:
    if kind == "rows":
        count = next(len(f) for f in formals if isinstance(f, types.BaseTuple))
        return types.UniTuple(VectorType(dtype), count)
    return {
        "pointer": types.CPointer(dtype),
        "vector": VectorType(dtype),
        "mask": MaskType(dtype),
        "pair": types.UniTuple(VectorType(dtype), 2),
        "scalar": dtype,
        "index": types.intp,
        "nothing": types.none,
    }[kind]


# --- Lowering --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Emit:
    """What an operation needs to write its instructions."""

    context: Any
    builder: Any
    signature: Any
    dtype: types.Float

    @property
    def lanes(self) -> int:
        return _lane_count(self.dtype)

    @property
    def scalar(self) -> Any:
        return self.context.get_value_type(self.dtype)

    @property
    def vector(self) -> Any:
        return ir.VectorType(self.scalar, self.lanes)

    @property
    def bits(self) -> Any:
        """The vector of integers as wide as the lanes."""
        return ir.VectorType(ir.IntType(self.dtype.bitwidth), self.lanes)

    @property
    def mantissa_bits(self) -> int:
        return 23 if self.dtype.bitwidth == 32 else 52

    def constant(self, value: float) -> Any:
        return ir.Constant(self.vector, [value] * self.lanes)

    def integers(self, value: int) -> Any:
        return ir.Constant(self.bits, [value] * self.lanes)

    def splat(self, x: Any) -> Any:
        undefined = ir.Constant(ir.VectorType(x.type, self.lanes), ir.Undefined)
        first = self.builder.insert_element(undefined, x, ir.Constant(ir.IntType(32), 0))
        return self.shuffle(first, [0] * self.lanes)

    def shuffle(self, v: Any, order: list[int]) -> Any:
        return self.merge(v, v, order)

    def merge(self, a: Any, b: Any, order: list[int]) -> Any:
        """Return the lanes of `a` and `b`, these counted on from those, in the given order."""
        mask = ir.Constant(ir.VectorType(ir.IntType(32), len(order)), order)
        return self.builder.shuffle_vector(a, b, mask)

    def call(self, name: str, *operands: Any) -> Any:
        """Call the LLVM intrinsic `name` on vectors of this type."""
        function = cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(self.vector, [self.vector] * len(operands)),
            f"{name}.v{self.lanes}f{self.dtype.bitwidth}",
        )
        return self.builder.call(function, operands)

    def element(self, p: Any, i: Any) -> Any:
        return self.builder.gep(p, [i], inbounds=True)

    def load(self, p: Any, i: Any) -> Any:
        where = self.builder.bitcast(self.element(p, i), self.vector.as_pointer())
        return self.builder.load(where, align=self.dtype.bitwidth // 8)

    def store(self, p: Any, i: Any, v: Any) -> None:
        where = self.builder.bitcast(self.element(p, i), self.vector.as_pointer())
        self.builder.store(v, where, align=self.dtype.bitwidth // 8)

    def row_offsets(self, offset: Any, row_stride: Any, count: int) -> list[Any]:
        offsets = [offset]
        while len(offsets) < count:
            offsets.append(self.builder.add(offsets[-1], row_stride))
        return offsets[:count]

    def rows(self, vectors: list[Any]) -> Any:
        return self.context.make_tuple(self.builder, self.signature.return_type, vectors)

    def unpack(self, rows: Any) -> list[Any]:
        return list(cgutils.unpack_tuple(self.builder, rows))

    def tree(self, v: Any, combine: Callable[[Any, Any], Any]) -> Any:
        """Fold the upper half onto the lower one until one lane is left."""
        width = self.lanes
        while width > 1:
            width //= 2
            lower = self.shuffle(v, list(range(width)))
            upper = self.shuffle(v, list(range(width, 2 * width)))
            v = combine(lower, upper)
        return self.builder.extract_element(v, ir.Constant(ir.IntType(32), 0))


def _register(
    function: Callable[..., Any], kinds: tuple[str, ...], result: str, lowering: Lowering
) -> None:
    """Teach Numba to type and to lower calls of `function`."""

    def typer(*given: types.Type) -> Any:
        dtype = next((lane for t in given if (lane := _lane_type(t)) is not None), None)
        if len(given) != len(kinds) or dtype not in (types.float32, types.float64):
            return None
        formals = [_formal_type(kind, t, dtype) for kind, t in zip(kinds, given, strict=True)]
        if None in formals:
            return None
        return _result_type(result, dtype, formals)(*formals)

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        dtype = next(lane for t in signature.args if (lane := _lane_type(t)) is not None)
        value = lowering(_Emit(context, builder, signature, dtype), *arguments)
        return context.get_dummy_value() if result == "nothing" else value

    classes = {"vector": VectorType, "mask": MaskType}
    register(function, typer, lower, *(classes.get(kind, types.Any) for kind in kinds))


def _lowers(function: Callable[..., Any]) -> Callable[[Lowering], Lowering]:
    """Register the decorated instructions as what `function` means inside jitted code."""
    hints = get_type_hints(function, include_extras=True)
    result = hints.pop("return").__metadata__[0]
    kinds = tuple(hint.__metadata__[0] for hint in hints.values())

    def decorate(lowering: Lowering) -> Lowering:
        _register(function, kinds, result, lowering)
        return lowering

    return decorate


for _operator, _instruction in {
    operator.add: "fadd",
    operator.sub: "fsub",
    operator.mul: "fmul",
    operator.truediv: "fdiv",
}.items():
    _register(
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
    _register(
        _operator,
        ("vector", "vector"),
        "mask",
        lambda emit, a, b, sign=_sign: emit.builder.fcmp_ordered(sign, a, b),
    )
_register(
    operator.ne,
    ("vector", "vector"),
    "mask",
    lambda emit, a, b: emit.builder.fcmp_unordered("!=", a, b),  # NaN differs from itself
)

_register(operator.neg, ("vector",), "vector", lambda emit, v: emit.builder.fneg(v))
_register(operator.and_, ("mask", "mask"), "mask", lambda emit, a, b: emit.builder.and_(a, b))
_register(operator.or_, ("mask", "mask"), "mask", lambda emit, a, b: emit.builder.or_(a, b))
_register(operator.invert, ("mask",), "mask", lambda emit, a: emit.builder.not_(a))


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


@_lowers(lanes)
def _(emit: _Emit, like: Any) -> Any:
    return emit.context.get_constant(types.intp, emit.lanes)


def pointer(array: Array, index: Index) -> Pointer:
    """Return a pointer to element `index` of a contiguous 1-D float array.

    Examples
    --------
    >>> load_scalar(pointer(np.arange(4.0), 1), 2)
    np.float64(3.0)
    """
    if array.ndim != 1 or not array.flags.c_contiguous:
        raise ValueError("a pointer needs a contiguous 1-D array")
    return advance(array, index)


@_lowers(pointer)
def _(emit: _Emit, array: Any, index: Any) -> Any:
    make = emit.context.make_array(emit.signature.args[0])
    return emit.element(make(emit.context, emit.builder, value=array).data, index)


def advance(p: Pointer, n: Index) -> Pointer:
    """Return the pointer `n` elements after `p`; `n` is not negative.

    Examples
    --------
    >>> load_scalar(advance(np.arange(4.0), 3), 0)
    np.float64(3.0)
    """
    return _window(p, n, len(p) - n)


@_lowers(advance)
def _(emit: _Emit, p: Any, n: Any) -> Any:
    return emit.element(p, n)


def load(p: Pointer, i: Index) -> Vector:
    """Return the vector of p[i], p[i + 1], ...; no alignment is needed.

    Examples
    --------
    >>> load(np.arange(10.0), 2)
    array([2., 3., 4., 5., 6., 7., 8., 9.])
    """
    return _window(p, i, lanes(p)).copy()


@_lowers(load)
def _(emit: _Emit, p: Any, i: Any) -> Any:
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


@_lowers(store)
def _(emit: _Emit, p: Any, i: Any, v: Any) -> None:
    emit.store(p, i, v)


def broadcast(p: Pointer, i: Index) -> Vector:
    """Return a vector with every lane p[i].

    Examples
    --------
    >>> broadcast(np.arange(4.0), 3)
    array([3., 3., 3., 3., 3., 3., 3., 3.])
    """
    return full(p, load_scalar(p, i))


@_lowers(broadcast)
def _(emit: _Emit, p: Any, i: Any) -> Any:
    return emit.splat(emit.builder.load(emit.element(p, i)))


def load_scalar(p: Pointer, i: Index) -> Scalar:
    """Return p[i].

    Examples
    --------
    >>> load_scalar(np.arange(4.0), 3)
    np.float64(3.0)
    """
    return _window(p, i, 1)[0]


@_lowers(load_scalar)
def _(emit: _Emit, p: Any, i: Any) -> Any:
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


@_lowers(store_scalar)
def _(emit: _Emit, p: Any, i: Any, x: Any) -> None:
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


@_lowers(full)
def _(emit: _Emit, like: Any, x: Any) -> Any:
    return emit.splat(x)


def zero(like: Like) -> Vector:
    """Return a vector of zeros, of the lane type of a pointer or vector.

    Examples
    --------
    >>> zero(np.ones(8))
    array([0., 0., 0., 0., 0., 0., 0., 0.])
    """
    return full(like, 0.0)


@_lowers(zero)
def _(emit: _Emit, like: Any) -> Any:
    return emit.constant(0.0)


def constant(like: Like, single: Scalar, double: Scalar) -> Vector:
    """Return a vector filled with `single` if the lanes are float32, with `double` if float64.

    Examples
    --------
    >>> constant(np.zeros(8), 88.0, 709.0)[0]
    np.float64(709.0)
    """
    return full(like, single if like.dtype == np.float32 else double)


@_lowers(constant)
def _(emit: _Emit, like: Any, single: Any, double: Any) -> Any:
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


@_lowers(fma)
def _(emit: _Emit, a: Any, b: Any, c: Any) -> Any:
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


@_lowers(maximum)
def _(emit: _Emit, a: Any, b: Any) -> Any:
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


@_lowers(minimum)
def _(emit: _Emit, a: Any, b: Any) -> Any:
    return emit.builder.select(emit.builder.fcmp_ordered("<", b, a), b, a)


def absolute(v: Vector) -> Vector:
    """Return the absolute value of every lane.

    Examples
    --------
    >>> absolute(np.full(8, -2.0))[0]
    np.float64(2.0)
    """
    return np.abs(v)


@_lowers(absolute)
def _(emit: _Emit, v: Any) -> Any:
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


@_lowers(sqrt)
def _(emit: _Emit, v: Any) -> Any:
    return emit.call("llvm.sqrt", v)


def floor(v: Vector) -> Vector:
    """Return the largest integral value not above every lane.

    Examples
    --------
    >>> floor(np.full(8, -1.5))[0]
    np.float64(-2.0)
    """
    return np.floor(v)


@_lowers(floor)
def _(emit: _Emit, v: Any) -> Any:
    return emit.call("llvm.floor", v)


def round_even(v: Vector) -> Vector:
    """Return the nearest integral value of every lane, halves to the even one.

    Examples
    --------
    >>> round_even(np.array([0.5, 1.5, 2.5, -0.7] * 2))[:4]
    array([ 0.,  2.,  2., -1.])
    """
    return np.rint(v)


@_lowers(round_even)
def _(emit: _Emit, v: Any) -> Any:
    return emit.call("llvm.rint", v)


def copysign(magnitude: Vector, sign: Vector) -> Vector:
    """Return the absolute value of `magnitude` with the sign of `sign`, lane by lane.

    Examples
    --------
    >>> copysign(np.full(8, 3.0), np.full(8, -0.0))[0]
    np.float64(-3.0)
    """
    return np.copysign(magnitude, sign)


@_lowers(copysign)
def _(emit: _Emit, magnitude: Any, sign: Any) -> Any:
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


@_lowers(polynomial)
def _(emit: _Emit, x: Any, single: Any, double: Any) -> Any:
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


@_lowers(select)
def _(emit: _Emit, mask: Any, a: Any, b: Any) -> Any:
    return emit.builder.select(mask, a, b)


def first_lanes(like: Like, n: Index) -> Mask:
    """Return the mask of the lanes whose index is below `n`.

    Examples
    --------
    >>> first_lanes(np.zeros(8), 3).sum()
    np.int64(3)
    """
    return np.arange(lanes(like)) < n


@_lowers(first_lanes)
def _(emit: _Emit, like: Any, n: Any) -> Any:
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


@_lowers(lane_bits)
def _(emit: _Emit, mask: Any) -> Any:
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


@_lowers(either)
def _(emit: _Emit, a: Any, b: Any) -> Any:
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


@_lowers(lane_sum)
def _(emit: _Emit, v: Any) -> Any:
    return emit.tree(v, emit.builder.fadd)


def lane_max(v: Vector) -> Scalar:
    """Return the largest lane; with a NaN among them, some lane or NaN.

    Examples
    --------
    >>> lane_max(np.arange(8.0))
    np.float64(7.0)
    """
    return _tree(v, maximum)


@_lowers(lane_max)
def _(emit: _Emit, v: Any) -> Any:
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


@_lowers(lane_min)
def _(emit: _Emit, v: Any) -> Any:
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


@_lowers(extract)
def _(emit: _Emit, v: Any, i: Any) -> Any:
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


@_lowers(scale_by_power_of_two)
def _(emit: _Emit, v: Any, n: Any) -> Any:
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


@_lowers(split_exponent)
def _(emit: _Emit, v: Any) -> Any:
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


# --- Rows: tuples of vectors, unrolled -------------------------------------------------------


def rows(v: Vector, count: Count) -> Rows:
    """Return a tuple of ``len(count)`` copies of `v`.

    Examples
    --------
    >>> len(rows(np.zeros(8), (0,) * 6))
    6
    """
    return (v,) * len(count)


@_lowers(rows)
def _(emit: _Emit, v: Any, count: Any) -> Any:
    return emit.rows([v] * len(emit.signature.args[1]))


def load_rows(count: Count, p: Pointer, offset: Index, row_stride: Index) -> Rows:
    """Return the vectors at p[offset + r * row_stride] for r in ``range(len(count))``.

    Examples
    --------
    >>> [v[0] for v in load_rows((0, 0), np.arange(24.0), 1, 10)]
    [np.float64(1.0), np.float64(11.0)]
    """
    return tuple(load(p, offset + r * row_stride) for r in range(len(count)))


@_lowers(load_rows)
def _(emit: _Emit, count: Any, p: Any, offset: Any, row_stride: Any) -> Any:
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


@_lowers(store_rows)
def _(emit: _Emit, values: Any, p: Any, offset: Any, row_stride: Any) -> None:
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


@_lowers(fma_rows)
def _(emit: _Emit, acc: Any, a: Any, rows: Any, column: Any, w: Any) -> Any:
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


@_lowers(transpose_square)
def _(
    emit: _Emit,
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
