"""The scaling layer's part in an update: its gradient, and the weights that products read."""

from __future__ import annotations

from fastmlp.backends.numba_backend.kernels.rounding import round_strip, rounds
from fastmlp.backends.numba_backend.kernels.scaling import (
    divide_gradient,
    scale_panel,
    sum_parts,
)
from fastmlp.backends.numba_backend.plan import Net, layer_of, panel_of
from fastmlp.backends.numba_backend.programs.update import changes_scale
from fastmlp.backends.numba_backend.team.barrier import Team, begin_of, end_of, meet
from fastmlp.backends.numba_backend.vectors.simd import advance, lanes
from fastmlp.backends.numba_backend.vectors.strips import Strip
from fastmlp.backends.numba_backend.vectors.types import inlined, kernel


@kernel
def divide_panels(net: Net, team: Team) -> None:
    """Divide the gradient by the effective weights of a thread's panels of the first layer."""
    plan, layer, step = net.plan, layer_of(net, 0), lanes(net.memory)
    factors = advance(net.memory, plan.scale)
    for p in range(begin_of(layer.out_panels, team), end_of(layer.out_panels, team)):
        panel = advance(net.memory, panel_of(layer, p, step))
        part = advance(net.memory, plan.scale_parts + p * layer.in_panels * step)
        divide_gradient(advance(panel, plan.gradient), panel, factors, layer.n_in, part)


@inlined
def find_scale_gradient(net: Net, team: Team) -> bool:
    """Turn the gradient by effective weights into that of the weights and of the factors.

    Returns False if a thread gave up.
    """
    plan, layer = net.plan, layer_of(net, 0)
    divide_panels(net, team)
    if not meet(team):
        return False
    if changes_scale(net, team):
        parts = advance(net.memory, plan.scale_parts)
        out = advance(net.memory, plan.gradient + plan.scale)
        sum_parts(parts, layer.out_panels, layer.in_panels * lanes(out), out)
    return True


@kernel
def scale_panels(net: Net, team: Team) -> None:
    """Write the effective weights of a thread's panels of the first layer."""
    plan, layer, step = net.plan, layer_of(net, 0), lanes(net.memory)
    factors = advance(net.memory, plan.scale)
    for p in range(begin_of(layer.out_panels, team), end_of(layer.out_panels, team)):
        offset = panel_of(layer, p, step)
        out = advance(net.memory, layer.effective + offset - layer.weights)
        scale_panel(advance(net.memory, offset), factors, layer.n_in, out)
        if rounds(plan):
            round_strip(Strip(out, step), layer.n_in)


@inlined
def follow_scale(net: Net, team: Team) -> bool:
    """Bring the effective weights up to date, once the factors are; False if a thread gave up."""
    if not meet(team):
        return False
    scale_panels(net, team)
    return True
