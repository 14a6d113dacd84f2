"""Searches: workers that share a machine, trials that are pruned, and tables in parts."""

from __future__ import annotations

import copy
import pickle
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp import MLP, SGD, Adam, Ensemble, Predictor, Trainer
from fastmlp._cores import usable_cores
from fastmlp.callbacks import OptunaPruning, RayTuneReport
from fastmlp.datasets import load_digits

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0)


def make_trainer(**settings: Any) -> Trainer:
    return Trainer(MLP([4, 8, 3], seed=1), optimizer="adam", backend="numpy", **settings)


# Pruning by Optuna -----------------------------------------------------------------------------


@pytest.fixture
def optuna() -> Any:
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def pruner_after(optuna: Any, epoch: int) -> Any:
    """Return what prunes every trial when this epoch is reported."""

    class AfterEpoch(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            return trial.last_step >= epoch

    return AfterEpoch()


def trial_of(optuna: Any, direction: str = "minimize", after: int = 100, **options: Any) -> Any:
    study = optuna.create_study(direction=direction, pruner=pruner_after(optuna, after), **options)
    return study.ask()


def test_every_epoch_is_reported_to_the_trial(optuna):
    trial, trainer = trial_of(optuna), make_trainer()
    history = trainer.fit(X, Y, 4, (X, Y), callbacks=[OptunaPruning(trial)], verbose=False)
    (reported,) = [one.intermediate_values for one in trial.study.trials]
    assert reported == dict(zip([1, 2, 3, 4], history["val_loss"], strict=True))


def test_a_pruned_trial_leaves_the_network_after_its_last_whole_epoch(optuna):
    alone, trainer = make_trainer(), make_trainer()
    alone.fit(X, Y, 3, verbose=False)
    pruning = OptunaPruning(trial_of(optuna, after=3), "loss")
    with pytest.raises(optuna.TrialPruned, match="pruned after epoch 3, with loss = "):
        trainer.fit(X, Y, 50, callbacks=[pruning], verbose=False)
    assert len(trainer.history) == 3
    assert trainer.network.parameters.tobytes() == alone.network.parameters.tobytes()
    trainer.fit(X, Y, 1, verbose=False)
    alone.fit(X, Y, 1, verbose=False)
    assert trainer.network.parameters.tobytes() == alone.network.parameters.tobytes()


def test_a_pruned_trial_leaves_an_estimator_after_its_last_whole_epoch(optuna):
    estimators = pytest.importorskip("fastmlp.sklearn", exc_type=ImportError)
    settings: dict[str, Any] = {"random_state": 0, "backend": "numpy"}
    pruning = OptunaPruning(trial_of(optuna, after=3), "loss")
    model = estimators.MLPClassifier(callbacks=[pruning], **settings)
    with pytest.raises(optuna.TrialPruned):
        model.fit(X, Y)
    alone = estimators.MLPClassifier(
        max_iter=3, callbacks=[lambda fit, record: record["epoch"] == 3], **settings
    ).fit(X, Y)
    assert model.n_iter_ == len(model.loss_curve_) == 3
    np.testing.assert_array_equal(model.predict_proba(X), alone.predict_proba(X))


def test_a_study_prunes_and_finds(optuna):
    def objective(trial):
        rate = trial.suggest_float("rate", 1e-5, 1e-1, log=True)
        trainer = Trainer(MLP([4, 8, 3], seed=1), optimizer=Adam(rate), backend="numpy")
        pruning = OptunaPruning(trial, "val_accuracy")
        history = trainer.fit(X, Y, 20, (X, Y), callbacks=[pruning], verbose=False)
        return history["val_accuracy"][-1]

    study = optuna.create_study(
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=3),
        sampler=optuna.samplers.TPESampler(seed=0),
    )
    study.optimize(objective, n_trials=12)
    lengths = {trial.state.name: len(trial.intermediate_values) for trial in study.trials}
    assert lengths["COMPLETE"] == 20
    assert lengths["PRUNED"] < 20
    assert study.best_value > 0.8


