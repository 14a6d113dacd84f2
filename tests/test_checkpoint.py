"""Checkpoints: whole files, and runs that go on with the same bits."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from fastmlp import MLP, SGD, Adam, Checkpoint, EarlyStopping, Regularization, Trainer
from fastmlp._files import write_atomically
from fastmlp.checkpoint import read_checkpoint, write_checkpoint
from fastmlp.errors import CheckpointError
from fastmlp.losses import CustomLoss
from fastmlp.optimizers import OPTIMIZERS
from fastmlp.schedules import Cosine, OneCycle, ReduceOnPlateau

CHILD = Path(__file__).with_name("checkpoint_child.py")
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # by which Windows ends a process at once

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)
X_VAL = RNG.normal(size=(40, 4)).astype(np.float32)
Y_VAL = RNG.integers(0, 2, 40)


def make_trainer(backend="numpy", **options) -> Trainer:
    network = MLP([4, 6, 2], seed=3)
    return Trainer(network, **({"batch_size": 16, "backend": backend} | options))


def fit(trainer: Trainer, epochs: int, callbacks=()) -> None:
    trainer.fit(X, Y, epochs, (X_VAL, Y_VAL), callbacks=callbacks, verbose=False)


def timeless(trainer: Trainer) -> list[dict[str, float]]:
    return [{k: v for k, v in record.items() if k != "seconds"} for record in trainer.history]


class BrokenOffError(Exception):
    """Stands for a process that ends in the middle of a run."""


def break_off_after(epoch: int):
    def callback(trainer, record):
        if record["epoch"] == epoch + 1:
            raise BrokenOffError

    return callback


# Same bits -----------------------------------------------------------------------------------

RECIPES = {
    **{name: {"optimizer": optimizer} for name, optimizer in OPTIMIZERS.items()},
    "momentum": {"optimizer": SGD(0.1, momentum=0.9, nesterov=True)},
    "cosine": {"optimizer": "adam", "schedule": Cosine(warm_up=0.2)},
    "one cycle": {"optimizer": SGD(0.5), "schedule": OneCycle()},
    "plateau": {"optimizer": SGD(0.5), "schedule": ReduceOnPlateau(patience=0, threshold=0.02)},
    "dropout": {"optimizer": "adam", "regularization": Regularization(dropout=0.3)},
    "noise": {"optimizer": "adam", "regularization": Regularization(input_noise=0.3)},
    "average": {"optimizer": "adam", "regularization": Regularization(ema=0.9, clip_norm=0.1)},
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_an_interrupted_and_resumed_run_ends_with_the_same_bits(backend, recipe, tmp_path):
    whole, broken = (make_trainer(backend, **RECIPES[recipe]) for _ in range(2))
    fit(whole, 7)
    file = tmp_path / "run.npz"
    with pytest.raises(BrokenOffError):
        fit(broken, 7, [Checkpoint(file, every=3), break_off_after(4)])
    resumed = make_trainer(backend, **RECIPES[recipe])
    resumed.load_checkpoint(file)
    assert len(resumed.history) == 3
    assert resumed.planned_epochs == 7
    fit(resumed, resumed.planned_epochs - len(resumed.history))
    np.testing.assert_array_equal(resumed.network.parameters, whole.network.parameters)
    assert timeless(resumed) == timeless(whole)


@pytest.mark.parametrize("broken_after", [1, 3, 5, 6])
def test_early_stopping_goes_on_too(broken_after, tmp_path):
    file = tmp_path / "run.npz"
    whole, broken, resumed = (make_trainer(optimizer=Adam(0.05)) for _ in range(3))
    fit(whole, 40, [EarlyStopping(patience=6)])
    assert broken_after < len(whole.history) < 40
    callbacks = [Checkpoint(file), EarlyStopping(patience=6), break_off_after(broken_after)]
    with pytest.raises(BrokenOffError):
        fit(broken, 40, callbacks)
    stop = EarlyStopping(patience=6)
    resumed.load_checkpoint(file)
    fit(resumed, 40 - len(resumed.history), [stop])
    np.testing.assert_array_equal(resumed.network.parameters, whole.network.parameters)
    assert timeless(resumed) == timeless(whole)


def test_a_run_that_was_stopped_stays_stopped(tmp_path):
    file = tmp_path / "run.npz"
    whole, resumed = make_trainer(optimizer=Adam(0.05)), make_trainer(optimizer=Adam(0.05))
    fit(whole, 40, [EarlyStopping(patience=3), Checkpoint(file)])
    resumed.load_checkpoint(file)
    fit(resumed, 40 - len(resumed.history), [EarlyStopping(patience=3)])
    np.testing.assert_array_equal(resumed.network.parameters, whole.network.parameters)
    assert timeless(resumed) == timeless(whole)


def test_a_checkpoint_holds_what_the_user_made_of_the_parameters(tmp_path):
    trainer, loaded = make_trainer(), make_trainer()
    fit(trainer, 1)
    trainer.network.parameters[:] = 0.25
    trainer.save_checkpoint(tmp_path / "run.npz")
    loaded.load_checkpoint(tmp_path / "run.npz")
    assert np.all(loaded.network.parameters == 0.25)


def test_a_checkpoint_moves_to_another_backend(backend, tmp_path):
    trainer, loaded = make_trainer("numpy"), make_trainer(backend)
    fit(trainer, 2)
    trainer.save_checkpoint(tmp_path / "run.npz")
    loaded.load_checkpoint(tmp_path / "run.npz")
    fit(trainer, 2)
    fit(loaded, 2)
    np.testing.assert_allclose(
        loaded.network.parameters, trainer.network.parameters, rtol=1e-4, atol=1e-6
    )


# Files ---------------------------------------------------------------------------------------


def test_values_come_back_exactly(tmp_path):
    content = {
        "arrays": {"x": np.arange(3, dtype=np.float32), "none": None},
        "list": [1, 2.5, "three", {"four": np.array(4)}],
        "big": 2**127 + 1,
        "small": 0.1 + 0.2,
        "nan": float("inf"),
    }
    write_checkpoint(tmp_path / "a.npz", content)
    back = read_checkpoint(tmp_path / "a.npz")
    np.testing.assert_array_equal(back["arrays"].pop("x"), content["arrays"].pop("x"))
    assert back == content


def test_a_checkpoint_holds_no_pickle(tmp_path):
    trainer = make_trainer(optimizer="adam")
    fit(trainer, 1, [EarlyStopping()])
    trainer.save_checkpoint(tmp_path / "run.npz")
    with np.load(tmp_path / "run.npz", allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text", "other npz", "npy"])
def test_a_damaged_file_is_named(damage, tmp_path):
    file = tmp_path / "run.npz"
    trainer = make_trainer()
    fit(trainer, 1)
    trainer.save_checkpoint(file)
    whole = file.read_bytes()
    middle = whole.index(b"\x93NUMPY") + 200
    flipped = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
    contents = {"truncated": whole[:-99], "flipped": flipped, "empty": b"", "text": b"hello"}
    if damage in contents:
        file.write_bytes(contents[damage])
    elif damage == "other npz":
        np.savez(file, a=np.arange(3))
    else:
        with file.open("wb") as stream:
            np.save(stream, np.arange(3))
    before = trainer.network.parameters.copy()
    with pytest.raises(ValueError, match=r"run\.npz is damaged or no checkpoint of fastmlp"):
        trainer.load_checkpoint(file)
    np.testing.assert_array_equal(trainer.network.parameters, before)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"run\.npz"):
        make_trainer().load_checkpoint(tmp_path / "run.npz")
    with pytest.raises(FileNotFoundError, match="no folder"):
        make_trainer().save_checkpoint(tmp_path / "nowhere" / "run.npz")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": Adam(0.5)}, "was saved with optimizer SGD.*this trainer has Adam"),
        ({"batch_size": 8}, "was saved with batch_size 16, but this trainer has 8"),
        ({"loss": "mse"}, "was saved with loss CrossEntropy"),
        ({"seed": 9}, "was saved with seed 3, but this trainer has 9"),
        ({"schedule": "cosine"}, "was saved with schedule Constant"),
        ({"regularization": Regularization(l2=1.0)}, "was saved with regularization"),
    ],
)
def test_another_configuration_is_refused(options, message, tmp_path):
    make_trainer().save_checkpoint(tmp_path / "run.npz")
    with pytest.raises(ValueError, match=message):
        make_trainer(**options).load_checkpoint(tmp_path / "run.npz")


def test_another_network_is_refused(tmp_path):
    make_trainer().save_checkpoint(tmp_path / "run.npz")
    with pytest.raises(ValueError, match=r"layer_sizes \[4, 6, 2\], but this trainer has"):
        Trainer(MLP([4, 7, 2]), backend="numpy").load_checkpoint(tmp_path / "run.npz")


def test_a_custom_loss_may_be_another_object(tmp_path):
    def make():
        loss = CustomLoss(lambda o, t: np.mean((o - t) ** 2, axis=1), lambda o, t: o - t)
        return make_trainer(loss=loss)

    make().save_checkpoint(tmp_path / "run.npz")
    make().load_checkpoint(tmp_path / "run.npz")


@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
def test_a_write_that_fails_keeps_the_old_file(step, tmp_path, monkeypatch):
    file = tmp_path / "a"
    write_atomically(file, b"old")

    def fail(*args, **kwargs):
        raise OSError("no space left")

    if step == "open":
        monkeypatch.setattr(Path, "open", fail)
    else:
        monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="no space left"):
        write_atomically(file, b"new")
    monkeypatch.undo()
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_replaced_file_keeps_its_permissions(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"old")
    file.chmod(0o640)
    write_atomically(file, b"new")
    assert file.stat().st_mode & 0o777 == 0o640


@contextlib.contextmanager
def child(file: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(CHILD), str(file), "1000000", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as started:
        yield started


def kill_when_ready(
    process: subprocess.Popen[str], file: Path, rng: random.Random, *, after_an_epoch: bool
) -> None:
    before = file.stat().st_mtime_ns if file.exists() else None
    ready, number = process.stdout.readline().split()
    assert ready == "ready"
    while after_an_epoch and (not file.exists() or file.stat().st_mtime_ns == before):
        time.sleep(0.001)
    time.sleep(rng.uniform(0.0, 0.06))
    os.kill(int(number), KILL)


def kill_processes(file: Path, n_kills: int) -> Iterator[None]:
    """Yield whenever a run in a process of its own has been killed."""
    rng = random.Random(0)
    for kill in range(n_kills):
        with child(file) as process:
            kill_when_ready(process, file, rng, after_an_epoch=kill % 2 == 1)
        yield


def kill_forks(file: Path, n_kills: int) -> Iterator[None]:
    """Yield whenever a run in a child of one process has been killed: many, in little time."""
    rng = random.Random(0)
    with child(file, "--forked") as process:
        for kill in range(n_kills):
            print(file=process.stdin, flush=True)
            kill_when_ready(process, file, rng, after_an_epoch=kill % 2 == 1)
            assert process.stdout.readline() == f"ended by {-KILL}\n"
            yield


def check_killed_runs(kills: Callable[[Path, int], Iterator[None]], file: Path, n: int) -> None:
    spec = importlib.util.spec_from_file_location("checkpoint_child", CHILD)
    runs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(runs)
    epochs = 0
    for _ in kills(file, n):
        if file.exists():
            trainer = runs.make_trainer()
            trainer.load_checkpoint(file)
            assert len(trainer.history) >= epochs
            epochs = len(trainer.history)
    assert epochs >= n // 2
    reference = runs.make_trainer()
    reference.fit(runs.X, runs.Y, epochs, verbose=False)
    np.testing.assert_array_equal(trainer.network.parameters, reference.network.parameters)
    assert timeless(trainer) == timeless(reference)
    assert len(list(file.parent.iterdir())) <= 2  # the last one killed may leave its part


def test_killed_runs_leave_a_file_to_go_on_from(tmp_path):
    check_killed_runs(kill_processes, tmp_path / "run.npz", 4)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_200_killed_runs_leave_a_file_to_go_on_from(tmp_path):
    check_killed_runs(kill_forks, tmp_path / "run.npz", 200)


def make_scaling_trainer(backend="numpy") -> Trainer:
    network = MLP([4, 6, 2], seed=3, scaling_layer=True)
    return Trainer(network, optimizer=Adam(0.02), batch_size=16, backend=backend)


def test_a_run_with_a_scaling_layer_goes_on_with_the_same_bits(backend, tmp_path):
    whole, broken, resumed = (make_scaling_trainer(backend) for _ in range(3))
    fit(whole, 7)
    fit(broken, 3)
    broken.save_checkpoint(tmp_path / "run.npz")
    resumed.load_checkpoint(tmp_path / "run.npz")
    fit(resumed, 4)
    np.testing.assert_array_equal(resumed.network.parameters, whole.network.parameters)
    assert np.all(whole.network.scale != 1)
    assert timeless(resumed) == timeless(whole)


def test_a_checkpoint_is_of_a_trainer_with_a_scaling_layer_or_without(tmp_path):
    with_one, without = make_scaling_trainer(), make_trainer(optimizer=Adam(0.02))
    with_one.save_checkpoint(tmp_path / "with.npz")
    without.save_checkpoint(tmp_path / "without.npz")
    with pytest.raises(CheckpointError, match="scaling_layer True, but this trainer has False"):
        without.load_checkpoint(tmp_path / "with.npz")
    with pytest.raises(CheckpointError, match="scaling_layer False, but this trainer has True"):
        with_one.load_checkpoint(tmp_path / "without.npz")


def test_a_checkpoint_that_knows_no_scaling_layers_is_of_a_trainer_without(tmp_path):
    trainer, file = make_trainer(), tmp_path / "run.npz"
    fit(trainer, 2)
    trainer.save_checkpoint(file)
    content = read_checkpoint(file)
    del content["settings"]["scaling_layer"]
    write_checkpoint(file, content)
    loaded = make_trainer()
    loaded.load_checkpoint(file)
    assert len(loaded.history) == 2
    content["settings"]["scaling_layer"] = None
    write_checkpoint(file, content)
    with pytest.raises(CheckpointError, match="scaling_layer None, but this trainer has False"):
        make_trainer().load_checkpoint(file)


def test_the_names_of_columns_come_back(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=[f"column {i}" for i in range(X.shape[1])])
    trainer, loaded, unnamed = make_trainer(), make_trainer(), make_trainer()
    trainer.fit(frame, Y, epochs=1, verbose=False)
    trainer.save_checkpoint(tmp_path / "named.npz")
    loaded.load_checkpoint(tmp_path / "named.npz")
    assert loaded.network.feature_names == trainer.network.feature_names
    with pytest.raises(ValueError, match="another order"):
        loaded.predict(frame[frame.columns[::-1]])
    unnamed.fit(X, Y, epochs=1, verbose=False)
    unnamed.save_checkpoint(tmp_path / "unnamed.npz")
    loaded.load_checkpoint(tmp_path / "unnamed.npz")  # the columns are known all the same
    assert loaded.network.feature_names == trainer.network.feature_names


@pytest.mark.parametrize("names", [["a"], "abcd", [1, 2, 3, 4], {}, 3])
def test_other_names_of_columns_are_refused(tmp_path, names):
    trainer, file = make_trainer(), tmp_path / "a.npz"
    trainer.save_checkpoint(file)
    write_checkpoint(file, {**read_checkpoint(file), "feature_names": names})
    with pytest.raises(CheckpointError, match="must be None or a list of 4 strings"):
        trainer.load_checkpoint(file)
    assert trainer.network.feature_names is None
