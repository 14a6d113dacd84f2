"""The element-wise kernels: activations, losses and optimizer updates, by code.

Each beside its plain counterpart in `fastmlp.activations`, `fastmlp.losses` and
`fastmlp.optimizers`, which define what is right.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastmlp.activations import SELU
from fastmlp.backends.numba_backend.integers import out_of_line, random_mask, random_unit
from fastmlp.backends.numba_backend.simd import (
    absolute,
    advance,
    extract,
    first_lanes,
    fma,
    full,
    inlined,
    kernel,
    lane_max,
    lane_sum,
    lanes,
    load,
    load_scalar,
    maximum,
    minimum,
    round_even,
    select,
    sqrt,
    store,
    store_scalar,
    zero,
)
from fastmlp.backends.numba_backend.simd_math import (
    erf,
    exp,
    expm1,
    log,
    sigmoid,
    softplus,
    tanh,
)

_SELU_SCALE = SELU.scale
_SELU_BELOW = SELU.scale * SELU.alpha
_ROOT_HALF = math.sqrt(0.5)
_ROOT_2_OVER_PI = math.sqrt(2 / math.pi)
_NORMAL_DENSITY_AT_0 = 1 / math.sqrt(2 * math.pi)

# --- Activations -----------------------------------------------------------------------------


@inlined
def _activate_one(code: Any, parameter: Any, z: Any) -> Any:
    """Return (f(z), f'(z)) for a vector; formulas in `fastmlp.activations`."""
    one = full(z, 1.0)
    if code == 0:  # identity
        return z, one
    if code == 1:  # relu
        return maximum(z, zero(z)), select(z > zero(z), one, zero(z))
    if code == 2:  # sigmoid
        s = sigmoid(z)
        return s, s * (one - s)
    if code == 3:  # tanh
        t = tanh(z)
        return t, one - t * t
    if code == 4:  # leaky_relu
        slope = select(z > zero(z), one, full(z, parameter))
        return z * slope, slope
    if code == 5:  # elu
        below = full(z, parameter) * expm1(minimum(z, zero(z)))
        positive = z > zero(z)
        return select(positive, z, below), select(positive, one, below + full(z, parameter))
    if code == 6:  # selu
        scale, limit = full(z, _SELU_SCALE), full(z, _SELU_BELOW)
        below = limit * expm1(minimum(z, zero(z)))
        positive = z > zero(z)
        return select(positive, scale * z, below), select(positive, scale, below + limit)
    if code == 7:  # gelu
        half = full(z, 0.5)
        distribution = half * (one + erf(z * full(z, _ROOT_HALF)))
        density = full(z, _NORMAL_DENSITY_AT_0) * exp(zero(z) - half * z * z)
        return z * distribution, fma(z, density, distribution)
    if code == 8:  # gelu_tanh
        half, root, cubic = full(z, 0.5), full(z, _ROOT_2_OVER_PI), full(z, 0.044715)
        square = z * z
        t = tanh(root * (z + cubic * square * z))
        inner = root * (one + full(z, 3 * 0.044715) * square)
        return z * half * (one + t), half * (one + t) + half * z * (one - t * t) * inner
    if code == 9:  # silu
        s = sigmoid(z)
        return z * s, s * (one + z * (one - s))
    if code == 10:  # mish
        t = tanh(softplus(z))
        return z * t, t + z * (one - t * t) * sigmoid(z)
    if code == 11:  # softplus
        return softplus(z), sigmoid(z)
    if code == 12:  # relu6
        a = minimum(maximum(z, zero(z)), full(z, 6.0))
        return a, select((z > zero(z)) & (z < full(z, 6.0)), one, zero(z))
    if code == 13:  # hard_tanh
        a = minimum(maximum(z, full(z, -1.0)), one)
        return a, select((z > full(z, -1.0)) & (z < one), one, zero(z))
    sixth, half = full(z, 1 / 6), full(z, 0.5)
    hard = minimum(maximum(fma(z, sixth, half), zero(z)), one)
    if code == 14:  # hard_sigmoid
        return hard, select((hard > zero(z)) & (hard < one), sixth, zero(z))
    inside = fma(z, full(z, 1 / 3), half)  # hard_swish
    slope = select(z > full(z, -3.0), inside, zero(z))
    return z * hard, select(z < full(z, 3.0), slope, one)


@kernel
def activate(
    code: Any, parameter: Any, z: Any, row_stride: Any, n_rows: Any, slopes: Any, stores: Any
) -> None:
    """Replace a strip of pre-activations, one vector a row, by activations.

    Writes the derivatives to `slopes`, of the same stride, if `stores`.
    """
    out_of_line()
    for row in range(n_rows):
        i = row * row_stride
        a, slope = _activate_one(code, parameter, load(z, i))
        store(z, i, a)
        if stores:
            store(slopes, i, slope)


@inlined
def slope_from_output(code: Any, a: Any) -> Any:
    """Return f'(z) from a = f(z), for the activations that allow it."""
    one = full(a, 1.0)
    if code == 1:
        return select(a > zero(a), one, zero(a))
    if code == 2:
        return a * (one - a)
    if code == 3:
        return one - a * a
    return one


@kernel
def drop(
    a: Any,
    slopes: Any,
    has_slopes: Any,
    row_stride: Any,
    n_rows: Any,
    key: Any,
    first_index: Any,
    width: Any,
    threshold: Any,
    scale: Any,
) -> None:
    """Multiply a strip of activations, and their slopes, by dropout's factors.

    Row r's first lane is element first_index + r * width of the mask.
    """
    out_of_line()
    for row in range(n_rows):
        i = row * row_stride
        kept = random_mask(a, key, first_index + row * width, threshold)
        factor = select(kept, full(a, scale), zero(a))
        store(a, i, load(a, i) * factor)
        if has_slopes:
            store(slopes, i, load(slopes, i) * factor)


@inlined
def _cosine_of_turns(u: Any) -> Any:
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
    row: Any, width: Any, deviation: Any, radius_key: Any, angle_key: Any, first_index: Any
) -> None:
    """Add Gaussian noise to a row of inputs (Box & Muller 1958)."""
    out_of_line()
    for i in range(0, width, lanes(row)):
        x = load(row, i)
        index = first_index + i
        radius = random_unit(row, radius_key, index) + full(x, 0.5 / 2**32)
        length = sqrt(full(x, -2.0) * log(minimum(radius, full(x, 1.0))))
        wave = _cosine_of_turns(random_unit(row, angle_key, index))
        inside = first_lanes(row, width - i)
        store(row, i, select(inside, fma(full(x, deviation), length * wave, x), x))


