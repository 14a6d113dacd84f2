"""Prediction by a network that is trained: many rows at once, or one at a time without delay."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmlp._frames import check_names, column_names
from fastmlp._locks import make_locks
from fastmlp.backends.base import Backend, get_backend
from fastmlp.network import MLP

Array = NDArray[Any]


class _Bound:
    """A session that predicts by the parameters that a network had, and computes single rows."""

    def __init__(self, network: MLP, backend: str | Backend, n_threads: int | None) -> None:
        self.session = get_backend(backend).local.bind(network, batch_size=1, n_threads=n_threads)
        make_locks(self)
        self.row_logits = self.session.row_function("linear")
        self.row_outputs = self.session.row_function(network.output_activation.name)

    def make_locks(self) -> None:
        """Make the lock; not for users."""
        #: A session serves one thread at a time.
        self.lock = threading.Lock()


class Predictor:
    """Predicts by a network as it is now, on a backend.

    It copies the parameters when it is made: after more training, call `refresh`. Copied or
    pickled, it keeps predicting by its own, and its network goes with it for `refresh`. With the
    Numba backend one row takes microseconds, call included, if it is a C-contiguous NumPy array
    of the network's dtype, of shape (n_inputs,) or (1, n_inputs); anything else that `MLP` takes
    is right too, but checked and converted first. Several threads may predict at once.

    Parameters
    ----------
    network : MLP
        Read, never written.
    backend : str or Backend, default "auto"
        A name, an instance, or "auto": Numba where it is installed, else NumPy.
    n_threads : int or None, default None
        For many rows; None lets the backend choose.

    Raises
    ------
    ValueError, ImportError, TypeError
        If the backend is unknown or cannot be loaded, or `n_threads` is less than 1.

    Examples
    --------
    >>> predictor = Predictor(MLP([2, 3]), backend="numpy")
    >>> predictor.predict(np.zeros((4, 2)))
    array([0, 0, 0, 0])
    """

    def __init__(
        self, network: MLP, backend: str | Backend = "auto", n_threads: int | None = None
    ) -> None:
        self.network = network
        self._choices = backend, n_threads
        self._bound = _Bound(network.copy(), backend, n_threads)
        # The object by which NumPy's own arrays say float32 or float64, quick to compare with.
        self._dtype = np.dtype(network.dtype.type)
        self._n_outputs = network.n_outputs
        self._row, self._single_row = (network.n_inputs,), (1, network.n_inputs)

    def refresh(self) -> None:
        """Take over the network's current parameters.

        Predictions that are under way in other threads end with those that they began with.

        Examples
        --------
        >>> network = MLP([1, 1], output_activation="linear")
        >>> predictor = Predictor(network, backend="numpy")
        >>> network.parameters = [2.0, 0.5]
        >>> predictor.refresh()
        >>> predictor.predict([[3.0]])
        array([6.5], dtype=float32)
        """
        self._bound = _Bound(self.network.copy(), *self._choices)

    def logits(self, X: ArrayLike) -> Array:
        """Return the last layer's values before the output activation.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_inputs) or (n_inputs,)

        Returns
        -------
        ndarray of shape (n_samples, n_outputs) or (n_outputs,)

        Raises
        ------
        ValueError
            If X has another width, is not numeric, masked, or holds NaN or infinite values; or if
            the logits are NaN or infinite.

        Examples
        --------
        >>> Predictor(MLP([2, 3]), backend="numpy").logits([[0.0, 0.0]])
        array([[0., 0., 0.]], dtype=float32)
        """
        logits = self._at_once(self._bound.row_logits, X)
        return self._predict(X, "logits") if logits is None else logits

    def predict_proba(self, X: ArrayLike) -> Array:
        """Return the network's outputs: probabilities for softmax and sigmoid, else values.

        Shapes and errors as for `logits`.

        Examples
        --------
        >>> Predictor(MLP([2, 2]), backend="numpy").predict_proba([[0.0, 0.0]])
        array([[0.5, 0.5]], dtype=float32)
        """
        outputs = self._at_once(self._bound.row_outputs, X)
        return self._predict(X, "outputs") if outputs is None else outputs

    def predict(self, X: ArrayLike) -> Array:
        """Return what `MLP.predict` returns: labels, or values.

        Examples
        --------
        >>> Predictor(MLP([2, 2]), backend="numpy").predict([[0.0, 0.0]])
        array([0])
        """
        if self.network.output_activation.name not in ("softmax", "sigmoid"):
            values = self.predict_proba(X)
            return values[..., 0][()] if self._n_outputs == 1 else values
        logits = self._at_once(self._bound.row_logits, X)
        return self._predict(X, "decisions") if logits is None else self.network.decide(logits)

    def _at_once(
        self, function: Callable[[Array, Array], bool] | None, X: ArrayLike
    ) -> Array | None:
        """Return what a row function writes, or None if X is not a row for it."""
        if (
            function is None
            or type(X) is not np.ndarray
            or X.dtype is not self._dtype
            or not X.flags.c_contiguous
        ):
            return None
        shape = X.shape
        if shape == self._row:
            out = np.empty(self._n_outputs, self._dtype)
            return out if function(X, out) else None
        if shape == self._single_row:
            out = np.empty((1, self._n_outputs), self._dtype)
            return out if function(X[0], out[0]) else None
        return None

    def _predict(self, X: ArrayLike, kind: str) -> Array:
        check_names(column_names(X), self.network.feature_names)
        bound = self._bound
        with bound.lock:
            return bound.session.predict(X, kind)

    def __reduce__(self) -> tuple[Any, ...]:
        parameters = self._bound.session.store().parameters
        shown = self.network
        if not np.array_equal(parameters, shown.parameters):
            shown = shown.copy()
            shown.parameters = parameters
        return _predictor_of, (shown, self.network, *self._choices)

    def __repr__(self) -> str:
        return f"Predictor({self.network!r})"


def _predictor_of(
    shown: MLP, network: MLP, backend: str | Backend, n_threads: int | None
) -> Predictor:
    """Return a predictor of `network` that predicts by the parameters of `shown`."""
    predictor = Predictor(shown, backend, n_threads)
    predictor.network = network
    return predictor
