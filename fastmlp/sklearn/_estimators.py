"""The estimators: parameters, validation of data, stopping rules and prediction."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, _fit_context
from sklearn.metrics import check_scoring, d2_pinball_score
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import (
    _check_partial_fit_first_call,
    check_classification_targets,
    type_of_target,
    unique_labels,
)
from sklearn.utils.optimize import _check_optimize_result
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from fastmlp import _checks
from fastmlp._messages import quiet
from fastmlp._watch import check_watched
from fastmlp.activations import ACTIVATIONS, Activation, Linear
from fastmlp.backends.base import Backend, get_backend
from fastmlp.callbacks import Checkpoint, EarlyStopping
from fastmlp.errors import ModelFileError
from fastmlp.exchange.onnx_writer import write_onnx
from fastmlp.history import Record
from fastmlp.losses import LOSSES, CrossEntropy, Loss, Quantile
from fastmlp.metrics import R2
from fastmlp.model_file import ModelFile, load_model, save_model, training_summary
from fastmlp.network import MLP, check_logits
from fastmlp.optimizers import OPTIMIZERS, SGD, EpsilonHatAdam, Optimizer
from fastmlp.regularization import DividedL2
from fastmlp.schedules import SCHEDULES, ReduceOnPlateau, Schedule
from fastmlp.sklearn._callbacks import FitCallbacks, column_directions
from fastmlp.sklearn._files import check_content, classes_of, estimator_content, parameters_of
from fastmlp.sklearn._lbfgs import in_float64, minimize_lbfgs
from fastmlp.sklearn._objective import Objective, OptimizerState, Samples
from fastmlp.sklearn._stochastic import StochasticFit, Validation, print_iteration
from fastmlp.sklearn._whole import Whole
from fastmlp.targets import prepare_targets

try:  # scikit-learn 1.9 and later
    from sklearn.callback import CallbackSupportMixin
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands in where scikit-learn has no callbacks yet."""


Array = NDArray[Any]

_OUTPUT_ACTIVATIONS = {
    "softmax": "softmax",
    "logistic": "sigmoid",
    "identity": "linear",
    "exp": "exp",
}
#: What a stochastic solver notes of its epochs.
_BOOKS = (
    "_no_improvement_count",
    "_records",
    "loss_curve_",
    "validation_loss_curve_",
    "validation_scores_",
    "best_validation_score_",
    "best_loss_",
)


