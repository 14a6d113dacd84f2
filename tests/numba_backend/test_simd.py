"""SIMD operations, lane by lane against NumPy; runs as well under NUMBA_DISABLE_JIT=1."""

import operator
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numba import config
from numba.core.errors import TypingError

from fastmlp.backends.numba_backend.numba_target import jit
from fastmlp.backends.numba_backend.vectors import math as simd_math
from fastmlp.backends.numba_backend.vectors import simd
from fastmlp.backends.numba_backend.vectors.pointers import offsets_of

DTYPES = [np.float32, np.float64]
THREE = (0, 0, 0)

jitted_only = pytest.mark.skipif(config.DISABLE_JIT, reason="about jitted code")
both_dtypes = pytest.mark.parametrize("dtype", DTYPES)


def lane_arrays(count, **bounds):
    """Draw `count` vectors of one dtype: any floats, or those within the bounds."""

    def draw(dtype):
        width = np.dtype(dtype).itemsize * 8
        limits = {name: float(dtype(value)) for name, value in bounds.items()}
        elements = st.floats(width=width, **limits)
        lanes = simd.LANES_BYTES // np.dtype(dtype).itemsize
        return arrays(dtype, (count, lanes), elements=elements)

    return st.sampled_from(DTYPES).flatmap(draw)


# --- Lane-wise operations --------------------------------------------------------------------


LANEWISE = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "unary -": lambda a, b: -a,
    "maximum": lambda a, b: np.where(np.isnan(a) | np.isnan(b), a, np.maximum(a, b)),
    "minimum": lambda a, b: np.where(np.isnan(a) | np.isnan(b), a, np.minimum(a, b)),
    "absolute": lambda a, b: np.abs(a),
    "sqrt": lambda a, b: np.sqrt(a),
    "floor": lambda a, b: np.floor(a),
    "round_even": lambda a, b: np.rint(a),
    "copysign": np.copysign,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "mask &": lambda a, b: (a > 0) & (b > 0),
    "mask |": lambda a, b: (a > 0) | (b > 0),
    "mask ~": lambda a, b: ~(a > 0),
    "full": lambda a, b: np.full_like(a, 0.1),
    "zero": lambda a, b: np.zeros_like(a),
    "constant": lambda a, b: np.full_like(a, 32.0 if a.dtype == np.float32 else 64.0),
}


@jit
def lanewise(out, operands):
    p = simd.pointer(operands, 0)
    o = simd.pointer(out, 0)
    size = simd.lanes(p)
    a, b = simd.load(p, 0), simd.load(p, size)
    one, zero = simd.full(p, 1), simd.zero(p)
    row = 0
    for v in (
        a + b,
        a - b,
        a * b,
        a / b,
        -a,
        simd.maximum(a, b),
        simd.minimum(a, b),
        simd.absolute(a),
        simd.sqrt(a),
        simd.floor(a),
        simd.round_even(a),
        simd.copysign(a, b),
        simd.select(a < b, one, zero),
        simd.select(a <= b, one, zero),
        simd.select(a > b, one, zero),
        simd.select(a >= b, one, zero),
        simd.select(a == b, one, zero),
        simd.select(a != b, one, zero),
        simd.select((a > zero) & (b > zero), one, zero),
        simd.select((a > zero) | (b > zero), one, zero),
        simd.select(~(a > zero), one, zero),
        simd.full(a, 0.1),
        simd.zero(a),
        simd.constant(a, 32.0, 64.0),
    ):
        simd.store(o, row, v)
        row += size


@given(lane_arrays(2))
@settings(deadline=None)
def test_every_lane_is_what_numpy_computes(operands):
    out = np.full((len(LANEWISE), operands.shape[1]), np.nan, operands.dtype)
    with np.errstate(all="ignore"):
        lanewise(out.ravel(), operands.ravel())
        for got, (name, reference) in zip(out, LANEWISE.items(), strict=True):
            expected = reference(*operands).astype(operands.dtype)
            np.testing.assert_array_equal(got, expected, err_msg=name)


