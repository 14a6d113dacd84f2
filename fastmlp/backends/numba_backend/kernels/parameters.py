"""A gradient's last steps: penalties and limits, then the update, or its place in the block."""

from __future__ import annotations

import numpy as np

from fastmlp.backends.numba_backend.kernels.optimizers import Update, update
from fastmlp.backends.numba_backend.kernels.regularization import average, finish_gradient
from fastmlp.backends.numba_backend.kernels.rounding import follow_rows
from fastmlp.backends.numba_backend.plan import Net, PanelRows, Plan, StepRates, has_scale
from fastmlp.backends.numba_backend.vectors.simd import advance, lanes, load, store
from fastmlp.backends.numba_backend.vectors.types import Index, Pointer, Scalar, inlined, kernel


@inlined
def is_whole(plan: Plan) -> bool:
    """Return whether the gradient is wanted whole before the update.

    For its norm, or a unit's, or because the scaling layer's comes of all of the first layer's.
    """
    limits = plan.clip_norm < np.inf or plan.max_norm < np.inf
    return limits or has_scale(plan) or plan.gradient_only != 0


@kernel
def update_rows(
    net: Net, rows: PanelRows, gradient: Pointer, factor: Scalar, rates: StepRates
) -> None:
    """Update rows of a panel by their gradient, times its factor."""
    plan, w = net.plan, advance(net.memory, rows.offset)
    first = plan.block_size if plan.n_moments > 0 else 0
    moments = advance(net.memory, rows.offset + first)
    n = rows.n * lanes(w)
    changed = Update(w, n, gradient, factor, rows.rate, moments, plan.block_size)
    update(changed, plan, rates)
    follow_rows(net, rows)


@kernel
def finish_rows(net: Net, rows: PanelRows, gradient: Pointer, rates: StepRates) -> None:
    """Add the penalties to the gradient of rows of a panel, where there are any, and limit it."""
    plan = net.plan
    if plan.clip_value < np.inf or (rows.penalized and (plan.l1 > 0.0 or rates.l2 > 0.0)):
        w = advance(net.memory, rows.offset)
        finish_gradient(gradient, w, rows.n * lanes(w), rows.penalized, plan, rates)


@kernel
def apply_rows(net: Net, rows: PanelRows, gradient: Pointer, rates: StepRates) -> None:
    """Apply the gradient of rows of a panel; keep it, unfinished, if it is wanted whole."""
    plan, step = net.plan, lanes(gradient)
    if is_whole(plan):
        out = advance(net.memory, plan.gradient + rows.offset)
        for i in range(0, rows.n * step, step):
            store(out, i, load(gradient, i))
    else:
        finish_rows(net, rows, gradient, rates)
        update_rows(net, rows, gradient, 1.0, rates)


@kernel
def average_rows(net: Net, offset: Index, n_rows: Index) -> None:
    """Bring the average of `n_rows` rows of a panel, which begin at `offset`, up to date."""
    plan = net.plan
    if plan.ema_rate > 0.0:
        w, mean = advance(net.memory, offset), advance(net.memory, plan.average + offset)
        average(w, mean, n_rows * lanes(w), plan.ema_rate)
