"""How the first layer leaves out zeros: one mode, chosen at the beginning of a call."""

from __future__ import annotations

from typing import NamedTuple

from fastmlp.backends.numba_backend.first_layer.columns import (
    ColumnList,
    Columns,
    first_column_of,
    is_narrow,
    keep_all,
    leave_out_anything,
    list_at,
    list_batch,
    lists_of,
    mark_batch,
)
from fastmlp.backends.numba_backend.first_layer.inputs import load_row, load_runs
from fastmlp.backends.numba_backend.first_layer.nonzeros import (
    MOST_ROWS,
    Marks,
    has_gaps,
    mark_terms,
    n_words,
)
from fastmlp.backends.numba_backend.kernels.noise import Mask, add_noise, drop, stream_key
from fastmlp.backends.numba_backend.kernels.rounding import round_row, rounds
from fastmlp.backends.numba_backend.plan import Net, Visits, layer_of
from fastmlp.backends.numba_backend.products.chunks import divide_evenly
from fastmlp.backends.numba_backend.team.barrier import Team, begin_of, end_of, meet
from fastmlp.backends.numba_backend.vectors.pointers import (
    Numbers,
    advance_index,
    load_index,
    smaller,
)
from fastmlp.backends.numba_backend.vectors.records import value
from fastmlp.backends.numba_backend.vectors.simd import advance, lanes
from fastmlp.backends.numba_backend.vectors.strips import Strip
from fastmlp.backends.numba_backend.vectors.types import Index, inlined, kernel
from fastmlp.regularization import NOISE_ANGLE_STREAM, NOISE_RADIUS_STREAM

#: Nothing is left out; columns that are zero in a batch; also terms that are zero in a tile; or a
#: narrow layer, divided by columns, each of whose parts leaves out columns by itself.
DENSE, COLUMNS, NONZEROS, PARTS = range(4)
#: A thread has given up.
ABANDONED = -1


@inlined
def leaves_out_columns(mode: Index) -> bool:
    """Return whether columns that are zero in a whole batch are left out of its copy."""
    return COLUMNS <= mode <= NONZEROS


@value
class FirstLayer(NamedTuple):
    """What the first layer works with beside the weights."""

    columns: Columns
    words: Numbers  # the marks of two batches' rows
    lists: Numbers  # the thread's lists of terms
    row_numbers: Numbers  # 0, 1, 2, ...


@value
class Batch(NamedTuple):
    """A batch, and where its copy goes."""

    start: Index  # of the order
    n: Index  # rows
    turn: Index  # which of two buffers, lists and marks
    key: Index  # number of the step, for random numbers


@inlined
def batch_of(net: Net, number: Index) -> Batch:
    """Return a batch of the order; one behind the call's last has no rows."""
    plan = net.plan
    epoch_batches = (plan.epoch_visits + plan.batch_size - 1) // plan.batch_size
    epoch = number // epoch_batches
    visited = (number - epoch * epoch_batches) * plan.batch_size
    n = smaller(plan.batch_size, plan.epoch_visits - visited)
    if number >= plan.end_batch:
        n = 0
    start, turn = epoch * plan.epoch_visits + visited, (number - plan.first_batch) % 2
    return Batch(start, n, turn, plan.first_step + number)


@inlined
def buffer_of(net: Net, turn: Index) -> Index:
    """Return the offset of a buffer of the first layer's inputs."""
    return layer_of(net, 0).inputs if turn == 0 else net.plan.second_input


@inlined
def words_of(net: Net, first: FirstLayer, turn: Index) -> Numbers:
    """Return the place of the marks of a batch's rows."""
    size = net.plan.batch_size * n_words(layer_of(net, 0).n_in)
    return advance_index(first.words, turn * size)


@inlined
def own_columns(net: Net, first: FirstLayer, team: Team, turn: Index) -> ColumnList:
    """Return the thread's list of all active columns of a batch."""
    return list_at(first.columns, layer_of(net, 0), team.thread, turn)


@inlined
def marks_of(net: Net, first: FirstLayer, team: Team, turn: Index) -> Marks:
    """Return the marks of a batch's rows, without the columns that are left out."""
    n_active = own_columns(net, first, team, turn).counts.n_active
    return Marks(words_of(net, first, turn), n_words(n_active))


@inlined
def fills_zeros(net: Net) -> bool:
    """Return whether inputs that are zero do not stay so."""
    return net.plan.noise > 0.0 or layer_of(net, 0).dropout_threshold != 0


@inlined
def copies_inputs(net: Net) -> bool:
    """Return whether inputs are copied; a copy for a narrow layer would serve few products."""
    changes = fills_zeros(net) or net.plan.input_scale != 1.0 or rounds(net.plan)
    return changes or not is_narrow(layer_of(net, 0))


@inlined
def by_panels(net: Net, team: Team) -> bool:
    """Return whether the first layer is divided by panels among threads."""
    layer = layer_of(net, 0)
    return not is_narrow(layer) and divide_evenly(layer.out_panels, team.n_threads)


@value
class Part(NamedTuple):
    """What a thread reads of a batch: some rows' columns; of a narrow layer its own in all rows."""

    first_row: Index
    last_row: Index
    first_column: Index
    last_column: Index


@inlined
def part_of(net: Net, team: Team, n: Index) -> Part:
    """Return what a thread reads of a batch of `n` rows."""
    layer = layer_of(net, 0)
    if is_narrow(layer):
        step = lanes(net.memory)
        first_list, last_list = lists_of(layer, team)
        first, last = (
            first_column_of(layer, first_list, step),
            first_column_of(layer, last_list, step),
        )
        return Part(0, n, first, last)
    return Part(begin_of(n, team), end_of(n, team), 0, layer.n_in)


