"""Many networks trained side by side: each is what it would be alone, and all predict together."""

from __future__ import annotations

import _thread
import copy
import io
import logging
import pickle
import threading
import time
from collections.abc import Iterator
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmlp import (
    LBFGS,
    MLP,
    SGD,
    Adam,
    Callback,
    DivergenceError,
    EarlyStopping,
    Ensemble,
    KeepBest,
    Regularization,
    Trainer,
    TrainingInterrupted,
    _cores,
)
from fastmlp import ensemble as module
from fastmlp._resampling import splits
from fastmlp.backends import Backend
from tests.tracing import chosen, raise_at

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 4)).astype(np.float32)
CLASSES = np.argmax(X[:, :3] + 0.3 * RNG.normal(size=(64, 3)), axis=1)
BINARY = (X[:, 0] > 0.5).astype(np.int64)
VALUES = X[:, :2] @ np.array([[1.0, 0.5], [-1.0, 2.0]])
WEIGHTS = RNG.integers(1, 4, 64).astype(np.float64)

PROBLEMS: dict[str, tuple[int, str, Any, dict[str, Any]]] = {
    "classes": (3, "softmax", CLASSES, {"class_weight": "balanced", "metrics": ()}),
    "two classes": (1, "sigmoid", BINARY, {"optimizer": Adam(0.01), "schedule": "cosine"}),
    "labels": (3, "sigmoid", X[:, :3] > 0, {"regularization": Regularization(dropout=0.2)}),
    "values": (2, "linear", VALUES, {"regularization": Regularization(ema=0.9, l2=0.01)}),
    "counts": (1, "exp", BINARY + 1, {"optimizer": LBFGS(iterations=2)}),
}


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    left = [one.name for one in threading.enumerate() if one.name.startswith("fastmlp-job")]
    assert left == []


def network_of(problem: str, seed: int = 5) -> MLP:
    n_outputs, output, _, _ = PROBLEMS[problem]
    return MLP([4, 6, n_outputs], output_activation=output, seed=seed)


def settings_of(problem: str, backend: Backend | str) -> dict[str, Any]:
    settings = {"optimizer": SGD(0.1, momentum=0.5), "batch_size": 8, "backend": backend}
    return settings | PROBLEMS[problem][3]


def ensemble_of(
    problem: str, backend: Backend | str = "numpy", n_members: int = 4, **arguments: Any
) -> Ensemble:
    return Ensemble(
        network_of(problem), n_members, **{**settings_of(problem, backend), **arguments}
    )


def fit(ensemble: Ensemble, problem: str = "classes", **arguments: Any) -> Any:
    return ensemble.fit(X, PROBLEMS[problem][2], **{"epochs": 3, "verbose": False} | arguments)


def seen(trainer: Trainer) -> tuple[Any, ...]:
    """Return what training has come to, but for the time it took."""
    records = [{k: v for k, v in one.items() if k != "seconds"} for one in trainer.history]
    return records, trainer.network.parameters.tobytes()


def all_seen(ensemble: Ensemble) -> list[tuple[Any, ...]]:
    return [seen(member) for member in ensemble.members]


# A member alone ------------------------------------------------------------------------------


@pytest.mark.parametrize("resampling", ["folds", "bootstrap", None])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_member_is_what_a_trainer_alone_makes(
    backend: Backend, problem: str, resampling: str | None
) -> None:
    n_outputs, output, y, _ = PROBLEMS[problem]
    ensemble = ensemble_of(problem, backend, resampling=resampling, n_threads=3)
    fit(ensemble, problem, sample_weight=WEIGHTS)
    for i, member in enumerate(ensemble.members):
        alone = Trainer(
            MLP([4, 6, n_outputs], output_activation=output, seed=5 + i),
            seed=5 + i,
            **settings_of(problem, backend),
        )
        rows, held_out = ensemble.rows[i], ensemble.held_out[i]
        measured = (X[held_out], y[held_out], WEIGHTS[held_out])
        validation = measured if len(held_out) else None
        weights = WEIGHTS[rows]
        alone.fit(X[rows], y[rows], 3, validation, sample_weight=weights, verbose=False)
        assert seen(member) == seen(alone)
        assert member.seed == member.network.seed == 5 + i


@pytest.mark.parametrize("n_threads", [1, 2, 3, 9, None])
def test_the_number_of_threads_changes_no_bit(backend: Backend, n_threads: int | None) -> None:
    one, other = (ensemble_of("classes", backend, n_members=5, n_threads=n) for n in (1, n_threads))
    for ensemble in (one, other):
        fit(ensemble)
    assert all_seen(one) == all_seen(other)
    np.testing.assert_array_equal(one.predict_proba(X), other.predict_proba(X))