@jit
def fma_and_polynomial(out, operands):
    p = simd.pointer(operands, 0)
    o = simd.pointer(out, 0)
    size = simd.lanes(p)
    a, b, c = simd.load_rows(THREE, p, 0, size)
    simd.store(o, 0, simd.fma(a, b, c))
    simd.store(o, size, simd.polynomial(a, (1.0, 2.0), (3.0, 4.0, 5.0)))


@given(lane_arrays(3, min_value=-1e3, max_value=1e3))
@settings(deadline=None)
def test_fma_and_polynomial_round_at_most_once_per_step(operands):
    out = np.full((2, operands.shape[1]), np.nan, operands.dtype)
    fma_and_polynomial(out.ravel(), operands.ravel())
    a, b, c = operands.astype(np.longdouble)
    eps = np.finfo(operands.dtype).eps
    tiny = np.finfo(operands.dtype).tiny
    assert np.all(np.abs(out[0] - (a * b + c)) <= eps * (np.abs(a * b) + np.abs(c)) + tiny)
    exact = 1 + 2 * a if operands.dtype == np.float32 else 3 + a * (4 + a * 5)
    assert np.all(np.abs(out[1] - exact) <= 4 * eps * (3 + np.abs(a) * (4 + np.abs(a) * 5)))


# --- Memory ----------------------------------------------------------------------------------


@jit
def move(out, source, i):
    p = simd.advance(simd.pointer(source, 1), 2)  # element 3
    o = simd.pointer(out, 0)
    size = simd.lanes(o)
    simd.store(o, 0, simd.load(p, i))
    simd.store(o, size + 1, simd.broadcast(p, i))  # not aligned
    simd.store_scalar(o, size, simd.load_scalar(p, i))
    simd.store_scalar(o, 2 * size + 1, simd.extract(simd.load(p, i), i))
    return size


@both_dtypes
@pytest.mark.parametrize("i", [0, 1, 7])
def test_loads_and_stores_touch_exactly_their_elements(dtype, i):
    size = 64 // np.dtype(dtype).itemsize
    source = np.arange(40, dtype=dtype)
    out = np.full(2 * size + 4, -1, dtype)
    assert move(out, source, i) == size
    start = 3 + i
    expected = [*range(start, start + size), start, *[start] * size, start + i, -1, -1]
    np.testing.assert_array_equal(out, np.array(expected, dtype))


@pytest.mark.parametrize("i", [-1, 3, 100])
def test_plain_memory_access_is_checked(i):
    p = simd.pointer(np.zeros(12), 2)
    with pytest.raises(IndexError, match="outside of the 10 elements"):
        simd.load(p, i)
    with pytest.raises(IndexError, match="lie outside"):
        simd.store(p, i, np.zeros(8))
    with pytest.raises(IndexError, match="lie outside"):
        simd.load_scalar(p, i * 8)
    with pytest.raises(IndexError, match="lie outside"):
        simd.store_rows((np.zeros(8), np.zeros(8)), p, 0, i)
    with pytest.raises(IndexError, match="lie outside"):
        simd.advance(p, i * 8)


@pytest.mark.parametrize("array", [np.zeros((2, 8)), np.zeros(32)[::2]])
def test_a_pointer_needs_a_contiguous_vector(array):
    with pytest.raises(ValueError, match="contiguous 1-D"):
        simd.pointer(array, 0)


def test_a_loaded_vector_is_a_value():
    p = np.zeros(8)
    before = simd.load(p, 0)
    simd.store(p, 0, np.ones(8))
    assert not before.any()


# --- Masks and reductions --------------------------------------------------------------------


@jit
def reductions(out, source, n):
    p = simd.pointer(source, 0)
    o = simd.pointer(out, 0)
    v = simd.load(p, 0)
    simd.store_scalar(o, 0, simd.lane_sum(v))
    simd.store_scalar(o, 1, simd.lane_max(v))
    simd.store_scalar(o, 2, simd.lane_min(v))
    first = simd.first_lanes(p, n)
    simd.store(o, 3, simd.select(first, simd.full(v, 1), simd.zero(v)))
    return simd.lane_bits(first)


