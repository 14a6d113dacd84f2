"""Which columns of its inputs the first layer uses in a batch: marks, lists, and copies.

Columns that are zero in a whole batch are left out of the first layer's products. Every thread
marks what is not zero in some rows of the batch, and lists the columns that any has marked. Of a
*narrow* first layer, one of few units, a thread marks and lists its own columns in all rows.
"""

from __future__ import annotations

from typing import Any

from fastmlp.backends.numba_backend.integers import (
    advance_index,
    larger,
    load_index,
    out_of_line,
    share,
    smaller,
    store_index,
)
from fastmlp.backends.numba_backend.layout import IN_PANELS, INPUT_STRIDE, N_IN, OUT_PANELS, field
from fastmlp.backends.numba_backend.simd import (
    advance,
    either,
    full,
    inlined,
    kernel,
    lane_bits,
    lanes,
    load,
    load_scalar,
    store,
    store_scalar,
    zero,
)

#: Panels that a narrow first layer has at most, and the parts its inputs' columns are divided into.
NARROW, N_PARTS = 3, 4

# A list of the first layer's columns that hold anything but zeros in a batch: how many they are,
# how many runs they form, whether others are left out; then their numbers; then where each run
# begins and ends. Every thread lists all columns, or of a narrow layer its parts' columns, part
# by part. Of every list there are two, one for this step's batch and one for the next.
N_ACTIVE, N_RUNS, LEAVES_OUT, ACTIVE = range(4)

#: Where a larger share of the inputs' columns is active, leaving out the rest gains nothing.
DENSE = 0.9


@inlined
def is_narrow(layers: Any) -> bool:
    """Return whether the first layer is divided by columns of its inputs."""
    return field(layers, 0, OUT_PANELS) <= NARROW and field(layers, 0, IN_PANELS) >= N_PARTS


@inlined
def first_column_of(layers: Any, part: Any, step: Any) -> Any:
    """Return the first column of a part, at the beginning of a vector of `step` elements."""
    n_vectors = share(field(layers, 0, IN_PANELS), part, N_PARTS)
    return smaller(n_vectors * step, field(layers, 0, N_IN))


@inlined
def first_list_of(layers: Any, thread: Any, n_threads: Any) -> Any:
    """Return the first of a thread's lists of columns."""
    return share(N_PARTS, thread, n_threads) if is_narrow(layers) else thread


@inlined
def columns_of_list(layers: Any, number: Any, step: Any) -> Any:
    """Return where the columns that a list may name begin and end."""
    if is_narrow(layers):
        return first_column_of(layers, number, step), first_column_of(layers, number + 1, step)
    return 0, field(layers, 0, N_IN)


