"""Multiplying and adding in registers and nothing else: the most that this machine can do."""

from __future__ import annotations

from fastmlp.backends.numba_backend.products.heights import FULL
from fastmlp.backends.numba_backend.programs.arguments import Floats
from fastmlp.backends.numba_backend.vectors.pointers import offsets_of
from fastmlp.backends.numba_backend.vectors.simd import (
    fma_rows,
    lanes,
    load,
    load_rows,
    pointer,
    store_rows,
)


def multiply_add(a: Floats, w: Floats, out: Floats, n: int) -> None:
    """Add ``a[0] * w`` to every row of a tile of accumulators `n` times, in registers.

    Examples
    --------
    >>> import numpy as np
    >>> out = np.zeros(len(FULL) * 8)
    >>> multiply_add(np.array([2.0]), np.ones(8), out, 3)
    >>> bool(np.all(out == 6.0))
    True
    """
    p, factor = pointer(out, 0), pointer(a, 0)
    vector = load(pointer(w, 0), 0)
    acc = load_rows(FULL, p, 0, lanes(p))
    same = offsets_of(FULL, None, 0, 0)
    for _ in range(n):
        acc = fma_rows(acc, factor, same, 0, vector)
    store_rows(acc, p, 0, lanes(p))
