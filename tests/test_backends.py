from __future__ import annotations

import importlib
import subprocess
import sys
from importlib.metadata import EntryPoint
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmlp import MLP, SGD, Adam, Regularization
from fastmlp.activations import ACTIVATIONS
from fastmlp.backends import (
    Backend,
    Session,
    TrainingState,
    available_backends,
    backend_names,
    base,
    get_backend,
)
from fastmlp.backends.numpy_backend import NumpyBackend
from fastmlp.losses import LOSSES, CustomLoss
from fastmlp.optimizers import OPTIMIZERS

EVERYTHING = Regularization(
    l1=0.01,
    l2=0.01,
    dropout=(0.1, 0.5, 0.2),
    input_noise=0.1,
    clip_norm=1.0,
    clip_value=0.5,
    max_norm=2.0,
    ema=0.9,
)
SETTINGS = pytest.mark.parametrize(
    ("optimizer", "regularization"),
    [
        (SGD(0.1), Regularization()),
        (SGD(0.1, momentum=0.9, nesterov=True), Regularization(dropout=0.5)),
        (Adam(), EVERYTHING),
    ],
    ids=["plain", "momentum and dropout", "everything"],
)


def make_data(n_samples: int = 50, dtype="float32"):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n_samples, 4)).astype(dtype), rng.integers(0, 3, n_samples)


def bind(backend: Backend, dtype="float32", **options) -> Session:
    options = {"batch_size": 8, "seed": 1} | options
    return backend.bind(MLP([4, 7, 5, 3], dtype=dtype, seed=2), **options)


def train(session: Session, n_epochs: int = 2, **options) -> np.ndarray:
    X, y = make_data(dtype=session.dtype)
    order = np.random.default_rng(3).permutation(len(X))
    rates = np.full(-(-len(X) // session.batch_size), 0.05)
    losses = [session.train(X, y, order, rates, **options) for _ in range(n_epochs)]
    return np.concatenate(losses)


def bits(state: TrainingState) -> list[bytes | int]:
    average = b"" if state.average is None else state.average.tobytes()
    return [state.parameters.tobytes(), state.moments.tobytes(), average, state.step]


# The look-up ---------------------------------------------------------------------------------


class StrangersBackend(NumpyBackend):
    """What another package might register."""

    name = "strange"


def not_a_backend() -> str:
    return "nothing"


class Unable:
    def __init__(self) -> None:
        raise RuntimeError("needs a rocket")


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch):
    """Return a function that registers this file's objects, as an installed package would."""
    monkeypatch.setitem(sys.modules, "strangers_package", sys.modules[__name__])

    def register(**objects: str) -> None:
        found = [
            EntryPoint(name, f"strangers_package:{thing}", "fastmlp.backends")
            for name, thing in objects.items()
        ]
        monkeypatch.setattr(
            base, "entry_points", lambda group: found if group == "fastmlp.backends" else []
        )

    return register


def test_a_backend_has_a_name_and_is_found_by_it(backend: Backend):
    assert type(get_backend(backend.name)) is type(backend)
    assert repr(backend) == f"{type(backend).__name__}()"


def test_an_instance_stands_for_itself(backend: Backend):
    assert get_backend(backend) is backend


def test_auto_without_numba_is_numpy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "fastmlp.backends.numba_backend", None)
    assert isinstance(get_backend("auto"), NumpyBackend)


def test_auto_is_the_fastest_that_is_installed(backend: Backend):
    if backend.name == "numba":
        assert get_backend("auto").name == "numba"


