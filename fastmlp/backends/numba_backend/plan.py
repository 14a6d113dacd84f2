"""What lies in a session's memory: the records by which programs find their way.

All floats of a session are one array. A *block* holds one value for each parameter in panels: for
every layer ``[panels][n_in + 1][lanes]``, the last row of a panel being the biases; then the
factors of the scaling layer, where there is one. Parameters, moments, the average and the gradient
are blocks of equal layout; padding lanes are zero. Offsets count elements of that array; `memory`
places everything.
"""

from __future__ import annotations

from typing import NamedTuple

from fastmlp.backends.numba_backend.vectors.pointers import Numbers
from fastmlp.backends.numba_backend.vectors.records import Record, Records, record, value
from fastmlp.backends.numba_backend.vectors.types import Index, Pointer, Scalar, inlined


class Plan(Record):
    """A session, and what differs from call to call."""

    n_layers: int
    batch_size: int  # rows
    # Codes of the names in `kernels`.
    output: int
    loss: int
    optimizer: int
    n_moments: int
    # Offsets and sizes.
    block_size: int
    average: int  # the moving average's block
    gradient: int  # the gradient's block
    scale: int  # in a block, the scaling layer's factors; 0 where there is none
    rounded: int  # the block of rounded weights that products read; 0 where they are in full
    scale_parts: int  # what each panel adds to the factors' gradient, [panels][vectors of inputs]
    second_input: int  # the first layer's second input buffer
    second_hidden: int  # the second layer's second input buffer
    constants: int  # a vector of zeros, then the quantile levels
    groups: int  # each thread's group of rows whose losses are computed at once
    group_size: int
    scratch: int  # each thread's scratch
    scratch_size: int
    pairs: int  # each thread's place for pairs of bfloat16, where there are programs of them
    marks: int  # marks of columns that are not zero, [lists][stride]
    parts: int  # products of a narrow first layer's parts, [parts][batch_size][stride]
    # The call.
    seed_key: int
    target_width: int  # 0 where targets are class numbers
    has_weights: int
    wants_logits: int
    gradient_only: int  # write the gradient's block and update nothing
    wants_penalties: int
    first_step: int
    first_row: int  # number in the whole batch of this call's first row, for random numbers
    n_visits: int  # length of the order
    epoch_visits: int  # of them, those of an epoch; the last batch of each may be smaller
    first_batch: int  # numbers of the batches of this call: from here
    end_batch: int  # up to here
    x_stride: int  # from one row of the inputs to the next
    total_weight: float  # what the mean over a batch divides by; 0 for the batch's own weights
    # Hyper-parameters.
    l1: float
    clip_value: float  # infinite for none
    clip_norm: float  # infinite for none
    max_norm: float  # infinite for none
    ema_rate: float  # 1 - decay; 0 for none
    momentum: float
    nesterov: float  # 1 or 0
    beta_1: float
    beta_2: float  # also RMSprop's smoothing
    weight_decay: float
    decoupled: float  # 1 or 0: whether the weight decays apart from the gradient
    loss_parameter: float
    smoothing: float  # of labels
    noise: float  # standard deviation, added to inputs
    scale_rate: float  # factor on the learning rate of the scaling layer's factors
    input_scale: float  # in the dtype: lanes and single elements agree


class Layer(Record):
    """A layer: its weights, its inputs, and the gradient by its pre-activations."""

    n_in: int
    n_out: int
    in_panels: int  # vectors that hold a row of inputs
    out_panels: int
    activation: int  # code; of the layer's outputs; the last layer's is unused
    weights: int  # offset in a block
    weights_rate: float  # factor on the learning rate
    biases_rate: float
    effective: int  # what products read: the weights, or these scaled or rounded, in panels
    paired: int  # whether programs that can multiply pairs of bfloat16 do so
    inputs: int  # offset of [batch_size][input_stride]
    input_stride: int
    slopes: int  # derivatives of the activations that are the layer's inputs; same stride
    stores_slopes: int  # 0 where the derivative is had from the activation itself
    deltas: int  # gradient by the pre-activations, [batch_size][delta_stride]
    delta_stride: int
    delta_panels: int  # the same as panels, [out_panels][batch_size][lanes]
    dropout_threshold: int  # bits below it drop an input; 0 for no dropout
    dropout_scale: float  # 1 / (1 - rate)
    activation_parameter: float


class StepRates(Record):
    """What may differ from step to step."""

    rate: float  # the learning rate
    corrected_rate: float  # Adam's: rate / (1 - beta_1^t) at step t
    corrected_root: float  # 1 / sqrt(1 - beta_2^t)
    epsilon: float
    l2: float  # coefficient of the penalty


class PanelNorm(Record):
    """What a panel contributes to the gradient's norm, and to the penalty."""

    largest: float  # magnitude
    squares: float  # sum of the squares of shares of the largest
    penalty: float


@value
class Net(NamedTuple):
    """A session's network, as most kernels take it."""

    plan: Plan
    layers: Records
    memory: Pointer


@value
class Visits(NamedTuple):
    """Rows of the inputs by number: those that order[first:end] names."""

    X: Pointer
    stride: Index
    order: Numbers
    first: Index
    end: Index


@value
class PanelRows(NamedTuple):
    """Rows of a panel side by side, of weights or of biases, and what is to be done with them."""

    offset: Index  # in a block
    n: Index
    penalized: bool
    rate: Scalar  # factor on the learning rate


@value
class Share(NamedTuple):
    """A thread's share of a batch in a layer: some panels of some rows."""

    first_row: Index
    n_rows: Index
    first_panel: Index
    last_panel: Index


@inlined
def layer_of(net: Net, number: Index) -> Layer:
    """Return a layer."""
    return record(net.layers, number)


@inlined
def panel_of(layer: Layer, panel: Index, step: Index) -> Index:
    """Return the offset in a block of a panel of `step` lanes."""
    return layer.weights + panel * (layer.n_in + 1) * step


@inlined
def weights_of_panel(
    layer: Layer, panel: Index, first: Index, last: Index, step: Index
) -> PanelRows:
    """Return rows first to last of a panel of `step` lanes, which are weights."""
    offset = panel_of(layer, panel, step) + first * step
    return PanelRows(offset, last - first, True, layer.weights_rate)


@inlined
def biases_of_panel(layer: Layer, panel: Index, step: Index) -> PanelRows:
    """Return the last row of a panel of `step` lanes, which are biases."""
    offset = panel_of(layer, panel, step) + layer.n_in * step
    return PanelRows(offset, 1, False, layer.biases_rate)


@inlined
def has_scale(plan: Plan) -> bool:
    """Return whether a scaling layer stands in front of the first layer."""
    return plan.scale != 0


@inlined
def rows_of_scale(net: Net) -> PanelRows:
    """Return the scaling layer's factors, as vectors side by side."""
    return PanelRows(net.plan.scale, layer_of(net, 0).in_panels, False, net.plan.scale_rate)


@inlined
def size_of(layer: Layer) -> Index:
    """Return the number of a layer's weights."""
    return layer.n_in * layer.n_out
