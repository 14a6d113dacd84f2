"""The trainer: epochs, order, batches, validation and what is recorded of them."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmlp import _checks
from fastmlp._progress import Display, display
from fastmlp.backends.base import Backend, Session, TrainingState, default_loss, get_backend
from fastmlp.errors import DivergenceError, TrainingInterrupted
from fastmlp.history import History, Record
from fastmlp.losses import LOSSES, Loss
from fastmlp.metrics import Scores, running_score, score_name, score_targets
from fastmlp.network import MLP, as_rows, check_finite
from fastmlp.optimizers import OPTIMIZERS, Optimizer
from fastmlp.regularization import Regularization
from fastmlp.schedules import SCHEDULES, Constant, Schedule
from fastmlp.targets import dense_targets, prepare_targets

Array = NDArray[Any]

#: Seconds between two looks at Ctrl-C and the progress bar.
_CHUNK_SECONDS = 0.1
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class _Data:
    """Samples as sessions take them, checked once."""

    X: Any
    targets: Array
    score_targets: Array
    weights: Array | None

    @property
    def n_samples(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class _Progress:
    """Everything a fit changes, as it stood after the last whole epoch."""

    state: TrainingState
    generator: dict[str, Any]
    records: tuple[Record, ...] = ()
    planned_epochs: int = 0

    @property
    def visible(self) -> Array:
        """The parameters that the network shows: the average, where one is kept."""
        return self.state.parameters if self.state.average is None else self.state.average


class Trainer:
    """Trains a network.

    Parameters
    ----------
    network : MLP
        Trained in place.
    loss : str, Loss or None, default None
        None takes what suits the output: cross entropy for softmax and sigmoid, Poisson for exp,
        MSE for linear.
    optimizer : str or Optimizer, default "sgd"
    batch_size : int, default 32
        The last batch of an epoch is smaller where the samples do not divide evenly.
    backend : str or Backend, default "auto"
        "numpy", "numba", "auto" (the fastest that is installed), or an instance.
    n_threads : int or None, default None
        None lets the backend choose. Results do not depend on it.
    seed : int or None, default None
        Of the sample order, dropout and noise. None takes the network's seed.
    schedule : str, Schedule or None, default None
        Of the learning rate; None keeps it constant.
    regularization : Regularization or None, default None

    Attributes
    ----------
    history : History
        All epochs of all fits so far.

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
        optimizer: str | Optimizer = "sgd",
        *,
        batch_size: int = 32,
        backend: str | Backend = "auto",
        n_threads: int | None = None,
        seed: int | None = None,
        schedule: str | Schedule | None = None,
        regularization: Regularization | None = None,
    ) -> None:
        if not isinstance(network, MLP):
            raise TypeError(f"network must be an MLP, got {network!r}")
        self.network = network
        self.loss = (
            default_loss(network) if loss is None else _checks.choose(loss, Loss, LOSSES, "loss")
        )
        self.loss.check_output(network.output_activation)
        self.loss.target_width(network.n_outputs)
        self.optimizer = _checks.choose(optimizer, Optimizer, OPTIMIZERS, "optimizer")
        self.batch_size = _checks.integer(batch_size, "batch_size", at_least=1)
        self.backend = get_backend(backend)
        self.n_threads = (
            None if n_threads is None else _checks.integer(n_threads, "n_threads", at_least=1)
        )
        self.seed = network.seed if seed is None else _checks.integer(seed, "seed", at_least=0)
        self.schedule = (
            Constant()
            if schedule is None
            else _checks.choose(schedule, Schedule, SCHEDULES, "schedule")
        )
        self.regularization = Regularization() if regularization is None else regularization
        self.regularization.dropout_rates(network.n_layers)
        self._progress = _Progress(
            TrainingState.initial(network, self.optimizer, self.regularization),
            dict(np.random.default_rng(self.seed).bit_generator.state),
        )
        self._session: Session | None = None
        #: The parameters that the session holds; None while it trains.
        self._held: Array | None = None
        self._seconds_per_batch = _CHUNK_SECONDS

    # What a user calls -----------------------------------------------------------------------

    @property
    def history(self) -> History:
        """All epochs of all fits so far."""
        return History(self._progress.records)

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        epochs: int = 10,
        validation_data: tuple[Any, ArrayLike] | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        verbose: bool = True,
        shuffle: bool = True,
    ) -> History:
        """Train for some epochs more; a second call goes on where the first ended.

        The network's parameters are the truth: if they were changed since the last fit, training
        goes on from the changed ones.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_inputs), or SciPy sparse rows
            Arrays and memory maps of any numeric dtype are read row by row, never copied whole.
        y : array-like
            Class numbers, one-hot or probability rows, or real targets.
        epochs : int, default 10
            How many epochs more, at least 0.
        validation_data : (X, y) or None, default None
            Measured after every epoch.
        sample_weight : array-like of shape (n_samples,), optional
            Weights at least 0 of each batch's mean loss, and of the training score.
        verbose : bool, default True
            Shows a bar on a terminal or in a notebook (with tqdm), else a line an epoch.
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
            If the loss or a parameter becomes NaN or infinite; the network is left as it was
            after the last good epoch.

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
        data = self._data(X, y, sample_weight)
        validation = None if validation_data is None else self._pair(validation_data)
        first = len(self._progress.records)
        last = first + epochs
        self._progress = replace(
            self._progress, planned_epochs=max(self._progress.planned_epochs, last)
        )
        n_batches = -(-data.n_samples // self.batch_size)
        shown = display(verbose, first + 1, last, n_batches)
        try:
            for _ in range(epochs):
                self._synchronize()
                record = self._run_epoch(data, validation, shuffle, shown)
                shown.epoch(record, last)
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
            shown.close()
        return History(self._progress.records[first:])

    def evaluate(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Scores:
        """Return the loss (without penalties) and the score of some samples.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.

        Returns
        -------
        Scores
            ``loss``, and ``accuracy`` (softmax, sigmoid) or ``r2`` (linear, exp), as attributes,
            items, and in this order.

        Raises
        ------
        ValueError
            If the data does not fit the network or each other.

        Examples
        --------
        >>> from fastmlp import MLP
        >>> loss, accuracy = Trainer(MLP([2, 2]), backend="numpy").evaluate([[0.0, 0.0]], [0])
        >>> round(loss, 4), accuracy
        (0.6931, 1.0)
        """
        data = self._data(X, y, sample_weight)
        return Scores(self._measure(self._session_of(self.network.parameters), data))

    def predict(self, X: ArrayLike) -> Array:
        """Return what `MLP.predict` returns, computed by the trainer's backend.

        Examples
        --------
        >>> from fastmlp import MLP
        >>> Trainer(MLP([2, 2]), backend="numpy").predict([[0.0, 0.0]])
        array([0])
        """
        return self.network.decide(self._logits(X))

    def predict_proba(self, X: ArrayLike) -> Array:
        """Return what `MLP.predict_proba` returns, computed by the trainer's backend.

        Examples
        --------
        >>> from fastmlp import MLP
        >>> Trainer(MLP([2, 2]), backend="numpy").predict_proba([[0.0, 0.0]])
        array([[0.5, 0.5]], dtype=float32)
        """
        logits = self._logits(X)
        rows = logits.reshape(-1, self.network.n_outputs)
        outputs = self.network.output_activation.forward(rows, out=np.empty_like(rows))
        return outputs.reshape(logits.shape)

    # An epoch --------------------------------------------------------------------------------

    def _run_epoch(
        self, data: _Data, validation: _Data | None, shuffle: bool, shown: Display
    ) -> Record:
        """Train one epoch and commit to it, unless anything goes wrong."""
        start = time.perf_counter()
        before = self._progress
        number = len(before.records) + 1
        generator = np.random.default_rng()
        generator.bit_generator.state = before.generator
        order = (
            generator.permutation(data.n_samples)
            if shuffle
            else np.arange(data.n_samples, dtype=np.int64)
        )
        rates = self._learning_rates(data.n_samples)
        record: Record = {"epoch": number}
        record.update(self._train(data, order, rates, number, shown))
        state = self._bound().store()
        self._held = state.parameters
        if not np.all(np.isfinite(state.parameters)):
            raise DivergenceError(_divergence("a parameter", number))
        after = replace(before, state=state, generator=dict(generator.bit_generator.state))
        if validation is not None:
            measured = self._measure(self._session_of(after.visible), validation)
            record.update({f"val_{name}": value for name, value in measured.items()})
        record["learning_rate"] = float(rates[-1])
        record["seconds"] = time.perf_counter() - start
        # One assignment, so that an interrupt finds the old epoch or the new one.
        self._progress = replace(after, records=(*before.records, record))
        self._publish()
        return record

    def _train(
        self, data: _Data, order: Array, rates: Array, number: int, shown: Display
    ) -> dict[str, float]:
        """Train over `order` in chunks short enough for a progress bar and Ctrl-C."""
        session, size = self._bound(), self.batch_size
        self._held = None
        score = running_score(self.network.output_activation, data.score_targets)
        total = weight = 0.0
        batch = 0
        while batch < len(rates):
            n_batches = max(1, int(_CHUNK_SECONDS / self._seconds_per_batch))
            rows = order[batch * size : (batch + n_batches) * size]
            chunk = rates[batch : batch + n_batches]
            logits = np.empty((len(rows), self.network.n_outputs), dtype=self.network.dtype)
            start = time.perf_counter()
            with np.errstate(all="ignore"):  # divergence is found below, once
                losses = session.train(data.X, data.targets, rows, chunk, data.weights, logits)
            seconds = (time.perf_counter() - start) / len(chunk)
            # Never more than 16 times as long as what was just measured: one batch tells little.
            self._seconds_per_batch = max(seconds, self._seconds_per_batch / 16)
            if not np.all(np.isfinite(losses)):
                raise DivergenceError(_divergence("the loss", number))
            weights = None if data.weights is None else data.weights[rows]
            shares = _batch_weights(len(rows), size, weights)
            total += float(losses @ shares)
            weight += float(shares.sum())
            score.add(logits, data.score_targets[rows], weights)
            batch += len(chunk)
            shown.advance(len(chunk))
        return {
            "loss": total / weight if weight else 0.0,
            score_name(self.network.output_activation): score.value(),
        }

    def _learning_rates(self, n_samples: int) -> Array:
        """Return the rates of the next epoch's steps."""
        progress = self._progress
        n_batches = -(-n_samples // self.batch_size)
        left = progress.planned_epochs - len(progress.records)
        steps = progress.state.step + np.arange(n_batches)
        total = progress.state.step + left * n_batches
        return self.optimizer.learning_rate * self.schedule.factors(steps, n_batches, total)

    # The session and the network ---------------------------------------------------------------

    def _bound(self) -> Session:
        if self._session is None:
            self._session = self.backend.bind(
                self.network,
                self.loss,
                self.optimizer,
                self.regularization,
                batch_size=self.batch_size,
                n_threads=self.n_threads,
                seed=self.seed,
            )
        return self._session

    def _synchronize(self) -> None:
        """Bring the session to the last whole epoch, or to what the user made of the network."""
        if not np.array_equal(self.network.parameters, self._progress.visible):
            state = self._showing(self.network.parameters)
            self._progress = replace(self._progress, state=state)
        if self._held is not self._progress.state.parameters:
            self._bound().load(self._progress.state)
            self._held = self._progress.state.parameters

    def _session_of(self, parameters: Array) -> Session:
        """Return the session, computing with `parameters`."""
        session = self._bound()
        if self._held is None or not np.array_equal(self._held, parameters):
            state = self._showing(parameters)
            session.load(state)
            self._held = state.parameters
        return session

    def _showing(self, parameters: Array) -> TrainingState:
        """Return the state of the last whole epoch, but with other parameters."""
        state = self._progress.state
        average = None if state.average is None else parameters.copy()
        return replace(state, parameters=parameters.copy(), average=average)

    def _publish(self) -> None:
        self.network.parameters = self._progress.visible

    # Measuring -------------------------------------------------------------------------------

    def _measure(self, session: Session, data: _Data) -> dict[str, float]:
        """Return loss and score of prepared samples, block by block."""
        output, network = self.network.output_activation, self.network
        score = running_score(output, data.score_targets)
        total = weight = 0.0
        for start in range(0, data.n_samples, _ROWS_AT_ONCE):
            block = slice(start, start + _ROWS_AT_ONCE)
            logits = session.logits(data.X[block])
            outputs = output.forward(logits, out=np.empty_like(logits))
            targets = dense_targets(data.targets[block], network.n_outputs, network.dtype)
            values = self.loss.value(logits, outputs, targets, output)
            weights = None if data.weights is None else data.weights[block]
            total += float(values.sum(dtype=np.float64) if weights is None else values @ weights)
            weight += float(len(values) if weights is None else weights.sum(dtype=np.float64))
            score.add(logits, data.score_targets[block], weights)
        return {"loss": total / weight if weight else 0.0, score_name(output): score.value()}

    def _logits(self, X: ArrayLike) -> Array:
        rows, single = as_rows(X, self.network.n_inputs)
        check_finite(rows)
        logits = self._session_of(self.network.parameters).logits(rows)
        return logits[0] if single else logits

    # Checks ----------------------------------------------------------------------------------

    def _data(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None) -> _Data:
        rows, single = as_rows(X, self.network.n_inputs)
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
        check_finite(rows)
        weights = None if sample_weight is None else self._weights(sample_weight, len(targets))
        return _Data(rows, targets, score_targets(network.output_activation, targets), weights)

    def _pair(self, validation_data: Any) -> _Data:
        if not isinstance(validation_data, tuple | list) or len(validation_data) != 2:
            raise ValueError("validation_data must be a pair (X, y)")
        return self._data(validation_data[0], validation_data[1], None)

    def _weights(self, sample_weight: ArrayLike, n_samples: int) -> Array:
        weights = np.asarray(sample_weight)
        if weights.shape != (n_samples,) or weights.dtype.kind not in "biuf":
            raise ValueError(
                f"sample_weight must hold {n_samples} numbers, got shape {weights.shape} and "
                f"dtype {weights.dtype}"
            )
        weights = np.ascontiguousarray(weights, dtype=self.network.dtype)
        if not (np.all(np.isfinite(weights)) and weights.min() >= 0 and weights.max() > 0):
            raise ValueError("sample_weight must be finite and at least 0, and not all zero")
        return weights


def _batch_weights(n_rows: int, batch_size: int, weights: Array | None) -> Array:
    """Return every batch's number of rows, or the sum of their weights, as float64."""
    starts = np.arange(0, n_rows, batch_size)
    if weights is None:
        return np.diff(starts, append=n_rows).astype(np.float64)
    return np.add.reduceat(weights, starts, dtype=np.float64)


def _divergence(what: str, epoch: int) -> str:
    return (
        f"{what} became NaN or infinite in epoch {epoch}; the learning rate may be too high, or "
        "the inputs or targets unscaled (try a smaller rate, standardized inputs, or clip_norm). "
        "The network is as it was after the last good epoch"
    )
