"""The tile kernels: one matrix product of rows with a panel serves every pass of a layer.

A panel is `lanes` columns of a matrix, stored row after row, so that a product streams it. In
these terms the forward pass multiplies activations by weight panels, the input gradient deltas by
panels of the transposed weights, and the weight gradient transposed activations (the same array,
its strides swapped) by panels of deltas.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding

from fastmlp.backends.numba_backend.ahead import take_requests
from fastmlp.backends.numba_backend.integers import (
    larger,
    leads_somewhere,
    out_of_line,
    place_of_row,
    prefetch,
    smaller,
)
from fastmlp.backends.numba_backend.simd import (
    advance,
    fma_rows,
    inlined,
    kernel,
    lanes,
    load,
    load_rows,
    store,
    store_rows,
)


def _tile_height() -> int:
    """Return how many rows of accumulators the machine's vector registers hold."""
    features = binding.get_host_cpu_features()
    if features.get("avx512f"):
        return 12
    has_32_registers = "arm" in binding.get_default_triple() or "aarch64" in (
        binding.get_default_triple()
    )
    return 6 if features.get("avx2") or has_32_registers else 2


#: Rows of a full tile, as tuples whose lengths the kernels are unrolled by.
FULL = (0,) * _tile_height()
SHORT = (0,) * (len(FULL) - 1)
HALF = (0,) * (len(FULL) // 2)
ONE = (0,)


@inlined
def multiply_tile(
    count: Any,
    a: Any,
    a_row_stride: Any,
    a_depth_stride: Any,
    panel: Any,
    places: Any,
    first: Any,
    depth: Any,
    initial: Any,
    initial_stride: Any,
    out: Any,
    out_stride: Any,
    ahead: Any,
) -> None:
    """Write ``len(count)`` rows of a product; arguments as `multiply_panel`."""
    acc = load_rows(count, initial, 0, initial_stride)
    pairs, width = depth // 2 * 2, lanes(panel)
    address, pace = take_requests(ahead, depth // 2)
    for k in range(0, pairs, 2):  # two at a time halve the cost of the loop itself
        i = k * a_depth_stride
        prefetch(address)
        address += pace
        w = load(panel, place_of_row(places, first + k, width))
        acc = fma_rows(acc, a, i, a_row_stride, w)
        i += a_depth_stride
        w = load(panel, place_of_row(places, first + k + 1, width))
        acc = fma_rows(acc, a, i, a_row_stride, w)
    if pairs < depth:
        w = load(panel, place_of_row(places, first + pairs, width))
        acc = fma_rows(acc, a, pairs * a_depth_stride, a_row_stride, w)
    store_rows(acc, out, 0, out_stride)


@inlined
def multiply_tiles(
    count: Any,
    n_tiles: Any,
    row: Any,
    a: Any,
    a_row_stride: Any,
    a_depth_stride: Any,
    panel: Any,
    places: Any,
    first: Any,
    depth: Any,
    initial: Any,
    initial_stride: Any,
    out: Any,
    out_stride: Any,
    ahead: Any,
) -> Any:
    """Compute `n_tiles` tiles of ``len(count)`` rows from `row` on; return the row after them.

    The other arguments as `multiply_panel`.
    """
    for _ in range(n_tiles):
        multiply_tile(
            count,
            advance(a, row * a_row_stride),
            a_row_stride,
            a_depth_stride,
            panel,
            places,
            first,
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


@kernel
def multiply_all_tiles(
    a: Any,
    a_row_stride: Any,
    a_depth_stride: Any,
    panel: Any,
    places: Any,
    first: Any,
    depth: Any,
    initial: Any,
    initial_stride: Any,
    out: Any,
    out_stride: Any,
    n_rows: Any,
    ahead: Any,
) -> None:
    """Do what `multiply_panel` describes, for `places` None instead of `nowhere`."""
    out_of_line()
    n_full, n_short, n_half, n_one = divide_rows(n_rows)
    row = multiply_tiles(
        FULL,
        n_full,
        0,
        a,
        a_row_stride,
        a_depth_stride,
        panel,
        places,
        first,
        depth,
        initial,
        initial_stride,
        out,
        out_stride,
        ahead,
    )
    row = multiply_tiles(
        SHORT,
        n_short,
        row,
        a,
        a_row_stride,
        a_depth_stride,
        panel,
        places,
        first,
        depth,
        initial,
        initial_stride,
        out,
        out_stride,
        ahead,
    )
    row = multiply_tiles(
        HALF,
        n_half,
        row,
        a,
        a_row_stride,
        a_depth_stride,
        panel,
        places,
        first,
        depth,
        initial,
        initial_stride,
        out,
        out_stride,
        ahead,
    )
    multiply_tiles(
        ONE,
        n_one,
        row,
        a,
        a_row_stride,
        a_depth_stride,
        panel,
        places,
        first,
        depth,
        initial,
        initial_stride,
        out,
        out_stride,
        ahead,
    )


@inlined
def multiply_panel(
    a: Any,
    a_row_stride: Any,
    a_depth_stride: Any,
    panel: Any,
    places: Any,
    first: Any,
    depth: Any,
    initial: Any,
    initial_stride: Any,
    out: Any,
    out_stride: Any,
    n_rows: Any,
    ahead: Any,
) -> None:
    """Write the product of rows with a panel: out[r] = initial[r] + sum_k a[r, k] panel[first + k].

    Every element is summed in the order of k, one fused multiply-add at a time, wherever tiles
    begin: results do not depend on how rows are divided among calls.

    Parameters
    ----------
    a : pointer
        Element (r, k) is a[r * a_row_stride + k * a_depth_stride].
    panel : pointer
        Rows of `lanes` elements.
    places : pointer to int64
        Where the rows of the panel that are used begin, counted in elements; `nowhere` for all.
    first, depth : int
        The first row used, and the number of rows: the terms of each sum.
    initial : pointer
        Row r's first summand is the vector at initial[r * initial_stride]; may be `out`.
    out : pointer
        Row r's result goes to the vector at out[r * out_stride].
    n_rows : int
    ahead : pointer to int64
        Rows to ask for meanwhile; see `ahead`.
    """
    if leads_somewhere(places):
        multiply_all_tiles(
            a,
            a_row_stride,
            a_depth_stride,
            panel,
            places,
            first,
            depth,
            initial,
            initial_stride,
            out,
            out_stride,
            n_rows,
            ahead,
        )
    else:  # a list that is not looked at costs no time
        multiply_all_tiles(
            a,
            a_row_stride,
            a_depth_stride,
            panel,
            None,
            first,
            depth,
            initial,
            initial_stride,
            out,
            out_stride,
            n_rows,
            ahead,
        )


#: Depth of one product where there is more: its rows and panel then stay in the caches.
DEPTH = 256
#: Rows of one product where there are more.
ROWS = 256
#: Elements of the place for rows that are packed: an odd number of cache lines each.
PACKED_SIZE = ROWS * (DEPTH + 16)


#: Panels that packed rows must be multiplied with to be worth the copy.
WORTH_PACKING = 16


@inlined
def packed_stride(width: Any, step: Any) -> Any:
    """Return the distance of packed rows: an odd number of cache lines."""
    return (width // step + 1 | 1) * step


@kernel
def pack(source: Any, stride: Any, n_rows: Any, width: Any, out: Any) -> None:
    """Copy rows close together, so that one product's lie on few pages of memory.

    Copies whole vectors.
    """
    out_of_line()
    step = lanes(out)
    out_stride = packed_stride(width, step)
    for row in range(n_rows):
        for i in range(0, width, step):
            store(out, row * out_stride + i, load(source, row * stride + i))


@kernel
def multiply_rows(
    a: Any,
    a_stride: Any,
    n_rows: Any,
    panels: Any,
    panel_stride: Any,
    places: Any,
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
    places, depth
        As `multiply_panel` takes them.
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
    part = depth if depth <= DEPTH + DEPTH // 2 else DEPTH
    packs = part < depth and last_panel - first_panel >= WORTH_PACKING
    for block in range(0, n_rows, ROWS):
        count = smaller(ROWS, n_rows - block)
        for begin in range(0, larger(depth, 1), larger(part, 1)):
            width = smaller(part, depth - begin)
            rows, stride = advance(a, block * a_stride + begin), a_stride
            if packs:
                pack(rows, stride, count, width, packed)
                rows, stride = packed, packed_stride(width, lanes(a))
            for p in range(first_panel, last_panel):
                strip = advance(out, p * out_panel_stride + block * out_stride)
                multiply_panel(
                    rows,
                    stride,
                    1,
                    advance(panels, p * panel_stride),
                    places,
                    begin,
                    width,
                    advance(initial, p * initial_stride) if begin == 0 else strip,
                    0 if begin == 0 else out_stride,
                    strip,
                    out_stride,
                    count,
                    ahead,
                )
