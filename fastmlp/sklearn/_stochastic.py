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
from fastmlp.backends.base import Session
from fastmlp.history import Record
from fastmlp.network import MLP
from fastmlp.schedules import ReduceOnPlateau, Schedule, epoch_factors
from fastmlp.sklearn._callbacks import FitCallbacks
from fastmlp.sklearn._learned import Books, Learned
from fastmlp.sklearn._objective import EpochRunner, Objective, Samples
from fastmlp.sklearn._parameters import Parameters
from fastmlp.sklearn._whole import Whole

Array = NDArray[Any]

#: Epochs that nothing can stop are run together, up to so many rows.
_ROWS_AT_ONCE = 10_000
#: So many may be run beyond where a rule could stop them: where it does, they are run once more.
_ROWS_IN_VAIN = 5_000
#: An adaptive learning rate at or below this ends the fit.
_SMALLEST_RATE = 1e-6


@dataclass(frozen=True)
class Validation:
    """A held-out set, and how the fitted estimator scores on it.

    It is scored by the logits and the loss of its samples, or by a scorer that needs neither.
    """

    samples: Samples
    score: Callable[[Array, float], float]
    name: str


class Orders:
    """The order in which each epoch visits the rows that are trained on.

    Parameters
    ----------
    rows : ndarray of int64
    generator : RandomState or None
        Shuffles them; without it all epochs have the order of `rows`.
    """

    def __init__(self, rows: Array, generator: np.random.RandomState | None) -> None:
        self.n_rows = len(rows)
        self._order, self._generator = rows, generator

    def next(self, n_epochs: int) -> Array:
        """Return the rows of the next epochs, one epoch after the other."""
        return np.concatenate([self._next() for _ in range(n_epochs)])

    def place(self) -> tuple[Array, Any]:
        """Return where in the sequence of orders this is, for `go_to`."""
        generator = self._generator
        return self._order, None if generator is None else generator.get_state(legacy=False)

    def go_to(self, place: tuple[Array, Any]) -> None:
        """Go back to a place."""
        self._order, state = place
        if self._generator is not None:
            self._generator.set_state(state)

    def _next(self) -> Array:
        if self._generator is not None:
            # scikit-learn shuffles the last epoch's order by such a permutation.
            permutation = np.arange(self.n_rows)
            self._generator.shuffle(permutation)
            self._order = self._order[permutation]
        return self._order


