"""Elementary functions of SIMD vectors, without branches or tables.

Every function works on float32 and float64 vectors, has no fast-math in it, and gives NaN for
NaN. The error bounds are in units in the last place of the exact result; they were measured
against extended precision over random inputs of every magnitude, with and without FMA, and the
tests assert them. Results below the smallest normal number may come out as 0.

The reductions follow Cody and Waite, "Software Manual for the Elementary Functions" (1980) and
Muller, "Elementary Functions: Algorithms and Implementation" (3rd ed., 2016), chapters 4 and 11.
The coefficients are our own minimax fits (Remez exchange) of the functions named beside them.
"""

import numpy as np

from fastmlp.backends.numba_backend.vectors.simd import (
    absolute,
    constant,
    copysign,
    fma,
    full,
    maximum,
    minimum,
    polynomial,
    round_even,
    scale_by_power_of_two,
    select,
    split_exponent,
    zero,
)
from fastmlp.backends.numba_backend.vectors.types import Pair, Vector, inlined

_LOG2_E = 1.4426950408889634

# ln 2 as a short number, whose product with any exponent is exact, and the rest.
_LN2_HIGH = (0.693145751953125, 0.6931471805601177)
_LN2_LOW = (1.428606765330187e-06, -1.7239444525614835e-13)

# exp is finite up to the first and a normal number down to the second; (float32, float64).
_EXP_HIGHEST = (88.72283172607422, 709.782712893384)
_EXP_LOWEST = (-87.33654022216797, -708.396418532264)
_SMALLEST_NORMAL = (1.1754943508222875e-38, 2.2250738585072014e-308)
_LARGEST = (3.4028234663852886e38, 1.7976931348623157e308)

# (exp(r) - 1 - r) / r**2 for |r| <= ln(2) / 2
_EXP_SINGLE = (
    0.4999999701976776,
    0.1666654348373413,
    0.04166720062494278,
    0.008366581052541733,
    0.0013882520142942667,
)
_EXP_DOUBLE = (
    0.5000000000000006,
    0.16666666666666588,
    0.041666666666576105,
    0.008333333333389904,
    0.001388888893179588,
    0.00019841269718478424,
    2.4801504978161363e-05,
    2.7557407734892354e-06,
    2.762616167019882e-07,
    2.5053818836070957e-08,
)

# 2 (atanh(s) - s) / s**3 as a function of s**2, for s = f / (2 + f), 1 + f in [sqrt(1/2), sqrt(2)]
_LOG_SINGLE = (0.6666677594184875, 0.3997751772403717, 0.2987239956855774)
_LOG_DOUBLE = (
    0.6666666666666735,
    0.39999999999412905,
    0.2857142874282177,
    0.22222198524813816,
    0.18183567025749445,
    0.153139769916225,
    0.1479672851893048,
)

# erf(x) / x - 1 as a function of x**2, for |x| <= 1
_ERF_NEAR_SINGLE = (
    0.12837916612625122,
    -0.3761262595653534,
    0.1128358542919159,
    -0.026853810995817184,
    0.005188327748328447,
    -0.0008010191959328949,
    7.85385345807299e-05,
)
_ERF_NEAR_DOUBLE = (
    0.12837916709551256,
    -0.3761263890318352,
    0.11283791670944186,
    -0.026866170643111656,
    0.005223977606119808,
    -0.000854832592937206,
    0.0001205529357849344,
    -1.4924712330910025e-05,
    1.644713191328229e-06,
    -1.620631629915622e-07,
    1.3710991145843918e-08,
    -7.779488224557821e-10,
)

# exp(x**2) erfc(x) as a function of 1 / (1 + x / 2), for x in [1, 4] and [1, 6]
_ERF_FAR_SINGLE = (
    -0.013505974784493446,
    0.39245811104774475,
    -0.06144390627741814,
    0.7236517071723938,
    -0.038758862763643265,
)
_ERF_FAR_DOUBLE = (
    2.8568008085688902e-05,
    0.28147200923361765,
    0.2882189525693647,
    0.2111208333996818,
    0.3125295724410508,
    -0.26824831769036245,
    0.6065491618352586,
    -0.7200863698479675,
    0.28586572692855944,
    0.07888235833240669,
    -0.1007459558153225,
    0.024415743741674056,
)


