"""The kernels as plain Python agree with the reference; runs under NUMBA_DISABLE_JIT=1."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numba import config

from fastmlp import testing
from fastmlp.activations import ACTIVATIONS
from fastmlp.backends.numba_backend import NumbaBackend

pytestmark = pytest.mark.skipif(not config.DISABLE_JIT, reason="about plain Python")

SMALL = testing.Setting((3, 18, 2, 4), n_rows=5, batch_size=3)


def agrees(case: testing.Setting) -> None:
    X, y, weights = case.data()
    session, reference = case.bind(NumbaBackend()), case.reference()
    testing._compare("logits", session.logits(X), reference.logits(X), case.logits_bound(), case)
    gradient = np.full(session.n_parameters, np.nan, case.dtype)
    expected = np.full(session.n_parameters, np.nan)
    session.loss_and_gradient(X, y, gradient, weights)
    reference.loss_and_gradient(X, y, expected, weights)
    testing._compare("gradients", gradient, expected, case.gradient_bound(case.n_rows), case)
    testing._compare_training(NumbaBackend(), case, 1)
    session.update(expected.astype(case.dtype), 0.01)
    reference.update(expected, 0.01)
    actual = session.store().parameters
    testing._compare("parameters", actual, reference.store().parameters, 1e-4, case)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hidden", ACTIVATIONS)
def test_activations(hidden: str, dtype: str):
    agrees(replace(SMALL, hidden=hidden, dtype=dtype))


@pytest.mark.parametrize(("output", "loss"), list(testing._losses()), ids=str)
def test_losses(output: str, loss):
    agrees(replace(SMALL, output=output, loss=loss))


@pytest.mark.parametrize("optimizer", testing.OPTIMIZER_CASES, ids=str)
def test_optimizers(optimizer):
    agrees(replace(SMALL, optimizer=optimizer))


@pytest.mark.parametrize("regularization", testing.REGULARIZATION_CASES, ids=str)
def test_regularizations(regularization):
    agrees(replace(SMALL, regularization=regularization))


@pytest.mark.parametrize(
    "options", [{"labels": True}, {"weighted": False}, {"sizes": (1, 1), "output": "sigmoid"}]
)
def test_targets_and_shapes(options):
    agrees(replace(SMALL, **options))


def test_a_deep_sum_is_cut_into_parts():
    agrees(replace(SMALL, sizes=(1100, 2), n_rows=2, output="linear", loss=testing.LOSSES["mse"]))
