"""Epochs and steps are counted as they were taken, over fits, sizes of data and resumed runs."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmlp import MLP, SGD, Trainer
from fastmlp.backends.numpy_backend import NumpySession
from fastmlp.callbacks import Callback, Checkpoint, CSVLog, EarlyStopping, TensorBoard
from fastmlp.errors import DivergenceError, TrainingInterrupted
from fastmlp.schedules import (
    Cosine,
    Exponential,
    InverseScaling,
    OneCycle,
    ReduceOnPlateau,
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


@given(fits=st.lists(st.tuples(st.integers(1, 60), st.integers(0, 3)), min_size=1, max_size=6))
def test_steps_epochs_and_the_plan_are_those_of_all_fits(fits):
    trainer, expected, steps, epochs = make_trainer(Clock()), [], 0, 0
    for n_rows, n_epochs in fits:
        fit(trainer, n_rows, epochs=n_epochs)
        for i in range(n_epochs):
            expected.append((steps, epochs + i, epochs + n_epochs))
            steps += -(-n_rows // 10)
        epochs += n_epochs
    assert trainer.schedule.seen == expected


def test_neither_another_optimizer_nor_an_epoch_that_diverged_moves_the_steps():
    trainer = make_trainer(Clock())
    fit(trainer, 100)
    trainer.optimizer = SGD(1e300)
    with pytest.raises(DivergenceError):
        fit(trainer, 50)
    trainer.optimizer = SGD(0.5, momentum=0.9)
    fit(trainer, 20)
    assert trainer.schedule.seen[-1][:2] == (10, 1)


@pytest.mark.parametrize("name", ["ReduceOnPlateau", "other metric"])
def test_another_schedule_does_not_inherit_what_a_plateau_reduced(name, tmp_path):
    plateau = ReduceOnPlateau(factor=0.5, patience=0, threshold=10.0)
    trainer = make_trainer(plateau)
    fit(trainer, epochs=3)
    trainer.schedule = ReduceOnPlateau(factor=0.1, patience=0, threshold=10.0)  # goes on
    fit(trainer, epochs=2)
    other = ReduceOnPlateau(metric="accuracy") if name == "other metric" else None
    trainer.schedule = other
    fit(trainer, epochs=1)
    assert trainer.history["learning_rate"] == pytest.approx([1, 1, 0.5, 0.25, 0.025, 1])
    trainer.save_checkpoint(tmp_path / "run.npz")
    again = make_trainer(other)
    again.load_checkpoint(tmp_path / "run.npz")
    assert again.history == trainer.history


def test_a_schedule_that_is_assigned_is_checked_and_understood():
    trainer = make_trainer()
    trainer.schedule = "cosine"
    assert trainer.schedule == Cosine()
    with pytest.raises(ValueError, match="schedule"):
        trainer.schedule = "cosinus maximus"
    trainer = make_trainer(optimizer="lbfgs")
    with pytest.raises(ValueError, match="L-BFGS has no learning rate"):
        trainer.schedule = "cosine"


# Plans -----------------------------------------------------------------------------------------


def refused(trainer: Trainer) -> None:
    with pytest.raises(ValueError, match="'val_loss' is not recorded"):
        fit(trainer, epochs=1000, callbacks=[EarlyStopping()])


def diverged(trainer: Trainer) -> None:
    trainer.optimizer = SGD(1e300)
    with pytest.raises(DivergenceError):
        fit(trainer, epochs=1000)
    trainer.optimizer = SGD(1.0)


def interrupted(trainer: Trainer) -> None:
    class Interrupting(Callback):
        def on_fit_begin(self, trainer: Trainer) -> None:
            raise KeyboardInterrupt

    with pytest.warns(TrainingInterrupted, match="after epoch 2"):
        fit(trainer, epochs=1000, callbacks=[Interrupting()])


@pytest.mark.parametrize("fail", [refused, diverged, interrupted])
def test_a_fit_that_trained_nothing_plans_nothing(fail):
    trainer = make_trainer(Cosine())
    fit(trainer, epochs=2)
    fail(trainer)
    assert trainer.planned_epochs == 2
    fit(trainer, epochs=2)
    assert trainer.history["learning_rate"][-1] == 0


@pytest.mark.parametrize("sizes", [(1000, 10), (10, 200, 30), (15, 40, 7, 100)])
def test_partial_fit_counts_steps_and_epochs(sizes):
    sklearn = pytest.importorskip("fastmlp.sklearn")
    clock = Clock()
    model = sklearn.MLPClassifier((4,), schedule=clock, max_iter=3, batch_size=7, backend="numpy")
    for size in sizes:
        model.partial_fit(X[:size], Y[:size], classes=[0, 1])
    before = np.cumsum([0, *(-(-size // 7) for size in sizes)])
    assert clock.seen == [(before[i], i, max(3, i + 1)) for i in range(len(sizes))]


@pytest.mark.parametrize("schedule", [Cosine(), OneCycle()], ids=lambda one: one.name)
def test_single_epochs_of_partial_fit_follow_the_schedule_of_one_fit(schedule):
    sklearn = pytest.importorskip("fastmlp.sklearn")
    options = {"schedule": schedule, "max_iter": 5, "batch_size": 10, "shuffle": False}
    models = [
        sklearn.MLPRegressor(
            hidden_layer_sizes=(4,), random_state=0, tol=0, backend="numpy", **options
        )
        for _ in range(2)
    ]
    with pytest.warns(UserWarning, match="Maximum iterations"):
        models[0].fit(X[:45], Y[:45])
    for _ in range(5):
        models[1].partial_fit(X[:45], Y[:45])
    for one, other in zip(models[0].coefs_, models[1].coefs_, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
@pytest.mark.parametrize("sizes", [(100, 30), (30, 100), (40, 40)])
def test_warm_starts_count_steps_and_epochs_and_plan_max_iter_more(sizes):
    sklearn = pytest.importorskip("fastmlp.sklearn")
    clock = Clock()
    options = {"warm_start": True, "max_iter": 2, "batch_size": 10, "tol": 0, "backend": "numpy"}
    model = sklearn.MLPClassifier((4,), schedule=clock, **options)
    for n_rows in sizes:
        model = pickle.loads(pickle.dumps(model))  # a schedule is pickled along
        model.schedule.seen.clear()
        model.fit(X[:n_rows], Y[:n_rows])
    (a, b) = (size // 10 for size in sizes)
    assert model.schedule.seen == [(2 * a, 2, 4), (2 * a + b, 3, 4)]


@pytest.mark.filterwarnings("ignore:.*Maximum iterations", "ignore:Got `batch_size`")
@given(
    calls=st.lists(
        st.tuples(st.sampled_from(["fit", "partial_fit"]), st.integers(2, 60), st.integers(1, 3)),
        min_size=1,
        max_size=5,
    ),
    solvers=st.lists(st.sampled_from(["sgd", "adam"]), min_size=5, max_size=5),
)
def test_steps_epochs_and_the_plan_are_those_of_all_calls(calls, solvers):
    model, expected, steps, epochs = make_model("MLPRegressor", schedule=Clock()), [], 0, 0
    for (way, n_rows, max_iter), solver in zip(calls, solvers, strict=False):
        model.set_params(max_iter=max_iter, solver=solver, batch_size=10)
        getattr(model, way)(X[:n_rows], Y[:n_rows])
        n_epochs = max_iter if way == "fit" else 1
        planned = epochs + max_iter if way == "fit" else max(max_iter, epochs + 1)
        for i in range(n_epochs):
            expected.append((steps, epochs + i, planned))
            steps += -(-n_rows // 10)
        epochs += n_epochs
    assert model.schedule.seen == expected
    assert len(model.loss_curve_) == epochs


@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
def test_an_estimators_other_schedule_does_not_inherit_what_a_plateau_reduced():
    sklearn = pytest.importorskip("fastmlp.sklearn")
    plateau = ReduceOnPlateau(factor=0.5, patience=0, threshold=10.0)
    rates = []
    model = sklearn.MLPClassifier(
        (4,),
        schedule=plateau,
        solver="sgd",
        learning_rate_init=0.5,
        warm_start=True,
        max_iter=3,
        backend="numpy",
        callbacks=[lambda fit, record: rates.append(record["learning_rate"])],
    )
    for schedule in (plateau, plateau, "constant", ReduceOnPlateau(factor=0.1)):
        model.set_params(schedule=schedule).fit(X[:40], Y[:40])
    reduced = [0.5, 0.5, 0.25, 0.125, 0.0625, 0.03125]
    assert rates == pytest.approx([*reduced, *[0.5] * 6])


# Records of estimators -------------------------------------------------------------------------


def make_model(kind: str = "MLPClassifier", **options):
    sklearn = pytest.importorskip("fastmlp.sklearn")
    given = {"max_iter": 2, "tol": 0, "warm_start": True, "random_state": 0, "backend": "numpy"}
    return getattr(sklearn, kind)(hidden_layer_sizes=(4,), **{**given, **options})


def logged_epochs(path) -> list[int]:
    return [int(line.split(",")[0]) for line in path.read_text().splitlines()[1:]]


@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_the_log_of_a_warm_start_holds_every_epoch(kind, tmp_path):
    path = tmp_path / "log.csv"
    model = make_model(kind, callbacks=[CSVLog(path)])
    model.fit(X[:40], Y[:40])
    assert logged_epochs(path) == [1, 2]
    model.fit(X[:40], Y[:40])
    assert logged_epochs(path) == [1, 2, 3, 4]
    model.partial_fit(X[:40], Y[:40])  # calls no callbacks
    model = pickle.loads(pickle.dumps(model))
    model.set_params(max_iter=1).fit(X[:20], Y[:20])
    assert logged_epochs(path) == [1, 2, 3, 4, 5, 6]
    table = np.genfromtxt(path, delimiter=",", names=True)
    assert table["loss"] == pytest.approx(model.loss_curve_)
    assert np.all(table["seconds"] > 0)
    assert np.all(table["learning_rate"] == 0.001)


@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
@pytest.mark.parametrize("again", ["clone", "fit"])
def test_a_fit_that_starts_anew_counts_anew(again, tmp_path):
    path = tmp_path / "log.csv"
    model = make_model(callbacks=[CSVLog(path)])
    parameters = set(model.get_params())
    model.fit(X[:40], Y[:40]).fit(X[:40], Y[:40])
    assert set(model.get_params()) == parameters
    clone = pytest.importorskip("sklearn").clone
    model = clone(model) if again == "clone" else model.set_params(warm_start=False)
    model.fit(X[:40], Y[:40])
    assert logged_epochs(path) == [1, 2]


@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
def test_epochs_without_callbacks_are_recorded_too(tmp_path):
    path = tmp_path / "log.csv"
    # So small and whole batches are trained in one call.
    model = make_model(max_iter=20, batch_size=20, schedule=Exponential(0.5), solver="sgd")
    model.fit(X[:40], Y[:40])
    model.set_params(callbacks=[CSVLog(path)], max_iter=1).fit(X[:40], Y[:40])
    assert logged_epochs(path) == list(range(1, 22))
    rates = np.genfromtxt(path, delimiter=",", names=True)["learning_rate"]
    assert rates == pytest.approx(0.001 * 0.5 ** np.arange(21))


@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
def test_callbacks_of_a_warm_start_see_what_those_of_a_trainers_second_fit_see():
    class Seeing(Callback):
        def __init__(self) -> None:
            self.seen: list[object] = []

        def on_fit_begin(self, trainer) -> None:
            self.seen.append(len(trainer.history))

        def on_epoch_end(self, trainer, record) -> None:
            self.seen.append((record["epoch"], trainer.history["epoch"]))

        def on_fit_end(self, trainer, history) -> None:
            self.seen.append(history["epoch"])

    trainer, theirs = make_trainer(), Seeing()
    for _ in range(2):
        fit(trainer, epochs=2, callbacks=[theirs])
    model = make_model(callbacks=[Seeing()])
    for _ in range(2):
        model.fit(X[:40], Y[:40])
    assert model.callbacks[0].seen == theirs.seen


@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
def test_the_best_epoch_of_a_warm_start_is_counted_over_all_fits():
    stop = EarlyStopping("loss", patience=5)
    model = make_model(max_iter=3, solver="sgd", learning_rate_init=0.1, callbacks=[stop])
    for last in (3, 6):
        model.fit(X[:40], Y[:40])
        assert stop.best_epoch == last


@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
def test_a_curve_that_was_set_from_outside_counts(tmp_path):
    model, twin = make_model(max_iter=3).fit(X[:40], Y[:40]), make_model(max_iter=1)
    for name in ("coefs_", "intercepts_", "classes_", "n_features_in_", "loss_curve_", "t_"):
        setattr(twin, name, getattr(model, name))
    for name in ("n_outputs_", "n_layers_", "out_activation_", "best_loss_"):
        setattr(twin, name, getattr(model, name))
    twin._multilabel, twin._no_improvement_count = False, 0
    twin.set_params(callbacks=[CSVLog(tmp_path / "log.csv")]).fit(X[:40], Y[:40])
    assert logged_epochs(tmp_path / "log.csv") == [1, 2, 3, 4]


@pytest.mark.filterwarnings("ignore:.*Maximum iterations", "ignore:lbfgs failed")
@pytest.mark.parametrize("way", ["fit", "partial_fit"])
def test_epochs_behind_an_lbfgs_fit_are_the_first(way):
    clock = Clock()
    model = make_model(warm_start=False).fit(X[:40], Y[:40])
    model.set_params(solver="lbfgs").fit(X[:40], Y[:40])
    assert not hasattr(model, "loss_curve_")
    model.set_params(solver="adam", warm_start=True, schedule=clock, max_iter=1)
    getattr(model, way)(X[:40], Y[:40])
    assert clock.seen == [(0, 0, 1)]
    assert len(model.loss_curve_) == model._optimizer.step == 1


@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
def test_validation_losses_are_drawn_at_their_epochs():
    pytest.importorskip("matplotlib").use("agg")
    from fastmlp.sklearn import LossCurveDisplay

    model = make_model().fit(X[:40], Y[:40])
    model.fit(X[:40], Y[:40], validation_data=(X[40:80], Y[40:80]))
    model.partial_fit(X[:40], Y[:40])
    line = LossCurveDisplay.from_estimator(model).lines_[1]
    drawn = np.isfinite(line.get_ydata())
    assert line.get_xdata()[drawn].tolist() == [3, 4]
    assert line.get_ydata()[drawn].tolist() == model.validation_loss_curve_


def test_ctrl_c_does_not_bring_the_best_epoch_of_an_estimator_back():
    def interrupt(fit, record):
        if record["epoch"] == 3:
            raise KeyboardInterrupt

    stop = EarlyStopping("loss", mode="max", patience=9)  # the first epoch is its best
    model = make_model(max_iter=9, callbacks=[stop, interrupt])
    with pytest.warns(UserWarning, match="interrupted"):
        model.fit(X[:40], Y[:40])
    with pytest.warns(UserWarning, match="Maximum iterations"):
        whole = make_model(max_iter=3).fit(X[:40], Y[:40])
    assert stop.best_epoch == 1
    np.testing.assert_array_equal(model.coefs_[0], whole.coefs_[0])


@pytest.mark.parametrize(
    "refused",
    [
        {"callbacks": [EarlyStopping("nothing")]},
        {"schedule": ReduceOnPlateau(metric="val_loss")},
    ],
    ids=["callback", "schedule"],
)
def test_a_fit_that_is_refused_leaves_the_optimizer_as_it_was(refused):
    models = [make_model(solver="adam") for _ in range(2)]
    for model in models:
        model.partial_fit(X[:40], Y[:40], classes=[0, 1])
    with pytest.raises(ValueError, match="is not recorded"):
        models[0].set_params(**refused).fit(X[:40], Y[:40])
    models[0].set_params(callbacks=[], schedule=None)
    for model in models:
        model.partial_fit(X[:40], Y[:40])
    assert models[0].n_iter_ == models[0]._optimizer.step - 1 == 1
    np.testing.assert_array_equal(models[0].coefs_[0], models[1].coefs_[0])


@pytest.mark.filterwarnings("ignore:.*Maximum iterations", "ignore:Training interrupted")
@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("n_steps", [1, 4, 5, 7])
def test_an_epoch_that_ctrl_c_breaks_off_was_never_taken(solver, n_steps, monkeypatch):
    options = {"solver": solver, "batch_size": 10, "schedule": Clock(), "alpha": 0.0}
    whole, model = make_model(**options, max_iter=1), make_model(**options, max_iter=2)
    update, breaks_off = NumpySession._update, iter([False] * n_steps + [True])

    def interrupted(session, gradient, rate):
        if next(breaks_off, False):
            raise KeyboardInterrupt
        update(session, gradient, rate)

    with monkeypatch.context() as patch:
        patch.setattr(NumpySession, "_update", interrupted)
        model.fit(X[:35], Y[:35])  # of 4 steps an epoch
    assert len(model.loss_curve_) == model.n_iter_ == n_steps // 4
    if n_steps >= 4:
        whole.fit(X[:35], Y[:35])
        np.testing.assert_array_equal(model.coefs_[0], whole.coefs_[0])
    model.fit(X[:35], Y[:35])
    assert model.schedule.seen[-1] == (4 * (n_steps // 4 + 1), n_steps // 4 + 1, n_steps // 4 + 2)


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
    for way in ("partial_fit", "partial_fit", "fit", "partial_fit"):
        losses.append(getattr(model, way)(X[:40], Y[:40]).loss_)
    model.set_params(solver="adam")  # whose steps are counted anew
    losses += [model.partial_fit(X[:40], Y[:40]).loss_ for _ in range(2)]
    assert len(set(losses)) == len(losses) == 10


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


def test_a_stopped_run_stays_stopped_for_one_fit(tmp_path):
    file = tmp_path / "run.npz"
    values = (1, 2, 3, 4, 5, 6, 7)
    trainer = make_trainer(metrics=[scripted(*values)])
    fit(trainer, epochs=9, callbacks=[EarlyStopping("cost", 2), Checkpoint(file)])
    trainer = make_trainer(metrics=[scripted(4, 5, 6, 7)])
    trainer.load_checkpoint(file)
    lengths = [len(fit(trainer, epochs=9, callbacks=[EarlyStopping("cost", 2)])) for _ in "ab"]
    assert lengths == [0, 3]


def events(folder):
    """Return every event of every file of TensorBoard, in the order of the files' names."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for file in sorted(folder.iterdir()):
        data = file.read_bytes()
        while data:  # records of TensorFlow's format: length, checksum, event, checksum
            length = int.from_bytes(data[:8], "little")
            found.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return found