@inlined
def _reduce(x: Vector) -> Pair:
    """Return (n, exp(r) - 1) with x = n ln(2) + r and n integral."""
    n = round_even(x * full(x, _LOG2_E))
    r = fma(n, constant(x, -_LN2_HIGH[0], -_LN2_HIGH[1]), x)
    r = fma(n, constant(x, -_LN2_LOW[0], -_LN2_LOW[1]), r)
    return n, fma(polynomial(r, _EXP_SINGLE, _EXP_DOUBLE), r * r, r)


@inlined
def exp(x: Vector) -> Vector:
    """Return e**x, within 1.1 ulp.

    Gives inf where the result is too large, 0 where it would not be a normal number.

    Examples
    --------
    >>> exp(np.array([0.0, 1.0, -np.inf, 1000.0] * 2))[:4]
    array([1.        , 2.71828183, 0.        ,        inf])
    """
    highest = constant(x, _EXP_HIGHEST[0], _EXP_HIGHEST[1])
    lowest = constant(x, _EXP_LOWEST[0], _EXP_LOWEST[1])
    above = maximum(x, lowest)
    n, p = _reduce(minimum(highest, above))
    y = scale_by_power_of_two(p + full(x, 1.0), n)
    y = select(above <= highest, y, above + full(x, np.inf))
    return select(x < lowest, zero(x), y)


@inlined
def expm1(x: Vector) -> Vector:
    """Return e**x - 1, within 2.5 ulp also near 0.

    Examples
    --------
    >>> expm1(np.array([0.0, 1e-20, -np.inf, 1000.0] * 2))[:4]
    array([ 0.e+00,  1.e-20, -1.e+00,     inf])
    """
    one = full(x, 1.0)
    highest = constant(x, _EXP_HIGHEST[0], _EXP_HIGHEST[1])
    above = maximum(x, constant(x, -18.0, -38.0))  # the result is -1 from here on down
    n, p = _reduce(minimum(highest, above))
    # 2**-n is lost beside 1 long before it stops being a normal number.
    inverse = scale_by_power_of_two(one, -minimum(n, full(x, 64.0)))
    y = scale_by_power_of_two(p + (one - inverse), n)
    return select(above <= highest, y, above + full(x, np.inf))


@inlined
def tanh(x: Vector) -> Vector:
    """Return the hyperbolic tangent, within 3 ulp also near 0.

    From tanh(x) = m / (m + 2) with m = exp(2 x) - 1.

    Examples
    --------
    >>> tanh(np.array([0.0, 1e-20, -np.inf, 1.0] * 2))[:4]
    array([ 0.00000000e+00,  1.00000000e-20, -1.00000000e+00,  7.61594156e-01])
    """
    one = full(x, 1.0)
    bounded = minimum(absolute(x), constant(x, 10.0, 20.0))  # the result is 1 from here on up
    n, p = _reduce(bounded + bounded)
    power = scale_by_power_of_two(one, n)
    m = fma(power, p, power - one)
    return copysign(m / (m + full(x, 2.0)), x)


@inlined
def sigmoid(x: Vector) -> Vector:
    """Return 1 / (1 + e**-x), within 3 ulp also where it is tiny.

    Examples
    --------
    >>> sigmoid(np.array([0.0, np.inf, -np.inf, 1.0] * 2))[:4]
    array([0.5       , 1.        , 0.        , 0.73105858])
    """
    one = full(x, 1.0)
    lowest = constant(x, _EXP_LOWEST[0], _EXP_LOWEST[1])
    n, p = _reduce(minimum(maximum(-x, lowest), -lowest))
    power = scale_by_power_of_two(one, n)
    return select(x < lowest, zero(x), one / fma(power, p, power + one))


