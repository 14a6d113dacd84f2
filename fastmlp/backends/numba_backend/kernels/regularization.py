"""Penalties, clipping, limits of norms and moving averages; see `fastmlp.regularization`."""

from __future__ import annotations

import numpy as np

from fastmlp.backends.numba_backend.plan import PanelNorm, Plan, StepRates
from fastmlp.backends.numba_backend.vectors.records import Records, record
from fastmlp.backends.numba_backend.vectors.simd import (
    absolute,
    fma,
    full,
    lane_max,
    lane_sum,
    lanes,
    load,
    maximum,
    minimum,
    select,
    sqrt,
    store,
    zero,
)
from fastmlp.backends.numba_backend.vectors.types import Index, Pointer, Scalar, kernel


@kernel
def finish_gradient(
    g: Pointer, w: Pointer, n: Index, penalized: bool, plan: Plan, rates: StepRates
) -> None:
    """Add the penalties' gradient to `n` elements of `g` if `penalized`, and limit its values."""
    for i in range(0, n, lanes(g)):
        gradient, weight = load(g, i), load(w, i)
        if penalized:
            one = full(g, 1.0)
            sign = select(weight > zero(g), one, select(weight < zero(g), zero(g) - one, zero(g)))
            gradient = gradient + (full(g, rates.l2) * weight + full(g, plan.l1) * sign)
        limit = full(g, plan.clip_value)
        gradient = minimum(maximum(gradient, zero(g) - limit), limit)
        store(g, i, gradient)


@kernel
def average(w: Pointer, mean: Pointer, n: Index, rate: Scalar) -> None:
    """Move `n` elements of the moving average toward the parameters."""
    for i in range(0, n, lanes(w)):
        old = load(mean, i)
        store(mean, i, fma(full(w, rate), load(w, i) - old, old))


@kernel
def limit_norms(panel: Pointer, n_in: Index, limit: Scalar) -> None:
    """Scale each unit's incoming weights, a lane of a panel, down to the norm `limit`."""
    end, step = n_in * lanes(panel), lanes(panel)
    top = zero(panel)
    for i in range(0, end, step):
        top = maximum(top, absolute(load(panel, i)))
    # By the largest weight, so that no square overflows or vanishes.
    unit = select(top > zero(panel), top, full(panel, 1.0))
    total = zero(panel)
    for i in range(0, end, step):
        share = load(panel, i) / unit
        total = fma(share, share, total)
    norm, bound = sqrt(total), full(panel, limit) / unit
    factor = select(norm > bound, bound / norm, full(panel, 1.0))
    for i in range(0, end, step):
        store(panel, i, load(panel, i) * factor)


@kernel
def penalty_of(w: Pointer, n: Index, l1: Scalar, l2: Scalar) -> Scalar:
    """Return l1 * sum|w| + l2 / 2 * sum w^2 over `n` elements, in a fixed order."""
    squares, sizes = zero(w), zero(w)
    for i in range(0, n, lanes(w)):
        v = load(w, i)
        squares = fma(v, v, squares)
        sizes = sizes + absolute(v)
    return 0.5 * l2 * np.float64(lane_sum(squares)) + l1 * np.float64(lane_sum(sizes))


@kernel
def measure_norm(g: Pointer, n: Index, out: PanelNorm) -> None:
    """Write the largest magnitude of `n` elements, and the sum of squares of their shares of it.

    In a fixed order, and scaled so that no square overflows or vanishes.
    """
    top = zero(g)
    for i in range(0, n, lanes(g)):
        top = maximum(top, absolute(load(g, i)))
    largest = np.float64(lane_max(top))
    unit = full(g, largest if largest > 0.0 else 1.0)
    total = 0.0
    for i in range(0, n, lanes(g)):
        share = load(g, i) / unit
        total += np.float64(lane_sum(share * share))
    out.largest = largest
    out.squares = total


@kernel
def clipping_factor(norms: Records, n: Index, limit: Scalar) -> Scalar:
    """Return what scales a gradient down to the norm `limit`, given `n` panels' norms."""
    largest = 0.0
    for i in range(n):
        own = record(norms, i).largest
        largest = own if own > largest else largest
    if largest == 0.0:
        return 1.0
    squares = 0.0
    for i in range(n):
        share = record(norms, i).largest / largest
        squares += record(norms, i).squares * (share * share)
    norm, bound = np.sqrt(squares), limit / largest
    return bound / norm if norm > bound else 1.0
