"""Products in bfloat16: what is rounded, how, and that everything else is as it was."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fastmlp import MLP, SGD, Adam, Ensemble, Regularization, Trainer
from fastmlp._bfloat16 import rounded
from fastmlp.backends import Backend, get_backend
from fastmlp.cli import main
from fastmlp.datasets import load_digits
from fastmlp.errors import CheckpointError, ModelFileError
from fastmlp.optimizers import OPTIMIZERS
from tests.test_model_files import changed

#: Zeros, subnormals, both sides of halves, the largest numbers, infinities and NaN of all kinds.
EDGES = np.array(
    [
        *(0x0, 0x1, 0x7FFF, 0x8000, 0x8001, 0x18000, 0x7FFFFF, 0x800000, 0x807FFF, 0x808000),
        *(0x3F808000, 0x3F818000, 0x3F808001, 0x3F817FFF, 0x3FFF8000, 0x7F7F7FFF, 0x7F7F8000),
        *(0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x7F80FFFF, 0x7FC00000, 0x7FFF8000, 0x7FFFFFFF),
    ],
    dtype=np.uint32,
)
any_floats = arrays(np.uint32, 64, elements=st.integers(0, 2**32 - 1))


def both_signs(bits: np.ndarray) -> np.ndarray:
    return np.concatenate([bits, bits | np.uint32(0x80000000)]).view(np.float32)


def same_numbers(a: np.ndarray, b: np.ndarray) -> None:
    """Want equal bits, but that any NaN is as good as any other."""
    number = ~np.isnan(b)
    np.testing.assert_array_equal(np.isnan(a), ~number)
    np.testing.assert_array_equal(a[number].view(np.uint32), b[number].view(np.uint32))


def by_torch(values: np.ndarray) -> np.ndarray:
    torch = pytest.importorskip("torch")
    return torch.from_numpy(values).to(torch.bfloat16).to(torch.float32).numpy()


def by_ml_dtypes(values: np.ndarray) -> np.ndarray:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    with np.errstate(all="ignore"):
        return values.astype(ml_dtypes.bfloat16).astype(np.float32)


# Rounding ------------------------------------------------------------------------------------


@pytest.mark.parametrize("peer", [by_torch, by_ml_dtypes])
def test_edges_are_rounded_as_peers_do(peer):
    values = both_signs(EDGES)
    same_numbers(rounded(values), peer(values))


@pytest.mark.parametrize("peer", [by_torch, by_ml_dtypes])
@given(bits=any_floats)
def test_any_number_is_rounded_as_peers_do(peer, bits):
    values = bits.view(np.float32)
    same_numbers(rounded(values), peer(values))


@given(bits=any_floats)
def test_what_is_rounded_stays(bits):
    once = rounded(bits.view(np.float32))
    np.testing.assert_array_equal(rounded(once).view(np.uint32), once.view(np.uint32))


@given(numbers=arrays(np.float32, 32, elements=st.floats(2.0**-100, 2.0**100, width=32)))
def test_rounding_is_off_by_half_a_spacing_at_most(numbers):
    error = np.abs(rounded(numbers).astype(np.float64) - numbers)
    assert np.all(error <= 2.0**-8 * numbers.astype(np.float64))


def test_rounding_leaves_its_argument():
    values = np.full(3, 1.001, np.float32)
    rounded(values)
    np.testing.assert_array_equal(values, np.full(3, 1.001, np.float32))


# The network ---------------------------------------------------------------------------------


def test_full_precision_is_the_default():
    assert MLP([2, 2]).precision == MLP([2, 2], precision="full").precision == "full"
    assert "precision" not in repr(MLP([2, 2]))
    assert repr(MLP([2, 2], precision="bfloat16")).endswith("seed=0, precision='bfloat16')")


def test_networks_start_from_the_same_parameters():
    a, b = (MLP([5, 4, 3], seed=2, precision=one) for one in ("full", "bfloat16"))
    np.testing.assert_array_equal(a.parameters, b.parameters)


def test_only_float32_networks_have_it():
    with pytest.raises(ValueError, match=r"precision='bfloat16' is for float32 networks, got"):
        MLP([2, 2], dtype="float64", precision="bfloat16")
    assert MLP([2, 2], dtype="float64", precision="full").precision == "full"


@pytest.mark.parametrize("wrong", ["float16", "bf16", 16, ""])
def test_another_precision_is_refused(wrong):
    with pytest.raises(
        ValueError, match="precision must be None or one of 'full', 'bfloat16', got"
    ):
        MLP([2, 2], precision=wrong)


def test_it_is_fixed_and_copied():
    network = MLP([2, 2], precision="bfloat16")
    with pytest.raises(AttributeError, match="precision is fixed"):
        network.precision = "full"
    assert network.copy().precision == network.drawn_anew(5).precision == "bfloat16"


def test_jax_says_that_it_has_it_not():
    pytest.importorskip("jax")
    with pytest.raises(NotImplementedError, match="JAX backend computes in full precision only"):
        get_backend("jax").bind(MLP([2, 2], precision="bfloat16"))


# What is rounded -----------------------------------------------------------------------------


def error(actual: np.ndarray, expected: np.ndarray) -> float:
    distance = np.linalg.norm(actual.astype(np.float64) - expected)
    return float(distance / np.linalg.norm(expected))


def make_data(n_inputs: int, n_rows: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of which two thirds are zeros, and labels."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, n_inputs)) * (rng.uniform(size=(n_rows, n_inputs)) < 0.35)
    X[:, 1] = 0
    return X.astype(np.float32), rng.integers(0, 10, n_rows)


def make_network(sizes=(33, 40, 20, 10), hidden="tanh", precision="bfloat16", **options) -> MLP:
    network = MLP(sizes, hidden, precision=precision, seed=1, **options)
    rng = np.random.default_rng(2)
    network.parameters += rng.normal(0, 0.1, network.n_parameters).astype(np.float32)
    return network


def gradient_of_torch(network: MLP, X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the gradient by automatic differentiation, with rounding where products are."""
    torch = pytest.importorskip("torch")

    def as_factor(values):
        return values.to(torch.bfloat16).to(torch.float32)

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(context, a, w, b):
            context.save_for_backward(as_factor(a), as_factor(w))
            return as_factor(a) @ as_factor(w) + b

        @staticmethod
        def backward(context, delta):
            (a, w), delta = context.saved_tensors, as_factor(delta)
            return delta @ w.T, a.T @ delta, delta.sum(0)

    layers = [
        (torch.tensor(w, requires_grad=True), torch.tensor(b, requires_grad=True))
        for w, b in zip(network.weights, network.biases, strict=True)
    ]
    z = torch.from_numpy(X)
    for number, (w, b) in enumerate(layers):
        z = Product.apply(torch.tanh(z) if number else z, w, b)
    torch.nn.functional.cross_entropy(z, torch.from_numpy(y)).backward()
    return np.concatenate([one.grad.numpy().ravel() for layer in layers for one in layer])


