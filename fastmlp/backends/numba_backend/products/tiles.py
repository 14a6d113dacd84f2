"""The tile kernels: one matrix product of rows with a panel serves every pass of a layer.

A panel is `lanes` columns of a matrix, stored row after row, so that a product streams it. In
these terms the forward pass multiplies activations by weight panels, the input gradient deltas by
panels of the transposed weights, and the weight gradient transposed activations (the same array,
its strides swapped) by panels of deltas.

Every element is summed in the order of its terms, one fused multiply-add at a time, wherever tiles
begin: results do not depend on how rows are divided among calls.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fastmlp.backends.numba_backend.products.heights import in_tiles
from fastmlp.backends.numba_backend.products.prefetch import Ahead, take_requests
from fastmlp.backends.numba_backend.vectors.pointers import (
    Numbers,
    address_of,
    offset_of,
    offsets_of,
    prefetch,
)
from fastmlp.backends.numba_backend.vectors.records import value
from fastmlp.backends.numba_backend.vectors.simd import fma_rows, lanes, load, load_rows, store_rows
from fastmlp.backends.numba_backend.vectors.strips import Strip, from_row
from fastmlp.backends.numba_backend.vectors.types import (
    Count,
    Index,
    Indices,
    Pointer,
    inlined,
    kernel,
)


@value
class Terms(NamedTuple):
    """What sums consist of: column columns[k] of the rows times row numbers[k] of a panel.

    A list that is None has all numbers, and costs no time.
    """

    columns: Numbers | None
    column_stride: Index
    panel: Pointer
    numbers: Numbers | None
    depth: Index  # how many terms


@value
class Product(NamedTuple):
    """Rows times a panel: out[r] = initial[r] + sum_k a[r, columns[k]] panel[numbers[k]].

    Element (r, k) of the rows is a[rows[r] * row_stride + columns[k] * column_stride].
    """

    a: Pointer
    rows: Numbers | None
    row_stride: Index
    terms: Terms
    initial: Strip  # may be `out`; with a stride of 0 all rows begin with one vector
    out: Strip
    ahead: Ahead


@inlined
def multiply_tile(
    add_terms: Any,
    count: Count,
    a: Pointer,
    starts: Indices,
    terms: Terms,
    initial: Strip,
    out: Strip,
    ahead: Ahead,
) -> None:
    """Write ``len(count)`` rows of a product, which begin in `a` at `starts`.

    `add_terms` is `fma_rows`, or `dot_rows` where elements of both factors are pairs of terms.
    """
    acc = load_rows(count, initial.data, 0, initial.stride)
    panel, columns, stride = terms.panel, terms.columns, terms.column_stride
    even, width = terms.depth // 2 * 2, lanes(panel)
    address, pace = take_requests(ahead, terms.depth // 2, address_of(panel, 0))
    for k in range(0, even, 2):  # two at a time halve the cost of the loop itself
        prefetch(address)
        address += pace
        w = load(panel, offset_of(terms.numbers, k, width))
        acc = add_terms(acc, a, starts, offset_of(columns, k, stride), w)
        w = load(panel, offset_of(terms.numbers, k + 1, width))
        acc = add_terms(acc, a, starts, offset_of(columns, k + 1, stride), w)
    if even < terms.depth:
        w = load(panel, offset_of(terms.numbers, even, width))
        acc = add_terms(acc, a, starts, offset_of(columns, even, stride), w)
    store_rows(acc, out.data, 0, out.stride)


@inlined
def multiply_spread_tiles(count: Count, n_tiles: Index, product: Product, row: Index) -> Index:
    """Compute `n_tiles` tiles of ``len(count)`` rows from `row` on; return the row after them."""
    for _ in range(n_tiles):
        starts = offsets_of(count, product.rows, row, product.row_stride)
        initial, out = from_row(product.initial, row), from_row(product.out, row)
        terms, ahead = product.terms, product.ahead
        multiply_tile(fma_rows, count, product.a, starts, terms, initial, out, ahead)
        row += len(count)
    return row


@inlined
def multiply_packed_tiles(count: Count, n_tiles: Index, product: Product, row: Index) -> Index:
    """Do what `multiply_spread_tiles` does with rows as `packing.pack_tiles` writes them.

    Their strides are not looked at: distances are constants.
    """
    given = product.terms
    for _ in range(n_tiles):
        starts = offsets_of(count, None, row * given.depth, 1)
        terms = Terms(None, len(count), given.panel, given.numbers, given.depth)
        initial, out = from_row(product.initial, row), from_row(product.out, row)
        multiply_tile(fma_rows, count, product.a, starts, terms, initial, out, product.ahead)
        row += len(count)
    return row


@kernel
def multiply_spread(n_rows: Index, product: Product) -> None:
    """Write the product of rows with a panel."""
    in_tiles(multiply_spread_tiles, n_rows, product, 0)


@kernel
def multiply_packed(n_rows: Index, product: Product) -> None:
    """Write the product of packed rows with a panel."""
    in_tiles(multiply_packed_tiles, n_rows, product, 0)


@inlined
def multiply_panel(packed: Any, n_rows: Index, product: Product) -> None:
    """Write the product of rows, which may be packed, with a panel."""
    if packed:
        multiply_packed(n_rows, product)
    else:
        multiply_spread(n_rows, product)