@pytest.mark.filterwarnings("ignore:All-NaN slice")  # in Optuna, which then prunes
def test_nan_is_left_to_the_pruner(optuna):
    def nothing(y_true, y_pred):
        return np.nan

    study = optuna.create_study(pruner=optuna.pruners.MedianPruner(n_startup_trials=1))
    for _ in range(2):
        trial = study.ask()
        trainer, callbacks = make_trainer(metrics=[nothing]), [OptunaPruning(trial, "nothing")]
        try:
            trainer.fit(X, Y, 2, callbacks=callbacks, verbose=False)
        except optuna.TrialPruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, 1.0)
    first, second = study.trials
    assert [*first.intermediate_values] == [1, 2]
    assert np.isnan(first.intermediate_values[1])
    assert second.state.name == "PRUNED"


@pytest.mark.parametrize("validated", [False, True])
def test_a_metric_that_no_epoch_has_is_refused_before_the_first(optuna, validated: bool):
    trainer, validation = make_trainer(), (X, Y) if validated else None
    message = r"the metric 'val_los' is not recorded, only 'epoch', 'loss', .* are"
    with pytest.raises(ValueError, match=message):
        trainer.fit(X, Y, 2, validation, callbacks=[OptunaPruning(trial_of(optuna), "val_los")])
    assert len(trainer.history) == 0


@pytest.mark.parametrize(
    ("direction", "metric", "message"),
    [
        ("maximize", "loss", "less of 'loss' is better, but the study is to maximize"),
        ("minimize", "accuracy", "more of 'accuracy' is better, but the study is to minimize"),
    ],
)
def test_a_study_that_would_prune_the_best_is_refused(optuna, direction, metric, message):
    trainer, trial = make_trainer(), trial_of(optuna, direction)
    with pytest.raises(ValueError, match=message):
        trainer.fit(X, Y, 2, callbacks=[OptunaPruning(trial, metric)])
    assert len(trainer.history) == 0


def test_a_study_of_several_objectives_is_refused(optuna):
    trial = optuna.create_study(directions=["minimize", "maximize"]).ask()
    with pytest.raises(ValueError, match="trials of a single objective; this study has 2"):
        make_trainer().fit(X, Y, 2, callbacks=[OptunaPruning(trial, "loss")])


def test_a_fixed_trial_is_never_pruned(optuna):
    trial = optuna.trial.FixedTrial({"rate": 0.1})
    history = make_trainer().fit(X, Y, 2, callbacks=[OptunaPruning(trial, "loss")], verbose=False)
    assert len(history) == 2


def test_copies_report_to_the_same_trial(optuna):
    base = pytest.importorskip("sklearn.base")
    estimators = pytest.importorskip("fastmlp.sklearn", exc_type=ImportError)
    trial = trial_of(optuna)
    pruning = OptunaPruning(trial, "loss")
    assert copy.deepcopy(pruning).trial is trial
    model = estimators.MLPClassifier(max_iter=2, backend="numpy", callbacks=[pruning])
    with pytest.warns(Warning, match="Maximum iterations"):
        base.clone(model).fit(X, Y)
    assert [*trial.study.trials[0].intermediate_values] == [1, 2]


def test_one_member_of_an_ensemble_speaks_for_all(optuna):
    trial = trial_of(optuna, after=2)
    ensemble = Ensemble(MLP([4, 3]), 2, backend="numpy", n_threads=1)
    with pytest.raises(optuna.TrialPruned):
        ensemble.fit(
            X,
            Y,
            9,
            callbacks=lambda number: [OptunaPruning(trial)] if number == 0 else [],
            verbose=False,
        )
    assert [*trial.study.trials[0].intermediate_values] == [1, 2]


@pytest.mark.parametrize("wrong", [None, "trial", 3])
def test_what_is_no_trial_is_refused(wrong):
    with pytest.raises(TypeError, match="trial must be a trial of Optuna, got"):
        OptunaPruning(wrong)


# Reports to Ray Tune ---------------------------------------------------------------------------