def test_the_gradient_is_that_of_rounded_products(backend: Backend):
    network, (X, y) = make_network(), make_data(33)
    gradient = np.full(network.n_parameters, np.nan, np.float32)
    backend.bind(network).loss_and_gradient(X, y, gradient)
    expected = gradient_of_torch(network, X, y)
    full = np.empty_like(gradient)
    backend.bind(make_network(precision="full")).loss_and_gradient(X, y, full)
    # Rounding is off by 2**-9 on average; few numbers lie so near to the middle of two that an
    # error of float32 decides.
    assert error(gradient, expected) < 2e-4 < 1e-3 < error(full, expected)


NETWORKS = {
    "narrow": {"sizes": (784, 16, 10)},
    "relu": {"hidden": "relu"},
    "gelu": {"hidden": "gelu"},
    "sigmoid": {"hidden": "sigmoid", "sizes": (200, 100, 10)},
    "scaled": {"scaling_layer": True, "input_scale": 0.3},
    "no hidden layer": {"sizes": (300, 10)},
}
NOISY = Regularization(dropout=0.2, input_noise=0.1, max_norm=2.0)


@pytest.mark.parametrize("regularization", [Regularization(), NOISY], ids=["plain", "noisy"])
@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_kernels_round_what_the_reference_rounds(options, regularization):
    X, y = make_data(options.get("sizes", (33,))[0])
    found = {}
    for name in ("numpy", "numba"):
        session = get_backend(name).bind(
            make_network(**options), regularization=regularization, batch_size=20
        )
        gradient = np.full(session.n_parameters, np.nan, np.float32)
        session.loss_and_gradient(X, y, gradient)
        found[name] = gradient, session.logits(X)
    full = get_backend("numpy").bind(make_network(precision="full", **options)).logits(X)
    assert error(found["numba"][0], found["numpy"][0]) < 1e-3
    assert error(found["numba"][1], found["numpy"][1]) < 5e-4
    assert error(full, found["numpy"][1]) > 1e-3


