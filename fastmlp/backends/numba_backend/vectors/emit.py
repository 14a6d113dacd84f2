"""How an operation on vectors becomes instructions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_type_hints

from fastmlp.backends.numba_backend.numba_target import register
from fastmlp.backends.numba_backend.numba_target.later import Lowering, cgutils, ir, types
from fastmlp.backends.numba_backend.vectors.types import kinds


def _lane_type(given: types.Type) -> types.Float | None:
    """Return the float type that a pointer, vector, mask, row tuple or array carries, if any."""
    element = given.dtype if isinstance(given, types.UniTuple) else given
    if isinstance(element, types.CPointer | kinds.VectorType | kinds.MaskType | types.Array):
        return element.dtype
    return None


def _formal_type(kind: str, given: types.Type, dtype: types.Float) -> Any:
    """Return the type an argument of `kind` is passed as, None when `given` does not fit."""
    if kind == "array":
        fits = isinstance(given, types.Array) and given.ndim == 1 and given.layout == "C"
        return given if fits or given == types.CPointer(dtype) else None
    if kind == "index":
        return types.intp if isinstance(given, types.Integer) else None
    if kind == "scalar":
        return dtype if isinstance(given, types.Integer | types.Float) else None
    if kind == "count":
        return given if isinstance(given, types.BaseTuple) else None
    if kind == "rows":
        fits = isinstance(given, types.UniTuple) and given.dtype == kinds.VectorType(dtype)
        return given if fits else None
    if kind == "indices":
        fits = isinstance(given, types.UniTuple) and given.dtype == types.int64
        return given if fits else None
    if kind == "coefficients":
        fits = isinstance(given, types.UniTuple) and given.dtype == types.float64
        return given if fits else None
    if kind == "like":
        return given if given in (types.CPointer(dtype), kinds.VectorType(dtype)) else None
    exact = {
        "pointer": types.CPointer(dtype),
        "vector": kinds.VectorType(dtype),
        "mask": kinds.MaskType(dtype),
    }[kind]
    return exact if given == exact else None


def _result_type(kind: str, dtype: types.Float, formals: list[types.Type]) -> types.Type:
    if kind == "rows":
        count = next(len(f) for f in formals if isinstance(f, types.BaseTuple))
        return types.UniTuple(kinds.VectorType(dtype), count)
    return {
        "pointer": types.CPointer(dtype),
        "vector": kinds.VectorType(dtype),
        "mask": kinds.MaskType(dtype),
        "pair": types.UniTuple(kinds.VectorType(dtype), 2),
        "scalar": dtype,
        "index": types.intp,
        "nothing": types.none,
    }[kind]


@dataclass(frozen=True)
class Emit:
    """What an operation needs to write its instructions."""

    context: Any
    builder: Any
    signature: Any
    dtype: types.Float

    @property
    def lanes(self) -> int:
        return kinds.lane_count(self.dtype)

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


def register_operation(
    function: Callable[..., Any], words: tuple[str, ...], result: str, lowering: Lowering
) -> None:
    """Teach Numba to type and to lower calls of `function`."""

    def typer(*given: types.Type) -> Any:
        dtype = next((lane for t in given if (lane := _lane_type(t)) is not None), None)
        if len(given) != len(words) or dtype not in (types.float32, types.float64):
            return None
        formals = [_formal_type(word, t, dtype) for word, t in zip(words, given, strict=True)]
        if None in formals:
            return None
        return _result_type(result, dtype, formals)(*formals)

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        dtype = next(lane for t in signature.args if (lane := _lane_type(t)) is not None)
        value = lowering(Emit(context, builder, signature, dtype), *arguments)
        return context.get_dummy_value() if result == "nothing" else value

    def teaching() -> tuple[Any, ...]:
        classes = {"vector": kinds.VectorType, "mask": kinds.MaskType}
        formals = (classes.get(word, types.Any) for word in words)
        return function, typer, lower, *formals

    register(teaching)


def instructions_of(function: Callable[..., Any]) -> Callable[[Lowering], Lowering]:
    """Register the decorated instructions as what `function` means inside jitted code."""
    hints = get_type_hints(function, include_extras=True)
    result = hints.pop("return").__metadata__[0]
    words = tuple(hint.__metadata__[0] for hint in hints.values())

    def decorate(lowering: Lowering) -> Lowering:
        register_operation(function, words, result, lowering)
        return lowering

    return decorate
