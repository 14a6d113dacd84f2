"""The regressor: values, and what they are to the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import _fit_context
from sklearn.metrics import d2_pinball_score
from sklearn.utils import column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import validate_data

from fastmlp import _checks
from fastmlp.activations import Linear
from fastmlp.losses import LOSSES, Loss, Quantile
from fastmlp.metrics import R2
from fastmlp.sklearn._bases import RegressorMixin
from fastmlp.sklearn._fitted import OUTPUT_ACTIVATIONS
from fastmlp.sklearn._fitting import BaseMLP
from fastmlp.sklearn._parameters import parameter, with_parameters
from fastmlp.sklearn._whole import Whole
from fastmlp.targets import prepare_targets

Array = NDArray[Any]


@with_parameters
class _LossFirst:
    """The loss is the first parameter, as in scikit-learn."""

    loss: str | Loss = parameter(
        default="squared_error",
        kw_only=False,
        allowed=[str, Loss],
        kind="str or Loss",
        text="""
        "squared_error" (half the mean square), "poisson" (exponential output, targets at least 0),
        "mae", "huber", "quantile", or another name or instance of `fastmlp.losses`; with
        ``Quantile(levels=(0.1, 0.5, 0.9))`` the model predicts a column for each level.""",
    )


@with_parameters
class MLPRegressor(RegressorMixin, BaseMLP, _LossFirst):
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
    {parameters}

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
    feature_names_in_ : ndarray of shape (n_features,)
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
        if OUTPUT_ACTIVATIONS[self._output_name(loss)] not in loss.output_names:
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


def _several_levels(loss: Loss) -> tuple[float, ...]:
    """Return the levels of a quantile loss that has several, else none."""
    return loss.levels if isinstance(loss, Quantile) and len(loss.levels) > 1 else ()
