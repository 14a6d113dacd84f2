"""Training by L-BFGS, of SciPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from fastmlp.backends.base import Backend, TrainingState
from fastmlp.network import MLP
from fastmlp.optimizers import SGD
from fastmlp.regularization import DividedL2
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
    report: Callable[[int, float, Array], None],
) -> tuple[Any, float]:
    """Train by SciPy's L-BFGS-B, in float64; return its result and the reported loss.

    Parameters
    ----------
    network : MLP
        Trained in place.
    report : callable
        Called after each iteration with its number, the loss and the parameters.
    """
    double = in_float64(network)
    output, (targets, weights) = double.output_activation, (samples.targets, samples.weights)
    targets = targets.astype(np.float64) if targets.ndim == 2 else targets
    weights = None if weights is None else weights.astype(np.float64)
    session = backend.bind(
        double,
        objective.loss,
        SGD(),
        DividedL2(l2=objective.l2),
        batch_size=min(len(targets), _ROWS_AT_ONCE),
        n_threads=n_threads,
    )
    no_moments = np.empty((0, double.n_parameters))
    gradient = np.empty(double.n_parameters)
    logits = np.empty((len(targets), double.n_outputs)) if objective.clips else None

    def value_and_gradient(parameters: Array) -> tuple[float, Array]:
        session.load(TrainingState(parameters, no_moments, None, 0))
        double.parameters = parameters
        total = session.loss_and_gradient(samples.X, targets, gradient, weights, logits)
        penalty = session.regularization.penalty(double.weights, samples.total_weight)
        rows = objective.differences(targets, logits, output)
        value = objective.reported(total - penalty, penalty) + np.average(rows, weights=weights)
        # Of several outputs' squared errors, scikit-learn's gradient is not its value's.
        return float(value), gradient * objective.n_terms

    iterations = 0

    def after_iteration(intermediate_result: Any) -> None:
        nonlocal iterations
        iterations += 1
        report(iterations, float(intermediate_result.fun), intermediate_result.x)

    result = scipy.optimize.minimize(
        value_and_gradient,
        network.parameters.astype(np.float64),
        method="L-BFGS-B",
        jac=True,
        callback=after_iteration,
        options={"maxfun": max_fun, "maxiter": max_iter, "gtol": tol},
    )
    network.parameters = result.x
    return result, float(result.fun)


def in_float64(network: MLP) -> MLP:
    """Return a copy of a network, in float64."""
    double = MLP(
        network.layer_sizes,
        network.hidden_activations,
        network.output_activation,
        dtype=np.float64,
    )
    double.parameters = network.parameters
    return double
