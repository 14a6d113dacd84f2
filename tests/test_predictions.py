"""Predictions of many rows: equal bits whatever the threads and blocks, and nothing but numbers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from fastmlp import MLP, Predictor, Trainer
from fastmlp.activations import OUTPUT_ACTIVATIONS
from fastmlp.backends import Backend, get_backend
from fastmlp.testing import Setting

KINDS = {"logits": "logits", "outputs": "predict_proba", "decisions": "predict"}
#: Widths on both sides of a vector, of panels that are packed, and of a portion of terms.
SHAPES = [(784, 128, 64, 10), (16, 16, 16, 2), (3, 1), (33, 260, 17), (400, 260, 5)]


def random_network(sizes, output: str, dtype: str = "float32", seed: int = 0, **more) -> MLP:
    network = MLP(sizes, output_activation=output, dtype=dtype, **more)
    rng = np.random.default_rng(seed)
    network.parameters = rng.normal(0, 1 / np.sqrt(max(sizes)), network.n_parameters)
    return network


def rows_for(network: MLP, n: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, network.n_inputs)).astype(network.dtype)


def bound_of(network: MLP) -> float:
    """Return what the conformance kit allows in logits, relative to their length."""
    return Setting(network.layer_sizes, dtype=network.dtype.name).logits_bound()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", SHAPES, ids=str)
def test_every_number_of_rows_and_threads_gives_the_same_bits(sizes, dtype: str):
    network = random_network(sizes, "softmax", dtype)
    X = rows_for(network, 5000)
    exact = MLP(sizes, dtype="float64")
    exact.parameters = network.parameters
    expected = exact.logits(X)
    sessions = [get_backend("numba").bind(network, n_threads=n) for n in (1, 2, 3, 4)]
    whole = {kind: sessions[0].predict(X, kind) for kind in KINDS}
    error = np.linalg.norm(whole["logits"] - expected, axis=1)
    assert np.all(error <= bound_of(network) * np.linalg.norm(expected, axis=1).max())
    np.testing.assert_allclose(whole["outputs"], exact.predict_proba(X), atol=8 * bound_of(network))
    sure = np.sort(expected, axis=1)
    gap = sure[:, -1] - sure[:, -2] if sizes[-1] > 1 else np.full(len(X), np.inf)
    clear = gap > 2 * error.max()
    np.testing.assert_array_equal(whole["decisions"][clear], expected.argmax(axis=1)[clear])
    n_rows = itertools.chain(range(1, 301), [5000])
    for n, session in itertools.product(n_rows, sessions):
        for kind in KINDS if n % 10 == 0 else ["outputs"]:
            np.testing.assert_array_equal(session.predict(X[:n], kind), whole[kind][:n])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_outputs", [1, 2, 16, 17, 40])
@pytest.mark.parametrize("output", list(OUTPUT_ACTIVATIONS))
def test_everything_that_predicts_agrees(backend: Backend, output: str, n_outputs: int, dtype: str):
    network = random_network((5, 9, n_outputs), output, dtype, input_scale=0.5)
    predictor = Predictor(network, backend)
    trainer, session = Trainer(network, backend=backend), backend.bind(network)
    tolerance = 2e-6 if dtype == "float32" else 1e-14
    for n in (0, 1, 50):
        X = rows_for(network, n)
        for kind, method in KINDS.items():
            expected = getattr(network, method)(X)
            found = [getattr(predictor, method)(X), session.predict(X, kind)]
            if kind != "logits":
                found.append(getattr(trainer, method)(X))
            for one in found:
                np.testing.assert_allclose(one, expected, rtol=tolerance, atol=tolerance)
                assert (one.dtype, one.shape) == (expected.dtype, expected.shape)
            for i, x in enumerate(X[:3]):
                for one in (getattr(predictor, method)(x), session.predict(x, kind)):
                    np.testing.assert_allclose(one, expected[i], tolerance, tolerance)
                    # NumPy multiplies a single row in another order.
                    assert backend.name == "numpy" or np.array_equal(one, found[0][i])


@given(
    place=st.tuples(st.integers(0, 499), st.integers(0, 20)),
    value=st.sampled_from([np.nan, np.inf, -np.inf]),
    n_inputs=st.sampled_from([1, 15, 16, 17, 21]),
    n_threads=st.integers(1, 3),
    dtype=st.sampled_from(["float32", "float64"]),
    kind=st.sampled_from(list(KINDS)),
)
def test_a_value_that_is_not_finite_is_found_wherever_it_is(
    place, value: float, n_inputs: int, n_threads: int, dtype: str, kind: str
):
    network = random_network((n_inputs, 4, 2), "softmax", dtype)
    session = get_backend("numba").bind(network, n_threads=n_threads)
    X = rows_for(network, 500)
    right = session.predict(X, kind)
    spoilt = X.copy()
    spoilt[place[0], place[1] % n_inputs] = value
    message = rf"X holds NaN or infinite values \(first in row {place[0]}\)"
    with pytest.raises(ValueError, match=message):
        session.predict(spoilt, kind)
    # What an unlucky call leaves in the scratch is none of the next one's affair.
    np.testing.assert_array_equal(session.predict(X, kind), right)


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("output", list(OUTPUT_ACTIVATIONS))
def test_logits_that_overflow_are_told(backend: Backend, output: str, kind: str):
    network = random_network((2, 3, 2), output)
    network.weights[1][:] = 3e38
    network.biases[0][:] = 1
    session = backend.bind(network)
    with pytest.raises(ValueError, match="the network's logits are NaN or infinite"):
        session.predict(np.full((300, 2), 9.0), kind)


def test_rows_that_overflow_by_the_scale_are_told(backend: Backend):
    session = backend.bind(random_network((2, 2), "softmax", input_scale=10.0))
    with pytest.raises(ValueError, match="infinite as float32, times input_scale=10"):
        session.predict(np.full((3, 2), 1e38, dtype=np.float32))
    with pytest.raises(ValueError, match="infinite as float32"):
        session.predict(np.full((3, 2), 1e39))


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_in_any_form_give_the_same_bits(kind: str, dtype: str, backend: Backend):
    network = random_network((12, 20, 3), "softmax", dtype)
    X = rows_for(network, 250)
    X[X < 0] = 0
    session = backend.bind(network)
    right = session.predict(X, kind)
    wide = np.zeros((250, 40), dtype=dtype)
    wide[:, 5:17] = X
    frozen = X.copy()
    frozen.flags.writeable = False
    reversed_rows = X[::-1].copy()[::-1]
    for form in (
        wide[:, 5:17],
        frozen,
        reversed_rows,
        np.asfortranarray(X),
        X.astype(X.dtype.newbyteorder()),
        sparse.csr_array(X),
        X.tolist(),
    ):
        np.testing.assert_array_equal(session.predict(form, kind), right)
    windows = np.lib.stride_tricks.sliding_window_view(X.reshape(-1), 12)[:70]
    copied = session.predict(windows.copy(), kind)
    np.testing.assert_array_equal(session.predict(windows, kind), copied)


def test_of_equal_logits_the_first_decides(backend: Backend):
    network = MLP([4, 37])
    network.parameters = np.zeros(network.n_parameters)
    network.biases[0][[5, 20, 36]] = 1.0
    assert backend.bind(network).predict(np.ones((9, 4))).tolist() == [5] * 9


def test_an_unknown_kind_is_refused(backend: Backend):
    with pytest.raises(ValueError, match=r"kind must be one of .*decisions.*, got 'labels'"):
        backend.bind(MLP([2, 2])).predict([[0.0, 0.0]], "labels")