class _BaseMLP(CallbackSupportMixin, BaseEstimator):  # type: ignore[misc]
    """What the classifier and the regressor share."""

    #: What model files call the estimator, and its outputs as they are called there.
    _kind: ClassVar[str]
    _outputs_by_name: ClassVar[Mapping[str, str]]

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [str, Activation, list, tuple],
        "solver": [StrOptions({"lbfgs", "sgd", "adam"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "backend": [str, Backend],
        "n_threads": [Interval(Integral, 1, None, closed="left"), None],
        "dtype": [StrOptions({"float32", "float64"}), type, np.dtype, None],
        "optimizer": [str, Optimizer, None],
        "schedule": [str, Schedule, None],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left"), tuple, list],
        "gradient_clip": [Interval(Real, 0, None, closed="neither"), None],
        "scoring": [str, callable, None],
        "callbacks": [list, tuple],
    }

    # The parameters' types, for both subclasses.
    hidden_layer_sizes: Any
    activation: Any
    loss: str | Loss
    solver: str
    alpha: float
    batch_size: int | str
    learning_rate: str
    learning_rate_init: float
    power_t: float
    max_iter: int
    shuffle: bool
    random_state: Any
    tol: float
    verbose: bool | int
    warm_start: bool
    momentum: float
    nesterovs_momentum: bool
    early_stopping: bool
    validation_fraction: float
    beta_1: float
    beta_2: float
    epsilon: float
    n_iter_no_change: float
    max_fun: int
    backend: str | Backend
    n_threads: int | None
    dtype: DTypeLike | None
    optimizer: str | Optimizer | None
    schedule: str | Schedule | None
    weight_decay: float
    dropout: float | tuple[float, ...]
    gradient_clip: float | None
    scoring: str | Callable[..., float] | None
    callbacks: Sequence[Any]

    def _keep(self, parameters: Mapping[str, Any]) -> None:
        """Take the constructor's arguments as attributes."""
        for name, value in parameters.items():
            if name != "self":
                setattr(self, name, value)

    # Fitting ---------------------------------------------------------------------------------

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
        _check_masks(X, y, sample_weight)
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
            self._initialize([X.shape[1], *hidden, self._count_outputs(y, loss)], loss, X.dtype)
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

    def _resolve_schedule(self) -> Schedule | None:
        if self.schedule is None:
            return None
        return _checks.choose(self.schedule, Schedule, SCHEDULES, "schedule")

    def _dtypes(self) -> Any:
        return (np.float64, np.float32) if self.dtype is None else np.dtype(self.dtype)

    def _initialize(self, sizes: list[int], loss: Loss, dtype: np.dtype[Any]) -> None:
        """Draw new weights, from the distribution and in the order of scikit-learn."""
        self.n_iter_ = 0
        self.t_ = 0
        self.n_outputs_ = sizes[-1]
        self.n_layers_ = len(sizes)
        self.out_activation_ = self._output_name(loss)
        network = MLP(
            sizes,
            self._activations(len(sizes) - 2),
            _OUTPUT_ACTIVATIONS[self.out_activation_],
            dtype=dtype,
        )
        gain = 2.0 if self.activation == "logistic" else 6.0
        for w, b in zip(network.weights, network.biases, strict=True):
            bound = np.sqrt(gain / sum(w.shape))
            w[:] = self._random_state.uniform(-bound, bound, w.shape)
            b[:] = self._random_state.uniform(-bound, bound, b.shape)
        self._show(network)
        for name in ("_optimizer", *_BOOKS):  # those of an earlier network
            self.__dict__.pop(name, None)

    def _open_books(self) -> None:
        """Start to count epochs."""
        self._no_improvement_count = 0
        self.loss_curve_: list[float] = []
        self.validation_loss_curve_: list[float] | None = None
        self.validation_scores_: list[float] | None = None
        self.best_validation_score_: float | None = None
        self.best_loss_: float | None = None

    def _activations(self, n_hidden: int) -> list[Any]:
        given = self.activation
        return list(given) if isinstance(given, list | tuple) else [given] * n_hidden

    def _resolved_activations(self) -> tuple[Activation, ...]:
        given = self._activations(len(self.coefs_) - 1)
        return tuple(_checks.choose(one, Activation, ACTIVATIONS, "activation") for one in given)

    def _show(self, network: MLP) -> MLP:
        """Let the fitted attributes be views of the network's parameters."""
        self._network = network
        self.coefs_ = list(network.weights)
        self.intercepts_ = list(network.biases)
        return network

    def _live_network(self) -> MLP:
        """Return the network of `coefs_`, `intercepts_` and `activation`, which users may set."""
        network: MLP | None = getattr(self, "_network", None)
        shown = [*self.coefs_, *self.intercepts_]
        if network is not None and network.hidden_activations == self._resolved_activations():
            ours = [*network.weights, *network.biases]
            if len(ours) == len(shown) and all(a is b for a, b in zip(ours, shown, strict=True)):
                return network
        return self._network_of(self.coefs_, self.intercepts_)

    def _network_of(self, coefs: list[Array], intercepts: list[Array]) -> MLP:
        dtype = np.result_type(*coefs, *intercepts)
        network = MLP(
            [len(coefs[0]), *(len(b) for b in intercepts)],
            self._activations(len(coefs) - 1),
            _OUTPUT_ACTIVATIONS[self.out_activation_],
            dtype=np.float32 if dtype == np.float32 else np.float64,
        )
        given = [*coefs, *intercepts]
        for mine, values in zip([*network.weights, *network.biases], given, strict=True):
            mine[:] = values
        return network

    def __getstate__(self) -> dict[str, Any]:
        # `coefs_` and `intercepts_` hold everything; the network is made from them again.
        state = dict(super().__getstate__())
        state.pop("_network", None)
        if "coefs_" in state:
            state["callbacks"] = self._callbacks_to_keep()
        return state

    def _callbacks_to_keep(self) -> Sequence[Any]:
        """Return the callbacks without functions that no file can hold; prediction needs none."""
        kept = [one for one in self.callbacks if "<" not in getattr(one, "__qualname__", "")]
        if len(kept) == len(self.callbacks):
            return self.callbacks
        warnings.warn(
            "functions without a module's name, such as a lambda, cannot be pickled: the copy of "
            "the fitted estimator has not all of its callbacks",
            stacklevel=3,
        )
        return kept

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if hasattr(self, "coefs_"):
            self._show(self._network_of(self.coefs_, self.intercepts_))

    # Model files -----------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write what predictions need to a model file (needs ``fastmlp[safetensors]``).

        The file is one of the safetensors format, written whole or not at all: the network, its
        classes and their dtype, names of features, and the parameters. It holds no code, unlike a
        pickle, and not the state of the optimizer.

        Parameters
        ----------
        path : str or Path
            Replaced if it exists.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        FileNotFoundError
            If there is no such folder.
        ImportError
            If safetensors is not installed.
        ModelFileError
            If weights are NaN or infinite, or classes or an activation are nothing that a file can
            hold. It is a ValueError.

        Warns
        -----
        UserWarning
            If parameters are left out that no file can hold: callbacks, functions, instances of
            backends and generators.

        Examples
        --------
        >>> import tempfile
        >>> from fastmlp.sklearn import MLPClassifier
        >>> model = MLPClassifier(solver="lbfgs", random_state=0, backend="numpy")
        >>> model = model.fit([[0.0], [1.0], [2.0]], ["low", "low", "high"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save(f"{folder}/model.safetensors")
        ...     MLPClassifier.load(f"{folder}/model.safetensors").predict([[1.9]])
        array(['high'], dtype='<U4')
        """
        check_is_fitted(self)
        try:
            network = self._named_network()
            content = estimator_content(self._kind, self)
        except ValueError as error:
            raise ModelFileError(f"{os.path.basename(path)} is not written: {error}") from error
        scores = {"loss": getattr(self, "loss_", math.nan)}
        solver = self.solver if self.optimizer is None else self.optimizer
        network.training = training_summary(self.n_iter_, scores, self._resolve_loss(), solver)
        save_model(path, ModelFile(network, estimator=content))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Return the fitted estimator of a model file that `save` wrote.

        It predicts what the one that was saved does, bit for bit. Loading runs nothing that the
        file could choose, so that a file from anywhere may be loaded.

        Parameters
        ----------
        path : str or Path

        Raises
        ------
        OSError
            If the file cannot be opened.
        ImportError
            If safetensors is not installed.
        ModelFileError
            If the file is damaged, no model file, of a later version of the format or of another
            estimator. It is a ValueError.

        Examples
        --------
        >>> from fastmlp.sklearn import MLPRegressor
        >>> MLPRegressor.load("nowhere.safetensors")
        Traceback (most recent call last):
            ...
        FileNotFoundError: [Errno 2] No such file or directory: 'nowhere.safetensors'
        """
        model = load_model(path)
        try:
            content = check_content(model.estimator, cls._kind)
            estimator = cls(**parameters_of(content, cls))
            estimator._take(model.network, content)
        except (ValueError, TypeError) as error:
            raise ModelFileError(f"{os.path.basename(path)} is no such model: {error}") from error
        return estimator

    def _take(self, network: MLP, content: Mapping[str, Any]) -> None:
        """Become fitted, as a model file says; raise ValueError where its parts do not fit."""
        self._validate_params()
        self._check_names()
        output = network.output_activation.name
        if output not in self._outputs_by_name:
            raise ValueError(f"no {self._kind} has the output {output!r}")
        given = [
            _checks.choose(one, Activation, ACTIVATIONS, "activation")
            for one in self._activations(network.n_layers - 1)
        ]
        if given != list(network.hidden_activations):
            raise ValueError("the parameter 'activation' is not that of the network")
        self.out_activation_ = self._outputs_by_name[output]
        self.n_outputs_, self.n_layers_ = network.n_outputs, network.n_layers + 1
        self.n_features_in_ = network.n_inputs
        if network.feature_names is not None:
            self.feature_names_in_ = np.array(network.feature_names, dtype=object)
        fitted = content["fitted"]
        self.n_iter_, self.t_ = fitted["n_iter"], fitted["t"]
        self.loss_ = math.nan if fitted["loss"] is None else fitted["loss"]
        self._show(network)

    # The two kinds of solvers ----------------------------------------------------------------

    def _fit_lbfgs(
        self, network: MLP, objective: Objective, samples: Samples, whole: Whole
    ) -> None:
        def keep(iteration: int, loss: float, parameters: Array) -> None:
            network.parameters = parameters
            self.n_iter_, self.loss_ = iteration, loss
            whole.keep()
            print_iteration(self, iteration, loss)

        whole.begin()
        try:
            result, self.loss_ = minimize_lbfgs(
                network,
                get_backend(self.backend),
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
        if not hasattr(self, "loss_curve_"):
            self._open_books()
        if not hasattr(self, "_records"):  # of a curve that was set from outside, too
            curve = enumerate(self.loss_curve_, start=1)
            self._records: list[Record] = [{"epoch": i, "loss": loss} for i, loss in curve]
        rows, validation = self._held_out(samples, y, weights, objective.loss, validation_data)
        if validation is not None and self.validation_scores_ is None:
            self.validation_scores_, self.validation_loss_curve_ = [], []
            self.best_validation_score_ = -np.inf
        if self.best_loss_ is None and not self.early_stopping:
            self.best_loss_ = np.inf
        batch_size = self._batch_size(len(rows))
        optimizer = self._resolve_optimizer(objective.n_terms)
        clip, terms = self.gradient_clip, 1 if self.optimizer is not None else objective.n_terms
        state = self._kept_or_new(optimizer, network, incremental)
        session = get_backend(self.backend).bind(
            network,
            objective.loss,
            optimizer,
            DividedL2(
                l2=objective.l2,
                dropout=self.dropout,
                clip_norm=None if clip is None else clip / terms,
            ),
            batch_size=batch_size,
            n_threads=self.n_threads,
            seed=self._mask_seed(state.steps_before),
        )
        name = None if validation is None else validation.name
        callbacks = FitCallbacks(
            self,
            network,
            samples.X,
            y,
            weights,
            called=not incremental,
            directions=column_directions(name),
        )
        StochasticFit(
            self,
            network,
            session,
            objective,
            samples,
            rows,
            self._resolve_schedule(),
            validation,
            callbacks,
            whole,
        ).run(state, one_epoch=incremental)

    def _kept_or_new(self, optimizer: Optimizer, network: MLP, incremental: bool) -> OptimizerState:
        """Return the optimizer's state, with which `partial_fit` goes on and `fit` starts anew."""
        moments = np.zeros((optimizer.n_moments, network.n_parameters), dtype=network.dtype)
        earlier: OptimizerState | None = getattr(self, "_optimizer", None)
        kept = earlier if incremental else None
        if kept is None or kept.kind is not type(optimizer) or kept.moments.shape != moments.shape:
            state = OptimizerState(optimizer.learning_rate, moments, type(optimizer))
            if earlier is not None:  # the same network is trained on
                state.follow(earlier)
            return state
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

    # Validation sets -------------------------------------------------------------------------

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
            _check_masks(*validation_data)
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
        return rows, Validation(held, y_val, self._scorer(X_val, y_val, w_val), self._score_name())

    def _scorer(self, X: Any, y: Array, weights: Array | None) -> Callable[[], float] | None:
        """Return what scores the network as it is, None for the built-in scores."""
        if self.scoring == "loss" or (self.scoring is None and self._built_in_score() is not None):
            return None
        scorer = check_scoring(self, scoring=self.scoring)
        # Held-out rows are plain arrays: this view of the estimator asks for no feature names.
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        view.__dict__.pop("feature_names_in_", None)
        given = {} if weights is None else {"sample_weight": weights}
        return lambda: scorer(view, X, y, **given)

    # Prediction ------------------------------------------------------------------------------

    def _outputs(self, X: Any) -> Array:
        check_is_fitted(self)
        _checks.not_masked(X, "X")
        rows = validate_data(self, X, accept_sparse="csr", reset=False)
        network = self._live_network()
        with np.errstate(over="ignore"):
            logits = network.forward(rows)
            check_logits(logits)
            return network.output_activation.forward(logits, out=logits)

    def to_onnx(self, path: str | Path) -> None:
        """Write the fitted model as an ONNX file, whole or not at all; it needs ``fastmlp[onnx]``.

        The input is ``X`` of shape (n, n_features) and the weights' dtype. A classifier's outputs
        are ``label``, what `predict` returns, and ``probabilities``, what `predict_proba` returns;
        a regressor's is ``variable``, a column for each output.

        Parameters
        ----------
        path : str or Path
            Replaced if it exists.

        Raises
        ------
        ImportError
            If the package onnx is not installed.
        FileNotFoundError
            If there is no such folder.
        ModelFileError
            If an activation is not the library's, or the weights are NaN or infinite or take more
            than 2 GiB, or the classes are neither numbers nor text.

        Examples
        --------
        >>> import tempfile
        >>> model = MLPRegressor(solver="lbfgs", random_state=0, backend="numpy")
        >>> model = model.fit([[0.0], [1.0]], [0.0, 2.0])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.to_onnx(Path(folder, "model.onnx"))
        ...     MLP.from_onnx(Path(folder, "model.onnx")).predict([[1.0]]).round(2)
        array([2.])
        """
        check_is_fitted(self)
        try:
            network = self._named_network()
        except ValueError as error:
            raise ModelFileError(f"{os.path.basename(path)} is not written: {error}") from error
        write_onnx(path, network, of_estimator=True)

    def _named_network(self) -> MLP:
        """Return a copy of the network with the names of features and classes."""
        network = self._live_network().copy()
        names = getattr(self, "feature_names_in_", None)
        network.feature_names = None if names is None else tuple(map(str, names))
        network.label_names = getattr(self, "classes_", None)
        return network

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # What the two estimators differ in -------------------------------------------------------

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Array]:
        raise NotImplementedError

    def _resolve_loss(self) -> Loss:
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

    def _built_in_score(self) -> str | None:
        """Return the name of the score that the logits give; None if there is none."""
        raise NotImplementedError

    def _score_of(self, outputs: Array, y: Array, weights: Array | None) -> float:
        """Return the built-in score of outputs: what `score` gives for the same rows."""
        raise NotImplementedError

    def _check_solver(self) -> bool:
        if self._uses_lbfgs():
            raise AttributeError(
                "partial_fit is only available for stochastic optimizers. "
                f"{self.solver} is not stochastic."
            )
        return True


class MLPClassifier(ClassifierMixin, _BaseMLP):  # type: ignore[misc]
    """A multilayer perceptron that classifies, as scikit-learn's, and faster.

    Parameters, attributes and results are those of `sklearn.neural_network.MLPClassifier`: with
    the same `random_state`, the same initial weights and order of samples, and in float64 the same
    numbers but for rounding, by every solver. The parameters from `backend` on are additions.

    What differs: sample weights below 0 are refused, and a batch whose weights are all 0 has no
    gradient, penalty or loss (there, the fit fails). With float32 inputs, L-BFGS
    computes in float64 (there, the loss is evaluated in float32).

    Parameters
    ----------
    hidden_layer_sizes : int or array-like of int, default (100,)
        Units of each hidden layer; ``()`` makes a linear model.
    activation : str, Activation, or a list or tuple of them, default "relu"
        Of all hidden layers, or one for each: "relu", "tanh", "logistic", "identity" or another
        name or instance of `fastmlp.activations`.
    solver : {"adam", "sgd", "lbfgs"}, default "adam"
        "lbfgs" is SciPy's L-BFGS-B, in float64 and on all samples at once. Without a `dtype`, it
        leaves float64 weights, also of float32 inputs.
    alpha : float, default 0.0001
        Adds alpha / (2 n) times the sum of all squared weights to the mean loss of n samples, the
        size of each batch or the sum of its weights (biases are free).
    batch_size : int or "auto", default "auto"
        "auto" is min(200, n_samples).
    learning_rate : {"constant", "invscaling", "adaptive"}, default "constant"
        For solver "sgd". "invscaling" divides `learning_rate_init` by the number of samples seen
        to the power `power_t`; "adaptive" divides the rate by 5 where training would stop.
    learning_rate_init : float, default 0.001
    power_t : float, default 0.5
    max_iter : int, default 200
        The most epochs, or iterations of L-BFGS.
    shuffle : bool, default True
        Whether every epoch visits the samples in a new order.
    random_state : int, RandomState or None, default None
        Of the initial weights, the split of early stopping, the order of samples and dropout.
    tol : float, default 1e-4
        Training stops after more than `n_iter_no_change` epochs in a row that did not improve the
        loss, or under early stopping the score, by `tol`.
    verbose : bool or int, default False
        Prints a line for every epoch, and says on stderr when kernels must be compiled; the
        logger "fastmlp" is told in any case.
    warm_start : bool, default False
        Whether `fit` goes on from the weights of the last.
    momentum : float, default 0.9
        For solver "sgd".
    nesterovs_momentum : bool, default True
        For solver "sgd".
    early_stopping : bool, default False
        Holds out `validation_fraction` of the samples (of two classes in equal shares), stops when
        their score does not improve, and keeps the best epoch's weights.
    validation_fraction : float, default 0.1
    beta_1, beta_2, epsilon : float, default 0.9, 0.999 and 1e-8
        For solver "adam".
    n_iter_no_change : int or inf, default 10
    max_fun : int, default 15000
        The most evaluations of the loss by solver "lbfgs".
    backend : str or Backend, default "auto"
        "numpy", "numba", "auto" (the fastest that is installed), or an instance.
    n_threads : int or None, default None
        None lets the backend choose. Results do not depend on it.
    dtype : {"float32", "float64"} or None, default None
        Of the network. None takes that of X (see `solver`); float32 is about twice as fast.
    optimizer : str, Optimizer or None, default None
        Takes the place of `solver`: a name of `fastmlp.optimizers`, with `learning_rate_init`, or
        an instance, with its own rate.
    schedule : str, Schedule or None, default None
        Takes the place of `learning_rate`, for any solver but "lbfgs". With `warm_start` and in
        `partial_fit` it counts on from the epochs before. One that stretches over the training,
        such as "cosine", ends with the `max_iter` epochs that a `fit` may add, as with a second
        fit of a `Trainer`; in `partial_fit` it ends with epoch `max_iter` of all, which is for
        loops of single epochs.
    weight_decay : float, default 0.0
        Solver "adam" becomes AdamW, with decoupled decay of all parameters; "sgd" adds
        weight_decay times the parameters to the gradient.
    dropout : float or tuple of float, default 0.0
        Share of units in [0, 1) that each step drops: of every hidden layer, or of the input and
        each hidden layer.
    gradient_clip : float or None, default None
        Scales a longer gradient down to this Euclidean norm.
    scoring : str, callable or None, default None
        What early stopping watches: a scorer as in `sklearn.model_selection`, "loss" for the
        validation loss, or None for the accuracy (of several labels, the share of rows whose
        labels are all right).
    callbacks : list, default ()
        `fastmlp.callbacks.Callback` instances, or functions of the fit and the epoch's record.
        They see the epochs of all fits since the weights were drawn, as of a `Trainer`. The
        callbacks of `sklearn.callback` are set by `set_callbacks`. A fitted estimator is pickled
        without lambdas and local functions, with a warning.
    loss : str or Loss, default "log_loss"
        "log_loss", or another name or instance of `fastmlp.losses`.
    class_weight : dict, "balanced" or None, default None
        Weights of classes in the loss, as elsewhere in scikit-learn; scores are not weighted so.
    label_smoothing : float, default 0.0
        Share in [0, 1) of each target that is spread evenly over the classes.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    coefs_, intercepts_ : list of ndarray
        Weights of shape (n_in, n_out) and biases of shape (n_out,) of each layer; changing them,
        in place or as a whole, changes the model.
    loss_, best_loss_ : float
        The last and the least training loss; early stopping keeps no best loss (None).
    loss_curve_ : list of float
        The loss of each epoch, the penalty included: the batches' means, each before its update,
        counted by their sizes; of "log_loss" with probabilities clipped to [eps, 1 - eps].
    validation_loss_curve_, validation_scores_ : list of float or None
        Of each epoch, where there is a validation set.
    best_validation_score_ : float or None
    n_iter_, t_ : int
        Epochs of the last fit, and training samples seen by all.
    n_layers_, n_outputs_, n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Where X has column names.
    out_activation_ : str
        "softmax", "logistic", "identity" or "exp".

    Raises
    ------
    ImportError
        If the backend is not installed.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> X, y = make_classification(n_samples=100, random_state=1)
    >>> model = MLPClassifier(random_state=1, max_iter=300, backend="numpy").fit(X[:75], y[:75])
    >>> model.predict_proba(X[75:]).shape
    (25, 2)
    >>> model.score(X[75:], y[75:]) > 0.7
    True
    """

    _kind = "MLPClassifier"
    _outputs_by_name: ClassVar[Mapping[str, str]] = {"softmax": "softmax", "sigmoid": "logistic"}
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **_BaseMLP._parameter_constraints,
        "loss": [str, Loss],
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
    }

    class_weight: Any
    label_smoothing: float

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        backend: str | Backend = "auto",
        n_threads: int | None = None,
        dtype: DTypeLike | None = None,
        optimizer: str | Optimizer | None = None,
        schedule: str | Schedule | None = None,
        weight_decay: float = 0.0,
        dropout: float | tuple[float, ...] = 0.0,
        gradient_clip: float | None = None,
        scoring: str | Callable[..., float] | None = None,
        callbacks: Sequence[Any] = (),
        loss: str | Loss = "log_loss",
        class_weight: Any = None,
        label_smoothing: float = 0.0,
    ) -> None:
        self._keep(locals())

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, validation_data: Any = None
    ) -> MLPClassifier:
        """Fit the network to rows and their labels.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), or indicator matrix of shape (n_samples, n_labels)
            Labels of any kind, or one column of 0 and 1 for each of several labels.
        sample_weight : array-like of shape (n_samples,), optional
            Weights at least 0.
        validation_data : tuple (X, y) or (X, y, sample_weight), optional
            A set to watch: its losses are in `validation_loss_curve_`, its scores in
            `validation_scores_`. Early stopping uses it in place of a split.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If data or parameters are not as stated, or the weights become infinite or NaN.

        Examples
        --------
        >>> model = MLPClassifier(solver="lbfgs", random_state=0, backend="numpy")
        >>> model.fit([[0.0], [1.0], [2.0]], ["low", "low", "high"]).predict([[1.9]])
        array(['high'], dtype='<U4')
        """
        with Whole(self) as whole:
            return self._fit(whole, X, y, sample_weight, validation_data)

    @available_if(lambda estimator: estimator._check_solver())  # type: ignore[untyped-decorator]
    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def partial_fit(
        self, X: Any, y: Any, sample_weight: Any = None, classes: ArrayLike | None = None
    ) -> MLPClassifier:
        """Train for one epoch on these rows; callbacks are not called.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        classes : array-like of shape (n_classes,), optional
            All labels that will ever come; required in the first call.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            As in `fit`; or if `classes` is missing, or `early_stopping` is on.

        Examples
        --------
        >>> model = MLPClassifier(backend="numpy", random_state=0)
        >>> model.partial_fit([[0.0], [1.0]], [0, 1], classes=[0, 1, 2]).classes_
        array([0, 1, 2])
        """
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight 'balanced' is not supported for partial_fit, which sees a part of "
                "the labels only; pass the weights as a dict"
            )
        with Whole(self) as whole:
            if _check_partial_fit_first_call(self, classes):
                self._multilabel = type_of_target(y).startswith("multilabel")
            return self._fit(whole, X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> Array:
        """Return the labels of rows.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_labels)

        Examples
        --------
        >>> model = MLPClassifier(solver="lbfgs", random_state=0, backend="numpy")
        >>> model.fit([[0.0], [1.0]], [3, 7]).predict([[0.1], [0.9]])
        array([3, 7])
        """
        return self._decide(self._outputs(X))

    def _take(self, network: MLP, content: Mapping[str, Any]) -> None:
        super()._take(network, content)
        self.classes_, self._multilabel = classes_of(content, network)

    def _decide(self, outputs: Array) -> Array:
        if self.out_activation_ == "softmax":
            return self.classes_[outputs.argmax(axis=1)]
        if self.n_outputs_ > 1:
            return (outputs > 0.5).astype(np.int64)
        return self.classes_[np.minimum(outputs[:, 0] > 0.5, len(self.classes_) - 1).astype(int)]

    def predict_proba(self, X: Any) -> Array:
        """Return the probability of every class, or of every one of several labels.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Columns in the order of `classes_`.

        Examples
        --------
        >>> model = MLPClassifier(solver="lbfgs", random_state=0, backend="numpy")
        >>> model.fit([[0.0], [1.0]], [3, 7]).predict_proba([[0.1], [0.9]]).shape
        (2, 2)
        """
        outputs = self._outputs(X)
        return np.hstack([1 - outputs, outputs]) if self.n_outputs_ == 1 else outputs

    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithm of `predict_proba`; -inf where a probability underflows.

        Examples
        --------
        >>> model = MLPClassifier(solver="lbfgs", random_state=0, backend="numpy")
        >>> bool((model.fit([[0.0], [1.0]], [3, 7]).predict_log_proba([[0.1]]) <= 0).all())
        True
        """
        probabilities = self.predict_proba(X)
        with np.errstate(divide="ignore"):
            return np.log(probabilities, out=probabilities)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Array]:
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse="csr",
            multi_output=True,
            dtype=self._dtypes(),
            order="C",
            reset=reset,
        )
        y = y.toarray() if hasattr(y, "toarray") else y
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        kind = type_of_target(y)
        if kind == "multiclass-multioutput":
            raise ValueError(
                "Multioutput target data is not supported: several labels must be columns of 0 "
                "and 1"
            )
        classes = unique_labels(y)
        if not hasattr(self, "classes_") or (not self.warm_start and not incremental):
            self.classes_ = classes
            self._multilabel = kind.startswith("multilabel")
        elif self.warm_start and reset is False and not incremental:
            self._check_same_classes(classes)
        elif len(np.setdiff1d(classes, self.classes_)):
            raise ValueError(
                "`y` has classes not in `self.classes_`. "
                f"`self.classes_` has {self.classes_}. 'y' has {classes}."
            )
        return X, y

    def _check_same_classes(self, classes: Array) -> None:
        if set(classes) != set(self.classes_):
            raise ValueError(
                "warm_start can only be used where `y` has the same "
                "classes as in the previous call to fit. Previously "
                f"got {self.classes_}, `y` has {classes}"
            )

    def _resolve_loss(self) -> Loss:
        loss = _checks.choose(self.loss, Loss, LOSSES, "loss")
        if isinstance(self.loss, str) and loss.name == "cross_entropy":
            return CrossEntropy(label_smoothing=self.label_smoothing)
        if self.label_smoothing:
            raise ValueError(f"label_smoothing is for the loss 'log_loss', got {self.loss!r}")
        if isinstance(self.loss, str) and "softmax" not in loss.output_names:
            raise ValueError(f"the loss {self.loss!r} is for a regressor; try 'log_loss'")
        return loss

    def _count_outputs(self, y: Array, loss: Loss) -> int:
        if self._multilabel:
            return int(y.shape[1])
        return len(self.classes_) if len(self.classes_) > 2 else 1

    def _output_name(self, loss: Loss) -> str:
        return "softmax" if not self._multilabel and len(self.classes_) > 2 else "logistic"

    def _targets(self, y: Array, loss: Loss) -> Array:
        network = self._network
        if y.ndim == 1:
            y = np.searchsorted(self.classes_, y)
        output = network.output_activation
        return prepare_targets(y, loss, output, self.n_outputs_, network.dtype)

    def _loss_weights(self, y: Array, weights: Array | None) -> Array | None:
        if self.class_weight is None:
            return weights
        each = compute_sample_weight(self.class_weight, y)
        return each if weights is None else each * weights

    def _built_in_score(self) -> str | None:
        return "accuracy"

    def _score_of(self, outputs: Array, y: Array, weights: Array | None) -> float:
        right = self._decide(outputs) == y
        return float(np.average(right.all(axis=1) if right.ndim == 2 else right, weights=weights))

    def _stratify(self, samples: Samples) -> Array | None:
        # As scikit-learn: where one output tells two classes apart.
        return samples.targets.astype(bool) if self.n_outputs_ == 1 else None


class MLPRegressor(RegressorMixin, _BaseMLP):  # type: ignore[misc]
    """A multilayer perceptron for regression, as scikit-learn's, and faster.

    Parameters, attributes and results are those of `sklearn.neural_network.MLPRegressor`: with
    the same `random_state`, the same initial weights and order of samples, and in float64 the same
    numbers but for rounding, by every solver. The parameters from `backend` on are additions.

    What differs: sample weights below 0 are refused, and a batch whose weights are all 0 has no
    gradient, penalty or loss (there, the fit fails). With float32 inputs, L-BFGS
    computes in float64 (there, the loss is evaluated in float32). Where a Poisson rate underflows
    to 0 the loss is not NaN, as it is there.

    Parameters
    ----------
    loss : str or Loss, default "squared_error"
        "squared_error" (half the mean square), "poisson" (exponential output, targets at least 0),
        "mae", "huber", "quantile", or another name or instance of `fastmlp.losses`; with
        ``Quantile(levels=(0.1, 0.5, 0.9))`` the model predicts a column for each level.
    hidden_layer_sizes : int or array-like of int, default (100,)
        Units of each hidden layer; ``()`` makes a linear model.
    activation : str, Activation, or a list or tuple of them, default "relu"
        Of all hidden layers, or one for each: "relu", "tanh", "logistic", "identity" or another
        name or instance of `fastmlp.activations`.
    solver : {"adam", "sgd", "lbfgs"}, default "adam"
        "lbfgs" is SciPy's L-BFGS-B, in float64 and on all samples at once. Without a `dtype`, it
        leaves float64 weights, also of float32 inputs.
    alpha : float, default 0.0001
        Adds alpha / (2 n) times the sum of all squared weights to the mean loss of n samples, the
        size of each batch or the sum of its weights (biases are free).
    batch_size : int or "auto", default "auto"
        "auto" is min(200, n_samples).
    learning_rate : {"constant", "invscaling", "adaptive"}, default "constant"
        For solver "sgd". "invscaling" divides `learning_rate_init` by the number of samples seen
        to the power `power_t`; "adaptive" divides the rate by 5 where training would stop.
    learning_rate_init : float, default 0.001
    power_t : float, default 0.5
    max_iter : int, default 200
        The most epochs, or iterations of L-BFGS.
    shuffle : bool, default True
        Whether every epoch visits the samples in a new order.
    random_state : int, RandomState or None, default None
        Of the initial weights, the split of early stopping, the order of samples and dropout.
    tol : float, default 1e-4
        Training stops after more than `n_iter_no_change` epochs in a row that did not improve the
        loss, or under early stopping the score, by `tol`.
    verbose : bool or int, default False
        Prints a line for every epoch, and says on stderr when kernels must be compiled; the
        logger "fastmlp" is told in any case.
    warm_start : bool, default False
        Whether `fit` goes on from the weights of the last.
    momentum : float, default 0.9
        For solver "sgd".
    nesterovs_momentum : bool, default True
        For solver "sgd".
    early_stopping : bool, default False
        Holds out `validation_fraction` of the samples, stops when
        their score does not improve, and keeps the best epoch's weights.
    validation_fraction : float, default 0.1
    beta_1, beta_2, epsilon : float, default 0.9, 0.999 and 1e-8
        For solver "adam".
    n_iter_no_change : int or inf, default 10
    max_fun : int, default 15000
        The most evaluations of the loss by solver "lbfgs".
    backend : str or Backend, default "auto"
        "numpy", "numba", "auto" (the fastest that is installed), or an instance.
    n_threads : int or None, default None
        None lets the backend choose. Results do not depend on it.
    dtype : {"float32", "float64"} or None, default None
        Of the network. None takes that of X (see `solver`); float32 is about twice as fast.
    optimizer : str, Optimizer or None, default None
        Takes the place of `solver`: a name of `fastmlp.optimizers`, with `learning_rate_init`, or
        an instance, with its own rate.
    schedule : str, Schedule or None, default None
        Takes the place of `learning_rate`, for any solver but "lbfgs". With `warm_start` and in
        `partial_fit` it counts on from the epochs before. One that stretches over the training,
        such as "cosine", ends with the `max_iter` epochs that a `fit` may add, as with a second
        fit of a `Trainer`; in `partial_fit` it ends with epoch `max_iter` of all, which is for
        loops of single epochs.
    weight_decay : float, default 0.0
        Solver "adam" becomes AdamW, with decoupled decay of all parameters; "sgd" adds
        weight_decay times the parameters to the gradient.
    dropout : float or tuple of float, default 0.0
        Share of units in [0, 1) that each step drops: of every hidden layer, or of the input and
        each hidden layer.
    gradient_clip : float or None, default None
        Scales a longer gradient down to this Euclidean norm.
    scoring : str, callable or None, default None
        What early stopping watches: a scorer as in `sklearn.model_selection`, "loss" for the
        validation loss, or None for R2.
    callbacks : list, default ()
        `fastmlp.callbacks.Callback` instances, or functions of the fit and the epoch's record.
        They see the epochs of all fits since the weights were drawn, as of a `Trainer`. The
        callbacks of `sklearn.callback` are set by `set_callbacks`. A fitted estimator is pickled
        without lambdas and local functions, with a warning.

    Attributes
    ----------
    coefs_, intercepts_ : list of ndarray
        Weights of shape (n_in, n_out) and biases of shape (n_out,) of each layer; changing them,
        in place or as a whole, changes the model.
    loss_, best_loss_ : float
        The last and the least training loss; early stopping keeps no best loss (None).
    loss_curve_ : list of float
        The loss of each epoch, the penalty included: the batches' means, each before its update,
        counted by their sizes. Of squared errors it is the mean over several targets, while
        updates descend on their sum; so does L-BFGS.
    validation_loss_curve_, validation_scores_ : list of float or None
        Of each epoch, where there is a validation set.
    best_validation_score_ : float or None
    n_iter_, t_ : int
        Epochs of the last fit, and training samples seen by all.
    n_layers_, n_outputs_, n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Where X has column names.
    out_activation_ : str
        "softmax", "logistic", "identity" or "exp".

    Raises
    ------
    ImportError
        If the backend is not installed.

    Examples
    --------
    >>> from sklearn.datasets import make_regression
    >>> X, y = make_regression(n_samples=200, n_features=20, random_state=1)
    >>> model = MLPRegressor(solver="lbfgs", random_state=1, tol=0.1, backend="numpy")
    >>> model.fit(X[:150], y[:150]).score(X[150:], y[150:]) > 0.9
    True
    """

    _kind = "MLPRegressor"
    _outputs_by_name: ClassVar[Mapping[str, str]] = {"linear": "identity", "exp": "exp"}
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **_BaseMLP._parameter_constraints,
        "loss": [str, Loss],
    }

    def __init__(
        self,
        loss: str | Loss = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        backend: str | Backend = "auto",
        n_threads: int | None = None,
        dtype: DTypeLike | None = None,
        optimizer: str | Optimizer | None = None,
        schedule: str | Schedule | None = None,
        weight_decay: float = 0.0,
        dropout: float | tuple[float, ...] = 0.0,
        gradient_clip: float | None = None,
        scoring: str | Callable[..., float] | None = None,
        callbacks: Sequence[Any] = (),
    ) -> None:
        self._keep(locals())

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, validation_data: Any = None
    ) -> MLPRegressor:
        """Fit the network to rows and their targets.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), optional
            Weights at least 0.
        validation_data : tuple (X, y) or (X, y, sample_weight), optional
            A set to watch: its losses are in `validation_loss_curve_`, its scores in
            `validation_scores_`. Early stopping uses it in place of a split.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If data or parameters are not as stated, or the weights become infinite or NaN.

        Examples
        --------
        >>> model = MLPRegressor(solver="lbfgs", random_state=0, backend="numpy")
        >>> model.fit([[0.0], [1.0]], [0.0, 2.0]).predict([[1.0]]).round(2)
        array([2.])
        """
        with Whole(self) as whole:
            return self._fit(whole, X, y, sample_weight, validation_data)

    @available_if(lambda estimator: estimator._check_solver())  # type: ignore[untyped-decorator]
    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """Train for one epoch on these rows; callbacks are not called.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            As in `fit`; or if `early_stopping` is on.

        Examples
        --------
        >>> model = MLPRegressor(backend="numpy", random_state=0)
        >>> model.partial_fit([[0.0], [1.0]], [0, 1]).n_iter_
        1
        """
        with Whole(self) as whole:
            return self._fit(whole, X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> Array:
        """Return the predicted values of rows.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            With a quantile loss of several levels, one column for each level.

        Examples
        --------
        >>> model = MLPRegressor(solver="lbfgs", random_state=0, backend="numpy")
        >>> model.fit([[0.0], [1.0]], [[0.0, 1.0], [2.0, 3.0]]).predict([[1.0]]).shape
        (1, 2)
        """
        outputs = self._outputs(X)
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R2; with a quantile loss of several levels, the mean of their D2 pinball scores.

        Examples
        --------
        >>> model = MLPRegressor(solver="lbfgs", random_state=0, backend="numpy")
        >>> model.fit([[0.0], [1.0]], [0.0, 2.0]).score([[0.0], [1.0]], [0.0, 2.0]) > 0.99
        True
        """
        levels = _several_levels(self._resolve_loss())
        if not levels:
            return float(super().score(X, y, sample_weight))
        columns = zip(levels, self.predict(X).T, strict=True)
        return float(
            np.mean(
                [
                    d2_pinball_score(y, column, sample_weight=sample_weight, alpha=level)
                    for level, column in columns
                ]
            )
        )

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Array]:
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse="csr",
            multi_output=True,
            y_numeric=True,
            dtype=self._dtypes(),
            order="C",
            reset=reset,
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y

    def _resolve_loss(self) -> Loss:
        loss = _checks.choose(self.loss, Loss, LOSSES, "loss")
        if _OUTPUT_ACTIVATIONS[self._output_name(loss)] not in loss.output_names:
            raise ValueError(f"the loss {self.loss!r} is for a classifier; try 'squared_error'")
        return loss

    def _count_outputs(self, y: Array, loss: Loss) -> int:
        return len(_several_levels(loss)) or (1 if y.ndim == 1 else int(y.shape[1]))

    def _output_name(self, loss: Loss) -> str:
        return "exp" if loss.name == "poisson" else "identity"

    def _targets(self, y: Array, loss: Loss) -> Array:
        network = self._network
        output = network.output_activation
        return prepare_targets(y, loss, output, self.n_outputs_, network.dtype)

    def _built_in_score(self) -> str | None:
        return None if _several_levels(self._resolve_loss()) else "r2"

    def _score_of(self, outputs: Array, y: Array, weights: Array | None) -> float:
        if not np.isfinite(outputs).all():
            return float("nan")
        targets = y.reshape(len(y), -1)
        score = R2(Linear(), targets, len(targets))
        score.add(outputs, targets, weights)
        return score.value()


def _check_masks(X: Any, y: Any, sample_weight: Any = None) -> None:
    """Raise ValueError if there are masks, which scikit-learn's own checks would drop."""
    for values, what in ((X, "X"), (y, "y"), (sample_weight, "sample_weight")):
        _checks.not_masked(values, what)


def _several_levels(loss: Loss) -> tuple[float, ...]:
    """Return the levels of a quantile loss that has several, else none."""
    return loss.levels if isinstance(loss, Quantile) and len(loss.levels) > 1 else ()
