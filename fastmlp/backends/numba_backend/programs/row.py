"""One row through the network in one compiled call, for answers at once.

A single row leaves no tile to fill: every weight is read once, and reading them is the time that
it takes. So every layer lists its inputs that are not zero (pixels, ReLU's outputs) and reads
those rows of its panels only, several panels at a time so that the sums need not wait for each
other. Sums run in the same order as those of tiles.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import numpy as np

from fastmlp.backends.numba_backend.kernels.activations import activate
from fastmlp.backends.numba_backend.kernels.losses import OUTPUT_CODES
from fastmlp.backends.numba_backend.kernels.outputs import (
    finish_outputs,
    is_nothing,
    sum_of_nothings,
)
from fastmlp.backends.numba_backend.kernels.rounding import round_row
from fastmlp.backends.numba_backend.programs.arguments import Floats, Integers
from fastmlp.backends.numba_backend.vectors.pointers import (
    Numbers,
    index_pointer,
    load_index,
    store_index,
)
from fastmlp.backends.numba_backend.vectors.records import (
    Record,
    Records,
    record,
    records_from,
    value,
)
from fastmlp.backends.numba_backend.vectors.simd import (
    advance,
    broadcast,
    fma,
    lanes,
    load,
    load_scalar,
    pointer,
    store,
    store_scalar,
    zero,
)
from fastmlp.backends.numba_backend.vectors.strips import Strip
from fastmlp.backends.numba_backend.vectors.types import (
    LANES_BYTES,
    Index,
    Pointer,
    Scalar,
    inlined,
    kernel,
)


class RowLayer(Record):
    """What `row` needs to know of a layer: less than `plan.Layer`, in fewer cache lines."""

    n_in: int
    n_panels: int
    weights: int  # offset of the first panel
    activation: int  # code
    activation_parameter: float
    scale: float  # what inputs are multiplied by
    output: int  # code of the output activation; the last layer's counts
    n_out: int  # the last layer's counts
    n_layers: int
    widest: int  # elements of the longest row in the network
    rounds: int  # whether inputs are rounded to bfloat16


def row_plan(
    layers: Any, output: str, input_scale: float, lane_count: int, rounds: bool = False
) -> Any:
    """Return what `row` needs to know about a network.

    Parameters
    ----------
    layers : array of Layer
    output : str
        The output activation; "linear" for logits.
    input_scale : float
    lane_count : int
    rounds : bool, default False
        Whether factors are rounded to bfloat16.
    """
    plan = RowLayer.array(len(layers))
    plan.n_in, plan.n_panels, plan.weights = layers.n_in, layers.out_panels, layers.effective
    plan.activation = layers.activation
    plan.activation_parameter = layers.activation_parameter
    plan.scale[0], plan.scale[1:] = input_scale, 1.0
    plan.output, plan.n_out, plan.n_layers = OUTPUT_CODES[output], layers.n_out, len(layers)
    plan.rounds = rounds
    plan.widest = lane_count * max(layers.in_panels.max(), layers.out_panels.max())
    return plan


@kernel
def list_inputs(values: Pointer, n: Index, factor: Scalar, kept: Pointer, places: Numbers) -> Index:
    """Write the values that are not zero, times `factor`, and where their panel rows begin.

    Returns their number; a vector of zeros follows them. `kept` may be `values`.
    """
    count = 0
    for k in range(n):  # without a branch: where zeros lie is anybody's guess
        x = load_scalar(values, k)
        store_scalar(kept, count, x * factor)
        store_index(places, count, k * lanes(values))
        count += 1 if x != 0.0 else 0
    store(kept, count, zero(values))
    return count


@kernel
def multiply_row(
    kept: Pointer,
    places: Numbers,
    count: Index,
    panels: Pointer,
    n_in: Index,
    n_panels: Index,
    out: Pointer,
) -> None:
    """Write the pre-activations of one row: its product with all panels, plus the biases."""
    step = lanes(out)
    size = (n_in + 1) * step
    bias = n_in * step
    fours = n_panels // 4 * 4
    for p in range(0, fours, 4):
        w0 = advance(panels, p * size)
        w1, w2, w3 = advance(w0, size), advance(w0, 2 * size), advance(w0, 3 * size)
        a0, a1, a2, a3 = load(w0, bias), load(w1, bias), load(w2, bias), load(w3, bias)
        for i in range(count):
            place = load_index(places, i)
            x = broadcast(kept, i)
            a0 = fma(x, load(w0, place), a0)
            a1 = fma(x, load(w1, place), a1)
            a2 = fma(x, load(w2, place), a2)
            a3 = fma(x, load(w3, place), a3)
        store(out, p * step, a0)
        store(out, (p + 1) * step, a1)
        store(out, (p + 2) * step, a2)
        store(out, (p + 3) * step, a3)
    for p in range(fours, n_panels):
        w = advance(panels, p * size)
        a = load(w, bias)
        for i in range(count):
            a = fma(broadcast(kept, i), load(w, load_index(places, i)), a)
        store(out, p * step, a)


@value
class Space(NamedTuple):
    """Room for a call of `row`: two rows, and where the inputs lie that are not zero."""

    rows: Pointer
    half: Index
    places: Numbers


def row_room(plan: Any, dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """Return what `row` writes to as it goes, for one thread at a time.

    Parameters
    ----------
    plan : array of RowLayer
    dtype : dtype

    Returns
    -------
    rows : array
        Two rows, each with room for a vector of zeros behind the inputs that are listed.
    places : array of int64
    """
    widest = int(plan.widest[0])
    half = widest + LANES_BYTES // dtype.itemsize
    return np.empty(2 * half, dtype), np.empty(widest, np.int64)


@inlined
def run_row(plan: Records, memory: Pointer, values: Pointer, out: Pointer, space: Space) -> bool:
    """Do what `row` describes, given pointers instead of arrays."""
    inputs, outputs, places = space.rows, advance(space.rows, space.half), space.places
    source, n_layers = values, record(plan, 0).n_layers
    n_out = record(plan, n_layers - 1).n_out
    for number in range(n_layers):
        layer = record(plan, number)
        count = list_inputs(source, layer.n_in, layer.scale, inputs, places)
        if number == 0 and not is_nothing(sum_of_nothings(inputs, count, zero(inputs))):
            return False
        if layer.rounds != 0:
            round_row(inputs, count)
        weights = advance(memory, layer.weights)
        multiply_row(inputs, places, count, weights, layer.n_in, layer.n_panels, outputs)
        if number < n_layers - 1:
            # Panels of one row are rows of a strip.
            strip = Strip(outputs, lanes(outputs))
            code, parameter = layer.activation, layer.activation_parameter
            activate(code, parameter, strip, layer.n_panels, strip, False)
        inputs, outputs = outputs, inputs
        source = inputs
    if not is_nothing(sum_of_nothings(inputs, n_out, zero(inputs))):
        return False
    finish_outputs(record(plan, 0).output, inputs, n_out)
    for k in range(n_out):
        store_scalar(out, k, load_scalar(inputs, k))
    return True


def row(
    plan: Annotated[Any, RowLayer.dtype],
    memory: Floats,
    x: Floats,
    out: Floats,
    rows: Floats,
    places: Integers,
) -> bool:
    """Write the logits or outputs of one row; threads may do so at the same time.

    Parameters
    ----------
    plan : array of RowLayer
        As `row_plan` returns it.
    memory : array
        The parameters in panels, and more.
    x : array of shape (n_inputs,)
        Only read.
    out : array of shape (n_outputs,)
    rows, places : array
        As `row_room` returns them; no other thread's.

    Returns
    -------
    bool
        False, with nothing written, if x times the input scale, or the logits, hold NaN or
        infinite values.
    """
    first = pointer(rows, 0)
    half = record(plan, 0).widest + lanes(first)
    space = Space(first, half, index_pointer(places, 0))
    given = pointer(memory, 0), pointer(x, 0), pointer(out, 0)
    return run_row(records_from(plan, 0), *given, space)