class NoTrial:
    def report(self, value, step):
        raise AssertionError

    def should_prune(self):
        raise AssertionError


@pytest.mark.parametrize(
    ("callback", "library", "name"),
    [(OptunaPruning(NoTrial(), "loss"), "optuna", "Optuna"), (RayTuneReport(), "ray", "Ray Tune")],
)
def test_a_missing_library_is_named_before_the_first_epoch(monkeypatch, callback, library, name):
    monkeypatch.setitem(sys.modules, library, None)
    trainer = make_trainer()
    with pytest.raises(ImportError, match=rf"needs {name}: pip install 'fastmlp\[sweeps\]'"):
        trainer.fit(X, Y, 2, callbacks=[callback])
    assert len(trainer.history) == 0


@pytest.fixture
def reports(monkeypatch) -> list[dict[str, float]]:
    """Return what is reported to a stand-in for Ray Tune."""
    made: list[dict[str, float]] = []
    tune = type(sys)("ray.tune")
    tune.report = made.append
    ray = type(sys)("ray")
    ray.tune = tune
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.tune", tune)
    return made


@pytest.mark.parametrize(
    ("metrics", "names"),
    [
        (None, ["epoch", "loss", "accuracy", "learning_rate", "seconds"]),
        ("loss", ["loss"]),
        (["accuracy", "loss"], ["accuracy", "loss"]),
        ({"mean_accuracy": "accuracy"}, ["mean_accuracy"]),
    ],
)
def test_chosen_columns_of_every_epoch_are_reported(reports, metrics, names):
    history = make_trainer().fit(X, Y, 3, callbacks=[RayTuneReport(metrics)], verbose=False)
    assert [list(one) for one in reports] == [names] * 3
    column = {"mean_accuracy": "accuracy"}.get(names[0], names[0])
    assert [one[names[0]] for one in reports] == history[column]


def test_a_column_that_no_epoch_has_is_refused_before_the_first(reports):
    trainer = make_trainer()
    with pytest.raises(ValueError, match=r"'val_loss' is not recorded, .*; pass validation_data"):
        trainer.fit(X, Y, 2, callbacks=[RayTuneReport(["loss", "val_loss"])])
    assert len(trainer.history) == len(reports) == 0


@pytest.mark.parametrize("wrong", [[1], {"loss": 2}, {3: "loss"}])
def test_names_of_columns_are_strings(wrong):
    with pytest.raises(TypeError, match="must be a string"):
        RayTuneReport(wrong)


# Tables in parts -------------------------------------------------------------------------------


def takers() -> dict[str, Any]:
    """Return, by name, calls of all that takes rows."""
    trainer = make_trainer()
    made = {
        "Trainer.fit": lambda rows: trainer.fit(rows, Y, 1, verbose=False),
        "Trainer.evaluate": lambda rows: trainer.evaluate(rows, Y),
        "Trainer.predict": trainer.predict,
        "MLP.predict": trainer.network.predict,
        "Predictor.predict": Predictor(trainer.network, "numpy").predict,
        "Ensemble.fit": lambda rows: Ensemble(trainer.network, 2).fit(rows, Y),
    }
    try:
        from fastmlp import sklearn as estimators
    except ImportError:
        return made
    fitted = estimators.MLPClassifier(backend="numpy").partial_fit(X, Y, classes=[0, 1, 2])
    return made | {
        "MLPClassifier.fit": lambda rows: estimators.MLPClassifier().fit(rows, Y),
        "MLPClassifier.predict": fitted.predict,
        "MLPRegressor.partial_fit": lambda rows: estimators.MLPRegressor().partial_fit(rows, Y),
        "TabularClassifier.fit": lambda rows: estimators.TabularClassifier().fit(rows, Y),
        "TableEncoder.fit": lambda rows: estimators.TableEncoder().fit(rows),
    }


def dask_array() -> Any:
    return pytest.importorskip("dask.array").from_array(X, chunks=(20, -1))


