"""A predictor gives what the network gives, whichever way a row takes."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fastmlp import MLP, Predictor
from fastmlp.activations import ACTIVATIONS, ELU, OUTPUT_ACTIVATIONS, LeakyReLU
from fastmlp.backends import Backend

METHODS = ["logits", "predict_proba", "predict"]


def network_of(sizes, hidden="relu", output="softmax", dtype="float32", **more) -> MLP:
    """Return a network whose biases are not zero."""
    network = MLP(sizes, hidden, output, dtype=dtype, seed=1, **more)
    rng = np.random.default_rng(2)
    for bias in network.biases:
        bias[:] = rng.normal(0, 0.5, bias.shape)
    return network


def rows_of(network: MLP, n: int = 4) -> np.ndarray:
    """Return rows of the network's width and dtype, a third of them zeros."""
    rng = np.random.default_rng(3)
    rows = rng.normal(0, 1, (n, network.n_inputs))
    rows[rng.random(rows.shape) < 1 / 3] = 0
    return rows.astype(network.dtype)


def assert_same(predicted, expected, dtype) -> None:
    tolerance = 2e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(predicted, expected, rtol=tolerance, atol=tolerance)
    assert type(predicted) is type(expected)
    assert predicted.dtype == expected.dtype


def assert_agrees(predictor: Predictor, network: MLP, X) -> None:
    for method in METHODS:
        assert_same(getattr(predictor, method)(X), getattr(network, method)(X), network.dtype.name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_every_activation(backend: Backend, name: str, dtype: str):
    network = network_of([7, 19, 5, 3], name, dtype=dtype)
    predictor = Predictor(network, backend)
    for row in rows_of(network):
        assert_agrees(predictor, network, row)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_outputs", [1, 2, 16, 17, 40])
@pytest.mark.parametrize("name", list(OUTPUT_ACTIVATIONS))
def test_every_output(backend: Backend, name: str, n_outputs: int, dtype: str):
    network = network_of([5, 9, n_outputs], output=name, dtype=dtype)
    predictor = Predictor(network, backend)
    for row in rows_of(network):
        assert_agrees(predictor, network, row)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "sizes", [(1, 2), (2, 1, 2), (16, 16, 16, 2), (65, 64, 10), (33, 130, 81, 3), (300, 70, 10)]
)
def test_every_size(backend: Backend, sizes: tuple[int, ...], dtype: str):
    network = network_of(sizes, dtype=dtype)
    predictor = Predictor(network, backend)
    rows = rows_of(network)
    assert_agrees(predictor, network, rows)
    for row in rows:
        assert_agrees(predictor, network, row)
        assert_agrees(predictor, network, row[None])


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0])
def test_rows_of_one_value(backend: Backend, value: float):
    network = network_of([20, 30, 4])
    assert_agrees(Predictor(network, backend), network, np.full(20, value, np.float32))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("output", list(OUTPUT_ACTIVATIONS))
def test_extreme_logits(backend: Backend, output: str, dtype: str):
    network = network_of([2, 3], output=output, dtype=dtype)
    network.weights[0][:] = [[1e3, -1e3, 0], [0, 0, 1]]
    assert_agrees(Predictor(network, backend), network, np.ones(2, dtype))


def test_parameters_of_activations(backend: Backend):
    network = network_of([6, 8, 8, 2], [LeakyReLU(negative_slope=0.3), ELU(alpha=0.7)])
    assert_agrees(Predictor(network, backend), network, rows_of(network)[0])


def test_the_input_scale(backend: Backend):
    network = network_of([6, 8, 2], input_scale=0.25)
    row = rows_of(network)[0]
    assert_agrees(Predictor(network, backend), network, row)


@pytest.mark.parametrize(
    "variant",
    [
        lambda row: row[::-1],
        lambda row: np.repeat(row, 2)[::2],
        lambda row: np.repeat(row[None], 2, axis=1)[:, ::2],
        lambda row: row.astype(np.float64),
        lambda row: row.astype(">f4"),
        lambda row: row.astype(np.int16),
        lambda row: row.tolist(),
        lambda row: np.ma.array(row),
        lambda row: pickle.loads(pickle.dumps(row)),
        lambda row: np.frombuffer(b"x" + row.tobytes(), np.uint8)[1:].view(np.float32),
    ],
)
def test_rows_of_any_kind(backend: Backend, variant):
    network = network_of([9, 8, 3])
    row = variant(rows_of(network)[0])
    assert_agrees(Predictor(network, backend), network, row)


