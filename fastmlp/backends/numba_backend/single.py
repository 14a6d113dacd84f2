"""One row through the network in one compiled call, for answers at once.

A single row leaves no tile to fill: every weight is read once, and reading them is the time that
it takes. So every layer lists its inputs that are not zero (pixels, ReLU's outputs) and reads
those rows of its panels only, several panels at a time so that the sums need not wait for each
other. Sums run in the same order as those of `tiles`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.numba_backend import layout as lay
from fastmlp.backends.numba_backend.elementwise import activate
from fastmlp.backends.numba_backend.integers import (
    index_pointer,
    load_index,
    out_of_line,
    store_index,
)
from fastmlp.backends.numba_backend.simd import (
    advance,
    broadcast,
    first_lanes,
    fma,
    full,
    inlined,
    kernel,
    lane_bits,
    lane_max,
    lane_sum,
    lanes,
    load,
    load_scalar,
    maximum,
    pointer,
    select,
    store,
    store_scalar,
    zero,
)
from fastmlp.backends.numba_backend.simd_math import exp, sigmoid

# The plan describes a network in one array: every array that a call passes costs time, and
# float64 holds whole numbers too. Its head, then the fields of every layer:
N_LAYERS, OUTPUT, WIDEST, SCALE, HEAD = range(5)
N_IN, PANELS, WEIGHTS, ACTIVATION, PARAMETER, N_FIELDS = range(6)


def make_plan(layout: lay.Layout, output: str, input_scale: float) -> NDArray[np.float64]:
    """Return what `row` needs to know about a network.

    Parameters
    ----------
    layout : Layout
    output : str
        The output activation; "linear" for logits.
    input_scale : float

    Examples
    --------
    >>> layout = lay.Layout([(3, 2)], [], [0.0], np.dtype("float32"), 4, 1)
    >>> make_plan(layout, "softmax", 1.0)[:HEAD]
    array([ 1.,  0., 16.,  1.])
    """
    fields = [lay.N_IN, lay.OUT_PANELS, lay.WEIGHTS, lay.ACTIVATION]
    table = np.hstack([layout.layers[:, fields], layout.reals[:, [lay.ACTIVATION_PARAMETER]]])
    widest = layout.lanes * int(layout.layers[:, [lay.IN_PANELS, lay.OUT_PANELS]].max())
    head = [len(table), lay.OUTPUT_CODES[output], widest, input_scale]
    return np.concatenate([head, table.ravel()])


@inlined
def _whole(plan: Any, i: Any) -> Any:
    return int(load_scalar(plan, i))


@kernel
def list_inputs(values: Any, n: Any, factor: Any, kept: Any, places: Any) -> Any:
    """Write the values that are not zero, times `factor`, and where their panel rows begin.

    Returns their number; a vector of zeros follows them. `kept` may be `values`.
    """
    out_of_line()
    count = 0
    for k in range(n):  # without a branch: where zeros lie is anybody's guess
        x = load_scalar(values, k)
        store_scalar(kept, count, x * factor)
        store_index(places, count, k * lanes(values))
        count += 1 if x != 0.0 else 0
    store(kept, count, zero(values))
    return count


@kernel
def all_finite(values: Any, n: Any) -> bool:
    """Return whether `n` values, a vector of zeros behind them, are neither NaN nor infinite."""
    out_of_line()
    total = zero(values)
    for i in range(0, n, lanes(values)):
        total = fma(load(values, i), zero(values), total)
    return lane_bits(total != zero(values)) == 0


@kernel
def multiply_row(
    kept: Any, places: Any, count: Any, panels: Any, n_in: Any, n_panels: Any, out: Any
) -> None:
    """Write the pre-activations of one row: its product with all panels, plus the biases."""
    out_of_line()
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


@kernel
def finish_outputs(code: Any, z: Any, n_out: Any) -> None:
    """Replace the logits of one row by the outputs of the network."""
    out_of_line()
    step = lanes(z)
    if code == 0:  # softmax
        lowest = full(z, -np.inf)
        top = lowest
        for i in range(0, n_out, step):
            top = maximum(top, select(first_lanes(z, n_out - i), load(z, i), lowest))
        highest = full(z, lane_max(top))
        total = zero(z)
        for i in range(0, n_out, step):
            e = select(first_lanes(z, n_out - i), exp(load(z, i) - highest), zero(z))
            store(z, i, e)
            total = total + e
        inverse = full(z, 1.0) / full(z, lane_sum(total))
        for i in range(0, n_out, step):
            store(z, i, load(z, i) * inverse)
    elif code == 1:  # sigmoid
        for i in range(0, n_out, step):
            store(z, i, sigmoid(load(z, i)))
    elif code == 3:  # exp
        for i in range(0, n_out, step):
            store(z, i, exp(load(z, i)))


@inlined
def run_row(
    plan: Any, memory: Any, values: Any, out: Any, n_out: Any, scratch: Any, half: Any, places: Any
) -> bool:
    """Do what `row` describes, given pointers instead of arrays."""
    n_layers = _whole(plan, N_LAYERS)
    inputs, outputs = scratch, advance(scratch, half)
    for number in range(n_layers):
        layer = advance(plan, HEAD + number * N_FIELDS)
        n_in, n_panels = _whole(layer, N_IN), _whole(layer, PANELS)
        if number == 0:
            count = list_inputs(values, n_in, load_scalar(plan, SCALE), inputs, places)
            if not all_finite(inputs, count):
                return False
        else:
            count = list_inputs(inputs, n_in, 1.0, inputs, places)
        weights = advance(memory, _whole(layer, WEIGHTS))
        multiply_row(inputs, places, count, weights, n_in, n_panels, outputs)
        if number < n_layers - 1:
            code, parameter = _whole(layer, ACTIVATION), load_scalar(layer, PARAMETER)
            activate(code, parameter, outputs, lanes(outputs), n_panels, outputs, False)
        inputs, outputs = outputs, inputs
    if not all_finite(inputs, n_out):
        return False
    finish_outputs(_whole(plan, OUTPUT), inputs, n_out)
    for k in range(n_out):
        store_scalar(out, k, load_scalar(inputs, k))
    return True


def row(plan: Any, memory: Any, x: Any, out: Any) -> bool:
    """Write the logits or outputs of one row; threads may do so at the same time.

    Parameters
    ----------
    plan : array of float64
        As `make_plan` returns it.
    memory : array
        The parameters in panels, and more.
    x : array of shape (n_inputs,)
        Only read.
    out : array of shape (n_outputs,)

    Returns
    -------
    bool
        False, with nothing written, if x times the input scale, or the logits, hold NaN or
        infinite values.
    """
    widest = int(plan[WIDEST])
    half = widest + 64 // memory.itemsize  # a vector of zeros follows listed inputs
    scratch = np.empty(2 * half, dtype=memory.dtype)
    places = np.empty(widest, dtype=np.int64)
    return run_row(
        pointer(plan, 0),
        pointer(memory, 0),
        pointer(x, 0),
        pointer(out, 0),
        out.size,
        pointer(scratch, 0),
        half,
        index_pointer(places, 0),
    )
