"""What a contestant is: a library, or one of our backends, that trains a workload."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastmlp.benchmark.workloads import Workload
from fastmlp.network import MLP

Array = NDArray[Any]


class Run(ABC):
    """A network in the hands of a contestant, ready to train."""

    def epoch(self, order: Array) -> float:
        """Train over the rows that `order` lists, in batches; return the mean loss of samples.

        Every batch's loss is taken before its update. A contestant that draws its own order
        uses the length alone.
        """
        raise NotImplementedError(f"{type(self).__name__} does not train")

    @abstractmethod
    def outputs(self, X: Array) -> Array:
        """Return the network's outputs for rows."""


class Contestant(ABC):
    """Somebody who can train a workload, or only predict with its network.

    Examples
    --------
    >>> from fastmlp.benchmark.contestants import contestant
    >>> contestant("numpy").trains
    True
    """

    name: ClassVar[str]
    #: Packages that must be installed.
    packages: ClassVar[tuple[str, ...]] = ()
    trains: ClassVar[bool] = True
    #: Share of an epoch that is timed, for those that would take minutes; seconds are scaled up.
    share: ClassVar[float] = 1.0

    def reason_against(self, workload: Workload) -> str | None:
        """Return why this contestant cannot take the workload, or None."""
        for package in self.packages:
            if importlib.util.find_spec(package) is None:
                return f"{package} is not installed (pip install 'fastmlp[bench]')"
        return self._refusal(workload)

    def _refusal(self, workload: Workload) -> str | None:
        return None

    @abstractmethod
    def prepare(self, workload: Workload, network: MLP, X: Array, y: Array, n_threads: int) -> Run:
        """Return a run that starts from the network's weights."""


def one_hot(y: Array, n_classes: int, dtype: str) -> Array:
    """Return class numbers as rows of zeros with a single one.

    Examples
    --------
    >>> one_hot(np.array([1, 0]), 2, "float32")
    array([[0., 1.], [1., 0.]], dtype=float32)
    """
    return np.eye(n_classes, dtype=dtype)[y]


def mean_over_samples(losses: Any, n_samples: int, batch_size: int) -> float:
    """Return the mean loss of samples, from every batch's mean; the last batch may be smaller.

    Examples
    --------
    >>> mean_over_samples([1.0, 4.0], n_samples=3, batch_size=2)
    2.0
    """
    sizes = np.full(len(losses), batch_size)
    sizes[-1] = n_samples - batch_size * (len(losses) - 1)
    return float(np.average(np.asarray(losses, dtype=np.float64), weights=sizes))
