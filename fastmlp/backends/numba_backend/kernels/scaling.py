"""The scaling layer: a factor for every input, which products meet in the first layer's weights.

With factors s and weights W, rows X give X diag(s) W + b. So products read *effective* weights,
diag(s) W, in panels of their own; and of G, the gradient by these, come that of the weights,
diag(s) G, and that of the factors, the sums of the rows of G * W.
"""

from __future__ import annotations

from fastmlp.backends.numba_backend.vectors.simd import (
    advance,
    broadcast,
    lane_sum,
    lanes,
    load,
    store,
    store_scalar,
    zero,
)
from fastmlp.backends.numba_backend.vectors.types import Index, Pointer, kernel


@kernel
def scale_panel(panel: Pointer, factors: Pointer, n_in: Index, out: Pointer) -> None:
    """Write a panel's effective weights, and its biases as they are."""
    step = lanes(panel)
    for i in range(n_in):
        store(out, i * step, load(panel, i * step) * broadcast(factors, i))
    store(out, n_in * step, load(panel, n_in * step))


@kernel
def divide_gradient(
    gradient: Pointer, panel: Pointer, factors: Pointer, n_in: Index, part: Pointer
) -> None:
    """Replace a panel's gradient by its effective weights by that by its weights.

    What the panel adds to the gradient by the factors goes to `part`.
    """
    step = lanes(panel)
    for i in range(n_in):
        g = load(gradient, i * step)
        store_scalar(part, i, lane_sum(g * load(panel, i * step)))
        store(gradient, i * step, g * broadcast(factors, i))


@kernel
def sum_parts(parts: Pointer, n_panels: Index, n: Index, out: Pointer) -> None:
    """Write the gradient by the factors: the sum of the panels' parts, of `n` elements each."""
    for i in range(0, n, lanes(out)):
        total = zero(out)
        for p in range(n_panels):
            total = total + load(advance(parts, p * n), i)
        store(out, i, total)