def test_threads_are_given_to_all_members() -> None:
    threads = [m.n_threads for m in ensemble_of("classes", n_members=3, n_threads=8).members]
    assert sorted(threads) == [2, 3, 3]
    many = ensemble_of("classes", n_members=8, n_threads=3)
    assert [member.n_threads for member in many.members] == [1] * 8


def test_members_are_trained_at_once(backend: Backend) -> None:
    """No member ends its first epoch before as many have begun as there are threads."""
    together = threading.Barrier(3)

    class Meet(Callback):
        def on_fit_begin(self, trainer: Trainer) -> None:
            together.wait(timeout=60)

    fit(ensemble_of("classes", backend, 6, n_threads=3), callbacks=lambda number: [Meet()])


def threads_of_a_fit(**settings: Any) -> set[str]:
    """Return the names of the threads that train four members."""
    names: set[str] = set()

    def note(trainer: Trainer, record: Any) -> None:
        names.add(threading.current_thread().name)
        time.sleep(0.01)  # so that one thread does not do the work of all

    fit(ensemble_of("classes", n_members=4, **settings), callbacks=[note])
    return names


def test_ensembles_that_are_trained_at_once_share_the_cores(monkeypatch) -> None:
    monkeypatch.setattr(_cores, "usable_cores", lambda: 4)
    monkeypatch.setattr(module, "usable_cores", lambda: 4)
    assert len(threads_of_a_fit()) == 4
    with _cores.claimed_cores() as others:
        assert others == 4
        assert len(threads_of_a_fit()) == 1
        assert len(threads_of_a_fit(n_threads=2)) == 2  # as the user says
    with _cores.claimed_cores() as again:
        assert again == 4


def test_an_ensemble_has_the_threads_of_the_process_that_it_comes_to(monkeypatch) -> None:
    monkeypatch.setattr(module, "usable_cores", lambda: 8)
    ensemble, told = (ensemble_of("classes", n_members=2, n_threads=n) for n in (None, 6))
    expected = ensemble.predict_proba(X)
    packed = pickle.dumps((ensemble, told))
    assert [member.n_threads for member in ensemble.members] == [4, 4]
    monkeypatch.setattr(module, "usable_cores", lambda: 1)
    arrived, told = pickle.loads(packed)
    assert [member.n_threads for member in arrived.members] == [1, 1]
    assert [member.n_threads for member in told.members] == [3, 3]
    np.testing.assert_array_equal(arrived.predict_proba(X), expected)


@pytest.mark.parametrize("kind", ["float64", "integers", "sparse", "memory map", "frame"])
def test_data_of_any_kind_trains_the_same(backend: Backend, kind: str, tmp_path: Path) -> None:
    whole = np.round(4 * X)
    if kind == "sparse":
        given = pytest.importorskip("scipy.sparse").csr_array(whole)
    elif kind == "frame":
        given = pytest.importorskip("pandas").DataFrame(whole, columns=list("abcd"))
    elif kind == "memory map":
        np.save(tmp_path / "X.npy", whole)
        given = np.load(tmp_path / "X.npy", mmap_mode="r")
    else:
        given = whole.astype({"float64": np.float64, "integers": np.int8}[kind])
    one, other = (ensemble_of("classes", backend, 3) for _ in range(2))
    one.fit(whole, CLASSES, 2, verbose=False)
    other.fit(given, CLASSES, 2, verbose=False)
    assert all_seen(one) == all_seen(other)
    for name in ("predict", "predict_proba", "logits", "out_of_fold", "member_outputs"):
        np.testing.assert_array_equal(getattr(one, name)(whole), getattr(other, name)(given))
    if kind == "frame":
        assert other.members[2].network.feature_names == ("a", "b", "c", "d")
        with pytest.raises(ValueError, match="another order"):
            other.predict(given[["b", "a", "c", "d"]])


def test_the_data_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    seen_data = []
    fit_alone = Trainer.fit

    def watched(self: Trainer, X: Any, *arguments: Any, **more: Any) -> Any:
        seen_data.append(X)
        return fit_alone(self, X, *arguments, **more)

    monkeypatch.setattr(Trainer, "fit", watched)
    fit(ensemble_of("classes"))
    assert all(np.shares_memory(one, X) for one in seen_data)
    del seen_data[:]
    ensemble_of("classes").fit(X.astype(np.float64), CLASSES, 1, verbose=False)
    assert len({id(one) for one in seen_data}) == 1


# Rows ----------------------------------------------------------------------------------------


