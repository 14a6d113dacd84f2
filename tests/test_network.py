from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmlp import MLP
from fastmlp.activations import ACTIVATIONS, OUTPUT_ACTIVATIONS
from fastmlp.backends import Backend
from fastmlp.initializers import INITIALIZERS, Normal

SIZES = [4, 6, 5, 3]


def make_rows(n_samples: int = 10, n_features: int = 4):
    return np.random.default_rng(0).normal(size=(n_samples, n_features))


def assert_layers_are_views(network: MLP) -> None:
    parts = [
        part.ravel() for pair in zip(network.weights, network.biases, strict=True) for part in pair
    ]
    np.testing.assert_array_equal(np.concatenate(parts), network.parameters)
    for layer in range(network.n_layers):
        assert np.shares_memory(network.weights[layer], network.parameters)
        assert np.shares_memory(network.biases[layer], network.parameters)
        assert network.weights[layer].shape == network.layer_shapes[layer]
        assert network.biases[layer].shape == network.layer_shapes[layer][1:]


# Parameters ----------------------------------------------------------------------------------


@given(sizes=st.lists(st.integers(1, 9), min_size=2, max_size=5))
def test_weights_and_biases_are_views_of_the_flat_vector(sizes):
    network = MLP(sizes)
    assert_layers_are_views(network)
    assert network.parameters.shape == (network.n_parameters,)
    network.parameters[:] = 7
    assert all(np.all(part == 7) for part in [*network.weights, *network.biases])


def test_assigned_parameters_are_copied_in():
    network = MLP(SIZES)
    values = np.arange(network.n_parameters)
    network.parameters = values
    assert network.parameters.dtype == np.float32
    np.testing.assert_array_equal(network.parameters, values)
    assert_layers_are_views(network)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "duplicate",
    [lambda net: pickle.loads(pickle.dumps(net)), copy.copy, copy.deepcopy, MLP.copy],
    ids=["pickle", "copy.copy", "copy.deepcopy", "MLP.copy"],
)
def test_a_copy_keeps_its_views_and_shares_nothing(duplicate, dtype: str):
    network = MLP(SIZES, ["relu", "tanh"], "sigmoid", dtype=dtype, seed=3, input_scale=0.5)
    twin = duplicate(network)
    assert_layers_are_views(twin)
    assert_layers_are_views(network)
    assert not np.shares_memory(twin.parameters, network.parameters)
    assert repr(twin) == repr(network)
    X = make_rows()
    np.testing.assert_array_equal(twin.logits(X), network.logits(X))
    twin.parameters[:] = 0
    assert np.any(network.parameters)


def test_a_pickle_holds_the_parameters_once():
    network = MLP([300, 300])
    assert len(pickle.dumps(network)) < 1.1 * network.parameters.nbytes


# Initial weights -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("he_normal", 2 / 400),
        ("he_uniform", 2 / 400),
        ("glorot_normal", 2 / 700),
        ("glorot_uniform", 2 / 700),
        ("lecun_normal", 1 / 400),
        ("normal", 0.05**2),
        (Normal(0.3), 0.09),
    ],
)
def test_initial_weights_have_the_stated_variance(name, variance: float):
    w = MLP([400, 300], initializer=name, dtype="float64").weights[0]
    assert w.var() == pytest.approx(variance, rel=0.02)
    assert w.mean() == pytest.approx(0, abs=4 * np.sqrt(variance / w.size))
    uniform = isinstance(name, str) and name.endswith("uniform")
    assert (np.abs(w).max() < np.sqrt(3 * variance)) == uniform


@pytest.mark.parametrize("hidden", ACTIVATIONS)
def test_by_default_the_initializer_suits_each_activation(hidden: str):
    network = MLP([300, 200, 10], hidden, "softmax", dtype="float64")
    wanted = {
        "selu": 1 / 300,
        **dict.fromkeys(["sigmoid", "tanh", "identity", "hard_tanh", "hard_sigmoid"], 2 / 500),
    }.get(hidden, 2 / 300)
    assert network.weights[0].var() == pytest.approx(wanted, rel=0.03)
    assert network.weights[1].var() == pytest.approx(2 / 210, rel=0.1)


@pytest.mark.parametrize("initializer", [None, *INITIALIZERS])
def test_biases_start_at_zero(initializer):
    assert not any(np.any(b) for b in MLP(SIZES, initializer=initializer).biases)


def test_one_seed_gives_the_same_bits_and_another_seed_others():
    first, again, other = MLP(SIZES, seed=1), MLP(SIZES, seed=1), MLP(SIZES, seed=2)
    assert first.parameters.tobytes() == again.parameters.tobytes()
    assert np.any(first.parameters != other.parameters)


def test_both_dtypes_start_from_the_same_draws():
    np.testing.assert_array_equal(
        MLP(SIZES).parameters, MLP(SIZES, dtype="float64").parameters.astype(np.float32)
    )


# Prediction ----------------------------------------------------------------------------------


@pytest.mark.parametrize("output", OUTPUT_ACTIVATIONS)
def test_logits_follow_the_formula(backend: Backend, output: str):
    network = MLP([4, 6, 5], "tanh", output, dtype="float64")
    network.biases[0][:] = 0.1
    X = make_rows()
    z = np.tanh(X @ network.weights[0] + 0.1) @ network.weights[1] + network.biases[1]
    np.testing.assert_allclose(network.logits(X), z, rtol=1e-12)
    np.testing.assert_allclose(backend.bind(network).logits(X), z, rtol=1e-12)


