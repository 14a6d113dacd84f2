"""Training by L-BFGS, of SciPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from fastmlp.backends.base import Backend, TrainingState
from fastmlp.network import MLP
from fastmlp.optimizers import SGD
from fastmlp.regularization import Regularization
from fastmlp.sklearn._objective import Objective, Samples

Array = NDArray[Any]

#: Rows that are computed at once: enough for fast kernels, few enough for the cache.
_ROWS_AT_ONCE = 1024


def minimize_lbfgs(
    network: MLP,
    backend: Backend,
    n_threads: int | None,
    objective: Objective,
    samples: Samples,
    *,
    max_iter: int,
    max_fun: int,
    tol: float,
    report: Callable[[int, float], None] | None,
) -> tuple[Any, float]:
    """Train by SciPy's L-BFGS-B, in float64; return its result and the reported loss.

    Parameters
    ----------
    network : MLP
        Trained in place.
    report : callable or None
        Called after each iteration with its number and the loss.
    """
    double = MLP(
        network.layer_sizes,
        network.hidden_activations,
        network.output_activation,
        dtype=np.float64,
    )
    weights = samples.weights
    samples = replace(
        samples,
        targets=samples.targets.astype(np.float64)
        if samples.targets.ndim == 2
        else samples.targets,
        weights=None if weights is None else weights.astype(np.float64),
    )
    l2 = objective.l2(len(samples.targets) * samples.mean_weight)
    session = backend.bind(
        double,
        objective.loss,
        SGD(),
        Regularization(l2=l2),
        batch_size=min(len(samples.targets), _ROWS_AT_ONCE),
        n_threads=n_threads,
    )
    no_moments = np.empty((0, double.n_parameters))
    gradient = np.empty(double.n_parameters)

    def value_and_gradient(parameters: Array) -> tuple[float, Array]:
        session.load(TrainingState(parameters, no_moments, None, 0))
        loss = session.loss_and_gradient(samples.X, samples.targets, gradient, samples.weights)
        return loss * objective.n_terms, gradient * objective.n_terms

    constant = objective.constant(samples)

    def as_reported(parameters: Array, value: float) -> float:
        double.parameters = parameters
        penalty = session.regularization.penalty(double.weights)
        return objective.reported(value / objective.n_terms - penalty, penalty, constant)

    iterations = 0

    def after_iteration(intermediate_result: Any) -> None:
        nonlocal iterations
        iterations += 1
        if report is not None:
            value = float(intermediate_result.fun)
            report(iterations, as_reported(intermediate_result.x, value))

    result = scipy.optimize.minimize(
        value_and_gradient,
        network.parameters.astype(np.float64),
        method="L-BFGS-B",
        jac=True,
        callback=after_iteration,
        options={"maxfun": max_fun, "maxiter": max_iter, "gtol": tol},
    )
    network.parameters = result.x
    return result, as_reported(result.x, float(result.fun))