@kernel
def gather(
    net: Net,
    visits: Visits,
    part: Part,
    batch: Batch,
    columns: ColumnList,
    words: Numbers,
    mode: Index,
) -> None:
    """Copy a part of a batch into the first layer's inputs, with noise and dropout.

    Without the columns, and marking the terms, that the mode leaves out: what only rounding makes
    zero counts as a term.
    """
    plan, layer = net.plan, layer_of(net, 0)
    stride, width = layer.input_stride, part.last_column - part.first_column
    buffer, n_columns = buffer_of(net, batch.turn), columns.counts.n_active
    for row in range(part.first_row, part.last_row):
        out = advance(net.memory, buffer + row * stride + part.first_column)
        sample = load_index(visits.order, batch.start + row)
        where = sample * visits.stride + part.first_column
        if leaves_out_columns(mode):
            load_runs(visits.X, where, out, width, plan.input_scale, columns)
        else:
            load_row(visits.X, where, out, width, plan.input_scale)
        if mode == NONZEROS:
            mark_terms(out, n_columns, advance_index(words, row * n_words(n_columns)))
    if fills_zeros(net):
        add_noise_and_drop(net, part, batch)
    if rounds(plan):
        for row in range(part.first_row, part.last_row):
            out = advance(net.memory, buffer + row * stride + part.first_column)
            round_row(out, width)


@kernel
def add_noise_and_drop(net: Net, part: Part, batch: Batch) -> None:
    """Add noise to a part of a batch's copied inputs, and drop some of them."""
    plan, layer = net.plan, layer_of(net, 0)
    stride, width = layer.input_stride, part.last_column - part.first_column
    buffer, step = buffer_of(net, batch.turn), lanes(net.memory)
    radius_key = stream_key(plan.seed_key, batch.key, NOISE_RADIUS_STREAM)
    angle_key = stream_key(plan.seed_key, batch.key, NOISE_ANGLE_STREAM)
    key = stream_key(plan.seed_key, batch.key, 0)
    for row in range(part.first_row, part.last_row):
        out = advance(net.memory, buffer + row * stride + part.first_column)
        index = (plan.first_row + row) * layer.n_in + part.first_column
        if plan.noise > 0.0:
            add_noise(out, width, plan.noise, radius_key, angle_key, index)
        if layer.dropout_threshold != 0:
            for i in range(0, width, step):
                piece = Strip(advance(out, i), 0)
                threshold, scale = layer.dropout_threshold, layer.dropout_scale
                drop(piece, piece, False, 1, Mask(key, index + i, layer.n_in, threshold, scale))


@inlined
def copy_batch(
    net: Net, visits: Visits, team: Team, first: FirstLayer, batch: Batch, mode: Index
) -> None:
    """Copy the thread's part of a batch, where inputs are copied."""
    if copies_inputs(net):
        part, words = part_of(net, team, batch.n), words_of(net, first, batch.turn)
        columns = own_columns(net, first, team, batch.turn)
        gather(net, visits, part, batch, columns, words, mode)


@inlined
def _mode_by_columns(net: Net, team: Team, first: FirstLayer) -> Index:
    """Return the mode, as long as it is not known what is zero in tiles."""
    if is_narrow(layer_of(net, 0)):
        return PARTS
    if own_columns(net, first, team, 0).counts.leaves_out == 0:
        return DENSE
    lists_terms = net.plan.batch_size <= MOST_ROWS and layer_of(net, 0).paired == 0
    return NONZEROS if lists_terms else COLUMNS


@kernel
def choose_mode(net: Net, visits: Visits, team: Team, first: FirstLayer) -> Index:
    """Read the call's first batch, by which it is chosen what is left out; return the mode.

    That is `ABANDONED` if another thread gave up.
    """
    layer, columns, batch = layer_of(net, 0), first.columns, batch_of(net, net.plan.first_batch)
    narrow = is_narrow(layer)
    leave_out_anything(layer, team, columns)
    rows = Visits(visits.X, visits.stride, visits.order, batch.start, batch.start + batch.n)
    mark_batch(layer, rows, team, columns)
    if not narrow and not meet(team):
        return ABANDONED
    list_batch(layer, team, columns, 0)
    keep_all(layer, team, lanes(net.memory), fills_zeros(net), columns)
    mode = _mode_by_columns(net, team, first)
    copy_batch(net, visits, team, first, batch, mode)
    if not meet(team):
        return ABANDONED
    if mode == NONZEROS:
        n_active = own_columns(net, first, team, 0).counts.n_active
        if not has_gaps(marks_of(net, first, team, 0), batch.n, n_active, first.lists):
            return COLUMNS
    return mode


@inlined
def list_next_batch(
    net: Net, visits: Visits, team: Team, first: FirstLayer, batch: Batch, mode: Index
) -> bool:
    """List the columns of the next batch, and copy it; return False if a thread gave up."""
    layer = layer_of(net, 0)
    end = batch.start + batch.n
    rows = Visits(visits.X, visits.stride, visits.order, batch.start, end)
    mark_batch(layer, rows, team, first.columns)
    if (leaves_out_columns(mode)) and not meet(team):
        return False
    list_batch(layer, team, first.columns, batch.turn)
    copy_batch(net, visits, team, first, batch, mode)
    return True
