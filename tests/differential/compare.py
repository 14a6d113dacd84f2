"""What a setting gives with a backend, compared with the reference and with itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastmlp.backends import Backend, get_backend
from fastmlp.backends.base import Session, TrainingState
from fastmlp.network import layer_views, scale_view

from .displaced import DisplacedSession
from .generator import Setting
from .problem import Problem

Array = np.ndarray[Any, Any]

#: A backend may differ from the reference by so many times what displacing it changes ...
_FACTOR = 3
#: ... and by so many roundings of the result itself, in every step.
_ROUNDINGS = 16
#: Pairs of displaced runs: few at first; more, with roundings that conspire, where those do not
#: explain a difference.
_FEW_PAIRS, _MORE_PAIRS = 1, 6


def disagreements(setting: Setting, backend: Backend) -> list[str]:
    """Return in what a backend differs from the reference, or from itself run otherwise."""
    problem = Problem(setting)
    with np.errstate(all="ignore"):
        found = _run(problem, problem.bind(backend, setting.dtype, setting.threads), setting.calls)
        again = _again(problem, backend)
        # Once a loss is infinite, zeros that are left out are not zeros times infinity any more:
        # a run that diverges does so in one way or another.
        found_again = [
            f"{name} have other bits with other threads, calls and forms of the rows"
            for name in found
            if not np.array_equal(found[name], again[name], equal_nan=True)
            and np.all(np.isfinite(found["losses"]))
        ]
        wrong = _beyond_bounds(problem, found) and _beyond_bounds_of_steps(problem, backend)
        return [*found_again, *_one_row(problem, backend), *wrong]


def disagreements_with_oracle(setting: Setting, torch: Any) -> list[str]:
    """Return in what the reference differs from PyTorch's automatic differentiation in float64."""
    from . import oracle  # which needs PyTorch

    problem = Problem(replace(setting, dtype="float64"))
    with np.errstate(all="ignore"):
        expected = reference_run(problem)
        if _overflows(problem, expected):
            return []
        found = oracle.train(torch, problem)
        both = {name: expected[name] for name in found}
        return beyond(problem, found, both, allowed(problem, expected, _MORE_PAIRS))


def reference_run(problem: Problem) -> dict[str, Array]:
    """Return what the reference computes, in float64, of the numbers that the dtype holds."""
    return _run_in_float64(problem, problem.bind(get_backend("numpy"), "float64"))


