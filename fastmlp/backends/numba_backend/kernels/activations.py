"""Activations of hidden layers: each returns (f(z), f'(z)); formulas in `fastmlp.activations`."""

from __future__ import annotations

import math
from typing import Any

from fastmlp import activations
from fastmlp.backends.numba_backend.vectors.math import (
    erf,
    exp,
    expm1,
    sigmoid,
    softplus,
    tanh,
)
from fastmlp.backends.numba_backend.vectors.simd import (
    fma,
    full,
    load,
    maximum,
    minimum,
    select,
    store,
    zero,
)
from fastmlp.backends.numba_backend.vectors.strips import Strip
from fastmlp.backends.numba_backend.vectors.types import (
    Index,
    Pair,
    Scalar,
    Vector,
    inlined,
    kernel,
)

_SELU_SCALE = activations.SELU.scale
_SELU_BELOW = activations.SELU.scale * activations.SELU.alpha
_ROOT_HALF = math.sqrt(0.5)
_ROOT_2_OVER_PI = math.sqrt(2 / math.pi)
_NORMAL_DENSITY_AT_0 = 1 / math.sqrt(2 * math.pi)


IDENTITY = 0


@inlined
def _identity(z: Vector) -> Pair:
    return z, full(z, 1.0)


RELU = 1


@inlined
def _relu(z: Vector) -> Pair:
    return maximum(z, zero(z)), select(z > zero(z), full(z, 1.0), zero(z))


SIGMOID = 2


@inlined
def _sigmoid(z: Vector) -> Pair:
    s = sigmoid(z)
    return s, s * (full(z, 1.0) - s)


TANH = 3


@inlined
def _tanh(z: Vector) -> Pair:
    t = tanh(z)
    return t, full(z, 1.0) - t * t


LEAKY_RELU = 4


@inlined
def _leaky_relu(z: Vector, negative_slope: Scalar) -> Pair:
    slope = select(z > zero(z), full(z, 1.0), full(z, negative_slope))
    return z * slope, slope


ELU = 5


@inlined
def _elu(z: Vector, alpha: Scalar) -> Pair:
    below = full(z, alpha) * expm1(minimum(z, zero(z)))
    positive = z > zero(z)
    slope = select(positive, full(z, 1.0), below + full(z, alpha))
    return select(positive, z, below), slope


SELU = 6


@inlined
def _selu(z: Vector) -> Pair:
    scale, limit = full(z, _SELU_SCALE), full(z, _SELU_BELOW)
    below = limit * expm1(minimum(z, zero(z)))
    positive = z > zero(z)
    return select(positive, scale * z, below), select(positive, scale, below + limit)


GELU = 7


@inlined
def _gelu(z: Vector) -> Pair:
    half = full(z, 0.5)
    distribution = half * (full(z, 1.0) + erf(z * full(z, _ROOT_HALF)))
    density = full(z, _NORMAL_DENSITY_AT_0) * exp(zero(z) - half * z * z)
    return z * distribution, fma(z, density, distribution)


GELU_TANH = 8


@inlined
def _gelu_tanh(z: Vector) -> Pair:
    one, half = full(z, 1.0), full(z, 0.5)
    root, cubic = full(z, _ROOT_2_OVER_PI), full(z, 0.044715)
    square = z * z
    t = tanh(root * (z + cubic * square * z))
    inner = root * (one + full(z, 3 * 0.044715) * square)
    return z * half * (one + t), half * (one + t) + half * z * (one - t * t) * inner


SILU = 9


@inlined
def _silu(z: Vector) -> Pair:
    one, s = full(z, 1.0), sigmoid(z)
    return z * s, s * (one + z * (one - s))


MISH = 10


@inlined
def _mish(z: Vector) -> Pair:
    t = tanh(softplus(z))
    return z * t, t + z * (full(z, 1.0) - t * t) * sigmoid(z)


SOFTPLUS = 11


@inlined
def _softplus(z: Vector) -> Pair:
    return softplus(z), sigmoid(z)


RELU6 = 12


