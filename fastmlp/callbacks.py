"""Callbacks: what else happens after each epoch.

A callback is an instance of `Callback`, or a plain function of the trainer and the epoch's record.
After every epoch the network holds that epoch's parameters (their moving average, where one is
kept), and a callback may read and even change them.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp import _checks
from fastmlp._schema import Fields, Integer, Kind, Maybe, Number
from fastmlp._settings import own_scalar
from fastmlp._watch import Watch, check_watched, counts_upward, recorded
from fastmlp.history import History, Record

if TYPE_CHECKING:
    from fastmlp.trainer import Trainer


class Callback:
    """The protocol; every method may be left as it is.

    A fit calls `on_fit_begin`, then `on_epoch_end` after every epoch, then `on_fit_end` if it ran
    to its end or was stopped by a callback, and always `close`. A fit that goes on from a
    checkpoint gives back what `state` returned, by `load_state` after `on_fit_begin`.

    Examples
    --------
    >>> from fastmlp import MLP, Trainer
    >>> class StopWhenGood(Callback):
    ...     def on_epoch_end(self, trainer, record):
    ...         return record["accuracy"] > 0.9
    >>> trainer = Trainer(MLP([1, 2]), optimizer="adam", backend="numpy")
    >>> X, y = [[0.0], [1.0]], [0, 1]
    >>> len(trainer.fit(X, y, epochs=5000, callbacks=[StopWhenGood()], verbose=False)) < 5000
    True
    """

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Start anew."""

    def on_epoch_end(self, trainer: Trainer, record: Record) -> bool | None:
        """Look at an epoch's record; returning True ends the fit."""
        return None

    def on_fit_end(self, trainer: Trainer, history: History) -> None:
        """Finish a fit that was not broken off; `history` holds its epochs."""

    def close(self) -> None:
        """Let go of files and the like."""

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, by name.

        Numbers and strings (NumPy's come back as Python's), None, arrays, and lists and mappings
        of them.
        """
        return {}

    def load_state(self, trainer: Trainer, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""

    def outcome(self) -> str | None:
        """Return a sentence on how the fit ended, which a verbose fit shows; None: nothing."""
        return None

    def __repr__(self) -> str:
        """Return the arguments that are not the defaults."""
        shown = []
        for name, parameter in inspect.signature(type(self)).parameters.items():
            value = getattr(self, name, parameter.default)
            if value is not parameter.default and value != parameter.default:
                shown.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def state_name(self) -> str:
        """Return what tells its state in a checkpoint from those of others of its class.

        It must be the same in the fit that goes on, and is needed where a fit has several
        callbacks of one class that keep a state.
        """
        return ""


class FunctionCallback(Callback):
    """Calls a function of the trainer and the epoch's record after each epoch.

    Parameters
    ----------
    function : callable
        If it returns True, the fit ends.

    Examples
    --------
    >>> from fastmlp import MLP, Trainer
    >>> trainer = Trainer(MLP([1, 2]), backend="numpy")
    >>> def show(trainer, record):
    ...     print(record["epoch"])
    >>> _ = trainer.fit([[0.0], [1.0]], [0, 1], epochs=2, callbacks=[show], verbose=False)
    1
    2
    """

    def __init__(self, function: Callable[[Trainer, Record], Any]) -> None:
        self.function = function

    def on_epoch_end(self, trainer: Trainer, record: Record) -> bool | None:
        ended = self.function(trainer, record)
        return isinstance(ended, bool | np.bool_) and bool(ended)


@dataclass(frozen=True)
class _Seen:
    """What a watching callback has seen, in one piece: no interrupt finds half of it."""

    watch: Watch = field(default_factory=Watch)
    best_epoch: int | None = None
    best_parameters: Any = None


class KeepBest(Callback):
    """Ends a fit with the parameters of its best epoch, without ending it sooner.

    What Keras does by ``ModelCheckpoint(save_best_only=True)`` and loading the file. Every fit
    starts anew; one that goes on from a checkpoint goes on.

    Parameters
    ----------
    metric : str, default "val_loss"
        A column of the history.
    mode : {"auto", "min", "max"}, default "auto"
        Whether less or more is better. "auto" asks the metric: the library knows its own, more of
        scikit-learn's scorers is better, and a function says it by `greater_is_better`.

    Attributes
    ----------
    best : float or None
        The best value seen.
    best_epoch : int or None
        When it was seen first, counted as in the history.

    Raises
    ------
    ValueError
        When a fit starts, if it does not record the metric or nobody said which way it counts.

    Examples
    --------
    >>> from fastmlp import MLP, SGD, Trainer
    >>> trainer = Trainer(MLP([1, 2]), optimizer=SGD(1000.0), backend="numpy")
    >>> keep = KeepBest("loss")
    >>> X, y = [[0.5], [1.0]], [0, 1]
    >>> _ = trainer.fit(X, y, epochs=9, callbacks=[keep], verbose=False)
    >>> keep.best == min(trainer.history["loss"])
    True
    """

    #: What early stopping adds to it.
    min_delta: float = 0.0
    restore_best: bool = True

    def __init__(self, metric: str = "val_loss", mode: str = "auto") -> None:
        self.metric = _checks.text(metric, "metric")
        self.mode = _checks.mode(mode)
        self._seen = _Seen()

    @property
    def best(self) -> float | None:
        """The best value seen."""
        return self._seen.watch.best

    @property
    def best_epoch(self) -> int | None:
        """When it was seen, counted as in the history."""
        return self._seen.best_epoch

    def on_fit_begin(self, trainer: Trainer) -> None:
        check_watched(self.metric, self.mode, trainer.directions)
        self._seen = _Seen()

    def on_epoch_end(self, trainer: Trainer, record: Record) -> bool | None:
        upward = counts_upward(self.metric, self.mode, trainer.directions)
        value = recorded(record, self.metric)
        watch = self._seen.watch.seen(value, upward=upward, threshold=self.min_delta)
        if watch.waited:
            self._seen = replace(self._seen, watch=watch)
        else:
            parameters = trainer.network.parameters.copy() if self.restore_best else None
            self._seen = _Seen(watch, int(record["epoch"]), parameters)
        return None

    def on_fit_end(self, trainer: Trainer, history: History) -> None:
        if self._seen.best_parameters is not None:
            trainer.network.parameters = self._seen.best_parameters

    def outcome(self) -> str | None:
        seen = self._seen
        if seen.best_epoch is None:
            return None
        return f"The best {self.metric} was {self.best:.6g}, in epoch {self.best_epoch}{self._kept}"

    @property
    def _kept(self) -> str:
        """What the network ends with, if that is an earlier epoch."""
        seen = self._seen
        if seen.best_parameters is None or not seen.watch.waited:
            return ""
        return f"; the network is as it was after epoch {seen.best_epoch}"

    def state_name(self) -> str:
        return f"metric={self.metric!r}, mode={self.mode!r}"

    def state(self) -> dict[str, Any]:
        seen = self._seen
        return {
            "best": seen.watch.best,
            "waited": seen.watch.waited,
            "best_epoch": seen.best_epoch,
            "best_parameters": seen.best_parameters,
        }

    def load_state(self, trainer: Trainer, state: dict[str, Any]) -> None:
        watch = Watch(state["best"], state["waited"])
        self._seen = _Seen(watch, state["best_epoch"], state["best_parameters"])


class EarlyStopping(KeepBest):
    """Ends a fit when a metric stops improving.

    Every fit starts anew, as Keras's do; one that goes on from a checkpoint goes on.

    Parameters
    ----------
    metric : str, default "val_loss"
        A column of the history.
    patience : int, default 10
        The fit ends after so many epochs without improvement, at least 1.
    min_delta : float, default 0.0
        Least change that counts as an improvement, at least 0.
    mode : {"auto", "min", "max"}, default "auto"
        Whether less or more is better. "auto" asks the metric: the library knows its own, more of
        scikit-learn's scorers is better, and a function says it by `greater_is_better`.
    restore_best : bool, default True
        Whether the network ends with the parameters of its best epoch. Not where Ctrl-C or an
        error broke off the fit.

    Attributes
    ----------
    best : float or None
        The best value seen.
    best_epoch : int or None
        When it was seen, counted as in the history.

    Raises
    ------
    ValueError
        When a fit starts, if it does not record the metric or nobody said which way it counts.

    Examples
    --------
    >>> from fastmlp import MLP, Trainer
    >>> trainer = Trainer(MLP([1, 2]), backend="numpy")
    >>> stop = EarlyStopping("accuracy", patience=2)
    >>> X, y = [[0.0], [0.0]], [0, 1]
    >>> trainer.fit(X, y, epochs=100, callbacks=[stop], verbose=False)["epoch"]
    [1, 2, 3]
    >>> stop.best_epoch
    1
    """

    def __init__(
        self,
        metric: str = "val_loss",
        patience: int = 10,
        min_delta: float = 0.0,
        mode: str = "auto",
        restore_best: bool = True,
    ) -> None:
        super().__init__(metric, mode)
        self.patience = _checks.integer(patience, "patience", at_least=1)
        self.min_delta = _checks.real(min_delta, "min_delta", at_least=0)
        self.restore_best = _checks.boolean(restore_best, "restore_best")

    def on_epoch_end(self, trainer: Trainer, record: Record) -> bool | None:
        super().on_epoch_end(trainer, record)
        return self._seen.watch.waited >= self.patience

    def outcome(self) -> str | None:
        seen = self._seen
        if seen.best_epoch is None:
            return None
        last = seen.best_epoch + seen.watch.waited
        stopped = seen.watch.waited >= self.patience
        said = f"stopped after epoch {last}: " if stopped else ""
        best = f"the best {self.metric} was {self.best:.6g}, in epoch {self.best_epoch}"
        return f"Early stopping: {said}{best}{self._kept}"

    def state_name(self) -> str:
        delta = own_scalar(self.min_delta)
        return (
            f"metric={self.metric!r}, patience={self.patience}, min_delta={delta!r}, "
            f"mode={self.mode!r}, restore_best={self.restore_best}"
        )

    def load_state(self, trainer: Trainer, state: dict[str, Any]) -> None:
        super().load_state(trainer, state)
        if self._seen.watch.waited >= self.patience:
            trainer.stop()


class Checkpoint(Callback):
    """Saves the trainer's state, for `Trainer.load_checkpoint`.

    It acts after all other callbacks, so that the file holds what they know.

    Parameters
    ----------
    path : str or Path
        ``{epoch}`` in it becomes the epoch's number; else one file is replaced.
    every : int, default 1
        Epochs from one file to the next, at least 1.
    metric : str or None, default None
        If given, only what improves this metric is saved: of every `every`-th epoch, those that
        are better than what was saved before. One file is then the best of all fits of the
        trainer, runs that went on from a checkpoint included; a file of another run is replaced.
    mode : {"auto", "min", "max"}, default "auto"
        Whether less or more of `metric` is better; "auto" asks the metric, as `EarlyStopping`.

    Raises
    ------
    ValueError
        When a fit starts, if it does not record the metric or nobody said which way it counts.

    Examples
    --------
    >>> import tempfile
    >>> from fastmlp import MLP, Trainer
    >>> trainer = Trainer(MLP([1, 2]), backend="numpy")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     saving = Checkpoint(Path(folder, "run-{epoch}.npz"))
    ...     _ = trainer.fit([[0.0]], [0], epochs=2, callbacks=[saving], verbose=False)
    ...     print(sorted(file.name for file in Path(folder).iterdir()))
    ['run-1.npz', 'run-2.npz']
    """

    def __init__(
        self, path: str | Path, every: int = 1, metric: str | None = None, mode: str = "auto"
    ) -> None:
        self.path = str(Path(path))
        self.every = _checks.integer(every, "every", at_least=1)
        self.metric = None if metric is None else _checks.text(metric, "metric")
        self.mode = _checks.mode(mode)
        self._watch = Watch()

    def on_fit_begin(self, trainer: Trainer) -> None:
        if self.metric is not None:
            check_watched(self.metric, self.mode, trainer.directions)
            upward = counts_upward(self.metric, self.mode, trainer.directions)
            self._watch = self._saved(self.metric, trainer.history, upward)

    def on_epoch_end(self, trainer: Trainer, record: Record) -> bool | None:
        if int(record["epoch"]) % self.every:
            return None
        watch = self._watch
        if self.metric is not None:
            upward = counts_upward(self.metric, self.mode, trainer.directions)
            watch = watch.seen(recorded(record, self.metric), upward=upward)
        if watch.waited == 0:
            trainer.save_checkpoint(self._file(record))
        # Only now: after a write that failed, the best is still what the file holds.
        self._watch = watch
        return None

    def _file(self, record: Record) -> Path:
        return Path(self.path.replace("{epoch}", str(int(record["epoch"]))))

    def _saved(self, metric: str, history: History, upward: bool) -> Watch:
        """Return the watch that has seen what the last file of the same run holds."""
        files = (self._file(record) for record in reversed(history.records))
        file = next((file for file in files if file.exists()), None)
        if file is None:
            return Watch()
        from fastmlp.checkpoint import read_checkpoint  # which knows the states of callbacks

        try:
            theirs = list(read_checkpoint(file)["records"])
            # The seconds of its epochs tell a run from all others.
            n_common = min(len(theirs), len(history))
            same = all(theirs[i]["seconds"] == history["seconds"][i] for i in range(n_common))
            best = theirs[-1][metric]
        except (ValueError, KeyError, IndexError, TypeError):  # no file of this run
            return Watch()
        return Watch().seen(best, upward=upward) if same and n_common else Watch()


class CSVLog(Callback):
    """Keeps a CSV file of all epochs so far, replaced whole after each.

    Parameters
    ----------
    path : str or Path

    Examples
    --------
    >>> import tempfile
    >>> from fastmlp import MLP, Trainer
    >>> trainer = Trainer(MLP([1, 2]), backend="numpy")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = CSVLog(Path(folder, "log.csv"))
    ...     _ = trainer.fit([[0.0]], [0], epochs=2, callbacks=[log], verbose=False)
    ...     print(Path(folder, "log.csv").read_text().split()[0])
    epoch,loss,accuracy,learning_rate,seconds
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def on_epoch_end(self, trainer: Trainer, record: Record) -> bool | None:
        trainer.history.to_csv(self.path)
        return None