def shown_epochs(folder) -> list[int]:
    """Return the epochs that TensorBoard shows: those from a later start on are purged."""
    shown: list[int] = []
    for event in sorted(events(folder), key=lambda event: event.wall_time):
        if event.HasField("session_log"):
            shown = [step for step in shown if step < event.step]
        shown += [event.step for value in event.summary.value if value.tag == "loss"]
    return shown


def test_tensorboard_goes_on_with_a_run(tmp_path):
    pytest.importorskip("tensorboardX")
    folder, early = tmp_path / "board", tmp_path / "early.npz"
    trainer = make_trainer()
    fit(trainer, epochs=2, callbacks=[TensorBoard(folder)])
    trainer.save_checkpoint(early)
    fit(trainer, epochs=3, callbacks=[TensorBoard(folder)])  # in the same second
    assert shown_epochs(folder) == [1, 2, 3, 4, 5]
    trainer.load_checkpoint(early)
    fit(trainer, epochs=1, callbacks=[TensorBoard(folder)])
    assert shown_epochs(folder) == [1, 2, 3]


@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
def test_tensorboard_goes_on_with_a_warm_start(tmp_path):
    pytest.importorskip("tensorboardX")
    model = make_model(callbacks=[TensorBoard(tmp_path)])
    for _ in range(2):
        model.fit(X[:40], Y[:40])
    assert shown_epochs(tmp_path) == [1, 2, 3, 4]


