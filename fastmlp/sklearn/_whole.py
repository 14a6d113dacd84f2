"""Going back to the last whole epoch, where something breaks off the fit of an estimator."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class _Moment:
    """All attributes of an estimator, and what training changes within them."""

    attributes: dict[str, Any]
    #: Of curves, which only grow.
    lengths: dict[str, int]
    optimizer: Any
    parameters: Array | None
    #: Those that early stopping would choose.
    best: Array | None = None

    @classmethod
    def of(cls, estimator: Any, best: Array | None = None) -> _Moment:
        attributes = dict(vars(estimator))
        network = attributes.get("_network")
        return cls(
            attributes,
            {name: len(value) for name, value in attributes.items() if isinstance(value, list)},
            copy.copy(attributes.get("_optimizer")),
            None if network is None else network.parameters.copy(),
            best,
        )

    def restore(self, estimator: Any) -> None:
        attributes = dict(self.attributes)
        for name, length in self.lengths.items():
            del attributes[name][length:]
        if self.optimizer is not None:
            attributes["_optimizer"] = copy.copy(self.optimizer)
        if self.parameters is not None:
            attributes["_network"].parameters = self.parameters
        estimator.__dict__ = attributes


class Whole:
    """Keeps what an estimator was after its last whole epoch, or before its fit.

    As a context it goes back to that, where an error or an interrupt leaves it. Random numbers
    that were drawn stay drawn: others may draw from the same generator.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
    """

    def __init__(self, estimator: Any) -> None:
        self._estimator = estimator
        self._kept = _Moment.of(estimator)
        self._first: _Moment | None = None

    def begin(self) -> None:
        """Keep the first weights of an estimator that never was fitted.

        An interrupt leaves them, as with scikit-learn; an error leaves it without any.
        """
        if "coefs_" not in self._kept.attributes:
            self._first = _Moment.of(self._estimator)

    def keep(self, best: Array | None = None) -> None:
        """Keep what the estimator is now, after a whole epoch, unless it diverged."""
        moment = _Moment.of(self._estimator, best)
        if moment.parameters is not None and np.isfinite(moment.parameters).all():
            self._kept = moment
            self._first = None

    def interrupted(self) -> Array | None:
        """Go back, and return the best parameters so far, where early stopping keeps them."""
        moment = self._kept if self._first is None else self._first
        moment.restore(self._estimator)
        return moment.best

    def __enter__(self) -> Whole:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._kept.restore(self._estimator)
