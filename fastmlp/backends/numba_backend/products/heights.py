"""How high tiles are: rows whose sums the registers hold at once."""

from __future__ import annotations

from typing import Any

from fastmlp.backends.numba_backend.machine import VECTORS
from fastmlp.backends.numba_backend.vectors.pointers import smaller
from fastmlp.backends.numba_backend.vectors.types import Index, inlined

#: Rows of a full tile, as tuples whose lengths the kernels are unrolled by.
FULL = (0,) * VECTORS.tile_rows
SHORT = (0,) * (len(FULL) - 1)
#: As few rows as keep an AVX-512 core's multiply-adds busy; elsewhere, half a tile.
LOW = (0,) * min(4, len(FULL) // 2)
ONE = (0,)


@inlined
def divide_rows(n_rows: Index) -> Any:
    """Return how many full tiles, tiles shorter by a row, low tiles and single rows to take.

    Balanced tiles leave no slow remainder: 64 rows are 9 tiles of 6 and 2 of 5.

    Examples
    --------
    >>> sum(n * len(t) for n, t in zip(divide_rows(64), (FULL, SHORT, LOW, ONE)))
    64
    """
    n_one = 0
    while True:
        rest = n_rows - n_one
        for n_low in range(smaller(2, rest // len(LOW)) + 1):
            n_tiles = (rest + len(FULL) - 1) // len(FULL)
            n_short = n_tiles * len(FULL) - rest
            if n_short <= n_tiles:
                return n_tiles - n_short, n_short, n_low, n_one
            rest -= len(LOW)
        n_one += 1


@inlined
def in_tiles(do: Any, n_rows: Index, operands: Any, state: Any) -> Any:
    """Do something with all tiles of some rows, height by height; return what the last returned.

    ``do(count, n_tiles, operands, state)`` does it with `n_tiles` tiles of ``len(count)`` rows, and
    returns the next state.

    Examples
    --------
    >>> in_tiles(lambda count, n_tiles, _, row: row + n_tiles * len(count), 64, None, 0)
    64
    """
    n_full, n_short, n_low, n_one = divide_rows(n_rows)
    state = do(FULL, n_full, operands, state)
    state = do(SHORT, n_short, operands, state)
    state = do(LOW, n_low, operands, state)
    return do(ONE, n_one, operands, state)


@inlined
def full_tiles(n_rows: Index) -> Index:
    """Return the rows of as many full tiles as hold `n_rows`.

    Examples
    --------
    >>> full_tiles(1) == len(FULL)
    True
    """
    return (n_rows + len(FULL) - 1) // len(FULL) * len(FULL)