def test_a_missing_package_is_named_and_nothing_falls_back(backend: Backend):
    if backend.name == "numpy":
        pytest.skip("NumPy is never missing")
    code = f"""
import sys
sys.modules[{backend.name!r}] = None
from fastmlp.backends import available_backends, get_backend
print(available_backends()["numpy"], available_backends()[{backend.name!r}])
try:
    get_backend({backend.name!r})
except ImportError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    reason, error = run.stdout.splitlines()
    assert reason == f"None {error}"
    assert f"install it with `pip install {backend.name}`" in error


def test_another_packages_backend_is_found_by_its_entry_point(register):
    register(strange="StrangersBackend")
    assert backend_names() == ["numpy", "numba", "jax", "strange"]
    assert isinstance(get_backend("strange"), StrangersBackend)
    assert available_backends()["strange"] is None
    train(bind(get_backend("strange")))


def test_an_installed_package_registers_by_its_metadata(tmp_path, monkeypatch):
    (tmp_path / "rocket.py").write_text(
        "from fastmlp.backends.numpy_backend import NumpyBackend\n"
        "class RocketBackend(NumpyBackend):\n"
        "    name = 'rocket'\n"
    )
    metadata = tmp_path / "rocket-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: rocket\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[fastmlp.backends]\nrocket = rocket:RocketBackend\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert get_backend("rocket").name == "rocket"
    assert "rocket" in backend_names()


def test_our_names_cannot_be_taken(register):
    register(numpy="StrangersBackend")
    assert type(get_backend("numpy")) is NumpyBackend
    assert backend_names().count("numpy") == 1


def test_what_is_no_backend_is_refused(register):
    register(strange="not_a_backend")
    with pytest.raises(TypeError, match="'strange' is not a fastmlp Backend, got 'nothing'"):
        get_backend("strange")


def test_available_backends_say_why_one_is_not(register):
    register(strange="Unable", gone="no_such_name")
    reasons = available_backends()
    assert reasons["numpy"] is None
    assert reasons["strange"] == "needs a rocket"
    assert "no_such_name" in reasons["gone"]


def test_an_unknown_name_lists_the_known_ones(register):
    register(strange="StrangersBackend")
    with pytest.raises(ValueError, match="'auto' or one of 'numpy', 'numba', 'jax', 'strange'"):
        get_backend("strnage")


# Training ------------------------------------------------------------------------------------


class RecordingSession(Session):
    """The least a backend must implement; it notes what the inherited loop asks of it."""

    def __init__(self, network: MLP, loss, optimizer, regularization, batch_size, seed) -> None:
        super().__init__(network, loss, optimizer, regularization, batch_size, seed)
        self.calls: list[tuple] = []

    def _load(self, state):
        raise NotImplementedError

    def _store(self):
        raise NotImplementedError

    def _weight_matrices(self):
        raise NotImplementedError

    def _logits(self, X):
        raise NotImplementedError

    def _loss_and_gradient(self, X, y, sample_weight, gradient, logits=None):
        weights = None if sample_weight is None else sample_weight.tolist()
        self.calls.append(("gradient", X[:, 0].tolist(), y.tolist(), weights))
        gradient[:] = len(self.calls)
        if logits is not None:
            logits[:] = len(self.calls)
        return float(len(self.calls))

    def _update(self, gradient, learning_rate):
        self.calls.append(("update", float(gradient[0]), learning_rate))


class RecordingBackend(Backend):
    name = "recording"

    def _bind(self, network, loss, optimizer, regularization, batch_size, n_threads, seed):
        return RecordingSession(network, loss, optimizer, regularization, batch_size, seed)


def test_the_inherited_loop_takes_batches_in_order_and_updates_after_each():
    session = RecordingBackend().bind(MLP([1, 2]), batch_size=2)
    X, y = np.arange(5.0)[:, None], np.array([0, 1, 0, 1, 1])
    logits = np.empty((5, 2), dtype=np.float32)
    losses = session.train(
        X, y, [4, 0, 2, 2, 1], [0.1, 0.2, 0.3], sample_weight=[1, 2, 3, 4, 5], logits=logits
    )
    assert session.calls == [
        ("gradient", [4, 0], [1, 0], [5, 1]),
        ("update", 1, 0.1),
        ("gradient", [2, 2], [0, 0], [3, 3]),
        ("update", 3, 0.2),
        ("gradient", [1], [1], [2]),
        ("update", 5, 0.3),
    ]
    assert losses.tolist() == [1, 3, 5]
    assert logits[:, 0].tolist() == [1, 1, 3, 3, 5]


@SETTINGS
def test_training_is_gradients_and_updates_in_turn(backend, optimizer, regularization):
    X, y = make_data(dtype="float64")
    options = {"optimizer": optimizer, "regularization": regularization, "dtype": "float64"}
    order = np.random.default_rng(3).permutation(50)[:45]
    rates = np.linspace(0.01, 0.1, 6)
    whole = bind(backend, **options)
    losses = whole.train(X, y, order, rates)

    by_hand = bind(backend, **options)
    gradient = np.empty(by_hand.n_parameters)
    for batch, rate in enumerate(rates):
        rows = order[8 * batch : 8 * batch + 8]
        loss = by_hand.loss_and_gradient(X[rows], y[rows], gradient) - by_hand.penalty()
        assert losses[batch] == pytest.approx(loss, rel=1e-10)
        by_hand.update(gradient, rate)

    for name in ("parameters", "moments", "average"):
        actual, expected = getattr(whole.store(), name), getattr(by_hand.store(), name)
        if expected is not None:
            np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-13)
    assert whole.store().step == by_hand.store().step == 6


@SETTINGS
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_two_equal_calls_give_equal_bits(backend, optimizer, regularization, dtype: str):
    first, second = (
        bind(backend, dtype, optimizer=optimizer, regularization=regularization) for _ in range(2)
    )
    np.testing.assert_array_equal(train(first), train(second))
    assert bits(first.store()) == bits(second.store())


@SETTINGS
def test_the_number_of_threads_changes_no_bit(backend, optimizer, regularization):
    one, two = (
        bind(backend, optimizer=optimizer, regularization=regularization, n_threads=n_threads)
        for n_threads in (1, 2)
    )
    np.testing.assert_array_equal(train(one), train(two))
    assert bits(one.store()) == bits(two.store())


def test_training_learns(backend: Backend):
    losses = train(bind(backend, optimizer=Adam()), n_epochs=60)
    assert losses[-7:].mean() < 0.7 * losses[:7].mean()


def test_the_network_is_read_and_never_written(backend: Backend):
    network = MLP([4, 7, 5, 3])
    before = network.parameters.tobytes()
    session = backend.bind(network, batch_size=8)
    train(session)
    assert network.parameters.tobytes() == before
    kept = session.store().parameters
    network.parameters[:] = 0
    np.testing.assert_array_equal(session.store().parameters, kept)


def test_sessions_of_one_backend_share_nothing(backend: Backend):
    first, second = bind(backend), bind(backend)
    before = bits(second.store())
    train(first)
    assert bits(second.store()) == before


def test_states_are_copies(backend: Backend):
    session = bind(backend, optimizer=Adam(), regularization=Regularization(ema=0.9))
    train(session)
    state, kept = session.store(), bits(session.store())
    for array in (state.parameters, state.moments, state.average):
        array[:] = 5
    assert bits(session.store()) == kept
    session.load(state)
    loaded = bits(state)
    state.parameters[:] = 6
    state.average[:] = 6
    assert bits(session.store()) == loaded


@pytest.mark.parametrize("order", [[], [3], [3, 3, 3], list(range(8)), list(range(9))])
def test_any_order_of_rows_will_do(backend: Backend, order):
    session = bind(backend)
    X, y = make_data()
    n_batches = -(-len(order) // 8)
    losses = session.train(X, y, np.array(order, np.int64), np.full(n_batches, 0.1))
    assert losses.shape == (n_batches,)
    assert losses.dtype == np.float64
    assert np.all(np.isfinite(losses))
    assert session.store().step == n_batches


def test_logits_are_those_before_each_update(backend: Backend):
    X, y = make_data(dtype="float64")
    order = np.random.default_rng(0).permutation(50)
    session = bind(backend, "float64")
    logits = np.full((50, 3), np.nan)
    session.train(X, y, order, np.full(7, 0.1), logits=logits)
    again = bind(backend, "float64")
    for batch in range(7):
        rows = slice(8 * batch, 8 * batch + 8)
        np.testing.assert_allclose(logits[rows], again.logits(X[order[rows]]), rtol=1e-10)
        again.train(X, y, order[rows], np.array([0.1]))


def test_the_gradient_is_overwritten_and_changes_nothing(backend: Backend):
    session = bind(backend, regularization=EVERYTHING)
    X, y = make_data()
    before = bits(session.store())
    gradients = [np.full(session.n_parameters, fill, np.float32) for fill in (np.nan, 0, 1e30)]
    losses = {session.loss_and_gradient(X, y, gradient) for gradient in gradients}
    assert len(losses) == 1
    for gradient in gradients:
        assert np.all(np.isfinite(gradient))
        np.testing.assert_array_equal(gradient, gradients[0])
    assert bits(session.store()) == before


def test_more_rows_than_a_batch_give_one_gradient(backend: Backend):
    X, y = make_data(dtype="float64")
    gradients = np.full((2, 93), np.nan)
    small, large = (bind(backend, "float64", batch_size=size) for size in (8, 64))
    losses = [
        session.loss_and_gradient(X, y, gradient)
        for session, gradient in zip((small, large), gradients, strict=True)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize(
    "convert",
    [
        lambda X: X.astype(np.uint8),
        lambda X: X.astype(np.float64),
        np.asfortranarray,
        lambda X: np.repeat(X, 2, axis=0)[::2],
        lambda X: pytest.importorskip("scipy.sparse").csr_array(X),
    ],
    ids=["uint8", "float64", "Fortran", "strided", "sparse"],
)
def test_training_takes_any_layout_and_numeric_type(backend: Backend, convert):
    X = np.random.default_rng(0).integers(0, 5, (50, 4)).astype(np.float32)
    _, y = make_data()
    plain, converted = bind(backend), bind(backend)
    expected = plain.train(X, y, np.arange(50), np.full(7, 0.01))
    losses = converted.train(convert(X), y, np.arange(50), np.full(7, 0.01))
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    np.testing.assert_allclose(
        converted.store().parameters, plain.store().parameters, rtol=1e-4, atol=1e-6
    )


def test_training_leaves_the_data_alone(backend: Backend):
    X, y = make_data()
    X.setflags(write=False)
    y.setflags(write=False)
    session = bind(backend, regularization=EVERYTHING)
    session.train(X, y, np.arange(50), np.full(7, 0.1), sample_weight=np.ones(50))
    assert session.step == 7


# Types ---------------------------------------------------------------------------------------


@given(
    widths=st.lists(st.integers(1, 6), max_size=3),
    hidden=st.sampled_from(sorted(ACTIVATIONS)),
    pair=st.sampled_from([(o, loss) for loss in LOSSES.values() for o in loss.output_names]),
    optimizer=st.sampled_from(list(OPTIMIZERS.values())),
    dtype=st.sampled_from([np.float32, np.float64]),
    data_dtype=st.sampled_from([np.float32, np.float64, np.int64, np.uint8]),
    is_regularized=st.booleans(),
    is_weighted=st.booleans(),
)
def test_nothing_promotes(
    backend, widths, hidden, pair, optimizer, dtype, data_dtype, is_regularized, is_weighted
):
    output, loss = pair
    network = MLP([2, *widths, 3], hidden, output, dtype=dtype)
    regularization = Regularization(
        l1=0.1, l2=0.1, dropout=0.2, input_noise=0.1, clip_norm=1.0, max_norm=1.0, ema=0.5
    )
    session = backend.bind(
        network, loss, optimizer, regularization if is_regularized else None, batch_size=4
    )
    X = np.random.default_rng(0).integers(0, 3, (7, 2)).astype(data_dtype)
    y = np.eye(3)[np.arange(7) % 3]
    weights = np.arange(1, 8) if is_weighted else None
    gradient = np.full(network.n_parameters, np.nan, dtype)
    assert isinstance(session.loss_and_gradient(X, y, gradient, weights), float)
    assert np.all(np.isfinite(gradient))
    logits = np.full((7, 3), np.nan, dtype)
    losses = session.train(X, y.astype(dtype), np.arange(7), np.full(2, 0.01), weights, logits)
    state = session.store()
    computed = [
        network.parameters,
        network.logits(X),
        network.predict_proba(X),
        session.logits(X),
        session.outputs(X),
        logits,
        state.parameters,
        state.moments,
        *([state.average] if is_regularized else []),
    ]
    assert {array.dtype for array in computed} == {np.dtype(dtype)}
    assert all(np.all(np.isfinite(array)) for array in computed)
    assert losses.dtype == np.float64


def test_float32_follows_float64(backend: Backend):
    single, double = bind(backend, "float32"), bind(backend, "float64")
    np.testing.assert_allclose(train(single), train(double), rtol=1e-4)
    np.testing.assert_allclose(
        single.store().parameters, double.store().parameters, rtol=1e-3, atol=1e-5
    )


def test_backends_agree_with_the_reference(backend: Backend):
    session, reference = (
        bind(one, "float64", optimizer=Adam(), regularization=EVERYTHING)
        for one in (backend, NumpyBackend())
    )
    np.testing.assert_allclose(train(session), train(reference), rtol=1e-9)
    state, expected = session.store(), reference.store()
    np.testing.assert_allclose(state.parameters, expected.parameters, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(state.average, expected.average, rtol=1e-8, atol=1e-12)


def test_the_rates_of_all_batches_are_used(backend: Backend):
    session = bind(backend)
    X, y = make_data()
    states = [session.store().parameters]
    for rate in (0.1, 0.0, 0.1):
        session.train(X, y, np.arange(8), np.array([rate]))
        states.append(session.store().parameters)
    changed = [bool(np.any(before != after)) for before, after in pairwise(states)]
    assert changed == [True, False, True]


QUARTIC = CustomLoss(
    lambda outputs, targets: np.mean((outputs - targets) ** 4, axis=1),
    lambda outputs, targets: 4 * (outputs - targets) ** 3 / outputs.shape[1],
)


@pytest.mark.parametrize("loss", [LOSSES["mse"], QUARTIC], ids=lambda loss: loss.name)
def test_rows_without_weight_have_no_loss_and_no_gradient(backend: Backend, loss):
    network = MLP([3, 4, 2], output_activation="linear", dtype="float64")
    session = backend.bind(network, loss, batch_size=2)
    gradient = np.full(network.n_parameters, np.nan)
    X, y = np.ones((4, 3)), np.ones((4, 2))
    assert session.loss_and_gradient(X, y, gradient, np.zeros(4)) == 0
    np.testing.assert_array_equal(gradient, 0)
    losses = session.train(X, y, np.arange(4), np.ones(2), np.array([0.0, 0, 1, 1]))
    assert losses[0] == 0 < losses[1]
