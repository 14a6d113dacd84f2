"""What many rows are predicted to be, in blocks that stay in the caches."""

from __future__ import annotations

from typing import Any

from fastmlp.backends.numba_backend.first_layer.inputs import load_row
from fastmlp.backends.numba_backend.kernels.losses import SOFTMAX
from fastmlp.backends.numba_backend.kernels.outputs import (
    decide,
    finish_rows,
    is_nothing,
    sum_of_nothings,
)
from fastmlp.backends.numba_backend.kernels.rounding import round_row, rounds
from fastmlp.backends.numba_backend.plan import Net, Share, layer_of
from fastmlp.backends.numba_backend.products.packing import PACKED_SIZE
from fastmlp.backends.numba_backend.products.pairs import PAIRS_SIZE
from fastmlp.backends.numba_backend.products.prefetch import Ahead
from fastmlp.backends.numba_backend.products.rows import Room, Rows
from fastmlp.backends.numba_backend.programs.arguments import Integers, Memory, Prediction
from fastmlp.backends.numba_backend.programs.forward import PREDICTS, activate_rows, forward
from fastmlp.backends.numba_backend.team.barrier import Team, claim
from fastmlp.backends.numba_backend.vectors.pointers import (
    advance_index,
    index_pointer,
    nowhere,
    smaller,
    store_index,
)
from fastmlp.backends.numba_backend.vectors.records import nothing_like, pointers_of, record
from fastmlp.backends.numba_backend.vectors.simd import advance, lanes, store, zero
from fastmlp.backends.numba_backend.vectors.strips import Strip, from_row
from fastmlp.backends.numba_backend.vectors.types import Index, Pointer, kernel


@kernel
def load_rows(net: Net, call: Any, start: Index, n: Index, out: Pointer) -> None:
    """Copy rows of the inputs, scaled; note if there are NaN or infinite values among them."""
    first, nothing = layer_of(net, 0), zero(out)
    last_panel, total = (first.in_panels - 1) * lanes(out), nothing
    for row in range(n):
        own = advance(out, row * first.input_stride)
        store(own, last_panel, nothing)  # whatever lay behind the row
        load_row(call.X, (start + row) * call.x_stride, own, first.n_in, net.plan.input_scale)
        total = sum_of_nothings(own, first.n_in, total)
        if rounds(net.plan):
            round_row(own, first.n_in)
    if not is_nothing(total):
        store_index(call.found, 0, 1)


@kernel
def logits_of(net: Net, inputs: Pointer, outputs: Pointer, n: Index, room: Room) -> Any:
    """Return where the last layer's pre-activations of `n` rows of inputs are written."""
    for number in range(net.plan.n_layers):
        layer = layer_of(net, number)
        share = Share(0, n, 0, layer.out_panels)
        forward(net, number, Rows(inputs, layer.input_stride, n), outputs, share, room)
        activate_rows(net, number, outputs, share, PREDICTS)
        inputs, outputs = outputs, inputs
    return inputs


@kernel
def note_rows(call: Any, logits: Strip, n: Index, n_out: Index) -> None:
    """Note if there are NaN or infinite values among the logits of rows."""
    total = zero(logits.data)
    for row in range(n):
        total = sum_of_nothings(from_row(logits, row).data, n_out, total)
    if not is_nothing(total):
        store_index(call.found, 0, 1)


@kernel
def write_rows(
    call: Any, logits: Strip, start: Index, n: Index, n_out: Index, square: Pointer
) -> None:
    """Write what is wanted of rows, given their logits."""
    if call.decides != 0:
        width = 1 if call.output == SOFTMAX else n_out
        for row in range(n):
            decision = advance_index(call.decisions, (start + row) * width)
            decide(call.output, from_row(logits, row).data, n_out, decision)
        return
    finish_rows(call.output, logits, n, n_out, square)
    for row in range(n):
        output = advance(call.outputs, (start + row) * n_out)
        load_row(from_row(logits, row).data, 0, output, n_out, 1.0)


def predict(
    thread: int, n_threads: int, memory: Memory, prediction: Prediction, sync: Integers
) -> bool:
    """Write what is wanted of all rows, in blocks, as one thread of a team.

    Parameters
    ----------
    thread, n_threads, memory, sync
        As `train` takes them.
    prediction : Prediction

    Returns
    -------
    bool
        True.
    """
    team = Team(thread, n_threads, index_pointer(sync, 0))
    return predict_blocks(team, pointers_of(memory), pointers_of(prediction), None, 0)


def predict_paired(
    thread: int, n_threads: int, memory: Memory, prediction: Prediction, sync: Integers
) -> bool:
    """Do what `predict` does, and multiply pairs of bfloat16 where layers are `paired`.

    Parameters
    ----------
    thread, n_threads, memory, prediction, sync
        As `predict` takes them.

    Returns
    -------
    bool
        True.
    """
    team, call = Team(thread, n_threads, index_pointer(sync, 0)), pointers_of(prediction)
    pairs = advance(call.scratch, thread * call.scratch_size)
    return predict_blocks(team, pointers_of(memory), call, pairs, PAIRS_SIZE)


@kernel
def predict_blocks(team: Team, held: Any, call: Any, pairs: Any, used: Index) -> bool:
    """Do what `predict` describes, given pointers; `pairs` is None where none are multiplied.

    It is at the beginning of a thread's scratch, where it has `used` so many elements.
    """
    net = Net(record(held.plan, 0), held.layers, held.floats)
    last = layer_of(net, net.plan.n_layers - 1)
    packed = advance(call.scratch, team.thread * call.scratch_size + used)
    inputs = advance(packed, PACKED_SIZE)
    outputs = advance(inputs, (call.scratch_size - used - PACKED_SIZE) // 2)
    room = Room(packed, packed, Ahead(nothing_like(held.requests), nowhere()), pairs)
    n_blocks = (call.n_samples + call.block_rows - 1) // call.block_rows
    block = claim(team)
    while block < n_blocks:
        start = block * call.block_rows
        n = smaller(call.block_rows, call.n_samples - start)
        load_rows(net, call, start, n, inputs)
        logits = Strip(logits_of(net, inputs, outputs, n, room), last.delta_stride)
        note_rows(call, logits, n, last.n_out)
        write_rows(call, logits, start, n, last.n_out, packed)
        block = claim(team)
    return True
