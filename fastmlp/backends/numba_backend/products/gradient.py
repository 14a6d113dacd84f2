"""The gradient of a panel's weights: a product of inputs and deltas, finished and applied."""

from __future__ import annotations

from typing import NamedTuple

from fastmlp.backends.numba_backend.kernels.parameters import (
    apply_rows,
    average_rows,
    is_whole,
)
from fastmlp.backends.numba_backend.plan import (
    Layer,
    Net,
    StepRates,
    biases_of_panel,
    panel_of,
    size_of,
    weights_of_panel,
)
from fastmlp.backends.numba_backend.products.chunks import CHUNK, FAR, Task, Tasks
from fastmlp.backends.numba_backend.products.packing import (
    PACKED_ROWS,
    WORTH_PACKING,
    Source,
    pack_tiles,
)
from fastmlp.backends.numba_backend.products.pairs import (
    multiply_pairs,
    n_pairs,
    pair_panel,
    pair_terms,
    sums_pairs,
)
from fastmlp.backends.numba_backend.products.prefetch import list_pieces
from fastmlp.backends.numba_backend.products.rows import Room, asks_ahead
from fastmlp.backends.numba_backend.products.tiles import Product, Terms, multiply_panel
from fastmlp.backends.numba_backend.vectors.pointers import by_presence
from fastmlp.backends.numba_backend.vectors.records import value
from fastmlp.backends.numba_backend.vectors.simd import advance, lanes, load, store, zero
from fastmlp.backends.numba_backend.vectors.strips import Strip
from fastmlp.backends.numba_backend.vectors.types import Index, Pointer, inlined, kernel

#: Inputs lie where the layer has them, or copied: packed as tiles, or in pairs of rows.
SPREAD, PACKED, PAIRED = range(3)


@value
class Inputs(NamedTuple):
    """A layer's inputs, whose columns are multiplied with deltas."""

    data: Pointer
    stride: Index  # from one row to the next
    n: Index  # rows
    form: Index


@inlined
def packs_inputs(layer: Layer, n: Index, tasks: Tasks) -> bool:
    """Return whether `n` inputs are packed: where they are far apart, and serve many panels."""
    n_panels, size = tasks.last_panel - tasks.first_panel, n * layer.input_stride
    return size >= FAR and n * CHUNK <= PACKED_ROWS and n_panels >= WORTH_PACKING


@inlined
def _unpaired(layer: Layer, n: Index, tasks: Tasks) -> Index:
    return PACKED if packs_inputs(layer, n, tasks) else SPREAD


@inlined
def _any_form(layer: Layer, n: Index, tasks: Tasks) -> Index:
    return PAIRED if sums_pairs(layer, n) else _unpaired(layer, n, tasks)


@inlined
def form_of(layer: Layer, n: Index, tasks: Tasks, room: Room) -> Index:
    """Return in which form `n` inputs of a layer are multiplied."""
    return by_presence(room.pairs, _any_form, _unpaired)(layer, n, tasks)


@inlined
def _pack(inputs: Inputs, task: Task, room: Room) -> None:
    rows = advance(inputs.data, task.first)
    source = Source(rows, 1, inputs.stride, inputs.n, room.packed)
    pack_tiles(source, task.last - task.first)


@inlined
def _copy(inputs: Inputs, task: Task, room: Room) -> None:
    if inputs.form == PAIRED:
        rows = advance(inputs.data, task.first)
        source = Source(rows, 1, inputs.stride, inputs.n, room.packed)
        pair_terms(source, task.last - task.first, CHUNK)
    else:
        _pack(inputs, task, room)


@inlined
def inputs_of_task(inputs: Inputs, task: Task, is_first: bool, room: Room) -> Inputs:
    """Return the columns of a task; `is_first` of those with the same columns, it copies them."""
    if inputs.form == SPREAD:
        return Inputs(advance(inputs.data, task.first), inputs.stride, inputs.n, SPREAD)
    if is_first:
        by_presence(room.pairs, _copy, _pack)(inputs, task, room)
    return Inputs(room.packed, inputs.stride, inputs.n, inputs.form)


@inlined
def deltas_of(net: Net, layer: Layer, panel: Index) -> Pointer:
    """Return a panel of a layer's deltas."""
    return advance(net.memory, layer.delta_panels + panel * net.plan.batch_size * lanes(net.memory))


