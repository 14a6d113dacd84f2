"""The most floating-point operations a second that this machine can do: a measured limit."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from fastmlp.backends.numba_backend.compiled import compiled
from fastmlp.backends.numba_backend.numba_target import JIT_DISABLED
from fastmlp.backends.numba_backend.prebuilt import passed
from fastmlp.backends.numba_backend.products.heights import FULL

#: How often a call repeats: some milliseconds, beside which starting threads is nothing.
_REPEATS = 1_000_000


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
    kernel = compiled("multiply_add", np.dtype(dtype))
    n = 10 if JIT_DISABLED else _REPEATS
    teams = [
        (np.full(1, 1e-6, dtype), np.ones(lanes, dtype), np.zeros(len(FULL) * lanes, dtype))
        for _ in range(n_threads)
    ]
    barrier = threading.Barrier(n_threads)

    def span(thread: int) -> tuple[float, float]:
        barrier.wait()
        start = time.perf_counter()
        kernel(*map(passed, teams[thread]), n)
        return start, time.perf_counter()

    best, stop = 0.0, time.perf_counter() + seconds
    with ThreadPoolExecutor(n_threads) as pool:
        while best == 0.0 or time.perf_counter() < stop:
            starts, ends = zip(*pool.map(span, range(n_threads)), strict=True)
            best = max(best, 2.0 * lanes * len(FULL) * n * n_threads / (max(ends) - min(starts)))
    return best
