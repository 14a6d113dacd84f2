"""The JAX backend: the kit's checks, and what is its own: devices, kept samples, float64."""

from __future__ import annotations

import contextlib
import itertools
import json
import pickle
import signal
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest

from fastmlp import LBFGS, MLP, SGD, Adam, Regularization, Trainer
from fastmlp.activations import ACTIVATIONS, OUTPUT_ACTIVATIONS, ReLU
from fastmlp.backends import available_backends, get_backend
from fastmlp.cli import main
from fastmlp.losses import LOSSES, CrossEntropy, CustomLoss, Huber, Quantile
from fastmlp.optimizers import AdamW, EpsilonHatAdam, Lion, RateFactors, RMSprop
from fastmlp.regularization import DividedL2
from fastmlp.testing import CHECKS, check_backend

jax = pytest.importorskip("jax", reason="JAX is not installed")

from fastmlp.backends.jax_backend import JaxBackend, device_names, find_devices  # noqa: E402
from fastmlp.backends.jax_backend.formulas import HIDDEN, row_losses  # noqa: E402

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
RNG = np.random.default_rng(0)
X = RNG.integers(0, 9, (60, 4)).astype(np.float32)
Y = (X[:, 0] > 4).astype(np.int64) + (X[:, 1] > 4)


def network(dtype: str = "float32", **options) -> MLP:
    return MLP([4, 7, 5, 3], dtype=dtype, seed=2, **options)


def fitted(backend, X=X, y=Y, epochs: int = 3, **options) -> Trainer:
    options = {"optimizer": Adam(0.01), "batch_size": 8, "regularization": EVERYTHING} | options
    trainer = Trainer(network(), backend=backend, **options)
    trainer.fit(X, y, epochs=epochs, verbose=False)
    return trainer


def bits(trainer: Trainer) -> bytes:
    return trainer.network.parameters.tobytes()


# Like the reference ---------------------------------------------------------------------------


def check_conformance(check: str, sample: float | int) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\d+ of \d+ cases skipped")
        check_backend("jax", [check], sample=sample)


@pytest.mark.parametrize("check", CHECKS)
def test_a_sample_of_cases_conforms(check: str):
    few = {"curves": 1, "bits": 2, "states": 1, "inputs": 1, "trainer": 1, "epoch": 3, "update": 3}
    check_conformance(check, few.get(check, 5))


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_a_tenth_of_all_cases_conforms(check: str):
    check_conformance(check, 0.1)


class KeepsWhatItIsGiven(JaxBackend):
    """Sessions that keep the samples of every call of `train`, as trainers have them do."""

    def _bind(self, *given):
        session = super()._bind(*given)
        train = session._train

        def kept(X, y, *others):
            session.keep(X, y)
            try:
                return train(X, y, *others)
            finally:
                session.release()

        session._train = kept
        return session


@pytest.mark.filterwarnings("ignore:[12] of [1-4] cases skipped")  # it has not all that there is
@pytest.mark.parametrize(
    ("check", "sample"),
    [("epoch", 4), ("bits", 1), pytest.param("inputs", 1, marks=pytest.mark.slow)],
)
def test_sessions_that_keep_samples_conform(check: str, sample: int):
    check_backend(KeepsWhatItIsGiven(), [check], sample=sample)


PAIRS = [
    (output, loss)
    for loss in (*LOSSES.values(), CrossEntropy(0.1), Huber(0.3), Quantile((0.1, 0.5, 0.9)))
    for output in loss.output_names
]