def allowed(
    problem: Problem, expected: dict[str, Array], n_pairs: int, begins: _Begins | None = None
) -> dict[str, float]:
    """Return by how much every part of the results may differ from those of the reference."""
    eps = float(np.finfo(problem.dtype).eps)
    lost = float(np.finfo(problem.dtype).tiny) / eps  # smaller numbers may lose digits, or vanish
    setting = problem.setting
    roundings = _ROUNDINGS * (setting.n_batches + 1)
    bounds = {
        part: roundings * eps * float(np.linalg.norm(values)) + lost * np.sqrt(values.size)
        for part, values in _parts(expected, setting)
    }
    for number in range(2 * n_pairs):
        session = DisplacedSession(
            problem.network("float64"),
            setting.loss,
            problem.optimizer,
            setting.regularization,
            setting.batch_size,
            setting.seed,
        ).displace_by(eps, number // 2, 1 - number % 2 * 2, number // 2 >= _FEW_PAIRS)
        displaced = dict(_parts(_run_in_float64(problem, session, begins), setting))
        for part, values in _parts(expected, setting):
            distance = float(np.linalg.norm(displaced[part] - values))
            bounds[part] = max(bounds[part], _FACTOR * distance)
    if n_pairs > _FEW_PAIRS:
        _spread_jumps(bounds)
    return bounds


def _spread_jumps(bounds: dict[str, float]) -> None:
    """Allow in every layer's parameters what is allowed in one.

    Where a sign decides, as Lion's, which layer jumps is a matter of chance.
    """
    parameters = [part for part in bounds if part.startswith("parameters")]
    most = max(bounds[part] for part in parameters)
    bounds.update(dict.fromkeys(parameters, most))


def _beyond_bounds(problem: Problem, found: dict[str, Array]) -> list[str]:
    expected = reference_run(problem)
    if _overflows(problem, expected):
        return []
    wrong: list[str] = []
    for n_pairs in (_FEW_PAIRS, _MORE_PAIRS):
        wrong = beyond(problem, found, expected, allowed(problem, expected, n_pairs))
        if not wrong:
            return []
    return wrong


def _beyond_bounds_of_steps(problem: Problem, backend: Backend) -> list[str]:
    """Return in what a backend differs from the reference that begins every step where it does.

    A run may turn on chance: where signs cancel exactly, Adam makes a whole step of a rounding, and
    the next batch falls on this or that side of a kink.
    """
    session = problem.bind(backend, problem.setting.dtype, problem.setting.other_threads)
    for batch in range(problem.setting.n_batches):
        begins = _Begins(session.store(), batch)
        found = _run(problem, session, (1,), first=batch)
        reference = problem.bind(get_backend("numpy"), "float64")
        expected = _run_in_float64(problem, reference, begins)
        bounds = allowed(problem, expected, _MORE_PAIRS, begins)
        wrong = beyond(problem, found, expected, bounds)
        if wrong:
            return [f"step {batch}: {reason}" for reason in wrong]
    return []


def _overflows(problem: Problem, results: dict[str, Array]) -> bool:
    """Return whether numbers are too large for the dtype to tell anything of them."""
    most = 1e-3 * float(np.sqrt(np.finfo(problem.dtype).max))
    logits = np.concatenate([results["logits of training"].ravel(), results["predictions"].ravel()])
    if problem.setting.output == "exp" and not np.all(logits < np.log(most)):
        return True
    if _largest_unit(problem, results["parameters"]) > 1 / np.sqrt(np.finfo(problem.dtype).eps):
        return True  # exploded: half of the digits are lost in every function of it
    return any(not np.all(np.abs(values) < most) for values in results.values())


def _largest_unit(problem: Problem, parameters: Array) -> float:
    """Return the largest value of a hidden unit before its activation."""
    network = problem.network("float64")
    network.parameters = parameters
    a, largest = network.scaled(problem.rounded(problem.values)), 0.0
    if network.scale is not None:
        a = a * network.scale
    for layer, activation in enumerate(network.hidden_activations):
        z = a @ network.weights[layer] + network.biases[layer]
        largest = max(largest, float(np.abs(z).max()))
        a = activation.forward(z, out=np.empty_like(z))
    return largest


def beyond(
    problem: Problem, found: dict[str, Array], expected: dict[str, Array], bounds: dict[str, float]
) -> list[str]:
    """Return the parts of the results that differ by more than they may."""
    wrong = []
    actual = dict(_parts(found, problem.setting))
    for part, values in _parts(expected, problem.setting):
        distance = float(np.linalg.norm(actual[part].astype(np.float64) - values))
        same = np.array_equal(actual[part], values, equal_nan=True)  # where both overflow
        if not (same or distance <= bounds[part] or np.isnan(bounds[part])):
            size = float(np.linalg.norm(values))
            wrong.append(f"{part} of size {size:.3g} differ by {distance:.3g} > {bounds[part]:.3g}")
    return wrong


def _again(problem: Problem, backend: Backend) -> dict[str, Array]:
    """Run batch by batch on other threads, with the rows in the plainest form."""
    setting = problem.setting
    session = problem.bind(backend, setting.dtype, setting.other_threads)
    plain = [np.array(v, problem.dtype) for v in (problem.values, problem.predicted)]
    return _run(problem, session, (1,) * setting.n_batches, *plain)


def _one_row(problem: Problem, backend: Backend) -> list[str]:
    """Compare a row by itself with the same row among many."""
    session = problem.bind(backend, problem.setting.dtype)
    rows = np.array(problem.predicted, problem.dtype)
    function = session.row_function("linear")
    if function is None or not len(rows):
        return []
    wrong = []
    out = np.full(session.n_outputs, np.nan, problem.dtype)
    if function(rows[-1], out) and not np.array_equal(out, session.logits(rows)[-1]):
        wrong.append("the logits of a row by itself have other bits")
    function = session.row_function(session.output_activation.name)
    assert function is not None
    if function(rows[-1], out):
        expected = session.outputs(rows)[-1]
        tolerance = 16 * np.finfo(problem.dtype).eps
        if not np.allclose(out, expected, rtol=tolerance, atol=tolerance / 4, equal_nan=True):
            wrong.append(f"the outputs of a row by itself are {out}, not {expected}")
    return wrong


def _run(
    problem: Problem,
    session: Session,
    calls: tuple[int, ...],
    X: Any = None,
    predicted: Any = None,
    weights: Array | None = None,
    first: int = 0,
) -> dict[str, Array]:
    """Return everything that a session computes: a training, a gradient, and predictions.

    The training begins with batch number `first`.
    """
    setting = problem.setting
    X = problem.formed(problem.values) if X is None else X
    predicted = problem.formed(problem.predicted) if predicted is None else predicted
    weights = problem.weights if weights is None else weights
    targets = problem.targets(session)
    losses, logits = [], []
    for n_batches in calls:
        last = first + n_batches
        visits = slice(first * setting.batch_size, last * setting.batch_size)
        rows, rates = problem.order[visits], problem.rates[first:last]
        seen = np.full((len(rows), session.n_outputs), np.nan, session.dtype)
        losses.append(session.train(X, targets, rows, rates, weights, seen))
        logits.append(seen)
        first = last
    state = session.store()
    gradient = np.full(session.n_parameters, np.nan, session.dtype)
    rows = problem.order[: min(setting.n_gradient, setting.n_visits)]
    loss = session.loss_and_gradient(
        X[rows], targets[rows], gradient, None if weights is None else weights[rows]
    )
    moments = {f"moment {i}": moment for i, moment in enumerate(state.moments)}
    average = {} if state.average is None else {"average": state.average}
    return {
        "losses": np.concatenate(losses),
        "logits of training": np.concatenate(logits),
        "parameters": state.parameters,
        "loss": np.array([loss]),
        "gradient": gradient,
        "predictions": session.logits(predicted),
        **moments,
        **average,
    }


@dataclass(frozen=True)
class _Begins:
    """Where a run of one batch begins."""

    state: TrainingState
    batch: int


def _run_in_float64(
    problem: Problem, session: Session, begins: _Begins | None = None
) -> dict[str, Array]:
    calls, first, weights = (problem.setting.n_batches,), 0, problem.weights
    if begins is not None:
        calls, first, state = (1,), begins.batch, begins.state
        average = None if state.average is None else state.average.astype(np.float64)
        parameters, moments = (a.astype(np.float64) for a in (state.parameters, state.moments))
        session.load(TrainingState(parameters, moments, average, state.step))
    return _run(
        problem,
        session,
        calls,
        problem.rounded(problem.values),
        problem.rounded(problem.predicted),
        None if weights is None else weights.astype(np.float64),
        first,
    )


def _parts(results: dict[str, Array], setting: Setting) -> Iterator[tuple[str, Array]]:
    """Yield results by name; flat vectors layer by layer, so that small ones count too."""
    shapes = list(zip(setting.sizes[:-1], setting.sizes[1:], strict=True))
    for name, values in results.items():
        if values.ndim != 1 or name in ("losses", "loss"):
            yield name, values
            continue
        weights, biases = layer_views(values, shapes)
        for layer, (w, b) in enumerate(zip(weights, biases, strict=True)):
            yield f"{name}, weights {layer}", w
            yield f"{name}, biases {layer}", b
        scale = scale_view(values, shapes)
        if scale is not None:
            yield f"{name}, scale", scale
