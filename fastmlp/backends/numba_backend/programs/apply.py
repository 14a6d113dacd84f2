"""One update by a gradient that Python gives."""

from __future__ import annotations

from fastmlp.backends.numba_backend.plan import Net, has_scale
from fastmlp.backends.numba_backend.programs.arguments import Memory, Rates
from fastmlp.backends.numba_backend.programs.scaling import scale_panels
from fastmlp.backends.numba_backend.programs.update import (
    finish_whole,
    measure_gradient,
    update_whole,
)
from fastmlp.backends.numba_backend.team.barrier import Team
from fastmlp.backends.numba_backend.vectors.pointers import nowhere
from fastmlp.backends.numba_backend.vectors.records import pointers_of, record


def apply(memory: Memory, rates: Rates) -> None:
    """Clip the gradient's block, on one thread, and update the parameters by it.

    The block holds the penalties' gradient; the plan and the rates know none.

    Parameters
    ----------
    memory : Memory
    rates : array of one `StepRates`
    """
    held, now, team = pointers_of(memory), record(rates, 0), Team(0, 1, nowhere())
    net = Net(record(held.plan, 0), held.layers, held.floats)
    finish_whole(net, team, now)
    measure_gradient(net, team, held.norms)
    update_whole(net, team, held.norms, now)
    if has_scale(net.plan):
        scale_panels(net, team)