class TensorBoard(Callback):
    """Writes every column of the history for TensorBoard (needs ``fastmlp[tensorboard]``).

    Another fit of the same run goes on; a run that goes on from an earlier checkpoint, or another
    one in the same folder, takes the place of the epochs from there on.

    Parameters
    ----------
    folder : str or Path
        A run's folder of event files.

    Raises
    ------
    ImportError
        If tensorboardX is not installed.

    Examples
    --------
    >>> import tempfile
    >>> from fastmlp import MLP, Trainer
    >>> trainer = Trainer(MLP([1, 2]), backend="numpy")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     board = TensorBoard(folder)
    ...     _ = trainer.fit([[0.0]], [0], epochs=1, callbacks=[board], verbose=False)
    ...     len(list(Path(folder).iterdir()))
    1
    """

    def __init__(self, folder: str | Path) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise ImportError(
                "the TensorBoard callback needs tensorboardX: pip install 'fastmlp[tensorboard]'"
            ) from error
        self.folder = Path(folder)
        self._make_writer = SummaryWriter
        self._writer: Any = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        n_before = len(trainer.history)
        # A run that goes on from an earlier epoch takes the place of what came after it. Files
        # are named by the second, in which another fit may have begun too.
        self._writer = self._make_writer(
            str(self.folder), purge_step=n_before + 1, filename_suffix=f".{n_before}"
        )

    def on_epoch_end(self, trainer: Trainer, record: Record) -> bool | None:
        for name, value in record.items():
            if name != "epoch":
                self._writer.add_scalar(name, value, int(record["epoch"]))
        return None

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class OptunaPruning(Callback):
    """Reports each epoch to a trial of Optuna, and ends the fit of one that is pruned.

    ``optuna.TrialPruned`` then leaves `fit`; the network, or the estimator, is as it was after the
    last whole epoch. A fit that diverges ends by `DivergenceError` as always, for
    ``study.optimize(..., catch=(DivergenceError,))``. Needs ``fastmlp[sweeps]``::

        def objective(trial):
            rate = trial.suggest_float("rate", 1e-4, 1e-1, log=True)
            trainer = Trainer(MLP([64, 64, 10]), optimizer=Adam(rate))
            pruning = OptunaPruning(trial, "val_loss")
            history = trainer.fit(*train, 30, test, callbacks=[pruning], verbose=False)
            return history["val_loss"][-1]

    A trial takes the epochs of one fit: Optuna leaves out what is reported of an epoch for a second
    time. Of an ensemble, or of several folds, give it to one of the fits.

    Parameters
    ----------
    trial : optuna.Trial
        As the objective is given it. Copies of the callback, such as scikit-learn's `clone` makes,
        report to the same trial.
    metric : str, default "val_loss"
        A column of the history. As NaN it is reported as such: most pruners then prune.

    Raises
    ------
    ImportError
        When a fit starts, if Optuna is not installed.
    ValueError
        When a fit starts, if it does not record the metric, if less of it is better where the
        study maximizes or the other way round, or if the study has several objectives.

    Examples
    --------
    >>> class Trial:  # stands in for Optuna's
    ...     def report(self, value, step):
    ...         pass
    ...
    ...     def should_prune(self):
    ...         return False
    >>> OptunaPruning(Trial(), metric="val_accuracy").metric
    'val_accuracy'
    """

    def __init__(self, trial: Any, metric: str = "val_loss") -> None:
        if not (hasattr(trial, "report") and hasattr(trial, "should_prune")):
            raise TypeError(f"trial must be a trial of Optuna, got {trial!r}")
        self.trial = trial
        self.metric = _checks.text(metric, "metric")

    def __deepcopy__(self, memo: Any) -> OptunaPruning:
        # A copy of the trial would report to a copy of the study.
        return type(self)(self.trial, self.metric)

    def on_fit_begin(self, trainer: Trainer) -> None:
        try:
            from optuna import TrialPruned
        except ImportError as error:
            raise ImportError(
                "the OptunaPruning callback needs Optuna: pip install 'fastmlp[sweeps]'"
            ) from error
        self._pruned = TrialPruned
        self._check_direction(recorded(trainer.directions, self.metric))

    def _check_direction(self, upward: bool | None) -> None:
        study = getattr(self.trial, "study", None)
        if study is None:  # a fixed trial, which is never pruned
            return
        wanted = [direction.name for direction in study.directions]
        if len(wanted) > 1:
            raise ValueError(
                f"Optuna prunes trials of a single objective; this study has {len(wanted)}"
            )
        if upward is not None and wanted != ["MAXIMIZE" if upward else "MINIMIZE"]:
            raise ValueError(
                f"{'more' if upward else 'less'} of {self.metric!r} is better, but the study is to "
                f"{wanted[0].lower()}: it would prune the best trials"
            )

    def on_epoch_end(self, trainer: Trainer, record: Record) -> bool | None:
        value, epoch = recorded(record, self.metric), int(record["epoch"])
        self.trial.report(float(value), step=epoch)
        if self.trial.should_prune():
            raise self._pruned(f"pruned after epoch {epoch}, with {self.metric} = {value:.6g}")
        return None


