"""One fit by SGD, Adam or another optimizer: epochs, stopping rules and early stopping."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from fastmlp._messages import logger
from fastmlp._watch import counts_upward, recorded
from fastmlp.backends.base import Session
from fastmlp.history import Record
from fastmlp.network import MLP
from fastmlp.schedules import ReduceOnPlateau, Schedule, epoch_factors
from fastmlp.sklearn._callbacks import FitCallbacks
from fastmlp.sklearn._objective import EpochRunner, Objective, OptimizerState, Samples
from fastmlp.sklearn._whole import Whole

Array = NDArray[Any]

#: Epochs of small data are run together, up to so many rows.
_ROWS_AT_ONCE = 10_000
#: An adaptive learning rate at or below this ends the fit.
_SMALLEST_RATE = 1e-6


@dataclass(frozen=True)
class Validation:
    """A held-out set, and how the fitted estimator scores on it.

    Without a scorer, the score is the accuracy or R2, computed from the session's logits.
    """

    samples: Samples
    #: As the user gave it: labels, or values.
    y: Array
    scorer: Callable[[], float] | None
    name: str


class StochasticFit:
    """Runs one fit and keeps the estimator's fitted attributes up to date.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
    network : MLP
        The estimator's; holds the parameters before and after `run`.
    session : Session
        Bound to it.
    objective : Objective
    samples : Samples
    rows : ndarray of int64
        The rows of `samples` that are trained on.
    schedule : Schedule or None
    validation : Validation or None
    callbacks : FitCallbacks
    whole : Whole
        Keeps what the estimator was after its last whole epoch.
    """

    def __init__(
        self,
        estimator: Any,
        network: MLP,
        session: Session,
        objective: Objective,
        samples: Samples,
        rows: Array,
        schedule: Schedule | None,
        validation: Validation | None,
        callbacks: FitCallbacks,
        whole: Whole,
    ) -> None:
        self.estimator, self.network, self.session = estimator, network, session
        self.objective, self.rows, self.schedule = objective, rows, schedule
        self.validation, self.callbacks, self.whole = validation, callbacks, whole
        self.runner = EpochRunner(session, objective, samples)
        self.n_batches = -(-len(rows) // session.batch_size)
        # Of scikit-learn's two factors, the sum over outputs is in the rate of its own SGD only.
        own_sgd = estimator.optimizer is None and estimator.solver == "sgd"
        self.rate_factor = objective.n_terms if own_sgd else 1
        self.adapts = own_sgd and estimator.learning_rate != "constant"
        self._order = rows
        self._best: Array | None = None

    def run(self, state: OptimizerState, *, one_epoch: bool) -> None:
        """Train until a rule ends it, or for one epoch.

        The estimator keeps `state` from the first whole epoch on.
        """
        estimator = self.estimator
        self.state = state
        state.take(self.schedule)
        self.runner.begin(self.network.parameters, state)
        if estimator.early_stopping and estimator.best_validation_score_ == -np.inf:
            self._best = self.network.parameters.copy()  # kept if no score is a number
        self.whole.begin()
        try:
            self.callbacks.begin()
            self._run_epochs(one_epoch)
        except KeyboardInterrupt:
            self.callbacks.broken_off = True
            self._best = self.whole.interrupted()
            warnings.warn("Training interrupted by user.", stacklevel=5)
        finally:
            self.callbacks.close()
        if estimator.early_stopping and self._best is not None:
            self.network.parameters = self._best
        self.callbacks.end()

    def _run_epochs(self, one_epoch: bool) -> None:
        estimator = self.estimator
        planned = self._planned_epochs(one_epoch)
        estimator.n_iter_ = 0
        while True:
            start = time.perf_counter()
            self.callbacks.epoch_begin()
            n_epochs = 1 if one_epoch else self._epochs_at_once()
            order = np.concatenate([self._next_order() for _ in range(n_epochs)])
            rates = self._rates(n_epochs, planned)
            losses = self.runner.run(order, rates.reshape(-1), n_epochs)
            self._publish()  # nothing of an epoch that an interrupt breaks off
            for loss, rate in zip(losses, rates[:, -1], strict=True):
                record = self._note(loss)
                record["learning_rate"] = float(rate) / self.rate_factor
                record["seconds"] = (time.perf_counter() - start) / n_epochs
            self._after_plateau(record)
            if self.callbacks.active:
                self.whole.keep(self._best)
                self._call_back(record)
            over = self._is_over()
            self.whole.keep(self._best)
            if over or one_epoch:
                return
            if estimator.n_iter_ == estimator.max_iter:
                warnings.warn(
                    f"Stochastic Optimizer: Maximum iterations ({estimator.max_iter}) "
                    "reached and the optimization hasn't converged yet.",
                    ConvergenceWarning,
                    stacklevel=7,
                )
                return

    def _epochs_at_once(self) -> int:
        """Return how many epochs can be one call, because no rule can apply before their end."""
        estimator = self.estimator
        watched = (
            self.validation is not None
            or self.callbacks.active
            or estimator.verbose
            or isinstance(self.schedule, ReduceOnPlateau)
            or (self.adapts and estimator.learning_rate == "invscaling")
        )
        whole_batches = len(self.rows) % self.session.batch_size == 0
        if watched or not whole_batches:
            return 1
        before_stop = estimator.n_iter_no_change + 1 - estimator._no_improvement_count
        left = estimator.max_iter - estimator.n_iter_
        return int(max(1, min(before_stop, left, _ROWS_AT_ONCE // len(self.rows))))

    def _next_order(self) -> Array:
        if self.estimator.shuffle:
            # scikit-learn shuffles the last epoch's order by such a permutation.
            permutation = np.arange(len(self._order))
            self.estimator._random_state.shuffle(permutation)
            self._order = self._order[permutation]
        return self._order

    def _note(self, loss: float) -> Record:
        """Take note of one more epoch in the fitted attributes, and return its record."""
        estimator = self.estimator
        estimator.loss_ = loss
        estimator.n_iter_ += 1
        estimator.t_ += len(self.rows)
        estimator.loss_curve_.append(loss)
        record: Record = {"epoch": len(estimator.loss_curve_), "loss": loss}
        estimator._records.append(record)
        print_iteration(estimator, estimator.n_iter_, loss)
        if self.validation is not None:
            record.update(self._validate(self.validation))
        self._count_improvement(record)
        return record

    # Learning rates --------------------------------------------------------------------------

    def _planned_epochs(self, one_epoch: bool) -> int:
        """Return the number of epochs, those before included, that a schedule stretches over."""
        taken, asked = len(self.estimator.loss_curve_), int(self.estimator.max_iter)
        return max(asked, taken + 1) if one_epoch else taken + asked

    def _rates(self, n_epochs: int, planned: int) -> Array:
        """Return the rates of the next epochs' steps, of shape (n_epochs, n_batches)."""
        state, shape = self.state, (n_epochs, self.n_batches)
        rate = state.learning_rate * self.rate_factor
        if self.schedule is None:
            return np.full(shape, rate)
        step, epoch = state.steps_before + self.session.step, len(self.estimator.loss_curve_)
        factors = [
            epoch_factors(
                self.schedule, step + i * self.n_batches, self.n_batches, epoch + i, planned
            )
            for i in range(n_epochs)
        ]
        return rate * state.plateau_factor * np.array(factors)

    def _set_rate(self, rate: float) -> None:
        self.runner.keep_velocity(self.state.learning_rate, rate)
        self.state.learning_rate = rate
        self._publish()

    def _after_plateau(self, record: Record) -> None:
        schedule, state = self.schedule, self.state
        if not isinstance(schedule, ReduceOnPlateau):
            return
        value = recorded(record, schedule.metric)
        upward = counts_upward(schedule.metric, schedule.mode, self.callbacks.directions)
        state.plateau = state.plateau.seen(value, upward=upward, threshold=schedule.threshold)
        if state.plateau.waited > schedule.patience:
            state.plateau = replace(state.plateau, waited=0)
            state.plateau_factor = max(state.plateau_factor * schedule.factor, schedule.minimum)

    # Stopping rules --------------------------------------------------------------------------

    def _count_improvement(self, record: Record) -> None:
        estimator, loss = self.estimator, record["loss"]
        if self.validation is not None:
            score = estimator.validation_scores_[-1]
            best = estimator.best_validation_score_
            good_enough = not score < best + estimator.tol
            if score > best:
                estimator.best_validation_score_ = score
                if estimator.early_stopping:
                    self._best = self.network.parameters.copy()
        if not estimator.early_stopping:
            good_enough = not loss > estimator.best_loss_ - estimator.tol
            estimator.best_loss_ = loss if loss < estimator.best_loss_ else estimator.best_loss_
        estimator._no_improvement_count = 0 if good_enough else estimator._no_improvement_count + 1

    def _is_over(self) -> bool:
        estimator, state = self.estimator, self.state
        if self.adapts and estimator.learning_rate == "invscaling":
            self._set_rate(estimator.learning_rate_init / (estimator.t_ + 1) ** estimator.power_t)
        if self.callbacks.stopping:
            return True
        if estimator._no_improvement_count <= estimator.n_iter_no_change:
            return False
        what = "Validation score" if estimator.early_stopping else "Training loss"
        message = (
            f"{what} did not improve more than tol={estimator.tol:f} "
            f"for {estimator.n_iter_no_change} consecutive epochs."
        )
        if not (self.adapts and estimator.learning_rate == "adaptive"):
            message, over = f"{message} Stopping.", True
        elif state.learning_rate <= _SMALLEST_RATE:
            message, over = f"{message} Learning rate too small. Stopping.", True
        else:
            self._set_rate(state.learning_rate / 5.0)
            estimator._no_improvement_count = 0
            message, over = f"{message} Setting learning rate to {state.learning_rate:f}", False
        logger.info(message)
        if estimator.verbose:
            print(message)
        return over

    # Validation ------------------------------------------------------------------------------

    def _validate(self, validation: Validation) -> Record:
        """Return the loss and the score of the held-out set, and append them to the curves."""
        estimator, samples = self.estimator, validation.samples
        logits = self.session.logits(samples.X)
        loss = self.objective.of_logits(logits, samples, self.network)
        estimator.validation_loss_curve_.append(loss)
        if validation.scorer is not None:
            score = float(validation.scorer())
        elif validation.name == "loss":
            score = -loss
        else:
            output = self.network.output_activation
            outputs = output.forward(logits, out=logits)
            score = estimator._score_of(outputs, validation.y, samples.weights)
        estimator.validation_scores_.append(score)
        if estimator.verbose:
            print(f"Validation score: {score:f}")
        # With scoring="loss" the score is the loss once more.
        scores = {} if validation.name == "loss" else {f"val_{validation.name}": score}
        return {"val_loss": loss, **scores}

    # The network -----------------------------------------------------------------------------

    def _call_back(self, record: Record) -> None:
        shown = self.network.parameters.copy()
        self.callbacks.epoch_end(record)
        if not np.array_equal(self.network.parameters, shown):
            self.runner.begin(self.network.parameters, self.state)

    def _publish(self) -> None:
        """Bring the session's parameters and moments to the network and the estimator."""
        stored = self.session.store()
        self.state.moments, self.state.step = stored.moments, stored.step
        self.estimator._optimizer = self.state
        self.network.parameters = stored.parameters


def print_iteration(estimator: Any, iteration: int, loss: float) -> None:
    """Print scikit-learn's line of an iteration, if the estimator is verbose."""
    logger.info("Iteration %d, loss = %.8f", iteration, loss)
    if estimator.verbose:
        print(f"Iteration {iteration}, loss = {loss:.8f}")
