"""Our own backends, called through a session, and through `Trainer.fit`."""

from __future__ import annotations

import numpy as np

from fastmlp.backends.base import available_backends, get_backend
from fastmlp.benchmark.contestants.base import Array, Contestant, Run, mean_over_samples
from fastmlp.benchmark.workloads import Workload
from fastmlp.losses import LOSSES
from fastmlp.network import MLP
from fastmlp.predictor import Predictor
from fastmlp.targets import prepare_targets
from fastmlp.trainer import Trainer


class OurBackend(Contestant):
    """A backend of fastmlp, ours or a stranger's, by name.

    Examples
    --------
    >>> OurBackend("numpy").name
    'numpy'
    """

    def __init__(self, backend: str) -> None:
        self.name = backend  # type: ignore[misc]

    def missing(self) -> str | None:
        return available_backends()[self.name]

    def prepare(self, workload: Workload, network: MLP, X: Array, y: Array, n_threads: int) -> Run:
        return _SessionRun(self.name, workload, network, X, y, n_threads)


class _SessionRun(Run):
    predictor: Predictor | None

    def __init__(
        self, backend: str, workload: Workload, network: MLP, X: Array, y: Array, n_threads: int
    ) -> None:
        self.backend, self.workload, self.n_threads = backend, workload, _limit(n_threads)
        self.X = X
        self.targets = prepare_targets(
            y,
            LOSSES[workload.loss],
            network.output_activation,
            network.n_outputs,
            network.dtype,
        )
        self.start(network)

    def start(self, network: MLP) -> None:
        self.network, self.predictor = network, None
        self.session = get_backend(self.backend).bind(
            network,
            LOSSES[self.workload.loss],
            self.workload.optimizer,
            batch_size=self.workload.batch_size,
            n_threads=self.n_threads,
        )
        self.session.keep(self.X, self.targets)  # as a trainer does for a fit

    def epoch(self, order: Array) -> float:
        self.predictor = None  # made for the parameters before
        size = self.session.batch_size
        rates = np.full(-(-len(order) // size), self.workload.optimizer.learning_rate)
        losses = self.session.train(self.X, self.targets, order, rates)
        return mean_over_samples(losses, len(order), size)

    def outputs(self, X: Array) -> Array:
        if self.predictor is None:
            network = self.network.copy()
            network.parameters = self.session.store().parameters
            self.predictor = Predictor(network, self.backend, self.n_threads)
        return self.predictor.predict_proba(X)


def _limit(n_threads: int) -> int | None:
    """Let the backend choose as BLAS does, within the cores that its process was given."""
    return 1 if n_threads == 1 else None


class OurTrainer(Contestant):
    """`Trainer.fit` with the Numba backend: what a session's epoch costs when users call it.

    Examples
    --------
    >>> OurTrainer().name
    'numba-fit'
    """

    name = "numba-fit"
    packages = ("numba",)

    def prepare(self, workload: Workload, network: MLP, X: Array, y: Array, n_threads: int) -> Run:
        return _TrainerRun(workload, network, X, y, n_threads)


class _TrainerRun(Run):
    def __init__(
        self, workload: Workload, network: MLP, X: Array, y: Array, n_threads: int
    ) -> None:
        self.X, self.y, self.workload, self.n_threads = X, y, workload, _limit(n_threads)
        self.start(network)

    def start(self, network: MLP) -> None:
        self.trainer = Trainer(
            network.copy(),  # which it trains
            self.workload.loss,
            self.workload.optimizer,
            batch_size=self.workload.batch_size,
            backend="numba",
            n_threads=self.n_threads,
        )

    def epoch(self, order: Array) -> float:
        n = len(order)  # the trainer draws its own order
        history = self.trainer.fit(self.X[:n], self.y[:n], epochs=1, verbose=False)
        return float(history["loss"][-1])

    def outputs(self, X: Array) -> Array:
        return self.trainer.predict_proba(X)
