from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmlp import MLP, SGD, Adam, Regularization
from fastmlp.backends import Backend, Session, get_backend
from fastmlp.regularization import (
    DividedL2,
    dropout_mask,
    gaussian_noise,
    mix,
    random_bits,
    stream_key,
)

SEEDS = st.integers(0, 2**40)


def make_session(backend: Backend, regularization: Regularization, **options) -> Session:
    network = MLP([4, 6, 5, 3], "tanh", dtype="float64")
    network.parameters += 0.1
    return backend.bind(network, None, SGD(0.1), regularization, **options)


def make_data(n_samples: int = 8):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n_samples, 4)), np.arange(n_samples) % 3


def loss_and_gradient(session: Session):
    gradient = np.full(session.n_parameters, np.nan, session.dtype)
    return session.loss_and_gradient(*make_data(), gradient), gradient


# Penalties -----------------------------------------------------------------------------------


def test_penalties_are_those_of_the_weights_without_biases(backend):
    network = MLP([4, 6, 5, 3], dtype="float64")
    network.biases[0][:] = 100
    session = backend.bind(network, regularization=Regularization(l1=0.3, l2=0.2))
    w = np.concatenate([w.ravel() for w in network.weights])
    assert session.penalty() == pytest.approx(0.3 * np.abs(w).sum() + 0.1 * (w**2).sum())


def test_penalties_add_to_loss_and_gradient(backend):
    plain, plain_gradient = loss_and_gradient(make_session(backend, Regularization()))
    session = make_session(backend, Regularization(l1=0.3, l2=0.2))
    loss, gradient = loss_and_gradient(session)
    assert loss == pytest.approx(plain + session.penalty())
    network = MLP([4, 6, 5, 3], dtype="float64")
    network.parameters = session.store().parameters
    for w in network.weights:
        w[:] = 0.3 * np.sign(w) + 0.2 * w
    for b in network.biases:
        b[:] = 0
    np.testing.assert_allclose(gradient - plain_gradient, network.parameters, atol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_divided_penalty_is_that_of_each_batch(backend, weighted: bool):
    X, y = make_data(11)
    weights = np.linspace(0.5, 2, 11) if weighted else None
    session = make_session(backend, DividedL2(l1=0.1, l2=3.0), batch_size=4)
    penalties = np.full(3, np.nan)
    session.train(X, y, np.arange(11), np.full(3, 0.1), weights, penalties=penalties)
    by_hand = make_session(backend, Regularization(), batch_size=4)
    for batch, rows in enumerate((slice(0, 4), slice(4, 8), slice(8, 11))):
        total = len(y[rows]) if weights is None else weights[rows].sum()
        state = by_hand.store()
        l2 = Regularization(l1=0.1, l2=3.0 / total)
        one = make_session(backend, l2, batch_size=4)
        one.load(state)
        assert penalties[batch] == pytest.approx(one.penalty(), rel=1e-12)
        one.train(X[rows], y[rows], np.arange(len(y[rows])), [0.1], _part(weights, rows))
        by_hand.load(one.store())
    np.testing.assert_allclose(
        session.store().parameters, by_hand.store().parameters, rtol=1e-12, atol=1e-14
    )


def _part(weights, rows):
    return None if weights is None else weights[rows]


def test_a_batch_without_weight_has_no_divided_penalty(backend):
    session = make_session(backend, DividedL2(l2=3.0))
    before = session.store().parameters
    penalties = np.full(1, np.nan)
    session.train(*make_data(), np.arange(8), [0.1], np.zeros(8), penalties=penalties)
    np.testing.assert_array_equal(session.store().parameters, before)
    assert penalties[0] == 0


@pytest.mark.parametrize("n_threads", [1, 2, 3])
@pytest.mark.parametrize("sizes", [[784, 20, 3], [30, 600, 300, 3], [5, 3]], ids=str)
def test_reported_penalties_do_not_depend_on_threads(sizes, n_threads: int):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(50, sizes[0])), rng.integers(0, 3, 50)
    found = []
    for backend, n in (("numpy", 1), ("numba", 1), ("numba", n_threads)):
        network = MLP(sizes, dtype="float64")
        given = (None, SGD(0.1), Regularization(l1=0.01, l2=0.1))
        session = get_backend(backend).bind(network, *given, batch_size=20, n_threads=n)
        found.append(np.full(3, np.nan))
        session.train(X, y, np.arange(50), np.full(3, 0.1), penalties=found[-1])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-12)
    np.testing.assert_array_equal(found[2], found[1])


def test_penalties_of_another_length_are_refused(backend):
    session = make_session(backend, Regularization())
    with pytest.raises(
        ValueError, match=r"penalties must be float64 of shape \(1,\), got .* \(2,\)"
    ):
        session.train(*make_data(), np.arange(8), [0.1], penalties=np.empty(2))