def test_a_row_that_is_read_only_stays_as_it_was(backend: Backend):
    network = network_of([9, 8, 3])
    row = rows_of(network)[0]
    before = row.copy()
    row.setflags(write=False)
    assert_agrees(Predictor(network, backend), network, row)
    np.testing.assert_array_equal(row, before)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 8])
def test_a_row_that_is_not_finite_is_refused(backend: Backend, bad: float, place: int, method: str):
    network = network_of([9, 8, 3])
    row = rows_of(network)[0]
    row[place] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        getattr(Predictor(network, backend), method)(row)


@pytest.mark.parametrize("shape", [(8,), (10,), (1, 8), (1, 1, 9), ()])
def test_rows_of_another_width_are_refused(backend: Backend, shape: tuple[int, ...]):
    predictor = Predictor(network_of([9, 8, 3]), backend)
    with pytest.raises(ValueError, match="shape"):
        predictor.logits(np.zeros(shape, np.float32))


def test_one_row_has_the_bits_that_it_has_among_many():
    network = network_of([300, 70, 10], "tanh")
    predictor = Predictor(network, "numba")  # BLAS sums one row in another order than many
    rows = rows_of(network, 7)
    np.testing.assert_array_equal([predictor.logits(row) for row in rows], predictor.logits(rows))


def test_every_answer_is_an_array_of_its_own(backend: Backend):
    network = network_of([4, 3])
    predictor = Predictor(network, backend)
    first, second = rows_of(network, 2)
    answer = predictor.predict_proba(first)
    kept = answer.copy()
    predictor.predict_proba(second)
    np.testing.assert_array_equal(answer, kept)


def test_training_shows_after_a_refresh(backend: Backend):
    network = network_of([4, 5, 3])
    predictor = Predictor(network, backend)
    row = rows_of(network)[0]
    before = network.logits(row)
    network.parameters += 0.5
    assert_same(predictor.logits(row), before, "float32")
    predictor.refresh()
    assert_agrees(predictor, network, row)


def test_a_pickled_predictor_predicts(backend: Backend):
    network = network_of([4, 5, 3])
    twin = pickle.loads(pickle.dumps(Predictor(network, backend)))
    assert_agrees(twin, network, rows_of(network))
    assert_agrees(twin, network, rows_of(network)[0])


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))]
)
def test_a_copy_predicts_by_its_own_parameters(backend: Backend, duplicate):
    network = network_of([4, 5, 3])
    predictor, rows = Predictor(network, backend), rows_of(network)
    before = predictor.logits(rows)
    network.parameters += 0.5
    twin = duplicate(predictor)
    np.testing.assert_array_equal(twin.logits(rows), before)
    np.testing.assert_array_equal(duplicate(twin).logits(rows), before)
    twin.refresh()
    assert_agrees(twin, network, rows)
    np.testing.assert_array_equal(predictor.logits(rows), before)


def test_threads_share_a_predictor(backend: Backend):
    network = network_of([40, 50, 10])
    predictor = Predictor(network, backend, n_threads=1)
    rows = rows_of(network, 50)
    expected = network.predict_proba(rows)

    def answers(first: int) -> np.ndarray:
        picked = [rows[i : i + 1] if i % 3 else rows[i : i + 9] for i in range(first, 50)] * 10
        return np.concatenate([predictor.predict_proba(block)[:1] for block in picked])

    with ThreadPoolExecutor(4) as pool:
        for first, got in enumerate(pool.map(answers, range(8))):
            np.testing.assert_allclose(got, np.tile(expected[first:], (10, 1)), atol=1e-5)


def test_logits_beyond_the_dtype_are_refused_without_a_warning(backend: Backend):
    network = MLP([2, 3], output_activation="linear")
    network.weights[0] = np.full((2, 3), 3e38)
    for n_rows in (1, 5):
        with pytest.raises(ValueError, match="logits are NaN or infinite"):
            Predictor(network, backend).logits(np.full((n_rows, 2), 3e38))
