"""What a fitted estimator consists of, and what reads or writes it: weights, books, predictions."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted, validate_data

from fastmlp import _checks
from fastmlp.activations import ACTIVATIONS, Activation
from fastmlp.history import Record
from fastmlp.network import MLP
from fastmlp.sklearn._bases import BaseEstimator, CallbackSupportMixin
from fastmlp.sklearn._choices import Choices
from fastmlp.sklearn._learned import Books, Learned, OptimizerState
from fastmlp.sklearn._predictions import Predictions
from fastmlp.sklearn._whole import Moment

Array = NDArray[Any]

#: The library's names of scikit-learn's.
OUTPUT_ACTIVATIONS = {
    "softmax": "softmax",
    "logistic": "sigmoid",
    "identity": "linear",
    "exp": "exp",
}


class Fitted(CallbackSupportMixin, BaseEstimator, Choices):
    """Parameters, and what a fit makes of them."""

    # The network: `coefs_` and `intercepts_` are views of its parameters.
    _network: MLP
    _predictions: Predictions
    coefs_: list[Array]
    intercepts_: list[Array]
    n_layers_: int
    n_outputs_: int
    out_activation_: str
    # What every solver counts.
    n_iter_: int
    t_: int
    loss_: float
    # What a stochastic solver keeps for the next epoch.
    _optimizer: OptimizerState
    _no_improvement_count: int
    best_loss_: float | None
    best_validation_score_: float | None
    # What it notes of each epoch.
    _records: list[Record]
    loss_curve_: list[float]
    validation_loss_curve_: list[float] | None
    validation_scores_: list[float] | None

    # Weights ---------------------------------------------------------------------------------

    def _initialize(
        self, sizes: list[int], output: str, dtype: np.dtype[Any], generator: np.random.RandomState
    ) -> None:
        """Draw new weights, from the distribution and in the order of scikit-learn."""
        self.n_iter_ = 0
        self.t_ = 0
        self.n_outputs_ = sizes[-1]
        self.n_layers_ = len(sizes)
        self.out_activation_ = output
        network = MLP(
            sizes,
            self._activations(len(sizes) - 2),
            OUTPUT_ACTIVATIONS[self.out_activation_],
            dtype=dtype,
        )
        gain = 2.0 if self.activation == "logistic" else 6.0
        for w, b in zip(network.weights, network.biases, strict=True):
            bound = np.sqrt(gain / sum(w.shape))
            w[:] = generator.uniform(-bound, bound, w.shape)
            b[:] = generator.uniform(-bound, bound, b.shape)
        self._show(network)
        for name in ("_optimizer", "_records", *_empty_books()):  # those of an earlier network
            self.__dict__.pop(name, None)

    def _show(self, network: MLP) -> MLP:
        """Let the fitted attributes be views of the network's parameters."""
        if not hasattr(self, "_predictions"):
            self._predictions = Predictions()
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
            OUTPUT_ACTIVATIONS[self.out_activation_],
            dtype=np.float32 if dtype == np.float32 else np.float64,
        )
        given = [*coefs, *intercepts]
        for mine, values in zip([*network.weights, *network.biases], given, strict=True):
            mine[:] = values
        return network

    def _resolved_activations(self) -> tuple[Activation, ...]:
        given = self._activations(len(self.coefs_) - 1)
        return tuple(_checks.choose(one, Activation, ACTIVATIONS, "activation") for one in given)

    # Books -----------------------------------------------------------------------------------

    def _open_books(self, *, holds_out: bool) -> Books:
        """Return where training goes on, with the books that a fit needs and that are missing."""
        for name, value in _empty_books().items():
            if not hasattr(self, name):
                setattr(self, name, value)
        if not hasattr(self, "_records"):  # of a curve that was set from outside, too
            curve = enumerate(self.loss_curve_, start=1)
            self._records = [{"epoch": i, "loss": loss} for i, loss in curve]
        if holds_out and self.validation_scores_ is None:
            self.validation_scores_, self.validation_loss_curve_ = [], []
            self.best_validation_score_ = -np.inf
        if self.best_loss_ is None and not self.early_stopping:
            self.best_loss_ = np.inf
        return Books(
            n_iter=0,
            n_epochs=len(self.loss_curve_),
            t=self.t_,
            waited=self._no_improvement_count,
            best_loss=self.best_loss_,
            best_score=self.best_validation_score_,
        )

    def _adopt(self, learned: Learned) -> None:
        """Take over what whole epochs have changed: the one place that writes it."""
        books = learned.books
        self.n_iter_, self.t_ = books.n_iter, books.t
        self.best_loss_, self.best_validation_score_ = books.best_loss, books.best_score
        self._no_improvement_count = books.waited
        self._optimizer = learned.optimizer
        for record in learned.records:
            self.loss_ = record["loss"]
            self.loss_curve_.append(record["loss"])
            self._records.append(record)
        if self.validation_loss_curve_ is not None and self.validation_scores_ is not None:
            self.validation_loss_curve_.extend(learned.validation_losses)
            self.validation_scores_.extend(learned.validation_scores)

    def _moment(self) -> Moment:
        """Return all that the estimator is now."""
        return Moment.of(vars(self))

    def _return_to(self, moment: Moment) -> None:
        """Become what the estimator was; one assignment, so that nothing breaks it off halfway."""
        self.__dict__ = moment.attributes_again()

    # Prediction ------------------------------------------------------------------------------

    def _outputs(self, X: Any) -> Array:
        check_is_fitted(self)
        _checks.in_memory(X, "X")
        _checks.not_masked(X, "X")
        rows = validate_data(self, X, accept_sparse="csr", reset=False)
        return self._predictions.outputs(self._live_network(), rows, self.backend, self.n_threads)

    # Pickles ---------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        # `coefs_` and `intercepts_` hold everything; the network is made from them again.
        state = dict(super().__getstate__())
        for name in ("_network", "_predictions"):
            state.pop(name, None)
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


def _empty_books() -> dict[str, Any]:
    """Return what a stochastic solver notes of its epochs before the first."""
    return {
        "_no_improvement_count": 0,
        "loss_curve_": [],
        "validation_loss_curve_": None,
        "validation_scores_": None,
        "best_validation_score_": None,
        "best_loss_": None,
    }
