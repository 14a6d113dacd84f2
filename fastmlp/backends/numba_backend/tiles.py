"""The tile kernels: one matrix product of rows with a panel serves every pass of a layer.

A panel is `lanes` columns of a matrix, stored row after row, so that a product streams it. In
these terms the forward pass multiplies activations by weight panels, the input gradient deltas by
panels of the transposed weights, and the weight gradient transposed activations (the same array,
its strides swapped) by panels of deltas.
"""

from __future__ import annotations

from typing import Any

from fastmlp.backends.numba_backend.ahead import list_pieces, take_requests
from fastmlp.backends.numba_backend.integers import (
    address_of,
    advance_index,
    larger,
    leads_somewhere,
    load_index,
    offset_of,
    offsets_of,
    out_of_line,
    prefetch,
    smaller,
)
from fastmlp.backends.numba_backend.machine import VECTORS
from fastmlp.backends.numba_backend.simd import (
    LANES_BYTES,
    advance,
    fma_rows,
    inlined,
    kernel,
    lanes,
    load,
    load_rows,
    load_scalar,
    store,
    store_rows,
    store_scalar,
    transpose_square,
)

#: Rows of a full tile, as tuples whose lengths the kernels are unrolled by.
FULL = (0,) * VECTORS.tile_rows
SHORT = (0,) * (len(FULL) - 1)
HALF = (0,) * (len(FULL) // 2)
ONE = (0,)


@inlined
def multiply_tile(
    count: Any,
    a: Any,
    starts: Any,
    columns: Any,
    column_stride: Any,
    panel: Any,
    panel_rows: Any,
    depth: Any,
    initial: Any,
    initial_stride: Any,
    out: Any,
    out_stride: Any,
    ahead: Any,
) -> None:
    """Write ``len(count)`` rows of a product, that begin at `starts`; see `multiply_panel`."""
    acc = load_rows(count, initial, 0, initial_stride)
    pairs, width = depth // 2 * 2, lanes(panel)
    address, pace = take_requests(ahead, depth // 2, address_of(panel, 0))
    for k in range(0, pairs, 2):  # two at a time halve the cost of the loop itself
        prefetch(address)
        address += pace
        w = load(panel, offset_of(panel_rows, k, width))
        acc = fma_rows(acc, a, starts, offset_of(columns, k, column_stride), w)
        w = load(panel, offset_of(panel_rows, k + 1, width))
        acc = fma_rows(acc, a, starts, offset_of(columns, k + 1, column_stride), w)
    if pairs < depth:
        w = load(panel, offset_of(panel_rows, pairs, width))
        acc = fma_rows(acc, a, starts, offset_of(columns, pairs, column_stride), w)
    store_rows(acc, out, 0, out_stride)


@inlined
def multiply_tiles(
    count: Any,
    n_tiles: Any,
    row: Any,
    packed: Any,
    a: Any,
    rows: Any,
    row_stride: Any,
    columns: Any,
    column_stride: Any,
    panel: Any,
    panel_rows: Any,
    depth: Any,
    initial: Any,
    initial_stride: Any,
    out: Any,
    out_stride: Any,
    ahead: Any,
) -> Any:
    """Compute `n_tiles` tiles of ``len(count)`` rows from `row` on; return the row after them.

    Element (r, k) of the rows is a[rows[r] * row_stride + columns[k] * column_stride], where a list
    that is None has all numbers. Other arguments as `multiply_panel`.
    """
    for _ in range(n_tiles):
        starts, stride = offsets_of(count, rows, row, row_stride), column_stride
        if packed:
            starts, stride = offsets_of(count, None, row * depth, 1), len(count)
        multiply_tile(
            count,
            a,
            starts,
            columns,
            stride,
            panel,
            panel_rows,
            depth,
            advance(initial, row * initial_stride),
            initial_stride,
            advance(out, row * out_stride),
            out_stride,
            ahead,
        )
        row += len(count)
    return row


@inlined
def divide_rows(n_rows: Any) -> Any:
    """Return how many full tiles, tiles shorter by a row, half tiles and single rows to take.

    Balanced tiles leave no slow remainder: 64 rows are 9 tiles of 6 and 2 of 5.

    Examples
    --------
    >>> sum(n * len(t) for n, t in zip(divide_rows(64), (FULL, SHORT, HALF, ONE)))
    64
    """
    n_half, n_one, rest = 0, 0, n_rows
    while True:
        n_tiles = (rest + len(FULL) - 1) // len(FULL)
        n_short = n_tiles * len(FULL) - rest
        if n_short <= n_tiles:
            return n_tiles - n_short, n_short, n_half, n_one
        after_half = rest - len(HALF)
        half_tiles = (after_half + len(FULL) - 1) // len(FULL)
        if after_half >= 0 and half_tiles * len(FULL) - after_half <= half_tiles:
            n_half += 1
            rest = after_half
        else:
            n_one += 1
            rest -= 1


@inlined
def multiply_all_tiles(packed: Any, n_rows: Any, operands: Any) -> None:
    """Compute all tiles of some rows; `operands` are the last arguments of `multiply_tiles`."""
    n_full, n_short, n_half, n_one = divide_rows(n_rows)
    row = multiply_tiles(FULL, n_full, 0, packed, *operands)
    row = multiply_tiles(SHORT, n_short, row, packed, *operands)
    row = multiply_tiles(HALF, n_half, row, packed, *operands)
    multiply_tiles(ONE, n_one, row, packed, *operands)


@kernel
def multiply_spread(n_rows: Any, operands: Any) -> None:
    """Do what `multiply_panel` describes for rows that are not packed, perhaps listed ones."""
    out_of_line()
    multiply_all_tiles(False, n_rows, operands)


@kernel
def multiply_packed(n_rows: Any, operands: Any) -> None:
    """Do what `multiply_panel` describes for packed rows: their distances are constants."""
    out_of_line()
    multiply_all_tiles(True, n_rows, operands)


@inlined
def multiply_panel(
    packed: Any,
    a: Any,
    row_stride: Any,
    column_stride: Any,
    panel: Any,
    depth: Any,
    initial: Any,
    initial_stride: Any,
    out: Any,
    out_stride: Any,
    n_rows: Any,
    ahead: Any,
) -> None:
    """Write the product of rows with a panel: out[r] = initial[r] + sum_k a[r, k] panel[k].

    Every element is summed in the order of k, one fused multiply-add at a time, wherever tiles
    begin: results do not depend on how rows are divided among calls.

    Parameters
    ----------
    packed : bool
        Whether the rows lie as `pack_tiles` writes them; then their strides are not looked at.
    a : pointer
        Element (r, k) is a[r * row_stride + k * column_stride].
    panel : pointer
        Rows of `lanes` elements.
    depth : int
        The number of rows of the panel: the terms of each sum.
    initial : pointer
        Row r's first summand is the vector at initial[r * initial_stride]; may be `out`.
    out : pointer
        Row r's result goes to the vector at out[r * out_stride].
    n_rows : int
    ahead : pointer to int64
        The thread's lists of what to ask for meanwhile (see `ahead`), or `nowhere`.
    """
    # A list that is not looked at costs no time.
    rows = (a, None, row_stride, None, column_stride, panel, None)
    operands = (*rows, depth, initial, initial_stride, out, out_stride, ahead)
    if packed:
        multiply_packed(n_rows, operands)
    else:
        multiply_spread(n_rows, operands)


#: Depth of one product where there is more: its rows and panel then stay in the caches.
DEPTH = 256
#: Rows of one product where there are more.
ROWS = 256
#: Elements of the place for rows that are packed, and of that for a panel's rows among these.
PACKED_ROWS = ROWS * (DEPTH + DEPTH // 2)
PACKED_SIZE = PACKED_ROWS + LANES_BYTES // 4 * (1 + DEPTH + DEPTH // 2)


#: Panels that packed rows must be multiplied with to be worth the copy.
WORTH_PACKING = 16


@inlined
def pack_some(
    count: Any,
    n_tiles: Any,
    row: Any,
    source: Any,
    row_stride: Any,
    depth_stride: Any,
    depth: Any,
    out: Any,
) -> Any:
    """Pack `n_tiles` tiles of ``len(count)`` rows from `row` on; return the row after them."""
    for _ in range(n_tiles):
        tile, rows = advance(out, row * depth), advance(source, row * row_stride)
        for k in range(depth):
            if row_stride == 1:  # whole vectors: what is too much is overwritten by the next
                for r in range(0, len(count), lanes(tile)):  # a tile may be higher than a vector
                    store(tile, k * len(count) + r, load(rows, k * depth_stride + r))
                continue
            for r in range(len(count)):
                x = load_scalar(rows, r * row_stride + k * depth_stride)
                store_scalar(tile, k * len(count) + r, x)
        row += len(count)
    return row


@kernel
def pack_tiles(
    source: Any, row_stride: Any, depth_stride: Any, n_rows: Any, depth: Any, out: Any
) -> None:
    """Copy rows in the order in which the tiles of a product read them, one tile after another.

    Element k of row r is source[r * row_stride + k * depth_stride]. Where elements of a column lie
    side by side, whole vectors are read and written.
    """
    out_of_line()
    n_full, n_short, n_half, n_one = divide_rows(n_rows)
    row = pack_some(FULL, n_full, 0, source, row_stride, depth_stride, depth, out)
    row = pack_some(SHORT, n_short, row, source, row_stride, depth_stride, depth, out)
    row = pack_some(HALF, n_half, row, source, row_stride, depth_stride, depth, out)
    pack_some(ONE, n_one, row, source, row_stride, depth_stride, depth, out)


@kernel
def pick_rows(panel: Any, numbers: Any, n: Any, out: Any) -> None:
    """Copy the `n` rows of a panel that have these numbers."""
    out_of_line()
    for i in range(n):
        store(out, i * lanes(out), load(panel, offset_of(numbers, i, lanes(panel))))


@kernel
def turn_rows(
    panels: Any, panel_stride: Any, row: Any, n_rows: Any, first: Any, width: Any, out: Any
) -> None:
    """Write a panel whose columns are rows of other panels, from `row` on: as many as lanes.

    Its own rows are their columns from `first` on, a multiple of the lanes. Rows that there are
    not, from `n_rows` on, count as zeros.
    """
    out_of_line()
    step = lanes(out)
    for k in range(0, width, step):
        square = advance(panels, (first + k) // step * panel_stride + row * step)
        count, rest = smaller(step, n_rows - row), smaller(step, width - k)
        transpose_square(square, step, count, advance(out, k * step), step, rest)


#: Elements of a matrix from which on its weights lie beyond the second-level cache.
BEYOND_CACHE = 1 << 18


@inlined
def asks_ahead(size: Any, ahead: Any) -> bool:
    """Return whether weights are asked for ahead."""
    return leads_somewhere(ahead) and size >= BEYOND_CACHE


@kernel
def ask_for_panel(
    panels: Any,
    panel_stride: Any,
    panel_rows: Any,
    n_turned: Any,
    panel: Any,
    begin: Any,
    width: Any,
    ahead: Any,
) -> None:
    """Ask for what `multiply_rows` reads of a panel: its terms from `begin` on."""
    out_of_line()
    step = lanes(panels)
    if n_turned > 0:
        pieces = advance(panels, begin // step * panel_stride + panel * step * step)
        list_pieces(pieces, step * step, panel_stride, (width + step - 1) // step, ahead)
        return
    first, last = begin, begin + width - 1
    if leads_somewhere(panel_rows):
        first, last = load_index(panel_rows, first), load_index(panel_rows, last)
    piece = advance(panels, panel * panel_stride + first * step)
    list_pieces(piece, (last + 1 - first) * step, 0, 1, ahead)


@kernel
def multiply_rows(
    a: Any,
    a_stride: Any,
    n_rows: Any,
    panels: Any,
    panel_stride: Any,
    panel_rows: Any,
    n_turned: Any,
    depth: Any,
    initial: Any,
    initial_stride: Any,
    out: Any,
    out_panel_stride: Any,
    out_stride: Any,
    first_panel: Any,
    last_panel: Any,
    packed: Any,
    ahead: Any,
) -> None:
    """Write the products of rows with some panels, in an order that keeps operands in the caches.

    Parameters
    ----------
    a : pointer
        Row r begins at a[r * a_stride].
    panels : pointer
        Panel p begins at panels[p * panel_stride].
    panel_rows : pointer to int64
        The numbers of the rows of the panels that are used; `nowhere` for all.
    n_turned : int
        0 for the panels themselves. Otherwise they have so many rows, and what is multiplied is
        the transpose of their matrix, made a panel at a time: a copy that was kept would cost more
        to write at every update than this.
    depth : int
        How many terms the sums have.
    initial : pointer
        The first summand of all rows of panel p is the vector at initial[p * initial_stride].
    out : pointer
        Row r's result with panel p goes to out[p * out_panel_stride + r * out_stride].
    packed : pointer
        Room for `PACKED_SIZE` elements.
    ahead
        As `multiply_panel` takes it.
    """
    out_of_line()
    step = lanes(a)
    part = depth if depth <= DEPTH + DEPTH // 2 else DEPTH
    packs = part < depth and last_panel - first_panel >= WORTH_PACKING
    asks = asks_ahead(depth * (last_panel - first_panel) * step, ahead)
    copy = advance(packed, PACKED_ROWS + step)
    for block in range(0, n_rows, ROWS):
        count = smaller(ROWS, n_rows - block)
        for begin in range(0, larger(depth, 1), larger(part, 1)):
            width = smaller(part, depth - begin)
            rows = advance(a, block * a_stride + begin)
            if packs:
                pack_tiles(rows, a_stride, 1, count, width, packed)
                rows = packed
            for p in range(first_panel, last_panel):
                strip = advance(out, p * out_panel_stride + block * out_stride)
                panel = copy
                if n_turned > 0:
                    turn_rows(panels, panel_stride, p * step, n_turned, begin, width, copy)
                elif leads_somewhere(panel_rows):
                    numbers = advance_index(panel_rows, begin)
                    pick_rows(advance(panels, p * panel_stride), numbers, width, copy)
                else:
                    panel = advance(panels, p * panel_stride + begin * step)
                if asks and p + 1 < last_panel:
                    following = (panels, panel_stride, panel_rows, n_turned, p + 1, begin, width)
                    ask_for_panel(*following, ahead)
                multiply_panel(
                    packs,
                    rows,
                    a_stride,
                    1,
                    panel,
                    width,
                    advance(initial, p * initial_stride) if begin == 0 else strip,
                    0 if begin == 0 else out_stride,
                    strip,
                    out_stride,
                    count,
                    ahead,
                )


@kernel
def multiply_listed(
    a: Any,
    rows: Any,
    a_stride: Any,
    n_rows: Any,
    panels: Any,
    panel_stride: Any,
    columns: Any,
    depth: Any,
    initial: Any,
    initial_stride: Any,
    out: Any,
    out_panel_stride: Any,
    out_stride: Any,
    n_panels: Any,
    ahead: Any,
) -> None:
    """Write the products of listed columns of listed rows with the rows of panels so numbered.

    Element (r, k) of the rows is a[rows[r] * a_stride + columns[k]]; other arguments as
    `multiply_rows` takes them.
    """
    out_of_line()
    part = depth if depth <= DEPTH + DEPTH // 2 else DEPTH
    for begin in range(0, larger(depth, 1), larger(part, 1)):
        own_columns = advance_index(columns, begin)
        for p in range(n_panels):
            strip = advance(out, p * out_panel_stride)
            first = advance(initial, p * initial_stride) if begin == 0 else strip
            first_stride = 0 if begin == 0 else out_stride
            panel, width = advance(panels, p * panel_stride), smaller(part, depth - begin)
            product = (panel, own_columns, width, first, first_stride, strip, out_stride, ahead)
            multiply_spread(n_rows, (a, rows, a_stride, own_columns, 1, *product))