def gradient_error(hidden, output: str, loss) -> float:
    """Return the largest difference of both gradients, by the largest of the reference's."""
    network = MLP([4, *[5] * len(hidden), 3], list(hidden) or "relu", output, dtype="float64")
    network.parameters += np.random.default_rng(1).normal(0, 0.3, network.n_parameters)
    X = np.random.default_rng(2).normal(size=(6, 4))
    width = loss.target_width(3)
    y = np.random.default_rng(3).dirichlet(np.ones(width), 6) if width > 1 else np.ones((6, 1))
    gradients = np.empty((2, network.n_parameters))
    losses = [
        get_backend(name).bind(network, loss).loss_and_gradient(X, y, gradient)
        for name, gradient in zip(("jax", "numpy"), gradients, strict=True)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    return float(np.abs(gradients[0] - gradients[1]).max() / np.abs(gradients[1]).max())


@pytest.mark.parametrize(("number", "pair"), list(enumerate(PAIRS)))
def test_gradients_by_automatic_differentiation_are_the_references(number: int, pair):
    names = [*ACTIVATIONS]
    hidden = [names[(2 * number + k) % len(names)] for k in range(2)]
    assert gradient_error(hidden, *pair) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("depth", [0, 1, 2, 3])
@pytest.mark.parametrize("hidden", ACTIVATIONS)
def test_gradients_of_all_combinations_are_the_references(hidden: str, depth: int):
    for output, loss in PAIRS:
        assert gradient_error([hidden] * depth, output, loss) < 1e-10, (output, loss)
        if depth == 0 and hidden != "relu":
            break  # there are no hidden units


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values_and_derivatives_at_kinks_and_extremes_are_the_references(name: str):
    kind = ACTIVATIONS[name]
    z = np.array([-1e3, -6.0, -3.0, -1.0, -0.0, 0.0, 1.0, 3.0, 6.0, 1e3])
    with jax.enable_x64(True):
        value, derivative = jax.vmap(jax.value_and_grad(lambda z: HIDDEN[type(kind)](z, kind)))(z)
        assert np.isnan(HIDDEN[type(kind)](np.float64(np.nan), kind))  # divergence is seen
    a = kind.forward(z, out=np.empty_like(z))
    np.testing.assert_allclose(value, a, rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(derivative, kind.derivative(z, a), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(("output", "loss"), PAIRS)
def test_losses_without_error_and_at_their_kinks_are_the_references(output: str, loss):
    kind = OUTPUT_ACTIVATIONS[output]
    z = np.array([[0.0, 0.0, 0.0], [50.0, -50.0, 0.0], [0.25, 1.0, -1.0]])
    p = kind.forward(z, out=np.empty_like(z))
    threshold = getattr(loss, "threshold", 1.0)
    targets = [np.eye(3), np.full((3, 3), 0.3)]
    if output == "linear":  # whose outputs have no other bits
        targets += [p, p + threshold, p - threshold]  # the Huber loss has its kinks there
    for t in targets:
        t = t[:, : loss.target_width(3)]
        with jax.enable_x64(True):

            def total(z, t=t):
                values = row_losses(loss, type(kind), z, jax.numpy.asarray(t))
                return values.sum(), values

            delta, values = jax.grad(total, has_aux=True)(z)
        np.testing.assert_allclose(values, loss.value(z, p, t, kind), rtol=1e-13, atol=1e-15)
        np.testing.assert_allclose(delta, loss.delta(z, p, t, kind), rtol=1e-12, atol=1e-15)


def test_weights_of_zero_have_no_slope_by_their_size():
    session = get_backend("jax").bind(
        MLP([2, 2], output_activation="linear"), regularization=Regularization(l1=0.5)
    )
    state = session.store()
    state.parameters[:] = [0.0, 3.0, -2.0, 0.0, 0.0, 0.0]
    session.load(state)
    gradient = np.empty(6, np.float32)
    session.loss_and_gradient(np.zeros((1, 2)), np.zeros((1, 2)), gradient)
    assert gradient.tolist() == [0.0, 0.5, -0.5, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "optimizer",
    [
        EpsilonHatAdam(0.01, weight_decay=0.1, epsilon=0.1),
        AdamW(0.01, rate_factors=RateFactors((1.0, 0.5, 0.0), 0.1, 6.0)),
        RMSprop(0.01, momentum=0.9),
        Lion(0.001, weight_decay=0.1),
    ],
    ids=lambda optimizer: optimizer.name,
)
def test_training_agrees_with_the_reference(optimizer):
    histories = []
    for backend in ("numpy", "jax"):
        trainer = Trainer(
            network("float64", scaling_layer=True),
            optimizer=optimizer,
            batch_size=8,
            backend=backend,
            regularization=DividedL2(l2=0.1, dropout=0.2),
            class_weight="balanced",
        )
        histories.append(trainer.fit(X, Y, epochs=3, validation_split=0.2, verbose=False))
        histories.append(trainer.network.parameters)
    np.testing.assert_allclose(histories[2]["loss"], histories[0]["loss"], rtol=1e-10)
    np.testing.assert_allclose(histories[2]["val_loss"], histories[0]["val_loss"], rtol=1e-10)
    np.testing.assert_allclose(histories[3], histories[1], rtol=1e-8, atol=1e-12)


def test_a_checkpoint_goes_on_with_another_backend(tmp_path):
    def trainer(backend: str) -> Trainer:
        return Trainer(
            network("float64"),
            optimizer=Adam(0.01),
            batch_size=8,
            backend=backend,
            regularization=EVERYTHING,
        )

    whole = trainer("numpy")
    whole.fit(X, Y, epochs=3, verbose=False)
    for number, backend in enumerate(("numpy", "jax", "numpy")):
        one = trainer(backend)
        if number:
            one.load_checkpoint(tmp_path / "run.npz")
        one.fit(X, Y, epochs=1, verbose=False)
        one.save_checkpoint(tmp_path / "run.npz")
    np.testing.assert_allclose(one.history["loss"], whole.history["loss"], rtol=1e-10)
    np.testing.assert_allclose(one.network.parameters, whole.network.parameters, rtol=1e-8)


def test_lbfgs_works_by_its_gradients():
    losses = []
    for backend in ("numpy", "jax"):
        trainer = Trainer(network("float64"), optimizer=LBFGS(), backend=backend)
        losses.append(trainer.fit(X, Y, epochs=3, verbose=False)["loss"])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-6)


# What it is asked for ---------------------------------------------------------------------------


class MyReLU(ReLU):
    pass


class MyAdam(Adam):
    pass


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"loss": CustomLoss(lambda p, t: p[:, 0], lambda p, t: p)}, "loss CustomLoss"),
        ({"optimizer": MyAdam()}, "optimizer MyAdam"),
        ({"network": MLP([2, 3, 2], MyReLU())}, "hidden activation MyReLU"),
    ],
)
def test_what_has_no_formula_is_named(options, name: str):
    with pytest.raises(NotImplementedError, match=f"no formula for the {name}; the NumPy backend"):
        get_backend("jax").bind(**{"network": MLP([2, 3, 2])} | options)


