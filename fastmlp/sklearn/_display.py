"""The loss curve of a fitted estimator, in the style of scikit-learn's displays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sklearn.utils.validation import check_is_fitted

from fastmlp.history import History


class LossCurveDisplay:
    """The training loss, and the validation loss where there is one, over the epochs.

    Make it by `from_estimator`; every argument becomes an attribute.

    Parameters
    ----------
    loss_curve : sequence of float
        The training loss of each epoch.
    validation_loss_curve : sequence of float, optional
        The validation loss of each epoch; NaN where there was none.
    estimator_name : str, optional
        Shown in the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D

    Examples
    --------
    >>> display = LossCurveDisplay([0.5, 0.3, 0.2], estimator_name="small").plot()
    >>> display.ax_.get_xlabel(), len(display.lines_)
    ('Epoch', 1)
    """

    def __init__(
        self,
        loss_curve: Sequence[float],
        validation_loss_curve: Sequence[float] | None = None,
        estimator_name: str | None = None,
    ) -> None:
        self.loss_curve = loss_curve
        self.validation_loss_curve = validation_loss_curve
        self.estimator_name = estimator_name

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, name: str | None = None, ax: Any = None, **kwargs: Any
    ) -> LossCurveDisplay:
        """Draw the loss curve of an estimator (needs ``fastmlp[plot]``).

        Parameters
        ----------
        estimator : fitted estimator, or Pipeline that ends in one
            Anything that has a `loss_curve_`.
        name : str, optional
            Default: the name of the estimator's class.
        ax : matplotlib Axes, optional
            Default: a new figure.
        **kwargs : dict
            For matplotlib's `plot`.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        ValueError
            If it has no loss curve.
        ImportError
            If matplotlib is not installed.

        Examples
        --------
        >>> from fastmlp.sklearn import MLPRegressor
        >>> model = MLPRegressor(solver="sgd", tol=0.1, backend="numpy").fit([[0], [1]], [0, 1])
        >>> len(LossCurveDisplay.from_estimator(model).loss_curve) == model.n_iter_
        True
        """
        check_is_fitted(estimator)
        last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
        if not hasattr(last, "loss_curve_"):
            raise ValueError(
                f"{type(last).__name__} has no loss curve; fit it with solver 'sgd' or 'adam'"
            )
        display = cls(
            last.loss_curve_,
            _validation_losses(last),
            type(last).__name__ if name is None else name,
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, *, name: str | None = None, ax: Any = None, **kwargs: Any) -> LossCurveDisplay:
        """Draw the curves and return self; arguments as in `from_estimator`.

        Examples
        --------
        >>> len(LossCurveDisplay([0.5, 0.3], [0.6, 0.5]).plot().lines_)
        2
        """
        try:
            import matplotlib.pyplot as plt
        except ImportError as error:
            raise ImportError(
                "LossCurveDisplay needs matplotlib: pip install 'fastmlp[plot]'"
            ) from error
        if ax is None:
            _, ax = plt.subplots()
        name = self.estimator_name if name is None else name
        prefix = "" if name is None else f"{name}: "
        curves = [("training loss", self.loss_curve)]
        if self.validation_loss_curve is not None:
            curves.append(("validation loss", self.validation_loss_curve))
        self.lines_ = []
        for what, values in curves:
            style = {"label": prefix + what, **kwargs}
            self.lines_ += ax.plot(range(1, len(values) + 1), values, **style)
        ax.set(xlabel="Epoch", ylabel="Loss")
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _validation_losses(estimator: Any) -> list[float] | None:
    """Return the validation loss of each epoch, NaN where a fit had no validation set."""
    if getattr(estimator, "validation_loss_curve_", None) is None:
        return None
    return History(estimator._records)["val_loss"]