@inlined
def product_with_deltas(
    net: Net, layer: Layer, panel: Index, inputs: Inputs, room: Room
) -> Product:
    """Return the product of columns of inputs with a panel of deltas, into the scratch."""
    terms = Terms(None, inputs.stride, deltas_of(net, layer, panel), None, inputs.n)
    zeros, out = advance(net.memory, net.plan.constants), Strip(room.scratch, lanes(net.memory))
    return Product(inputs.data, None, 1, terms, Strip(zeros, 0), out, room.ahead)


@inlined
def _multiply_in_full(
    net: Net, layer: Layer, panel: Index, count: Index, inputs: Inputs, room: Room
) -> None:
    product = product_with_deltas(net, layer, panel, inputs, room)
    multiply_panel(inputs.form == PACKED, count, product)


@inlined
def _multiply_either(
    net: Net, layer: Layer, panel: Index, count: Index, inputs: Inputs, room: Room
) -> None:
    if inputs.form == PAIRED:
        pair_panel(deltas_of(net, layer, panel), inputs.n, room.pairs)
        whole = product_with_deltas(net, layer, panel, inputs, room)
        terms = Terms(None, CHUNK, room.pairs, None, n_pairs(inputs.n))
        rest = (terms, whole.initial, whole.out, room.ahead)
        multiply_pairs(count, Product(inputs.data, None, 1, *rest))
    else:
        _multiply_in_full(net, layer, panel, count, inputs, room)


@inlined
def multiply_by_deltas(
    net: Net, layer: Layer, panel: Index, count: Index, inputs: Inputs, room: Room
) -> None:
    """Write the product of `count` columns of inputs with a panel of deltas into the scratch."""
    multiply = by_presence(room.pairs, _multiply_either, _multiply_in_full)
    multiply(net, layer, panel, count, inputs, room)


@inlined
def ask_for_weights(
    net: Net, layer: Layer, panel: Index, first: Index, last: Index, room: Room
) -> None:
    """Ask for rows first to last of a panel, and what belongs to them, if they are far."""
    plan, step = net.plan, lanes(net.memory)
    if not is_whole(plan) and asks_ahead(size_of(layer), room.ahead):
        changed = advance(net.memory, panel_of(layer, panel, step) + first * step)
        size = (last + 1 - first) * step
        list_pieces(changed, size, plan.block_size, 1 + plan.n_moments, room.ahead)


@kernel
def bias_gradient(deltas: Pointer, n: Index, out: Pointer) -> None:
    """Write the gradient of a panel's biases: the sum of `n` rows of deltas."""
    step = lanes(deltas)
    # Two sums at once: a single one would wait for every addition.
    even, odd = zero(deltas), zero(deltas)
    for row in range(0, n - 1, 2):
        even = even + load(deltas, row * step)
        odd = odd + load(deltas, (row + 1) * step)
    if n % 2 != 0:
        even = even + load(deltas, (n - 1) * step)
    store(out, 0, even + odd)


@kernel
def change_biases(
    net: Net, layer: Layer, panel: Index, n: Index, room: Room, rates: StepRates
) -> None:
    """Compute the gradient of a panel's biases from `n` rows of deltas, and apply it."""
    bias_gradient(deltas_of(net, layer, panel), n, room.scratch)
    apply_rows(net, biases_of_panel(layer, panel, lanes(net.memory)), room.scratch, rates)


@inlined
def average_changed(net: Net, layer: Layer, panel: Index, first: Index, last: Index) -> None:
    """Bring the average of rows first to last of a panel up to date, if they have changed."""
    if not is_whole(net.plan):
        step = lanes(net.memory)
        average_rows(net, panel_of(layer, panel, step) + first * step, last - first)


@kernel
def change_rows(
    net: Net, layer: Layer, task: Task, inputs: Inputs, room: Room, rates: StepRates
) -> None:
    """Compute the gradient of some rows of a panel, by as many inputs, and apply it."""
    step, first, last = lanes(net.memory), task.first, task.last
    if last > first:
        ask_for_weights(net, layer, task.panel, first, last - 1, room)
    multiply_by_deltas(net, layer, task.panel, last - first, inputs, room)
    rows = weights_of_panel(layer, task.panel, first, last, step)
    apply_rows(net, rows, room.scratch, rates)
    if task.ends_panel:
        change_biases(net, layer, task.panel, inputs.n, room, rates)
        last = layer.n_in + 1
    average_changed(net, layer, task.panel, first, last)