def dask_frame() -> Any:
    pandas, dask = pytest.importorskip("pandas"), pytest.importorskip("dask.dataframe")
    return dask.from_pandas(pandas.DataFrame(X, columns=list("abcd")), npartitions=3)


def lazy_frame() -> Any:
    return pytest.importorskip("polars").LazyFrame(dict(zip("abcd", X.T, strict=True)))


def stand_in(name: str, *methods: str) -> Any:
    """Return a table that has methods by which those of a library are known."""
    library, _, kind = name.rpartition(".")
    functions = dict.fromkeys(methods, lambda self: None)
    return type(kind, (), {"__module__": library, **functions})()


LAZY = {
    "dask Array": (dask_array, "compute() it, or predict part by part, with map_blocks"),
    "dask DataFrame": (dask_frame, "compute() it, or predict part by part, with map_blocks"),
    "polars LazyFrame": (lazy_frame, "collect() it"),
    "pyspark DataFrame": (
        lambda: stand_in("pyspark.sql.DataFrame", "collect", "toPandas", "mapInPandas"),
        "toPandas() it, or predict part by part, with mapInPandas",
    ),
    "ray Dataset": (
        lambda: stand_in("ray.data.Dataset", "to_pandas", "map_batches"),
        "to_pandas() it, or predict part by part, with map_batches",
    ),
}


@pytest.mark.parametrize("kind", LAZY)
def test_rows_that_are_not_in_memory_are_not_brought_there_unasked(kind: str):
    make, advice = LAZY[kind]
    message = re.escape(f"X is a {kind}, which holds no rows yet: {advice}")
    for name, take in takers().items():
        with pytest.raises(TypeError, match=message):
            pytest.fail(f"{name} took {take(make())!r}")


@pytest.mark.parametrize("argument", ["y", "sample_weight"])
def test_so_it_is_with_targets_and_weights(argument: str):
    lazy = pytest.importorskip("dask.array").from_array(Y, chunks=20)
    given = {"y": Y, argument: lazy}
    message = rf"{argument} is a dask Array, which holds no rows yet: compute\(\) it$"
    with pytest.raises(TypeError, match=message):
        make_trainer().fit(X, **given, epochs=1)
    estimators = pytest.importorskip("fastmlp.sklearn", exc_type=ImportError)
    for model in (estimators.MLPClassifier(), estimators.TabularClassifier()):
        with pytest.raises(TypeError, match=message):
            model.fit(X, **given)


def test_parts_are_predicted_one_by_one():
    dask, predictor = pytest.importorskip("dask.array"), Predictor(make_trainer().network, "numpy")
    rows = dask.from_array(X, chunks=(25, -1))
    labels = rows.map_blocks(predictor.predict, dtype=np.int64, drop_axis=1)
    outputs = rows.map_blocks(
        predictor.predict_proba, dtype=np.float32, chunks=(rows.chunks[0], (3,))
    )
    assert labels.chunks == ((25, 25, 10),)
    np.testing.assert_array_equal(labels.compute(), predictor.predict(X))
    np.testing.assert_array_equal(outputs.compute(), predictor.predict_proba(X))


def test_partitions_of_a_frame_are_predicted_one_by_one():
    frame, pandas = dask_frame(), pytest.importorskip("pandas")
    predictor = Predictor(make_trainer().network, "numpy")

    def labels(part):
        return pandas.Series(predictor.predict(part), part.index)

    found = frame.map_partitions(labels, meta=(None, "int64"))
    np.testing.assert_array_equal(found.compute(), predictor.predict(X))
    some = frame[frame.a > X[20:, 0].max()]  # whose last partitions are empty
    found = some.map_partitions(labels, meta=(None, "int64"))
    np.testing.assert_array_equal(found.compute(), predictor.predict(some.compute()))


# Searches --------------------------------------------------------------------------------------

GRID = {
    "alpha": [1e-4, 1e-2, 1.0],
    "hidden_layer_sizes": [(4,), (8,), (16,), (8, 8)],
    "activation": ["relu", "tanh"],
}
MODEL_SETTINGS: dict[str, Any] = {"max_iter": 8, "random_state": 0, "n_iter_no_change": 99}
quiet = pytest.mark.filterwarnings("ignore")


