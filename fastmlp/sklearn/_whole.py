"""Going back to the last whole epoch, where something breaks off the fit of an estimator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.sklearn._learned import Learned

Array = NDArray[Any]


@dataclass(frozen=True)
class Moment:
    """All attributes of an estimator, and what training changes within them."""

    attributes: dict[str, Any]
    #: Of curves, which only grow.
    lengths: dict[str, int]
    parameters: Array | None
    #: Those that early stopping would choose.
    best: Array | None = None

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> Moment:
        """Return the moment at which the attributes are these."""
        network = attributes.get("_network")
        return cls(
            dict(attributes),
            {name: len(value) for name, value in attributes.items() if isinstance(value, list)},
            None if network is None else network.parameters.copy(),
        )

    def attributes_again(self) -> dict[str, Any]:
        """Return the attributes, with curves and weights as they were."""
        attributes = dict(self.attributes)
        for name, length in self.lengths.items():
            del attributes[name][length:]
        if self.parameters is not None:
            attributes["_network"].parameters = self.parameters
        return attributes


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
        self._kept: Moment = estimator._moment()
        self._first: Moment | None = None

    def begin(self) -> None:
        """Keep the first weights of an estimator that never was fitted.

        An interrupt leaves them, as with scikit-learn; an error leaves it without any.
        """
        if "coefs_" not in self._kept.attributes:
            self._first = self._estimator._moment()

    def keep(self, best: Array | None = None) -> None:
        """Keep what the estimator is now, after a whole epoch, unless it diverged."""
        moment = replace(self._estimator._moment(), best=best)
        if moment.parameters is not None and np.isfinite(moment.parameters).all():
            self._kept = moment
            self._first = None

    def adopt(self, learned: Learned, best: Array | None) -> None:
        """Let the estimator adopt what whole epochs changed, and keep it."""
        self._estimator._adopt(learned)
        self.keep(best)

    def interrupted(self) -> Array | None:
        """Go back, and return the best parameters so far, where early stopping keeps them."""
        moment = self._kept if self._first is None else self._first
        self._estimator._return_to(moment)
        return moment.best

    def __enter__(self) -> Whole:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._estimator._return_to(self._kept)
