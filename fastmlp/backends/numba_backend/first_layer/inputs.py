"""Rows of the inputs copied to where the first layer reads them: scaled, close together, noisy."""

from __future__ import annotations

from fastmlp.backends.numba_backend.first_layer.columns import ColumnList
from fastmlp.backends.numba_backend.vectors.pointers import larger, load_index, smaller
from fastmlp.backends.numba_backend.vectors.simd import (
    full,
    lanes,
    load,
    load_scalar,
    store,
    store_scalar,
)
from fastmlp.backends.numba_backend.vectors.types import Index, Pointer, Scalar, kernel


@kernel
def load_row(source: Pointer, start: Index, out: Pointer, width: Index, scale: Scalar) -> None:
    """Copy `width` elements from source[start] to `out`, multiplied by `scale`."""
    whole = width // lanes(out) * lanes(out)
    factor = full(out, scale)
    for i in range(0, whole, lanes(out)):
        store(out, i, load(source, start + i) * factor)
    for i in range(whole, width):
        store_scalar(out, i, load_scalar(source, start + i) * scale)


@kernel
def load_runs(
    source: Pointer, start: Index, out: Pointer, width: Index, scale: Scalar, columns: ColumnList
) -> None:
    """Copy the listed ones of the `width` elements from source[start] to `out`, close together."""
    factor, runs = full(out, scale), columns.runs
    step, to = lanes(out), 0
    for r in range(columns.counts.n_runs):
        begin = load_index(runs, 2 * r)
        length = load_index(runs, 2 * r + 1) - begin
        # Most runs are short: two vectors, without a look at how long.
        if length <= 2 * step and larger(begin, to) + 2 * step <= width:
            store(out, to, load(source, start + begin) * factor)
            store(out, to + step, load(source, start + begin + step) * factor)
            to += length
            continue
        for i in range(0, length, lanes(out)):
            # A whole vector may reach into what the next run overwrites, but not out of the row.
            if begin + i + lanes(out) <= width and to + i + lanes(out) <= width:
                store(out, to + i, load(source, start + begin + i) * factor)
            else:
                for k in range(i, smaller(i + lanes(out), length)):
                    store_scalar(out, to + k, load_scalar(source, start + begin + k) * scale)
        to += length
