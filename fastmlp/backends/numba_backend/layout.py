"""Where everything lies in a session's memory, and the codes by which kernels know names.

All floats of a session are one array. A *block* holds one value for each parameter in panels: for
every layer ``[panels][n_in + 1][lanes]``, the last row of a panel being the biases. Parameters,
moments, the average and the gradient are blocks of equal layout; padding lanes are zero. Rows of
activations are an odd number of cache lines apart, so that a column of a tile spreads over the
whole cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.numba_backend.integers import load_index
from fastmlp.backends.numba_backend.simd import LANES_BYTES, inlined

Array = NDArray[Any]

# Hidden activations, output activations, losses and optimizers as the kernels know them.
ACTIVATION_CODES = {
    "identity": 0,
    "relu": 1,
    "sigmoid": 2,
    "tanh": 3,
    "leaky_relu": 4,
    "elu": 5,
    "selu": 6,
    "gelu": 7,
    "gelu_tanh": 8,
    "silu": 9,
    "mish": 10,
    "softplus": 11,
    "relu6": 12,
    "hard_tanh": 13,
    "hard_sigmoid": 14,
    "hard_swish": 15,
}
OUTPUT_CODES = {"softmax": 0, "sigmoid": 1, "linear": 2, "exp": 3}
LOSS_CODES = {
    "cross_entropy": 0,
    "mse": 1,
    "squared_error": 1,
    "mae": 2,
    "huber": 3,
    "quantile": 4,
    "poisson": 5,
    "custom": 6,
}
OPTIMIZER_CODES = {"sgd": 0, "adam": 1, "adamw": 1, "rmsprop": 2, "adagrad": 3, "lion": 4}

# Columns of the integer table of layers. Offsets count elements of the session's memory, except
# WEIGHTS, which counts from the beginning of a block.
(
    N_IN,
    N_OUT,
    IN_PANELS,
    OUT_PANELS,
    ACTIVATION,  # of the layer's outputs; the last layer's is unused
    WEIGHTS,
    INPUTS,  # rows of the layer's inputs
    INPUT_STRIDE,
    SLOPES,  # derivatives of the activations that are the layer's inputs; same stride
    STORES_SLOPES,  # 0 where the derivative is had from the activation itself
    DELTAS,  # rows of the loss's gradient by the layer's pre-activations
    DELTA_STRIDE,
    DELTA_PANELS,  # the same as panels [out_panels][batch_size][lanes]
    DROPOUT_THRESHOLD,  # bits below it drop an input; 0 for no dropout
    N_LAYER_FIELDS,
) = range(15)

# Columns of the float64 table of layers.
ACTIVATION_PARAMETER, DROPOUT_SCALE, N_LAYER_REALS = range(3)

#: Activations whose derivative is had from their output in one or two instructions.
_SLOPE_FROM_OUTPUT = ("identity", "relu", "sigmoid", "tanh")


@inlined
def field(layers: Any, layer: Any, number: Any) -> Any:
    """Return a field of the table of layers."""
    return load_index(layers, layer * N_LAYER_FIELDS + number)


class Layout:
    """The table of layers and the regions of memory for a network and a batch size.

    Parameters
    ----------
    layer_shapes : sequence of (int, int)
    activations : sequence of Activation
        The hidden layers'.
    dropout_rates : sequence of float
        The dropped share of every layer's inputs.
    dtype : dtype
    batch_size : int
    n_blocks : int
        How many blocks of parameter layout are wanted.

    Attributes
    ----------
    layers, reals : ndarray
        The tables of layers.
    block_size : int
        Elements in a block; block b begins at element b * block_size.
    size : int
        Elements of memory in all.

    Examples
    --------
    >>> layout = Layout([(3, 2)], [], [0.0], np.dtype("float32"), 4, 1)
    >>> layout.block_size
    64
    """

    def __init__(
        self,
        layer_shapes: Sequence[tuple[int, int]],
        activations: Sequence[Any],
        dropout_rates: Sequence[float],
        dtype: np.dtype[Any],
        batch_size: int,
        n_blocks: int,
    ) -> None:
        self.layer_shapes = list(layer_shapes)
        self.dtype = dtype
        self.lanes = LANES_BYTES // dtype.itemsize
        n_layers = len(self.layer_shapes)
        self.layers = np.zeros((n_layers, N_LAYER_FIELDS), dtype=np.int64)
        self.reals = np.zeros((n_layers, N_LAYER_REALS))
        for layer, (n_in, n_out) in enumerate(self.layer_shapes):
            row = self.layers[layer]
            row[N_IN], row[N_OUT] = n_in, n_out
            row[IN_PANELS], row[OUT_PANELS] = self.panels(n_in), self.panels(n_out)
            row[INPUT_STRIDE], row[DELTA_STRIDE] = self.row_stride(n_in), self.row_stride(n_out)
            row[DROPOUT_THRESHOLD] = int(dropout_rates[layer] * 2**32)
            self.reals[layer, DROPOUT_SCALE] = 1 / (1 - dropout_rates[layer])
            if layer < n_layers - 1:
                row[ACTIVATION] = ACTIVATION_CODES[activations[layer].name]
                self.reals[layer, ACTIVATION_PARAMETER] = activation_parameter(activations[layer])
                self.layers[layer + 1, STORES_SLOPES] = (
                    dropout_rates[layer + 1] > 0
                    or activations[layer].name not in _SLOPE_FROM_OUTPUT
                )
        self._place(batch_size, n_blocks)

    def panels(self, width: int) -> int:
        """Return how many panels hold `width` columns."""
        return -(-width // self.lanes)

    def row_stride(self, width: int) -> int:
        """Return the distance of rows of `width` elements: an odd number of cache lines."""
        return (self.panels(width) | 1) * self.lanes

    def _place(self, batch_size: int, n_blocks: int) -> None:
        lanes, end = self.lanes, 0
        for row in self.layers:
            row[WEIGHTS] = end
            end += row[OUT_PANELS] * (row[N_IN] + 1) * lanes
        self.block_size = int(end)
        end *= n_blocks

        def take(count: int) -> int:
            nonlocal end
            start = end
            end += -(-int(count) // lanes) * lanes
            return int(start)

        # The inputs of the first two layers have two buffers: one is filled, the other is used.
        self.second_input = 0
        self.second_hidden = 0
        for layer, row in enumerate(self.layers):
            rows = batch_size * row[INPUT_STRIDE]
            row[INPUTS] = take(rows)
            if layer == 0:
                self.second_input = take(rows)
            elif layer == 1:
                self.second_hidden = take(rows)
            if row[STORES_SLOPES]:
                row[SLOPES] = take(rows)
            row[DELTAS] = take(batch_size * row[DELTA_STRIDE])
            row[DELTA_PANELS] = take(batch_size * row[OUT_PANELS] * lanes)
        self.size = int(end)

    def pack(self, flat: Array, block: Array) -> None:
        """Write a flat vector into a block; the padding becomes zero."""
        lanes, start = self.lanes, 0
        for row in self.layers:
            n_in, n_out, panels = int(row[N_IN]), int(row[N_OUT]), int(row[OUT_PANELS])
            stop = start + (n_in + 1) * n_out
            wide = np.zeros((n_in + 1, panels * lanes), dtype=block.dtype)
            wide[:, :n_out] = flat[start:stop].reshape(n_in + 1, n_out)
            target = block[row[WEIGHTS] : row[WEIGHTS] + wide.size]
            target.reshape(panels, n_in + 1, lanes)[:] = wide.reshape(
                n_in + 1, panels, lanes
            ).transpose(1, 0, 2)
            start = stop

    def unpack(self, block: Array, flat: Array) -> None:
        """Write a block into a flat vector."""
        lanes, start = self.lanes, 0
        for row in self.layers:
            n_in, n_out, panels = int(row[N_IN]), int(row[N_OUT]), int(row[OUT_PANELS])
            stop = start + (n_in + 1) * n_out
            source = block[row[WEIGHTS] : row[WEIGHTS] + panels * (n_in + 1) * lanes]
            wide = source.reshape(panels, n_in + 1, lanes).transpose(1, 0, 2)
            flat[start:stop].reshape(n_in + 1, n_out)[:] = wide.reshape(n_in + 1, -1)[:, :n_out]
            start = stop


def activation_parameter(activation: Any) -> float:
    """Return the one number that an activation may have."""
    for name in ("negative_slope", "alpha"):
        if hasattr(activation, name):
            return float(getattr(activation, name))
    return 0.0


def aligned_zeros(size: int, dtype: np.dtype[Any]) -> Array:
    """Return zeros that begin on a cache line.

    Examples
    --------
    >>> aligned_zeros(10, np.dtype("float32")).ctypes.data % 64
    0
    """
    raw = np.zeros(size * dtype.itemsize + LANES_BYTES, dtype=np.uint8)
    skip = -raw.ctypes.data % LANES_BYTES
    return raw[skip : skip + size * dtype.itemsize].view(dtype)
