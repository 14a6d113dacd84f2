"""The element-wise kernels: activations, losses and optimizer updates, by code.

Each beside its plain counterpart in `fastmlp.activations`, `fastmlp.losses` and
`fastmlp.optimizers`, which define what is right.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastmlp.activations import SELU
from fastmlp.backends.numba_backend.integers import (
    offset_of,
    out_of_line,
    random_mask,
    random_unit,
)
from fastmlp.backends.numba_backend.simd import (
    absolute,
    advance,
    broadcast,
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
    log1p,
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
def _target(has_classes: Any, classes: Any, t: Any, k: Any) -> Any:
    """Return target `k` of every row: of one-hot rows where there are classes, else from `t`."""
    if has_classes:
        return select(classes == full(classes, k), full(classes, 1.0), zero(classes))
    return load(t, k * lanes(t))


@kernel
def softmax_losses(
    code: Any,
    parameter: Any,
    smoothing: Any,
    z: Any,
    has_classes: Any,
    classes: Any,
    t: Any,
    levels: Any,
    n_out: Any,
    shares: Any,
) -> Any:
    """Return the rows' losses behind softmax; replace logits by gradients; see `losses_of_rows`."""
    out_of_line()
    step = lanes(z)
    highest = full(z, -np.inf)
    for k in range(n_out):
        highest = maximum(highest, load(z, k * step))
    sum_exp, sum_t, sum_tz = zero(z), zero(z), zero(z)
    keep, spread = full(z, 1.0 - smoothing), full(z, smoothing / n_out)
    for k in range(n_out):
        shifted = load(z, k * step) - highest
        e = exp(shifted)
        target = fma(_target(has_classes, classes, t, k), keep, spread)
        store(z, k * step, e)
        sum_exp = sum_exp + e
        sum_t = sum_t + target
        sum_tz = fma(target, shifted, sum_tz)
    inverse = full(z, 1.0) / sum_exp
    if code == 0:
        for k in range(n_out):
            target = fma(_target(has_classes, classes, t, k), keep, spread)
            p = load(z, k * step) * inverse
            store(z, k * step, fma(p, sum_t, zero(z) - target) * shares)
        return log(sum_exp) * sum_t - sum_tz
    # Any other loss sees probabilities: the full Jacobian is diag(p) - p p^T.
    loss, center = zero(z), zero(z)
    for k in range(n_out):
        p, target = load(z, k * step) * inverse, _target(has_classes, classes, t, k)
        value, slope = _error_terms(code, parameter, p, target, broadcast(levels, k))
        loss = loss + value
        center = fma(slope, p, center)
    factor = shares / full(z, n_out)
    for k in range(n_out):
        p, target = load(z, k * step) * inverse, _target(has_classes, classes, t, k)
        _, slope = _error_terms(code, parameter, p, target, broadcast(levels, k))
        store(z, k * step, p * (slope - center) * factor)
    return loss / full(z, n_out)


@kernel
def elementwise_losses(
    output: Any,
    code: Any,
    parameter: Any,
    smoothing: Any,
    z: Any,
    has_classes: Any,
    classes: Any,
    t: Any,
    levels: Any,
    n_out: Any,
    shares: Any,
) -> Any:
    """Return the rows' losses behind sigmoid, linear or exp; otherwise as `softmax_losses`."""
    out_of_line()
    step = lanes(z)
    total = zero(z)
    factor = shares / full(z, n_out)
    one = full(z, 1.0)
    keep, spread = full(z, 1.0 - smoothing), full(z, 0.5 * smoothing)
    for k in range(n_out):
        logit, target = load(z, k * step), _target(has_classes, classes, t, k)
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
            # Sums of what is not negative: nothing cancels where a row is sure, of either label.
            target = fma(target, keep, spread)
            size, rest = absolute(logit), one - target
            value = fma(select(logit > zero(z), rest, target), size, log1p(exp(-size)))
            slope = rest * a - target * sigmoid(-logit)
        elif code == 5:  # poisson, from logits
            value, slope = a - target * logit, a - target
        elif code == 6:  # custom: the derivative by the logits is what is given as targets
            value, slope = zero(z), target * full(z, n_out)
        else:
            value, slope = _error_terms(code, parameter, a, target, broadcast(levels, k))
            slope = slope * outer
        total = total + value
        store(z, k * step, slope * factor)
    return total / full(z, n_out)


@inlined
def losses_of_rows(
    output: Any,
    code: Any,
    parameter: Any,
    smoothing: Any,
    z: Any,
    has_classes: Any,
    classes: Any,
    t: Any,
    levels: Any,
    n_out: Any,
    shares: Any,
) -> Any:
    """Return the losses of as many rows as a vector has lanes; every row is a lane.

    Rows as lanes need no sums across lanes, and few outputs leave no lane idle.

    Parameters
    ----------
    output, code : int
        Codes of the output activation and of the loss.
    parameter, smoothing : float
        The loss's parameter and label smoothing.
    z : pointer
        ``n_out`` vectors: every output's logits. Overwritten by the gradient by the logits, times
        the rows' shares.
    has_classes : bool
        Whether targets are `classes` or `t`.
    classes : vector
        The rows' classes.
    t : pointer
        ``n_out`` vectors: every output's targets.
    levels : pointer
        The quantile level of every output.
    n_out : int
    shares : vector
        The rows' weights over the sum of the batch's weights.
    """
    if output == 0:
        return softmax_losses(
            code, parameter, smoothing, z, has_classes, classes, t, levels, n_out, shares
        )
    return elementwise_losses(
        output, code, parameter, smoothing, z, has_classes, classes, t, levels, n_out, shares
    )


