"""Callbacks: when they are called, and what ours do."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from fastmlp import (
    MLP,
    Adam,
    Callback,
    Checkpoint,
    CSVLog,
    EarlyStopping,
    History,
    TensorBoard,
    Trainer,
    TrainingInterrupted,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)
X_VAL = RNG.normal(size=(40, 4)).astype(np.float32)
Y_VAL = RNG.integers(0, 2, 40)  # noise: the validation loss soon rises


def make_trainer(backend="numpy") -> Trainer:
    network = MLP([4, 16, 2], seed=3)
    return Trainer(network, optimizer=Adam(0.02), batch_size=10, backend=backend)


def fit(trainer: Trainer, callbacks, epochs: int = 60) -> History:
    return trainer.fit(X, Y, epochs, (X_VAL, Y_VAL), callbacks=callbacks, verbose=False)


class Diary(Callback):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def on_fit_begin(self, trainer):
        self.lines.append("begin")

    def on_epoch_end(self, trainer, record):
        self.lines.append(f"epoch {record['epoch']}")

    def on_fit_end(self, trainer, history):
        self.lines.append(f"end of {len(history)}")

    def close(self):
        self.lines.append("close")


def test_callbacks_are_called_in_order():
    diary, trainer = Diary(), make_trainer()
    fit(trainer, [diary], epochs=2)
    assert diary.lines == ["begin", "epoch 1", "epoch 2", "end of 2", "close"]
    fit(trainer, [diary], epochs=1)
    assert diary.lines[5:] == ["begin", "epoch 3", "end of 1", "close"]


def test_an_error_in_a_callback_leaves_the_whole_epoch_and_closes_the_others():
    diary, trainer, reference = Diary(), make_trainer(), make_trainer()

    def fail(trainer, record):
        trainer.network.parameters[:] = 0
        if record["epoch"] == 2:
            raise OSError("no paper")

    def restore(trainer, record):
        trainer.network.parameters = kept[-1]

    kept = []
    with pytest.raises(OSError, match="no paper"):
        fit(
            trainer,
            [diary, lambda t, r: kept.append(t.network.parameters.copy()), fail, restore],
        )
    assert diary.lines == ["begin", "epoch 1", "epoch 2", "close"]
    fit(reference, [], epochs=2)
    np.testing.assert_array_equal(trainer.network.parameters, reference.network.parameters)


def test_ctrl_c_in_a_callback_ends_the_fit_with_a_warning():
    diary, trainer = Diary(), make_trainer()

    def interrupt(trainer, record):
        raise KeyboardInterrupt

    with pytest.warns(TrainingInterrupted, match="after epoch 1"):
        history = fit(trainer, [diary, interrupt])
    assert history["epoch"] == [1]
    assert diary.lines == ["begin", "epoch 1", "close"]


def test_a_function_ends_the_fit_by_returning_true():
    history = fit(make_trainer(), [lambda trainer, record: record["epoch"] == 4])
    assert len(history) == 4


def test_a_function_sees_the_network_of_its_epoch():
    losses = []

    def measure(trainer, record):
        losses.append(trainer.evaluate(X_VAL, Y_VAL).loss)

    assert fit(make_trainer(), [measure], epochs=3)["val_loss"] == losses


def test_parameters_changed_by_a_callback_are_trained_on():
    def clip(trainer, record):
        np.clip(trainer.network.parameters, -0.01, 0.01, out=trainer.network.parameters)

    trainer = make_trainer()
    fit(trainer, [clip], epochs=3)
    assert np.abs(trainer.network.parameters).max() <= np.float32(0.01)


# Early stopping ------------------------------------------------------------------------------


def test_early_stopping_restores_the_best_epoch(backend):
    trainer = make_trainer(backend)
    stop = EarlyStopping(patience=5)
    history = fit(trainer, [stop])
    best = int(np.argmin(history["val_loss"]))
    assert len(history) == best + 1 + 5 < 60
    assert (stop.best_epoch, stop.best) == (best + 1, history["val_loss"][best])
    assert trainer.evaluate(X_VAL, Y_VAL).loss == history["val_loss"][best]


def test_early_stopping_restores_even_where_the_epochs_ran_out():
    trainer = make_trainer()
    history = fit(trainer, [EarlyStopping(patience=1000)])
    assert len(history) == 60
    assert trainer.evaluate(X_VAL, Y_VAL).loss == min(history["val_loss"])


def test_early_stopping_without_restoring_keeps_the_last_epoch():
    trainer = make_trainer()
    history = fit(trainer, [EarlyStopping(patience=3, restore_best=False)])
    assert trainer.evaluate(X_VAL, Y_VAL).loss == history["val_loss"][-1]


def test_early_stopping_starts_anew_in_the_next_fit():
    trainer, stop = make_trainer(), EarlyStopping(patience=4)
    fit(trainer, [stop])
    again = fit(trainer, [stop])
    assert len(again) >= 5


@pytest.mark.parametrize(
    ("metric", "mode", "values", "stops_at"),
    [
        ("accuracy", "auto", [0.1, 0.3, 0.3, 0.2, 0.9], 4),
        ("val_loss", "auto", [0.9, 0.3, 0.3, 0.4, 0.1], 4),
        ("accuracy", "min", [0.1, 0.3, 0.4, 0.0], 3),
        ("cost", "max", [0.1, float("nan"), 0.05, 0.5], 3),
        ("cost", "max", [float("nan"), float("nan"), 0.5], 2),
    ],
)
def test_early_stopping_knows_better_from_worse(metric, mode, values, stops_at):
    stop, trainer = EarlyStopping(metric, patience=2, mode=mode), make_trainer()
    for epoch, value in enumerate(values, start=1):
        stopped = stop.on_epoch_end(trainer, {"epoch": epoch, metric: value})
        if stopped:
            break
    assert (stopped, epoch) == (True, stops_at)


def test_small_improvements_do_not_count():
    stop, trainer = EarlyStopping("loss", patience=2, min_delta=0.1), make_trainer()
    stops = [
        stop.on_epoch_end(trainer, {"epoch": epoch, "loss": loss})
        for epoch, loss in enumerate([1.0, 0.95, 0.92])
    ]
    assert stops == [False, False, True]


def test_a_metric_that_is_not_recorded_is_named():
    with pytest.raises(ValueError, match=r"'val_loss' is not recorded.*pass validation_data"):
        make_trainer().fit(X, Y, callbacks=[EarlyStopping()], verbose=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patience": 0}, "patience must be at least 1"),
        ({"min_delta": -1}, "min_delta must be at least 0"),
        ({"mode": "up"}, "mode must be 'auto', 'min' or 'max', got 'up'"),
    ],
)
def test_bad_options_of_early_stopping(options, message):
    with pytest.raises(ValueError, match=message):
        EarlyStopping(**options)


# Files ---------------------------------------------------------------------------------------


def test_checkpoints_every_other_epoch(tmp_path):
    fit(make_trainer(), [Checkpoint(tmp_path / "run-{epoch}.npz", every=2)], epochs=5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run-2.npz", "run-4.npz"]


def test_checkpoints_of_the_best_epoch(tmp_path):
    trainer = make_trainer()
    history = fit(trainer, [Checkpoint(tmp_path / "best.npz", metric="val_loss")])
    trainer.load_checkpoint(tmp_path / "best.npz")
    assert trainer.evaluate(X_VAL, Y_VAL).loss == min(history["val_loss"])
    assert len(trainer.history) == np.argmin(history["val_loss"]) + 1


def test_the_csv_log_holds_every_epoch(tmp_path):
    path = tmp_path / "log.csv"
    lengths = []
    trainer = make_trainer()
    fit(trainer, [CSVLog(path), lambda t, r: lengths.append(len(path.read_text().split()))], 3)
    assert lengths == [2, 3, 4]
    table = np.genfromtxt(path, delimiter=",", names=True)
    assert table["val_loss"].tolist() == trainer.history["val_loss"]


def test_tensorboard_gets_every_column(tmp_path):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    history = fit(make_trainer(), [TensorBoard(tmp_path)], epochs=2)
    (file,) = tmp_path.iterdir()
    data, found = file.read_bytes(), []
    while data:  # records of TensorFlow's format: length, checksum, event, checksum
        length = int.from_bytes(data[:8], "little")
        found += list(Event.FromString(data[12 : 12 + length]).summary.value)
        data = data[16 + length :]
    losses = [value.simple_value for value in found if value.tag == "val_loss"]
    assert losses == pytest.approx(history["val_loss"])
    assert {value.tag for value in found} == set(history.columns) - {"epoch"}


def test_tensorboard_without_its_library_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"pip install 'fastmlp\[tensorboard\]'"):
        TensorBoard(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"cannot write log\.csv: there is no folder"):
        fit(make_trainer(), [CSVLog(tmp_path / "nowhere" / "log.csv")])


@pytest.mark.parametrize("said", [True, np.True_])
def test_a_function_may_say_true_as_numpy_does(said):
    trainer = Trainer(MLP([2, 2]), backend="numpy")
    given = {"callbacks": [lambda trainer, record: said], "verbose": False}
    assert len(trainer.fit(np.eye(2), [0, 1], epochs=5, **given)) == 1


@pytest.mark.parametrize("path", [b"run.npz", 3, None])
@pytest.mark.parametrize("kind", [Checkpoint, CSVLog])
def test_a_path_is_a_string_or_a_path(kind, path):
    with pytest.raises(TypeError, match="str"):
        kind(path)


def test_a_path_may_be_all_that_python_takes_for_one(tmp_path, monkeypatch):
    class Named:
        def __fspath__(self) -> str:
            return "c.npz"

    monkeypatch.chdir(tmp_path)
    trainer = Trainer(MLP([2, 2]), backend="numpy")
    paths = ["a.npz", Path("b.npz"), Named()]
    for path in paths:
        trainer.fit(np.eye(2), [0, 1], epochs=1, callbacks=[Checkpoint(path)], verbose=False)
        trainer.load_checkpoint(path)
        trainer.save_checkpoint(path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.npz", "b.npz", "c.npz"]
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*~"):
        trainer.save_checkpoint("~/d.npz")  # which only a shell takes for a home folder


@pytest.mark.parametrize("value", ["no", 1, None])
def test_what_is_restored_is_true_or_false(value):
    with pytest.raises(TypeError, match="restore_best must be True or False, got"):
        EarlyStopping(restore_best=value)
    assert EarlyStopping(restore_best=np.False_).restore_best is False