class RayTuneReport(Callback):
    """Reports each epoch to Ray Tune, whose scheduler may end the trial.

    For a function that a ``ray.tune.Tuner`` runs. Needs ``fastmlp[sweeps]``::

        def trial(config):
            trainer = Trainer(MLP([64, 64, 10]), optimizer=Adam(config["rate"]))
            trainer.fit(*train, 30, test, callbacks=[RayTuneReport()], verbose=False)

        space = {"rate": tune.loguniform(1e-4, 1e-1)}
        asha = ASHAScheduler(metric="val_loss", mode="min", max_t=30)
        tune.Tuner(trial, param_space=space, tune_config=tune.TuneConfig(scheduler=asha)).fit()

    Parameters
    ----------
    metrics : str, list of str, mapping of str to str, or None, default None
        Columns of the history; as a mapping, by the names that they are reported under. None
        reports all.

    Raises
    ------
    ImportError
        When a fit starts, if Ray Tune is not installed.
    ValueError
        When a fit starts, if it does not record one of the metrics.

    Examples
    --------
    >>> RayTuneReport({"loss": "val_loss"})
    RayTuneReport(metrics={'loss': 'val_loss'})
    """

    def __init__(self, metrics: str | Iterable[str] | Mapping[str, str] | None = None) -> None:
        self.metrics = None if metrics is None else _reported(metrics)

    def on_fit_begin(self, trainer: Trainer) -> None:
        try:
            from ray import tune
        except ImportError as error:
            raise ImportError(
                "the RayTuneReport callback needs Ray Tune: pip install 'fastmlp[sweeps]'"
            ) from error
        self._report = tune.report
        for column in (self.metrics or {}).values():
            recorded(trainer.directions, column)

    def on_epoch_end(self, trainer: Trainer, record: Record) -> bool | None:
        chosen = self.metrics
        if chosen is None:
            self._report(dict(record))
        else:
            self._report({name: recorded(record, column) for name, column in chosen.items()})
        return None


