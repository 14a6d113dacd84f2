"""Operands copied so that tiles read them in their order: packed rows, picked and turned panels."""

from __future__ import annotations

from typing import NamedTuple

from fastmlp.backends.numba_backend.products.heights import in_tiles
from fastmlp.backends.numba_backend.vectors.pointers import Numbers, offset_of, smaller
from fastmlp.backends.numba_backend.vectors.records import value
from fastmlp.backends.numba_backend.vectors.simd import (
    advance,
    lanes,
    load,
    load_scalar,
    store,
    store_scalar,
    transpose_square,
)
from fastmlp.backends.numba_backend.vectors.types import (
    LANES_BYTES,
    Count,
    Index,
    Pointer,
    inlined,
    kernel,
)

#: Depth of one product where there is more: its rows and panel then stay in the caches.
DEPTH = 256
#: Rows of one product where there are more.
ROWS = 256
#: Elements of the place for rows that are packed, and of that for a panel's rows among these.
PACKED_ROWS = ROWS * (DEPTH + DEPTH // 2)
PACKED_SIZE = PACKED_ROWS + LANES_BYTES // 4 * (1 + DEPTH + DEPTH // 2)
#: Panels that packed rows must be multiplied with to be worth the copy.
WORTH_PACKING = 16


@value
class Source(NamedTuple):
    """Rows to pack: element k of row r is data[r * row_stride + k * depth_stride]."""

    data: Pointer
    row_stride: Index
    depth_stride: Index
    depth: Index
    out: Pointer


@inlined
def pack_some(count: Count, n_tiles: Index, source: Source, row: Index) -> Index:
    """Pack `n_tiles` tiles of ``len(count)`` rows from `row` on; return the row after them."""
    depth, stride = source.depth, source.row_stride
    for _ in range(n_tiles):
        tile, rows = advance(source.out, row * depth), advance(source.data, row * stride)
        for k in range(depth):
            if stride == 1:  # whole vectors: what is too much is overwritten by the next
                for r in range(0, len(count), lanes(tile)):  # a tile may be higher than a vector
                    store(tile, k * len(count) + r, load(rows, k * source.depth_stride + r))
                continue
            for r in range(len(count)):
                x = load_scalar(rows, r * stride + k * source.depth_stride)
                store_scalar(tile, k * len(count) + r, x)
        row += len(count)
    return row


@kernel
def pack_tiles(source: Source, n_rows: Index) -> None:
    """Copy rows in the order in which the tiles of a product read them, one tile after another.

    Where elements of a column lie side by side, whole vectors are read and written.
    """
    in_tiles(pack_some, n_rows, source, 0)


@kernel
def pick_rows(panel: Pointer, numbers: Numbers, n: Index, out: Pointer) -> None:
    """Copy the `n` rows of a panel that have these numbers."""
    for i in range(n):
        store(out, i * lanes(out), load(panel, offset_of(numbers, i, lanes(panel))))


@value
class Matrix(NamedTuple):
    """A matrix in panels, to be read by its rows: row i is column i of what is multiplied."""

    panels: Pointer
    panel_stride: Index
    n_rows: Index


@kernel
def turn_rows(matrix: Matrix, row: Index, first: Index, width: Index, out: Pointer) -> None:
    """Write a panel whose columns are a matrix's rows, from `row` on: as many as lanes.

    Its own rows are their columns from `first` on, a multiple of the lanes. Rows that there are
    not count as zeros.
    """
    step = lanes(out)
    for k in range(0, width, step):
        where = (first + k) // step * matrix.panel_stride + row * step
        count, rest = smaller(step, matrix.n_rows - row), smaller(step, width - k)
        square = advance(matrix.panels, where)
        transpose_square(square, step, count, advance(out, k * step), step, rest)
