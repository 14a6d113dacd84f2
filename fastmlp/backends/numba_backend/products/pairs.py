"""Products of pairs of numbers rounded to bfloat16, which some processors multiply at once.

Their factors are copied: rows as pairs of neighbouring elements, panels as pairs of neighbouring
rows. A pair takes the place of one float32, so that the tiles are those of other products, of half
as many terms. Where a product has an odd number of terms, the last is paired with a zero.

These are part of programs of their own, whose `Room` has a place for pairs: others would have to
compile them and never call them.
"""

from __future__ import annotations

from fastmlp.backends.numba_backend.machine import VECTORS
from fastmlp.backends.numba_backend.plan import Layer, Plan
from fastmlp.backends.numba_backend.products.chunks import CHUNK
from fastmlp.backends.numba_backend.products.heights import in_tiles
from fastmlp.backends.numba_backend.products.packing import PACKED_ROWS, ROWS, Source
from fastmlp.backends.numba_backend.products.rows import (
    Panels,
    Room,
    Rows,
    Strips,
    ask_for_panel,
    asks_ahead,
    initial_of,
    multiply_rows,
    panel_at,
    portion_of,
)
from fastmlp.backends.numba_backend.products.tiles import Product, Terms, multiply_tile
from fastmlp.backends.numba_backend.vectors.pairs import dot_rows, pair_lanes, pair_vectors
from fastmlp.backends.numba_backend.vectors.pointers import (
    by_presence,
    larger,
    offsets_of,
    smaller,
)
from fastmlp.backends.numba_backend.vectors.simd import (
    advance,
    first_lanes,
    lanes,
    load,
    select,
    store,
    zero,
)
from fastmlp.backends.numba_backend.vectors.strips import Strip, from_row
from fastmlp.backends.numba_backend.vectors.types import (
    LANES_BYTES,
    Count,
    Index,
    Pointer,
    Vector,
    inlined,
    kernel,
)

#: Whether layers are multiplied in pairs at all.
IN_PAIRS = VECTORS.multiplies_pairs
#: Inputs and units from which on a layer is multiplied in pairs; below, copies cost what they save.
PAIRED_WIDTH = 64
#: Rows of a batch, or to predict, from which on it is so: fewer serve too few products for a copy.
PAIRED_ROWS = 16
#: Pairs of terms of a gradient, for which a thread has room; a larger batch's is summed unpaired.
MOST_PAIRS = PACKED_ROWS // CHUNK
#: Elements of a thread's place for a panel of pairs.
PAIRS_SIZE = MOST_PAIRS * LANES_BYTES // 4


@inlined
def place_of_pairs(plan: Plan, memory: Pointer, thread: Index) -> Pointer:
    """Return a thread's place for pairs."""
    return advance(memory, plan.pairs + thread * PAIRS_SIZE)


@inlined
def sums_pairs(layer: Layer, n_rows: Index) -> bool:
    """Return whether the gradient of a layer's weights by a batch is a sum of pairs."""
    return layer.paired != 0 and n_rows <= 2 * MOST_PAIRS


@inlined
def _piece_of_row(row: Pointer, first: Index, width: Index) -> Vector:
    """Return the vector of a row's elements from `first` on; those from `width` on are zero."""
    if first >= width:
        return zero(row)
    piece = load(row, first)
    if first + lanes(row) <= width:
        return piece
    return select(first_lanes(row, width - first), piece, zero(row))