@given(
    lane_arrays(1, min_value=-1e3, max_value=1e3), st.integers(-(2**40), 2**40) | st.integers(0, 17)
)
@settings(deadline=None)
def test_reductions_and_first_lanes(operands, n):
    (v,) = operands
    out = np.full(3 + len(v), np.nan, v.dtype)
    bits = reductions(out, v, n)
    halves = v
    while len(halves) > 1:
        halves = halves[: len(halves) // 2] + halves[len(halves) // 2 :]
    np.testing.assert_array_equal(out[:3], [halves[0], v.max(), v.min()])
    np.testing.assert_array_equal(out[3:], np.arange(len(v)) < n)
    assert bits == 2 ** min(max(n, 0), len(v)) - 1


@jit
def either(out, a, b):
    p, q = simd.pointer(a, 0), simd.pointer(b, 0)
    simd.store(simd.pointer(out, 0), 0, simd.either(simd.load(p, 0), simd.load(q, 0)))


@given(lane_arrays(2))
@settings(deadline=None)
def test_either_is_zero_where_both_are(operands):
    a, b = operands
    out = np.full_like(a, np.nan)
    either(out, a, b)
    np.testing.assert_array_equal(out == 0, (a == 0) & (b == 0))


# --- Exponents -------------------------------------------------------------------------------


@jit
def exponents(out, source, n):
    p = simd.pointer(source, 0)
    o = simd.pointer(out, 0)
    size = simd.lanes(p)
    v = simd.load(p, 0)
    m, e = simd.split_exponent(v)
    simd.store(o, 0, m)
    simd.store(o, size, e)
    simd.store(o, 2 * size, simd.scale_by_power_of_two(v, simd.full(v, n)))


@given(lane_arrays(1, min_value=2.0**-60, max_value=2.0**60), st.integers(-66, 66))
@settings(deadline=None)
def test_exponents_are_split_and_scaled_exactly(operands, n):
    (v,) = operands
    m, e, scaled = out = np.full((3, len(v)), np.nan, v.dtype)
    exponents(out.reshape(-1), v, n)
    np.testing.assert_array_equal(np.ldexp(m, e.astype(int)), v)
    assert np.all((m >= v.dtype.type(np.sqrt(0.5))) & (m < np.sqrt(2)))
    np.testing.assert_array_equal(scaled, np.ldexp(v, n))


# --- Rows ------------------------------------------------------------------------------------


@jit
def small_tile(out, a, row_stride, k_stride, w, n_k):
    p, q, o = simd.pointer(a, 0), simd.pointer(w, 0), simd.pointer(out, 0)
    size = simd.lanes(p)
    acc = simd.rows(simd.full(p, 1), THREE)
    offsets = offsets_of(THREE, None, 0, row_stride)
    for k in range(n_k):
        acc = simd.fma_rows(acc, p, offsets, k * k_stride, simd.load(q, k * size))
    simd.store_rows(acc, o, 0, size)


@both_dtypes
@pytest.mark.parametrize("transposed", [False, True])
def test_rows_make_a_matrix_product(dtype, transposed):
    rng = np.random.default_rng(0)
    size = 64 // np.dtype(dtype).itemsize
    a = rng.integers(-9, 9, (3, 5)).astype(dtype)
    w = rng.integers(-9, 9, (5, size)).astype(dtype)
    out = np.full((3, size), np.nan, dtype)
    stored = np.ascontiguousarray(a.T if transposed else a)
    strides = (1, 3) if transposed else (5, 1)
    small_tile(out.reshape(-1), stored.ravel(), *strides, w.ravel(), 5)
    np.testing.assert_array_equal(out, 1 + a @ w)


# --- Squares ---------------------------------------------------------------------------------


@jit
def transpose(out, source, source_stride, n_rows, out_stride, n_columns):
    p, o = simd.pointer(source, 0), simd.pointer(out, 0)
    simd.transpose_square(p, source_stride, n_rows, o, out_stride, n_columns)


@both_dtypes
@given(st.data())
@settings(deadline=None)
def test_squares_are_transposed_within_their_rows_and_columns(dtype, data):
    size = 64 // np.dtype(dtype).itemsize
    n_rows, n_columns = data.draw(st.integers(0, size)), data.draw(st.integers(0, size))
    source_stride, out_stride = (data.draw(st.integers(size, size + 9)) for _ in range(2))
    source = np.arange(n_rows * source_stride + 1, dtype=dtype)  # not a row more
    out = np.full((size + 1, out_stride), -1, dtype)
    transpose(out.ravel(), source, source_stride, n_rows, out_stride, n_columns)
    expected = np.full_like(out, -1)
    expected[:n_columns, :size] = 0
    rows = source[:-1].reshape(n_rows, source_stride)
    expected[:n_columns, :n_rows] = rows[:, :n_columns].T
    np.testing.assert_array_equal(out, expected)


# --- What jitted code refuses, and caches ----------------------------------------------------


@jit
def times_scalar(a):
    return simd.extract(simd.load(simd.pointer(a, 0), 0) * 2.0, 0)


@jit
def first(a):
    return simd.load_scalar(simd.pointer(a, 0), 0)


@jitted_only
def test_a_vector_does_not_combine_with_a_scalar():
    with pytest.raises(TypingError, match="mul"):
        times_scalar(np.zeros(16))


@jitted_only
@pytest.mark.parametrize("array", [np.zeros(4, np.int64), np.zeros((2, 2)), np.zeros(8)[::2]])
def test_jitted_pointers_need_contiguous_float_vectors(array):
    with pytest.raises(TypingError, match="pointer"):
        first(array)


KERNEL = """
import numpy as np
from fastmlp.backends.numba_backend.numba_target import jit
from fastmlp.backends.numba_backend.vectors import math as simd_math
from fastmlp.backends.numba_backend.vectors import simd

@jit
def kernel(a):
    p = simd.pointer(a, 0)
    acc = simd.rows(simd_math.exp(simd.load(p, 0)) * simd.full(p, 2.0), (0, 0))
    simd.store_rows(acc, p, 0, simd.lanes(p))

a = np.zeros(32, np.float32)
kernel.enable_caching()
kernel(a)
print(a.sum(), sum(kernel.stats.cache_hits.values()))
"""


@jitted_only
def test_callers_are_loaded_from_the_cache(tmp_path):
    script = tmp_path / "kernel.py"
    script.write_text(KERNEL)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    printed = [
        subprocess.run(
            [sys.executable, script], env=environment, capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(2)
    ]
    assert printed == [["64.0", "0"], ["64.0", "1"]]


# --- Elementary functions --------------------------------------------------------------------


def erf_reference(x):
    """Power series near 0, Laplace's continued fraction further out."""
    a = np.abs(x)
    root_pi = np.sqrt(np.arctan(np.longdouble(1)) * 4)
    term = total = a
    for n in range(1, 120):
        term = term * -(a * a) / n
        total = total + np.where(a < 3, term / (2 * n + 1), 0)
    fraction = np.zeros_like(a)
    for k in range(200, 0, -1):
        fraction = np.longdouble(k) / 2 / (a + fraction)
    tail = np.exp(-a * a) / (a + fraction) / root_pi
    return np.copysign(np.where(a < 3, 2 * total / root_pi, 1 - tail), x)


# Name: (reference, bound in ulp as the docstring states it).
ELEMENTARY = {
    "exp": (np.exp, 1.1),
    "expm1": (np.expm1, 2.5),
    "tanh": (np.tanh, 3.0),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), 3.0),
    "log": (np.log, 1.0),
    "log1p": (np.log1p, 1.5),
    "softplus": (lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), 2.5),
    "erf": (erf_reference, 2.0),
}


