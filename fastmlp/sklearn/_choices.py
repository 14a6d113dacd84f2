"""What the parameters stand for: the optimizer, the schedule, the activations and so on."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from fastmlp import _checks
from fastmlp._watch import check_watched
from fastmlp.activations import ACTIVATIONS, Activation
from fastmlp.callbacks import Checkpoint, EarlyStopping
from fastmlp.losses import Loss
from fastmlp.optimizers import OPTIMIZERS, SGD, EpsilonHatAdam, Optimizer
from fastmlp.schedules import ReduceOnPlateau, Schedule, choose_schedule
from fastmlp.sklearn._callbacks import column_directions
from fastmlp.sklearn._parameters import Parameters


class Choices(Parameters):
    """Parameters, and what they choose."""

    def _uses_lbfgs(self) -> bool:
        return self.solver == "lbfgs" and self.optimizer is None

    def _hidden_layer_sizes(self) -> list[int]:
        given = self.hidden_layer_sizes
        sizes = list(given) if hasattr(given, "__iter__") else [given]
        if any(size <= 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return [int(size) for size in sizes]

    def _check_names(self) -> None:
        """Raise ValueError for a name that nothing has, before anything changes."""
        self._resolve_loss()
        for activation in self._activations(1):
            _checks.choose(activation, Activation, ACTIVATIONS, "activation")
        if self.optimizer is not None:
            _checks.choose(self.optimizer, Optimizer, OPTIMIZERS, "optimizer")
        self._resolve_schedule()

    def _check_combinations(self) -> None:
        if self.schedule is not None and self.learning_rate != "constant":
            raise ValueError(
                "schedule takes the place of learning_rate, which must then be 'constant', "
                f"got {self.learning_rate!r}"
            )
        if self.optimizer is not None and self.weight_decay:
            raise ValueError(
                "weight_decay is for the solvers 'sgd' and 'adam'; an optimizer has its own, as in "
                "optimizer=AdamW(weight_decay=0.01)"
            )
        names = ("schedule", "weight_decay", "dropout", "gradient_clip", "callbacks")
        unused = [name for name in names if getattr(self, name)]
        if self._uses_lbfgs() and unused:
            raise ValueError(
                f"the solver 'lbfgs' cannot use {_checks.listing(unused)}; choose 'sgd' or 'adam'"
            )
        if any(isinstance(callback, Checkpoint) for callback in self.callbacks):
            raise ValueError(
                f"{type(self).__name__} takes no Checkpoint among its callbacks, which saves the "
                "state of a Trainer: train with fastmlp.Trainer, or pickle the estimator"
            )

    def _check_watched(self, has_validation_data: bool, incremental: bool) -> None:
        """Raise ValueError if something watches a column that the fit is not going to have."""
        holds_out = has_validation_data or self.early_stopping
        directions = column_directions(self._score_name() if holds_out else None)
        called = [] if incremental else self.callbacks
        watchers: list[Any] = [one for one in called if isinstance(one, EarlyStopping)]
        schedule = self._resolve_schedule()
        if isinstance(schedule, ReduceOnPlateau):
            watchers.append(schedule)
        for watcher in watchers:
            check_watched(watcher.metric, watcher.mode, directions)

    def _score_name(self) -> str:
        """Return the name of the score that a held-out set gets."""
        if self.scoring is None:
            return self._built_in_score() or "score"
        return self.scoring if isinstance(self.scoring, str) else "score"

    def _activations(self, n_hidden: int) -> list[Any]:
        given = self.activation
        return list(given) if isinstance(given, list | tuple) else [given] * n_hidden

    def _resolve_schedule(self) -> Schedule | None:
        return None if self.schedule is None else choose_schedule(self.schedule)

    def _resolve_optimizer(self, n_terms: int) -> Optimizer:
        """Return the library's optimizer whose updates are those of the solver."""
        rate = float(self.learning_rate_init)
        if isinstance(self.optimizer, Optimizer):
            return self.optimizer
        if self.optimizer is not None:
            named = _checks.choose(self.optimizer, Optimizer, OPTIMIZERS, "optimizer")
            return replace(named, learning_rate=rate)
        if self.solver == "sgd":
            momentum = min(float(self.momentum), np.nextafter(1.0, 0.0))
            return SGD(
                rate,
                momentum,
                nesterov=bool(self.nesterovs_momentum) and momentum > 0,
                weight_decay=self.weight_decay / n_terms,
            )
        epsilon = self.epsilon / n_terms
        return EpsilonHatAdam(rate, self.beta_1, self.beta_2, epsilon, self.weight_decay)

    def _batch_size(self, n_samples: int) -> int:
        if isinstance(self.batch_size, str):
            return min(200, n_samples)
        if self.batch_size > n_samples:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. "
                "It is going to be clipped",
                stacklevel=5,
            )
        return min(int(self.batch_size), n_samples)

    def _dtypes(self) -> Any:
        return (np.float64, np.float32) if self.dtype is None else np.dtype(self.dtype)

    def _check_solver(self) -> bool:
        if self._uses_lbfgs():
            raise AttributeError(
                "partial_fit is only available for stochastic optimizers. "
                f"{self.solver} is not stochastic."
            )
        return True

    # What the estimators choose by parameters of their own --------------------------------------

    def _resolve_loss(self) -> Loss:
        raise NotImplementedError

    def _built_in_score(self) -> str | None:
        """Return the name of the score that the logits give; None if there is none."""
        raise NotImplementedError
