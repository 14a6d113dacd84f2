"""What `fit` is asked for: a split, a batch of any size, more or fewer words."""

from __future__ import annotations

import logging
import multiprocessing
import pickle
from typing import Any

import numpy as np
import pytest

from fastmlp import LBFGS, MLP, SGD, Regularization, Trainer
from fastmlp._messages import announce, quiet
from fastmlp.backends import Backend
from fastmlp.callbacks import Callback, Checkpoint, EarlyStopping

rng = np.random.default_rng(0)
X = rng.normal(size=(100, 4)).astype(np.float32)
y = (X[:, 0] > 0).astype(np.int64)


def trainer_of(backend: Backend | str = "numpy", **settings: Any) -> Trainer:
    return Trainer(MLP([4, 8, 2]), **{"backend": backend, "optimizer": SGD(0.1)} | settings)


# The workspace -------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [SGD(0.1, momentum=0.9), LBFGS()])
def test_a_batch_takes_the_memory_of_the_rows_that_there_are(
    backend: Backend, optimizer: Any, tmp_path: Any
) -> None:
    noisy = Regularization() if isinstance(optimizer, LBFGS) else Regularization(dropout=0.5)
    parameters = []
    for size in (100, 10**7):
        trainer = Trainer(
            MLP([4, 128, 2]),
            optimizer=optimizer,
            batch_size=size,
            backend=backend,
            regularization=noisy,
        )
        for n_rows in (40, 100, 7):  # the workspace grows once
            trainer.fit(X[:n_rows], y[:n_rows], epochs=2, verbose=False)
        parameters.append(trainer.network.parameters)
    np.testing.assert_array_equal(*parameters)
    trainer.save_checkpoint(tmp_path / "run.npz")
    with pytest.raises(ValueError, match="batch_size"):
        Trainer(
            MLP([4, 128, 2]),
            optimizer=optimizer,
            batch_size=100,
            backend=backend,
            regularization=noisy,
        ).load_checkpoint(tmp_path / "run.npz")


def test_a_fitted_trainer_is_pickled_without_its_sessions(backend: Backend) -> None:
    trainer = trainer_of(backend, batch_size=64)
    trainer.fit(X, y, epochs=1, verbose=False)
    written = pickle.dumps(trainer)
    assert len(written) < 8_000 + 8 * trainer.network.parameters.nbytes
    twin = pickle.loads(written)
    for one in (trainer, twin):
        one.fit(X, y, epochs=1, verbose=False)
    np.testing.assert_array_equal(twin.network.parameters, trainer.network.parameters)


def test_a_trainer_of_a_lambda_is_pickled_without_it(backend: Backend) -> None:
    trainer = trainer_of(backend)
    stop = EarlyStopping("loss")
    trainer.fit(X, y, epochs=1, callbacks=[stop, lambda *_: None], verbose=False)
    twin = pickle.loads(pickle.dumps(trainer))
    assert twin.history == trainer.history


def test_a_fitted_estimator_of_a_lambda_is_pickled_without_it() -> None:
    ours = pytest.importorskip("fastmlp.sklearn")
    stop = EarlyStopping("loss", patience=2, min_delta=1.0)
    model = ours.MLPClassifier(callbacks=[stop, lambda *_: None], backend="numpy").fit(X, y)
    with pytest.warns(UserWarning, match="lambda, cannot be pickled"):
        written = pickle.dumps(model)
    twin = pickle.loads(written)
    assert [type(one) for one in twin.callbacks] == [EarlyStopping]
    np.testing.assert_array_equal(twin.predict_proba(X), model.predict_proba(X))
    assert len(model.callbacks) == 2


# A split -------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.1, 0.25, 1 / 3])
def test_validation_split_measures_the_last_rows(backend: Backend, share: float) -> None:
    n_first = int(100 * (1 - share))
    settings: dict[str, Any] = {"class_weight": "balanced"}
    split, pair = trainer_of(backend, **settings), trainer_of(backend, **settings)
    a = split.fit(X, y, epochs=2, validation_split=share, verbose=False)
    held_out = (X[n_first:], y[n_first:])
    b = pair.fit(X[:n_first], y[:n_first], epochs=2, validation_data=held_out, verbose=False)
    np.testing.assert_array_equal(split.network.parameters, pair.network.parameters)
    assert a["val_loss"] == b["val_loss"]
    assert a["val_accuracy"] == b["val_accuracy"]


def test_validation_split_takes_its_rows_weights_along(backend: Backend) -> None:
    weights = rng.random(100)
    trainer = trainer_of(backend)
    history = trainer.fit(
        X, y, epochs=1, validation_split=0.2, sample_weight=weights, verbose=False
    )
    want = trainer.evaluate(X[80:], y[80:], weights[80:])
    assert (history["val_loss"][0], history["val_accuracy"][0]) == pytest.approx(tuple(want))