#: By what parameters may be changed, each a path of its own in the kernels.
TRAININGS = {
    **{name: (optimizer, Regularization()) for name, optimizer in OPTIMIZERS.items()},
    "max_norm": (SGD(0.1), Regularization(max_norm=1.0)),
    "clip_norm": (Adam(0.01), Regularization(clip_norm=0.5)),
    "l1": (SGD(0.1), Regularization(l1=0.001)),
    "noise": (SGD(0.1), Regularization(input_noise=0.1)),
}


@pytest.mark.parametrize("sizes", [(33, 40, 10), (200, 16, 10), (30, 10)], ids=str)
@pytest.mark.parametrize("scaling_layer", [False, True])
@pytest.mark.parametrize(("optimizer", "regularization"), TRAININGS.values(), ids=TRAININGS)
def test_products_read_the_weights_as_they_have_become(
    sizes, scaling_layer, optimizer, regularization, backend: Backend
):
    """Train, and compare with a session that is made of the parameters that came of it."""
    X, y = make_data(sizes[0])
    network = make_network(sizes, "relu", scaling_layer=scaling_layer)
    optimizer = replace(optimizer, learning_rate=0.02)
    session = backend.bind(network, None, optimizer, regularization, batch_size=20, n_threads=2)
    session.train(X, y, np.tile(np.arange(50), 3), np.full(8, 0.02))
    gradient = np.empty(session.n_parameters, np.float32)
    session.loss_and_gradient(X, y, gradient)
    session.update(gradient)
    network.parameters = session.store().parameters
    fresh = backend.bind(network, None, optimizer, regularization, batch_size=20)
    np.testing.assert_array_equal(session.logits(X), fresh.logits(X))


def test_weights_that_change_less_than_bfloat16_can_tell_add_up(backend: Backend):
    """Optimizers change float32 weights: one of 1 grows by steps of a hundredth of a spacing."""
    network = MLP([1, 1], output_activation="linear", precision="bfloat16")
    network.weights[0] = [[1.0]]
    session = backend.bind(network, optimizer=SGD(2.0**-13), batch_size=1)
    X, y = np.ones((1, 1), np.float32), np.full((1, 1), 2.0, np.float32)
    before = session.logits(X)
    session.train(X, y, np.zeros(10, int), np.full(10, 2.0**-13))
    assert 1 < session.store().parameters[0] < 1 + 2.0**-8
    session.train(X, y, np.zeros(40, int), np.full(40, 2.0**-13))
    assert session.logits(X) > before


@pytest.mark.parametrize("hidden", ["relu", "tanh"])
def test_a_network_learns_about_as_well(backend: Backend, hidden: str):
    (X, y), (X_test, y_test) = load_digits()
    scores = {}
    for precision in ("full", "bfloat16"):
        network = MLP([64, 48, 10], hidden, seed=3, precision=precision)
        trainer = Trainer(network, optimizer=Adam(0.005), seed=1, backend=backend)
        trainer.fit(X, y, 12, verbose=False)
        scores[precision] = np.mean(trainer.predict(X_test) == y_test)
    assert scores["full"] > 0.9
    assert abs(scores["bfloat16"] - scores["full"]) < 0.02


