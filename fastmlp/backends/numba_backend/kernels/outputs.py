"""What becomes of a row's logits: outputs or decisions; formulas in `fastmlp.activations`."""

from __future__ import annotations

import numpy as np

from fastmlp.backends.numba_backend.kernels.losses import EXP, SIGMOID, SOFTMAX
from fastmlp.backends.numba_backend.vectors.math import exp, sigmoid
from fastmlp.backends.numba_backend.vectors.pointers import Numbers, smaller, store_index
from fastmlp.backends.numba_backend.vectors.simd import (
    first_lanes,
    fma,
    full,
    lane_bits,
    lane_max,
    lane_sum,
    lanes,
    load,
    load_scalar,
    maximum,
    select,
    store,
    transpose_square,
    zero,
)
from fastmlp.backends.numba_backend.vectors.strips import Strip, from_row
from fastmlp.backends.numba_backend.vectors.types import Index, Pointer, Vector, inlined, kernel


@inlined
def sum_of_nothings(values: Pointer, n: Index, total: Vector) -> Vector:
    """Return `total` plus 0 times each of `n` values, which NaN and infinite ones make NaN.

    Whole vectors are read: what lies behind the values counts too.
    """
    for i in range(0, n, lanes(values)):
        total = fma(load(values, i), zero(values), total)
    return total


@inlined
def is_nothing(total: Vector) -> bool:
    """Return whether what `sum_of_nothings` returned has seen finite values only."""
    return lane_bits(total != total - total) == 0


@kernel
def narrow_softmax(logits: Strip, n_rows: Index, n_out: Index, square: Pointer) -> None:
    """Replace the logits of rows by outputs, neither more than a vector has lanes.

    Every row is a lane, as in losses. `square` has room for a vector for each output.
    """
    z, step = square, lanes(square)
    transpose_square(logits.data, logits.stride, n_rows, z, step, n_out)
    highest = load(z, 0)
    for k in range(1, n_out):
        highest = maximum(highest, load(z, k * step))
    total = zero(z)
    for k in range(n_out):
        e = exp(load(z, k * step) - highest)
        store(z, k * step, e)
        total = total + e
    inverse = full(z, 1.0) / total
    for k in range(n_out):
        store(z, k * step, load(z, k * step) * inverse)
    transpose_square(z, step, n_out, logits.data, logits.stride, n_rows)


@inlined
def sum_of_outputs(e: Pointer, n_out: Index, total: Vector) -> Vector:
    """Return the sum of `n_out` values in all lanes, given that of the vectors that they fill.

    Few are summed one after the other, as `narrow_softmax` does: a row alone and among others has
    the same bits.
    """
    if n_out > lanes(e):
        return full(e, lane_sum(total))
    result = load_scalar(e, 0)
    for k in range(1, n_out):
        result += load_scalar(e, k)
    return full(e, result)


@kernel
def finish_rows(code: Index, logits: Strip, n_rows: Index, n_out: Index, square: Pointer) -> None:
    """Replace the logits of rows by the outputs of the network."""
    step = lanes(square)
    if code == SOFTMAX and n_out <= step:
        for row in range(0, n_rows, step):
            narrow_softmax(from_row(logits, row), smaller(step, n_rows - row), n_out, square)
        return
    for row in range(n_rows):
        finish_outputs(code, from_row(logits, row).data, n_out)


@kernel
def finish_outputs(code: Index, z: Pointer, n_out: Index) -> None:
    """Replace the logits of one row by the outputs of the network."""
    step = lanes(z)
    if code == SOFTMAX:
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
        inverse = full(z, 1.0) / sum_of_outputs(z, n_out, total)
        for i in range(0, n_out, step):
            store(z, i, load(z, i) * inverse)
    elif code == SIGMOID:
        for i in range(0, n_out, step):
            store(z, i, sigmoid(load(z, i)))
    elif code == EXP:
        for i in range(0, n_out, step):
            store(z, i, exp(load(z, i)))


@kernel
def decide(code: Index, z: Pointer, n_out: Index, out: Numbers) -> None:
    """Write the class number that softmax finds likeliest, or 1 for each likely label, else 0."""
    if code == SOFTMAX:
        best, highest = 0, load_scalar(z, 0)
        for k in range(1, n_out):
            logit = load_scalar(z, k)
            best = k if logit > highest else best
            highest = logit if logit > highest else highest
        store_index(out, 0, best)
    else:
        for k in range(n_out):
            store_index(out, k, 1 if load_scalar(z, k) >= 0.0 else 0)
