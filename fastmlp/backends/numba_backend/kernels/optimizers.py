"""Updates of parameters by their gradient; formulas in `fastmlp.optimizers`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastmlp.backends.numba_backend.plan import Plan, StepRates
from fastmlp.backends.numba_backend.vectors.pointers import Numbers, offset_of
from fastmlp.backends.numba_backend.vectors.records import value
from fastmlp.backends.numba_backend.vectors.simd import (
    advance,
    fma,
    full,
    lanes,
    load,
    select,
    sqrt,
    store,
    zero,
)
from fastmlp.backends.numba_backend.vectors.types import Index, Pointer, Scalar, inlined, kernel

SGD, ADAM, RMSPROP, ADAGRAD, LION = range(5)
#: By name.
OPTIMIZER_CODES = {
    "sgd": SGD,
    "adam": ADAM,
    "adamw": ADAM,
    "rmsprop": RMSPROP,
    "adagrad": ADAGRAD,
    "lion": LION,
}


@value
class Update(NamedTuple):
    """Some parameters, side by side, and what belongs to them."""

    weights: Pointer
    n: Index
    gradient: Pointer
    factor: Scalar  # multiplies the gradient
    rate: Scalar  # multiplies the learning rate
    moments: Pointer  # the first moment
    moment_stride: Index  # from there to the second


@kernel
def sgd(u: Update, plan: Plan, rates: StepRates) -> None:
    """Gradient descent, with or without (Nesterov's) momentum."""
    w, g, moments = u.weights, u.gradient, u.moments
    factor, step = full(w, u.factor), full(w, rates.rate * u.rate)
    decay, momentum = full(w, plan.weight_decay), full(w, plan.momentum)
    has_momentum, nesterov = plan.momentum > 0.0, plan.nesterov > 0.0
    for i in range(0, u.n, lanes(w)):
        weight = load(w, i)
        gradient = fma(decay, weight, load(g, i) * factor)
        if has_momentum:
            velocity = fma(momentum, load(moments, i), gradient)
            store(moments, i, velocity)
            gradient = fma(momentum, velocity, gradient) if nesterov else velocity
        store(w, i, weight - step * gradient)


@kernel
def adam(u: Update, plan: Plan, rates: StepRates) -> None:
    """Adam, and with decoupled decay AdamW."""
    w, g, first = u.weights, u.gradient, u.moments
    second = advance(first, u.moment_stride)
    factor, decay = full(w, u.factor), full(w, plan.weight_decay)
    b1, b2 = full(w, plan.beta_1), full(w, plan.beta_2)
    c1, c2 = full(w, 1.0 - plan.beta_1), full(w, 1.0 - plan.beta_2)
    epsilon, corrected = full(w, rates.epsilon), full(w, rates.corrected_rate * u.rate)
    root = full(w, rates.corrected_root)
    shrink, decoupled = full(w, 1.0 - rates.rate * u.rate * plan.weight_decay), plan.decoupled > 0.0
    for i in range(0, u.n, lanes(w)):
        weight, gradient = load(w, i), load(g, i) * factor
        if decoupled:
            weight = weight * shrink
        else:
            gradient = fma(decay, weight, gradient)
        m = fma(b1, load(first, i), c1 * gradient)
        v = fma(b2, load(second, i), c2 * gradient * gradient)
        store(first, i, m)
        store(second, i, v)
        store(w, i, weight - corrected * m / fma(sqrt(v), root, epsilon))


@kernel
def rmsprop(u: Update, plan: Plan, rates: StepRates) -> None:
    """RMSprop, with or without momentum."""
    w, g, squares = u.weights, u.gradient, u.moments
    has_momentum = plan.momentum > 0.0
    velocities = advance(squares, u.moment_stride if has_momentum else 0)
    factor, step = full(w, u.factor), full(w, rates.rate * u.rate)
    decay = full(w, plan.weight_decay)
    smoothing, rest = full(w, plan.beta_2), full(w, 1.0 - plan.beta_2)
    epsilon, momentum = full(w, rates.epsilon), full(w, plan.momentum)
    for i in range(0, u.n, lanes(w)):
        weight = load(w, i)
        gradient = fma(decay, weight, load(g, i) * factor)
        v = fma(smoothing, load(squares, i), rest * gradient * gradient)
        store(squares, i, v)
        direction = gradient / (sqrt(v) + epsilon)
        if has_momentum:
            direction = fma(momentum, load(velocities, i), direction)
            store(velocities, i, direction)
        store(w, i, weight - step * direction)


@kernel
def adagrad(u: Update, plan: Plan, rates: StepRates) -> None:
    """Adagrad."""
    w, g, squares = u.weights, u.gradient, u.moments
    factor, step = full(w, u.factor), full(w, rates.rate * u.rate)
    decay = full(w, plan.weight_decay)
    epsilon = full(w, rates.epsilon)
    for i in range(0, u.n, lanes(w)):
        weight = load(w, i)
        gradient = fma(decay, weight, load(g, i) * factor)
        v = fma(gradient, gradient, load(squares, i))
        store(squares, i, v)
        store(w, i, weight - step * gradient / (sqrt(v) + epsilon))


@kernel
def lion(u: Update, plan: Plan, rates: StepRates) -> None:
    """Lion: the sign of a moving average."""
    w, g, average = u.weights, u.gradient, u.moments
    factor, step, one = full(w, u.factor), full(w, rates.rate * u.rate), full(w, 1.0)
    b1, b2 = full(w, plan.beta_1), full(w, plan.beta_2)
    c1, c2 = full(w, 1.0 - plan.beta_1), full(w, 1.0 - plan.beta_2)
    shrink = full(w, 1.0 - rates.rate * u.rate * plan.weight_decay)
    for i in range(0, u.n, lanes(w)):
        gradient, m = load(g, i) * factor, load(average, i)
        direction = fma(b1, m, c1 * gradient)
        sign = select(direction > zero(w), one, select(direction < zero(w), zero(w) - one, zero(w)))
        store(average, i, fma(b2, m, c2 * gradient))
        store(w, i, load(w, i) * shrink - step * sign)


@inlined
def update(u: Update, plan: Plan, rates: StepRates) -> None:
    """Update some parameters by their gradient, times its factor."""
    if plan.optimizer == SGD:
        sgd(u, plan, rates)
    elif plan.optimizer == ADAM:
        adam(u, plan, rates)
    elif plan.optimizer == RMSPROP:
        rmsprop(u, plan, rates)
    elif plan.optimizer == ADAGRAD:
        adagrad(u, plan, rates)
    else:
        lion(u, plan, rates)


@inlined
def is_plain(plan: Plan, rates: StepRates) -> bool:
    """Return whether an update is the gradient times the learning rate and nothing else."""
    return (
        plan.optimizer == SGD
        and plan.n_moments == 0
        and plan.weight_decay == 0.0
        and plan.l1 == 0.0
        and rates.l2 == 0.0
        and plan.clip_value == np.inf
    )


@kernel
def descend(panel: Pointer, numbers: Numbers, n: Index, g: Pointer, rate: Scalar) -> None:
    """Subtract `rate` times `n` rows of a gradient from the rows of a panel so numbered."""
    step = full(g, rate)
    for i in range(n):
        place = offset_of(numbers, i, lanes(panel))
        store(panel, place, load(panel, place) - step * load(g, i * lanes(g)))
