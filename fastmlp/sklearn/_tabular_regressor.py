"""The regressor for tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import r2_score

from fastmlp._schema import Anything, Fields, Items, Number, Truth
from fastmlp.losses import LOSSES, Loss
from fastmlp.network import MLP
from fastmlp.sklearn._bases import RegressorMixin
from fastmlp.sklearn._conformal import intervals, sorted_scores
from fastmlp.sklearn._parameters import with_parameters
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

#: What is known of each target.
_OF_TARGET = ("mean", "scale", "min", "max")


@with_parameters
class TabularRegressor(RegressorMixin, Tabular):
    """Predicts values from the rows of a table as it is, by an average of networks.

    Columns of any kind are encoded (`TableEncoder`), targets are standardised, and predictions lie
    within the range of the targets seen; the networks and their training follow RealMLP-TD-S
    (Holzmüller et al. 2024, arXiv 2407.04491). Every network is trained without a part of the
    rows, by which its best epoch is chosen, and `predict_interval` knows how wrong it may be.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    encoder_ : TableEncoder
    ensemble_ : Ensemble
        The networks, which give standardised values.
    target_mean_, target_scale_, target_min_, target_max_ : ndarray of shape (n_outputs,)
        Mean, standard deviation (1 where it is 0) and range of the targets.
    oof_predictions_ : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        Of every row of `fit`, by the members that were not trained on it; NaN where all were.
    fold_scores_ : ndarray of shape (n_members,)
        Every member's R2 on the rows that it held out.
    best_epochs_ : ndarray of int and shape (n_members,)
        Every member's best epoch, from 1, by the column `watched_` of its history.
    watched_ : str
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        Where X has column names.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"size": [1.0, 2.0, 3.0, 8.0] * 8, "colour": ["red", "blue"] * 16})
    >>> model = TabularRegressor(n_members=2, n_epochs=32, random_state=0, backend="numpy")
    >>> model.fit(table, [1.0, 2.0, 3.0, 8.0] * 8).predict(table[:4]).round()
    array([1., 2., 3., 8.])
    """

    _activation = "mish"
    _learning_rate = 0.07
    _output = "linear"
    _of_values = True
    _kind = "TabularRegressor"
    _fitted_fields = fitted_fields(
        {
            "target": Fields({name: Items(Number()) for name in _OF_TARGET}),
            "several": Truth(),
            "scores": Items(SCORES),
        }
    )

    def predict(self, X: Any) -> Array:
        """Return the predicted value of every row: the mean of the members'.

        Parameters
        ----------
        X : data frame or array-like of shape (n_samples, n_features)
            The columns of `fit`.

        Returns
        -------
        ndarray of float64 and shape (n_samples,), or (n_samples, n_outputs) as `fit` had it
        """
        means = [self._decoded(outputs).mean(axis=0) for _, outputs in self._outputs_by_member(X)]
        return self._shaped(np.concatenate(means))

    def predict_interval(self, X: Any, coverage: float = 0.9) -> tuple[Array, Array]:
        """Return the ends of an interval for every row, which holds its value so often.

        Of rows like those of `fit`, the value lies in the interval with about this probability, by
        CV+ (Barber, Candès, Ramdas and Tibshirani 2021, arXiv 1905.02928), for any errors; of
        several outputs each by itself.

        Parameters
        ----------
        X : data frame or array-like of shape (n_samples, n_features)
        coverage : float, default 0.9
            In (0, 1).

        Returns
        -------
        lower, upper : ndarray of float64, shapes as of `predict`
            Infinite where there were too few rows to promise so much.
        """
        coverage = check_coverage(coverage)
        ends = []
        for _, outputs in self._outputs_by_member(X):
            decoded = self._decoded(outputs)
            each = [
                intervals(decoded[:, :, k], scores, coverage)
                for k, scores in enumerate(self._scores)
            ]
            ends.append(np.stack([np.stack(pair, axis=1) for pair in each], axis=2))
        both = np.concatenate(ends)
        return self._shaped(both[:, 0]), self._shaped(both[:, 1])

    def _own_content(self) -> dict[str, Any]:
        return {
            "target": {name: getattr(self, f"target_{name}_").tolist() for name in _OF_TARGET},
            "several": self._several,
            "scores": [[own.tolist() for own in scores] for scores in self._scores],
        }

    def _take_own(self, network: MLP, content: Mapping[str, Any], n_members: int) -> None:
        where, fitted, n_outputs = "estimator.fitted", content["fitted"], network.n_outputs
        for name in _OF_TARGET:
            values = fitted["target"][name]
            Items(Anything(), n_outputs).check(values, f"{where}.target.{name}")
            setattr(self, f"target_{name}_", np.array(values, dtype=np.float64))
        if np.any(self.target_scale_ <= 0) or np.any(self.target_min_ > self.target_max_):
            raise ValueError(f"{where}.target has a scale or a range that is none")
        if n_outputs > 1 and not fitted["several"]:
            raise ValueError(f"{where}.several is False, but there are {n_outputs} outputs")
        self._several = fitted["several"]
        Items(Anything(), n_outputs).check(fitted["scores"], f"{where}.scores")
        self._scores = [
            scores_of(own, n_members, f"{where}.scores[{i}]")
            for i, own in enumerate(fitted["scores"])
        ]

    def _decoded(self, outputs: Array) -> Array:
        values = outputs * self.target_scale_ + self.target_mean_
        return np.clip(values, self.target_min_, self.target_max_)

    def _shaped(self, values: Array) -> Array:
        return values if self._several else values[:, 0]

    def _target(self, y: Any, n_samples: int) -> Target:
        y = np.asarray(y)
        check_target(y, n_samples)
        y = _as_values(y)
        columns = y.reshape(len(y), -1)
        mean, scale = columns.mean(axis=0), columns.std(axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        standardised = (columns - mean) / scale
        attributes = {
            "target_mean_": mean,
            "target_scale_": scale,
            "target_min_": columns.min(axis=0),
            "target_max_": columns.max(axis=0),
            "_several": y.ndim == 2,
        }
        return Target(standardised, columns.shape[1], standardised[:, 0], attributes)

    def _loss(self) -> Loss:
        return LOSSES["mse"]

    def _judged(
        self, target: Target, held_out: list[HeldOut], weights: Array | None
    ) -> dict[str, Any]:
        known = target.attributes
        low, high = known["target_min_"], known["target_max_"]

        def decoded(values: Array) -> Array:
            return np.clip(values * known["target_scale_"] + known["target_mean_"], low, high)

        found = [HeldOut(one.rows, decoded(one.outputs)) for one in held_out]
        truth = decoded(target.values)
        mean = mean_of_held_out(found, len(truth))
        return {
            "oof_predictions_": mean if known["_several"] else mean[:, 0],
            "fold_scores_": np.array([_r2(truth[one.rows], one.outputs) for one in found]),
            "_scores": [
                sorted_scores([np.abs(truth[one.rows] - one.outputs)[:, k] for one in found])
                for k in range(target.n_outputs)
            ],
        }

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _as_values(y: Array) -> Array:
    try:
        values = y.astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"a regressor's y must hold numbers, got {y.dtype} such as {y.flat[0]!r}; "
            "TabularClassifier takes classes"
        ) from None
    if not np.isfinite(values).all():
        raise ValueError("y holds infinite values, or numbers that float64 cannot hold")
    if values.ndim == 2 and values.shape[1] == 1:
        return values[:, 0]
    if values.ndim not in (1, 2):
        raise ValueError(f"y must have one or two dimensions, got {values.ndim}")
    return values


def _r2(truth: Array, predictions: Array) -> float:
    return float(r2_score(truth, predictions)) if len(truth) > 1 else np.nan