class StochasticFit:
    """Runs one fit, and hands whole epochs over for the estimator to adopt.

    Parameters
    ----------
    options : MLPClassifier or MLPRegressor
        Only its parameters are read.
    network : MLP
        The estimator's, trained in place.
    session : Session
        Bound to it.
    objective : Objective
    samples : Samples
    orders : Orders
        Of the rows of `samples` that are trained on.
    schedule : Schedule or None
    validation : Validation or None
    callbacks : FitCallbacks
    whole : Whole
        Takes what was learned in whole epochs to the estimator.
    """

    def __init__(
        self,
        options: Parameters,
        network: MLP,
        session: Session,
        objective: Objective,
        samples: Samples,
        orders: Orders,
        schedule: Schedule | None,
        validation: Validation | None,
        callbacks: FitCallbacks,
        whole: Whole,
    ) -> None:
        self.options, self.network, self.session = options, network, session
        self.objective, self.orders, self.schedule = objective, orders, schedule
        self.validation, self.callbacks, self.whole = validation, callbacks, whole
        self.runner = EpochRunner(session, objective, samples)
        self.n_batches = -(-orders.n_rows // session.batch_size)
        # Of scikit-learn's two factors, the sum over outputs is in the rate of its own SGD only.
        own_sgd = options.optimizer is None and options.solver == "sgd"
        self.rate_factor = objective.n_terms if own_sgd else 1
        self.adapts = own_sgd and options.learning_rate != "constant"
        self._best: Array | None = None

    def run(self, learned: Learned, *, one_epoch: bool) -> None:
        """Train on from what was learned before, until a rule ends it, or for one epoch."""
        self.learned = replace(learned, optimizer=learned.optimizer.under(self.schedule))
        self.runner.begin(self.network.parameters, self.learned.optimizer)
        early_stopping = self.options.early_stopping
        if early_stopping and self.learned.books.best_score == -np.inf:
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
        if early_stopping and self._best is not None:
            self.network.parameters = self._best
        self.callbacks.end()

    def _run_epochs(self, one_epoch: bool) -> None:
        planned = self._planned_epochs(one_epoch)
        while True:
            self.callbacks.epoch_begin()
            record = self._train(1 if one_epoch else self._epochs_at_once(), planned)
            if self.callbacks.active:
                self._hand_over()
                self._call_back(record)
            over = self._is_over()
            self._hand_over()
            if over or one_epoch:
                return
            if self.learned.books.n_iter == self.options.max_iter:
                warnings.warn(
                    f"Stochastic Optimizer: Maximum iterations ({self.options.max_iter}) "
                    "reached and the optimization hasn't converged yet.",
                    ConvergenceWarning,
                    stacklevel=7,
                )
                return

    def _train(self, n_epochs: int, planned: int) -> Record:
        """Learn from the next epochs, or from those until a rule applies; return the last's record.

        Whatever is run beyond that is as if it had never been, and an interrupt leaves all epochs
        that were whole.
        """
        start, step, place = time.perf_counter(), self.session.step, self.orders.place()
        rates = self._rates(n_epochs, planned)
        try:
            losses = self._run(rates)
        except KeyboardInterrupt:
            n_whole = (self.session.step - step) // self.n_batches
            if n_whole:
                self._go_back(place)
                self._train(n_whole, planned)
                self._is_over()
                self._hand_over()
            raise
        n_wanted = self._until_stop(losses)
        if n_wanted < n_epochs:
            self._go_back(place)
            rates = rates[:n_wanted]
            losses = self._run(rates)
        self._take_from_session()
        seconds = (time.perf_counter() - start) / n_wanted
        record = self._note(losses, rates[:, -1] / self.rate_factor, seconds)
        optimizer = self.learned.optimizer
        plateau = optimizer.plateau.after(record, self.schedule, self.callbacks.directions)
        self._learn(optimizer=replace(optimizer, plateau=plateau))
        return record

    def _run(self, rates: Array) -> list[float]:
        """Train epochs at these rates, and return their losses."""
        return self.runner.run(self.orders.next(len(rates)), rates.reshape(-1), len(rates))

    def _go_back(self, place: tuple[Array, Any]) -> None:
        """Go back to what was learned; what is run again from there has the same bits."""
        self.orders.go_to(place)
        self.runner.begin(self.network.parameters, self.learned.optimizer)

    def _epochs_at_once(self) -> int:
        """Return how many epochs can be one call, because nothing looks in between."""
        options, n_rows = self.options, self.orders.n_rows
        if (
            self.validation is not None
            or self.callbacks.active
            or options.verbose
            or isinstance(self.schedule, ReduceOnPlateau)
            or (self.adapts and options.learning_rate == "invscaling")
        ):
            return 1
        wanted = max(min(self._before_stop(), _ROWS_AT_ONCE // n_rows), _ROWS_IN_VAIN // n_rows)
        return int(max(1, min(wanted, options.max_iter - self.learned.books.n_iter)))

    def _before_stop(self) -> float:
        """Return after how many epochs a rule can apply at the soonest."""
        return self.options.n_iter_no_change + 1 - self.learned.books.waited

    def _until_stop(self, losses: list[float]) -> int:
        """Return how many of some epochs there are until a rule applies, or all."""
        books = self.learned.books
        if self.validation is not None or len(losses) <= self._before_stop():
            return len(losses)
        for number, loss in enumerate(losses, 1):
            books = self._count_improvement(books, loss, None)
            if self._has_waited(books):
                return number
        return len(losses)

    # What is learned -------------------------------------------------------------------------

    def _learn(self, **changes: Any) -> None:
        self.learned = replace(self.learned, **changes)

    def _hand_over(self) -> None:
        """Let the estimator adopt what was learned, and keep it as a whole."""
        self.whole.adopt(self.learned, self._best)
        self._learn(records=(), validation_losses=(), validation_scores=())

    def _take_from_session(self) -> None:
        """Take the session's moments, and its parameters to the network."""
        stored = self.session.store()
        self._learn(optimizer=self.learned.optimizer.holding(stored))
        self.network.parameters = stored.parameters

    def _note(self, losses: list[float], rates: Array, seconds: float) -> Record:
        """Take note of more epochs, and return the last one's record."""
        books, records = self.learned.books, []
        for loss, rate in zip(losses, rates, strict=True):
            n_iter, n_epochs = books.n_iter + 1, books.n_epochs + 1
            record: Record = {"epoch": n_epochs, "loss": loss}
            print_iteration(n_iter, loss, self.options.verbose)
            score = None
            if self.validation is not None:
                score, scores = self._validate(self.validation)
                record.update(scores)
            record.update(learning_rate=float(rate), seconds=seconds)
            seen = books.t + self.orders.n_rows
            books = books._replace(n_iter=n_iter, n_epochs=n_epochs, t=seen)
            books = self._count_improvement(books, loss, score)
            records.append(record)
        self._learn(books=books, records=(*self.learned.records, *records))
        return record

    def _validate(self, validation: Validation) -> tuple[float, Record]:
        """Return the score of the held-out set, and what an epoch's record has of it."""
        samples = validation.samples
        logits = self.session.logits(samples.X)
        loss = self.objective.of_logits(logits, samples, self.network)
        score = validation.score(logits, loss)
        self._learn(
            validation_losses=(*self.learned.validation_losses, loss),
            validation_scores=(*self.learned.validation_scores, score),
        )
        if self.options.verbose:
            print(f"Validation score: {score:f}")
        # With scoring="loss" the score is the loss once more.
        scores = {} if validation.name == "loss" else {f"val_{validation.name}": score}
        return score, {"val_loss": loss, **scores}

    # Learning rates --------------------------------------------------------------------------

    def _planned_epochs(self, one_epoch: bool) -> int:
        """Return the number of epochs, those before included, that a schedule stretches over."""
        taken, asked = self.learned.books.n_epochs, int(self.options.max_iter)
        return max(asked, taken + 1) if one_epoch else taken + asked

    def _rates(self, n_epochs: int, planned: int) -> Array:
        """Return the rates of the next epochs' steps, of shape (n_epochs, n_batches)."""
        state, shape = self.learned.optimizer, (n_epochs, self.n_batches)
        rate = state.learning_rate * self.rate_factor
        if self.schedule is None:
            return np.full(shape, rate)
        step, epoch = state.steps_before + self.session.step, self.learned.books.n_epochs
        factors = [
            epoch_factors(
                self.schedule, step + i * self.n_batches, self.n_batches, epoch + i, planned
            )
            for i in range(n_epochs)
        ]
        return rate * state.plateau.factor * np.array(factors)

    def _set_rate(self, rate: float) -> None:
        optimizer = self.learned.optimizer
        self.runner.keep_velocity(optimizer.learning_rate, rate)
        self._learn(optimizer=replace(optimizer, learning_rate=rate))
        self._take_from_session()

    # Stopping rules --------------------------------------------------------------------------

    def _count_improvement(self, books: Books, loss: float, score: float | None) -> Books:
        """Return the books after an epoch of this loss and held-out score."""
        tol, early_stopping = self.options.tol, self.options.early_stopping
        best_loss, best_score, good_enough = books.best_loss, books.best_score, False
        if score is not None and best_score is not None:
            good_enough = not score < best_score + tol
            if score > best_score:
                best_score = score
                if early_stopping:
                    self._best = self.network.parameters.copy()
        if not early_stopping and best_loss is not None:
            good_enough = not loss > best_loss - tol
            best_loss = loss if loss < best_loss else best_loss
        waited = 0 if good_enough else books.waited + 1
        return books._replace(best_loss=best_loss, best_score=best_score, waited=waited)

    def _has_waited(self, books: Books) -> bool:
        """Return whether there was no improvement for too many epochs."""
        return books.waited > self.options.n_iter_no_change

    def _is_over(self) -> bool:
        options, books = self.options, self.learned.books
        if self.adapts and options.learning_rate == "invscaling":
            self._set_rate(options.learning_rate_init / (books.t + 1) ** options.power_t)
        if self.callbacks.stopping:
            return True
        if not self._has_waited(books):
            return False
        what = "Validation score" if options.early_stopping else "Training loss"
        message = (
            f"{what} did not improve more than tol={options.tol:f} "
            f"for {options.n_iter_no_change} consecutive epochs."
        )
        rate = self.learned.optimizer.learning_rate
        if not (self.adapts and options.learning_rate == "adaptive"):
            message, over = f"{message} Stopping.", True
        elif rate <= _SMALLEST_RATE:
            message, over = f"{message} Learning rate too small. Stopping.", True
        else:
            self._set_rate(rate / 5.0)
            self._learn(books=books._replace(waited=0))
            message, over = f"{message} Setting learning rate to {rate / 5.0:f}", False
        logger.info(message)
        if options.verbose:
            print(message)
        return over

    # Callbacks -------------------------------------------------------------------------------

    def _call_back(self, record: Record) -> None:
        shown = self.network.parameters.copy()
        self.callbacks.epoch_end(record)
        if not np.array_equal(self.network.parameters, shown):
            self.runner.begin(self.network.parameters, self.learned.optimizer)


def print_iteration(iteration: int, loss: float, verbose: bool | int) -> None:
    """Print scikit-learn's line of an iteration, if that is asked for."""
    logger.info("Iteration %d, loss = %.8f", iteration, loss)
    if verbose:
        print(f"Iteration {iteration}, loss = {loss:.8f}")