@jit
def elementary(out, x):
    p, o = simd.pointer(x, 0), simd.pointer(out, 0)
    size = simd.lanes(p)
    n = len(x)
    for i in range(0, n, size):
        v = simd.load(p, i)
        simd.store(o, i, simd_math.exp(v))
        simd.store(o, n + i, simd_math.expm1(v))
        simd.store(o, 2 * n + i, simd_math.tanh(v))
        simd.store(o, 3 * n + i, simd_math.sigmoid(v))
        simd.store(o, 4 * n + i, simd_math.log(v))
        simd.store(o, 5 * n + i, simd_math.log1p(v))
        simd.store(o, 6 * n + i, simd_math.softplus(v))
        simd.store(o, 7 * n + i, simd_math.erf(v))


def evaluate(x):
    out = np.full((len(ELEMENTARY), len(x)), np.nan, x.dtype)
    elementary(out.reshape(-1), x)
    return dict(zip(ELEMENTARY, out, strict=True))


def dense_inputs(dtype):
    """Random numbers of every magnitude and sign, and dense ones where functions bend."""
    info = np.finfo(dtype)
    rng = np.random.default_rng(20)
    n = 2_000 if config.DISABLE_JIT else 40_000
    overflow = np.log(info.max)
    signs = rng.choice([-1.0, 1.0], n)
    parts = [
        np.exp2(rng.uniform(np.log2(info.tiny), np.log2(info.max) - 0.01, n)) * signs,
        rng.uniform(-overflow, overflow, n),
        rng.uniform(-7, 7, n),
        rng.normal(size=n),
        1 + 0.1 * rng.normal(size=n),
    ]
    return np.concatenate(parts).astype(dtype)


