"""The gradient of the first layer's weights, by the inputs that are not zero, and its update."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastmlp.backends.numba_backend.first_layer.columns import (
    ColumnList,
    columns_of_list,
    list_at,
    lists_of,
)
from fastmlp.backends.numba_backend.first_layer.forward import rows_of_parts
from fastmlp.backends.numba_backend.first_layer.nonzeros import (
    list_rows_of_columns,
    multiply_terms,
)
from fastmlp.backends.numba_backend.first_layer.plan import (
    COLUMNS,
    NONZEROS,
    PARTS,
    Batch,
    FirstLayer,
    buffer_of,
    by_panels,
    marks_of,
)
from fastmlp.backends.numba_backend.kernels.optimizers import descend, is_plain
from fastmlp.backends.numba_backend.kernels.parameters import apply_rows, is_whole
from fastmlp.backends.numba_backend.kernels.rounding import follow_rows, rounds
from fastmlp.backends.numba_backend.plan import (
    Layer,
    Net,
    StepRates,
    Visits,
    layer_of,
    panel_of,
    weights_of_panel,
)
from fastmlp.backends.numba_backend.products.chunks import (
    CHUNK,
    Task,
    Tasks,
    shared_panels,
    task_of,
    whole_panels,
)
from fastmlp.backends.numba_backend.products.gradient import (
    SPREAD,
    Inputs,
    ask_for_weights,
    average_changed,
    change_biases,
    deltas_of,
    form_of,
    inputs_of_task,
    multiply_by_deltas,
    product_with_deltas,
)
from fastmlp.backends.numba_backend.products.heights import full_tiles
from fastmlp.backends.numba_backend.products.rows import ListedRows, Room
from fastmlp.backends.numba_backend.products.tiles import (
    Product,
    Terms,
    multiply_spread,
)
from fastmlp.backends.numba_backend.team.barrier import Team, begin_of, end_of
from fastmlp.backends.numba_backend.vectors.pointers import (
    Numbers,
    advance_index,
    larger,
    load_index,
    smaller,
)
from fastmlp.backends.numba_backend.vectors.records import value
from fastmlp.backends.numba_backend.vectors.simd import advance, lanes, store, zero
from fastmlp.backends.numba_backend.vectors.types import Index, Pointer, inlined, kernel


@value
class Used(NamedTuple):
    """The active ones of some columns of the inputs."""

    columns: ColumnList
    begin: Index
    stop: Index


@value
class Operands(NamedTuple):
    """What the deltas are multiplied with, as the mode wants it."""

    mode: Index
    inputs: Inputs  # all modes but PARTS: active columns only
    rows: ListedRows  # PARTS: the rows where they lie
    row_numbers: Numbers  # PARTS: 0, 1, 2, ...
    lists: Numbers  # NONZEROS: each tile's terms


@inlined
def multiply_with_deltas(
    net: Net, task: Task, operands: Operands, columns: ColumnList, room: Room
) -> None:
    """Write the gradient of the rows of a panel that belong to a task's active columns."""
    inputs, count, layer = operands.inputs, task.last - task.first, layer_of(net, 0)
    product = product_with_deltas(net, layer, task.panel, inputs, room)
    if operands.mode == PARTS:
        rows = operands.rows
        active = advance_index(columns.active, task.first)
        deltas = deltas_of(net, layer, task.panel)
        # All rows of deltas are used, by number: another kind of product would be compiled else.
        terms = Terms(rows.numbers, rows.stride, deltas, operands.row_numbers, rows.n)
        rest = (terms, product.initial, product.out, room.ahead)
        multiply_spread(count, Product(rows.data, active, 1, *rest))
    elif operands.mode == NONZEROS:
        multiply_terms(full_tiles(count), operands.lists, 1 + inputs.n, product)
    else:
        multiply_by_deltas(net, layer, task.panel, count, inputs, room)


@kernel
def apply_zeros(
    net: Net, panel: Index, first: Index, last: Index, scratch: Pointer, rates: StepRates
) -> None:
    """Apply a gradient of zeros to rows first to last of a panel."""
    step = lanes(scratch)
    for begin in range(first, last, CHUNK):
        end = smaller(begin + CHUNK, last)
        for i in range(0, (end - begin) * step, step):
            store(scratch, i, zero(scratch))
        rows = weights_of_panel(layer_of(net, 0), panel, begin, end, step)
        apply_rows(net, rows, scratch, rates)


@kernel
def follow_listed(net: Net, panel: Index, numbers: Numbers, n: Index) -> None:
    """Bring what products read of `n` rows of a panel, by number, up to date."""
    if rounds(net.plan):
        layer, step = layer_of(net, 0), lanes(net.memory)
        for i in range(n):
            row = load_index(numbers, i)
            follow_rows(net, weights_of_panel(layer, panel, row, row + 1, step))