@pytest.mark.parametrize("sizes", [[4, 3], [4, 1], [4, 5, 3], [4, 5, 1]])
@pytest.mark.parametrize("output", OUTPUT_ACTIVATIONS)
def test_a_single_sample_gives_its_row(backend: Backend, output: str, sizes):
    network = MLP(sizes, output_activation=output)
    session = backend.bind(network)
    X = make_rows(1)
    for predict in (network.predict, network.predict_proba, network.logits, session.outputs):
        single, row = predict(X[0]), predict(X)
        assert single.shape == row.shape[1:]
        np.testing.assert_array_equal(single, row[0])


@pytest.mark.parametrize(
    ("output", "n_outputs", "shape", "kind"),
    [
        ("softmax", 3, (10,), "i"),
        ("sigmoid", 1, (10,), "i"),
        ("sigmoid", 3, (10, 3), "i"),
        ("linear", 1, (10,), "f"),
        ("linear", 3, (10, 3), "f"),
        ("exp", 1, (10,), "f"),
    ],
)
def test_the_shape_of_predictions(output: str, n_outputs: int, shape, kind: str):
    network = MLP([4, n_outputs], output_activation=output)
    assert network.predict(make_rows()).shape == shape
    assert network.predict(make_rows()).dtype.kind == kind
    assert network.predict_proba(make_rows()).shape == (10, n_outputs)
    assert network.predict(np.empty((0, 4))).shape == (0, *shape[1:])


def test_labels_are_the_most_probable():
    network = MLP(SIZES)
    p = network.predict_proba(make_rows())
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(network.predict(make_rows()), p.argmax(axis=1))


def test_labels_of_a_sigmoid_are_on_from_one_half():
    network = MLP(SIZES, output_activation="sigmoid")
    p = network.predict_proba(make_rows())
    np.testing.assert_array_equal(network.predict(make_rows()), p >= 0.5)


@pytest.mark.parametrize("n_samples", [4095, 4096, 4097, 10_000])
def test_many_rows_are_computed_in_blocks_without_a_seam(n_samples: int):
    network = MLP([2, 3], dtype="float64")
    X = make_rows(n_samples, 2)
    np.testing.assert_allclose(
        network.logits(X), X @ network.weights[0] + network.biases[0], rtol=1e-12
    )


@pytest.mark.parametrize("output", OUTPUT_ACTIVATIONS)
@pytest.mark.parametrize("sizes", [[4, 3], [4, 5, 3]])
def test_predictions_leave_the_input_alone(backend: Backend, output: str, sizes):
    network = MLP(sizes, "identity", output)
    X = make_rows().astype(np.float32)
    kept = X.copy()
    session = backend.bind(network)
    for predict in (network.predict, network.predict_proba, session.outputs, session.logits):
        predict(X)
        np.testing.assert_array_equal(X, kept)


@pytest.mark.parametrize(
    "convert",
    [
        lambda X: X.tolist(),
        np.asfortranarray,
        lambda X: np.repeat(X, 2, axis=0)[::2],
        lambda X: X.astype(np.float64),
        lambda X: X.astype(np.int8),
        lambda X: X.astype(">f4"),
    ],
    ids=["list", "Fortran", "strided", "float64", "int8", "big-endian"],
)
def test_inputs_of_any_layout_and_numeric_type(backend: Backend, convert):
    network = MLP(SIZES)
    X = np.random.default_rng(0).integers(-5, 5, (10, 4)).astype(np.float32)
    np.testing.assert_allclose(network.logits(convert(X)), network.logits(X), rtol=1e-6)
    session = backend.bind(network)
    np.testing.assert_allclose(session.logits(convert(X)), session.logits(X), rtol=1e-6)


def test_read_only_inputs(backend: Backend):
    X = make_rows()
    X.setflags(write=False)
    assert backend.bind(MLP(SIZES)).logits(X).shape == (10, 3)


def test_sparse_rows(backend: Backend):
    sparse = pytest.importorskip("scipy.sparse")
    network = MLP(SIZES)
    X = np.maximum(make_rows(), 0)
    np.testing.assert_allclose(network.logits(sparse.csr_array(X)), network.logits(X), rtol=1e-6)
    session = backend.bind(network)
    np.testing.assert_allclose(session.logits(sparse.csr_array(X)), session.logits(X), rtol=1e-6)


def test_the_scale_of_inputs():
    network = MLP([4, 3], input_scale=1 / 255)
    X = np.random.default_rng(0).integers(0, 256, (10, 4), dtype=np.uint8)
    np.testing.assert_allclose(
        network.logits(X), (X / 255) @ network.weights[0], rtol=1e-4, atol=1e-6
    )


def test_one_hidden_activation_for_each_layer():
    network = MLP(SIZES, ["tanh", "relu"], "linear", dtype="float64")
    X = make_rows()
    w = network.weights
    expected = np.maximum(np.tanh(X @ w[0]) @ w[1], 0) @ w[2]
    np.testing.assert_allclose(network.predict(X), expected, rtol=1e-12)


def test_the_representation_can_be_read():
    assert repr(MLP([2, 3], "tanh", "linear", seed=4)) == (
        "MLP([2, 3], hidden_activation=[], output_activation='linear', dtype='float32', seed=4)"
    )
    assert "hidden_activation='relu'" in repr(MLP([2, 5, 5, 3]))
    assert "hidden_activation=['relu', 'tanh']" in repr(MLP([2, 5, 5, 3], ["relu", "tanh"]))