@given(
    labels=st.lists(st.integers(0, 3), min_size=7, max_size=60),
    n_folds=st.integers(2, 7),
    n_members=st.integers(1, 9),
    seed=st.integers(0, 9),
)
def test_folds_are_even_and_hold_out_every_row_once(
    labels: list[int], n_folds: int, n_members: int, seed: int
) -> None:
    y = np.array(labels)
    made = splits("folds", n_members, n_folds, y, seed)
    assert len(made) == n_members
    for one in made:
        assert sorted([*one.rows, *one.held_out]) == list(range(len(y)))
        for label in (None, *set(labels)):
            n_rows = len(y) if label is None else labels.count(label)
            held_out = y[one.held_out]
            n_held_out = len(held_out) if label is None else int(np.sum(held_out == label))
            assert abs(n_held_out - n_rows / n_folds) < 1
    for first in range(0, n_members - n_folds + 1, n_folds):
        together = np.concatenate([one.held_out for one in made[first : first + n_folds]])
        assert sorted(together) == list(range(len(y)))


def test_more_members_than_folds_divide_the_rows_anew() -> None:
    ensemble = ensemble_of("classes", n_members=6, n_folds=3)
    fit(ensemble)
    assert not np.array_equal(ensemble.held_out[0], ensemble.held_out[3])
    assert {len(one) for one in ensemble.held_out} <= {21, 22}


def test_a_bootstrap_holds_out_what_it_did_not_draw() -> None:
    ensemble = ensemble_of("values", resampling="bootstrap")
    fit(ensemble, "values")
    for rows, held_out in zip(ensemble.rows, ensemble.held_out, strict=True):
        assert len(rows) == 64
        assert sorted({*rows, *held_out}) == list(range(64))
        assert not set(rows) & set(held_out)
    assert not np.array_equal(ensemble.rows[0], ensemble.rows[1])


