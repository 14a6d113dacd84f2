"""Dropout and noise: random numbers from a counter, as `fastmlp.regularization` defines them."""

from __future__ import annotations

import math
from typing import NamedTuple

from fastmlp.backends.numba_backend.vectors.math import log
from fastmlp.backends.numba_backend.vectors.random import random_mask, random_unit
from fastmlp.backends.numba_backend.vectors.records import value
from fastmlp.backends.numba_backend.vectors.simd import (
    first_lanes,
    fma,
    full,
    lanes,
    load,
    minimum,
    round_even,
    select,
    sqrt,
    store,
    zero,
)
from fastmlp.backends.numba_backend.vectors.strips import Strip
from fastmlp.backends.numba_backend.vectors.types import (
    Index,
    Pointer,
    Scalar,
    Vector,
    inlined,
    kernel,
)


@inlined
def _mix(value: Index) -> Index:
    value = value & 0xFFFFFFFF
    value = ((value ^ (value >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    value = ((value ^ (value >> 15)) * 0x846CA68B) & 0xFFFFFFFF
    return value ^ (value >> 16)


@inlined
def stream_key(seed_key: Index, step: Index, stream: Index) -> Index:
    """Return `fastmlp.regularization.stream_key`, given its part that depends on the seed."""
    key = _mix(seed_key ^ _mix(step + 0xC2B2AE35))
    key = _mix(key ^ _mix((step >> 32) + 0x27D4EB2F))
    return _mix(key ^ _mix(stream + 0x165667B1))


@value
class Mask(NamedTuple):
    """Dropout's factors of some rows: row r's first lane has number first + r * width."""

    key: Index  # of the stream of random numbers
    first: Index
    width: Index
    threshold: Index  # bits below it drop
    scale: Scalar  # what is kept is multiplied by


@kernel
def drop(strip: Strip, slopes: Strip, has_slopes: bool, n_rows: Index, mask: Mask) -> None:
    """Multiply a strip of activations, and their slopes, by dropout's factors."""
    a = strip.data
    for row in range(n_rows):
        kept = random_mask(a, mask.key, mask.first + row * mask.width, mask.threshold)
        factor = select(kept, full(a, mask.scale), zero(a))
        i = row * strip.stride
        store(a, i, load(a, i) * factor)
        if has_slopes:
            k = row * slopes.stride
            store(slopes.data, k, load(slopes.data, k) * factor)


@inlined
def _cosine_of_turns(u: Vector) -> Vector:
    """Return cos(2 pi u) by its Taylor series on an eighth of a turn."""
    # With v = u - round(u), cos(2 pi v) = 1 - 2 sin(pi v)^2, and |pi v| <= pi / 2.
    v = u - round_even(u)
    x = v * full(u, math.pi * 0.5)
    y = x * x
    s = full(u, 1 / 355687428096000.0)
    s = fma(s, y, full(u, -1 / 1307674368000.0))
    s = fma(s, y, full(u, 1 / 6227020800.0))
    s = fma(s, y, full(u, -1 / 39916800.0))
    s = fma(s, y, full(u, 1 / 362880.0))
    s = fma(s, y, full(u, -1 / 5040.0))
    s = fma(s, y, full(u, 1 / 120.0))
    s = fma(s, y, full(u, -1 / 6.0))
    s = fma(s * y, x, x)  # sin(pi v / 2)
    half_turn = full(u, 1.0) - full(u, 2.0) * s * s  # cos(pi v)
    return full(u, 2.0) * half_turn * half_turn - full(u, 1.0)


@kernel
def add_noise(
    row: Pointer,
    width: Index,
    deviation: Scalar,
    radius_key: Index,
    angle_key: Index,
    first_index: Index,
) -> None:
    """Add Gaussian noise to a row of inputs (Box & Muller 1958)."""
    for i in range(0, width, lanes(row)):
        x = load(row, i)
        index = first_index + i
        radius = random_unit(row, radius_key, index) + full(x, 0.5 / 2**32)
        length = sqrt(full(x, -2.0) * log(minimum(radius, full(x, 1.0))))
        wave = _cosine_of_turns(random_unit(row, angle_key, index))
        inside = first_lanes(row, width - i)
        store(row, i, select(inside, fma(full(x, deviation), length * wave, x), x))
