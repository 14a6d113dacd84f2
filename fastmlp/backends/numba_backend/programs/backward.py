"""Backward: deltas of the layer below, for a thread's share of a batch."""

from __future__ import annotations

from fastmlp.backends.numba_backend.kernels.activations import slope_from_output
from fastmlp.backends.numba_backend.kernels.rounding import round_strip, rounds
from fastmlp.backends.numba_backend.plan import Layer, Net, Share, layer_of
from fastmlp.backends.numba_backend.products.pairs import multiply_by_layer
from fastmlp.backends.numba_backend.products.rows import Panels, Room, Rows, Strips
from fastmlp.backends.numba_backend.vectors.pointers import nowhere
from fastmlp.backends.numba_backend.vectors.simd import advance, lanes, load, store
from fastmlp.backends.numba_backend.vectors.strips import Strip
from fastmlp.backends.numba_backend.vectors.types import Index, Pointer, inlined, kernel


@inlined
def transposed(net: Net, layer: Layer) -> Panels:
    """Return the transpose of a layer's weights, as the backward pass multiplies with it."""
    data, zeros = advance(net.memory, layer.effective), advance(net.memory, net.plan.constants)
    stride = (layer.n_in + 1) * lanes(net.memory)
    return Panels(data, stride, nowhere(), layer.n_in, layer.n_out, zeros, 0)


@kernel
def multiply_by_slopes(
    net: Net, number: Index, inputs: Pointer, strip: Strip, share: Share, panel: Index
) -> None:
    """Multiply a panel of a share's deltas below a layer by the activations' derivatives.

    `inputs` are the layer's: the activations. The result goes to the deltas' rows too.
    """
    layer, below = layer_of(net, number), layer_of(net, number - 1)
    stride, column = layer.input_stride, panel * lanes(net.memory)
    start = share.first_row * stride + column
    if layer.stores_slopes != 0:
        slopes = advance(net.memory, layer.slopes + start)
        for row in range(share.n_rows):
            i = row * strip.stride
            store(strip.data, i, load(strip.data, i) * load(slopes, row * stride))
    else:
        outputs = advance(inputs, start)
        for row in range(share.n_rows):
            slope = slope_from_output(below.activation, load(outputs, row * stride))
            i = row * strip.stride
            store(strip.data, i, load(strip.data, i) * slope)
    if rounds(net.plan):
        round_strip(strip, share.n_rows)
    if number > 1:
        where = below.deltas + share.first_row * below.delta_stride + column
        rows = advance(net.memory, where)
        for row in range(share.n_rows):
            store(rows, row * below.delta_stride, load(strip.data, row * strip.stride))


@kernel
def backward(net: Net, number: Index, inputs: Pointer, share: Share, room: Room) -> None:
    """Write a share of the deltas below a layer: (deltas @ weights.T) * slopes.

    `inputs` are the layer's.
    """
    layer, below = layer_of(net, number), layer_of(net, number - 1)
    step, first = lanes(net.memory), share.first_row
    deltas = advance(net.memory, layer.deltas + first * layer.delta_stride)
    rows = Rows(deltas, layer.delta_stride, share.n_rows)
    strips = advance(net.memory, below.delta_panels + first * step)
    size = net.plan.batch_size * step
    out = Strips(strips, size, step, share.first_panel, share.last_panel)
    multiply_by_layer(layer, rows, transposed(net, layer), out, room)
    for p in range(share.first_panel, share.last_panel):
        strip = Strip(advance(strips, p * size), step)
        multiply_by_slopes(net, number, inputs, strip, share, p)