def test_devices_are_chosen_by_name():
    assert repr(get_backend("jax")) == "JaxBackend()"
    assert repr(get_backend("jax:cpu:0")) == "JaxBackend(device='cpu:0')"
    first = jax.devices("cpu")[:1]
    assert [*find_devices("cpu")] == [*find_devices("cpu:0")] == first
    assert [*find_devices("cpu:*")] == jax.devices("cpu")
    for preferred in ("cpu", *first):
        with jax.default_device(preferred):
            assert [*find_devices(None)] == first


@pytest.mark.parametrize("device", ["cpu:99", "abacus", "cpu:-1", "", "cpu:1:1"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(device: str):
    with pytest.raises(ValueError, match=f"there is no device '{device}'; JAX has .*'cpu:0'"):
        JaxBackend(device)
    with pytest.raises(ValueError, match=f"there is no device '{device}'"):
        get_backend(f"jax:{device}")


def test_a_backend_without_devices_takes_none():
    with pytest.raises(ValueError, match="no devices to choose from, got 'numpy:gpu'"):
        get_backend("numpy:gpu")
    with pytest.raises(TypeError, match="device must be a name such as 'cpu'"):
        JaxBackend(0)


def test_without_the_package_the_extra_is_named():
    code = """
import sys
sys.modules["jax"] = None
from fastmlp.backends import available_backends, get_backend
print(available_backends()["jax"])
try:
    get_backend("jax")
except ImportError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    reason, error = run.stdout.splitlines()
    assert reason == error
    assert "install it with `pip install 'fastmlp[jax]'`" in error


def test_nothing_changes_for_other_users_of_jax():
    code = """
import json, threading
import jax
before = {name: repr(value) for name, value in jax.config.values.items()}
import numpy as np
from fastmlp import MLP, Adam, Trainer
types, over = set(), threading.Event()
def others():
    while not over.is_set():
        types.add(str((jax.numpy.ones(2) * 1.5).dtype))
thread = threading.Thread(target=others)
thread.start()
def look(trainer, record):
    types.add(str(jax.numpy.asarray(1.5).dtype))
trainer = Trainer(MLP([2, 2], dtype="float64"), optimizer=Adam(), backend="jax")
trainer.fit(np.zeros((9, 2)), np.zeros(9, int), epochs=3, callbacks=[look], verbose=False)
over.set()
thread.join()
after = {name: repr(value) for name, value in jax.config.values.items()}
print(json.dumps([before == after, sorted(types), str(trainer.network.parameters.dtype)]))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == [True, ["float32"], "float64"]


def test_epsilon_is_that_of_the_dtype():
    assert get_backend("jax").machine_epsilon(np.dtype("float32")) == 2.0**-23


# Samples ----------------------------------------------------------------------------------------


def session_of(trainer: Trainer):
    return trainer._training._session


def test_samples_are_kept_for_a_fit_as_they_are_and_then_let_go():
    seen = []

    def look(trainer, record):
        session = session_of(trainer)
        seen.append((session._kept, session._kept.on_device[0].dtype))

    pixels = X.astype(np.uint8)
    trainer = Trainer(network(input_scale=0.1), backend="jax")
    trainer.fit(pixels, Y, epochs=2, callbacks=[look], verbose=False)
    assert seen[0][0] is seen[1][0]
    assert seen[0][1] == np.uint8
    assert session_of(trainer)._kept is None
    with pytest.raises(ValueError, match="went wrong"):
        trainer.fit(X, Y, epochs=2, callbacks=[raise_an_error], verbose=False)
    assert session_of(trainer)._kept is None


def raise_an_error(trainer, record):
    raise ValueError("it went wrong")


def test_what_changes_between_two_fits_is_seen():
    data, labels = X.copy(), Y.copy()
    trainer = fitted("jax", data, labels, epochs=1)
    data[:] = data[::-1].copy()
    labels[:] = 0
    trainer.fit(data, labels, epochs=1, verbose=False)
    fresh = fitted("jax", epochs=1)
    fresh.fit(X[::-1], np.zeros_like(Y), epochs=1, verbose=False)
    assert bits(trainer) == bits(fresh)
    session = get_backend("jax").bind(network(), batch_size=60)
    losses = [session.train(data, labels, np.arange(60), [0.0])]
    data[:] = 0
    losses.append(session.train(data, labels, np.arange(60), [0.0]))
    assert losses[0] != losses[1]


def test_kept_or_travelling_dense_or_not_give_the_same_bits(tmp_path):
    sparse = pytest.importorskip("scipy.sparse")
    mapped = np.memmap(tmp_path / "X.bin", dtype=np.float32, mode="w+", shape=X.shape)
    mapped[:] = X
    mapped.flush()
    expected = bits(fitted("jax"))
    for given in (X.astype(np.uint8), np.asfortranarray(X), mapped, sparse.csr_array(X)):
        assert bits(fitted("jax", given)) == expected
    assert bits(fitted(JaxBackend(kept_bytes=0))) == expected
    seen = []
    trainer = Trainer(network(), backend=JaxBackend(kept_bytes=0))
    look = [lambda trainer, _: seen.append(session_of(trainer)._kept)]
    trainer.fit(X, Y, epochs=1, callbacks=look, verbose=False)
    assert seen == [None]


def test_many_batches_in_one_call_have_the_bits_of_many_calls():
    rows = RNG.integers(0, 60, 5 * 700 - 3)
    rates = np.linspace(0.1, 0.01, 700)
    sessions = [
        get_backend("jax").bind(network(), optimizer=Adam(), batch_size=5, seed=4) for _ in range(3)
    ]
    found = []
    for number, session in enumerate(sessions):
        if number != 2:
            session.keep(X, Y)
        cuts = [0, 700] if number != 1 else [0, 1, 18, 530, 700]
        logits = np.empty((len(rows), 3), np.float32)
        losses = [
            session.train(X, Y, rows[5 * a : 5 * b], rates[a:b], logits=logits[5 * a : 5 * b])
            for a, b in itertools.pairwise(cuts)
        ]
        found.append((np.concatenate(losses), logits, session.store().parameters))
    for others in found[1:]:
        for one, first in zip(others, found[0], strict=True):
            np.testing.assert_array_equal(one, first)


def test_programs_are_compiled_once_whatever_the_number_of_batches():
    session = get_backend("jax").bind(network("float64"), batch_size=3)
    session.keep(X, Y)
    for n_rows in (1, 3, 4, 30, 60):
        session.train(X, Y, np.arange(n_rows), np.full(-(-n_rows // 3), 0.1))
    assert session._programs.train._cache_size() == 1
    others = get_backend("jax").bind(
        network("float64"), optimizer=SGD(0.5), regularization=Regularization(), batch_size=3
    )
    fewer = X[:59], Y[:59]
    others.keep(*fewer)
    others.train(*fewer, np.arange(59), np.full(20, 0.1))
    assert others._programs.train._cache_size() == 1


def test_a_trainer_and_its_backend_are_pickled():
    trainer = fitted(JaxBackend("cpu"), epochs=1)
    twin = pickle.loads(pickle.dumps(trainer))
    assert repr(twin.backend) == "JaxBackend(device='cpu')"
    for one in (trainer, twin):
        one.fit(X, Y, epochs=1, verbose=False)
    assert bits(twin) == bits(trainer)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer's signals")
@pytest.mark.parametrize("how", ["train", "update"])
def test_an_interrupt_leaves_whole_steps_and_float64_off(how: str):
    session = get_backend("jax").bind(network("float64"), optimizer=Adam(0.01), batch_size=8)
    session.keep(X, Y)
    gradient = np.ones(session.n_parameters)

    def step(session) -> None:
        if how == "train":
            session.train(X, Y, np.arange(8), np.array([0.01]))
        else:
            session.update(gradient, 0.01)

    def interrupt(*_):
        raise KeyboardInterrupt

    step(session)
    twin = pickle.loads(pickle.dumps(session))
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for delay in np.random.default_rng(0).uniform(1e-4, 3e-3, 200):
            with contextlib.suppress(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, delay)
                for _ in range(300):  # the interrupt may be lost in a destructor
                    step(session)
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert not jax.config.jax_enable_x64
            state = session.store()
            while twin.step < state.step:
                step(twin)
            assert twin.step == state.step
            expected = twin.store()
            assert state.parameters.tobytes() == expected.parameters.tobytes()
            assert state.moments.tobytes() == expected.moments.tobytes()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert session.step > 200


# Where users meet it ----------------------------------------------------------------------------


def test_estimators_take_it():
    estimators = pytest.importorskip("fastmlp.sklearn", exc_type=ImportError)
    models = [
        estimators.MLPClassifier((8,), random_state=0, max_iter=5, backend=backend, tol=0.0)
        for backend in ("numpy", "jax", "jax:cpu")
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        probabilities = [model.fit(X, Y).predict_proba(X) for model in models]
    np.testing.assert_allclose(probabilities[1], probabilities[0], atol=1e-5)
    np.testing.assert_array_equal(probabilities[2], probabilities[1])


def test_threads_train_their_own_sessions_at_once():
    found: dict[int, bytes] = {}

    def work(number: int) -> None:
        found[number] = bits(fitted("jax"))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found.values()) == {bits(fitted("jax"))}


def test_the_command_line_takes_and_lists_devices(capsys):
    command = ["train", "--data", "digits", "--epochs", "1", "--layers", "8", "--quiet"]
    assert main([*command, "--backend", "jax:cpu"]) == 0
    assert "test accuracy" in capsys.readouterr().out
    assert main([*command, "--backend", "jax:cpu:9"]) == 2
    assert "there is no device 'cpu:9'" in capsys.readouterr().err
    assert main(["info"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("devices"))
    for name in device_names():
        assert name in line
    assert available_backends()["jax"] is None