def test_the_losses_of_training_are_without_penalties(backend):
    X, y = make_data()
    losses = [
        make_session(backend, regularization).train(X, y, np.arange(8), np.array([0.1]))
        for regularization in (Regularization(), Regularization(l1=1, l2=1))
    ]
    np.testing.assert_allclose(*losses, rtol=1e-12)


# Dropout and noise ---------------------------------------------------------------------------


# A subnormal share would underflow in the test's own deviation.
@given(
    rate=st.floats(0, 0.95, allow_subnormal=False),
    seed=SEEDS,
    step=st.integers(0, 2**40),
    layer=st.integers(0, 20),
)
def test_a_mask_drops_its_share_and_keeps_the_mean(rate: float, seed: int, step: int, layer: int):
    mask = dropout_mask(rate, seed, step, layer, (200, 200), np.float32)
    assert mask.dtype == np.float32
    assert set(np.unique(mask)) <= {np.float32(0), np.float32(1 / (1 - rate))}
    deviation = np.sqrt(rate * (1 - rate) / mask.size)
    assert np.mean(mask == 0) == pytest.approx(rate, abs=6 * deviation)


@given(seed=SEEDS, step=st.integers(0, 1000), layer=st.integers(0, 20))
def test_masks_depend_on_seed_step_and_layer(seed: int, step: int, layer: int):
    def mask(seed: int, step: int, layer: int):
        return dropout_mask(0.5, seed, step, layer, (50, 50), np.float32)

    first = mask(seed, step, layer)
    np.testing.assert_array_equal(first, mask(seed, step, layer))
    others = [
        mask(seed + 1, step, layer),
        mask(seed + 2**32, step, layer),
        mask(seed, step + 1, layer),
        mask(seed, step, layer + 1),
    ]
    for other in others:
        # Independent fair coins agree in half the places: 25 standard deviations of 0.01.
        assert np.mean(first == other) == pytest.approx(0.5, abs=0.06)


@given(key=st.integers(0, 2**32 - 1))
def test_the_hash_of_numbers_and_of_arrays_is_one_without_collisions(key: int):
    """Changing it would change every seeded run."""
    assert [mix(0), mix(1), mix(2)] == [0, 1753845952, 3507691905]
    bits = random_bits(key, 100, 100).ravel()
    assert bits[:10].tolist() == [mix(key + i * 0x9E3779B9) for i in range(10)]
    assert len(set(bits.tolist())) == bits.size


def test_random_bits_are_uniform_along_rows_and_columns():
    bits = random_bits(stream_key(0, 0, 0), 500, 300) / 2**32
    assert bits.mean(axis=0) == pytest.approx(0.5, abs=6 / np.sqrt(12 * 500))
    assert bits.mean(axis=1) == pytest.approx(0.5, abs=6 / np.sqrt(12 * 300))
    assert np.histogram(bits, 16)[0] == pytest.approx(bits.size / 16, rel=0.05)


@given(seed=SEEDS, step=st.integers(0, 2**40))
def test_noise_is_standard_normal(seed: int, step: int):
    noise = gaussian_noise(seed, step, (200, 200), np.float32)
    assert noise.dtype == np.float32
    assert noise.mean() == pytest.approx(0, abs=6 / 200)
    assert noise.var() == pytest.approx(1, abs=6 * np.sqrt(2) / 200)
    assert np.mean(noise**4) == pytest.approx(3, abs=6 * np.sqrt(96) / 200)
    assert np.mean(noise[:, 1:] * noise[:, :-1]) == pytest.approx(0, abs=6 / 200)


def test_dropout_works_as_the_formula(backend):
    network = MLP([4, 6, 3], "tanh", "linear", dtype="float64")
    X, _ = make_data()
    y = np.zeros((8, 3))
    session = backend.bind(network, regularization=Regularization(dropout=(0.25, 0.5)), seed=9)
    first = dropout_mask(0.25, 9, 0, 0, (8, 4), np.float64)
    second = dropout_mask(0.5, 9, 0, 1, (8, 6), np.float64)
    outputs = (np.tanh(X * first @ network.weights[0]) * second) @ network.weights[1]
    loss = session.loss_and_gradient(X, y, np.empty(network.n_parameters))
    assert loss == pytest.approx(np.mean(outputs**2), rel=1e-12)


def test_noise_works_as_the_formula(backend):
    network = MLP([4, 3], output_activation="linear", dtype="float64")
    X, _ = make_data()
    session = backend.bind(network, regularization=Regularization(input_noise=0.5), seed=9)
    outputs = (X + 0.5 * gaussian_noise(9, 0, (8, 4), np.float64)) @ network.weights[0]
    loss = session.loss_and_gradient(X, np.zeros((8, 3)), np.empty(network.n_parameters))
    assert loss == pytest.approx(np.mean(outputs**2), rel=1e-10)