def test_splitters_of_scikit_learn_divide_the_rows() -> None:
    selection = pytest.importorskip("sklearn.model_selection")
    groups = np.arange(64) // 4
    ensemble = ensemble_of("classes", n_members=5)
    fit(ensemble, folds=selection.GroupKFold(4).split(X, CLASSES, groups))
    for rows, held_out in zip(ensemble.rows, ensemble.held_out, strict=True):
        assert not set(groups[rows]) & set(groups[held_out])
    np.testing.assert_array_equal(ensemble.rows[0], ensemble.rows[4])
    before = ensemble.held_out
    fit(ensemble)  # goes on with the same rows
    assert all(map(np.array_equal, before, ensemble.held_out))


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ([], "folds must be 1 to 4 pairs"),
        ([([0], [1])] * 5, "folds must be 1 to 4 pairs, .* got 5"),
        ([([0, 1], [1])], r"folds\[0\] holds out rows that it trains on, such as row 1"),
        ([([0, 64], [1])], r"folds\[0\]\[0\] must lie between 0 and 63 for 64 rows, got 64"),
        ([([], [1])], r"folds\[0\]\[0\] must name at least one row"),
        ([np.arange(3)], r"folds\[0\] must be a pair"),
    ],
)
def test_bad_folds_are_refused(folds: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(ensemble_of("classes"), folds=folds)


def test_out_of_fold_outputs_come_from_those_that_held_the_row_out(backend: Backend) -> None:
    ensemble = ensemble_of("classes", backend, n_members=6, n_folds=3)
    fit(ensemble)
    outputs, found = ensemble.member_outputs(X), ensemble.out_of_fold(X)
    for row in range(64):
        holding = [i for i in range(6) if row in ensemble.held_out[i]]
        assert len(holding) == 2
        np.testing.assert_allclose(found[row], outputs[holding, row].mean(axis=0), rtol=1e-6)


def test_rows_that_nobody_held_out_have_no_outputs() -> None:
    ensemble = ensemble_of("values", n_members=2)
    fit(ensemble, "values", folds=[(np.arange(32), [40, 41])])
    found = ensemble.out_of_fold(X)
    assert np.flatnonzero(np.isfinite(found).all(axis=1)).tolist() == [40, 41]
    with pytest.raises(ValueError, match="no member held out some of 63 rows"):
        ensemble.out_of_fold(X[:63])
    with pytest.raises(ValueError, match="no member held out"):
        ensemble_of("values").out_of_fold(X)


# Predictions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", PROBLEMS)
def test_predictions_are_those_of_the_mean(backend: Backend, problem: str) -> None:
    ensemble = ensemble_of(problem, backend)
    fit(ensemble, problem)
    outputs = ensemble.member_outputs(X)
    for i, member in enumerate(ensemble.members):
        np.testing.assert_array_equal(outputs[i], member.predict_proba(X))
    mean = ensemble.predict_proba(X)
    np.testing.assert_allclose(mean, outputs.mean(axis=0), rtol=1e-5)
    activation = ensemble.members[0].network.output_activation
    logits = ensemble.logits(X)
    np.testing.assert_allclose(activation.forward(logits, np.empty_like(logits)), mean, rtol=1e-5)
    expected = {
        "classes": lambda: mean.argmax(axis=1),
        "two classes": lambda: (mean[:, 0] >= 0.5).astype(int),
        "labels": lambda: (mean >= 0.5).astype(int),
        "values": lambda: mean,
        "counts": lambda: mean[:, 0],
    }[problem]()
    np.testing.assert_array_equal(ensemble.predict(X), expected)
    for name in ("predict", "predict_proba", "logits"):
        predict = getattr(ensemble, name)
        np.testing.assert_allclose(predict(X[3]), predict(X)[3], rtol=1e-5)
        assert len(predict(X[:0])) == 0


def test_logits_of_certain_members_stay_finite(backend: Backend) -> None:
    for n_outputs, output in ((2, "softmax"), (1, "sigmoid")):
        network = MLP([1, n_outputs], output_activation=output)
        parameters = np.zeros((2, network.n_parameters))
        parameters[:, 0] = 100, 200
        ensemble = Ensemble.from_parameters(network, parameters, backend=backend)
        difference = np.ptp(np.append(ensemble.logits([[-2.0]])[0], [0.0] * (2 - n_outputs)))
        assert difference == pytest.approx(200 + np.log(2), rel=1e-6)
        assert ensemble.predict_proba([[-2.0]]).min() in (0, 1, pytest.approx(0, abs=1e-30))


def test_many_rows_are_predicted_in_parts(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensemble = ensemble_of("classes", backend, n_threads=2)
    many = np.tile(X, (40, 1))
    whole = ensemble.predict_proba(many)
    monkeypatch.setattr(module, "_VALUES_AT_ONCE", 1)
    monkeypatch.setattr(module, "_WORTH_THREADS", 0)
    np.testing.assert_array_equal(ensemble.predict_proba(many), whole)
    many[2000, 1] = np.nan
    for dtype in (np.float32, np.float64):
        with pytest.raises(ValueError, match="first in row 2000"):
            ensemble.predict(many.astype(dtype))
    many[2000, 1] = 0
    large = many.astype(np.float64)
    large[2001, 1] = 1e300
    with pytest.raises(ValueError, match=r"infinite as float32 \(first in row 2001\)"):
        ensemble.predict(large)


# What members do -----------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["val_loss", "val_accuracy", "loss"])
def test_members_end_at_their_best_epochs(backend: Backend, metric: str) -> None:
    ensemble = ensemble_of("classes", backend, optimizer=SGD(3.0))
    for history in fit(ensemble, epochs=12, keep_best=metric):
        assert len(history) == 12
    bests = []
    for i, member in enumerate(ensemble.members):
        values = member.history[metric]
        best = max(values) if metric == "val_accuracy" else min(values)
        bests.append(values.index(best))
        held_out = ensemble.held_out[i]
        if metric.startswith("val"):
            scores = member.evaluate(X[held_out], CLASSES[held_out])
            assert scores[metric.removeprefix("val_")] == pytest.approx(best, rel=1e-6)
    assert min(bests) < 11


def test_keeping_the_best_ends_no_fit_and_goes_on_from_a_checkpoint(
    backend: Backend, tmp_path: Path
) -> None:
    def trainer() -> Trainer:
        return Trainer(MLP([4, 6, 3]), optimizer=SGD(3.0), backend=backend)

    def last_of(one: Trainer, epochs: int, keep: KeepBest) -> bytes:
        one.fit(X, CLASSES, epochs, validation_split=0.3, callbacks=[keep], verbose=False)
        return one.network.parameters.tobytes()

    whole, first, second = trainer(), trainer(), trainer()
    keep = KeepBest("val_accuracy")
    expected = last_of(whole, 9, keep)
    assert keep.best == max(whole.history["val_accuracy"])

    def broken(one: Trainer, record: Any) -> None:
        if record["epoch"] == 6:
            one.save_checkpoint(tmp_path / "run.npz")
            raise OSError

    with pytest.raises(OSError, match=r"^$"):
        first.fit(
            X, CLASSES, 9, validation_split=0.3, callbacks=[KeepBest("val_accuracy"), broken],
            verbose=False,
        )  # fmt: skip
    second.load_checkpoint(tmp_path / "run.npz")
    assert last_of(second, 3, KeepBest("val_accuracy")) == expected


def test_keeping_the_best_of_nothing_is_refused() -> None:
    ensemble = ensemble_of("classes", resampling=None)
    with pytest.raises(ValueError, match="keep_best='val_loss' needs rows that members are"):
        fit(ensemble, keep_best="val_loss")
    with pytest.raises(ValueError, match="the metric 'cost' is not recorded"):
        fit(ensemble, keep_best="cost")
    assert all(len(member.history) == 0 for member in ensemble.members)


def test_members_have_callbacks_of_their_own(backend: Backend) -> None:
    ensemble = ensemble_of("classes", backend, optimizer=SGD(3.0))
    stop = EarlyStopping(patience=2)
    lengths = {len(history) for history in fit(ensemble, epochs=40, callbacks=[stop])}
    assert stop.best is None
    assert len(lengths) > 1

    with pytest.raises(TypeError, match="a callback must be"):
        fit(ensemble, callbacks=["stop"])
    once = (one for one in [lambda trainer, record: True])
    assert [len(one) for one in fit(ensemble, callbacks=once)] == [1] * 4
    assert [len(one) for one in fit(ensemble, callbacks=None)] == [3] * 4


def test_a_function_gives_each_member_its_callbacks(backend: Backend) -> None:
    made = []

    def callbacks(number: int) -> list[Any]:
        made.append(number)
        return [lambda trainer, record: record["epoch"] > number]

    histories = fit(ensemble_of("classes", backend), epochs=9, callbacks=callbacks)
    assert [len(history) for history in histories] == [1, 2, 3, 4]
    assert sorted(made) == [0, 1, 2, 3]


def test_the_first_parameters_may_be_changed() -> None:
    def spread(network: MLP) -> None:
        generator = np.random.default_rng(network.seed)
        network.parameters[:] = generator.normal(size=network.n_parameters)

    ensemble = ensemble_of("classes", initialize=spread)
    for i, row in enumerate(ensemble.parameters):
        drawn = np.random.default_rng(5 + i).normal(size=len(row)).astype(np.float32)
        np.testing.assert_array_equal(row, drawn)


def test_the_given_network_is_only_a_shape(backend: Backend) -> None:
    network = network_of("classes")
    before = network.parameters.copy()
    ensemble = Ensemble(network, 2, **settings_of("classes", backend))
    np.testing.assert_array_equal(ensemble.parameters[0], before)
    fit(ensemble)
    np.testing.assert_array_equal(network.parameters, before)


# More than one fit ---------------------------------------------------------------------------


def test_a_second_fit_goes_on(backend: Backend) -> None:
    once, twice = ensemble_of("classes", backend), ensemble_of("classes", backend)
    fit(once, epochs=5)
    fit(twice, epochs=2)
    held_out = twice.held_out
    assert [len(history) for history in fit(twice, epochs=3)] == [3] * 4
    assert all_seen(once) == all_seen(twice)
    assert all(map(np.array_equal, held_out, twice.held_out))
    twice.fit(X[:40], CLASSES[:40], 1, verbose=False)
    assert sorted(np.concatenate(twice.held_out)) == list(range(40))


def test_an_ensemble_is_pickled_and_copied_with_all_that_it_knows(backend: Backend) -> None:
    ensemble = ensemble_of("classes", backend, initialize=lambda network: None)
    fit(ensemble, keep_best="val_loss")
    twins = [pickle.loads(pickle.dumps(ensemble)), copy.deepcopy(ensemble), ensemble.copy()]
    expected = ensemble.predict_proba(X)
    fit(ensemble)
    for twin in twins:
        np.testing.assert_array_equal(twin.predict_proba(X), expected)
        assert all(map(np.array_equal, twin.held_out, ensemble.held_out))
        fit(twin)
        assert all_seen(twin) == all_seen(ensemble)


def test_an_ensemble_is_made_of_parameters(backend: Backend) -> None:
    ensemble = ensemble_of("values", backend)
    fit(ensemble, "values")
    network = network_of("values")
    twin = Ensemble.from_parameters(network, ensemble.parameters, backend=backend)
    np.testing.assert_array_equal(twin.predict_proba(X), ensemble.predict_proba(X))
    twin.fit(X, VALUES, 1, verbose=False)
    assert np.any(twin.parameters != ensemble.parameters)
    with pytest.raises(ValueError, match=r"parameters must have shape \(n_members, 44\)"):
        Ensemble.from_parameters(network, ensemble.parameters[0])


# What goes wrong -----------------------------------------------------------------------------


def test_an_interrupt_leaves_every_member_at_its_last_whole_epoch(backend: Backend) -> None:
    ensemble, same = (ensemble_of("classes", backend, n_threads=2) for _ in range(2))
    began = threading.Event()

    def callbacks(number: int) -> list[Any]:
        def interrupt(trainer: Trainer, record: Any) -> None:
            if number == 1 and record["epoch"] == 3 and not began.is_set():
                began.set()
                _thread.interrupt_main()
                time.sleep(0.05)

        return [interrupt]

    with pytest.warns(TrainingInterrupted, match="last whole epochs: "):
        histories = fit(ensemble, epochs=100_000, callbacks=callbacks)
    lengths = [len(history) for history in histories]
    assert lengths[1] >= 3
    assert lengths[3] == 0
    for i, (member, alone) in enumerate(zip(ensemble.members, same.members, strict=True)):
        rows = splits("folds", 4, 4, CLASSES, 5)[i]
        held_out = X[rows.held_out], CLASSES[rows.held_out]
        alone.fit(X, CLASSES, lengths[i], held_out, rows=rows.rows, verbose=False)
        assert seen(member) == seen(alone)
    # Members that were not trained have no say.
    trained = [i for i, length in enumerate(lengths) if length]
    outputs = ensemble.member_outputs(X)[trained].mean(axis=0)
    np.testing.assert_allclose(ensemble.predict_proba(X), outputs, rtol=1e-5)
    fit(ensemble, epochs=1)
    assert all(len(member.history) for member in ensemble.members)


@pytest.mark.parametrize("optimizer", [SGD(), LBFGS(iterations=200)])
def test_an_interrupt_answers_in_the_midst_of_an_epoch(optimizer: Any) -> None:
    big = np.random.default_rng(0).normal(size=(200_000, 4)).astype(np.float32)
    ensemble = Ensemble(
        MLP([4, 8, 2]), 2, optimizer=optimizer, batch_size=1, backend="numpy", n_threads=2
    )
    timer = threading.Timer(0.3, _thread.interrupt_main)
    timer.start()
    with pytest.warns(TrainingInterrupted, match="epochs: 0, 0"):
        ensemble.fit(big, np.arange(len(big)) % 2, 1, verbose=False)
    timer.join()


def test_an_interrupt_at_any_line_leaves_members_at_whole_epochs() -> None:
    """In the thread that waits; those that train are interrupted at any line elsewhere."""
    whole: list[list[Any]] = [[] for _ in range(3)]
    one = ensemble_of("classes", n_members=3)
    for n_epochs in range(4):
        fit(one, epochs=min(n_epochs, 1))
        for states, member in zip(whole, one.members, strict=True):
            states.append(seen(member))

    def interrupted(line: int | None, error: type[BaseException]) -> tuple[Ensemble, list[str]]:
        ensemble = ensemble_of("classes", n_members=3, n_threads=2)
        # In a context of its own, as what is interrupted may leave it silent.
        action = partial(fit, ensemble, epochs=3)
        return ensemble, copy_context().run(raise_at, line, error, action)

    _, places = interrupted(None, KeyboardInterrupt)
    assert len(places) > 100
    errors = (KeyboardInterrupt, MemoryError)
    for i, line in enumerate(chosen(places)):
        ensemble, _ = interrupted(line, errors[i % 2])
        for states, member in zip(whole, ensemble.members, strict=True):
            assert seen(member) == states[len(member.history)]
        fit(ensemble, epochs=1)
        assert all(map(np.array_equal, ensemble.held_out, one.held_out))


def test_a_member_that_diverges_is_named(backend: Backend) -> None:
    ensemble = ensemble_of("values", backend, n_threads=2)
    ensemble.members[2].optimizer = SGD(1e30)
    with pytest.raises(DivergenceError, match=r"^member 3 of 4: .* in epoch 1; the learning rate"):
        fit(ensemble, "values")
    ensemble.members[2].optimizer = SGD(0.01)
    assert np.all(np.isfinite(ensemble.parameters))
    fit(ensemble, "values")
    assert all(len(member.history) >= 3 for member in ensemble.members)


def test_an_error_of_a_callback_ends_all_and_comes_through(backend: Backend) -> None:
    def callbacks(number: int) -> list[Any]:
        def fail(trainer: Trainer, record: Any) -> None:
            if number == 1:
                raise OSError("disk full")

        return [fail]

    ensemble = ensemble_of("classes", backend, n_threads=2)
    with pytest.raises(OSError, match="disk full") as caught:
        fit(ensemble, epochs=100_000, callbacks=callbacks)
    assert caught.value.__notes__ == ["raised while member 2 of 4 was trained"]
    assert len(ensemble.members[3].history) == 0
    fit(ensemble)


def test_a_failed_fit_leaves_all_as_it_was() -> None:
    ensemble = ensemble_of("classes")
    fit(ensemble)
    before, held_out = all_seen(ensemble), ensemble.held_out
    bad = X.copy()
    bad[50] = np.nan
    for arguments in ((bad, CLASSES), (X, CLASSES + 7), (X[:60], CLASSES)):
        with pytest.raises(ValueError, match=r"X |labels"):
            ensemble.fit(*arguments, epochs=1, verbose=False)
    assert all_seen(ensemble) == before
    assert all(map(np.array_equal, held_out, ensemble.held_out))


def test_one_thread_fits_at_a_time() -> None:
    ensemble = ensemble_of("classes", n_threads=1)
    refused: list[str] = []

    def again(trainer: Trainer, record: Any) -> None:
        try:
            fit(ensemble)
        except RuntimeError as error:
            refused.append(str(error))

    fit(ensemble, epochs=1, callbacks=[again])
    assert refused == ["another thread is fitting this ensemble; wait for it"] * 4


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"network": "MLP"}, TypeError, "network must be an MLP"),
        ({"n_members": 0}, ValueError, "n_members must be at least 1"),
        ({"n_folds": 1}, ValueError, "n_folds must be at least 2"),
        ({"resampling": "jackknife"}, ValueError, "resampling must be one of 'folds', 'bootstrap'"),
        ({"n_threads": 0}, ValueError, "n_threads must be at least 1"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"optimiser": "adam"}, TypeError, "optimiser"),
    ],
)
def test_bad_arguments_are_refused(arguments: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        Ensemble(**{"network": MLP([4, 3]), **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": -1}, "epochs must be at least 0"),
        ({"time_limit": 0}, "time_limit must be greater than 0"),
        ({"verbose": "loud"}, "verbose must be"),
    ],
)
def test_bad_arguments_of_a_fit_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(ensemble_of("classes"), **arguments)


def test_one_member_has_folds_only_where_they_are_given() -> None:
    with pytest.raises(ValueError, match="one member has no folds"):
        fit(ensemble_of("classes", n_members=1))
    fit(ensemble_of("classes", n_members=1), folds=[(np.arange(50), np.arange(50, 64))])
    eighth = ensemble_of("classes", n_members=1, n_folds=8)
    fit(eighth)
    assert len(eighth.held_out[0]) == 8


def test_fewer_rows_than_folds_are_refused() -> None:
    with pytest.raises(ValueError, match="4 folds need at least as many rows, got 3"):
        ensemble_of("classes").fit(X[:3], CLASSES[:3], verbose=False)


# Time ----------------------------------------------------------------------------------------


class Clock:
    """A clock that stands still but for what each epoch of a member takes."""

    def __init__(self) -> None:
        self.now = 100.0
        #: Seconds of one epoch, by the number of epochs before it.
        self.seconds = lambda epoch: 1.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made, run = Clock(), Trainer._run_epoch

    def run_epoch(self: Trainer, data: Any, *arguments: Any) -> Any:
        if data.n_samples > 1:  # else it is what compiles
            made.now += made.seconds(len(self.history))
        return run(self, data, *arguments)

    monkeypatch.setattr(module, "_now", made)
    monkeypatch.setattr(Trainer, "_run_epoch", run_epoch)
    return made


def test_a_time_limit_is_shared_and_schedules_fit_it(clock: Clock) -> None:
    ensemble = ensemble_of("classes", n_threads=1, schedule="cosine", optimizer=SGD(1.0))
    histories = fit(ensemble, epochs=1000, time_limit=40)
    assert [len(history) for history in histories] == [10] * 4
    assert clock.now == 140
    for history in histories:
        assert history["learning_rate"][-1] < 0.05
    assert {member.planned_epochs for member in ensemble.members} == {10}
    rates = [history["learning_rate"] for history in histories]
    assert rates[1] == rates[2] == rates[3]  # planned from their start


def test_lines_tell_the_plan(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    fit(ensemble_of("classes", n_members=2, n_threads=1), epochs=1000, time_limit=12, verbose=True)
    lines = capsys.readouterr().err.splitlines()
    assert [line[:22] for line in lines] == [f"Member {i}/2  Epoch 6/6 " for i in (1, 2)]


def test_a_limit_that_is_long_enough_changes_nothing(clock: Clock) -> None:
    limited, free = (ensemble_of("two classes", n_threads=1) for _ in range(2))
    fit(limited, "two classes", epochs=5, time_limit=1000)
    fit(free, "two classes", epochs=5)
    assert all_seen(limited) == all_seen(free)


def test_a_slow_epoch_does_not_spoil_the_plan(clock: Clock) -> None:
    clock.seconds = lambda epoch: 0.5 if epoch else 4.0
    ensemble = ensemble_of("classes", n_members=2, n_threads=1)
    lengths = [len(history) for history in fit(ensemble, epochs=1000, time_limit=20)]
    assert min(lengths) >= 11
    assert 118 <= clock.now <= 120


def test_a_limit_of_less_than_an_epoch_trains_one(clock: Clock) -> None:
    ensemble = ensemble_of("classes", n_threads=1)
    assert [len(one) for one in fit(ensemble, epochs=9, time_limit=0.5)] == [1] * 4
    assert [len(one) for one in fit(ensemble, epochs=0, time_limit=0.5)] == [0] * 4


def test_what_is_compiled_ahead_needs_no_metric_of_a_few_rows(backend: Backend) -> None:
    pytest.importorskip("sklearn")
    y = (np.arange(64) >= 40).astype(np.int64)
    ensemble = Ensemble(MLP([4, 2]), 2, backend=backend, metrics=["roc_auc"])
    folds = [(np.r_[:35, 50:64], np.arange(35, 50))]
    histories = ensemble.fit(X, y, 2, folds=folds, verbose=False, time_limit=60)
    assert [len(history) for history in histories] == [2, 2]


def test_what_stops_a_member_stops_it_with_a_limit_too(clock: Clock) -> None:
    for stop in (EarlyStopping("val_loss", 1, min_delta=100.0), lambda t, record: True):
        ensemble = ensemble_of("classes", n_threads=1)
        lengths = {len(one) for one in fit(ensemble, epochs=9, time_limit=99, callbacks=[stop])}
        assert lengths == {2 if isinstance(stop, Callback) else 1}


@given(n_members=st.integers(1, 20), n_threads=st.integers(1, 6))
def test_members_of_every_round_get_the_same_time(n_members: int, n_threads: int) -> None:
    """Threads that take members one after another, each of which uses all of its time."""
    clock = Clock()
    free = [0.0] * n_threads
    shares = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_now", clock)
        clock.now = 0.0
        limit = module._Limit(60.0)
        for number in range(n_members):
            thread = free.index(min(free))
            clock.now = free[thread]
            free[thread] = limit.deadline(number, n_members, n_threads)
            shares.append(free[thread] - clock.now)
    assert shares == pytest.approx([60 / -(-n_members // n_threads)] * n_members)
    assert max(free) == pytest.approx(60)


def test_a_real_limit_is_kept(backend: Backend) -> None:
    ensemble = ensemble_of("classes", backend, n_threads=2)
    histories = fit(ensemble, epochs=10**6, time_limit=0.4)
    assert all(0 < len(history) < 10**6 for history in histories)
    assert [len(one) for one in histories] == [m.planned_epochs for m in ensemble.members]


# What is shown -------------------------------------------------------------------------------


def test_lines_name_the_member(capsys: pytest.CaptureFixture[str]) -> None:
    ensemble = ensemble_of("classes", n_members=2, n_threads=1)
    fit(ensemble, epochs=2, verbose=2)
    lines = capsys.readouterr().err.splitlines()
    assert [line[:24] for line in lines] == [
        f"Member {i}/2  Epoch {n}/2  l" for i in (1, 2) for n in (1, 2)
    ]
    fit(ensemble, epochs=1, verbose=True, keep_best="loss")
    lines = capsys.readouterr().err.splitlines()
    assert [line[:27] for line in lines] == [
        f"Member {i}/2  {what}" for i in (1, 2) for what in ("Epoch 3/3  loss", "The best loss w")
    ]
    fit(ensemble, epochs=1, verbose=False, keep_best="loss")
    assert capsys.readouterr().err == ""


def test_the_log_names_the_member(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="fastmlp"):
        fit(ensemble_of("classes", n_members=2), epochs=1, keep_best="loss")
    assert sorted(record.message[:27] for record in caplog.records) == [
        f"Member {i}/2  {what}" for i in (1, 2) for what in ("Epoch 1/1  loss", "The best loss w")
    ]


def test_a_bar_counts_the_epochs_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm")
    from tqdm import tqdm

    from fastmlp import _progress

    bars: list[Any] = []

    def bar(*arguments: Any, **more: Any) -> Any:
        bars.append(tqdm(*arguments, **more, file=io.StringIO()))
        return bars[-1]

    monkeypatch.setattr(_progress, "_bar_of_choice", lambda: bar)
    ensemble = ensemble_of("classes", n_members=3, n_threads=2)
    fit(ensemble, epochs=4, verbose=True, callbacks=[lambda trainer, record: True])
    (one,) = bars
    assert one.n == one.total == 12
    assert one.desc.startswith("Member ")
