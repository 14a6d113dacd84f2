"""The logits of many rows, in blocks that stay in the caches."""

from __future__ import annotations

from typing import Any

from fastmlp.backends.numba_backend.first_layer.inputs import load_row
from fastmlp.backends.numba_backend.plan import Net, Share, layer_of
from fastmlp.backends.numba_backend.products.packing import PACKED_SIZE
from fastmlp.backends.numba_backend.products.prefetch import Ahead
from fastmlp.backends.numba_backend.products.rows import Room, Rows
from fastmlp.backends.numba_backend.programs.forward import PREDICTS, activate_rows, forward
from fastmlp.backends.numba_backend.team.barrier import Team, begin_of, end_of, meet
from fastmlp.backends.numba_backend.vectors.pointers import index_pointer, nowhere, smaller
from fastmlp.backends.numba_backend.vectors.records import nothing_like, pointers_of, record
from fastmlp.backends.numba_backend.vectors.simd import (
    Index,
    Pointer,
    advance,
    inlined,
    load_scalar,
    store_scalar,
)


@inlined
def predict_block(net: Net, call: Any, room: Room, start: Index, n: Index) -> Pointer:
    """Return the last layer's pre-activations of the rows of a block."""
    first = layer_of(net, 0)
    inputs = advance(room.packed, PACKED_SIZE)
    outputs = advance(inputs, (call.scratch_size - PACKED_SIZE) // 2)
    for row in range(n):
        where, out = (start + row) * call.x_stride, advance(inputs, row * first.input_stride)
        load_row(call.X, where, out, first.n_in, net.plan.input_scale)
    for number in range(net.plan.n_layers):
        layer = layer_of(net, number)
        share = Share(0, n, 0, layer.out_panels)
        forward(net, number, Rows(inputs, layer.input_stride, n), outputs, share, room)
        activate_rows(net, number, outputs, share, PREDICTS)
        inputs, outputs = outputs, inputs
    return inputs


def predict(thread: Any, n_threads: Any, memory: Any, prediction: Any, sync: Any) -> bool:
    """Write the logits of all rows, in blocks, as one thread of a team.

    Parameters
    ----------
    thread, n_threads, memory, sync
        As `train` takes them.
    prediction : Prediction

    Returns
    -------
    bool
        False if another thread gave up.
    """
    team = Team(thread, n_threads, index_pointer(sync, 0))
    held, call = pointers_of(memory), pointers_of(prediction)
    net = Net(record(held.plan, 0), held.layers, held.floats)
    last = layer_of(net, net.plan.n_layers - 1)
    packed = advance(call.scratch, thread * call.scratch_size)
    room = Room(packed, packed, Ahead(nothing_like(held.requests), nowhere()))
    n_blocks = (call.n_samples + call.block_rows - 1) // call.block_rows
    for block in range(begin_of(n_blocks, team), end_of(n_blocks, team)):
        start = block * call.block_rows
        n = smaller(call.block_rows, call.n_samples - start)
        rows = predict_block(net, call, room, start, n)
        for row in range(n):
            for k in range(last.n_out):
                z = load_scalar(rows, row * last.delta_stride + k)
                store_scalar(call.logits, (start + row) * last.n_out + k, z)
    return meet(team)