# --- Losses ----------------------------------------------------------------------------------


@inlined
def _error_terms(code: Any, parameter: Any, a: Any, t: Any, level: Any) -> Any:
    """Return (loss, derivative by a) of each element; formulas in `fastmlp.losses`."""
    error = a - t
    if code == 1:  # mse, times a scale
        scale = full(a, parameter)
        return scale * error * error, (scale + scale) * error
    one = full(a, 1.0)
    sign = select(error > zero(a), one, select(error < zero(a), zero(a) - one, zero(a)))
    size = absolute(error)
    if code == 2:  # mae
        return size, sign
    if code == 3:  # huber
        limit = full(a, parameter)
        near = minimum(size, limit)
        return near * (size - full(a, 0.5) * near), near * sign
    # quantile: the derivative is 1 - level above the target, -level below
    above = error > zero(a)
    slope = select(above, one - level, select(error < zero(a), zero(a) - level, zero(a)))
    return slope * error, slope


@inlined
def target_vector(label: Any, t: Any, i: Any) -> Any:
    """Return targets i, i + 1, ...: one-hot for a label, or read from `t` where it is negative."""
    if label < 0:
        return load(t, i)
    hot = first_lanes(t, label - i + 1) & ~first_lanes(t, label - i)
    return select(hot, full(t, 1.0), zero(t))