@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_estimators_refuse_checkpoints_at_once(kind, tmp_path):
    sklearn = pytest.importorskip("fastmlp.sklearn")
    saving = Checkpoint(tmp_path / "c.npz")
    model = getattr(sklearn, kind)(callbacks=[saving], backend="numpy")
    with pytest.raises(ValueError, match=f"{kind} takes no Checkpoint among its callbacks"):
        model.fit(X[:40], Y[:40])
    assert not hasattr(model, "coefs_")
    assert list(tmp_path.iterdir()) == []


#: What may stand between two fits that go on, and settings of them.
GOING_ON = {
    "several epochs": {"max_iter": 3},
    "input alone": {"dropout": (0.5, 0.0)},
    "adam": {"solver": "adam"},
    "a generator": {"random_state": np.random.RandomState(0)},
    "early stopping": {"early_stopping": True, "validation_fraction": 0.5},
    "an optimizer": {"optimizer": SGD(1e-30)},
}


@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
@pytest.mark.parametrize("setting", GOING_ON)
@pytest.mark.parametrize("between", ["nothing", "a pickle", "a partial fit", "other rows"])
def test_no_fit_that_goes_on_draws_masks_again(setting, between):
    sklearn = pytest.importorskip("fastmlp.sklearn")
    settings = {
        "dropout": 0.5,
        "warm_start": True,
        "random_state": 0,
        "max_iter": 1,
        "batch_size": 40,
        "solver": "sgd",
        "learning_rate_init": 1e-30,  # so that only masks change the loss
        "momentum": 0.0,
        "alpha": 0.0,
        "shuffle": False,
        "backend": "numpy",
    }
    model = sklearn.MLPClassifier((32,), **settings | GOING_ON[setting])
    rows = slice(80) if setting == "early stopping" else slice(40)
    seen: list[float] = []
    for _ in range(3):
        seen += model.fit(X[rows], Y[rows]).loss_curve_[len(seen) :]
        if between == "a pickle":
            model = pickle.loads(pickle.dumps(model))
        elif between == "other rows":
            seen += model.fit(X[rows][::-1], Y[rows][::-1]).loss_curve_[len(seen) :]
        elif between == "a partial fit" and setting != "early stopping":
            seen += model.partial_fit(X[rows], Y[rows]).loss_curve_[len(seen) :]
    assert len(set(seen)) == len(seen) >= 3