# --- Gradients and updates -------------------------------------------------------------------

# Hyper-parameters of penalties, clipping and optimizers, by position in one float64 array.
(
    L1,
    CLIP_VALUE,  # infinite for none
    CLIP_NORM,  # infinite for none
    MAX_NORM,  # infinite for none
    EMA_RATE,  # 1 - decay; 0 for none
    MOMENTUM,
    NESTEROV,
    BETA_1,
    BETA_2,
    WEIGHT_DECAY,
    DECOUPLED,
    LOSS_PARAMETER,
    SMOOTHING,
    NOISE,
    INPUT_SCALE,
    N_HYPER,
) = range(16)


# What may differ from step to step: the learning rate; with Adam's bias corrections, at step t,
# rate / (1 - beta_1^t) and 1 / sqrt(1 - beta_2^t); epsilon; and the coefficient of the L2 penalty.
RATE, CORRECTED_RATE, CORRECTED_ROOT, EPSILON, L2, N_RATES = range(6)


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
    rates: Any,
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
    rates, hyper : pointer to float64
    """
    out_of_line()
    rate = load_scalar(rates, RATE)
    factor, step = full(w, g_factor), full(w, rate)
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
        epsilon = full(w, load_scalar(rates, EPSILON))
        corrected = full(w, load_scalar(rates, CORRECTED_RATE))
        root = full(w, load_scalar(rates, CORRECTED_ROOT))
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
            full(w, load_scalar(rates, EPSILON)),
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
        epsilon = full(w, load_scalar(rates, EPSILON))
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
def descend(panel: Any, numbers: Any, n: Any, g: Any, rate: Any) -> None:
    """Subtract `rate` times `n` rows of a gradient from the rows of a panel so numbered."""
    out_of_line()
    step = full(g, rate)
    for i in range(n):
        place = offset_of(numbers, i, lanes(panel))
        store(panel, place, load(panel, place) - step * load(g, i * lanes(g)))


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
    end, step = n_in * lanes(panel), lanes(panel)
    top = zero(panel)
    for i in range(0, end, step):
        top = maximum(top, absolute(load(panel, i)))
    # By the largest weight, so that no square overflows or vanishes.
    unit = select(top > zero(panel), top, full(panel, 1.0))
    total = zero(panel)
    for i in range(0, end, step):
        share = load(panel, i) / unit
        total = fma(share, share, total)
    norm, bound = sqrt(total), full(panel, limit) / unit
    factor = select(norm > bound, bound / norm, full(panel, 1.0))
    for i in range(0, end, step):
        store(panel, i, load(panel, i) * factor)


#: Fields of what a panel contributes to the gradient's norm, and to the penalty.
LARGEST, SQUARES, PENALTY, N_NORM = range(4)


@kernel
def penalty_of(w: Any, n: Any, l1: Any, l2: Any) -> Any:
    """Return l1 * sum|w| + l2 / 2 * sum w^2 over `n` elements, in a fixed order."""
    out_of_line()
    squares, sizes = zero(w), zero(w)
    for i in range(0, n, lanes(w)):
        v = load(w, i)
        squares = fma(v, v, squares)
        sizes = sizes + absolute(v)
    return 0.5 * l2 * np.float64(lane_sum(squares)) + l1 * np.float64(lane_sum(sizes))


@kernel
def measure_norm(g: Any, n: Any, out: Any) -> None:
    """Write the largest magnitude of `n` elements, and the sum of squares of their shares of it.

    In a fixed order, and scaled so that no square overflows or vanishes.
    """
    out_of_line()
    top = zero(g)
    for i in range(0, n, lanes(g)):
        top = maximum(top, absolute(load(g, i)))
    largest = np.float64(lane_max(top))
    unit = full(g, largest if largest > 0.0 else 1.0)
    total = 0.0
    for i in range(0, n, lanes(g)):
        share = load(g, i) / unit
        total += np.float64(lane_sum(share * share))
    store_scalar(out, LARGEST, largest)
    store_scalar(out, SQUARES, total)


@kernel
def clipping_factor(norms: Any, n: Any, limit: Any) -> Any:
    """Return what scales a gradient down to the norm `limit`, given `n` panels' norms."""
    out_of_line()
    largest = 0.0
    for i in range(n):
        own = load_scalar(norms, i * N_NORM + LARGEST)
        largest = own if own > largest else largest
    if largest == 0.0:
        return 1.0
    squares = 0.0
    for i in range(n):
        share = load_scalar(norms, i * N_NORM + LARGEST) / largest
        squares += load_scalar(norms, i * N_NORM + SQUARES) * (share * share)
    norm, bound = np.sqrt(squares), limit / largest
    return bound / norm if norm > bound else 1.0