@kernel
def softmax_loss(
    code: Any,
    parameter: Any,
    smoothing: Any,
    z: Any,
    label: Any,
    t: Any,
    levels: Any,
    n_out: Any,
    share: Any,
    delta: Any,
) -> Any:
    """Return a row's loss behind softmax; write its gradient by the logits, times `share`."""
    out_of_line()
    step = lanes(z)
    lowest = full(z, -np.inf)
    top = lowest
    for i in range(0, n_out, step):
        top = maximum(top, select(first_lanes(z, n_out - i), load(z, i), lowest))
    highest = full(z, lane_max(top))
    sum_exp, sum_t, sum_tz = zero(z), zero(z), zero(z)
    keep, spread = full(z, 1.0 - smoothing), full(z, smoothing / n_out)
    for i in range(0, n_out, step):
        inside = first_lanes(z, n_out - i)
        shifted = select(inside, load(z, i) - highest, zero(z))
        e = select(inside, exp(shifted), zero(z))
        target = select(inside, fma(target_vector(label, t, i), keep, spread), zero(z))
        store(delta, i, e)
        sum_exp = sum_exp + e
        sum_t = sum_t + target
        sum_tz = fma(target, shifted, sum_tz)
    total = full(z, lane_sum(sum_exp))
    inverse = full(z, 1.0) / total
    if code == 0:
        all_t = full(z, lane_sum(sum_t))
        factor = full(z, share)
        for i in range(0, n_out, step):
            target = select(
                first_lanes(z, n_out - i), fma(target_vector(label, t, i), keep, spread), zero(z)
            )
            store(delta, i, fma(load(delta, i) * inverse, all_t, zero(z) - target) * factor)
        return extract(log(total) * all_t, 0) - lane_sum(sum_tz)
    # Any other loss sees probabilities: the full Jacobian is diag(p) - p p^T.
    loss, inner = zero(z), zero(z)
    for i in range(0, n_out, step):
        inside = first_lanes(z, n_out - i)
        p = load(delta, i) * inverse
        value, slope = _error_terms(code, parameter, p, target_vector(label, t, i), load(levels, i))
        loss = loss + select(inside, value, zero(z))
        inner = inner + select(inside, slope * p, zero(z))
    center = full(z, lane_sum(inner))
    factor = full(z, share / n_out)
    for i in range(0, n_out, step):
        inside = first_lanes(z, n_out - i)
        p = load(delta, i) * inverse
        _, slope = _error_terms(code, parameter, p, target_vector(label, t, i), load(levels, i))
        store(delta, i, select(inside, p * (slope - center) * factor, zero(z)))
    return lane_sum(loss) / n_out


@kernel
def elementwise_loss(
    output: Any,
    code: Any,
    parameter: Any,
    smoothing: Any,
    z: Any,
    label: Any,
    t: Any,
    levels: Any,
    n_out: Any,
    share: Any,
    delta: Any,
) -> Any:
    """Return a row's loss behind sigmoid, linear or exp; write its gradient by the logits."""
    out_of_line()
    total = zero(z)
    factor = full(z, share / n_out)
    one = full(z, 1.0)
    keep, spread = full(z, 1.0 - smoothing), full(z, 0.5 * smoothing)
    for i in range(0, n_out, lanes(z)):
        logit, target = load(z, i), target_vector(label, t, i)
        if output == 1:
            a = sigmoid(logit)
            outer = a * (one - a)
        elif output == 3:
            a = exp(logit)
            outer = a
        else:
            a = logit
            outer = one
        if code == 0:  # binary cross entropy, from logits
            target = fma(target, keep, spread)
            value, slope = softplus(logit) - target * logit, a - target
        elif code == 5:  # poisson, from logits
            value, slope = a - target * logit, a - target
        elif code == 6:  # custom: the derivative by the logits is what is given as targets
            value, slope = zero(z), target * full(z, n_out)
        else:
            value, slope = _error_terms(code, parameter, a, target, load(levels, i))
            slope = slope * outer
        inside = first_lanes(z, n_out - i)
        total = total + select(inside, value, zero(z))
        store(delta, i, select(inside, slope * factor, zero(z)))
    return lane_sum(total) / n_out


@inlined
def row_loss(
    output: Any,
    code: Any,
    parameter: Any,
    smoothing: Any,
    z: Any,
    label: Any,
    t: Any,
    levels: Any,
    n_out: Any,
    share: Any,
    delta: Any,
) -> Any:
    """Return a row's loss and write its gradient by the logits, times the row's `share`.

    Parameters
    ----------
    output, code : int
        Codes of the output activation and of the loss.
    parameter, smoothing : float
        The loss's parameter and label smoothing.
    z, levels : pointer
        The row's logits and quantile levels, padded to whole vectors.
    label : int
        The row's class, or negative where targets are dense.
    t : pointer
        The row's dense targets, padded to whole vectors.
    n_out : int
    share : float
        The row's weight over the sum of the batch's weights.
    delta : pointer
        Overwritten; its padding becomes zero.
    """
    if output == 0:
        return softmax_loss(code, parameter, smoothing, z, label, t, levels, n_out, share, delta)
    return elementwise_loss(
        output, code, parameter, smoothing, z, label, t, levels, n_out, share, delta
    )


