"""The most floating-point operations a second that this machine can do: a measured limit."""

from __future__ import annotations

import functools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numba.core import config

from fastmlp.backends.numba_backend.numba_target import jit
from fastmlp.backends.numba_backend.products.heights import FULL
from fastmlp.backends.numba_backend.vectors.pointers import offsets_of
from fastmlp.backends.numba_backend.vectors.simd import (
    fma_rows,
    load,
    load_rows,
    pointer,
    store_rows,
)

#: How often a call repeats: some milliseconds, beside which starting threads is nothing.
_REPEATS = 1_000_000


@functools.cache
def _kernel() -> Any:
    return jit(multiply_add)


def multiply_add(a: Any, w: Any, out: Any, n: Any) -> None:
    """Add ``a[0] * w`` to every row of a tile of accumulators `n` times, in registers.

    Examples
    --------
    >>> lanes = 64 // 8
    >>> out = np.zeros(len(FULL) * lanes)
    >>> multiply_add(np.array([2.0]), np.ones(lanes), out, 3)
    >>> bool(np.all(out == 6.0))
    True
    """
    lanes = len(w)
    p, factor = pointer(out, 0), pointer(a, 0)
    vector = load(pointer(w, 0), 0)
    acc = load_rows(FULL, p, 0, lanes)
    same = offsets_of(FULL, None, 0, 0)
    for _ in range(n):
        acc = fma_rows(acc, factor, same, 0, vector)
    store_rows(acc, p, 0, lanes)


def measure_peak(dtype: Any = "float32", n_threads: int = 1, seconds: float = 0.2) -> float:
    """Return the FMA peak: the best rate at which vectors are multiplied and added.

    Parameters
    ----------
    dtype : {"float32", "float64"}, default "float32"
    n_threads : int, default 1
    seconds : float, default 0.2
        How long to measure, compiling apart.

    Returns
    -------
    float
        Floating-point operations a second of all threads together; a multiply-add counts as two.

    Examples
    --------
    >>> measure_peak(seconds=0.02) > 1e3
    True
    """
    lanes = 64 // np.dtype(dtype).itemsize
    kernel = _kernel()
    n = 10 if config.DISABLE_JIT else _REPEATS
    teams = [
        (np.full(1, 1e-6, dtype), np.ones(lanes, dtype), np.zeros(len(FULL) * lanes, dtype))
        for _ in range(n_threads)
    ]
    kernel(*teams[0], 1)  # compiles
    barrier = threading.Barrier(n_threads)

    def span(thread: int) -> tuple[float, float]:
        barrier.wait()
        start = time.perf_counter()
        kernel(*teams[thread], n)
        return start, time.perf_counter()

    best, stop = 0.0, time.perf_counter() + seconds
    with ThreadPoolExecutor(n_threads) as pool:
        while best == 0.0 or time.perf_counter() < stop:
            starts, ends = zip(*pool.map(span, range(n_threads)), strict=True)
            best = max(best, 2.0 * lanes * len(FULL) * n * n_threads / (max(ends) - min(starts)))
    return best
