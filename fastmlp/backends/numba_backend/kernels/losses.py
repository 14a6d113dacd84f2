"""Losses and their gradients by the logits; formulas in `fastmlp.losses`.

Every row is a lane: that needs no sums across lanes, and few outputs leave no lane idle.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastmlp.backends.numba_backend.plan import Plan
from fastmlp.backends.numba_backend.vectors.math import exp, log, log1p, sigmoid
from fastmlp.backends.numba_backend.vectors.records import value
from fastmlp.backends.numba_backend.vectors.simd import (
    absolute,
    broadcast,
    fma,
    full,
    lanes,
    load,
    maximum,
    minimum,
    select,
    store,
    zero,
)
from fastmlp.backends.numba_backend.vectors.types import (
    Index,
    Pair,
    Pointer,
    Scalar,
    Vector,
    inlined,
    kernel,
)

SOFTMAX, SIGMOID, LINEAR, EXP = range(4)
#: Output activations by name.
OUTPUT_CODES = {"softmax": SOFTMAX, "sigmoid": SIGMOID, "linear": LINEAR, "exp": EXP}

CROSS_ENTROPY, MSE, MAE, HUBER, QUANTILE, POISSON, CUSTOM = range(7)
#: Losses by name.
LOSS_CODES = {
    "cross_entropy": CROSS_ENTROPY,
    "mse": MSE,
    "squared_error": MSE,
    "mae": MAE,
    "huber": HUBER,
    "quantile": QUANTILE,
    "poisson": POISSON,
    "custom": CUSTOM,
}


@value
class Group(NamedTuple):
    """As many rows as a vector has lanes."""

    logits: Pointer  # a vector for each output
    has_classes: bool  # whether targets are `classes` or `targets`
    classes: Vector
    targets: Pointer  # a vector for each output
    levels: Pointer  # every output's quantile level
    n_out: Index
    shares: Vector  # the rows' weights over the sum of the batch's weights


@inlined
def _target(group: Group, k: Index) -> Vector:
    """Return target `k` of every row: of one-hot rows where there are classes."""
    if group.has_classes:
        classes = group.classes
        return select(classes == full(classes, k), full(classes, 1.0), zero(classes))
    return load(group.targets, k * lanes(group.targets))


@inlined
def _error_terms(code: Index, parameter: Scalar, a: Vector, t: Vector, level: Vector) -> Pair:
    """Return (loss, derivative by a) of each element."""
    error = a - t
    if code == MSE:  # times a scale
        scale = full(a, parameter)
        return scale * error * error, (scale + scale) * error
    one = full(a, 1.0)
    sign = select(error > zero(a), one, select(error < zero(a), zero(a) - one, zero(a)))
    size = absolute(error)
    if code == MAE:
        return size, sign
    if code == HUBER:
        limit = full(a, parameter)
        near = minimum(size, limit)
        return near * (size - full(a, 0.5) * near), near * sign
    # quantile: the derivative is 1 - level above the target, -level below
    above = error > zero(a)
    slope = select(above, one - level, select(error < zero(a), zero(a) - level, zero(a)))
    return slope * error, slope


@kernel
def softmax_losses(plan: Plan, group: Group) -> Vector:
    """Return the rows' losses behind softmax; replace logits by gradients times the shares."""
    z, n_out, shares = group.logits, group.n_out, group.shares
    step = lanes(z)
    highest = full(z, -np.inf)
    for k in range(n_out):
        highest = maximum(highest, load(z, k * step))
    sum_exp, sum_t, sum_tz = zero(z), zero(z), zero(z)
    keep, spread = full(z, 1.0 - plan.smoothing), full(z, plan.smoothing / n_out)
    for k in range(n_out):
        shifted = load(z, k * step) - highest
        e = exp(shifted)
        target = fma(_target(group, k), keep, spread)
        store(z, k * step, e)
        sum_exp = sum_exp + e
        sum_t = sum_t + target
        sum_tz = fma(target, shifted, sum_tz)
    inverse = full(z, 1.0) / sum_exp
    if plan.loss == CROSS_ENTROPY:
        for k in range(n_out):
            target = fma(_target(group, k), keep, spread)
            p = load(z, k * step) * inverse
            store(z, k * step, fma(p, sum_t, zero(z) - target) * shares)
        return log(sum_exp) * sum_t - sum_tz
    # Any other loss sees probabilities: the full Jacobian is diag(p) - p p^T.
    code, parameter = plan.loss, plan.loss_parameter
    loss, center = zero(z), zero(z)
    for k in range(n_out):
        p, target = load(z, k * step) * inverse, _target(group, k)
        terms, slope = _error_terms(code, parameter, p, target, broadcast(group.levels, k))
        loss = loss + terms
        center = fma(slope, p, center)
    factor = shares / full(z, n_out)
    for k in range(n_out):
        p, target = load(z, k * step) * inverse, _target(group, k)
        _, slope = _error_terms(code, parameter, p, target, broadcast(group.levels, k))
        store(z, k * step, p * (slope - center) * factor)
    return loss / full(z, n_out)


@inlined
def _activate_output(code: Index, logit: Vector) -> Pair:
    """Return the output and its derivative by the logit."""
    one = full(logit, 1.0)
    if code == SIGMOID:
        a = sigmoid(logit)
        return a, a * (one - a)
    if code == EXP:
        a = exp(logit)
        return a, a
    return logit, one


@kernel
def elementwise_losses(plan: Plan, group: Group) -> Vector:
    """Return the rows' losses behind sigmoid, linear or exp; as `softmax_losses`."""
    z, n_out = group.logits, group.n_out
    step, code = lanes(z), plan.loss
    total = zero(z)
    factor = group.shares / full(z, n_out)
    keep, spread = full(z, 1.0 - plan.smoothing), full(z, 0.5 * plan.smoothing)
    for k in range(n_out):
        logit, target = load(z, k * step), _target(group, k)
        a, outer = _activate_output(plan.output, logit)
        if code == CROSS_ENTROPY:  # binary, from logits
            # Sums of what is not negative: nothing cancels where a row is sure, of either label.
            target = fma(target, keep, spread)
            size, rest = absolute(logit), full(z, 1.0) - target
            loss = fma(select(logit > zero(z), rest, target), size, log1p(exp(-size)))
            slope = rest * a - target * sigmoid(-logit)
        elif code == POISSON:  # from logits
            loss, slope = a - target * logit, a - target
        elif code == CUSTOM:  # the derivative by the logits is what is given as targets
            loss, slope = zero(z), target * full(z, n_out)
        else:
            level = broadcast(group.levels, k)
            loss, slope = _error_terms(code, plan.loss_parameter, a, target, level)
            slope = slope * outer
        total = total + loss
        store(z, k * step, slope * factor)
    return total / full(z, n_out)


@inlined
def losses_of_rows(plan: Plan, group: Group) -> Any:
    """Return the rows' losses; replace their logits by gradients times the rows' shares."""
    if plan.output == SOFTMAX:
        return softmax_losses(plan, group)
    return elementwise_losses(plan, group)
