"""The classifier for tables."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from fastmlp._schema import Number
from fastmlp.losses import CrossEntropy, Loss
from fastmlp.network import MLP
from fastmlp.sklearn._bases import ClassifierMixin
from fastmlp.sklearn._calibration import (
    MOST_TEMPERATURE,
    at_temperature,
    find_temperature,
)
from fastmlp.sklearn._conformal import label_sets, sorted_scores
from fastmlp.sklearn._file_content import classes_of
from fastmlp.sklearn._parameters import parameter, with_parameters
from fastmlp.sklearn._tabular import (
    HeldOut,
    Tabular,
    Target,
    check_coverage,
    check_target,
    mean_of_held_out,
)
from fastmlp.sklearn._tabular_files import SCORES, fitted_fields, scores_of

Array = NDArray[Any]

#: Of what files may hold: whatever a fit finds, and what it rounds to.
_TEMPERATURE = Number(least=0.99 / MOST_TEMPERATURE, most=1.01 * MOST_TEMPERATURE)


@with_parameters
class TabularClassifier(ClassifierMixin, Tabular):
    """Classifies the rows of a table as it is, by an average of networks.

    Columns of any kind are encoded (`TableEncoder`); the networks and their training follow
    RealMLP-TD-S (Holzmüller et al. 2024, arXiv 2407.04491). Every network is trained without a
    part of the rows, by which its best epoch is chosen, its probabilities are calibrated, and
    `predict_set` knows how wrong it may be.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    encoder_ : TableEncoder
    ensemble_ : Ensemble
        The networks.
    temperature_ : float
        What logits are divided by (1 without `calibrate`).
    oof_probabilities_ : ndarray of shape (n_samples, n_classes)
        Of every row of `fit`, by the members that were not trained on it; NaN where all were.
    fold_scores_ : ndarray of shape (n_members,)
        Every member's accuracy on the rows that it held out.
    best_epochs_ : ndarray of int and shape (n_members,)
        Every member's best epoch, from 1, by the column `watched_` of its history.
    watched_ : str
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        Where X has column names.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"size": [1.0, 2.0, None, 8.0] * 8, "colour": ["red", "blue"] * 16})
    >>> model = TabularClassifier(n_members=2, n_epochs=8, random_state=0, backend="numpy")
    >>> model = model.fit(table, ["cat", "dog", "cat", "cow"] * 8)
    >>> model.predict(table[:4])
    array(['cat', 'dog', 'cat', 'cow'], dtype='<U3')
    """

    _activation = "selu"
    _learning_rate = 0.04
    _output = "softmax"
    _of_values = False
    _kind = "TabularClassifier"
    _fitted_fields = fitted_fields({"temperature": _TEMPERATURE, "scores": SCORES})

    label_smoothing: float = parameter(
        default=0.1,
        allowed=[Interval(Real, 0, 1, closed="left")],
        kind="float",
        text="Share in [0, 1) of each target that is spread evenly over the classes.",
    )
    class_weight: Any = parameter(
        default=None,
        allowed=[dict, StrOptions({"balanced"}), None],
        kind='dict, "balanced" or None',
        text="Weights of classes in the loss; scores and calibration are not weighted so.",
    )
    calibrate: bool = parameter(
        default=True,
        allowed=["boolean"],
        kind="bool",
        text="Whether probabilities are calibrated by those of rows held out.",
    )

    def predict(self, X: Any) -> Array:
        """Return the likeliest class of every row.

        Parameters
        ----------
        X : data frame or array-like of shape (n_samples, n_features)
            The columns of `fit`.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        likeliest = self.predict_proba(X).argmax(axis=1)
        return self.classes_[likeliest]

    def predict_proba(self, X: Any) -> Array:
        """Return the probability of every class: the mean of the members'.

        Parameters
        ----------
        X : data frame or array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Columns in the order of `classes_`.
        """
        return np.concatenate(
            [self._calibrated(outputs).mean(axis=0) for _, outputs in self._outputs_by_member(X)]
        )

    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithm of `predict_proba`; -inf where a probability underflows."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def predict_set(self, X: Any, coverage: float = 0.9) -> Array:
        """Return which classes each row may have, so that its own is among them so often.

        Of rows like those of `fit`, their own class is in the set with about this probability, by
        cross-conformal prediction (Barber et al. 2021, arXiv 1905.02928; classes by the score of
        Sadinle et al. 2019, arXiv 1609.00451).

        Parameters
        ----------
        X : data frame or array-like of shape (n_samples, n_features)
        coverage : float, default 0.9
            In (0, 1).

        Returns
        -------
        ndarray of bool and shape (n_samples, n_classes)
            At least one class a row.
        """
        coverage = check_coverage(coverage)
        return np.concatenate(
            [
                label_sets(self._calibrated(outputs), self._scores, coverage)
                for _, outputs in self._outputs_by_member(X)
            ]
        )

    def _own_content(self) -> dict[str, Any]:
        return {
            "temperature": float(self.temperature_),
            "scores": [own.tolist() for own in self._scores],
        }

    def _take_own(self, network: MLP, content: Mapping[str, Any], n_members: int) -> None:
        fitted = content["fitted"]
        self.classes_, several = classes_of(content, network)
        if several or len(self.classes_) < 2:
            raise ValueError(f"no {self._kind} has {len(self.classes_)} such labels")
        self.temperature_ = float(fitted["temperature"])
        self._scores = scores_of(fitted["scores"], n_members, "estimator.fitted.scores")

    def _calibrated(self, outputs: Array) -> Array:
        return at_temperature(outputs, self.temperature_)

    def _target(self, y: Any, n_samples: int) -> Target:
        y = column_or_1d(y, warn=True)
        check_target(y, n_samples)
        check_classification_targets(y)
        classes, numbers = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"y holds one class, {classes[0]!r}: there is nothing to tell apart")
        return Target(numbers, len(classes), numbers, {"classes_": classes})

    def _loss(self) -> Loss:
        return CrossEntropy(label_smoothing=self.label_smoothing)

    def _loss_weights(self, target: Target, weights: Array | None) -> Array | None:
        if self.class_weight is None:
            return weights
        classes = target.attributes["classes_"][target.values]
        each = compute_sample_weight(self.class_weight, classes)
        return each if weights is None else each * weights

    def _judged(
        self, target: Target, held_out: list[HeldOut], weights: Array | None
    ) -> dict[str, Any]:
        temperature = 1.0
        if self.calibrate:
            rows = np.concatenate([one.rows for one in held_out])
            temperature = find_temperature(
                np.concatenate([one.outputs for one in held_out]),
                target.values[rows],
                None if weights is None else weights[rows],
            )
        calibrated = [
            HeldOut(one.rows, at_temperature(one.outputs, temperature)) for one in held_out
        ]
        truths = [target.values[one.rows] for one in calibrated]
        hits = [
            one.outputs.argmax(axis=1) == truth
            for one, truth in zip(calibrated, truths, strict=True)
        ]
        scores = [
            1 - one.outputs[np.arange(len(truth)), truth].astype(np.float64)
            for one, truth in zip(calibrated, truths, strict=True)
        ]
        return {
            "temperature_": temperature,
            "oof_probabilities_": mean_of_held_out(calibrated, len(target.values)),
            "fold_scores_": np.array([own.mean() for own in hits]),
            "_scores": sorted_scores(scores),
        }