# --- Gradients and updates -------------------------------------------------------------------

# Hyper-parameters of penalties, clipping and optimizers, by position in one float64 array.
(
    L1,
    L2,
    CLIP_VALUE,  # infinite for none
    CLIP_NORM,  # infinite for none
    MAX_NORM,  # infinite for none
    EMA_RATE,  # 1 - decay; 0 for none
    MOMENTUM,
    NESTEROV,
    BETA_1,
    BETA_2,
    EPSILON,
    WEIGHT_DECAY,
    DECOUPLED,
    LOSS_PARAMETER,
    SMOOTHING,
    NOISE,
    INPUT_SCALE,
    N_HYPER,
) = range(18)


@kernel
def finish_gradient(g: Any, w: Any, n: Any, penalized: Any, l1: Any, l2: Any, clip: Any) -> None:
    """Add the penalties' gradient to `n` elements of `g` if `penalized`, and limit its values."""
    out_of_line()
    for i in range(0, n, lanes(g)):
        gradient, weight = load(g, i), load(w, i)
        if penalized:
            one = full(g, 1.0)
            sign = select(weight > zero(g), one, select(weight < zero(g), zero(g) - one, zero(g)))
            gradient = gradient + (full(g, l2) * weight + full(g, l1) * sign)
        limit = full(g, clip)
        gradient = minimum(maximum(gradient, zero(g) - limit), limit)
        store(g, i, gradient)


