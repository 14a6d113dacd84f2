"""The scaling layer: a learned factor for every input, in front of the first weight layer."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest

from fastmlp import (
    LBFGS,
    MLP,
    SGD,
    Adam,
    AdamW,
    Predictor,
    RateFactors,
    Regularization,
    Trainer,
)
from fastmlp.backends import Backend, get_backend
from fastmlp.network import layer_views, scale_view
from fastmlp.optimizers import OPTIMIZERS, Optimizer

SIZES = [4, 6, 5, 3]


def make_network(sizes=SIZES, hidden="tanh", dtype="float64", **options) -> MLP:
    """Return a network with a scaling layer whose factors are all different."""
    network = MLP(sizes, hidden, dtype=dtype, scaling_layer=True, **options)
    network.scale = np.linspace(0.5, 2.0, network.n_inputs)
    return network


def make_rows(n_rows: int = 10, n_columns: int = 4):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n_rows, n_columns)), rng.integers(0, 3, n_rows)


# The network ---------------------------------------------------------------------------------


def test_factors_start_at_one_and_change_nothing():
    plain, scaled = MLP(SIZES, seed=3), MLP(SIZES, seed=3, scaling_layer=True)
    assert plain.scale is None
    assert not plain.scaling_layer
    np.testing.assert_array_equal(scaled.scale, np.ones(4, np.float32))
    assert scaled.n_parameters == plain.n_parameters + 4 == scaled.parameters.size
    X = make_rows()[0]
    np.testing.assert_array_equal(scaled.logits(X), plain.logits(X))


def test_factors_are_a_view_of_the_last_parameters():
    network = make_network()
    np.testing.assert_array_equal(network.parameters[-4:], network.scale)
    assert np.shares_memory(network.parameters, network.scale)
    network.parameters[-4:] = 7
    np.testing.assert_array_equal(network.scale, 7)
    network.scale[1] = 3
    assert network.parameters[-3] == 3
    for number, weights in enumerate(MLP(SIZES).weights):
        assert network.weights[number].shape == weights.shape


def test_rows_are_multiplied_by_the_factors():
    network, X = make_network(input_scale=0.5), make_rows()[0]
    plain = MLP(SIZES, "tanh", dtype="float64", input_scale=0.5)
    plain.parameters = network.parameters[:-4]
    np.testing.assert_allclose(network.logits(X), plain.logits(X * network.scale), rtol=1e-12)


@pytest.mark.parametrize(
    "duplicate",
    [lambda net: pickle.loads(pickle.dumps(net)), copy.copy, copy.deepcopy, MLP.copy],
    ids=["pickle", "copy.copy", "copy.deepcopy", "MLP.copy"],
)
def test_a_copy_has_factors_of_its_own(duplicate):
    network = make_network()
    twin = duplicate(network)
    np.testing.assert_array_equal(twin.scale, network.scale)
    twin.scale = [0, 0, 0, 0]
    assert np.all(network.scale)
    assert repr(twin) == repr(network)
    assert repr(network).endswith("scaling_layer=True)")


def test_a_network_pickled_before_there_were_scaling_layers_has_none():
    network = MLP(SIZES)
    state = {k: v for k, v in network.__getstate__().items() if k != "scaling_layer"}
    older = MLP.__new__(MLP)
    older.__setstate__(state)
    assert older.scale is None
    assert older.n_parameters == network.n_parameters


def test_what_does_not_fit_the_factors_is_refused():
    network = make_network()
    kept = network.parameters.copy()
    for values in ([1, 2, 3], 2.0, ["a"] * 4):
        with pytest.raises(ValueError, match=r"scale must hold numbers of shape \(4,\)"):
            network.scale = values
    with pytest.raises(ValueError, match="masked"):
        network.scale = np.ma.array([1.0, 2, 3, 4], mask=[1, 0, 0, 0])
    np.testing.assert_array_equal(network.parameters, kept)
    with pytest.raises(ValueError, match="no scaling layer; make it with scaling_layer=True"):
        MLP(SIZES).scale = [1, 2, 3, 4]
    with pytest.raises(AttributeError, match="scaling_layer is fixed"):
        network.scaling_layer = False
    with pytest.raises(TypeError, match="scaling_layer"):
        MLP(SIZES, scaling_layer=1)


def test_the_summary_counts_the_factors(capsys):
    make_network().summary()
    assert "scale  4" in capsys.readouterr().out


# Training ------------------------------------------------------------------------------------


def step_of(backend: Backend, regularization: Regularization, optimizer=None):
    """Return a network, and the state after one step of training."""
    network = make_network()
    session = backend.bind(network, None, optimizer, regularization)
    gradient = np.zeros(session.n_parameters)
    session.update(gradient, 0.1)
    return network, session.store()


def factors_of(flat):
    return scale_view(flat, MLP(SIZES).layer_shapes)


def test_penalties_and_limits_of_norms_leave_the_factors_alone(backend: Backend):
    network = make_network()
    X, y = make_rows()
    plain, penalized = (
        backend.bind(network, None, None, r) for r in (Regularization(), Regularization(1.0, 2.0))
    )
    gradients = [np.empty(network.n_parameters) for _ in range(2)]
    plain.loss_and_gradient(X, y, gradients[0])
    penalized.loss_and_gradient(X, y, gradients[1])
    np.testing.assert_array_equal(factors_of(gradients[0]), factors_of(gradients[1]))
    assert not np.allclose(gradients[0][:24], gradients[1][:24])
    without = MLP(SIZES, "tanh", dtype="float64")
    without.parameters = network.parameters[:-4]
    same = backend.bind(without, None, None, Regularization(1.0, 2.0))
    assert penalized.penalty() == pytest.approx(same.penalty())
    before, state = step_of(backend, Regularization(max_norm=0.01))
    np.testing.assert_array_equal(factors_of(state.parameters), before.scale)


def test_weights_decay_and_averages_take_the_factors_in(backend: Backend):
    before, state = step_of(backend, Regularization(ema=0.5), AdamW(weight_decay=0.5))
    wanted = 0.95 * before.scale
    np.testing.assert_allclose(factors_of(state.parameters), wanted, rtol=1e-12)
    np.testing.assert_allclose(factors_of(state.average), (before.scale + wanted) / 2, rtol=1e-12)


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_factors_have_a_rate_of_their_own(backend: Backend, optimizer: Optimizer):
    X, y = make_rows(40)

    def trained(scale: float) -> MLP:
        network = make_network()
        own = replace(optimizer, rate_factors=RateFactors(0.0, 0.0, scale))
        Trainer(network, optimizer=own, batch_size=40, backend=backend).fit(X, y, 1, verbose=False)
        return network

    start, frozen, slow, fast = make_network(), trained(0.0), trained(0.5), trained(1.0)
    np.testing.assert_array_equal(frozen.parameters, start.parameters)
    np.testing.assert_array_equal(slow.parameters[:-4], start.parameters[:-4])
    changes = fast.scale - start.scale
    assert np.all(changes)
    np.testing.assert_allclose(slow.scale - start.scale, changes / 2, rtol=1e-9)


@pytest.mark.parametrize("rate_factors", [None, RateFactors(0.5, (0.1, 2.0, 1.0), 6.0)], ids=str)
def test_the_layer_learns_as_one_of_pytorch_does(backend: Backend, rate_factors):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle, and not installed")
    torch.set_num_threads(1)
    network = make_network()
    X, y = make_rows(60)
    factors = RateFactors() if rate_factors is None else rate_factors
    scale, *layers = (
        torch.tensor(part, requires_grad=True)
        for part in (network.scale, *network.weights, *network.biases)
    )
    weights, biases = layers[:3], layers[3:]
    of_weights, of_biases = factors.of_layers(3)
    rates = [*of_weights, *of_biases, factors.scale]
    groups = [{"params": [p], "lr": 0.01 * f} for p, f in zip([*layers, scale], rates, strict=True)]
    peer = torch.optim.AdamW(groups, lr=0.01, weight_decay=0.1)
    for start in range(0, 60, 10):
        a = torch.tensor(X[start : start + 10]) * scale
        for layer in range(3):
            a = (torch.tanh(a) if layer else a) @ weights[layer] + biases[layer]
        peer.zero_grad()
        torch.nn.functional.cross_entropy(a, torch.tensor(y[start : start + 10])).backward()
        peer.step()

    optimizer = AdamW(0.01, weight_decay=0.1, rate_factors=rate_factors)
    session = backend.bind(network, None, optimizer, batch_size=10)
    session.train(X, y, np.arange(60), np.full(6, 0.01))
    found = session.store().parameters
    np.testing.assert_allclose(factors_of(found), scale.detach().numpy(), rtol=1e-9)
    ours = np.concatenate([w.ravel() for w in layer_views(found, network.layer_shapes)[0]])
    theirs = np.concatenate([w.detach().numpy().ravel() for w in weights])
    np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(
    "regularization", [Regularization(clip_value=0.02), Regularization(clip_norm=0.5)], ids=str
)
def test_clipping_takes_the_factors_in(backend: Backend, regularization: Regularization):
    network = make_network()
    session = backend.bind(network, None, SGD(), regularization)
    gradient = np.random.default_rng(1).normal(size=network.n_parameters)
    gradient[-4:] *= 10
    clipped = np.clip(gradient, -0.02, 0.02)
    if regularization.clip_norm is not None:
        clipped = gradient * 0.5 / np.linalg.norm(gradient)
    session.update(gradient, 1.0)
    np.testing.assert_allclose(
        session.store().parameters, network.parameters - clipped, rtol=1e-12, atol=1e-12
    )


def test_training_finds_out_which_inputs_matter(backend: Backend):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 6))
    y = np.sin(2 * X[:, 0]) + 2 * X[:, 1]
    network = MLP([6, 32, 1], "tanh", "linear", dtype="float64", scaling_layer=True)
    regularization = Regularization(l2=0.003)
    trainer = Trainer(network, "mse", Adam(0.01), backend=backend, regularization=regularization)
    trainer.fit(X, y, 30, verbose=False)
    sizes = np.abs(network.scale)
    assert sizes[:2].min() > 1.2 * sizes[2:].max()


def test_backends_agree_over_a_training():
    networks = [make_network(dtype="float64", seed=1) for _ in range(2)]
    X, y = make_rows(64)
    for network, name in zip(networks, ("numpy", "numba"), strict=True):
        trainer = Trainer(network, optimizer=Adam(0.01), batch_size=8, backend=get_backend(name))
        trainer.fit(X, y, 10, verbose=False)
    np.testing.assert_allclose(networks[1].parameters, networks[0].parameters, rtol=1e-7)
    assert not np.allclose(networks[0].scale, make_network().scale)


@pytest.mark.parametrize("scaling_layer", [False, True])
def test_full_batches_train_the_factors_too(backend: Backend, scaling_layer: bool):
    network = MLP(SIZES, "tanh", dtype="float64", scaling_layer=scaling_layer)
    X, y = make_rows(40)
    trainer = Trainer(
        network, optimizer=LBFGS(), backend=backend, regularization=Regularization(l2=0.1)
    )
    trainer.fit(X, y, 200, verbose=False)
    session = get_backend("numpy").bind(network, None, None, Regularization(l2=0.1))
    gradient = np.empty(network.n_parameters)
    session.loss_and_gradient(X, y, gradient)
    assert np.abs(gradient).max() < 1e-4
    assert (network.scale is None) != scaling_layer


def test_predictors_and_single_rows_know_the_factors(backend: Backend):
    network, X = make_network(dtype="float32"), make_rows()[0].astype(np.float32)
    predictor = Predictor(network, backend=backend)
    expected = network.predict_proba(X)
    np.testing.assert_allclose(predictor.predict_proba(X), expected, rtol=1e-5)
    np.testing.assert_allclose(predictor.predict_proba(X[0]), expected[0], rtol=1e-5)
    network.scale = [1, 0, 0, 0]
    np.testing.assert_allclose(
        Predictor(network, backend=backend).predict_proba(X), network.predict_proba(X), rtol=1e-5
    )
    assert not np.allclose(network.predict_proba(X), expected)