def search(**options: Any) -> Any:
    """Return a search through 24 candidates that has been made."""
    selection = pytest.importorskip("sklearn.model_selection")
    from fastmlp.sklearn import MLPClassifier

    model = MLPClassifier(dtype="float32", **MODEL_SETTINGS)
    return selection.GridSearchCV(model, GRID, cv=2, **options).fit(X, Y)


def halving(**options: Any) -> Any:
    """Return a search that gives more and more epochs to fewer and fewer candidates."""
    pytest.importorskip("sklearn.experimental.enable_halving_search_cv")
    from sklearn.model_selection import HalvingGridSearchCV

    from fastmlp.sklearn import MLPClassifier

    return HalvingGridSearchCV(
        MLPClassifier(dtype="float32", **MODEL_SETTINGS),
        {"alpha": [1e-4, 1e-2, 1.0], "activation": ["relu", "tanh"]},
        cv=2,
        resource="max_iter",
        max_resources=8,
        random_state=0,
        **options,
    ).fit(X, Y)


def validated(**options: Any) -> Any:
    """Return what cross validation gives, with the models themselves."""
    selection = pytest.importorskip("sklearn.model_selection")
    from fastmlp.sklearn import MLPClassifier

    model = MLPClassifier(dtype="float32", **MODEL_SETTINGS)
    return selection.cross_validate(model, X, Y, cv=3, return_estimator=True, **options)


def of_tables(**options: Any) -> Any:
    """Return a search among ensembles, whose members run on threads of their own."""
    selection = pytest.importorskip("sklearn.model_selection")
    from fastmlp.sklearn import TabularClassifier

    model = TabularClassifier(
        n_members=2, n_epochs=2, hidden_layer_sizes=8, batch_size=8, random_state=0
    )
    return selection.GridSearchCV(model, {"activation": ["relu", "selu"]}, cv=2, **options).fit(
        X, Y
    )


def assert_same(made: Any, alone: Any) -> None:
    assert made.best_params_ == alone.best_params_
    scores = [name for name in alone.cv_results_ if "_test_score" in name]
    assert len(scores) >= 4
    for name in scores:
        np.testing.assert_array_equal(made.cv_results_[name], alone.cv_results_[name])
    np.testing.assert_array_equal(
        made.best_estimator_.predict_proba(X), alone.best_estimator_.predict_proba(X)
    )


def assert_all_searches_are_the_same() -> None:
    """Compare searches by joblib's workers, as they are configured, with those of one process."""
    import joblib

    with joblib.parallel_config("sequential"):
        expected, halved, folds = search(), halving(), validated()
    assert_same(search(n_jobs=2), expected)
    assert_same(halving(n_jobs=2), halved)
    again = validated(n_jobs=2)
    np.testing.assert_array_equal(again["test_score"], folds["test_score"])
    for model, other in zip(again["estimator"], folds["estimator"], strict=True):
        np.testing.assert_array_equal(model.predict_proba(X), other.predict_proba(X))


@quiet
@pytest.mark.slow
@pytest.mark.parametrize("workers", ["loky", "threading"])
def test_searches_by_joblibs_own_workers(workers: str):
    joblib = pytest.importorskip("joblib")
    with joblib.parallel_config("sequential"):
        tables = of_tables()
    with joblib.parallel_config(workers):
        assert_all_searches_are_the_same()
        assert_same(of_tables(n_jobs=2), tables)


