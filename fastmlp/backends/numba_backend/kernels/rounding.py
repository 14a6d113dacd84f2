"""Factors of products rounded to bfloat16, and kept as float32; see `fastmlp.network.MLP`."""

from __future__ import annotations

from fastmlp.backends.numba_backend.plan import Net, PanelRows, Plan
from fastmlp.backends.numba_backend.vectors.simd import advance, lanes, load, round_bfloat16, store
from fastmlp.backends.numba_backend.vectors.strips import Strip
from fastmlp.backends.numba_backend.vectors.types import Index, Pointer, inlined, kernel


@inlined
def rounds(plan: Plan) -> bool:
    """Return whether products read rounded factors."""
    return plan.rounded != 0


@kernel
def round_strip(strip: Strip, n_rows: Index) -> None:
    """Round a strip."""
    for row in range(n_rows):
        i = row * strip.stride
        store(strip.data, i, round_bfloat16(load(strip.data, i)))


@inlined
def round_row(x: Pointer, width: Index) -> None:
    """Round `width` elements, and those behind them in the last vector."""
    round_strip(Strip(x, lanes(x)), (width + lanes(x) - 1) // lanes(x))


@kernel
def follow_rows(net: Net, rows: PanelRows) -> None:
    """Bring what products read of rows of a panel up to date: weights rounded, biases as they are.

    Nothing is to be done where products read the parameters themselves.
    """
    if not rounds(net.plan):
        return
    own = advance(net.memory, rows.offset)
    out, step = advance(own, net.plan.rounded), lanes(own)
    for i in range(0, rows.n * step, step):
        w = load(own, i)
        store(out, i, round_bfloat16(w) if rows.penalized else w)
