"""The trainer: epochs, order, batches, validation and what is recorded of them."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmlp import _checks, checkpoint
from fastmlp._data import Data, checksum, fingerprint, rows_of
from fastmlp._frames import check_names, column_names
from fastmlp._locks import Turn, make_locks
from fastmlp._mapped import is_mapped, release_pages
from fastmlp._messages import logger, quiet
from fastmlp._pooled import PooledRows
from fastmlp._progress import Display, Silent, display, line, verbosity
from fastmlp._settings import readable
from fastmlp._watch import Plateau, Watch, check_watched
from fastmlp._weights import (
    ClassWeight,
    batch_weights,
    check_class_weight,
    class_weights,
    row_numbers,
    sample_weights,
    spread,
)
from fastmlp.backends.base import Backend, Session, TrainingState, default_loss, get_backend
from fastmlp.backends.bound import Bound
from fastmlp.callbacks import Callback, FunctionCallback, as_callbacks, load_states, named_states
from fastmlp.errors import DivergenceError, TrainingInterrupted
from fastmlp.history import History, Record
from fastmlp.lbfgs import LBFGS
from fastmlp.losses import LOSSES, Loss
from fastmlp.metrics import (
    Metric,
    RunningScore,
    Scores,
    column_directions,
    resolve_metrics,
    running_score,
    score_name,
    score_targets,
)
from fastmlp.model_file import training_summary
from fastmlp.network import MLP, check_finite, check_logits
from fastmlp.optimizers import OPTIMIZERS, SGD, Optimizer
from fastmlp.regularization import Regularization
from fastmlp.schedules import (
    Constant,
    ReduceOnPlateau,
    Schedule,
    choose_schedule,
    epoch_factors,
)
from fastmlp.targets import dense_targets, prepare_targets, weight_shares

Array = NDArray[Any]

#: Seconds between two looks at Ctrl-C and the progress bar.
_CHUNK_SECONDS = 0.1
_ROWS_AT_ONCE = 4096
#: So many epochs are one call that their logits are at most this many.
_LOGITS_AT_ONCE = 2**20
#: Of a memory map, at most so much is in memory.
_GATHERED_BYTES = 32 * 2**20
#: What an epoch's record holds besides losses and metrics.
_NO_SCORES = ("epoch", "learning_rate", "seconds")
#: In pickles, in the place of the parameters that the network has too.
_THE_NETWORKS = np.empty(0)
#: What sessions are bound with, and what the history is made of.
_FIXED = (
    "network",
    "loss",
    "batch_size",
    "backend",
    "n_threads",
    "seed",
    "regularization",
    "class_weight",
    "metrics",
)


@dataclass(frozen=True)
class _Progress:
    """Everything a fit changes, as it stood after the last whole epoch."""

    state: TrainingState
    generator: dict[str, Any]
    records: tuple[Record, ...] = ()
    #: The last epoch that a fit was ever asked for: schedules stretch to it.
    planned_epochs: int = 0
    plateau: Plateau = field(default_factory=Plateau)
    #: Those of the last fit.
    callbacks: tuple[Callback, ...] = ()
    #: What a loaded checkpoint holds for the callbacks of the next fit, until its first epoch
    #: or its end.
    callback_states: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def visible(self) -> Array:
        """The parameters that the network shows: the average, where one is kept."""
        return self.state.parameters if self.state.average is None else self.state.average

    def with_visible(self, visible: Array) -> _Progress:
        """Return the same with another array in the place of `visible`."""
        if self.state.average is None:
            return replace(self, state=replace(self.state, parameters=visible))
        return replace(self, state=replace(self.state, average=visible))

    def showing(self, parameters: Array) -> _Progress:
        """Return the same after the same epoch, but with other parameters."""
        average = None if self.state.average is None else parameters.copy()
        state = replace(self.state, parameters=parameters.copy(), average=average)
        return replace(self, state=state)


class Trainer:
    """Trains a network.

    One thread trains at a time. Others may predict and evaluate meanwhile, by the parameters of
    the last whole epoch.

    Parameters
    ----------
    network : MLP
        Trained in place.
    loss : str, Loss or None, default None
        None takes what suits the output: cross entropy for softmax and sigmoid, Poisson for exp,
        MSE for linear.
    optimizer : str, Optimizer or LBFGS, default "sgd"
    batch_size : int, default 32
        The last batch of an epoch is smaller where the samples do not divide evenly.
    backend : str or Backend, default "auto"
        "numpy", "numba", "jax", "auto" (the fastest on the processor), or an instance.
    n_threads : int or None, default None
        None lets the backend choose. Of a given number, the Numba backend uses as many as have
        enough to do in a step. Results do not depend on it.
    seed : int or None, default None
        Of the sample order, dropout and noise. None takes the network's seed.
    schedule : str, Schedule, callable or None, default None
        Of the learning rate; None keeps it constant. It counts the epochs of all fits, whatever
        their sizes, and stretches over all epochs that fits were asked for so far. A function
        ``f(t)`` returns the factors on the rate for an array of t, the shares of the training
        that are over, in [0, 1).
    regularization : Regularization or None, default None
    class_weight : dict, "balanced" or None, default None
        Weights of classes in the training loss, for softmax and a single sigmoid output; classes
        not named weigh 1. "balanced" weighs them against their frequency. Scores and `evaluate`
        are not weighted so.
    metrics : sequence of str, callable or (name, metric), or dict of them by name, default ()
        More to record after each epoch, of training and validation data, and in `evaluate`:
        "label_accuracy" (or "binary_accuracy"), the share of single labels that are right, where
        "accuracy" counts the rows whose labels all are; "log_loss" and "brier_score" of
        probabilities, without label smoothing; "selection_loss", the share of wrong labels plus
        half the log loss, which is good to choose an epoch by; the name of one of scikit-learn's
        scorers (``sklearn.metrics.get_scorer_names``), or what ``make_scorer`` made; or a function
        of true and predicted labels or values, ``(y_true, y_pred) -> float``. They are recorded
        under their names or the ones that are given. A function's attribute `greater_is_better`
        says which way it counts; more of a scorer is better. Of the training data they need all
        predictions of an epoch in memory. Sample weights count in the library's own.

    Raises
    ------
    ValueError, TypeError
        If an argument is unknown, out of range, or the loss has no meaning for the output.
    ImportError
        If the backend is not installed.

    Examples
    --------
    >>> from fastmlp import MLP, SGD
    >>> X, y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 0, 1, 1])
    >>> trainer = Trainer(MLP([1, 2]), optimizer=SGD(0.5), batch_size=2, backend="numpy")
    >>> history = trainer.fit(X, y, epochs=30, verbose=False)
    >>> trainer.evaluate(X, y).accuracy
    1.0
    """

    def __init__(
        self,
        network: MLP,
        loss: str | Loss | None = None,
        optimizer: str | Optimizer | LBFGS = "sgd",
        *,
        batch_size: int = 32,
        backend: str | Backend = "auto",
        n_threads: int | None = None,
        seed: int | None = None,
        schedule: str | Schedule | Callable[[Array], Array] | None = None,
        regularization: Regularization | None = None,
        class_weight: ClassWeight = None,
        metrics: Sequence[Any] | Mapping[str, Any] = (),
    ) -> None:
        if not isinstance(network, MLP):
            raise TypeError(f"network must be an MLP, got {network!r}")
        self.network = network
        self.loss = (
            default_loss(network) if loss is None else _checks.choose(loss, Loss, LOSSES, "loss")
        )
        self.loss.check_output(network.output_activation)
        self.loss.target_width(network.n_outputs)
        self._optimizer = _optimizer(optimizer, network.n_layers)
        self.batch_size = _checks.integer(batch_size, "batch_size", at_least=1)
        self.backend = get_backend(backend)
        self.n_threads = (
            None if n_threads is None else _checks.integer(n_threads, "n_threads", at_least=1)
        )
        self.seed = network.seed if seed is None else _checks.integer(seed, "seed", at_least=0)
        self.regularization = Regularization() if regularization is None else regularization
        self.regularization.dropout_rates(network.n_layers)
        check_class_weight(class_weight, network.output_activation, network.n_outputs)
        self._schedule = self._checked_schedule(schedule)
        if isinstance(class_weight, Mapping):
            class_weight = dict(class_weight)  # which nobody else changes
        self.class_weight = class_weight
        self.metrics: tuple[Metric, ...] = tuple(resolve_metrics(metrics, network))
        self._directions = self._column_directions(validation=True)
        self._progress = _Progress(
            TrainingState.initial(network, self._updates(), self.regularization),
            dict(np.random.default_rng(self.seed).bit_generator.state),
        )
        #: The parameters that the network was last given.
        self._published = self._progress.visible
        self._seconds_per_batch = _CHUNK_SECONDS
        #: The running fit ends after the epoch of this number, or this one.
        self._last, self._stopping = 0, False
        self._bind_later()

    def _bind_later(self) -> None:
        #: The session that trains, and the one that predicts, also while the other trains.
        self._training: Bound | None = None
        self._predicting: Bound | None = None
        make_locks(self)

    def _use_threads(self, n_threads: int) -> None:
        """Compute by another number of threads from now on, which changes no result."""
        if n_threads != self.n_threads:
            with self._lock:
                self.__dict__["n_threads"] = n_threads
                self._training = self._predicting = None

    def make_locks(self) -> None:
        """Make the locks; not for users."""
        #: At changing what training has come to.
        self._turn = Turn()
        #: Guards the network's parameters and the session that predicts.
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        without = ("_training", "_predicting", "_turn", "_lock")
        state = {name: value for name, value in vars(self).items() if name not in without}
        # Functions remember nothing, and the next fit brings its own; many cannot be pickled.
        kept = [one for one in self._progress.callbacks if not isinstance(one, FunctionCallback)]
        progress = replace(self._progress, callbacks=tuple(kept))
        shown = self.network.parameters
        if np.array_equal(shown, progress.visible) and np.array_equal(shown, self._published):
            # The network brings them; a copy less travels.
            progress = progress.with_visible(_THE_NETWORKS)
            state["_published"] = _THE_NETWORKS
        return state | {"_progress": progress}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if not len(self._published):
            self._progress = self._progress.with_visible(self.network.parameters.copy())
            self._published = self._progress.visible
        self._bind_later()

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED and name in self.__dict__:
            raise AttributeError(
                f"a trainer's {name} is fixed when it is made; make another Trainer, of the same "
                "network if you like"
            )
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        shown = [
            f"loss={self.loss!r}",
            f"optimizer={self.optimizer!r}",
            f"batch_size={self.batch_size}",
            f"backend={self.backend.name!r}",
            f"seed={self.seed}",
        ]
        if not isinstance(self.schedule, Constant):
            shown.append(f"schedule={self.schedule!r}")
        if self.regularization != Regularization():
            shown.append(f"regularization={self.regularization!r}")
        if self.class_weight is not None:
            shown.append(f"class_weight={self.class_weight!r}")
        return f"Trainer({self.network!r}, {', '.join(shown)})"

    # What a user calls -----------------------------------------------------------------------

    @property
    def optimizer(self) -> Optimizer | LBFGS:
        """The optimizer; one of the same kind may be assigned, and keeps what it has learned."""
        return self._optimizer

    @optimizer.setter
    def optimizer(self, given: str | Optimizer | LBFGS) -> None:
        optimizer = _optimizer(given, self.network.n_layers)
        if type(optimizer) is not type(self._optimizer):
            raise ValueError(
                f"this trainer's optimizer is {self._optimizer!r}, whose moments mean nothing to "
                f"{optimizer!r}; make another Trainer of the same network"
            )
        with (turn := threading.Lock()):
            self._claim(turn)
            self._optimizer = optimizer
            state = self._progress.state
            moments = np.zeros_like(
                state.moments, shape=(self._updates().n_moments, self.network.n_parameters)
            )
            n_kept = min(len(moments), len(state.moments))
            moments[:n_kept] = state.moments[:n_kept]
            self._progress = replace(self._progress, state=replace(state, moments=moments))
            self._training = None

    @property
    def schedule(self) -> Schedule:
        """The schedule; another may be assigned, and has the epochs before behind it.

        Reducing on a plateau goes on where the metric stays the same, and else starts anew.
        """
        return self._schedule

    @schedule.setter
    def schedule(self, given: str | Schedule | Callable[[Array], Array] | None) -> None:
        schedule = self._checked_schedule(given)
        with (turn := threading.Lock()):
            self._claim(turn)
            plateau = self._progress.plateau.under(schedule, self._schedule)
            self._progress = replace(self._progress, plateau=plateau)
            self._schedule = schedule

    @property
    def history(self) -> History:
        """All epochs of all fits so far, those before a loaded checkpoint included."""
        return History(self._progress.records)

    @property
    def directions(self) -> dict[str, bool | None]:
        """Of every column of the running fit's history, whether more is better.

        None where nobody said: of a function without an attribute `greater_is_better`.

        Examples
        --------
        >>> from fastmlp import MLP
        >>> Trainer(MLP([1, 2]), backend="numpy").directions["val_accuracy"]
        True
        """
        return dict(self._directions)

    @property
    def planned_epochs(self) -> int:
        """The number of the last epoch that a fit was ever asked for, if it trained at all.

        After `load_checkpoint`, ``planned_epochs - len(history)`` epochs are left of the run.
        """
        return self._progress.planned_epochs

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        epochs: int = 10,
        validation_data: tuple[Any, ...] | None = None,
        *,
        validation_split: float = 0.0,
        sample_weight: ArrayLike | None = None,
        rows: ArrayLike | None = None,
        callbacks: Iterable[Any] = (),
        verbose: bool | int | str = True,
        shuffle: bool = True,
    ) -> History:
        """Train for some epochs more; a second call goes on where the first ended.

        The network's parameters are the truth: if they were changed since the last fit, training
        goes on from the changed ones.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_inputs), data frame, or SciPy sparse matrix
            Arrays and memory maps of any numeric dtype are read row by row, never copied whole.
            The network remembers a frame's column names, and refuses others from then on.
        y : array-like
            Class numbers, one-hot or probability rows, or real targets.
        epochs : int, default 10
            How many epochs more, at least 0.
        validation_data : (X, y), (X, y, sample_weight) or None, default None
            Measured after every epoch.
        validation_split : float, default 0.0
            In [0, 1): this share of the rows, the last ones as they are given, with their sample
            weights, is measured after every epoch and not trained on, as in Keras. Shuffle rows
            that are sorted first.
        sample_weight : array-like of shape (n_samples,), optional
            Weights at least 0 of each batch's mean loss, and of the training score.
        rows : array-like of int, optional
            The numbers of the rows to train on, of X, y and `sample_weight` alike, each as often
            as it is named. Nothing of X is copied, and the result has the bits of a fit of
            ``X[rows]``, ``y[rows]`` and ``sample_weight[rows]``. Default: all rows.
        callbacks : iterable of Callback or function, default ()
            Functions are called after each epoch with the trainer and the epoch's record, and end
            the fit by returning True.
        verbose : bool, int or "auto", default True
            True, 1 or "auto" shows a bar on a terminal or in a notebook (with tqdm), else a line
            an epoch; 2 or more always a line an epoch; False or 0 nothing, not even that kernels
            are being compiled. The logger "fastmlp" is told in any case, at level INFO.
        shuffle : bool, default True
            Whether every epoch visits the samples in a new order.

        Returns
        -------
        History
            This call's epochs. The running loss and score of training are those of each batch
            before its update.

        Raises
        ------
        ValueError
            If the data does not fit the network or each other.
        DivergenceError
            If the loss, a parameter or a moment of the optimizer becomes NaN or infinite; the
            network is left as it was after the last good epoch.
        RuntimeError
            If another thread is fitting this trainer.

        Warns
        -----
        TrainingInterrupted
            If Ctrl-C ended the fit; the network is left as it was after the last whole epoch.

        Examples
        --------
        >>> from fastmlp import MLP
        >>> trainer = Trainer(MLP([2, 2]), backend="numpy")
        >>> trainer.fit([[0.0, 1.0], [1.0, 0.0]], [0, 1], epochs=2, verbose=False)["epoch"]
        [1, 2]
        """
        epochs = _checks.integer(epochs, "epochs", at_least=0)
        level = verbosity(verbose)
        with (turn := threading.Lock()):
            self._claim(turn)
            first = len(self._progress.records)
            known, planned = self.network.feature_names, self.planned_epochs
            self._adopt()
            leads = self.backend.leads
            try:
                with self.backend.fitting() as agree:
                    data, validation = self._training_data(
                        X, y, sample_weight, rows, validation_data, validation_split
                    )
                    called = as_callbacks(callbacks)
                    agree(lambda: self._facts(data, validation, epochs, shuffle))
                    self.network.feature_names = column_names(X) or known
                    shown = verbose if leads else False
                    with quiet(level == 0 or not leads):
                        given = called if leads else [], shown, shuffle, agree
                        self._fit(data, validation, epochs, *given)
            except KeyboardInterrupt:
                self._publish()
                warnings.warn(
                    f"training was interrupted; the network is as it was after epoch "
                    f"{len(self._progress.records)}",
                    TrainingInterrupted,
                    stacklevel=2,
                )
            except BaseException:
                self._publish()
                raise
            finally:
                if len(self._progress.records) == first:  # nothing was learned
                    self.network.feature_names = known
                    self._progress = replace(self._progress, planned_epochs=planned)
                else:
                    self.network.training = self._summary()
            return History(self._progress.records[first:])

    def _summary(self) -> dict[str, Any]:
        """Return what the network tells of its training."""
        last = self._progress.records[-1]
        scores = {name: value for name, value in last.items() if name not in _NO_SCORES}
        return training_summary(len(self._progress.records), scores, self.loss, self.optimizer)

    def stop(self, after: int | None = None) -> None:
        """End the running fit after this epoch, or after a later one; for callbacks.

        Parameters
        ----------
        after : int, optional
            The number of the last epoch, as the history counts. Schedules stretch to it from now
            on. Default: this epoch, whatever schedules were planned for.

        Raises
        ------
        ValueError
            If `after` is an epoch of the past.

        Examples
        --------
        >>> from fastmlp import MLP
        >>> trainer = Trainer(MLP([1, 2]), backend="numpy")
        >>> def stop(trainer, record):
        ...     trainer.stop()
        >>> len(trainer.fit([[0.0]], [0], epochs=9, callbacks=[stop], verbose=False))
        1
        """
        if after is None:
            self._stopping = True
            return
        self._last = _checks.integer(after, "after", at_least=len(self._progress.records))
        self._progress = replace(self._progress, planned_epochs=after)

    def save_checkpoint(self, path: str | Path) -> None:
        """Write everything that training changes to one file, whole or not at all.

        Parameters, optimizer moments, moving average, step, the generator of the sample order,
        history, schedule, callbacks and the names of columns, in NumPy's npz format without
        pickles.

        Parameters
        ----------
        path : str or Path
            Replaced if it exists.

        Raises
        ------
        FileNotFoundError
            If there is no such folder.
        CheckpointError
            If the network's parameters were set to NaN or infinite values.
        TypeError
            If a callback's state is nothing that a file can hold.

        Examples
        --------
        >>> import tempfile
        >>> from fastmlp import MLP
        >>> trainer = Trainer(MLP([2, 2]), backend="numpy")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     trainer.save_checkpoint(Path(folder, "run.npz"))
        ...     trainer.load_checkpoint(Path(folder, "run.npz"))
        """
        with self._lock:
            self._adopt()
            progress = self._progress
        callbacks = {name: one.state() for name, one in named_states(progress.callbacks).items()}
        content = {
            "parameters": progress.state.parameters,
            "moments": progress.state.moments,
            "average": progress.state.average,
            "step": progress.state.step,
            "generator": progress.generator,
            "records": progress.records,
            "planned_epochs": progress.planned_epochs,
            "plateau": vars(progress.plateau.watch),
            "plateau_factor": progress.plateau.factor,
            "callbacks": {**progress.callback_states, **callbacks},
            "feature_names": self.network.feature_names,
        }
        checkpoint.save(path, content, self._owner())

    def load_checkpoint(self, path: str | Path) -> None:
        """Take over what `save_checkpoint` wrote, the network's parameters included.

        The trainer must be made like the one that wrote it, with settings of the same values;
        backend and threads may differ. The next fit's ``epochs`` are further epochs, and with the
        same backend it goes on with the same bits as if it had never been interrupted. A file
        that is refused changes nothing, and no file takes more memory than its size calls for.

        Raises
        ------
        FileNotFoundError
            If there is no file.
        CheckpointError
            If it is damaged, no checkpoint, or of a trainer with other settings. It is a
            ValueError.
        RuntimeError
            If another thread is fitting this trainer.
        """
        content = checkpoint.load(path, self._owner())
        loaded = _Progress(
            TrainingState(
                content["parameters"], content["moments"], content["average"], content["step"]
            ),
            content["generator"],
            tuple(content["records"]),
            content["planned_epochs"],
            Plateau(Watch(**content["plateau"]), content["plateau_factor"]),
            callback_states=content["callbacks"],
        )
        with (turn := threading.Lock()):
            self._claim(turn)
            self._adopt()
            try:
                self._progress = loaded
                self._publish()
                names = content["feature_names"]
                if names is not None:
                    self.network.feature_names = tuple(names)
            except BaseException:
                self._publish()
                raise

    def evaluate(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Scores:
        """Return the loss (without penalties) and the score of some samples.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`. Of rows that processes have pooled, all processes call it together.

        Returns
        -------
        Scores
            ``loss``, and ``accuracy`` (softmax, sigmoid; of several labels, the share of rows
            whose labels are all right) or ``r2`` (linear, exp), as attributes,
            items, and in this order.

        Raises
        ------
        ValueError
            If the data does not fit the network or each other; or, as in `predict`, if the
            network's logits are NaN or infinite, of which there is no score.

        Examples
        --------
        >>> from fastmlp import MLP
        >>> loss, accuracy = Trainer(MLP([2, 2]), backend="numpy").evaluate([[0.0, 0.0]], [0])
        >>> round(loss, 4), accuracy
        (0.6931, 1.0)
        """
        if isinstance(X, PooledRows):
            return self._evaluate_together(X, y, sample_weight)
        data = self._data(X, y, sample_weight)
        with self._lock:
            return Scores(self._measure(self._predictions(), data, refuse_nan=True))

    def _evaluate_together(
        self, X: PooledRows, y: ArrayLike, sample_weight: ArrayLike | None
    ) -> Scores:
        with self._lock, self.backend.fitting() as agree:
            data, parameters = self._data(X, y, sample_weight), self.network.parameters
            agree(
                lambda: {
                    "the data": fingerprint(data),
                    "the parameters": f"checksum {checksum(parameters):08x}",
                }
            )
            bound = self._bind(self.backend, min(self.batch_size, _ROWS_AT_ONCE))
            return Scores(self._measure(bound.predicting(parameters), data, refuse_nan=True))

    def predict(self, X: ArrayLike) -> Array:
        """Return what `MLP.predict` returns, computed by the trainer's backend.

        Examples
        --------
        >>> from fastmlp import MLP
        >>> Trainer(MLP([2, 2]), backend="numpy").predict([[0.0, 0.0]])
        array([0])
        """
        return self._predict(X, "decisions")

    def predict_proba(self, X: ArrayLike) -> Array:
        """Return what `MLP.predict_proba` returns, computed by the trainer's backend.

        Examples
        --------
        >>> from fastmlp import MLP
        >>> Trainer(MLP([2, 2]), backend="numpy").predict_proba([[0.0, 0.0]])
        array([[0.5, 0.5]], dtype=float32)
        """
        return self._predict(X, "outputs")

    # An epoch --------------------------------------------------------------------------------

    def _fit(
        self,
        data: Data,
        validation: Data | None,
        epochs: int,
        callbacks: list[Callback],
        verbose: bool | int | str,
        shuffle: bool,
        agree: Callable[[Callable[[], dict[str, Any]]], None],
    ) -> None:
        first = len(self._progress.records)
        last = first + epochs
        self._last, self._stopping = last, False
        planned = max(self._progress.planned_epochs, last)
        self._progress = replace(self._progress, planned_epochs=planned)
        self._directions = self._column_directions(validation=validation is not None)
        if isinstance(self.schedule, ReduceOnPlateau):
            check_watched(self.schedule.metric, self.schedule.mode, self._directions)
        states, named = self._progress.callback_states, named_states(callbacks)
        with contextlib.ExitStack() as stack:
            stack.callback(self._release)
            for callback in callbacks:
                stack.callback(callback.close)
            self._lead(partial(self._begin, callbacks, named, states))
            self._progress = replace(self._progress, callbacks=tuple(callbacks))
            n_batches = -(-data.n_samples // self.batch_size)
            shown = display(verbose, first + 1, last, n_batches)
            stack.callback(shown.close)
            watched = type(shown) is not Silent or validation is not None
            looked_at = watched or bool(callbacks or self.metrics)
            while len(self._progress.records) < self._last and not self._stopping:
                n_epochs = 1 if looked_at else self._epochs_at_once(data)
                n_epochs = self.backend.led(partial(int, n_epochs))
                if n_epochs > 1:
                    records = self._run_at_once(data, shuffle, n_epochs)
                else:
                    records = [self._run_epoch(data, validation, shuffle, shown)]
                agree(self._facts_of_state)
                for record in records:
                    shown.epoch(record, self._last)
                    if self.backend.leads and logger.isEnabledFor(logging.INFO):
                        logger.info(shown.prefix + line(record, self._last))
                self._lead(partial(self._end_epoch, callbacks, records[-1]))
            self._lead(partial(self._end, callbacks, History(self._progress.records[first:])))
            for callback in callbacks:
                said = callback.outcome()
                if said is not None:
                    shown.note(said)
                    logger.info(shown.prefix + said)
            # The run of the checkpoint has come to its end: the next fit's callbacks start anew.
            self._progress = replace(self._progress, callback_states={})

    def _begin(
        self,
        callbacks: list[Callback],
        named: Mapping[str, Callback],
        states: Mapping[str, dict[str, Any]],
    ) -> None:
        for callback in callbacks:
            callback.on_fit_begin(self)
        load_states(self, named, states)

    def _end_epoch(self, callbacks: list[Callback], record: Record) -> None:
        for callback in callbacks:
            if callback.on_epoch_end(self, dict(record)):
                self._stopping = True

    def _end(self, callbacks: list[Callback], history: History) -> None:
        for callback in callbacks:
            callback.on_fit_end(self, history)

    def _lead(self, call: Callable[[], None]) -> None:
        """Let callbacks act where this process leads; where it follows, do what they decided."""
        before = self._progress.state, self._optimizer, self._schedule

        def act() -> tuple[Any, ...]:
            call()
            self._adopt()
            now = self._progress.state, self._optimizer, self._schedule
            pairs = zip(now, before, strict=True)
            changed = [new if new is not old else None for new, old in pairs]
            planned, plateau = self._progress.planned_epochs, self._progress.plateau
            return self._stopping, self._last, planned, plateau, changed

        self._stopping, self._last, planned, plateau, changed = self.backend.led(act)
        if self.backend.leads:
            return
        state, optimizer, schedule = changed
        self._optimizer, self._schedule = optimizer or self._optimizer, schedule or self._schedule
        state = state or self._progress.state
        self._progress = replace(
            self._progress, state=state, planned_epochs=planned, plateau=plateau
        )
        if optimizer is not None:
            self._training = None
        self._publish()

    def _run_epoch(
        self, data: Data, validation: Data | None, shuffle: bool, shown: Display
    ) -> Record:
        """Train one epoch and commit to it, unless anything goes wrong."""
        start = time.perf_counter()
        before = self._progress
        number = len(before.records) + 1
        record: Record = {"epoch": number}
        if isinstance(self.optimizer, LBFGS):
            after, scores = self._minimize(data, self.optimizer, shown)
        else:
            after, scores = self._train(data, self.optimizer, shuffle, shown)
        if not np.all(np.isfinite(after.state.parameters)):
            raise DivergenceError(_divergence("a parameter", number))
        # With an infinite mean of squares, an optimizer stands still for ever.
        if not np.all(np.isfinite(after.state.moments)):
            raise DivergenceError(_divergence("a moment of the optimizer", number))
        record.update(scores)
        if validation is not None:
            measured = self._measure(self._showing(after), validation)
            record.update({f"val_{name}": value for name, value in measured.items()})
        if "learning_rate" in record:  # stands behind all metrics
            record["learning_rate"] = record.pop("learning_rate")
        record["seconds"] = self.backend.led(lambda: time.perf_counter() - start)
        plateau = after.plateau.after(record, self.schedule, self._directions)
        records = (*before.records, record)
        # One assignment, so that an interrupt finds the old epoch or the new one.
        self._progress = replace(after, records=records, plateau=plateau, callback_states={})
        self._publish()
        return record

    def _epochs_at_once(self, data: Data) -> int:
        """Return how many epochs can be one call where nobody looks at each."""
        alone = isinstance(self.optimizer, LBFGS) or isinstance(self.schedule, ReduceOnPlateau)
        if alone or isinstance(data.X, PooledRows) or is_mapped(data.X):
            return 1
        n_batches = -(-data.n_samples // self.batch_size)
        in_time = int(_CHUNK_SECONDS / (self._seconds_per_batch * n_batches))
        in_room = _LOGITS_AT_ONCE // (data.n_samples * self.network.n_outputs)
        return max(1, min(in_time, in_room, self._last - len(self._progress.records)))

    def _run_at_once(self, data: Data, shuffle: bool, n_epochs: int) -> list[Record]:
        """Train several epochs in one call, and commit to them, or as `_run_epoch` does."""
        start, before, optimizer = time.perf_counter(), self._progress, self._updates()
        orders, drawn = self._orders(data, shuffle, n_epochs)
        rates = [self._learning_rates(optimizer, data.n_samples, i) for i in range(n_epochs)]
        bound = self._bound(data.n_samples)
        session = bound.changing(before.state)
        session.keep(data.X, data.targets)
        order = np.concatenate(orders)
        logits = np.empty((len(order), self.network.n_outputs), dtype=self.network.dtype)
        given = order, np.concatenate(rates), data.weights, logits
        began = time.perf_counter()
        try:
            with np.errstate(all="ignore"):
                losses = session.train(data.X, data.targets, *given, n_epochs=n_epochs)
        except BaseException:
            n_whole = (session.step - before.state.step) // len(rates[0])
            if n_whole:
                self._run_at_once(data, shuffle, n_whole)
            raise
        self._note_speed((time.perf_counter() - began) / len(losses))
        state = bound.store()
        if not all(np.isfinite(one).all() for one in (losses, state.parameters, state.moments)):
            # One by one, to find out which it was, and to keep those before it.
            return [self._run_epoch(data, None, shuffle, Silent()) for _ in range(n_epochs)]
        records: list[Record] = []
        epochs = zip(orders, np.split(losses, n_epochs), np.split(logits, n_epochs), strict=True)
        for number, (rows, part, seen) in enumerate(epochs):
            score = self._fresh_score(data)
            score.add(seen, data.score_targets[rows], rows_of(data.sample_weights, rows))
            scores = self._scores(data, rows, part, score)
            rate = float(rates[number][-1])
            epoch = len(before.records) + number + 1
            records.append({"epoch": epoch, **scores, "learning_rate": rate})
        seconds = self.backend.led(lambda: (time.perf_counter() - start) / n_epochs)
        for record in records:
            record["seconds"] = seconds
        self._progress = replace(
            before,
            state=state,
            generator=drawn,
            records=(*before.records, *records),
            callback_states={},
        )
        self._publish()
        return records

    def _orders(
        self, data: Data, shuffle: bool, n_epochs: int = 1
    ) -> tuple[list[Array], dict[str, Any]]:
        """Return the rows of the next epochs in their orders, and the generator's state then."""
        generator = np.random.default_rng(0)  # a seed is faster than none
        generator.bit_generator.state = self._progress.generator
        n = data.n_samples
        drawn = [generator.permutation(n) if shuffle else np.arange(n) for _ in range(n_epochs)]
        return [data.at(samples) for samples in drawn], dict(generator.bit_generator.state)

    def _train(
        self, data: Data, optimizer: Optimizer, shuffle: bool, shown: Display
    ) -> tuple[_Progress, dict[str, float]]:
        """Train an epoch of batches; return what it changes, and its scores."""
        before, bound = self._progress, self._bound(data.n_samples)
        (order,), drawn = self._orders(data, shuffle)
        rates = self._learning_rates(optimizer, data.n_samples)
        session = bound.changing(before.state)
        session.keep(data.X, data.targets)  # for the whole fit, which releases it
        scores = self._run_batches(session, data, order, rates, shown)
        after = replace(before, state=bound.store(), generator=drawn)
        return after, scores | {"learning_rate": float(rates[-1])}

    def _minimize(
        self, data: Data, optimizer: LBFGS, shown: Display
    ) -> tuple[_Progress, dict[str, float]]:
        """Take an epoch of full-batch steps; return what it changes, and its scores."""
        before, dtype = self._progress, self.network.dtype
        session = self._bound(data.n_samples).changing(before.state)
        part = np.empty(self.network.n_parameters, dtype=dtype)
        total = float(np.sum(data.shares(slice(None))))

        def loss_and_gradient(parameters: Array) -> tuple[float, Array]:
            session.load(replace(before.state, parameters=parameters.astype(dtype)))
            loss, gradient = 0.0, np.zeros(len(parameters))
            for start in range(0, data.n_samples, _ROWS_AT_ONCE):
                block = slice(start, start + _ROWS_AT_ONCE)
                share = float(np.sum(data.shares(block))) / total
                # The penalties are in every block's loss, and the blocks' shares sum to 1.
                rows = data.at(block)
                loss += share * session.loss_and_gradient(
                    data.inputs(block), data.targets[rows], part, rows_of(data.weights, rows)
                )
                gradient += share * part
                shown.advance(0)  # it may have a reason to end the fit
                release_pages(data.X)
            return loss, gradient

        with np.errstate(all="ignore"):  # what diverges is found by the caller
            found, n_steps, converged = optimizer.minimize(
                loss_and_gradient, before.state.parameters
            )
        self._stopping = self._stopping or converged
        step = before.state.step + n_steps
        state = replace(before.state, parameters=found.astype(dtype), step=step)
        after = replace(before, state=state)
        return after, self._measure(self._showing(after), data)

    def _run_batches(
        self, session: Session, data: Data, order: Array, rates: Array, shown: Display
    ) -> dict[str, float]:
        """Train over the rows of `order` in chunks short enough for a progress bar and Ctrl-C."""
        size, score = self.batch_size, self._fresh_score(data)
        losses = np.empty(len(rates))
        seen: list[Array] = []
        mapped = is_mapped(data.X)
        gathers = mapped and not self.backend.gathers_rows
        most = _GATHERED_BYTES // (size * data.X[0].nbytes) if mapped else len(rates)
        batch = 0
        while batch < len(rates):
            wanted = int(_CHUNK_SECONDS / self._seconds_per_batch)
            n_batches = min(self.backend.led(partial(int, wanted)), most)
            chunk = slice(batch, batch + max(1, n_batches))
            rows = order[chunk.start * size : chunk.stop * size]
            logits = np.empty((len(rows), self.network.n_outputs), dtype=self.network.dtype)
            start = time.perf_counter()
            source = data.gathered(rows) if gathers else data
            picked = np.arange(len(rows)) if gathers else rows
            with np.errstate(all="ignore"):  # divergence is found below, once
                losses[chunk] = session.train(
                    source.X, source.targets, picked, rates[chunk], source.weights, logits
                )
            n_batches = len(losses[chunk])
            self._note_speed((time.perf_counter() - start) / n_batches)
            if not np.all(np.isfinite(losses[chunk])):
                number = len(self._progress.records) + 1
                raise DivergenceError(_divergence("the loss", number))
            score.add(logits, data.score_targets[rows], rows_of(data.sample_weights, rows))
            if self.metrics:
                seen.append(logits)
            batch += n_batches
            shown.advance(n_batches)
        scores = self._scores(data, order, losses, score)
        weights = rows_of(data.sample_weights, order)
        return scores | self._metric_values(seen, data.score_targets[order], weights)

    def _note_speed(self, seconds: float) -> None:
        """Take note of what a batch took: one batch tells little, so not of all of it at once."""
        self._seconds_per_batch = max(seconds, self._seconds_per_batch / 16)

    def _fresh_score(self, data: Data) -> RunningScore:
        targets = data.score_targets[data.at(slice(None))]
        return running_score(self.network.output_activation, targets, self.batch_size)

    def _scores(
        self, data: Data, order: Array, losses: Array, score: RunningScore
    ) -> dict[str, float]:
        """Return an epoch's loss and score."""
        weights = batch_weights(len(order), self.batch_size, rows_of(data.weights, order))
        shares = weight_shares(weights, len(weights), weights.dtype)
        name = score_name(self.network.output_activation)
        return {"loss": float(np.sum(losses * shares)), name: score.value()}

    def _learning_rates(self, optimizer: Optimizer, n_samples: int, ahead: int = 0) -> Array:
        """Return the rates of the next epoch's steps, or of one so many later."""
        progress = self._progress
        n_batches = -(-n_samples // self.batch_size)
        factors = epoch_factors(
            self.schedule,
            progress.state.step + ahead * n_batches,
            n_batches,
            len(progress.records) + ahead,
            progress.planned_epochs,
        )
        return optimizer.learning_rate * progress.plateau.factor * factors

    def _checked_schedule(
        self, given: str | Schedule | Callable[[Array], Array] | None
    ) -> Schedule:
        schedule: Schedule = Constant()
        if given is not None:
            schedule = choose_schedule(given)
        if isinstance(self.optimizer, LBFGS):
            _check_full_batch(schedule, self.regularization)
        return schedule

    def _column_directions(self, *, validation: bool) -> dict[str, bool | None]:
        score = score_name(self.network.output_activation)
        return column_directions(score, self.metrics, validation=validation)

    # The session and the network ---------------------------------------------------------------

    def _updates(self) -> Optimizer:
        """Return the optimizer of the session, which keeps its moments."""
        return SGD() if isinstance(self.optimizer, LBFGS) else self.optimizer

    def _bound(self, n_samples: int = 1) -> Bound:
        """Return the session that trains, with room for the batches of so many samples."""
        largest = _ROWS_AT_ONCE if isinstance(self.optimizer, LBFGS) else self.batch_size
        size = min(largest, n_samples)
        if self._training is None or self._training.batch_size < size:
            self._training = None  # lets go of its memory first
            given = self._updates(), self.regularization
            self._training = self._bind(self.backend, size, *given)
        return self._training

    def _release(self) -> None:
        """Let the session that trains forget the samples of a fit that is over."""
        if self._training is not None:
            self._training.release()

    def _bind(
        self,
        backend: Backend,
        batch_size: int,
        optimizer: Optimizer | None = None,
        regularization: Regularization | None = None,
    ) -> Bound:
        session = backend.bind(
            self.network,
            self.loss,
            optimizer,
            regularization,
            batch_size=batch_size,
            n_threads=self.n_threads,
            seed=self.seed,
        )
        return Bound(session)

    def _showing(self, progress: _Progress) -> Session:
        """Return the session that trains, computing by what the network is going to show."""
        state = progress.state
        if state.average is not None:
            state = replace(state, parameters=state.average)
        return self._bound().holding(state)

    def _predictions(self) -> Session:
        """Return the session that predicts, computing by the network's parameters.

        It is another one than that which trains, so that neither disturbs the other.
        """
        if self._predicting is None:
            size = min(self.batch_size, _ROWS_AT_ONCE)
            self._predicting = self._bind(self.backend.local, size)
        return self._predicting.predicting(self.network.parameters)

    def _claim(self, turn: threading.Lock) -> None:
        """Refuse what would change the state of training under another thread's fit."""
        if not self._turn.claim(turn):
            raise RuntimeError(
                "another thread is fitting this trainer; wait for it, or make a trainer for each"
            )

    def _adopt(self) -> None:
        """Take over the network's parameters, if someone else changed them."""
        with self._lock:
            shown, visible = self.network.parameters, self._progress.visible
            if not np.array_equal(shown, visible):
                if np.array_equal(shown, self._published):  # nobody did: an interrupt came between
                    self.network.parameters = visible
                else:
                    self._progress = self._progress.showing(shown)
            self._published = self._progress.visible

    def _publish(self) -> None:
        with self._lock:
            visible = self._progress.visible
            self.network.parameters = visible
            self._published = visible

    # Measuring -------------------------------------------------------------------------------

    def _measure(
        self, session: Session, data: Data, *, refuse_nan: bool = False
    ) -> dict[str, float]:
        """Return loss and score of prepared samples, block by block."""
        output, network = self.network.output_activation, self.network
        all_targets = data.score_targets[data.at(slice(None))]
        score = running_score(output, all_targets, _ROWS_AT_ONCE)
        total = weight = 0.0
        seen: list[Array] = []
        for start in range(0, data.n_samples, _ROWS_AT_ONCE):
            block = slice(start, start + _ROWS_AT_ONCE)
            rows = data.at(block)
            logits = session.logits(data.inputs(block))
            if refuse_nan:
                check_logits(logits)
            outputs = output.forward(logits, out=np.empty_like(logits))
            targets = dense_targets(data.targets[rows], network.n_outputs, network.dtype)
            values = self.loss.value(logits, outputs, targets, output)
            shares = data.shares(block)
            total += float(np.sum(values.astype(np.float64) * shares))
            weight += float(shares.sum())
            score.add(logits, data.score_targets[rows], rows_of(data.sample_weights, rows))
            if self.metrics:
                seen.append(logits)
            release_pages(data.X)
        scores = {"loss": total / weight, score_name(output): score.value()}
        weights = rows_of(data.sample_weights, data.at(slice(None)))
        return scores | self._metric_values(seen, all_targets, weights)

    def _metric_values(
        self, logits: list[Array], score_targets: Array, weights: Array | None
    ) -> dict[str, float]:
        """Return the extra metrics, given the logits of all rows in blocks."""
        if not self.metrics:
            return {}
        joined = np.concatenate(logits)
        return {
            metric.name: metric.value(joined, score_targets, weights) for metric in self.metrics
        }

    def _predict(self, X: ArrayLike, kind: str) -> Array:
        check_names(column_names(X), self.network.feature_names)
        with self._lock:
            return self._predictions().predict(X, kind)

    # Checks ----------------------------------------------------------------------------------

    def _data(
        self,
        X: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        chosen: ArrayLike | None = None,
    ) -> Data:
        rows, single = self.network.as_rows(X)
        if single:
            raise ValueError(
                f"X must have shape (n_samples, {self.network.n_inputs}), got {np.shape(X)}"
            )
        network = self.network
        targets = prepare_targets(
            y, self.loss, network.output_activation, network.n_outputs, network.dtype
        )
        if rows.shape[0] != len(targets):
            raise ValueError(f"X has {rows.shape[0]} rows, but y has {len(targets)}")
        if len(targets) == 0:
            raise ValueError("X must hold at least one row, got none")
        check_finite(rows, self.network.dtype, self.network.input_scale)
        labels = score_targets(network.output_activation, targets)
        numbers = None if chosen is None else row_numbers(chosen, "rows", len(targets))
        weights = None
        if sample_weight is not None:
            weights = sample_weights(sample_weight, len(targets), network.dtype, numbers)
        return Data(rows, targets, labels, weights, weights, numbers)

    def _with_class_weights(self, data: Data) -> Data:
        if self.class_weight is None:
            return data
        n_classes, labels = max(self.network.n_outputs, 2), data.score_targets.reshape(-1)
        rows = data.at(slice(None))
        each = class_weights(self.class_weight, labels[rows].astype(np.int64), n_classes)
        given = 1.0 if data.sample_weights is None else data.sample_weights[rows]
        with np.errstate(over="ignore"):
            weights = (each * given).astype(self.network.dtype)
        if not np.all(np.isfinite(weights)):
            raise ValueError(f"class_weight times sample_weight overflows {weights.dtype}")
        if not weights.any():
            raise ValueError("all samples weigh 0, by their class_weight and sample_weight")
        return replace(data, weights=spread(weights, data.rows, len(labels)))

    def _training_data(
        self,
        X: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None,
        rows: ArrayLike | None,
        validation_data: tuple[Any, ...] | None,
        validation_split: float,
    ) -> tuple[Data, Data | None]:
        """Return what is trained on, and what is measured after every epoch."""
        share = _checks.real(validation_split, "validation_split", at_least=0, below=1)
        if share and validation_data is not None:
            raise ValueError("give validation_data or validation_split, not both")
        data, validation = self._data(X, y, sample_weight, rows), None
        if validation_data is not None:
            validation = self._pair(validation_data)
            check_names(column_names(validation_data[0]), column_names(X))
        elif share:
            n_first = int(data.n_samples * (1 - share))
            if not 0 < n_first < data.n_samples:
                raise ValueError(
                    f"validation_split={share:g} of {data.n_samples} rows leaves "
                    f"{n_first} to train on and {data.n_samples - n_first} to measure"
                )
            data, validation = data.split(n_first)
        return self._with_class_weights(data), validation

    def _pair(self, validation_data: Any) -> Data:
        if not isinstance(validation_data, tuple | list) or len(validation_data) not in (2, 3):
            raise ValueError("validation_data must be (X, y) or (X, y, sample_weight)")
        return self._data(*validation_data)

    def _facts(
        self, data: Data, validation: Data | None, epochs: int, shuffle: bool
    ) -> dict[str, Any]:
        """Return what processes that fit together must have in common."""
        from fastmlp import __version__

        settings = {name: readable(one) for name, one in self._owner().settings.items()}
        return {
            "the version of fastmlp": __version__,
            "the version of NumPy": np.__version__,
            "the backend": repr(self.backend),
            **settings,
            "metrics": [metric.name for metric in self.metrics],
            "epochs": epochs,
            "shuffle": shuffle,
            "the training data": fingerprint(data),
            "the validation data": fingerprint(validation),
            **self._facts_of_state(),
        }

    def _facts_of_state(self) -> dict[str, Any]:
        progress = self._progress
        state, drawn = progress.state, str(progress.generator).encode()
        arrays = state.parameters, state.moments, state.average
        return {
            "the number of epochs so far": len(progress.records),
            "the number of updates so far": state.step,
            "the generator of the order": f"{zlib.crc32(drawn):08x}",
            "the state of parameters and moments": f"{checksum(*arrays):08x}",
        }

    def _owner(self) -> checkpoint.Owner:
        """Return what a checkpoint must fit."""
        network = self.network
        settings = {
            "layer_sizes": network.layer_sizes,
            "hidden_activations": network.hidden_activations,
            "output_activation": network.output_activation,
            "dtype": network.dtype.name,
            "input_scale": network.input_scale,
            "scaling_layer": network.scaling_layer,
            "precision": network.precision,
            "loss": self.loss,
            "optimizer": self.optimizer,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "schedule": self.schedule,
            "regularization": self.regularization,
            "class_weight": self.class_weight,
        }
        score = score_name(network.output_activation)
        return checkpoint.Owner(
            self._progress.state, self.optimizer, self.schedule, score, network.n_inputs, settings
        )


def _optimizer(given: Any, n_layers: int) -> Optimizer | LBFGS:
    if isinstance(given, LBFGS):
        return given
    if isinstance(given, str) and _checks.plain(given) == LBFGS.name:
        return LBFGS()
    optimizer = _checks.choose(given, Optimizer, OPTIMIZERS, "optimizer")
    optimizer.layer_factors(n_layers)
    return optimizer


def _check_full_batch(schedule: Schedule, regularization: Regularization) -> None:
    """Raise ValueError if something is asked for that full-batch steps do not have."""
    if not isinstance(schedule, Constant):
        raise ValueError(f"L-BFGS has no learning rate for the schedule {schedule.name!r} to set")
    if regularization != Regularization(l1=regularization.l1, l2=regularization.l2):
        raise ValueError(f"with L-BFGS, regularization takes only l1 and l2, got {regularization}")


def _divergence(what: str, epoch: int) -> str:
    return (
        f"{what} became NaN or infinite in epoch {epoch}; the learning rate may be too high, or "
        "the inputs or targets unscaled (try a smaller rate, standardized inputs, or clip_norm). "
        "The network is as it was after the last good epoch"
    )