@both_dtypes
def test_elementary_functions_keep_their_ulp_bounds(dtype):
    if np.finfo(np.longdouble).nmant <= np.finfo(dtype).nmant:
        pytest.skip("this platform has no wider type to compare with")
    x = dense_inputs(dtype)
    info = np.finfo(dtype)
    worst = {}
    for name, got in evaluate(x).items():
        with np.errstate(all="ignore"):
            exact = ELEMENTARY[name][0](x.astype(np.longdouble))
        size = np.abs(exact)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(exact), err_msg=name)
        np.testing.assert_array_equal(got[size > info.max], np.inf, err_msg=name)
        assert np.all(np.abs(got[size < info.tiny]) <= info.tiny), name
        normal = (size >= info.tiny) & (size <= info.max)
        ulp = np.exp2(np.floor(np.log2(size[normal])) - info.nmant)
        worst[name] = float(np.max(np.abs(got[normal] - exact[normal]) / ulp))
    assert {name: error for name, error in worst.items() if error > ELEMENTARY[name][1]} == {}


@both_dtypes
def test_elementary_functions_at_special_values(dtype):
    inf, nan = np.inf, np.nan
    size = 64 // np.dtype(dtype).itemsize
    special = np.resize(np.array([0.0, inf, -inf, nan, -1.0, -2.0, 1e9, -1e9], dtype), size)
    got = evaluate(special)
    expected = {
        "exp": [1, inf, 0, nan, np.exp(-1), np.exp(-2), inf, 0],
        "expm1": [0, inf, -1, nan, np.expm1(-1), np.expm1(-2), inf, -1],
        "tanh": [0, 1, -1, nan, np.tanh(-1), np.tanh(-2), 1, -1],
        "sigmoid": [0.5, 1, 0, nan, 1 / (1 + np.exp(1)), 1 / (1 + np.exp(2)), 1, 0],
        "log": [-inf, inf, nan, nan, nan, nan, np.log(1e9), nan],
        "log1p": [0, inf, nan, nan, -inf, nan, np.log1p(1e9), nan],
        "softplus": [np.log(2), inf, 0, nan, np.log1p(np.exp(-1)), np.log1p(np.exp(-2)), 1e9, 0],
        "erf": [0, 1, -1, nan, -0.8427007929497149, -0.9953222650189527, 1, -1],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(
            got[name][:8], values, rtol=5 * np.finfo(dtype).eps, err_msg=name
        )


@both_dtypes
def test_subnormal_inputs(dtype):
    info = np.finfo(dtype)
    x = np.full(64 // np.dtype(dtype).itemsize, info.smallest_subnormal)
    got = evaluate(x)
    for name in ("expm1", "tanh", "log1p", "erf"):
        np.testing.assert_allclose(got[name], x, atol=info.smallest_subnormal, rtol=0)
    np.testing.assert_allclose(got["log"], np.log(x), rtol=info.eps)
    np.testing.assert_array_equal(got["exp"], 1)