def test_a_worker_has_its_share_of_the_cores(monkeypatch):
    joblib = pytest.importorskip("joblib")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with joblib.parallel_config("loky", n_jobs=2):
        found = joblib.Parallel()(joblib.delayed(usable_cores)() for _ in range(2))
    assert found == [max(1, joblib.cpu_count() // 2)] * 2


@quiet
@pytest.mark.slow
@pytest.mark.parametrize("processes", [False, True])
def test_searches_on_dask(processes: bool):
    distributed, joblib = pytest.importorskip("distributed"), pytest.importorskip("joblib")
    shape = {"n_workers": 2, "threads_per_worker": 1} if processes else {"threads_per_worker": 2}
    with (
        distributed.LocalCluster(processes=processes, dashboard_address=None, **shape) as cluster,
        distributed.Client(cluster) as client,
    ):
        assert client.submit(usable_cores).result() == 1
        with joblib.parallel_config("dask"):
            assert_all_searches_are_the_same()


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        # A cluster of Dask leaves this behind, and Ray's workers would inherit it.
        patch.delenv("OMP_NUM_THREADS", raising=False)
        ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
        yield ray
        ray.shutdown()


@quiet
@pytest.mark.slow
def test_searches_on_ray(ray):
    import joblib
    from ray.util.joblib import register_ray

    register_ray()
    task = ray.remote(usable_cores)
    assert ray.get([task.remote(), task.options(num_cpus=2).remote()]) == [1, 2]
    with joblib.parallel_config("ray"):
        assert_all_searches_are_the_same()


@quiet
@pytest.mark.slow
def test_ray_tune_ends_trials_that_lag_behind(ray, tmp_path: Path):
    tune = pytest.importorskip("ray.tune")
    from ray.tune.schedulers import ASHAScheduler

    train, test = load_digits()

    def trial(config):
        network = MLP([64, 16, 10], seed=0)
        trainer = Trainer(network, optimizer=SGD(config["rate"]), backend="numpy")
        report = RayTuneReport({"loss": "val_loss", "n_epochs": "epoch"})
        trainer.fit(*train, 9, test, callbacks=[report], verbose=False)
        network.save(tmp_path / f"{config['rate']}.safetensors")

    rates = [0.3, 1e-4, 1e-5]
    results = tune.Tuner(
        trial,
        param_space={"rate": tune.grid_search(rates)},
        tune_config=tune.TuneConfig(
            metric="loss",
            mode="min",
            scheduler=ASHAScheduler(max_t=20, grace_period=1, reduction_factor=3),
            max_concurrent_trials=1,
        ),
        run_config=tune.RunConfig(storage_path=str(tmp_path / "results"), verbose=0),
    ).fit()
    assert [one.error for one in results] == [None] * 3
    assert [one.metrics["n_epochs"] for one in results] == [9, 1, 1]
    best = results.get_best_result()
    assert best.config == {"rate": 0.3}
    # Those that were ended did not come to their own end.
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["0.3.safetensors"]
    alone = Trainer(MLP([64, 16, 10], seed=0), optimizer=SGD(0.3), backend="numpy")
    alone.fit(*train, 9, test, verbose=False)
    assert best.metrics["loss"] == alone.history["val_loss"][-1]


@quiet
@pytest.mark.slow
def test_batches_of_ray_are_predicted_one_by_one(ray):
    data = pytest.importorskip("ray.data")
    network = make_trainer().network

    def labels(batch):
        return {"label": network.predict(batch["data"])}

    found = data.from_numpy(X).map_batches(labels, batch_size=25).take_all()
    np.testing.assert_array_equal([row["label"] for row in found], network.predict(X))


# What travels ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("solver", "n_moments"), [("sgd", 1), ("adam", 2), ("lbfgs", 0)])
def test_a_fitted_estimator_travels_as_its_parameters_and_moments(solver: str, n_moments: int):
    estimators = pytest.importorskip("fastmlp.sklearn", exc_type=ImportError)
    rows = RNG.normal(size=(300, 100))
    settings = {"solver": solver, "max_iter": 1, "backend": "numpy"}
    model = estimators.MLPRegressor(hidden_layer_sizes=200, **settings)
    with pytest.warns(Warning, match="converge"):
        model.fit(rows, rows[:, 0])
    model.predict(rows)
    n_bytes = sum(one.nbytes for one in [*model.coefs_, *model.intercepts_])
    assert len(pickle.dumps(model)) < (1 + n_moments) * n_bytes + 10_000
