"""Epochs and steps are counted as they were taken, over fits, sizes of data and resumed runs."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from fastmlp import MLP, SGD, Trainer
from fastmlp.callbacks import Checkpoint, EarlyStopping
from fastmlp.errors import DivergenceError
from fastmlp.schedules import (
    Cosine,
    Exponential,
    InverseScaling,
    OneCycle,
    Schedule,
    StepDecay,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(1000, 3)).astype(np.float32)
Y = RNG.integers(0, 2, 1000)


def make_trainer(schedule=None, **options) -> Trainer:
    given = {"optimizer": SGD(1.0), "batch_size": 10, "backend": "numpy", **options}
    return Trainer(MLP([3, 2], seed=0), schedule=schedule, **given)


def fit(trainer: Trainer, n_rows: int = 40, epochs: int = 1, callbacks=()):
    return trainer.fit(X[:n_rows], Y[:n_rows], epochs, callbacks=callbacks, verbose=False)


# Schedules -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        (Exponential(0.9), [1, 0.9, 0.81, 0.729, 0.6561]),
        (StepDecay(2, 0.5), [1, 1, 0.5, 0.5, 0.25]),
        (InverseScaling(1.0), [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
@pytest.mark.parametrize("sizes", [(1000, 10), (10, 1000), (95, 33)])
def test_the_size_of_the_data_does_not_move_a_schedule_of_epochs(schedule, rates, sizes):
    trainer = make_trainer(schedule)
    fit(trainer, sizes[0], epochs=3)
    fit(trainer, sizes[1], epochs=2)
    assert trainer.history["learning_rate"] == pytest.approx(rates)


@pytest.mark.parametrize("schedule", [Cosine(), OneCycle()], ids=lambda one: one.name)
@pytest.mark.parametrize("sizes", [(1000, 10), (10, 1000)])
def test_the_progress_of_a_schedule_is_the_share_of_epochs(schedule, sizes):
    trainer = make_trainer(schedule)
    fit(trainer, sizes[0], epochs=3)
    fit(trainer, sizes[1], epochs=3)
    other = make_trainer(schedule)
    fit(other, sizes[1], epochs=6)
    assert trainer.history["learning_rate"][3:] == other.history["learning_rate"][3:]


class WarmUp(Schedule):
    """Raises the rate over the first steps."""

    name = "warm_up"

    def factors(self, steps, epoch, total_epochs):
        return np.minimum((steps + 1) / 200, 1)


@pytest.mark.parametrize(
    ("sizes", "rates"),
    [
        ((1000, 1000, 10), [0.5, 1.0, 1.0]),
        ((10, 1000, 10), [0.005, 0.505, 0.51]),
        ((95, 1000, 33), [0.05, 0.55, 0.57]),
    ],
)
def test_a_schedule_of_ones_own_is_told_the_steps_that_were_taken(sizes, rates, backend):
    trainer = make_trainer(WarmUp(), backend=backend)
    for size in sizes:
        fit(trainer, size)
    assert trainer.history["learning_rate"] == pytest.approx(rates)


class Clock(Schedule):
    """Notes the first step of every epoch, the epoch's number, and how many are planned."""

    name = "clock"

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, int]] = []

    def factors(self, steps, epoch, total_epochs):
        self.seen.append((int(steps[0]), epoch, total_epochs))
        return np.ones(len(steps))


@pytest.mark.parametrize("way", ["checkpoint", "pickle"])
def test_a_schedule_of_a_resumed_run_is_told_the_steps_that_were_taken(way, tmp_path):
    trainer = make_trainer(Clock())
    fit(trainer, 1000)
    fit(trainer, 30, epochs=2)
    if way == "pickle":
        again = pickle.loads(pickle.dumps(trainer))
    else:
        trainer.save_checkpoint(tmp_path / "run.npz")
        again = make_trainer(trainer.schedule)
        again.load_checkpoint(tmp_path / "run.npz")
    for one in (trainer, again):
        one.schedule.seen.clear()
        fit(one, 500)
        assert one.schedule.seen == [(106, 3, 4)]


def test_neither_another_optimizer_nor_an_epoch_that_diverged_moves_the_steps():
    trainer = make_trainer(Clock())
    fit(trainer, 100)
    trainer.optimizer = SGD(1e300)
    with pytest.raises(DivergenceError):
        fit(trainer, 50)
    trainer.optimizer = SGD(0.5, momentum=0.9)
    fit(trainer, 20)
    assert trainer.schedule.seen[-1][:2] == (10, 1)


@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
def test_warm_start_counts_epochs():
    sklearn = pytest.importorskip("fastmlp.sklearn")
    rates = []
    model = sklearn.MLPClassifier(
        (4,),
        schedule=Exponential(0.5),
        solver="sgd",
        learning_rate_init=1.0,
        batch_size=10,
        warm_start=True,
        max_iter=2,
        backend="numpy",
        callbacks=[lambda fit, record: rates.append(record["learning_rate"])],
    )
    for n_rows in (100, 30):
        model.fit(X[:n_rows], Y[:n_rows])
    assert rates == [1.0, 0.5, 0.25, 0.125]


