"""What looks at all parameters: norms, penalties, and updates by a gradient that is kept whole."""

from __future__ import annotations

import numpy as np

from fastmlp.backends.numba_backend.kernels.parameters import (
    average_rows,
    finish_rows,
    update_rows,
)
from fastmlp.backends.numba_backend.kernels.regularization import (
    clipping_factor,
    limit_norms,
    measure_norm,
    penalty_of,
)
from fastmlp.backends.numba_backend.kernels.rounding import follow_rows
from fastmlp.backends.numba_backend.plan import (
    Net,
    StepRates,
    biases_of_panel,
    has_scale,
    layer_of,
    panel_of,
    rows_of_scale,
    weights_of_panel,
)
from fastmlp.backends.numba_backend.team.barrier import Team, begin_of, end_of
from fastmlp.backends.numba_backend.vectors.records import Records, record
from fastmlp.backends.numba_backend.vectors.simd import advance, lanes
from fastmlp.backends.numba_backend.vectors.types import Index, Scalar, inlined, kernel


@inlined
def count_panels(net: Net) -> Index:
    """Return the number of panels of all layers."""
    n_panels = 0
    for number in range(net.plan.n_layers):
        n_panels += layer_of(net, number).out_panels
    return n_panels


@kernel
def sum_penalties(net: Net, team: Team, norms: Records, rates: StepRates) -> None:
    """Write the penalty of each of a thread's panels."""
    step, passed = lanes(net.memory), 0
    for number in range(net.plan.n_layers):
        layer = layer_of(net, number)
        for p in range(begin_of(layer.out_panels, team), end_of(layer.out_panels, team)):
            weights = advance(net.memory, panel_of(layer, p, step))
            penalty = penalty_of(weights, layer.n_in * step, net.plan.l1, rates.l2)
            record(norms, passed + p).penalty = penalty
        passed += layer.out_panels


@inlined
def whole_penalty(net: Net, norms: Records) -> Scalar:
    """Return the sum of the panels' penalties."""
    total = 0.0
    for i in range(count_panels(net)):
        total += record(norms, i).penalty
    return total


@inlined
def changes_scale(net: Net, team: Team) -> bool:
    """Return whether it is the thread that changes the scaling layer's factors, if there are."""
    return has_scale(net.plan) and team.thread == 0


@kernel
def finish_whole(net: Net, team: Team, rates: StepRates) -> None:
    """Finish a thread's panels of the gradient's block."""
    plan, step = net.plan, lanes(net.memory)
    for number in range(plan.n_layers):
        layer = layer_of(net, number)
        for p in range(begin_of(layer.out_panels, team), end_of(layer.out_panels, team)):
            weights = weights_of_panel(layer, p, 0, layer.n_in, step)
            biases = biases_of_panel(layer, p, step)
            gradient = advance(net.memory, plan.gradient)
            finish_rows(net, weights, advance(gradient, weights.offset), rates)
            finish_rows(net, biases, advance(gradient, biases.offset), rates)
    if changes_scale(net, team):
        rows = rows_of_scale(net)
        finish_rows(net, rows, advance(net.memory, plan.gradient + rows.offset), rates)


@kernel
def measure_gradient(net: Net, team: Team, norms: Records) -> None:
    """Measure each of a thread's panels of the gradient's block, if its norm is limited."""
    if net.plan.clip_norm == np.inf:
        return
    step, passed = lanes(net.memory), 0
    for number in range(net.plan.n_layers):
        layer = layer_of(net, number)
        for p in range(begin_of(layer.out_panels, team), end_of(layer.out_panels, team)):
            gradient = advance(net.memory, net.plan.gradient + panel_of(layer, p, step))
            measure_norm(gradient, (layer.n_in + 1) * step, record(norms, passed + p))
        passed += layer.out_panels
    if changes_scale(net, team):
        rows = rows_of_scale(net)
        gradient = advance(net.memory, net.plan.gradient + rows.offset)
        measure_norm(gradient, rows.n * step, record(norms, passed))


@kernel
def update_whole(net: Net, team: Team, norms: Records, rates: StepRates) -> None:
    """Update a thread's panels by the gradient's block, clipped to its norm."""
    plan, step = net.plan, lanes(net.memory)
    n_norms = count_panels(net) + (1 if has_scale(plan) else 0)
    factor = clipping_factor(norms, n_norms, plan.clip_norm)
    for number in range(plan.n_layers):
        layer = layer_of(net, number)
        for p in range(begin_of(layer.out_panels, team), end_of(layer.out_panels, team)):
            weights = weights_of_panel(layer, p, 0, layer.n_in, step)
            biases = biases_of_panel(layer, p, step)
            gradient = advance(net.memory, plan.gradient)
            update_rows(net, weights, advance(gradient, weights.offset), factor, rates)
            update_rows(net, biases, advance(gradient, biases.offset), factor, rates)
            if plan.max_norm < np.inf:
                limit_norms(advance(net.memory, weights.offset), layer.n_in, plan.max_norm)
                follow_rows(net, weights)
            average_rows(net, weights.offset, layer.n_in + 1)
    if changes_scale(net, team):
        rows = rows_of_scale(net)
        update_rows(net, rows, advance(net.memory, plan.gradient + rows.offset), factor, rates)
        average_rows(net, rows.offset, rows.n)
