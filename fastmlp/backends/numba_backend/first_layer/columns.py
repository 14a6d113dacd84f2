"""Which columns of its inputs the first layer uses in a batch: marks and lists.

Columns that are zero in a whole batch are left out of the first layer's products. Every thread
marks what is not zero in some rows of the batch, and lists the columns that any has marked. Of a
*narrow* first layer, one of few units, a thread marks and lists its own columns in all rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fastmlp.backends.numba_backend.plan import Layer, Visits
from fastmlp.backends.numba_backend.team.barrier import Team, begin_of, end_of
from fastmlp.backends.numba_backend.vectors.pointers import (
    Numbers,
    advance_index,
    load_index,
    share,
    smaller,
    store_index,
)
from fastmlp.backends.numba_backend.vectors.records import Record, Records, record, value
from fastmlp.backends.numba_backend.vectors.simd import (
    advance,
    either,
    lane_bits,
    lanes,
    load,
    load_scalar,
    store,
    store_scalar,
    zero,
)
from fastmlp.backends.numba_backend.vectors.types import Index, Pointer, inlined, kernel

#: Panels that a narrow first layer has at most, and the parts its inputs' columns are divided into.
NARROW, N_PARTS = 3, 4

#: Where a larger share of the inputs' columns is active, leaving out the rest gains nothing.
DENSE_COLUMNS = 0.9


class Counts(Record):
    """Of a list of the columns that hold anything but zeros in a batch."""

    n_active: int  # columns
    n_runs: int  # runs that they form
    leaves_out: int  # whether others are left out


@value
class Columns(NamedTuple):
    """All lists of active columns.

    Every thread lists all columns, or of a narrow layer its parts' columns, part by part. Of every
    list there are two, one for this step's batch and one for the next.
    """

    counts: Records
    numbers: Numbers  # [lists][2][list_size]
    marks: Pointer  # of columns that are not zero, [lists][input_stride]


@value
class ColumnList(NamedTuple):
    """The columns that hold anything but zeros in a batch."""

    counts: Counts
    active: Numbers
    runs: Numbers  # where each begins and ends


@inlined
def is_narrow(layer: Layer) -> bool:
    """Return whether the first layer is divided by columns of its inputs."""
    return layer.out_panels <= NARROW and layer.in_panels >= N_PARTS


@inlined
def first_column_of(layer: Layer, part: Index, step: Index) -> Index:
    """Return the first column of a part, at the beginning of a vector of `step` elements."""
    return smaller(share(layer.in_panels, part, N_PARTS) * step, layer.n_in)


@inlined
def lists_of(layer: Layer, team: Team) -> Any:
    """Return the first of a thread's lists of columns, and the one after its last."""
    if is_narrow(layer):
        return begin_of(N_PARTS, team), end_of(N_PARTS, team)
    return team.thread, team.thread + 1


@inlined
def columns_of_list(layer: Layer, number: Index, step: Index) -> Any:
    """Return where the columns that a list may name begin and end."""
    if is_narrow(layer):
        return first_column_of(layer, number, step), first_column_of(layer, number + 1, step)
    return 0, layer.n_in


