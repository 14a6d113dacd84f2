"""What programs may consist of, and that no other jitted code sees it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import pytest
from numba import config
from numba.core.errors import TypingError

from fastmlp.backends.numba_backend.numba_target import compiler, jit
from fastmlp.backends.numba_backend.vectors.simd import load_scalar, pointer
from fastmlp.backends.numba_backend.vectors.types import kernel

LAYER = np.dtype([("n", np.int64), ("rate", np.float64)], align=True)


class Rows(NamedTuple):
    data: Any
    stride: int
    n: int


@kernel
def once(rows, i):
    return load_scalar(rows.data, i * rows.stride)


@kernel
def twice(rows, i):
    return load_scalar(rows.data, i * rows.stride) * 2


@kernel
def total(rows, part, layer):
    result = 0.0
    for i in range(rows.n):
        result += part(rows, i) * layer.rate
    return np.sqrt(result) + layer.n + int(result)


@jit
def totals(a, layers, out):
    rows = Rows(pointer(a, 0), 2, 3)
    out[0] = total(rows, once, layers[0])
    out[1] = total(rows, twice, layers[1])


@pytest.mark.skipif(config.DISABLE_JIT, reason="a plain record has no attributes")
def test_kernels_take_records_named_tuples_and_kernels():
    out = np.zeros(2)
    totals(np.arange(8.0), np.array([(1, 1.5), (2, 3.0)], LAYER), out)
    np.testing.assert_array_equal(out, [3.0 + 1 + 9, 6.0 + 2 + 36])


@pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is compiled")
@pytest.mark.skipif(compiler() != "lean", reason="kernels are then Numba's like any function")
def test_other_jitted_code_knows_no_kernels():
    with pytest.raises(TypingError, match="once"):
        numba.njit(lambda a: once(a, 0))(np.ones(2))