@kernel
def apply_columns(net: Net, used: Used, task: Task, room: Room, rates: StepRates) -> Any:
    """Apply the gradient of the rows of a panel by active columns, and zeros between them.

    Returns the range of rows changed: up to the row of the next active column, and from the first
    of all if the task is the first.
    """
    step, columns, gradient = lanes(net.memory), used.columns, room.scratch
    layer, first, last = layer_of(net, 0), task.first, task.last
    start = used.begin if first == 0 else load_index(columns.active, first)
    stop = used.stop
    if last < columns.counts.n_active:
        stop = load_index(columns.active, last)
    if not is_whole(net.plan) and is_plain(net.plan, rates):
        # Weights whose gradient is zero stay as they are.
        active = advance_index(columns.active, first)
        panel = advance(net.memory, panel_of(layer, task.panel, step))
        descend(panel, active, last - first, gradient, rates.rate * layer.weights_rate)
        follow_listed(net, task.panel, active, last - first)
        return start, stop
    zeros = advance(gradient, CHUNK * step)
    at, passed = start, 0  # rows before `at` are done; so many active columns are passed
    for r in range(columns.counts.n_runs):
        run = load_index(columns.runs, 2 * r)
        length = load_index(columns.runs, 2 * r + 1) - run
        low, high = larger(first - passed, 0), smaller(last - passed, length)
        if low < high:
            begin, end = run + low, run + high
            apply_zeros(net, task.panel, at, begin, zeros, rates)
            own = advance(gradient, (passed + low - first) * step)
            rows = weights_of_panel(layer, task.panel, begin, end, step)
            apply_rows(net, rows, own, rates)
            at = end
        passed += length
        if passed >= last:
            break
    apply_zeros(net, task.panel, at, stop, zeros, rates)
    return start, stop


@kernel
def change_columns(
    net: Net, used: Used, task: Task, operands: Operands, room: Room, rates: StepRates
) -> None:
    """Compute the gradient of the rows of a panel by a task's active columns, and apply it."""
    layer, panel, active = layer_of(net, 0), task.panel, used.columns.active
    if task.last > task.first:
        begin, end = load_index(active, task.first), load_index(active, task.last - 1)
        ask_for_weights(net, layer, panel, begin, end, room)
    multiply_with_deltas(net, task, operands, used.columns, room)
    start, stop = apply_columns(net, used, task, room, rates)
    if task.ends_panel and used.stop == layer.n_in:
        n = operands.rows.n if operands.mode == PARTS else operands.inputs.n
        change_biases(net, layer, panel, n, room, rates)
        stop = layer.n_in + 1
    average_changed(net, layer, panel, start, stop)


@inlined
def tasks_of_first_layer(net: Net, team: Team, n_used: Index, mode: Index) -> Tasks:
    """Return a thread's tasks of the gradient by `n_used` columns."""
    n_panels = layer_of(net, 0).out_panels
    if mode == PARTS:
        return whole_panels(n_used, 0, n_panels)
    # Whole panels where the phases or the norms want it, otherwise finer tasks.
    if is_whole(net.plan) or by_panels(net, team):
        return whole_panels(n_used, begin_of(n_panels, team), end_of(n_panels, team))
    return shared_panels(n_used, n_panels, team, 0)


@inlined
def form_by_mode(layer: Layer, n: Index, tasks: Tasks, mode: Index, room: Room) -> Index:
    """Return in which form `n` inputs are multiplied: as they are where terms have numbers."""
    if mode > COLUMNS:
        return SPREAD
    return form_of(layer, n, tasks, room)


@inlined
def change_first_layer(
    net: Net,
    visits: Visits,
    team: Team,
    first: FirstLayer,
    batch: Batch,
    mode: Index,
    room: Room,
    rates: StepRates,
) -> None:
    """Compute a thread's share of the gradient of the first layer's weights, and apply it."""
    layer, step = layer_of(net, 0), lanes(net.memory)
    data, rows = buffer_of(net, batch.turn), rows_of_parts(net, visits, first, batch)
    first_list, last_list = lists_of(layer, team)
    for number in range(first_list, last_list):
        begin, stop = columns_of_list(layer, number, step)
        used = Used(list_at(first.columns, layer, number, batch.turn), begin, stop)
        tasks = tasks_of_first_layer(net, team, used.columns.counts.n_active, mode)
        form = form_by_mode(layer, batch.n, tasks, mode, room)
        whole = Inputs(advance(net.memory, data), layer.input_stride, batch.n, form)
        ready = -1  # the chunk whose inputs are copied, or whose terms are listed
        for i in range(tasks.first, tasks.last):
            task = task_of(tasks, i)
            inputs = inputs_of_task(whole, task, task.chunk != ready, room)
            if mode == NONZEROS and task.chunk != ready:
                marks = marks_of(net, first, team, batch.turn)
                list_rows_of_columns(marks, batch.n, task.first, task.last, first.lists)
            ready = task.chunk
            operands = Operands(mode, inputs, rows, first.row_numbers, first.lists)
            change_columns(net, used, task, operands, room, rates)