@pytest.mark.parametrize("name", ["dropout", "input_noise"])
def test_every_step_draws_anew_and_prediction_draws_nothing(backend, name: str):
    session = make_session(backend, Regularization(**{name: 0.5}))
    X, _ = make_data()
    np.testing.assert_allclose(
        session.logits(X), make_session(backend, Regularization()).logits(X), rtol=1e-12
    )
    before, _ = loss_and_gradient(session)
    assert loss_and_gradient(session)[0] == before
    session.update(np.zeros(session.n_parameters))
    assert loss_and_gradient(session)[0] != before


# Clipping, norms and averages ----------------------------------------------------------------


def change_after(session: Session, gradient) -> np.ndarray:
    before = session.store().parameters
    session.update(gradient.copy())
    return session.store().parameters - before


@given(limit=st.floats(0.01, 100), seed=SEEDS)
def test_clip_norm_limits_the_norm_of_the_whole_gradient(backend, limit: float, seed: int):
    session = make_session(backend, Regularization(clip_norm=limit))
    gradient = np.random.default_rng(seed).normal(size=session.n_parameters)
    norm = np.linalg.norm(gradient)
    change = change_after(session, gradient)
    np.testing.assert_allclose(change, -0.1 * gradient * min(1, limit / norm), atol=1e-12)


def test_clip_value_limits_every_element_before_clip_norm(backend):
    session = make_session(backend, Regularization(clip_value=0.5, clip_norm=1.0))
    gradient = np.random.default_rng(0).normal(size=session.n_parameters)
    clipped = np.clip(gradient, -0.5, 0.5)
    clipped /= np.linalg.norm(clipped)
    np.testing.assert_allclose(change_after(session, gradient), -0.1 * clipped, atol=1e-12)


def test_max_norm_limits_each_units_incoming_weights(backend):
    session = make_session(backend, Regularization(max_norm=0.7))
    network = MLP([4, 6, 5, 3], dtype="float64")
    network.parameters = session.store().parameters
    session.update(np.zeros(session.n_parameters))
    after = network.copy()
    after.parameters = session.store().parameters
    for w, limited in zip(network.weights, after.weights, strict=True):
        norms = np.linalg.norm(w, axis=0)
        assert norms.max() > 0.7
        np.testing.assert_allclose(limited, w * np.minimum(1, 0.7 / norms), rtol=1e-12)
    for b, kept in zip(network.biases, after.biases, strict=True):
        np.testing.assert_array_equal(b, kept)


def test_max_norm_accepts_units_without_weights(backend):
    network = MLP([4, 3])
    network.parameters[:] = 0
    session = backend.bind(network, regularization=Regularization(max_norm=1.0))
    session.update(np.zeros(network.n_parameters, np.float32))
    assert not np.any(session.store().parameters)


def test_the_average_follows_its_formula(backend):
    session = make_session(backend, Regularization(ema=0.9))
    average = session.store().parameters
    rng = np.random.default_rng(0)
    for _ in range(10):
        session.update(rng.normal(size=session.n_parameters))
        average = 0.9 * average + 0.1 * session.store().parameters
    np.testing.assert_allclose(session.store().average, average, rtol=1e-10)


@pytest.mark.parametrize("regularization", [Regularization(), Regularization(l2=1)])
def test_no_average_is_kept_unasked(backend, regularization: Regularization):
    assert make_session(backend, regularization).store().average is None


@pytest.mark.parametrize(
    "regularization",
    [
        Regularization(),
        Regularization(l1=0.01, l2=0.01, dropout=(0.1, 0.5, 0.3), input_noise=0.1),
        Regularization(clip_norm=0.5, clip_value=0.1, max_norm=1.0, ema=0.9),
    ],
    ids=["plain", "penalties and masks", "clips and average"],
)
@pytest.mark.parametrize("optimizer", [SGD(0.1), Adam()], ids=["sgd", "adam"])
def test_training_resumed_from_a_stored_state_gives_the_same_bits(
    backend, regularization: Regularization, optimizer
):
    X, y = make_data(20)
    network = MLP([4, 6, 5, 3])
    order, rates = np.random.default_rng(0).permutation(20), np.full(3, 0.1)

    def bind() -> Session:
        return backend.bind(network, None, optimizer, regularization, batch_size=8, seed=2)

    whole = bind()
    for _ in range(2):
        whole.train(X, y, order, rates)
    first, second = bind(), bind()
    first.train(X, y, order, rates)
    second.load(first.store())
    second.train(X, y, order, rates)
    for name in ("parameters", "moments", "average", "step"):
        expected, resumed = getattr(whole.store(), name), getattr(second.store(), name)
        assert np.asarray(expected).tobytes() == np.asarray(resumed).tobytes()


@pytest.mark.parametrize("given", [[0.1, 0.2], np.array([0.1, 0.2]), np.float64([0.1, 0.2])])
def test_shares_may_be_any_sequence(given):
    assert Regularization(dropout=given) == Regularization(dropout=(0.1, 0.2))
    assert hash(Regularization(dropout=given)) == hash(Regularization(dropout=(0.1, 0.2)))
    with pytest.raises(ValueError, match="needs 3 shares"):
        Regularization(dropout=given).dropout_rates(3)