def _reported(metrics: str | Iterable[str] | Mapping[str, str]) -> dict[str, str]:
    """Return columns by the names that they are reported under."""
    if isinstance(metrics, str):
        return {metrics: metrics}
    named = metrics if isinstance(metrics, Mapping) else {one: one for one in metrics}
    return {
        _checks.text(name, "a name of metrics"): _checks.text(column, "a metric")
        for name, column in named.items()
    }


def as_callbacks(given: Iterable[Any]) -> list[Callback]:
    """Return callbacks, functions wrapped, checkpoints last.

    Raises
    ------
    TypeError
        If something is neither a `Callback` nor a function.

    Examples
    --------
    >>> as_callbacks([Checkpoint("run.npz"), EarlyStopping()])[0].metric
    'val_loss'
    """
    if isinstance(given, Callback) or not isinstance(given, Iterable):
        raise TypeError(f"callbacks must be a list, got {given!r}")
    made: list[Callback] = []
    for callback in given:
        if isinstance(callback, Callback):
            made.append(callback)
        elif callable(callback) and not isinstance(callback, type):
            made.append(FunctionCallback(callback))
        else:
            raise TypeError(
                f"a callback must be a Callback instance or a function, got {callback!r}"
            )
    # A file must hold what the other callbacks know of the same epoch.
    return sorted(made, key=lambda callback: isinstance(callback, Checkpoint))