# Epochs that are run ahead of the rules --------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
@pytest.mark.parametrize(
    "options",
    [
        {"solver": "adam", "dropout": 0.3},
        {"solver": "sgd", "momentum": 0.9},
        {"solver": "sgd", "learning_rate": "adaptive"},
    ],
    ids=str,
)
def test_what_is_run_ahead_of_a_rule_that_applies_was_never_run(options, backend, monkeypatch):
    """On both sides of the number of rows that may be run in vain; of uneven batches."""
    stochastic = pytest.importorskip("fastmlp.sklearn._stochastic")
    models, generators = [], []
    for rows_in_vain in (0, stochastic._ROWS_IN_VAIN, 100 * stochastic._ROWS_IN_VAIN):
        monkeypatch.setattr(stochastic, "_ROWS_IN_VAIN", rows_in_vain)
        generator = np.random.RandomState(3)
        given = {"batch_size": 10, "tol": 0.05, "n_iter_no_change": 3, "max_iter": 60, **options}
        model = make_model(backend=backend, random_state=generator, **given)
        models.append(model.fit(X[:35], Y[:35]))
        generators.append(generator.randint(2**31))
    expected = models[0]
    assert expected.n_iter_ < 60 or "learning_rate" in options
    for model, drawn in zip(models, generators, strict=True):
        assert drawn == generators[0]
        assert (model.n_iter_, model.loss_curve_) == (expected.n_iter_, expected.loss_curve_)
        for actual, wanted in zip(model.coefs_, expected.coefs_, strict=True):
            np.testing.assert_array_equal(actual, wanted)