@pytest.mark.parametrize("share", [1.0, -0.1, 0.999, float("nan")])
def test_a_split_that_leaves_nothing_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="validation_split"):
        trainer_of().fit(X, y, validation_split=share, verbose=False)


def test_a_split_and_data_together_are_refused() -> None:
    with pytest.raises(ValueError, match="not both"):
        trainer_of().fit(X, y, validation_data=(X, y), validation_split=0.1, verbose=False)


# Words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("verbose", [True, 1, "auto", 2, 10, np.bool_(True)])
def test_who_asks_for_lines_gets_them(verbose: Any, capsys: pytest.CaptureFixture[str]) -> None:
    trainer_of().fit(X, y, epochs=2, verbose=verbose)
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == ["1/2", "2/2"]


@pytest.mark.parametrize("verbose", [False, 0, np.bool_(False)])
def test_who_asks_for_silence_gets_it(verbose: Any, capsys: pytest.CaptureFixture[str]) -> None:
    trainer_of().fit(X, y, epochs=2, verbose=verbose)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("verbose", ["loud", -1, 1.5, None])
def test_another_verbosity_is_refused_before_training(verbose: Any) -> None:
    trainer = trainer_of()
    with pytest.raises((ValueError, TypeError), match="verbose must be"):
        trainer.fit(X, y, verbose=verbose)
    assert len(trainer.history) == 0


def test_announcements_are_silenced_by_quiet_and_logged_always(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "fastmlp"):
        announce("compiling")
        with quiet():
            announce("silently")
    assert capsys.readouterr().err == "fastmlp: compiling\n"
    assert caplog.messages == ["compiling", "silently"]


def test_workers_announce_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiprocessing.current_process(), "_name", "LokyProcess-1")
    announce("compiling")
    assert capsys.readouterr().err == ""


def test_a_silent_fit_is_quiet_and_its_epochs_are_logged(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "fastmlp"):
        trainer_of().fit(
            X, y, epochs=2, callbacks=[lambda *_: announce("from a fit")], verbose=False
        )
    assert capsys.readouterr().err == ""
    assert [message.split()[0] for message in caplog.messages] == ["Epoch", "from"] * 2


def test_early_stopping_says_when_it_stopped_and_what_it_kept(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stop = EarlyStopping("learning_rate", mode="max", patience=3)
    trainer_of().fit(X, y, epochs=50, callbacks=[stop])
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == (
        "Early stopping: stopped after epoch 4: the best learning_rate was 0.1, in epoch 1; "
        "the network is as it was after epoch 1"
    )


def test_estimators_silence_and_log_what_they_do(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    ours = pytest.importorskip("fastmlp.sklearn")
    stop = EarlyStopping("loss", patience=2, min_delta=10.0)
    for verbose in (False, True):
        callbacks = [stop, lambda *_: announce("from a fit")]
        model = ours.MLPClassifier(callbacks=callbacks, verbose=verbose, backend="numpy")
        with caplog.at_level(logging.INFO, "fastmlp"):
            model.fit(X, y)
        shown = capsys.readouterr()
        assert ("from a fit" in shown.err) is verbose
        assert ("Early stopping: stopped after epoch 3" in shown.out) is verbose
        assert sum(message.startswith("Iteration") for message in caplog.messages) == 3
        assert caplog.messages[-1].startswith("Early stopping: stopped after epoch 3")
        caplog.clear()


def test_a_summary_shows_layers_shapes_and_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    network = MLP([784, 32, 32, 10], hidden_activation=["tanh", "hard_sigmoid"])
    network.summary()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-2:] for line in lines[1:-1]] == [
        ["tanh", "25,120"],
        ["hard_sigmoid", "1,056"],
        ["softmax", "330"],
    ]
    assert lines[-1] == f"total {network.n_parameters:,} parameters of float32, 103.5 KiB"


def test_callbacks_and_trainers_show_their_settings() -> None:
    assert repr(EarlyStopping()) == "EarlyStopping()"
    assert repr(EarlyStopping(patience=3, mode="max")) == "EarlyStopping(patience=3, mode='max')"
    assert repr(Checkpoint("a.npz", every=2)) == "Checkpoint(path='a.npz', every=2)"

    class Mine(Callback):
        """Takes no argument."""

    assert repr(Mine()) == "Mine()"
    shown = repr(trainer_of(batch_size=7, regularization=Regularization(dropout=0.5)))
    assert shown.startswith("Trainer(MLP([4, 8, 2]")
    assert "optimizer=SGD(learning_rate=0.1" in shown
    assert "batch_size=7" in shown
    assert "dropout=0.5" in shown
