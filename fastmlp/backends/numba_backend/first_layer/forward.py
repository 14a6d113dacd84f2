"""The first layer's pre-activations, without what is zero."""

from __future__ import annotations

from fastmlp.backends.numba_backend.first_layer.columns import (
    N_PARTS,
    Columns,
    list_at,
    lists_of,
)
from fastmlp.backends.numba_backend.first_layer.nonzeros import (
    from_marks,
    multiply_rows_by_terms,
)
from fastmlp.backends.numba_backend.first_layer.plan import (
    NONZEROS,
    Batch,
    FirstLayer,
    buffer_of,
    copies_inputs,
    leaves_out_columns,
    marks_of,
    own_columns,
)
from fastmlp.backends.numba_backend.plan import Net, Share, Visits, layer_of
from fastmlp.backends.numba_backend.products.pairs import multiply_by_layer
from fastmlp.backends.numba_backend.products.prefetch import Ahead
from fastmlp.backends.numba_backend.products.rows import (
    ListedRows,
    Panels,
    Room,
    Rows,
    Strips,
    multiply_listed,
    weights_of,
)
from fastmlp.backends.numba_backend.team.barrier import Team
from fastmlp.backends.numba_backend.vectors.pointers import advance_index
from fastmlp.backends.numba_backend.vectors.simd import advance, lanes, load, store
from fastmlp.backends.numba_backend.vectors.types import Index, Pointer, inlined, kernel


@inlined
def rows_of_parts(net: Net, visits: Visits, first: FirstLayer, batch: Batch) -> ListedRows:
    """Return where a narrow first layer finds a batch: in its copy, or where the rows lie."""
    if copies_inputs(net):
        copy = advance(net.memory, buffer_of(net, batch.turn))
        return ListedRows(copy, first.row_numbers, layer_of(net, 0).input_stride, batch.n)
    samples = advance_index(visits.order, batch.start)
    return ListedRows(visits.X, samples, visits.stride, batch.n)


@kernel
def multiply_parts(
    net: Net, rows: ListedRows, team: Team, columns: Columns, turn: Index, ahead: Ahead
) -> None:
    """Write the products of a thread's parts of a batch with the weights of a narrow layer."""
    layer, plan, step = layer_of(net, 0), net.plan, lanes(net.memory)
    stride = layer.delta_stride
    weights = weights_of(net, layer)
    first_part, last_part = lists_of(layer, team)
    for part in range(first_part, last_part):
        own = list_at(columns, layer, part, turn)
        initial, initial_stride = advance(net.memory, plan.constants), 0
        if part == N_PARTS - 1:  # whose thread changes the biases
            initial, initial_stride = weights.initial, weights.initial_stride
        used = (own.active, 0, own.counts.n_active, initial, initial_stride)
        panels = Panels(weights.data, weights.stride, *used)
        out = advance(net.memory, plan.parts + part * plan.batch_size * stride)
        multiply_listed(rows, panels, Strips(out, step, stride, 0, layer.out_panels), ahead)


@kernel
def add_parts(net: Net, outputs: Pointer, first_row: Index, n_rows: Index) -> None:
    """Write the sums of the parts' products for some rows; `outputs` points to the first."""
    layer, plan, step = layer_of(net, 0), net.plan, lanes(outputs)
    stride = layer.delta_stride
    size = plan.batch_size * stride
    parts = advance(net.memory, plan.parts + first_row * stride)
    for row in range(n_rows):
        for i in range(row * stride, row * stride + layer.out_panels * step, step):
            total = load(parts, i)
            for part in range(1, N_PARTS):
                total = total + load(parts, part * size + i)
            store(outputs, i, total)


@inlined
def forward_first_layer(
    net: Net,
    outputs: Pointer,
    share: Share,
    team: Team,
    first: FirstLayer,
    batch: Batch,
    mode: Index,
    room: Room,
) -> None:
    """Write a share of the first layer's pre-activations, where it is not divided by columns."""
    layer = layer_of(net, 0)
    inputs = advance(net.memory, buffer_of(net, batch.turn) + share.first_row * layer.input_stride)
    rows = Rows(inputs, layer.input_stride, share.n_rows)
    strips = Strips(
        outputs, lanes(outputs), layer.delta_stride, share.first_panel, share.last_panel
    )
    panels = weights_of(net, layer)
    if leaves_out_columns(mode):
        own = own_columns(net, first, team, batch.turn)
        used = (own.active, 0, own.counts.n_active, panels.initial, panels.initial_stride)
        panels = Panels(panels.data, panels.stride, *used)
    if mode == NONZEROS:
        marks = from_marks(marks_of(net, first, team, batch.turn), share.first_row)
        multiply_rows_by_terms(rows, panels, marks, first.lists, strips, room)
    else:
        multiply_by_layer(layer, rows, panels, strips, room)
