"""Factors on the learning rate: what they mean, in every optimizer, backend and file."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmlp import (
    LBFGS,
    MLP,
    SGD,
    Adam,
    AdamW,
    CheckpointError,
    Lion,
    RateFactors,
    Regularization,
    RMSprop,
    Trainer,
    testing,
)
from fastmlp.backends import Backend, get_backend
from fastmlp.optimizers import OPTIMIZERS, Optimizer

SIZES = (3, 5, 4, 2)
FACTORS = RateFactors((0.5, 0.0, 2.0), (0.1, 3.0, 0.0))
RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 3))
Y = RNG.integers(0, 2, 30)

every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)


def with_factors(optimizer: Optimizer, *factors) -> Optimizer:
    return replace(optimizer, rate_factors=RateFactors(*factors))


def trained(backend: Backend, optimizer: Optimizer, n_epochs: int = 3, **options) -> MLP:
    network = MLP(SIZES, dtype="float64", seed=1)
    trainer = Trainer(network, optimizer=optimizer, batch_size=8, backend=backend, **options)
    trainer.fit(X, Y, n_epochs, verbose=False)
    return network


# What they mean ------------------------------------------------------------------------------


@every_optimizer
def test_factors_of_1_change_no_bit(backend: Backend, optimizer: Optimizer):
    plain = trained(backend, optimizer).parameters
    np.testing.assert_array_equal(
        trained(backend, with_factors(optimizer, 1.0, (1.0, 1.0, 1.0))).parameters, plain
    )


@every_optimizer
def test_a_factor_for_all_is_another_rate(backend: Backend, optimizer: Optimizer):
    halved = replace(optimizer, learning_rate=optimizer.learning_rate / 2)
    np.testing.assert_allclose(
        trained(backend, with_factors(optimizer, 0.5, 0.5)).parameters,
        trained(backend, halved).parameters,
        rtol=1e-12,
    )


@every_optimizer
def test_a_factor_of_0_freezes(backend: Backend, optimizer: Optimizer):
    if hasattr(optimizer, "weight_decay"):
        optimizer = replace(optimizer, weight_decay=0.1)
    start = MLP(SIZES, dtype="float64", seed=1)
    network = trained(backend, with_factors(optimizer, (0.0, 1.0, 1.0), (1.0, 0.0, 1.0)))
    np.testing.assert_array_equal(network.weights[0], start.weights[0])
    np.testing.assert_array_equal(network.biases[1], start.biases[1])
    for changed in (1, 2):
        assert np.all(network.weights[changed] != start.weights[changed])
    for changed in (0, 2):
        assert np.any(network.biases[changed] != start.biases[changed])


PEERS = [
    (SGD(0.05, momentum=0.9), "SGD", {"momentum": 0.9}),
    (SGD(0.05, 0.9, True, 0.1), "SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    (Adam(0.01, weight_decay=0.1), "Adam", {"weight_decay": 0.1}),
    (AdamW(0.01, weight_decay=0.3), "AdamW", {"weight_decay": 0.3}),
    (RMSprop(0.01, momentum=0.9), "RMSprop", {"momentum": 0.9}),
]


@pytest.mark.parametrize("clip_norm", [None, 0.3])
@pytest.mark.parametrize(("optimizer", "kind", "options"), PEERS, ids=[str(p[0]) for p in PEERS])
def test_factors_are_those_of_pytorchs_parameter_groups(
    backend: Backend, optimizer: Optimizer, kind: str, options: dict, clip_norm: float | None
):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle, and not installed")
    torch.set_num_threads(1)
    network = MLP(SIZES, "tanh", dtype="float64", seed=1)
    pairs = zip(network.weights, network.biases, strict=True)
    peers = [torch.tensor(part, requires_grad=True) for pair in pairs for part in pair]
    factors = [f for pair in zip(FACTORS.weights, FACTORS.biases, strict=True) for f in pair]
    rate = optimizer.learning_rate
    groups = [{"params": [p], "lr": f * rate} for p, f in zip(peers, factors, strict=True)]
    theirs = getattr(torch.optim, kind)(groups, lr=rate, **options)
    for start in range(0, 5 * len(X), 10):
        rows = np.arange(start, start + 10) % len(X)
        a = torch.tensor(X[rows])
        for layer in range(0, len(peers), 2):
            a = (torch.tanh(a) if layer else a) @ peers[layer] + peers[layer + 1]
        theirs.zero_grad()
        torch.nn.functional.cross_entropy(a, torch.tensor(Y[rows])).backward()
        if clip_norm is not None:
            norm = np.sqrt(sum(float((p.grad**2).sum()) for p in peers))
            for p in peers:
                p.grad *= min(1.0, clip_norm / norm)
        theirs.step()

    session = backend.bind(
        network,
        None,
        replace(optimizer, rate_factors=FACTORS),
        Regularization(clip_norm=clip_norm),
        batch_size=10,
    )
    order = np.tile(np.arange(len(X)), 5)
    session.train(X, Y, order, np.full(15, rate))

    expected = np.concatenate([p.detach().numpy().ravel() for p in peers])
    np.testing.assert_allclose(session.store().parameters, expected, rtol=1e-8, atol=1e-10)


factor = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.01, 4.0))


@st.composite
def cases(draw) -> testing.Setting:
    """Draw any optimizer with factors, and a network, rows and clipping to use it with."""
    sizes = tuple(draw(st.lists(st.integers(1, 40), min_size=2, max_size=4)))
    each = st.tuples(*[factor] * (len(sizes) - 1))
    factors = RateFactors(draw(st.one_of(factor, each)), draw(st.one_of(factor, each)))
    return testing.Setting(
        sizes,
        optimizer=replace(draw(st.sampled_from(testing.OPTIMIZER_CASES)), rate_factors=factors),
        regularization=Regularization(clip_norm=draw(st.sampled_from([None, 0.1]))),
        rows=draw(st.sampled_from(["dense", "blank first"])),
        dtype=draw(st.sampled_from(["float32", "float64"])),
        seed=draw(st.integers(0, 1000)),
    )


@settings(max_examples=40, deadline=None)
@given(case=cases(), check=st.sampled_from(["update", "epoch", "bits"]))
def test_the_numba_backend_computes_what_the_reference_does(case: testing.Setting, check: str):
    testing.check_case("numba", testing.Case("factors", check, case))


@dataclass(frozen=True)
class Own(Optimizer):
    """Takes note of the rates that it is given."""

    name = "own"

    def update(self, parameters, gradient, moments, learning_rate, step):
        seen.append(learning_rate)
        parameters -= learning_rate * gradient


seen: list = []


def test_an_optimizer_of_ones_own_is_given_a_number_where_there_are_no_factors():
    seen.clear()
    trained(get_backend("numpy"), Own(0.1), 1)
    assert seen == [0.1] * 4


def test_an_optimizer_of_ones_own_is_given_every_parameters_rate():
    seen.clear()
    trained(get_backend("numpy"), Own(0.1, rate_factors=FACTORS), 1)
    expected = 0.1 * FACTORS.of_parameters([(3, 5), (5, 4), (4, 2)], np.dtype("float64"))
    np.testing.assert_array_equal(seen[0], expected)
    assert expected.tolist() == [
        *([0.05] * 15 + [0.1 * 0.1] * 5),
        *([0.0] * 20 + [0.1 * 3.0] * 4),
        *([0.2] * 8 + [0.0] * 2),
    ]


def test_an_estimator_takes_them():
    sklearn = pytest.importorskip("fastmlp.sklearn")
    optimizer = with_factors(Adam(0.01), (0.0, 1.0), 1.0)
    model = sklearn.MLPClassifier((4,), optimizer=optimizer, max_iter=5, tol=0, random_state=0)
    with pytest.warns(match="Maximum iterations"):
        first = model.fit(X, Y).coefs_[0].copy()
    assert np.array_equal(model.partial_fit(X, Y).coefs_[0], first)
    assert model.loss_curve_[-1] != model.loss_curve_[0]


# What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: RateFactors(weights=-0.1), ValueError, "of weights must be at least 0, got -0.1"),
        (lambda: RateFactors(biases=(1, np.inf)), ValueError, "of biases must be .*got inf"),
        (lambda: RateFactors([1.0, np.nan]), ValueError, "of weights must be .*got nan"),
        (lambda: RateFactors(scale=-1), ValueError, "factor of scale must be at least 0, got -1"),
        (lambda: RateFactors("fast"), TypeError, "of weights must be a number, got 'fast'"),
        (lambda: RateFactors(True), TypeError, "of weights must be a number, got True"),
        (lambda: SGD(rate_factors=0.5), TypeError, "must be RateFactors or None, got 0.5"),
        (lambda: SGD(0.1, 0.9, False, 0.0, FACTORS), TypeError, "positional argument"),
        (lambda: LBFGS(rate_factors=FACTORS), TypeError, "unexpected keyword .*'rate_factors'"),
    ],
)
def test_bad_factors(make, kind: type[Exception], message: str):
    with pytest.raises(kind, match=message):
        make()


@pytest.mark.parametrize("factors", [RateFactors((1.0, 0.5)), RateFactors(1.0, (1.0,) * 4)])
def test_factors_of_another_number_of_layers(backend: Backend, factors: RateFactors):
    optimizer = SGD(rate_factors=factors)
    network = MLP(SIZES)
    message = r"rate factors of (weights|biases) as a tuple need 3 numbers, .* got [24]"
    with pytest.raises(ValueError, match=message):
        backend.bind(network, None, optimizer)
    with pytest.raises(ValueError, match=message):
        Trainer(network, optimizer=optimizer, backend=backend)
    trainer = Trainer(network, optimizer=SGD(), backend=backend)
    with pytest.raises(ValueError, match=message):
        trainer.optimizer = optimizer
    assert trainer.optimizer == SGD()


# What is told, and kept ----------------------------------------------------------------------


def test_an_optimizer_shows_its_factors_where_it_has_some():
    assert repr(SGD(0.5)) == (
        "SGD(learning_rate=0.5, momentum=0.0, nesterov=False, weight_decay=0.0)"
    )
    shown = repr(Lion(0.5, rate_factors=FACTORS))
    assert "rate_factors=RateFactors(weights=(0.5, 0.0, 2.0)" in shown
    assert eval(shown) == Lion(0.5, rate_factors=FACTORS)


def test_lists_and_arrays_of_factors_are_tuples():
    made = RateFactors([1.0, 0.5], np.array([0.5, 2.0]))
    assert made == RateFactors((1.0, 0.5), (0.5, 2.0))
    assert hash(made) == hash(RateFactors((1.0, 0.5), (0.5, 2.0)))


def test_an_optimizer_pickled_before_there_were_factors_has_none():
    old = SGD(0.5)
    vars(old).pop("rate_factors")
    assert pickle.loads(pickle.dumps(old)) == SGD(0.5)


def trainer_with(optimizer: Optimizer) -> Trainer:
    return Trainer(MLP(SIZES, seed=2), optimizer=optimizer, batch_size=8, backend="numpy")


def test_a_checkpoint_goes_on_with_the_same_factors_alone(tmp_path: Path):
    path = tmp_path / "run.npz"
    whole = trainer_with(Adam(rate_factors=FACTORS))
    whole.fit(X, Y, 2, verbose=False)
    whole.save_checkpoint(path)
    whole.fit(X, Y, 2, verbose=False)
    resumed = trainer_with(Adam(rate_factors=FACTORS))
    resumed.load_checkpoint(path)
    resumed.fit(X, Y, 2, verbose=False)
    np.testing.assert_array_equal(resumed.network.parameters, whole.network.parameters)
    for other in (Adam(), Adam(rate_factors=replace(FACTORS, biases=1.0))):
        with pytest.raises(CheckpointError, match=r"was saved with optimizer .*RateFactors.*, but"):
            trainer_with(other).load_checkpoint(path)


def test_a_checkpoint_from_before_there_were_factors_has_none(tmp_path: Path):
    from fastmlp.checkpoint import read_checkpoint, write_checkpoint

    path = tmp_path / "run.npz"
    trainer_with(SGD()).save_checkpoint(path)
    content = read_checkpoint(path)
    assert content["settings"]["optimizer"].pop("rate_factors") is None
    write_checkpoint(path, content)
    trainer_with(SGD()).load_checkpoint(path)
    with pytest.raises(CheckpointError, match="was saved with optimizer"):
        trainer_with(SGD(rate_factors=RateFactors())).load_checkpoint(path)


def test_a_model_file_tells_of_them(tmp_path: Path):
    pytest.importorskip("safetensors")
    for optimizer in (SGD(0.5), SGD(0.5, rate_factors=FACTORS)):
        trainer = trainer_with(optimizer)
        trainer.fit(X, Y, 1, verbose=False)
        trainer.network.save(tmp_path / "model.safetensors")
        training = MLP.load(tmp_path / "model.safetensors").training
        assert ("RateFactors(" in training["optimizer"]) == (optimizer.rate_factors is not None)
        assert "None" not in training["optimizer"]


def test_an_estimators_file_holds_them(tmp_path: Path):
    pytest.importorskip("safetensors")
    sklearn = pytest.importorskip("fastmlp.sklearn")
    optimizer = with_factors(AdamW(0.01), (0.5, 2.0), 0.1)
    model = sklearn.MLPClassifier((4,), optimizer=optimizer, max_iter=2, random_state=0)
    with pytest.warns(match="Maximum iterations"):
        model.fit(X, Y)
    model.save(tmp_path / "model.safetensors")
    assert sklearn.MLPClassifier.load(tmp_path / "model.safetensors").optimizer == optimizer


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"kind": "RateFactors", "weights": -1}, r"rate_factors is no RateFactors: .*at least 0"),
        ({"kind": "RateFactors", "speed": 1}, "has 'speed', which no RateFactors has"),
        ({"kind": "Adam"}, "rate_factors.kind is 'Adam', but must be one of 'RateFactors'"),
        ({"kind": "RateFactors", "scale": {"kind": "RateFactors"}}, "rate_factors.scale is"),
        (0.5, "is no SGD: rate_factors must be RateFactors or None"),
    ],
)
def test_a_file_of_ones_own_making_is_looked_through(factors, message: str):
    from fastmlp._settings import recreated

    content = json.loads(json.dumps({"kind": "SGD", "rate_factors": factors}))
    with pytest.raises(ValueError, match=message):
        recreated(content, {"SGD": SGD})


def test_the_command_line_knows_no_words_for_them(capsys):
    from fastmlp.cli import main

    assert main(["train", "--data", "digits", "--optimizer", "sgd", "rate_factors=2"]) != 0
    assert "--optimizer sgd has no rate factors" in capsys.readouterr().err
