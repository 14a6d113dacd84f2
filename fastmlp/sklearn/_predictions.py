"""The outputs of a fitted estimator, computed by its backend."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from fastmlp.backends.base import Backend, get_backend
from fastmlp.backends.bound import Bound
from fastmlp.network import MLP

Array = NDArray[Any]


class Predictions:
    """Sessions that follow a network, which others may change: one for each thread at a time."""

    def __init__(self) -> None:
        #: What the sessions were bound for, and those that no thread is using.
        self._idle: tuple[Any, list[Bound]] = (None, [])

    def outputs(self, network: MLP, X: Any, backend: str | Backend, n_threads: int | None) -> Array:
        """Return the outputs of rows."""
        structure = (network.layer_sizes, network.hidden_activations, network.output_activation)
        key = (*structure, network.dtype, backend, n_threads)
        known, idle = self._idle
        if known != key:
            idle = []
            self._idle = key, idle
        try:
            bound = idle.pop()
        except IndexError:
            bound = Bound(_available(backend).local.bind(network, n_threads=n_threads))
        try:
            return bound.predicting(network.parameters).predict(X, "outputs")
        finally:
            idle.append(bound)


def _available(backend: str | Backend) -> Backend:
    """Return a backend, or the reference where it is not installed: any can predict."""
    try:
        return get_backend(backend)
    except ImportError:
        return get_backend("numpy")
