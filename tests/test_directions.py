"""What is better, and what belongs to whom, is declared and checked, never guessed from names."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from fastmlp import MLP, SGD, Trainer
from fastmlp.callbacks import Callback, Checkpoint, EarlyStopping
from fastmlp.checkpoint import read_checkpoint, write_checkpoint
from fastmlp.schedules import ReduceOnPlateau

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)).astype(np.float32)
Y = RNG.integers(0, 2, 40)
VALUES = RNG.normal(size=40)


def make_trainer(output: str = "softmax", **options) -> Trainer:
    network = MLP([3, 2] if output == "softmax" else [3, 1], output_activation=output, seed=0)
    return Trainer(network, optimizer=SGD(0.1), batch_size=20, backend="numpy", **options)


def fit(trainer: Trainer, callbacks=(), epochs: int = 4):
    y = Y if trainer.network.n_outputs == 2 else VALUES
    given = {"validation_data": (X, y), "callbacks": callbacks, "verbose": False}
    return trainer.fit(X, y, epochs, **given)


def scripted(values, *, greater_is_better=None):
    """Return a metric that has these values, one an epoch, and perhaps says what is better."""
    calls = iter(np.repeat(values, 2))  # of training and validation data

    def measured(y_true, y_pred):
        return next(calls)

    if greater_is_better is not None:
        measured.greater_is_better = greater_is_better
    return measured


# Which way a metric counts -------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["neg_mean_absolute_error", "neg_max_error", "neg_root_mean_squared_error", "r2"]
)
def test_more_of_a_scorer_is_better(name):
    pytest.importorskip("sklearn")
    stop = EarlyStopping(f"val_{name}x" if name == "r2" else f"val_{name}", patience=50)
    metrics = {"r2x": "r2"} if name == "r2" else [name]
    history = fit(make_trainer("linear", metrics=metrics), [stop], epochs=12)
    assert stop.best == max(history[stop.metric])


def test_more_of_neg_log_loss_is_better():
    pytest.importorskip("sklearn")
    stop = EarlyStopping("val_neg_log_loss", patience=50)
    history = fit(make_trainer(metrics=["neg_log_loss"]), [stop], epochs=12)
    assert stop.best == max(history["val_neg_log_loss"])


def test_a_scorer_that_was_made_of_an_error_counts_upward():
    metrics = pytest.importorskip("sklearn.metrics")
    scorer = metrics.make_scorer(metrics.max_error, greater_is_better=False)
    trainer = make_trainer("linear", metrics={"worst": scorer})
    assert trainer.directions["val_worst"] is True
    history = fit(trainer)
    assert max(history["worst"]) < 0


@pytest.mark.parametrize(("function", "upward"), [("max_error", False), ("f1_score", True)])
def test_scikit_learn_says_which_way_its_functions_count(function, upward):
    metrics = pytest.importorskip("sklearn.metrics")
    trainer = make_trainer(metrics=[getattr(metrics, function)])
    assert trainer.directions[function] is upward


@pytest.mark.parametrize(("upward", "best"), [(False, 1.0), (True, 5.0)])
@pytest.mark.parametrize("name", ["measured", "accuracy_like", "log_loss_of_mine"])
def test_a_function_says_by_an_attribute_which_way_it_counts(name, upward, best):
    metric = scripted([3.0, 1.0, 5.0, 2.0], greater_is_better=upward)
    stop = EarlyStopping(name, patience=9)
    fit(make_trainer(metrics={name: metric}), [stop])
    assert stop.best == best


@pytest.mark.parametrize(("mode", "best"), [("min", 1.0), ("max", 5.0)])
def test_mode_says_it_too(mode, best, tmp_path):
    trainer = make_trainer(metrics={"rmse": scripted([3.0, 1.0, 5.0, 2.0])})
    file = tmp_path / "best.npz"
    fit(trainer, [Checkpoint(file, metric="rmse", mode=mode)])
    trainer.load_checkpoint(file)
    assert trainer.history["rmse"][-1] == best


@pytest.mark.parametrize("name", ["rmse", "score", "my_error", "loss_of_money"])
@pytest.mark.parametrize("watcher", ["EarlyStopping", "Checkpoint", "ReduceOnPlateau"])
def test_what_cannot_be_known_is_asked_for_before_anything_is_trained(name, watcher, tmp_path):
    callbacks, options = [], {}
    if watcher == "EarlyStopping":
        callbacks = [EarlyStopping(f"val_{name}")]
    elif watcher == "Checkpoint":
        callbacks = [Checkpoint(tmp_path / "a.npz", metric=f"val_{name}")]
    else:
        options = {"schedule": ReduceOnPlateau(metric=f"val_{name}")}
    trainer = make_trainer(metrics={name: scripted([1.0] * 4)}, **options)
    with pytest.raises(ValueError, match=f"'val_{name}' is better is not known: say mode='min'"):
        fit(trainer, callbacks)
    assert len(trainer.history) == 0


def test_a_plateau_follows_its_mode():
    schedule = ReduceOnPlateau(0.5, patience=0, metric="cost", mode="max")
    trainer = make_trainer(metrics={"cost": scripted([1.0, 2.0, 3.0, 4.0])}, schedule=schedule)
    assert fit(trainer)["learning_rate"] == [0.1] * 4


def test_a_declaration_that_says_nothing_is_an_error():
    with pytest.raises(TypeError, match="greater_is_better of the metric 'measured' must be True"):
        make_trainer(metrics=[scripted([], greater_is_better="yes")])


def test_a_plateau_of_an_estimator_counts_its_score_upward():
    MLPRegressor = pytest.importorskip("fastmlp.sklearn").MLPRegressor
    stop = EarlyStopping("val_neg_mean_absolute_error", patience=50)
    schedule = ReduceOnPlateau(patience=50, metric="val_neg_mean_absolute_error")
    model = MLPRegressor(
        hidden_layer_sizes=(4,),
        early_stopping=True,
        scoring="neg_mean_absolute_error",
        schedule=schedule,
        callbacks=[stop],
        max_iter=8,
        backend="numpy",
        random_state=0,
    )
    with pytest.warns(UserWarning, match="Maximum iterations"):
        model.fit(X, VALUES)
    assert stop.best == model._optimizer.plateau.watch.best == max(model.validation_scores_)


class Distance:
    """A metric without a name of its own."""

    greater_is_better = False

    def __call__(self, y_true, y_pred):
        return float(np.mean(y_true != y_pred))


def test_an_object_is_recorded_under_the_name_of_its_class():
    trainer = make_trainer(metrics=[Distance(), ("partly", partial(Distance()))])
    assert trainer.directions["Distance"] is trainer.directions["partly"] is False
    assert "val_Distance" in fit(trainer, [EarlyStopping("val_Distance")])


@pytest.mark.parametrize("metric", ["loss", "val_loss"])
def test_mode_is_stronger_than_what_a_loss_says(metric):
    stop = EarlyStopping(metric, patience=9, mode="max")
    assert stop.best is None
    assert fit(make_trainer(), [stop])[metric].index(stop.best) == stop.best_epoch - 1 == 0


@pytest.mark.parametrize(
    "watch",
    [
        lambda: EarlyStopping(3),
        lambda: EarlyStopping(None),
        lambda: Checkpoint("a.npz", metric=3),
        lambda: ReduceOnPlateau(metric=3),
    ],
)
def test_what_is_watched_is_named_by_a_string(watch):
    with pytest.raises(TypeError, match="metric must be a string, got"):
        watch()


@pytest.mark.parametrize("mode", ["Max", None, True, np.array(["min"])])
def test_another_mode_is_refused(mode):
    for watch in (EarlyStopping, ReduceOnPlateau):
        with pytest.raises(ValueError, match="mode must be 'auto', 'min' or 'max'"):
            watch(mode=mode)


@pytest.mark.parametrize("value", [None, "0.5", np.ones(2), 1j])
def test_a_metric_that_is_no_number_is_named(value):
    trainer = make_trainer(metrics={"mine": lambda t, p: 0.5, "lambda": lambda t, p: value})
    with pytest.raises(TypeError, match="the metric 'lambda' must return a number, got"):
        fit(trainer)
    assert len(trainer.history) == 0


# Names of columns ----------------------------------------------------------------------------


def power(y_true, y_pred, exponent):
    return float(np.mean(np.abs(y_true - y_pred) ** exponent))


@pytest.mark.parametrize(
    ("metrics", "name"),
    [
        ([partial(power, exponent=1), partial(power, exponent=2)], "power"),
        ([lambda t, p: 1.0, lambda t, p: 2.0], "lambda"),
        ([scripted([1.0]), scripted([2.0])], "measured"),
        ([("a", scripted([1.0])), ("a", scripted([2.0]))], "a"),
    ],
)
def test_two_metrics_of_one_name_are_refused(metrics, name):
    with pytest.raises(ValueError, match=f"two metrics are called '{name}'; give each a name"):
        make_trainer(metrics=metrics)


@pytest.mark.parametrize("form", [dict, list])
def test_metrics_may_be_named(form):
    pairs = [("first", partial(power, exponent=1)), ("second", partial(power, exponent=2))]
    history = fit(make_trainer("linear", metrics=form(pairs)))
    assert {"first", "second", "val_first", "val_second"} <= set(history.columns)
    assert history["first"] != history["second"]


@pytest.mark.parametrize(
    "name", ["loss", "accuracy", "epoch", "seconds", "learning_rate", "val_loss", "val_mine"]
)
def test_no_metric_takes_the_place_of_a_column(name):
    def function(y_true, y_pred):
        return 0.0

    function.__name__ = name
    for metrics in ([function], {name: function}):
        with pytest.raises(ValueError, match=f"cannot be called '{name}'"):
            make_trainer(metrics=metrics)


@pytest.mark.parametrize(
    ("name", "error"),
    [("", ValueError), ("a\nb", ValueError), (" loss", ValueError), (3, TypeError)],
)
def test_a_name_is_text(name, error):
    with pytest.raises(error, match="a metric's name must be"):
        make_trainer(metrics={name: scripted([])})


# States of callbacks -------------------------------------------------------------------------


class Remembering(Callback):
    def __init__(self, value=None, label: str = "") -> None:
        self.value, self.label = value, label

    def state_name(self) -> str:
        return self.label

    def state(self):
        return {"value": self.value}

    def load_state(self, trainer, state):
        self.value = state["value"]


def resumed(before: list[Callback], after: list[Callback], file) -> None:
    """Save a run with some callbacks, and let it go on with others."""
    fit(make_trainer(), [*before, Checkpoint(file)])
    trainer = make_trainer()
    trainer.load_checkpoint(file)
    fit(trainer, after, epochs=0)


def stoppings() -> list[EarlyStopping]:
    metrics = ("loss", "val_accuracy")
    return [EarlyStopping(metric, patience=9, restore_best=False) for metric in metrics]


def test_resumed_callbacks_get_their_own_states_in_any_order(tmp_path):
    before, after = stoppings(), stoppings()
    resumed(before, after[::-1], tmp_path / "a.npz")
    assert [stop.best for stop in after] == [stop.best for stop in before]


def test_one_of_two_resumed_callbacks_gets_its_own_state(tmp_path):
    before, (_, second) = stoppings(), stoppings()
    resumed(before, [second], tmp_path / "a.npz")
    assert second.best == before[1].best


def test_callbacks_of_one_class_may_name_themselves(tmp_path):
    after = [Remembering(label="b"), Remembering(label="a")]
    resumed([Remembering(1, "a"), Remembering(2, "b")], after, tmp_path / "a.npz")
    assert [one.value for one in after] == [2, 1]


def test_the_state_of_another_callback_is_refused(tmp_path):
    stop = EarlyStopping("accuracy", patience=9)
    with pytest.warns(UserWarning, match=r"'accuracy'.* starts anew: .* the state of .*'loss'"):
        resumed(stoppings()[:1], [stop], tmp_path / "a.npz")
    assert stop.best is None


def test_callbacks_that_cannot_be_told_apart_are_refused_before_anything_is_trained():
    trainer = make_trainer()
    with pytest.raises(ValueError, match=r"two callbacks would keep their states as Remembering\("):
        fit(trainer, [Remembering(1), Remembering(2)])
    assert len(trainer.history) == 0


def test_states_that_earlier_versions_counted_are_still_taken(tmp_path):
    before, after = stoppings(), stoppings()
    file = tmp_path / "a.npz"
    fit(make_trainer(), [*before, Checkpoint(file)])
    content = read_checkpoint(file)
    states = content["callbacks"].values()
    content["callbacks"] = {f"EarlyStopping {i}": one for i, one in enumerate(states, start=1)}
    write_checkpoint(file, content)
    trainer = make_trainer()
    trainer.load_checkpoint(file)
    fit(trainer, after, epochs=0)
    assert [stop.best for stop in after] == [stop.best for stop in before]