# Files ---------------------------------------------------------------------------------------


def description_of(path: Path) -> dict:
    content = path.read_bytes()
    (size,) = struct.unpack_from("<Q", content)
    return json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["fastmlp"])


@pytest.mark.parametrize("scaling_layer", [False, True])
def test_a_model_file_keeps_it(tmp_path: Path, scaling_layer: bool):
    network = make_network(scaling_layer=scaling_layer)
    network.save(tmp_path / "a.safetensors")
    twin = MLP.load(tmp_path / "a.safetensors")
    assert (twin.precision, twin.scaling_layer) == ("bfloat16", scaling_layer)
    X = make_data(33)[0]
    np.testing.assert_array_equal(twin.logits(X), network.logits(X))
    assert description_of(tmp_path / "a.safetensors")["version"] == 4


def test_networks_of_full_precision_are_files_that_earlier_versions_read(tmp_path: Path):
    make_network(precision="full").save(tmp_path / "a.safetensors")
    description = description_of(tmp_path / "a.safetensors")
    assert description["version"] == 1
    assert "precision" not in description


#: What a description of a file with another precision cannot say.
DAMAGES = {
    "an unknown precision": lambda d: d.update(precision="float8"),
    "no word of it": lambda d: d.pop("precision"),
    "full precision": lambda d: d.update(precision="full"),
    "float64": lambda d: d.update(dtype="float64"),
    "an earlier version": lambda d: d.update(version=1),
    "no members": lambda d: d.update(n_members=0),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_files_are_refused(damage, tmp_path: Path):
    path = tmp_path / "a.safetensors"
    make_network().save(path)
    path.write_bytes(changed(damage)(path.read_bytes()))
    with pytest.raises(ModelFileError, match="is damaged or no model file"):
        MLP.load(path)


def test_show_tells_of_it(tmp_path: Path, capsys):
    make_network().save(tmp_path / "a.safetensors")
    assert main(["show", str(tmp_path / "a.safetensors")]) == 0
    assert re.search(r"precision: +bfloat16", capsys.readouterr().out)


def test_networks_pickled_by_earlier_versions_are_in_full():
    state = make_network(precision="full").__getstate__()
    del state["precision"]
    older = MLP.__new__(MLP)
    older.__setstate__(state)
    assert older.copy().precision == "full"


def test_files_of_ensembles_keep_it(tmp_path: Path):
    ensemble = Ensemble(make_network(), 3, backend="numpy")
    ensemble.save(tmp_path / "a.safetensors")
    twin = Ensemble.load(tmp_path / "a.safetensors", backend="numpy")
    assert twin.members[2].network.precision == "bfloat16"
    X = make_data(33)[0]
    np.testing.assert_array_equal(twin.member_outputs(X), ensemble.member_outputs(X))
    with pytest.raises(ModelFileError, match="holds an ensemble of 3"):
        MLP.load(tmp_path / "a.safetensors")


def test_a_run_goes_on_from_a_checkpoint_with_the_same_bits(tmp_path: Path, backend: Backend):
    X, y = make_data(33)

    def make(precision: str = "bfloat16") -> Trainer:
        return Trainer(make_network(precision=precision), batch_size=16, backend=backend)

    whole, first, second = make(), make(), make()
    whole.fit(X, y, 4, verbose=False)
    first.fit(X, y, 2, verbose=False)
    first.save_checkpoint(tmp_path / "run.npz")
    second.load_checkpoint(tmp_path / "run.npz")
    second.fit(X, y, 2, verbose=False)
    np.testing.assert_array_equal(second.network.parameters, whole.network.parameters)
    with pytest.raises(CheckpointError, match="precision bfloat16, but this trainer has full"):
        make("full").load_checkpoint(tmp_path / "run.npz")