@inlined
def log(x: Vector) -> Vector:
    """Return the natural logarithm, within 1 ulp; -inf for 0, NaN for negative numbers.

    From log(m 2**e) = e ln(2) + 2 atanh(s) with s = (m - 1) / (m + 1).

    Examples
    --------
    >>> log(np.array([1.0, 0.0, -1.0, np.inf] * 2))[:4]
    array([  0., -inf,  nan,  inf])
    """
    smallest = constant(x, _SMALLEST_NORMAL[0], _SMALLEST_NORMAL[1])
    finite = minimum(constant(x, _LARGEST[0], _LARGEST[1]), maximum(x, zero(x)))
    subnormal = finite < smallest
    normal = finite * select(subnormal, full(x, 2.0**52), full(x, 1.0))
    m, e = split_exponent(maximum(normal, smallest))
    e = select(subnormal, e - full(x, 52.0), e)
    f = m - full(x, 1.0)
    s = f / (f + full(x, 2.0))
    z = s * s
    half_square = full(x, 0.5) * f * f
    series = s * fma(polynomial(z, _LOG_SINGLE, _LOG_DOUBLE), z, half_square)
    low = fma(e, constant(x, _LN2_LOW[0], _LN2_LOW[1]), series)
    y = fma(e, constant(x, _LN2_HIGH[0], _LN2_HIGH[1]), f - (half_square - low))
    y = select(x > zero(x), y, select(x == zero(x), full(x, -np.inf), full(x, np.nan)))
    return select(x < full(x, np.inf), y, x)


@inlined
def log1p(x: Vector) -> Vector:
    """Return log(1 + x), within 1.5 ulp also near 0; -inf for -1, NaN below.

    From log(1 + x) = log(u) + (x - (u - 1)) / u with u the rounded 1 + x.

    Examples
    --------
    >>> log1p(np.array([0.0, 1e-20, -1.0, np.inf] * 2))[:4]
    array([0.e+00, 1.e-20,   -inf,    inf])
    """
    one = full(x, 1.0)
    finite = maximum(minimum(x, constant(x, _LARGEST[0], _LARGEST[1])), full(x, -2.0))
    u = finite + one
    lost = finite - (u - one)
    divisor = maximum(u, constant(x, _SMALLEST_NORMAL[0], _SMALLEST_NORMAL[1]))
    return select(x < full(x, np.inf), log(u) + lost / divisor, x)


@inlined
def softplus(x: Vector) -> Vector:
    """Return log(1 + e**x) as max(x, 0) + log1p(exp(-|x|)), within 2.5 ulp.

    Examples
    --------
    >>> softplus(np.array([0.0, -np.inf, 1000.0, 1.0] * 2))[:4]
    array([6.93147181e-01, 0.00000000e+00, 1.00000000e+03, 1.31326169e+00])
    """
    return maximum(x, zero(x)) + log1p(exp(-absolute(x)))


@inlined
def erf(x: Vector) -> Vector:
    """Return the error function, within 2 ulp.

    From 1 - exp(-x**2) q(1 / (1 + x / 2)) for x >= 1, the form used in Shepherd and Laframboise,
    "Chebyshev Approximation of (1 + 2x) exp(x**2) erfc x" (Math. Comp. 36, 1981).

    Examples
    --------
    >>> erf(np.array([0.0, 0.5, 2.0, -np.inf] * 2))[:4]
    array([ 0.        ,  0.52049988,  0.99532227, -1.        ])
    """
    one = full(x, 1.0)
    bounded = minimum(absolute(x), constant(x, 4.0, 6.0))  # the result is 1 from here on up
    square = bounded * bounded
    near = fma(polynomial(square, _ERF_NEAR_SINGLE, _ERF_NEAR_DOUBLE), bounded, bounded)
    n, p = _reduce(-square)
    t = one / fma(bounded, full(x, 0.5), one)
    tail = polynomial(t, _ERF_FAR_SINGLE, _ERF_FAR_DOUBLE)
    far = fma(-scale_by_power_of_two(p + one, n), tail, one)
    return copysign(select(bounded < one, near, far), x)
