"""Forward: pre-activations and activations of the layers, for a thread's share of a batch."""

from __future__ import annotations

from fastmlp.backends.numba_backend.kernels.activations import activate
from fastmlp.backends.numba_backend.kernels.noise import Mask, drop, stream_key
from fastmlp.backends.numba_backend.kernels.rounding import round_strip, rounds
from fastmlp.backends.numba_backend.plan import Net, Share, layer_of
from fastmlp.backends.numba_backend.products.pairs import multiply_by_layer
from fastmlp.backends.numba_backend.products.rows import Room, Rows, Strips, weights_of
from fastmlp.backends.numba_backend.vectors.simd import advance, lanes
from fastmlp.backends.numba_backend.vectors.strips import Strip
from fastmlp.backends.numba_backend.vectors.types import Index, Pointer, kernel

#: In place of a step's number: outputs are for prediction, without dropout and slopes.
PREDICTS = -1


@kernel
def forward(
    net: Net, number: Index, inputs: Rows, outputs: Pointer, share: Share, room: Room
) -> None:
    """Write a share of a layer's pre-activations: inputs @ weights + biases.

    `inputs` and `outputs` begin at the first of the rows.
    """
    layer = layer_of(net, number)
    strips = Strips(
        outputs, lanes(outputs), layer.delta_stride, share.first_panel, share.last_panel
    )
    multiply_by_layer(layer, inputs, weights_of(net, layer), strips, room)


@kernel
def activate_rows(net: Net, number: Index, outputs: Pointer, share: Share, key: Index) -> None:
    """Replace a share of a hidden layer's pre-activations by activations.

    `outputs` begins at the first of the rows; `key` is the number of the step, or `PREDICTS`. The
    last layer's rows stay as they are.
    """
    plan = net.plan
    if number == plan.n_layers - 1:
        return
    layer, above = layer_of(net, number), layer_of(net, number + 1)
    stride, step = layer.delta_stride, lanes(outputs)
    trains = key != PREDICTS
    stores = trains and above.stores_slopes != 0
    drops = trains and above.dropout_threshold != 0
    first_index = (plan.first_row + share.first_row) * layer.n_out
    for p in range(share.first_panel, share.last_panel):
        strip = Strip(advance(outputs, p * step), stride)
        slopes = strip
        if stores:
            start = above.slopes + share.first_row * stride + p * step
            slopes = Strip(advance(net.memory, start), stride)
        n_rows, parameter = share.n_rows, layer.activation_parameter
        activate(layer.activation, parameter, strip, n_rows, slopes, stores)
        if drops:
            own_key = stream_key(plan.seed_key, key, number + 1)
            threshold, scale = above.dropout_threshold, above.dropout_scale
            mask = Mask(own_key, first_index + p * step, layer.n_out, threshold, scale)
            drop(strip, slopes, stores, n_rows, mask)
        if rounds(plan):
            round_strip(strip, n_rows)
