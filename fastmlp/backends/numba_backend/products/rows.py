"""Products of rows with a matrix: panels and portions in an order that keeps them in the caches."""

from __future__ import annotations

from typing import NamedTuple

from fastmlp.backends.numba_backend.plan import Layer, Net
from fastmlp.backends.numba_backend.products.packing import (
    DEPTH,
    PACKED_ROWS,
    ROWS,
    WORTH_PACKING,
    Matrix,
    Source,
    pack_tiles,
    pick_rows,
    turn_rows,
)
from fastmlp.backends.numba_backend.products.prefetch import Ahead, list_pieces
from fastmlp.backends.numba_backend.products.tiles import (
    Product,
    Terms,
    multiply_panel,
    multiply_spread,
)
from fastmlp.backends.numba_backend.vectors.pointers import (
    Numbers,
    advance_index,
    larger,
    leads_somewhere,
    load_index,
    nowhere,
    smaller,
)
from fastmlp.backends.numba_backend.vectors.records import value
from fastmlp.backends.numba_backend.vectors.simd import advance, lanes
from fastmlp.backends.numba_backend.vectors.strips import Strip
from fastmlp.backends.numba_backend.vectors.types import Index, Pointer, inlined, kernel

#: Elements of a matrix from which on its weights lie beyond the second-level cache.
BEYOND_CACHE = 1 << 18


@value
class Rows(NamedTuple):
    """Rows, side by side in memory: row r begins at data[r * stride]."""

    data: Pointer
    stride: Index
    n: Index


@value
class Panels(NamedTuple):
    """A matrix in panels, or its transpose.

    The transpose is made a panel at a time: a copy that was kept would cost more to write at every
    update than this.
    """

    data: Pointer
    stride: Index  # from one panel to the next
    numbers: Numbers  # of the rows of the panels that are used; `nowhere` for all
    n_turned: Index  # 0 for the matrix itself; for its transpose, how many rows it has
    depth: Index  # rows of what is multiplied with: how many terms the sums have
    initial: Pointer  # panel p's first summand of all rows is the vector at initial[p * stride]
    initial_stride: Index


@value
class Strips(NamedTuple):
    """Where products with some panels go: to data[p * panel_stride + r * row_stride]."""

    data: Pointer
    panel_stride: Index
    row_stride: Index
    first_panel: Index
    last_panel: Index


@value
class Room(NamedTuple):
    """What a thread has to itself."""

    scratch: Pointer  # gradients of some rows of a panel, twice
    packed: Pointer  # `PACKED_SIZE` elements
    ahead: Ahead
    pairs: Pointer | None  # a place for `PAIRS_SIZE` elements, in programs that multiply pairs


@inlined
def weights_of(net: Net, layer: Layer) -> Panels:
    """Return a layer's weights and biases, as the forward pass multiplies with them."""
    step = lanes(net.memory)
    data, stride = advance(net.memory, layer.effective), (layer.n_in + 1) * step
    return Panels(data, stride, nowhere(), 0, layer.n_in, advance(data, stride - step), stride)


@inlined
def asks_ahead(size: Index, ahead: Ahead) -> bool:
    """Return whether weights are asked for ahead."""
    return leads_somewhere(ahead.addresses) and size >= BEYOND_CACHE


@kernel
def ask_for_panel(panels: Panels, panel: Index, begin: Index, width: Index, ahead: Ahead) -> None:
    """Ask for what `multiply_rows` reads of a panel: `width` terms from `begin` on."""
    step = lanes(panels.data)
    if panels.n_turned > 0:
        pieces = advance(panels.data, begin // step * panels.stride + panel * step * step)
        list_pieces(pieces, step * step, panels.stride, (width + step - 1) // step, ahead)
        return
    first, last = begin, begin + width - 1
    if leads_somewhere(panels.numbers):
        first, last = load_index(panels.numbers, first), load_index(panels.numbers, last)
    piece = advance(panels.data, panel * panels.stride + first * step)
    list_pieces(piece, (last + 1 - first) * step, 0, 1, ahead)


@inlined
def initial_of(panels: Panels, panel: Index, begin: Index, strip: Strip) -> Strip:
    """Return what sums begin with: in the first portion of terms, the panel's first summand."""
    if begin == 0:
        return Strip(advance(panels.initial, panel * panels.initial_stride), 0)
    return strip


@inlined
def panel_at(panels: Panels, panel: Index, begin: Index, width: Index, copy: Pointer) -> Pointer:
    """Return a portion of a panel's rows, in `copy` unless they are used where they lie."""
    step = lanes(copy)
    if panels.n_turned > 0:
        matrix = Matrix(panels.data, panels.stride, panels.n_turned)
        turn_rows(matrix, panel * step, begin, width, copy)
        return copy
    own = advance(panels.data, panel * panels.stride)
    if leads_somewhere(panels.numbers):
        pick_rows(own, advance_index(panels.numbers, begin), width, copy)
        return copy
    return advance(own, begin * step)


@inlined
def portion_of(depth: Index) -> Index:
    """Return how many terms are summed in one go."""
    return depth if depth <= DEPTH + DEPTH // 2 else DEPTH


@kernel
def multiply_rows(rows: Rows, panels: Panels, out: Strips, room: Room) -> None:
    """Write the products of rows with some panels."""
    step, depth = lanes(rows.data), panels.depth
    n_panels, part = out.last_panel - out.first_panel, portion_of(depth)
    packs = part < depth and n_panels >= WORTH_PACKING
    asks = asks_ahead(depth * n_panels * step, room.ahead)
    copy = advance(room.packed, PACKED_ROWS + step)
    for block in range(0, rows.n, ROWS):
        count = smaller(ROWS, rows.n - block)
        for begin in range(0, larger(depth, 1), larger(part, 1)):
            width = smaller(part, depth - begin)
            a = advance(rows.data, block * rows.stride + begin)
            if packs:
                pack_tiles(Source(a, rows.stride, 1, width, room.packed), count)
                a = room.packed
            for p in range(out.first_panel, out.last_panel):
                where = p * out.panel_stride + block * out.row_stride
                strip = Strip(advance(out.data, where), out.row_stride)
                panel = panel_at(panels, p, begin, width, copy)
                if asks and p + 1 < out.last_panel:
                    ask_for_panel(panels, p + 1, begin, width, room.ahead)
                terms = Terms(None, 1, panel, None, width)
                initial = initial_of(panels, p, begin, strip)
                product = Product(a, None, rows.stride, terms, initial, strip, room.ahead)
                multiply_panel(packs, count, product)


@value
class ListedRows(NamedTuple):
    """Rows anywhere in memory: row r begins at data[numbers[r] * stride]."""

    data: Pointer
    numbers: Numbers
    stride: Index
    n: Index


@kernel
def multiply_listed(rows: ListedRows, panels: Panels, out: Strips, ahead: Ahead) -> None:
    """Write the products of listed columns of listed rows with the rows of panels so numbered."""
    part = portion_of(panels.depth)
    for begin in range(0, larger(panels.depth, 1), larger(part, 1)):
        numbers, width = advance_index(panels.numbers, begin), smaller(part, panels.depth - begin)
        for p in range(out.first_panel, out.last_panel):
            strip = Strip(advance(out.data, p * out.panel_stride), out.row_stride)
            panel = advance(panels.data, p * panels.stride)
            terms = Terms(numbers, 1, panel, numbers, width)
            initial = initial_of(panels, p, begin, strip)
            operands = (rows.data, rows.numbers, rows.stride, terms, initial, strip, ahead)
            multiply_spread(rows.n, Product(*operands))
