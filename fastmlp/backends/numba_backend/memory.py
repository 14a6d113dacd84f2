"""The one allocator: a session's arrays, and the records that say what lies where in them.

Rows of activations are an odd number of cache lines apart, so that a column of a tile spreads over
the whole cache.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import _bfloat16
from fastmlp.backends.numba_backend.first_layer.columns import N_PARTS, Counts, list_size
from fastmlp.backends.numba_backend.first_layer.nonzeros import lists_size, n_words
from fastmlp.backends.numba_backend.kernels.activations import (
    ACTIVATION_CODES,
    SLOPE_FROM_OUTPUT,
    SLOPE_FROM_ROUNDED,
)
from fastmlp.backends.numba_backend.kernels.losses import LOSS_CODES, OUTPUT_CODES
from fastmlp.backends.numba_backend.kernels.optimizers import OPTIMIZER_CODES
from fastmlp.backends.numba_backend.plan import Layer, PanelNorm, Plan
from fastmlp.backends.numba_backend.products.chunks import CHUNK
from fastmlp.backends.numba_backend.products.packing import PACKED_SIZE
from fastmlp.backends.numba_backend.products.pairs import (
    IN_PAIRS,
    PAIRED_ROWS,
    PAIRED_WIDTH,
    PAIRS_SIZE,
)
from fastmlp.backends.numba_backend.products.prefetch import N_LISTS, Requests, ahead_size
from fastmlp.backends.numba_backend.programs.arguments import Memory
from fastmlp.backends.numba_backend.vectors.types import LANES_BYTES
from fastmlp.losses import CustomLoss, Loss
from fastmlp.network import MLP, scale_view
from fastmlp.optimizers import Optimizer
from fastmlp.regularization import Regularization, mix

Array = NDArray[Any]


class Layout:
    """The records of a session's layers, and the regions of its floats.

    Parameters
    ----------
    layer_shapes : sequence of (int, int)
    activations : sequence of Activation
        The hidden layers'.
    dropout_rates : sequence of float
        The dropped share of every layer's inputs.
    dtype : dtype
    has_scale : bool, default False
        Whether there is a scaling layer.
    rounds : bool, default False
        Whether products read weights rounded to bfloat16.

    Attributes
    ----------
    layers : record array of Layer
    scale : int
        Where the scaling layer's factors begin in a block; 0 where there is none.
    block_size : int
        Elements in a block; block b begins at element b * block_size.
    size : int
        Elements of memory in all.

    Examples
    --------
    >>> layout = Layout([(3, 2)], [], [0.0], np.dtype("float32"))
    >>> layout.block_size
    64
    """

    def __init__(
        self,
        layer_shapes: Sequence[tuple[int, int]],
        activations: Sequence[Any],
        dropout_rates: Sequence[float],
        dtype: np.dtype[Any],
        has_scale: bool = False,
        rounds: bool = False,
    ) -> None:
        self.layer_shapes = layer_shapes
        self.rounds = rounds
        self.dtype = dtype
        self.lanes = LANES_BYTES // dtype.itemsize
        self.layers = Layer.array(len(layer_shapes))
        slope_from_output = SLOPE_FROM_ROUNDED if rounds else SLOPE_FROM_OUTPUT
        #: Where every layer's weights begin in a block.
        self.starts: list[int] = []
        end = 0
        for number, (n_in, n_out) in enumerate(layer_shapes):
            layer, rate = self.layers[number], dropout_rates[number]
            layer.n_in, layer.n_out = n_in, n_out
            layer.in_panels, layer.out_panels = self.panels(n_in), self.panels(n_out)
            layer.input_stride, layer.delta_stride = self.row_stride(n_in), self.row_stride(n_out)
            layer.dropout_threshold, layer.dropout_scale = int(rate * 2**32), 1 / (1 - rate)
            if number < len(layer_shapes) - 1:
                activation = activations[number]
                layer.activation = ACTIVATION_CODES[activation.name]
                layer.activation_parameter = activation_parameter(activation)
                self.layers[number + 1].stores_slopes = (
                    dropout_rates[number + 1] > 0 or activation.name not in slope_from_output
                )
            layer.weights = end
            self.starts.append(end)
            end += self.panels(n_out) * (n_in + 1) * self.lanes
        self.layers.effective = self.layers.weights
        self.scale = end if has_scale else 0
        if has_scale:
            end += self.panels(layer_shapes[0][0]) * self.lanes
        self.block_size = end
        #: Distance of rows that hold the inputs or outputs of any layer.
        self.widest = int(max(self.layers.input_stride.max(), self.layers.delta_stride.max()))
        self.size = 0

    @property
    def has_pairs(self) -> bool:
        """Whether programs are wanted that multiply pairs, once everything has its place."""
        return bool(self.layers.paired.any())

    def panels(self, width: int) -> int:
        """Return how many panels hold `width` columns."""
        return -(-width // self.lanes)

    def row_stride(self, width: int) -> int:
        """Return the distance of rows of `width` elements: an odd number of cache lines."""
        return (self.panels(width) | 1) * self.lanes

    def take(self, count: int) -> int:
        """Return where a new region of `count` elements begins, on a cache line."""
        start = self.size
        self.size += -(-int(count) // self.lanes) * self.lanes
        return start

    def pack(self, flat: Array, block: Array) -> None:
        """Write a flat vector into a block; the padding becomes zero."""
        lanes, start = self.lanes, 0
        for first, (n_in, n_out) in zip(self.starts, self.layer_shapes, strict=True):
            stop, panels = start + (n_in + 1) * n_out, self.panels(n_out)
            wide = np.zeros((n_in + 1, panels * lanes), dtype=block.dtype)
            wide[:, :n_out] = flat[start:stop].reshape(n_in + 1, n_out)
            target = block[first : first + wide.size]
            target.reshape(panels, n_in + 1, lanes)[:] = wide.reshape(
                n_in + 1, panels, lanes
            ).transpose(1, 0, 2)
            start = stop
        factors = scale_view(flat, self.layer_shapes)
        if factors is not None:
            block[self.scale :] = 0
            block[self.scale :][: len(factors)] = factors

    def unpack(self, block: Array, flat: Array) -> None:
        """Write a block into a flat vector."""
        lanes, start = self.lanes, 0
        for first, (n_in, n_out) in zip(self.starts, self.layer_shapes, strict=True):
            stop, panels = start + (n_in + 1) * n_out, self.panels(n_out)
            source = block[first : first + panels * (n_in + 1) * lanes]
            wide = source.reshape(panels, n_in + 1, lanes).transpose(1, 0, 2)
            flat[start:stop].reshape(n_in + 1, n_out)[:] = wide.reshape(n_in + 1, -1)[:, :n_out]
            start = stop
        factors = scale_view(flat, self.layer_shapes)
        if factors is not None:
            factors[:] = block[self.scale :][: len(factors)]

    def write_effective(self, floats: Array) -> None:
        """Write the weights that products read, where they are scaled or rounded, as kernels do.

        Parameters
        ----------
        floats : ndarray
            All of a session's, with the parameters as the first block.
        """
        for number, layer in enumerate(self.layers):
            if layer.effective == layer.weights:
                continue
            shape = int(layer.out_panels), int(layer.n_in) + 1, self.lanes
            own, effective = (
                floats[start:][: math.prod(shape)].reshape(shape)
                for start in (layer.weights, layer.effective)
            )
            weights = own[:, :-1]
            if number == 0 and self.scale:
                with np.errstate(all="ignore"):  # as compiled code
                    weights = weights * floats[self.scale :][: layer.n_in, None]
            effective[:, :-1] = _bfloat16.rounded(weights) if self.rounds else weights
            effective[:, -1] = own[:, -1]


def allocate(layout: Layout, plan: Any, most_threads: int) -> Memory:
    """Place everything, write where it lies into the plan and the layers, and return it all.

    Parameters
    ----------
    layout : Layout
    plan : record array of one Plan
        As `describe` returns it.
    most_threads : int
        How many threads a team may have.
    """
    _place(layout, plan, most_threads)
    layers, first, batch_size = layout.layers, layout.layers[0], int(plan.batch_size[0])
    n_lists = max(most_threads, N_PARTS)

    def numbers(n: int) -> Array:
        return np.zeros(int(n), dtype=np.int64)

    return Memory(
        plan=plan,
        layers=layers,
        floats=aligned_zeros(layout.size, layout.dtype),
        row_losses=np.empty(batch_size),
        norms=PanelNorm.array(int(layers.out_panels.sum()) + 1),  # and of the factors
        row_numbers=np.arange(batch_size),
        counts=Counts.array(2 * n_lists),
        columns=numbers(2 * n_lists * list_size(first.n_in)),
        words=numbers(2 * batch_size * n_words(first.n_in)),
        lists=numbers(most_threads * lists_size(batch_size, CHUNK)),
        requests=Requests.array(most_threads * N_LISTS),
        addresses=numbers(most_threads * ahead_size(batch_size)),
    )


def _place(layout: Layout, plan: Any, most_threads: int) -> None:
    """Place the regions of a session's floats: the blocks, the layers' rows, and the rest."""
    lanes, take, row = layout.lanes, layout.take, plan[0]
    first, last = layout.layers[0], layout.layers[-1]
    parameters_and_moments = 1 + int(row.n_moments)
    row.block_size = layout.block_size
    take(parameters_and_moments * layout.block_size)
    row.average = take(layout.block_size)
    row.gradient = take(layout.block_size)
    row.scale = layout.scale
    if layout.rounds:
        row.rounded = take(layout.block_size)
        layout.layers.effective = row.rounded + layout.layers.weights
    if layout.scale:
        if not layout.rounds:
            layout.layers[0].effective = take(first.out_panels * (first.n_in + 1) * lanes)
        row.scale_parts = take(first.out_panels * first.in_panels * lanes)
    for number, layer in enumerate(layout.layers):
        rows = row.batch_size * layer.input_stride
        layer.inputs = take(rows)
        # The inputs of the first two layers have two buffers: one is filled, the other is used.
        if number == 0:
            row.second_input = take(rows)
        elif number == 1:
            row.second_hidden = take(rows)
        if layer.stores_slopes:
            layer.slopes = take(rows)
        layer.deltas = take(row.batch_size * layer.delta_stride)
        layer.delta_panels = take(row.batch_size * layer.out_panels * lanes)
    row.constants = take(lanes + layout.row_stride(last.n_out))
    row.group_size = (3 + 2 * last.out_panels * lanes) * lanes
    row.groups = take(most_threads * row.group_size)
    row.scratch_size = 2 * CHUNK * lanes + PACKED_SIZE
    row.scratch = take(most_threads * row.scratch_size)
    if layout.rounds and IN_PAIRS and row.batch_size >= PAIRED_ROWS:
        layout.layers.paired = [min(shape) >= PAIRED_WIDTH for shape in layout.layer_shapes]
    if layout.has_pairs:
        row.pairs = take(most_threads * PAIRS_SIZE)
    row.marks = take(max(most_threads, N_PARTS) * first.input_stride)
    row.parts = take(N_PARTS * row.batch_size * first.delta_stride)


def describe(network: MLP, loss: Loss, optimizer: Optimizer, regularization: Regularization) -> Any:
    """Return a session's plan, without what differs from call to call and where things lie.

    Examples
    --------
    >>> from fastmlp import MLP, SGD, Regularization
    >>> from fastmlp.losses import LOSSES
    >>> plan = describe(MLP([4, 3, 2]), LOSSES["cross_entropy"], SGD(), Regularization())
    >>> plan.n_layers
    array([2])
    """
    plan, r = Plan.array(1), regularization
    # A custom loss is differentiated by the logits, outside of the kernels.
    output = "linear" if isinstance(loss, CustomLoss) else network.output_activation.name
    plan.n_layers = network.n_layers
    plan.output, plan.loss = OUTPUT_CODES[output], LOSS_CODES[loss.name]
    plan.optimizer, plan.n_moments = OPTIMIZER_CODES[optimizer.name], optimizer.n_moments
    plan.l1 = r.l1
    plan.clip_value = math.inf if r.clip_value is None else r.clip_value
    plan.clip_norm = math.inf if r.clip_norm is None else r.clip_norm
    plan.max_norm = math.inf if r.max_norm is None else r.max_norm
    plan.ema_rate = 0.0 if r.ema is None else 1 - r.ema
    plan.noise = r.input_noise
    plan.input_scale = network.dtype.type(network.input_scale)
    plan.scale_rate = optimizer.scale_factor
    plan.momentum = getattr(optimizer, "momentum", 0.0)
    plan.nesterov = getattr(optimizer, "nesterov", False)
    plan.beta_1 = getattr(optimizer, "beta_1", 0.0)
    plan.beta_2 = getattr(optimizer, "beta_2", getattr(optimizer, "smoothing", 0.0))
    plan.weight_decay = getattr(optimizer, "weight_decay", 0.0)
    plan.decoupled = getattr(optimizer, "decoupled_decay", False)
    plan.loss_parameter = getattr(loss, "scale", getattr(loss, "threshold", 0.0))
    plan.smoothing = getattr(loss, "label_smoothing", 0.0)
    return plan


def seed_key(seed: int) -> int:
    """Return the part of `fastmlp.regularization.stream_key` that depends on the seed alone.

    Examples
    --------
    >>> seed_key(0) == seed_key(1)
    False
    """
    key = mix(seed + 0x9E3779B9)
    return mix(key ^ mix((seed >> 32) + 0x85EBCA6B))


def activation_parameter(activation: Any) -> float:
    """Return the one number that an activation may have.

    Examples
    --------
    >>> from fastmlp.activations import ELU
    >>> activation_parameter(ELU(alpha=2.0))
    2.0
    """
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