@inlined
def _relu6(z: Vector) -> Pair:
    six = full(z, 6.0)
    a = minimum(maximum(z, zero(z)), six)
    return a, select((z > zero(z)) & (z < six), full(z, 1.0), zero(z))


HARD_TANH = 13


@inlined
def _hard_tanh(z: Vector) -> Pair:
    low, one = full(z, -1.0), full(z, 1.0)
    a = minimum(maximum(z, low), one)
    return a, select((z > low) & (z < one), one, zero(z))


@inlined
def _hard(z: Vector) -> Vector:
    """Return z / 6 + 1 / 2, from 0 to 1."""
    return minimum(maximum(fma(z, full(z, 1 / 6), full(z, 0.5)), zero(z)), full(z, 1.0))


HARD_SIGMOID = 14


@inlined
def _hard_sigmoid(z: Vector) -> Pair:
    hard = _hard(z)
    slope = select((hard > zero(z)) & (hard < full(z, 1.0)), full(z, 1 / 6), zero(z))
    return hard, slope


HARD_SWISH = 15


@inlined
def _hard_swish(z: Vector) -> Pair:
    inside = fma(z, full(z, 1 / 3), full(z, 0.5))
    slope = select(z > full(z, -3.0), inside, zero(z))
    return z * _hard(z), select(z < full(z, 3.0), slope, full(z, 1.0))


#: By name.
ACTIVATION_CODES = {
    "identity": IDENTITY,
    "relu": RELU,
    "sigmoid": SIGMOID,
    "tanh": TANH,
    "leaky_relu": LEAKY_RELU,
    "elu": ELU,
    "selu": SELU,
    "gelu": GELU,
    "gelu_tanh": GELU_TANH,
    "silu": SILU,
    "mish": MISH,
    "softplus": SOFTPLUS,
    "relu6": RELU6,
    "hard_tanh": HARD_TANH,
    "hard_sigmoid": HARD_SIGMOID,
    "hard_swish": HARD_SWISH,
}
#: Those whose derivative is had from their output in one or two instructions.
SLOPE_FROM_OUTPUT = ("identity", "relu", "sigmoid", "tanh")
#: Of them, those to which it is the same whether the output has been rounded.
SLOPE_FROM_ROUNDED = ("identity", "relu")


@inlined
def _activate_one(code: Index, parameter: Scalar, z: Vector) -> Any:
    if code == IDENTITY:
        return _identity(z)
    if code == RELU:
        return _relu(z)
    if code == SIGMOID:
        return _sigmoid(z)
    if code == TANH:
        return _tanh(z)
    if code == LEAKY_RELU:
        return _leaky_relu(z, parameter)
    if code == ELU:
        return _elu(z, parameter)
    if code == SELU:
        return _selu(z)
    if code == GELU:
        return _gelu(z)
    if code == GELU_TANH:
        return _gelu_tanh(z)
    if code == SILU:
        return _silu(z)
    if code == MISH:
        return _mish(z)
    if code == SOFTPLUS:
        return _softplus(z)
    if code == RELU6:
        return _relu6(z)
    if code == HARD_TANH:
        return _hard_tanh(z)
    if code == HARD_SIGMOID:
        return _hard_sigmoid(z)
    return _hard_swish(z)


@kernel
def activate(
    code: Index, parameter: Scalar, strip: Strip, n_rows: Index, slopes: Strip, stores: Any
) -> None:
    """Replace a strip of pre-activations by activations; write the derivatives if `stores`."""
    for row in range(n_rows):
        a, slope = _activate_one(code, parameter, load(strip.data, row * strip.stride))
        store(strip.data, row * strip.stride, a)
        if stores:
            store(slopes.data, row * slopes.stride, slope)


@inlined
def slope_from_output(code: Index, a: Vector) -> Vector:
    """Return f'(z) from a = f(z), for the activations that allow it."""
    one = full(a, 1.0)
    if code == RELU:
        return select(a > zero(a), one, zero(a))
    if code == SIGMOID:
        return a * (one - a)
    if code == TANH:
        return one - a * a
    return one
