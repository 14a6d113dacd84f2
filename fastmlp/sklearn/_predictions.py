"""The outputs of a fitted estimator, computed by its backend."""

from __future__ import annotations

import threading
from typing import Any

from numpy.typing import NDArray

from fastmlp._locks import make_locks
from fastmlp.backends.base import Backend, get_backend
from fastmlp.backends.bound import Bound
from fastmlp.network import MLP

Array = NDArray[Any]


class Predictions:
    """A session that follows a network, which others may change; one thread uses it at a time."""

    def __init__(self) -> None:
        self._bound: tuple[Any, Bound | None] = (None, None)
        make_locks(self)

    def make_locks(self) -> None:
        """Make the lock; not for users."""
        self._lock = threading.Lock()

    def outputs(self, network: MLP, X: Any, backend: str | Backend, n_threads: int | None) -> Array:
        """Return the outputs of rows."""
        structure = (network.layer_sizes, network.hidden_activations, network.output_activation)
        key = (*structure, network.dtype, backend, n_threads)
        with self._lock:
            known, bound = self._bound
            if bound is None or known != key:
                bound = Bound(_available(backend).bind(network, n_threads=n_threads))
                self._bound = (key, bound)
            return bound.predicting(network.parameters).predict(X, "outputs")


def _available(backend: str | Backend) -> Backend:
    """Return a backend, or the reference where it is not installed: any can predict."""
    try:
        return get_backend(backend)
    except ImportError:
        return get_backend("numpy")
