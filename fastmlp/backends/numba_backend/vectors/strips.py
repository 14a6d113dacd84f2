"""Columns of rows, a vector wide: what element-wise kernels and tiles work on."""

from __future__ import annotations

from typing import NamedTuple

from fastmlp.backends.numba_backend.vectors.records import value
from fastmlp.backends.numba_backend.vectors.simd import advance
from fastmlp.backends.numba_backend.vectors.types import Index, Pointer, inlined


@value
class Strip(NamedTuple):
    """Some rows, a vector wide: that of row r is at data[r * stride]."""

    data: Pointer
    stride: Index


@inlined
def from_row(strip: Strip, row: Index) -> Strip:
    """Return a strip from one of its rows on."""
    return Strip(advance(strip.data, row * strip.stride), strip.stride)