def _watch_schema(n_epochs: int) -> dict[str, Kind]:
    return {"best": Maybe(Number(infinite=True)), "waited": Integer(0, n_epochs)}


def _best_schema(parameters: Kind, n_epochs: int) -> Fields:
    best = {"best_epoch": Maybe(Integer(1, n_epochs)), "best_parameters": Maybe(parameters)}
    return Fields({**_watch_schema(n_epochs), **best})


def _checkpoint_schema(parameters: Kind, n_epochs: int) -> Fields:
    return Fields(_watch_schema(n_epochs))


#: What the built-in callbacks keep in a checkpoint, or kept in earlier versions, by class: made
#: from what parameters are, and from the number of epochs so far.
STATES: Mapping[str, Callable[[Kind, int], Fields]] = MappingProxyType(
    {
        "EarlyStopping": _best_schema,
        "KeepBest": _best_schema,
        "Checkpoint": _checkpoint_schema,
    }
)


def named_states(callbacks: Iterable[Callback]) -> dict[str, Callback]:
    """Return the callbacks that keep a state, by the state's name in a checkpoint.

    Raises
    ------
    ValueError
        If two of them have the same name.

    Examples
    --------
    >>> list(named_states([EarlyStopping("loss", 3), Checkpoint("run.npz")]))
    ["EarlyStopping(metric='loss', patience=3, min_delta=0.0, mode='auto', restore_best=True)"]
    """
    named: dict[str, Callback] = {}
    for callback in callbacks:
        if type(callback).state is Callback.state:
            continue
        name = f"{_kind(callback)}({callback.state_name()})"
        if name in named:
            raise ValueError(
                f"two callbacks would keep their states as {name}, and a fit that goes on could "
                "not tell them apart; leave one out, or let state_name() tell them apart"
            )
        named[name] = callback
    return named


