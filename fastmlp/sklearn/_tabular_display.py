"""What the members of an estimator for tables learned, and how good they are on rows held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from fastmlp.sklearn._tabular import Tabular

Array = NDArray[Any]

_MOST_BINS = 10


class MemberCurvesDisplay:
    """A curve over the epochs for every member, with a dot at its best epoch.

    Make it by `from_estimator`; every argument becomes an attribute.

    Parameters
    ----------
    curves : sequence of sequence of float
        The column's values of every member's epochs.
    column : str
        Of the histories.
    best_epochs : sequence of int or None, optional
        Every member's best epoch, from 1.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D

    Examples
    --------
    >>> display = MemberCurvesDisplay([[0.5, 0.3], [0.6, 0.4]], "val_loss").plot()
    >>> display.ax_.get_ylabel(), len(display.lines_)
    ('val_loss', 2)
    """

    def __init__(
        self,
        curves: Sequence[Sequence[float]],
        column: str,
        best_epochs: Sequence[int] | None = None,
    ) -> None:
        self.curves = curves
        self.column = column
        self.best_epochs = best_epochs

    @classmethod
    def from_estimator(
        cls, estimator: Any, column: str | None = None, *, ax: Any = None, **kwargs: Any
    ) -> Self:
        """Draw the curves of a fitted estimator (needs ``fastmlp[plot]``).

        Parameters
        ----------
        estimator : TabularClassifier or TabularRegressor, or Pipeline that ends in one
        column : str, optional
            Of the members' histories, such as "loss" or "val_accuracy". Default: what their best
            epochs were chosen by.
        ax : matplotlib Axes, optional
            Default: a new figure.
        **kwargs : dict
            For matplotlib's `plot`.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        ValueError
            If it was loaded from a file, which holds no curves, or they have no such column.
        TypeError
            If it is another estimator.
        ImportError
            If matplotlib is not installed.

        Examples
        --------
        >>> from fastmlp.sklearn import TabularRegressor
        >>> model = TabularRegressor(n_members=2, n_epochs=3, backend="numpy", random_state=0)
        >>> model = model.fit([[0.0], [1.0], [2.0], [3.0]], [0.0, 1.0, 2.0, 3.0])
        >>> [len(curve) for curve in MemberCurvesDisplay.from_estimator(model).curves]
        [3, 3]
        """
        tabular = _tabular(estimator)
        histories = [member.history for member in tabular.ensemble_.members]
        if not all(map(len, histories)):
            raise ValueError(
                f"this {type(tabular).__name__} has no learning curves: files hold none"
            )
        column = tabular.watched_ if column is None else column
        display = cls([history[column] for history in histories], column, tabular.best_epochs_)
        return display.plot(ax=ax, **kwargs)

    def plot(self, *, ax: Any = None, **kwargs: Any) -> Self:
        """Draw the curves and return self; arguments as in `from_estimator`.

        Examples
        --------
        >>> len(MemberCurvesDisplay([[0.5, 0.3]], "loss", [2]).plot().lines_)
        1
        """
        ax = _axes(ax)
        self.lines_ = []
        for number, curve in enumerate(self.curves):
            style = {"label": f"member {number + 1}", "alpha": 0.7, **kwargs}
            self.lines_ += ax.plot(range(1, len(curve) + 1), curve, **style)
            if self.best_epochs is not None:
                best = self.best_epochs[number]
                ax.plot(best, curve[best - 1], "o", color=self.lines_[-1].get_color())
        ax.set(xlabel="Epoch", ylabel=self.column)
        ax.legend(fontsize="small")
        self.ax_, self.figure_ = ax, ax.figure
        return self


class OutOfFoldDisplay:
    """Predictions of rows by the members that were not trained on them, against the truth.

    Of values, a dot for every row; of classes, how often the likeliest class is right, by how
    likely it is said to be. Make it by `from_estimator`; every argument becomes an attribute.

    Parameters
    ----------
    predicted, true : ndarray
        Values; or mean probabilities of the likeliest class, and shares of rows where it is right.
    of_values : bool

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> display = OutOfFoldDisplay(np.array([1.1, 1.9]), np.array([1.0, 2.0]), True).plot()
    >>> display.ax_.get_xlabel()
    'Predicted out of fold'
    """

    def __init__(self, predicted: Array, true: Array, of_values: bool) -> None:
        self.predicted = predicted
        self.true = true
        self.of_values = of_values

    @classmethod
    def from_estimator(cls, estimator: Any, y: ArrayLike, *, ax: Any = None, **kwargs: Any) -> Self:
        """Draw what a fitted estimator predicted of the rows of its `fit` (``fastmlp[plot]``).

        Parameters
        ----------
        estimator : TabularClassifier or TabularRegressor, or Pipeline that ends in one
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The target that it was fitted to.
        ax : matplotlib Axes, optional
            Default: a new figure.
        **kwargs : dict
            For matplotlib's `plot`.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        ValueError
            If y has another length than the target of `fit`, or the estimator was loaded from a
            file.
        TypeError
            If it is another estimator.
        ImportError
            If matplotlib is not installed.

        Examples
        --------
        >>> from fastmlp.sklearn import TabularRegressor
        >>> model = TabularRegressor(n_members=2, n_epochs=3, backend="numpy", random_state=0)
        >>> y = [0.0, 1.0, 2.0, 3.0]
        >>> model = model.fit([[0.0], [1.0], [2.0], [3.0]], y)
        >>> OutOfFoldDisplay.from_estimator(model, y).true
        array([0., 1., 2., 3.])
        """
        tabular = _tabular(estimator)
        of_values = hasattr(tabular, "target_mean_")
        name = "oof_predictions_" if of_values else "oof_probabilities_"
        predicted, true = getattr(tabular, name, None), np.asarray(y)
        if predicted is None:
            raise ValueError(
                f"this {type(tabular).__name__} has no predictions of rows held out: files hold "
                "none"
            )
        if len(true) != len(predicted):
            raise ValueError(f"y has {len(true)} rows, but fit had {len(predicted)}")
        known = np.isfinite(predicted.reshape(len(predicted), -1)).all(axis=1)
        predicted, true = predicted[known], true[known]
        if not of_values:
            right = tabular.classes_[predicted.argmax(axis=1)] == true
            predicted, true = _reliability(predicted.max(axis=1), right)
        return cls(predicted, true, of_values).plot(ax=ax, **kwargs)

    def plot(self, *, ax: Any = None, **kwargs: Any) -> Self:
        """Draw the dots and return self; arguments as in `from_estimator`.

        Examples
        --------
        >>> OutOfFoldDisplay(np.array([0.9]), np.array([1.0]), False).plot().ax_.get_ylabel()
        'Share that is right'
        """
        ax = _axes(ax)
        style = {"alpha": 0.5 if self.of_values else 1.0, **kwargs}
        ax.plot(self.predicted, self.true, "." if self.of_values else "o-", **style)
        both = np.concatenate([np.ravel(self.predicted), np.ravel(self.true)])
        ends = (both.min(), both.max())
        ax.plot(ends, ends, "--", color="grey", linewidth=1)
        ax.set(**_LABELS[self.of_values])
        self.ax_, self.figure_ = ax, ax.figure
        return self


_LABELS: Mapping[bool, Mapping[str, str]] = {
    True: {"xlabel": "Predicted out of fold", "ylabel": "True"},
    False: {"xlabel": "Probability of the likeliest class", "ylabel": "Share that is right"},
}


def _tabular(estimator: Any) -> Tabular:
    """Return the fitted estimator for tables that a pipeline ends in."""
    last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    if not isinstance(last, Tabular):
        raise TypeError(
            f"estimator must be a TabularClassifier or TabularRegressor, got {type(last).__name__}"
        )
    check_is_fitted(last)
    return last


def _reliability(probabilities: Array, right: Array) -> tuple[Array, Array]:
    """Return mean probabilities and shares that are right, of groups of equally many rows."""
    order = probabilities.argsort(kind="stable")
    groups = np.array_split(order, min(_MOST_BINS, len(order)))
    means = [(probabilities[group].mean(), right[group].mean()) for group in groups]
    predicted, true = np.array(means).T
    return predicted, true


def _axes(ax: Any) -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("displays need matplotlib: pip install 'fastmlp[plot]'") from error
    return plt.subplots()[1] if ax is None else ax