@kernel
def update(
    optimizer: Any,
    w: Any,
    g: Any,
    g_factor: Any,
    moments: Any,
    moment_stride: Any,
    n: Any,
    rate: Any,
    rate_correction: Any,
    root_correction: Any,
    hyper: Any,
) -> None:
    """Update `n` parameters by their gradient; formulas in `fastmlp.optimizers`.

    Parameters
    ----------
    optimizer : int
        Code.
    w, g, moments : pointer
        Parameters, gradient, and the first moment; the second lies `moment_stride` further.
    g_factor : float
        Multiplies the gradient (clipping by the norm).
    rate : float
        The learning rate.
    rate_correction, root_correction : float
        Adam's bias corrections: rate / (1 - beta_1^t) and 1 / sqrt(1 - beta_2^t).
    hyper : pointer to float64
    """
    out_of_line()
    factor = full(w, g_factor)
    step = full(w, rate)
    decay = full(w, load_scalar(hyper, WEIGHT_DECAY))
    if optimizer == 0:
        momentum = full(w, load_scalar(hyper, MOMENTUM))
        for i in range(0, n, lanes(w)):
            weight = load(w, i)
            gradient = fma(decay, weight, load(g, i) * factor)
            if load_scalar(hyper, MOMENTUM) > 0.0:
                velocity = fma(momentum, load(moments, i), gradient)
                store(moments, i, velocity)
                gradient = (
                    fma(momentum, velocity, gradient)
                    if load_scalar(hyper, NESTEROV) > 0.0
                    else velocity
                )
            store(w, i, weight - step * gradient)
    elif optimizer == 1:
        second = advance(moments, moment_stride)
        b1, b2 = full(w, load_scalar(hyper, BETA_1)), full(w, load_scalar(hyper, BETA_2))
        c1, c2 = (
            full(w, 1.0 - load_scalar(hyper, BETA_1)),
            full(w, 1.0 - load_scalar(hyper, BETA_2)),
        )
        epsilon = full(w, load_scalar(hyper, EPSILON))
        corrected, root = full(w, rate_correction), full(w, root_correction)
        shrink = full(w, 1.0 - rate * load_scalar(hyper, WEIGHT_DECAY))
        for i in range(0, n, lanes(w)):
            weight, gradient = load(w, i), load(g, i) * factor
            if load_scalar(hyper, DECOUPLED) > 0.0:
                weight = weight * shrink
            else:
                gradient = fma(decay, weight, gradient)
            m = fma(b1, load(moments, i), c1 * gradient)
            v = fma(b2, load(second, i), c2 * gradient * gradient)
            store(moments, i, m)
            store(second, i, v)
            store(w, i, weight - corrected * m / fma(sqrt(v), root, epsilon))
    elif optimizer == 2:
        second = advance(moments, moment_stride if load_scalar(hyper, MOMENTUM) > 0.0 else 0)
        smoothing, rest = (
            full(w, load_scalar(hyper, BETA_2)),
            full(w, 1.0 - load_scalar(hyper, BETA_2)),
        )
        epsilon, momentum = (
            full(w, load_scalar(hyper, EPSILON)),
            full(w, load_scalar(hyper, MOMENTUM)),
        )
        for i in range(0, n, lanes(w)):
            weight = load(w, i)
            gradient = fma(decay, weight, load(g, i) * factor)
            v = fma(smoothing, load(moments, i), rest * gradient * gradient)
            store(moments, i, v)
            direction = gradient / (sqrt(v) + epsilon)
            if load_scalar(hyper, MOMENTUM) > 0.0:
                direction = fma(momentum, load(second, i), direction)
                store(second, i, direction)
            store(w, i, weight - step * direction)
    elif optimizer == 3:
        epsilon = full(w, load_scalar(hyper, EPSILON))
        for i in range(0, n, lanes(w)):
            weight = load(w, i)
            gradient = fma(decay, weight, load(g, i) * factor)
            v = fma(gradient, gradient, load(moments, i))
            store(moments, i, v)
            store(w, i, weight - step * gradient / (sqrt(v) + epsilon))
    else:
        b1, b2 = full(w, load_scalar(hyper, BETA_1)), full(w, load_scalar(hyper, BETA_2))
        c1, c2 = (
            full(w, 1.0 - load_scalar(hyper, BETA_1)),
            full(w, 1.0 - load_scalar(hyper, BETA_2)),
        )
        shrink = full(w, 1.0 - rate * load_scalar(hyper, WEIGHT_DECAY))
        one = full(w, 1.0)
        for i in range(0, n, lanes(w)):
            gradient, m = load(g, i) * factor, load(moments, i)
            direction = fma(b1, m, c1 * gradient)
            sign = select(
                direction > zero(w), one, select(direction < zero(w), zero(w) - one, zero(w))
            )
            store(moments, i, fma(b2, m, c2 * gradient))
            store(w, i, load(w, i) * shrink - step * sign)


@kernel
def average(w: Any, mean: Any, n: Any, rate: Any) -> None:
    """Move `n` elements of the moving average toward the parameters."""
    out_of_line()
    for i in range(0, n, lanes(w)):
        old = load(mean, i)
        store(mean, i, fma(full(w, rate), load(w, i) - old, old))


@kernel
def limit_norms(panel: Any, n_in: Any, limit: Any) -> None:
    """Scale each unit's incoming weights, a lane of a panel, down to the norm `limit`."""
    out_of_line()
    total = zero(panel)
    for i in range(0, n_in * lanes(panel), lanes(panel)):
        total = fma(load(panel, i), load(panel, i), total)
    norm = sqrt(total)
    bound = full(panel, limit)
    factor = select(norm > bound, bound / norm, full(panel, 1.0))
    for i in range(0, n_in * lanes(panel), lanes(panel)):
        store(panel, i, load(panel, i) * factor)


@kernel
def sum_of_squares(g: Any, n: Any) -> Any:
    """Return the sum of the squares of `n` elements, in float64, in a fixed order."""
    out_of_line()
    total = 0.0
    for i in range(0, n, lanes(g)):
        v = load(g, i)
        total += np.float64(lane_sum(v * v))
    return total


@inlined
def transpose_square(source: Any, source_rows: Any, out: Any, columns: Any) -> None:
    """Write out[c, r] = source[r, c] for `source_rows` rows and `columns` columns of vectors."""
    step = lanes(source)
    for c in range(columns):
        for r in range(source_rows):
            store_scalar(out, c * step + r, load_scalar(source, r * step + c))