def load_states(
    trainer: Trainer, named: Mapping[str, Callback], states: Mapping[str, dict[str, Any]]
) -> None:
    """Give each callback its own state from a checkpoint.

    Parameters
    ----------
    trainer : Trainer
    named : mapping
        As `named_states` returns it.
    states : mapping
        The checkpoint's. Earlier versions counted the callbacks of a class: "EarlyStopping 1".

    Warns
    -----
    UserWarning
        If there are states of its class, but all of callbacks with other arguments.

    Examples
    --------
    >>> from fastmlp import MLP, Trainer
    >>> class Counter(Callback):
    ...     n_epochs = 0
    ...
    ...     def state(self):
    ...         return {"n_epochs": self.n_epochs}
    ...
    ...     def load_state(self, trainer, state):
    ...         self.n_epochs = state["n_epochs"]
    >>> counter = Counter()
    >>> trainer = Trainer(MLP([1, 1], output_activation="linear"), backend="numpy")
    >>> load_states(trainer, named_states([counter]), {"Counter()": {"n_epochs": 3}})
    >>> counter.n_epochs
    3
    """
    counts: dict[str, int] = {}
    for name, callback in named.items():
        kind = _kind(callback)
        counts[kind] = counts.get(kind, 0) + 1
        counted = f"{kind} {counts[kind]}"
        others = [other for other in states if other.startswith(f"{kind}(") and other not in named]
        if name in states:
            callback.load_state(trainer, states[name])
        elif counted in states:
            callback.load_state(trainer, states[counted])
        elif others:
            warnings.warn(
                f"{name} starts anew: the checkpoint holds only the state of "
                f"{' and '.join(others)}",
                stacklevel=8,
            )


def state_schema(name: str, parameters: Kind, n_epochs: int) -> Fields | None:
    """Return what a state of this name must hold, if it is a built-in callback's.

    Parameters
    ----------
    name : str
    parameters : Kind
        What parameters are.
    n_epochs : int
        Epochs so far.

    Examples
    --------
    >>> sorted(state_schema("EarlyStopping()", Number(), n_epochs=3).fields)[:2]
    ['best', 'best_epoch']
    >>> state_schema("TheirCallback()", Number(), n_epochs=3) is None
    True
    """
    made = STATES.get(name.partition("(")[0].partition(" ")[0])
    return None if made is None else made(parameters, n_epochs)


def _kind(callback: Callback) -> str:
    kind = type(callback).__qualname__
    if kind in STATES and type(callback).__module__ != Callback.__module__:
        return f"{type(callback).__module__}.{kind}"  # another's of a built-in's name
    return kind
