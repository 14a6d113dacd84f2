"""What a contestant is: a library, or one of our backends, that trains a workload."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastmlp._weights import batch_weights
from fastmlp.benchmark.workloads import Workload
from fastmlp.network import MLP

Array = NDArray[Any]

#: How the reason begins where a contestant has no words for a workload.
NOT_EXPRESSIBLE = "not expressible"


class Run(ABC):
    """A network in the hands of a contestant, ready to train."""

    def start(self, network: MLP) -> None:
        """Begin anew from a network's parameters, with an optimizer that has seen nothing.

        What was compiled stays compiled. A run that has just been prepared has started.
        """
        raise NotImplementedError(f"{type(self).__name__} does not train")

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
    #: Packages that must be installed, and the extra of ours that brings them.
    packages: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = "bench"
    trains: ClassVar[bool] = True
    #: Share of an epoch that is timed, for those that would take minutes; seconds are scaled up.
    share: ClassVar[float] = 1.0

    def reason_against(self, workload: Workload) -> str | None:
        """Return why this contestant cannot take the workload, or None."""
        reason = self.missing()
        if reason:
            return reason
        refusal = self._refusal(workload)
        return f"{NOT_EXPRESSIBLE}: {refusal}" if refusal else None

    def missing(self) -> str | None:
        """Return what keeps this contestant from taking part here at all, or None."""
        for package in self.packages:
            if importlib.util.find_spec(package) is None:
                return f"{package} is not installed (pip install 'fastmlp[{self.extra}]')"
        return None

    def _refusal(self, workload: Workload) -> str | None:
        """Return what the workload has and the contestant lacks, or None."""
        return None

    @abstractmethod
    def prepare(self, workload: Workload, network: MLP, X: Array, y: Array, n_threads: int) -> Run:
        """Return a run that starts from the network's weights."""


#: Hidden activations, and outputs with their losses, that whoever differentiates by itself has.
HIDDEN = ("relu", "sigmoid", "tanh")
HEADS = (("softmax", "cross_entropy"), ("softmax", "mse"), ("sigmoid", "cross_entropy"))


def what_is_missing(
    workload: Workload,
    *,
    hidden: Sequence[str] = HIDDEN,
    heads: Sequence[tuple[str, str]] = HEADS,
    optimizers: Sequence[str] = ("sgd", "adam"),
) -> str | None:
    """Return what a workload has that is not among these, or None.

    Examples
    --------
    >>> from fastmlp.benchmark.workloads import WORKLOADS
    >>> what_is_missing(WORKLOADS["first-adam"], optimizers=["sgd"])
    'has no adam'
    """
    head = (workload.output_activation, workload.loss)
    if workload.hidden_activation not in hidden:
        return f"has no {workload.hidden_activation} hidden layers"
    if head not in heads:
        return "has no {} outputs with {} loss".format(*head)
    if workload.optimizer.name not in optimizers:
        return f"has no {workload.optimizer.name}"
    return None


class Differentiating(Contestant):
    """One who differentiates by itself, so that any of our networks can be put in its words.

    Examples
    --------
    >>> from fastmlp.benchmark.contestants import contestant
    >>> isinstance(contestant("pytorch"), Differentiating)
    True
    """

    def _refusal(self, workload: Workload) -> str | None:
        return what_is_missing(workload)


def one_hot(y: Array, n_classes: int, dtype: str) -> Array:
    """Return class numbers as rows of zeros with a single one.

    Examples
    --------
    >>> one_hot(np.array([1, 0]), 2, "float32")
    array([[0., 1.], [1., 0.]], dtype=float32)
    """
    return np.eye(n_classes, dtype=dtype)[y]


def targets(workload: Workload, y: Array) -> Array:
    """Return class numbers as libraries want them: as they are, one-hot, or a column of 0 and 1.

    Examples
    --------
    >>> from fastmlp.benchmark.workloads import WORKLOADS
    >>> targets(WORKLOADS["higgs"], np.array([1, 0]))
    array([[1.],
           [0.]], dtype=float32)
    """
    if workload.output_activation == "sigmoid":
        return y[:, None].astype(workload.dtype)
    if workload.loss == "mse":
        return one_hot(y, workload.layer_sizes[-1], workload.dtype)
    return np.asarray(y, dtype=np.int64)


def mean_over_samples(losses: Any, n_samples: int, batch_size: int) -> float:
    """Return the mean loss of samples, from every batch's mean; the last batch may be smaller.

    Examples
    --------
    >>> mean_over_samples([1.0, 4.0], n_samples=3, batch_size=2)
    2.0
    """
    sizes = batch_weights(n_samples, batch_size, None)
    return float(np.average(np.asarray(losses, dtype=np.float64), weights=sizes))