@kernel
def pair_rows(source: Source, n_rows: Index, out_stride: Index) -> None:
    """Write the pairs of neighbouring elements of rows, each row `out_stride` behind the last."""
    step, width = lanes(source.out), source.depth
    for r in range(n_rows):
        row, out = advance(source.data, r * source.row_stride), advance(source.out, r * out_stride)
        for k in range(0, width, 2 * step):
            a, b = _piece_of_row(row, k, width), _piece_of_row(row, k + step, width)
            store(out, k // 2, pair_lanes(a, b))


@kernel
def pair_terms(source: Source, width: Index, out_stride: Index) -> None:
    """Write the pairs of vectors of neighbouring rows, `width` elements of each.

    A row of pairs is `out_stride` behind the last one; the rows, `source.depth` of them, are
    `source.depth_stride` apart.
    """
    step, stride, n = lanes(source.out), source.depth_stride, source.depth
    even = n // 2 * 2
    for k in range(0, even, 2):
        row, below = advance(source.data, k * stride), advance(source.data, (k + 1) * stride)
        out = advance(source.out, k // 2 * out_stride)
        for i in range(0, width, step):
            store(out, i, pair_vectors(load(row, i), load(below, i)))
    if even < n:
        row, out = advance(source.data, even * stride), advance(source.out, even // 2 * out_stride)
        for i in range(0, width, step):
            store(out, i, pair_vectors(load(row, i), zero(row)))


@inlined
def pair_panel(panel: Pointer, n: Index, out: Pointer) -> None:
    """Write the pairs of neighbouring rows of a panel."""
    pair_terms(Source(panel, 1, lanes(panel), n, out), lanes(panel), lanes(panel))


@inlined
def n_pairs(n: Index) -> Index:
    """Return how many pairs hold `n` numbers."""
    return (n + 1) // 2


@inlined
def _multiply_tiles_of_pairs(count: Count, n_tiles: Index, product: Product, row: Index) -> Index:
    for _ in range(n_tiles):
        starts = offsets_of(count, None, row, product.row_stride)
        initial, out = from_row(product.initial, row), from_row(product.out, row)
        terms, ahead = product.terms, product.ahead
        multiply_tile(dot_rows, count, product.a, starts, terms, initial, out, ahead)
        row += len(count)
    return row


@kernel
def multiply_pairs(n_rows: Index, product: Product) -> None:
    """Write the product of rows with a panel, both of pairs."""
    in_tiles(_multiply_tiles_of_pairs, n_rows, product, 0)


@kernel
def multiply_paired_rows(rows: Rows, panels: Panels, out: Strips, room: Room) -> None:
    """Do what `multiply_rows` does with numbers that bfloat16 holds, in pairs."""
    step, depth = lanes(rows.data), panels.depth
    n_panels, part = out.last_panel - out.first_panel, portion_of(depth)
    asks = asks_ahead(depth * n_panels * step, room.ahead)
    copy = advance(room.packed, PACKED_ROWS + step)
    # An odd number of cache lines, so that a column of a tile spreads over the whole cache.
    stride = ((n_pairs(part) + step - 1) // step | 1) * step
    for block in range(0, rows.n, ROWS):
        count = smaller(ROWS, rows.n - block)
        for begin in range(0, larger(depth, 1), larger(part, 1)):
            width = smaller(part, depth - begin)
            a = advance(rows.data, block * rows.stride + begin)
            pair_rows(Source(a, rows.stride, 1, width, room.packed), count, stride)
            for p in range(out.first_panel, out.last_panel):
                where = p * out.panel_stride + block * out.row_stride
                strip = Strip(advance(out.data, where), out.row_stride)
                panel = panel_at(panels, p, begin, width, copy)
                pair_panel(panel, width, room.pairs)
                if asks and p + 1 < out.last_panel:
                    ask_for_panel(panels, p + 1, begin, width, room.ahead)
                terms = Terms(None, 1, room.pairs, None, n_pairs(width))
                initial = initial_of(panels, p, begin, strip)
                product = Product(room.packed, None, stride, terms, initial, strip, room.ahead)
                multiply_pairs(count, product)


@inlined
def _multiply_in_full(layer: Layer, rows: Rows, panels: Panels, out: Strips, room: Room) -> None:
    multiply_rows(rows, panels, out, room)


@inlined
def _multiply_either(layer: Layer, rows: Rows, panels: Panels, out: Strips, room: Room) -> None:
    if layer.paired != 0:
        multiply_paired_rows(rows, panels, out, room)
    else:
        multiply_rows(rows, panels, out, room)


@inlined
def multiply_by_layer(layer: Layer, rows: Rows, panels: Panels, out: Strips, room: Room) -> None:
    """Write the products of rows with some panels of a layer's weights, or of their transpose."""
    multiply = by_presence(room.pairs, _multiply_either, _multiply_in_full)
    multiply(layer, rows, panels, out, room)