@inlined
def list_size(n_in: Index) -> Index:
    """Return the elements of a list of at most `n_in` columns, which form half as many runs.

    Examples
    --------
    >>> list_size(10)
    22
    """
    return n_in + 2 * (n_in // 2 + 1)


@inlined
def list_at(columns: Columns, layer: Layer, number: Index, turn: Index) -> ColumnList:
    """Return a list of columns; those of one step's batch and the next take turns."""
    place = 2 * number + turn
    active = advance_index(columns.numbers, place * list_size(layer.n_in))
    counts = record(columns.counts, place)
    return ColumnList(counts, active, advance_index(active, layer.n_in))


@kernel
def mark_rows(rows: Visits, n_columns: Index, marks: Pointer) -> None:
    """Mark the columns, counted from X on, in which some rows are not all zero."""
    for i in range(0, n_columns, lanes(marks)):
        store(marks, i, zero(marks))
    X, order, end = rows.X, rows.order, rows.end
    whole = n_columns // lanes(marks) * lanes(marks)
    for row in range(rows.first, end, 4):
        # Four rows at a time, the last perhaps again: marks are read and written less often.
        a = advance(X, load_index(order, row) * rows.stride)
        b = advance(X, load_index(order, smaller(row + 1, end - 1)) * rows.stride)
        c = advance(X, load_index(order, smaller(row + 2, end - 1)) * rows.stride)
        d = advance(X, load_index(order, smaller(row + 3, end - 1)) * rows.stride)
        for i in range(0, whole, lanes(marks)):
            pair = either(load(a, i), load(b, i))
            store(marks, i, either(load(marks, i), either(pair, either(load(c, i), load(d, i)))))
        for i in range(whole, n_columns):
            for one in (a, b, c, d):
                if load_scalar(one, i) != 0.0:
                    store_scalar(marks, i, 1.0)


@kernel
def mark_batch(layer: Layer, batch: Visits, team: Team, columns: Columns) -> None:
    """Mark the columns in which a batch is not zero: some in all its rows, or all in some rows."""
    first, end = batch.first, batch.end
    if not is_narrow(layer):
        n = end - first
        first, end = first + begin_of(n, team), first + end_of(n, team)
    first_list, last_list = lists_of(layer, team)
    for number in range(first_list, last_list):
        if list_at(columns, layer, number, 0).counts.leaves_out != 0:
            begin, stop = columns_of_list(layer, number, lanes(columns.marks))
            own_marks = advance(columns.marks, number * layer.input_stride)
            rows = Visits(advance(batch.X, begin), batch.stride, batch.order, first, end)
            mark_rows(rows, stop - begin, own_marks)


@kernel
def list_columns(
    marks: Pointer, marks_stride: Index, n_merged: Index, first: Index, last: Index, own: ColumnList
) -> None:
    """List the active columns from `first` to `last`, from `n_merged` threads' marks of them."""
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
            store_index(own.active, n_active, k)
            n_active += active
            store_index(own.runs, n_ends, k)
            n_ends += active ^ inside
            bits, inside = bits >> 1, active
    store_index(own.runs, n_ends, last)
    own.counts.n_active = n_active
    own.counts.n_runs = (n_ends + inside) // 2


@kernel
def list_batch(layer: Layer, team: Team, columns: Columns, turn: Index) -> None:
    """Write a thread's lists of a batch's active columns, where others are left out at all."""
    marks, stride = columns.marks, layer.input_stride
    first_list, last_list = lists_of(layer, team)
    for number in range(first_list, last_list):
        own = list_at(columns, layer, number, turn)
        if own.counts.leaves_out != 0:
            first, last = columns_of_list(layer, number, lanes(marks))
            if is_narrow(layer):
                list_columns(advance(marks, number * stride), 0, 1, first, last, own)
            else:
                list_columns(marks, stride, team.n_threads, first, last, own)


@inlined
def leave_out_anything(layer: Layer, team: Team, columns: Columns) -> None:
    """Let a thread's lists leave out what is zero."""
    first_list, last_list = lists_of(layer, team)
    for number in range(first_list, last_list):
        for turn in range(2):
            list_at(columns, layer, number, turn).counts.leaves_out = 1


@kernel
def keep_all(layer: Layer, team: Team, step: Index, fills_zeros: bool, columns: Columns) -> None:
    """Let a thread's lists name all columns from now on where the first batch leaves little out.

    Or everywhere, if noise `fills_zeros`.
    """
    first_list, last_list = lists_of(layer, team)
    for number in range(first_list, last_list):
        first, last = columns_of_list(layer, number, step)
        n_active = list_at(columns, layer, number, 0).counts.n_active
        if not fills_zeros and n_active < DENSE_COLUMNS * (last - first):
            continue
        for turn in range(2):
            own = list_at(columns, layer, number, turn)
            own.counts.n_active = last - first
            own.counts.n_runs = 1
            own.counts.leaves_out = 0
            for k in range(first, last):
                store_index(own.active, k - first, k)
            store_index(own.runs, 0, first)
            store_index(own.runs, 1, last)
