"""The fit that both estimators share: from what the user gave to a solver, and back."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import check_scoring
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.optimize import _check_optimize_result
from sklearn.utils.validation import _check_sample_weight

from fastmlp import _checks
from fastmlp._messages import quiet
from fastmlp.backends.base import Backend, alone
from fastmlp.losses import Loss
from fastmlp.network import MLP
from fastmlp.optimizers import Optimizer
from fastmlp.regularization import DividedL2
from fastmlp.sklearn._callbacks import FitCallbacks, column_directions
from fastmlp.sklearn._lbfgs import in_float64, minimize_lbfgs
from fastmlp.sklearn._learned import Learned, OptimizerState
from fastmlp.sklearn._objective import Objective, Samples
from fastmlp.sklearn._saving import Saved
from fastmlp.sklearn._stochastic import Orders, StochasticFit, Validation, print_iteration
from fastmlp.sklearn._whole import Whole

Array = NDArray[Any]


class BaseMLP(Saved):
    """What the classifier and the regressor share."""

    def _fit(
        self,
        whole: Whole,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        validation_data: Any = None,
        incremental: bool = False,
    ) -> Any:
        hidden = self._hidden_layer_sizes()
        self._check_names()
        self._check_combinations()
        _check_readable(X, y, sample_weight)
        first_pass = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
        if not first_pass and hidden != [len(b) for b in self.intercepts_[:-1]]:
            raise ValueError(
                f"hidden_layer_sizes is {hidden}, but this model goes on from a fit with "
                f"{[len(b) for b in self.intercepts_[:-1]]}; fit a new one, or without warm_start"
            )
        X, y = self._validate_input(X, y, incremental, reset=first_pass)
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, X)
        self._random_state = check_random_state(self.random_state)
        loss = self._resolve_loss()
        self._check_watched(validation_data is not None, incremental)
        if first_pass:
            sizes = [X.shape[1], *hidden, self._count_outputs(y, loss)]
            self._initialize(sizes, self._output_name(loss), X.dtype, self._random_state)
        network = self._live_network()
        if self._uses_lbfgs() and self.dtype is None:
            network = in_float64(network)  # as scikit-learn, for float32 inputs too
        self._show(network)
        n_terms = 1 if self.out_activation_ == "softmax" else self.n_outputs_
        objective = Objective(loss, self.alpha, n_terms)
        samples = Samples(X, self._targets(y, loss), self._loss_weights(y, weights))
        if samples.total_weight == 0:
            raise ValueError("class_weight and sample_weight leave no sample of positive weight")
        # What diverges is reported below, once.
        with np.errstate(all="ignore"), quiet(not self.verbose):
            if self._uses_lbfgs():
                self._fit_lbfgs(network, objective, samples, whole)
            else:
                self._fit_stochastic(
                    network, objective, samples, y, weights, validation_data, incremental, whole
                )
        if not np.isfinite(network.parameters).all():
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may"
                " contain large values and need to be preprocessed."
            )
        return self

    def _fit_lbfgs(
        self, network: MLP, objective: Objective, samples: Samples, whole: Whole
    ) -> None:
        def keep(iteration: int, loss: float, parameters: Array) -> None:
            network.parameters = parameters
            self.n_iter_, self.loss_ = iteration, loss
            whole.keep()
            print_iteration(iteration, loss, self.verbose)

        whole.begin()
        try:
            result, self.loss_ = minimize_lbfgs(
                network,
                self._own_backend(),
                self.n_threads,
                objective,
                samples,
                max_iter=self.max_iter,
                max_fun=self.max_fun,
                tol=self.tol,
                report=keep,
            )
            self.n_iter_ = _check_optimize_result("lbfgs", result, self.max_iter)
        except KeyboardInterrupt:
            whole.interrupted()
            warnings.warn("Training interrupted by user.", stacklevel=5)

    def _fit_stochastic(
        self,
        network: MLP,
        objective: Objective,
        samples: Samples,
        y: Array,
        weights: Array | None,
        validation_data: Any,
        incremental: bool,
        whole: Whole,
    ) -> None:
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        holds_out = self.early_stopping or validation_data is not None
        books = self._open_books(holds_out=holds_out)
        rows, validation = self._held_out(samples, y, weights, objective.loss, validation_data)
        batch_size = self._batch_size(len(rows))
        optimizer = self._resolve_optimizer(objective.n_terms)
        state = self._kept_or_new(optimizer, network, incremental)
        session = self._own_backend().bind(
            network,
            objective.loss,
            optimizer,
            self._regularization(objective),
            batch_size=batch_size,
            n_threads=self.n_threads,
            seed=self._mask_seed(state.steps_before),
        )
        directions = column_directions(None if validation is None else validation.name)
        callbacks = FitCallbacks(
            self,
            network,
            samples.X,
            y,
            weights,
            called=not incremental,
            directions=directions,
        )
        StochasticFit(
            self,
            network,
            session,
            objective,
            samples,
            Orders(rows, self._random_state if self.shuffle else None),
            self._resolve_schedule(),
            validation,
            callbacks,
            whole,
        ).run(Learned(books, state), one_epoch=incremental)

    def _own_backend(self) -> Backend:
        return alone(self.backend, f"{type(self).__name__} trains")

    def _regularization(self, objective: Objective) -> DividedL2:
        clip, terms = self.gradient_clip, 1 if self.optimizer is not None else objective.n_terms
        return DividedL2(
            l2=objective.l2,
            dropout=self.dropout,
            clip_norm=None if clip is None else clip / terms,
        )

    def _kept_or_new(self, optimizer: Optimizer, network: MLP, incremental: bool) -> OptimizerState:
        """Return the optimizer's state, with which `partial_fit` goes on and `fit` starts anew."""
        moments = np.zeros((optimizer.n_moments, network.n_parameters), dtype=network.dtype)
        earlier: OptimizerState | None = getattr(self, "_optimizer", None)
        kept = earlier if incremental else None
        if kept is None or kept.kind is not type(optimizer) or kept.moments.shape != moments.shape:
            state = OptimizerState(optimizer.learning_rate, moments, type(optimizer))
            # The same network is trained on.
            return state if earlier is None else state.after(earlier)
        # A solver's own rate adapts, and is kept.
        rate = kept.learning_rate if self.optimizer is None else optimizer.learning_rate
        return replace(kept, learning_rate=rate)

    def _mask_seed(self, steps_before: int) -> int:
        """Return the seed of dropout's masks, which are a function of it and of the step."""
        if not self.dropout:  # without it, the stream of numbers is scikit-learn's
            return 0
        drawn = int(self._random_state.randint(2**31 - 1))
        if not steps_before:
            return drawn
        # With a number as random_state every fit draws the same, and its steps count from 0.
        return int(np.random.SeedSequence([drawn, steps_before]).generate_state(1)[0] >> 1)

    def _held_out(
        self,
        samples: Samples,
        y: Array,
        weights: Array | None,
        loss: Loss,
        validation_data: Any,
    ) -> tuple[Array, Validation | None]:
        """Return the rows to train on, and the set to watch."""
        rows = np.arange(len(y), dtype=np.int64)
        if validation_data is not None:
            if not isinstance(validation_data, tuple | list) or len(validation_data) not in (2, 3):
                raise ValueError(
                    "validation_data must be a tuple (X, y) or (X, y, sample_weight), got "
                    f"{type(validation_data).__name__}"
                )
            _check_readable(*validation_data)
            X_val, y_val = self._validate_input(
                validation_data[0], validation_data[1], incremental=True, reset=False
            )
            w_val = validation_data[2] if len(validation_data) == 3 else None
            w_val = None if w_val is None else _check_sample_weight(w_val, X_val)
        elif self.early_stopping:
            rows, held_out = train_test_split(
                rows,
                random_state=self._random_state,
                test_size=self.validation_fraction,
                stratify=self._stratify(samples),
            )
            if len(held_out) < 2:
                raise ValueError(
                    "The validation set is too small. Increase 'validation_fraction' "
                    "or the size of your dataset."
                )
            X_val, y_val = samples.X[held_out], y[held_out]
            w_val = None if weights is None else weights[held_out]
        else:
            return rows, None
        held = Samples(X_val, self._targets(y_val, loss), w_val)
        return rows, Validation(held, self._scorer(X_val, y_val, w_val), self._score_name())

    def _scorer(self, X: Any, y: Array, weights: Array | None) -> Callable[[Array, float], float]:
        """Return what scores the network as it is, given its logits and the loss of these rows."""
        if self.scoring == "loss":
            return lambda logits, loss: -loss
        if self.scoring is None and self._built_in_score() is not None:
            output = self._network.output_activation
            return lambda logits, loss: self._score_of(
                output.forward(logits, out=logits), y, weights
            )
        scorer = check_scoring(self, scoring=self.scoring)
        # Held-out rows are plain arrays: this view of the estimator asks for no feature names.
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        view.__dict__.pop("feature_names_in_", None)
        given = {} if weights is None else {"sample_weight": weights}
        return lambda logits, loss: float(scorer(view, X, y, **given))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # What the two estimators differ in -------------------------------------------------------

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Array]:
        raise NotImplementedError

    def _count_outputs(self, y: Array, loss: Loss) -> int:
        raise NotImplementedError

    def _output_name(self, loss: Loss) -> str:
        raise NotImplementedError

    def _targets(self, y: Array, loss: Loss) -> Array:
        raise NotImplementedError

    def _loss_weights(self, y: Array, weights: Array | None) -> Array | None:
        return weights

    def _stratify(self, samples: Samples) -> Array | None:
        return None

    def _score_of(self, outputs: Array, y: Array, weights: Array | None) -> float:
        """Return the built-in score of outputs: what `score` gives for the same rows."""
        raise NotImplementedError


def _check_readable(X: Any, y: Any, sample_weight: Any = None) -> None:
    """Raise an error for what scikit-learn's own checks would compute, or drop: masks."""
    for values, what in ((X, "X"), (y, "y"), (sample_weight, "sample_weight")):
        _checks.in_memory(values, what)
        _checks.not_masked(values, what)