# Masks ---------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_the_masks_of_a_warm_start_go_on(kind, backend):
    sklearn = pytest.importorskip("fastmlp.sklearn")
    model = getattr(sklearn, kind)(
        hidden_layer_sizes=(32,),
        dropout=0.5,
        warm_start=True,
        random_state=0,
        max_iter=1,
        batch_size=40,
        solver="sgd",
        learning_rate_init=1e-30,  # so that only masks change the loss
        momentum=0.0,
        alpha=0.0,
        backend=backend,
    )
    losses = [model.fit(X[:40], Y[:40]).loss_ for _ in range(4)]
    assert len(set(losses)) == 4


# Files of the best epoch ---------------------------------------------------------------------


def scripted(*values: float):
    calls = iter(values)

    def cost(y_true, y_pred):
        return next(calls)

    cost.greater_is_better = False
    return cost


def saved_epochs(values, every: int, folder) -> list[int]:
    trainer = make_trainer(metrics=[scripted(*values)])
    saving = Checkpoint(folder / "{epoch}.npz", every=every, metric="cost")
    fit(trainer, epochs=len(values), callbacks=[saving])
    return sorted(int(file.stem) for file in folder.iterdir())


@pytest.mark.parametrize(
    ("values", "every", "epochs"),
    [
        ((5, 4, 1, 2), 2, [2, 4]),
        ((5, 4, 1, 6, 0, 3), 2, [2, 6]),
        ((9, 9, 5, 1, 1, 4), 3, [3, 6]),
        ((3, 2, 4, 1), 1, [1, 2, 4]),
    ],
)
def test_of_every_other_epoch_those_are_saved_that_are_better_than_what_was_saved(
    values, every, epochs, tmp_path
):
    assert saved_epochs(values, every, tmp_path) == epochs


def best_in(file, metric: str = "cost") -> float:
    trainer = make_trainer(metrics=[scripted()])
    trainer.load_checkpoint(file)
    return trainer.history[metric][-1]


@pytest.mark.parametrize("again", [False, True], ids=["one callback", "another callback"])
def test_the_best_of_several_fits_is_kept(again, tmp_path):
    file = tmp_path / "best.npz"
    trainer, saving = make_trainer(metrics=[scripted(3, 1, 2, 4, 0.5, 7)]), None
    for best in (1, 1, 0.5):
        if saving is None or again:
            saving = Checkpoint(file, metric="cost")
        fit(trainer, epochs=2, callbacks=[saving])
        assert best_in(file) == best


def test_the_best_of_a_resumed_run_is_kept(tmp_path):
    file, latest = tmp_path / "best.npz", tmp_path / "latest.npz"
    callbacks = [Checkpoint(file, metric="cost"), Checkpoint(latest)]
    fit(make_trainer(metrics=[scripted(3, 1, 2)]), epochs=3, callbacks=callbacks)
    trainer = make_trainer(metrics=[scripted(4, 0.5)])
    trainer.load_checkpoint(latest)
    for best in (1, 0.5):
        fit(trainer, callbacks=[Checkpoint(file, metric="cost")])
        assert best_in(file) == best


def test_a_run_that_goes_on_from_before_its_best_keeps_it(tmp_path):
    file, early = tmp_path / "best.npz", tmp_path / "early.npz"
    trainer = make_trainer(metrics=[scripted(3, 2, 1)])
    fit(trainer, epochs=1)
    trainer.save_checkpoint(early)
    fit(trainer, epochs=2, callbacks=[Checkpoint(file, metric="cost")])
    trainer = make_trainer(metrics=[scripted(2.5)])
    trainer.load_checkpoint(early)
    fit(trainer, callbacks=[Checkpoint(file, metric="cost")])
    assert best_in(file) == 1


def test_a_file_of_another_run_is_replaced(tmp_path):
    file = tmp_path / "best.npz"
    for value in (1, 2):
        saving = Checkpoint(file, metric="cost")
        fit(make_trainer(metrics=[scripted(value)]), callbacks=[saving])
        assert best_in(file) == value


def test_after_a_write_that_failed_the_best_is_saved_once_more(tmp_path):
    folder = tmp_path / "later"
    trainer = make_trainer(metrics=[scripted(1, 2)])
    saving = Checkpoint(folder / "best.npz", metric="cost")
    with pytest.raises(FileNotFoundError):
        fit(trainer, callbacks=[saving])
    folder.mkdir()
    fit(trainer, callbacks=[saving])
    assert best_in(folder / "best.npz") == 2


def test_early_stopping_counts_anew_in_every_fit():
    trainer, stop = make_trainer(metrics=[scripted(1, 2, 5, 4, 3)]), EarlyStopping("cost", 3)
    fit(trainer, epochs=2, callbacks=[stop])
    fit(trainer, epochs=3, callbacks=[stop])
    assert (stop.best, stop.best_epoch) == (3, 5)


@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_estimators_refuse_checkpoints_at_once(kind, tmp_path):
    sklearn = pytest.importorskip("fastmlp.sklearn")
    saving = Checkpoint(tmp_path / "c.npz")
    model = getattr(sklearn, kind)(callbacks=[saving], backend="numpy")
    with pytest.raises(ValueError, match=f"{kind} takes no Checkpoint among its callbacks"):
        model.fit(X[:40], Y[:40])
    assert not hasattr(model, "coefs_")
    assert list(tmp_path.iterdir()) == []
