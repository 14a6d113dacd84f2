"""The Numba types of what kernels are written in, and the values that LLVM sees of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import models, register_model

from fastmlp.backends.numba_backend.vectors.types import LANES_BYTES


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


def lane_count(dtype: types.Float) -> int:
    """Return how many lanes of a type a vector has.

    Examples
    --------
    >>> lane_count(types.float32)
    16
    """
    return LANES_BYTES * 8 // int(dtype.bitwidth)


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: VectorType) -> None:
        lane = dmm.lookup(fe_type.dtype).get_value_type()
        super().__init__(dmm, fe_type, ir.VectorType(lane, lane_count(fe_type.dtype)))


@register_model(MaskType)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: MaskType) -> None:
        super().__init__(dmm, fe_type, ir.VectorType(ir.IntType(1), lane_count(fe_type.dtype)))


class BFloat(ir.Type):
    """LLVM's type of a bfloat16, which llvmlite has not."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BFloat)

    def __hash__(self) -> int:
        return hash(BFloat)


class RecordType(types.Type):
    """Numba type of a record, and of a pointer to records of its kind: of the first of them."""

    def __init__(self, kind: Any) -> None:
        self.dtype = kind.dtype
        super().__init__(name=f"record({kind.__name__})")


@register_model(RecordType)
class _RecordModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: RecordType) -> None:
        super().__init__(dmm, fe_type, ir.IntType(8).as_pointer())


class AddressesType(types.Type):
    """Numba type of the address of a named tuple as C has it: of pointers and int64, in order."""

    def __init__(self, kind: Any, fields: Iterable[types.Type]) -> None:
        self.kind, self.fields = kind, tuple(fields)
        super().__init__(name=f"addresses({kind.__name__}, {', '.join(map(str, self.fields))})")


register_model(AddressesType)(_RecordModel)
