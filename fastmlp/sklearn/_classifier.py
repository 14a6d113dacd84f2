"""The classifier: labels, and what they are to the network."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import _fit_context
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import (
    _check_partial_fit_first_call,
    check_classification_targets,
    type_of_target,
    unique_labels,
)
from sklearn.utils.validation import validate_data

from fastmlp import _checks
from fastmlp.losses import LOSSES, CrossEntropy, Loss
from fastmlp.model_file import ModelFile
from fastmlp.sklearn._bases import ClassifierMixin
from fastmlp.sklearn._file_content import classes_of
from fastmlp.sklearn._fitting import BaseMLP
from fastmlp.sklearn._objective import Samples
from fastmlp.sklearn._parameters import parameter, with_parameters
from fastmlp.sklearn._whole import Whole
from fastmlp.targets import prepare_targets

Array = NDArray[Any]


@with_parameters
class MLPClassifier(ClassifierMixin, BaseMLP):
    """A multilayer perceptron that classifies, as scikit-learn's, and faster.

    Parameters, attributes and results are those of `sklearn.neural_network.MLPClassifier`: with
    the same `random_state`, the same initial weights and order of samples, and in float64 the same
    numbers but for rounding, by every solver. The parameters from `backend` on are additions.

    What differs: sample weights below 0 are refused, and a batch whose weights are all 0 has no
    gradient, penalty or loss (there, the fit fails). With float32 inputs, L-BFGS
    computes in float64 (there, the loss is evaluated in float32).

    Parameters
    ----------
    {parameters}

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

    loss: str | Loss = parameter(
        default="log_loss",
        allowed=[str, Loss],
        kind="str or Loss",
        text='"log_loss", or another name or instance of `fastmlp.losses`.',
    )
    class_weight: Any = parameter(
        default=None,
        allowed=[dict, list, StrOptions({"balanced"}), None],
        kind='dict, "balanced" or None',
        text="""
        Weights of classes in the loss, as elsewhere in scikit-learn; scores are not weighted
        so.""",
    )
    label_smoothing: float = parameter(
        default=0.0,
        allowed=[Interval(Real, 0, 1, closed="left")],
        kind="float",
        text="Share in [0, 1) of each target that is spread evenly over the classes.",
    )

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

    def _take(self, model: ModelFile, content: Mapping[str, Any]) -> None:
        super()._take(model, content)
        self.classes_, self._multilabel = classes_of(content, model.network)

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