@inlined
def list_size(n_in: Any) -> Any:
    """Return the elements of a list of at most `n_in` columns, which form half as many runs.

    Examples
    --------
    >>> list_size(10)
    25
    """
    return ACTIVE + n_in + 2 * (n_in // 2 + 1)


@inlined
def list_at(columns: Any, layers: Any, number: Any, turn: Any) -> Any:
    """Return a list of columns; those of one step's batch and the next take turns."""
    return advance_index(columns, (2 * number + turn) * list_size(field(layers, 0, N_IN)))


@kernel
def load_row(source: Any, start: Any, out: Any, width: Any, scale: Any) -> None:
    """Copy `width` elements from source[start] to `out`, multiplied by `scale`."""
    out_of_line()
    whole = width // lanes(out) * lanes(out)
    factor = full(out, scale)
    for i in range(0, whole, lanes(out)):
        store(out, i, load(source, start + i) * factor)
    for i in range(whole, width):
        store_scalar(out, i, load_scalar(source, start + i) * scale)


@kernel
def load_runs(
    source: Any, start: Any, out: Any, width: Any, scale: Any, runs: Any, n_runs: Any
) -> None:
    """Copy runs of the `width` elements from source[start] to `out`, close together."""
    out_of_line()
    factor = full(out, scale)
    step, to = lanes(out), 0
    for r in range(n_runs):
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


@kernel
def mark_rows(
    X: Any,
    x_stride: Any,
    n_columns: Any,
    order: Any,
    first: Any,
    end: Any,
    marks: Any,
) -> None:
    """Mark the columns, counted from X on, in which the rows order[first:end] are not all zero."""
    out_of_line()
    for i in range(0, n_columns, lanes(marks)):
        store(marks, i, zero(marks))
    whole = n_columns // lanes(marks) * lanes(marks)
    for row in range(first, end, 4):
        # Four rows at a time, the last perhaps again: marks are read and written less often.
        a = advance(X, load_index(order, row) * x_stride)
        b = advance(X, load_index(order, smaller(row + 1, end - 1)) * x_stride)
        c = advance(X, load_index(order, smaller(row + 2, end - 1)) * x_stride)
        d = advance(X, load_index(order, smaller(row + 3, end - 1)) * x_stride)
        for i in range(0, whole, lanes(marks)):
            pair = either(load(a, i), load(b, i))
            store(marks, i, either(load(marks, i), either(pair, either(load(c, i), load(d, i)))))
        for i in range(whole, n_columns):
            for one in (a, b, c, d):
                if load_scalar(one, i) != 0.0:
                    store_scalar(marks, i, 1.0)


@kernel
def mark_batch(
    layers: Any,
    X: Any,
    x_stride: Any,
    order: Any,
    start: Any,
    n: Any,
    thread: Any,
    n_threads: Any,
    marks: Any,
    columns: Any,
) -> None:
    """Mark the columns in which a batch is not zero: some in all its rows, or all in some rows."""
    out_of_line()
    first, end = start, start + n
    if not is_narrow(layers):
        first, end = start + share(n, thread, n_threads), start + share(n, thread + 1, n_threads)
    last_list = first_list_of(layers, thread + 1, n_threads)
    for number in range(first_list_of(layers, thread, n_threads), last_list):
        if load_index(list_at(columns, layers, number, 0), LEAVES_OUT) != 0:
            begin, stop = columns_of_list(layers, number, lanes(marks))
            own_marks = advance(marks, number * field(layers, 0, INPUT_STRIDE))
            mark_rows(advance(X, begin), x_stride, stop - begin, order, first, end, own_marks)


@kernel
def list_columns(
    marks: Any,
    marks_stride: Any,
    n_merged: Any,
    first: Any,
    last: Any,
    columns: Any,
    runs: Any,
) -> None:
    """List the active columns from `first` to `last`, from `n_merged` threads' marks of them."""
    out_of_line()
    n_active, n_ends, inside = 0, 0, 0
    for i in range(first, last, lanes(marks)):
        merged = load(marks, i - first)
        for t in range(1, n_merged):
            merged = either(merged, load(marks, t * marks_stride + i - first))
        bits = lane_bits(merged != zero(marks))
        if bits == 0 and inside == 0:
            continue
        # Everything is written, and stays if it counts: no branch depends on the data.
        for k in range(i, smaller(i + lanes(marks), last)):
            active = bits & 1
            store_index(columns, ACTIVE + n_active, k)
            n_active += active
            store_index(runs, n_ends, k)
            n_ends += active ^ inside
            bits, inside = bits >> 1, active
    store_index(runs, n_ends, last)
    store_index(columns, N_ACTIVE, n_active)
    store_index(columns, N_RUNS, (n_ends + inside) // 2)


@kernel
def list_batch(
    layers: Any,
    thread: Any,
    n_threads: Any,
    marks: Any,
    columns: Any,
    turn: Any,
) -> None:
    """Write a thread's lists of a batch's active columns, where others are left out at all."""
    out_of_line()
    stride = field(layers, 0, INPUT_STRIDE)
    last_list = first_list_of(layers, thread + 1, n_threads)
    for number in range(first_list_of(layers, thread, n_threads), last_list):
        own = list_at(columns, layers, number, turn)
        if load_index(own, LEAVES_OUT) != 0:
            first, last = columns_of_list(layers, number, lanes(marks))
            runs = advance_index(own, ACTIVE + field(layers, 0, N_IN))
            if is_narrow(layers):
                own_marks = advance(marks, number * stride)
                list_columns(own_marks, 0, 1, first, last, own, runs)
            else:
                list_columns(marks, stride, n_threads, first, last, own, runs)


@kernel
def keep_all(
    layers: Any, thread: Any, n_threads: Any, step: Any, fills_zeros: Any, columns: Any
) -> None:
    """Let a thread's lists name all columns from now on where the first batch leaves little out.

    Or everywhere, if noise `fills_zeros`.
    """
    out_of_line()
    last_list = first_list_of(layers, thread + 1, n_threads)
    for number in range(first_list_of(layers, thread, n_threads), last_list):
        first, last = columns_of_list(layers, number, step)
        n_active = load_index(list_at(columns, layers, number, 0), N_ACTIVE)
        if not fills_zeros and n_active < DENSE * (last - first):
            continue
        for turn in range(2):
            own = list_at(columns, layers, number, turn)
            store_index(own, N_ACTIVE, last - first)
            store_index(own, N_RUNS, 1)
            store_index(own, LEAVES_OUT, 0)
            for k in range(first, last):
                store_index(own, ACTIVE + k - first, k)
            run = ACTIVE + field(layers, 0, N_IN)
            store_index(own, run, first)
            store_index(own, run + 1, last)
