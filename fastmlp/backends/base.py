"""The interface that every backend has, and the look-up of backends by name.

A backend binds a network, a loss and an optimizer; what comes back is a `Session`, which holds the
parameters in whatever layout the backend likes and trains them. Public methods check shapes and
dtypes once; the underscored methods that backends implement can rely on them.
"""

from __future__ import annotations

import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastmlp import _checks
from fastmlp._weights import total_weight
from fastmlp.losses import LOSSES, Loss
from fastmlp.network import MLP, as_rows
from fastmlp.optimizers import SGD, Optimizer
from fastmlp.regularization import Regularization
from fastmlp.targets import prepare_targets

Array = NDArray[Any]

#: Our own backends: name to module and class.
_BUILT_IN = {
    "numpy": ("fastmlp.backends.numpy_backend", "NumpyBackend"),
    "numba": ("fastmlp.backends.numba_backend", "NumbaBackend"),
}
_ENTRY_POINT_GROUP = "fastmlp.backends"


@dataclass
class TrainingState:
    """Everything that training changes, in the flat layout of `MLP.parameters`.

    Parameters
    ----------
    parameters : ndarray of shape (n_parameters,)
    moments : ndarray of shape (n_moments, n_parameters)
        The optimizer's.
    average : ndarray of shape (n_parameters,) or None
        The exponential moving average of the parameters, where one is kept.
    step : int
        Number of updates so far.

    Examples
    --------
    >>> state = TrainingState.initial(MLP([2, 3]), SGD(momentum=0.9), Regularization())
    >>> state.moments.shape
    (1, 9)
    """

    parameters: Array
    moments: Array
    average: Array | None
    step: int

    @classmethod
    def initial(
        cls, network: MLP, optimizer: Optimizer, regularization: Regularization
    ) -> TrainingState:
        """Return the state before the first update."""
        parameters = network.parameters.copy()
        return cls(
            parameters,
            np.zeros((optimizer.n_moments, len(parameters)), dtype=network.dtype),
            None if regularization.ema is None else parameters.copy(),
            0,
        )

    def copy(self) -> TrainingState:
        """Return an independent copy."""
        average = None if self.average is None else self.average.copy()
        return TrainingState(self.parameters.copy(), self.moments.copy(), average, self.step)


class Backend(ABC):
    """A way to compute.

    Subclasses implement `_bind`. They are chosen by an argument, by name or as an instance, and
    hold no state of any network.

    Examples
    --------
    >>> from fastmlp.backends import get_backend
    >>> session = get_backend("numpy").bind(MLP([2, 3]))
    >>> session.logits([[0.0, 0.0]])
    array([[0., 0., 0.]], dtype=float32)
    """

    name: ClassVar[str]

    def bind(
        self,
        network: MLP,
        loss: Loss | None = None,
        optimizer: Optimizer | None = None,
        regularization: Regularization | None = None,
        *,
        batch_size: int = 32,
        n_threads: int | None = None,
        seed: int = 0,
    ) -> Session:
        """Return a session that starts from the network's parameters.

        Parameters
        ----------
        network : MLP
            Read, never written.
        loss : Loss, optional
            Default: cross entropy for softmax and sigmoid, else mean squared error.
        optimizer : Optimizer, optional
            Default: ``SGD()``.
        regularization : Regularization, optional
            Default: none.
        batch_size : int, default 32
            The most rows in one training batch.
        n_threads : int or None, default None
            None lets the backend choose.
        seed : int, default 0
            Of dropout masks and noise.

        Raises
        ------
        ValueError, TypeError
            If the loss has no meaning for the network's output, or an argument is out of range.
        """
        loss = default_loss(network) if loss is None else loss
        loss.check_output(network.output_activation)
        loss.target_width(network.n_outputs)
        regularization = Regularization() if regularization is None else regularization
        regularization.dropout_rates(network.n_layers)
        if n_threads is not None:
            n_threads = _checks.integer(n_threads, "n_threads", at_least=1)
        return self._bind(
            network,
            loss,
            SGD() if optimizer is None else optimizer,
            regularization,
            _checks.integer(batch_size, "batch_size", at_least=1),
            n_threads,
            _checks.integer(seed, "seed", at_least=0),
        )

    @abstractmethod
    def _bind(
        self,
        network: MLP,
        loss: Loss,
        optimizer: Optimizer,
        regularization: Regularization,
        batch_size: int,
        n_threads: int | None,
        seed: int,
    ) -> Session: ...

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Session(ABC):
    """A network, a loss and an optimizer bound to a backend.

    Subclasses implement the underscored methods; `_train` has a default, the readable loop over
    `_loss_and_gradient` and `_update`. A session is used by one thread at a time.

    Parameters
    ----------
    network, loss, optimizer, regularization, batch_size, seed
        As `Backend.bind` checked them.
    """

    def __init__(
        self,
        network: MLP,
        loss: Loss,
        optimizer: Optimizer,
        regularization: Regularization,
        batch_size: int,
        seed: int,
    ) -> None:
        self.layer_shapes = network.layer_shapes
        self.n_inputs = network.n_inputs
        self.n_outputs = network.n_outputs
        self.n_parameters = network.n_parameters
        self.dtype = network.dtype
        self.output_activation = network.output_activation
        self.loss = loss
        self.optimizer = optimizer
        self.regularization = regularization
        self.batch_size = batch_size
        self.seed = seed
        #: Number of updates so far; dropout and noise depend on it.
        self.step = 0

    # State -----------------------------------------------------------------------------------

    def load(self, state: TrainingState) -> None:
        """Take over the parameters, moments, average and step of `state`, by copy.

        Raises
        ------
        ValueError
            If the arrays are not of this session's shapes.
        """
        wanted = (self.optimizer.n_moments, self.n_parameters)
        if state.parameters.shape != wanted[1:] or state.moments.shape != wanted:
            raise ValueError(
                f"the state must hold {wanted[1]} parameters and moments of shape {wanted}, "
                f"got {state.parameters.shape} and {state.moments.shape}"
            )
        if (state.average is None) != (self.regularization.ema is None):
            raise ValueError("the state must hold an average exactly where ema is set")
        self.step = state.step
        self._load(state)

    def store(self) -> TrainingState:
        """Return a copy of the parameters, moments, average and step."""
        return self._store()

    # Computing -------------------------------------------------------------------------------

    def logits(self, X: Any) -> Array:
        """Return the logits of rows, of shape (n_samples, n_outputs), by the current parameters.

        Raises
        ------
        ValueError
            If X has another width or is not numeric.
        """
        rows, single = as_rows(X, self.n_inputs)
        logits = self._logits(rows)
        return logits[0] if single else logits

    def outputs(self, X: Any) -> Array:
        """Return the outputs (probabilities, values) of rows; shapes as `logits`."""
        rows, single = as_rows(X, self.n_inputs)
        logits = self._logits(rows)
        outputs = self.output_activation.forward(logits, out=logits)
        return outputs[0] if single else outputs

    def row_function(self, output: str) -> Callable[[Array, Array], bool] | None:
        """Return a fast way to compute one row, or None where the backend has none.

        Parameters
        ----------
        output : str
            The name of the network's output activation, or "linear" for logits.

        Returns
        -------
        callable or None
            ``f(x, out)`` takes a row of shape (n_inputs,) and writes `out`, of shape
            (n_outputs,), by the session's current parameters: both contiguous and of the
            network's dtype, which it does not check. It returns False, and writes nothing, where
            the row, times the input scale, holds NaN or infinite values. Several threads may call
            it at once.
        """
        return None

    def loss_and_gradient(
        self,
        X: Any,
        y: Any,
        gradient: Array,
        sample_weight: Any = None,
        logits: Array | None = None,
    ) -> float:
        """Return the loss of rows, penalties included, and write its gradient.

        Dropout and noise are those of the next step.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_inputs)
            Any number of rows, at least one.
        y : array-like
            As `prepare_targets` describes.
        gradient : ndarray of shape (n_parameters,)
            Overwritten, never added to; in the network's dtype.
        sample_weight : array-like of shape (n_samples,), optional
            Weights at least 0 of the mean over samples.
        logits : ndarray of shape (n_samples, n_outputs), optional
            Where the rows' logits are written.
        """
        rows, targets, weights = self._checked(X, y, sample_weight)
        self._check_flat(gradient, "gradient")
        self._check_logits(logits, len(targets))
        loss = self._loss_and_gradient(rows, targets, weights, gradient, logits)
        return loss + self.penalty(total_weight(weights, len(targets)))

    def update(self, gradient: Array, learning_rate: float | None = None) -> None:
        """Clip `gradient`, apply one optimizer update, and count the step.

        Parameters
        ----------
        gradient : ndarray of shape (n_parameters,)
            Used as scratch.
        learning_rate : float, optional
            Default: the optimizer's.
        """
        self._check_flat(gradient, "gradient")
        rate = self.optimizer.learning_rate if learning_rate is None else learning_rate
        self._update(gradient, rate)

    def train(
        self,
        X: Any,
        y: Array,
        order: Array,
        learning_rates: Array,
        sample_weight: Array | None = None,
        logits: Array | None = None,
        penalties: Array | None = None,
    ) -> Array:
        """Train over the samples in the given order, in batches, one update a batch.

        Parameters
        ----------
        X : array of shape (n_samples, n_inputs), or SciPy sparse rows
            Any numeric dtype; converted row by row, scaled by the network's `input_scale`.
        y : ndarray
            As `prepare_targets` returns it.
        order : ndarray of int64
            Rows to visit; every batch takes the next `batch_size` of them, the last what is left.
        learning_rates : ndarray of float64, of shape (n_batches,)
        sample_weight : ndarray of shape (n_samples,), optional
        logits : ndarray of shape (len(order), n_outputs), optional
            Where each sample's logits are written, as they were before its batch's update.
        penalties : ndarray of float64, of shape (n_batches,), optional
            Where every batch's L1 and L2 penalties before its update are written.

        Returns
        -------
        ndarray of float64, of shape (n_batches,)
            Every batch's loss before its update, without the penalties on weights.

        Raises
        ------
        ValueError
            If shapes disagree, or `order` points outside the samples.
        """
        rows, _ = as_rows(X, self.n_inputs)
        order = np.ascontiguousarray(order, dtype=np.int64)
        n_batches = -(-len(order) // self.batch_size)
        learning_rates = np.ascontiguousarray(learning_rates, dtype=np.float64)
        if learning_rates.shape != (n_batches,):
            raise ValueError(
                f"{n_batches} batches need as many learning rates, got {learning_rates.shape}"
            )
        if len(y) != rows.shape[0]:
            raise ValueError(f"X has {rows.shape[0]} rows, but y has {len(y)}")
        if len(order) and (order.min() < 0 or order.max() >= rows.shape[0]):
            raise ValueError(f"order must point at rows 0 to {rows.shape[0] - 1}")
        if sample_weight is not None:
            sample_weight = self._weights(sample_weight, rows.shape[0])
        self._check_logits(logits, len(order))
        if penalties is not None and penalties.shape != (n_batches,):
            raise ValueError(f"penalties must have shape {(n_batches,)}, got {penalties.shape}")
        return self._train(rows, y, order, learning_rates, sample_weight, logits, penalties)

    def penalty(self, total_weight: float = 1.0) -> float:
        """Return the L1 and L2 penalties of the current weights, in a batch of this total weight.

        The weight matters to `DividedL2` only.
        """
        if not (self.regularization.l1 or self.regularization.l2):
            return 0.0
        return self.regularization.penalty(self._weight_matrices(), total_weight)

    # What a backend implements ---------------------------------------------------------------

    @abstractmethod
    def _load(self, state: TrainingState) -> None: ...

    @abstractmethod
    def _store(self) -> TrainingState: ...

    @abstractmethod
    def _weight_matrices(self) -> list[Array]:
        """Return the current weights of every layer, for penalties."""

    @abstractmethod
    def _logits(self, X: Any) -> Array: ...

    @abstractmethod
    def _loss_and_gradient(
        self,
        X: Any,
        y: Array,
        sample_weight: Array | None,
        gradient: Array,
        logits: Array | None = None,
    ) -> float:
        """Write the whole gradient, penalties included; return the loss without them."""

    @abstractmethod
    def _update(self, gradient: Array, learning_rate: float) -> None: ...

    def _train(
        self,
        X: Any,
        y: Array,
        order: Array,
        learning_rates: Array,
        sample_weight: Array | None,
        logits: Array | None,
        penalties: Array | None,
    ) -> Array:
        losses = np.empty(len(learning_rates))
        gradient = np.empty(self.n_parameters, dtype=self.dtype)
        for batch, rate in enumerate(learning_rates):
            span = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
            rows = order[span]
            weights = None if sample_weight is None else sample_weight[rows]
            losses[batch] = self._loss_and_gradient(
                X[rows],
                y[rows],
                weights,
                gradient,
                None if logits is None else logits[span],
            )
            if penalties is not None:
                penalties[batch] = self.penalty(total_weight(weights, len(rows)))
            self._update(gradient, float(rate))
        return losses

    # Checks ----------------------------------------------------------------------------------

    def _checked(self, X: Any, y: Any, sample_weight: Any) -> tuple[Any, Array, Array | None]:
        rows, _ = as_rows(X, self.n_inputs)
        if rows.shape[0] == 0:
            raise ValueError("X must hold at least one row, got none")
        targets = prepare_targets(y, self.loss, self.output_activation, self.n_outputs, self.dtype)
        if len(targets) != rows.shape[0]:
            raise ValueError(f"X has {rows.shape[0]} rows, but y has {len(targets)}")
        weights = None if sample_weight is None else self._weights(sample_weight, rows.shape[0])
        return rows, targets, weights

    def _weights(self, sample_weight: Any, n_samples: int) -> Array:
        weights = np.ascontiguousarray(sample_weight, dtype=self.dtype)
        if weights.shape != (n_samples,):
            raise ValueError(f"sample_weight must have shape ({n_samples},), got {weights.shape}")
        bad = ~((weights >= 0) & np.isfinite(weights))
        if np.any(bad):
            raise ValueError(
                f"sample_weight must hold finite numbers of at least 0, got {weights[bad][0]:g}"
            )
        return weights

    def _check_logits(self, logits: Array | None, n_samples: int) -> None:
        if logits is not None and logits.shape != (n_samples, self.n_outputs):
            raise ValueError(
                f"logits must have shape {(n_samples, self.n_outputs)}, got {logits.shape}"
            )

    def _check_flat(self, vector: Array, what: str) -> None:
        if vector.shape != (self.n_parameters,) or vector.dtype != self.dtype:
            raise ValueError(
                f"{what} must be {self.dtype} of shape ({self.n_parameters},), "
                f"got {vector.dtype} of shape {vector.shape}"
            )


def default_loss(network: MLP) -> Loss:
    """Return the loss that suits the network's output: cross entropy, Poisson or MSE.

    Examples
    --------
    >>> default_loss(MLP([2, 1], output_activation="linear")).name
    'mse'
    """
    by_output = {"softmax": "cross_entropy", "sigmoid": "cross_entropy", "exp": "poisson"}
    return LOSSES[by_output.get(network.output_activation.name, "mse")]


def backend_names() -> list[str]:
    """Return the names of all backends, ours and those that other packages register.

    Examples
    --------
    >>> backend_names()[:2]
    ['numpy', 'numba']
    """
    others = [entry.name for entry in entry_points(group=_ENTRY_POINT_GROUP)]
    return [*_BUILT_IN, *sorted(set(others) - set(_BUILT_IN))]


def get_backend(backend: str | Backend) -> Backend:
    """Return the backend that a name, "auto" or an instance stands for.

    Parameters
    ----------
    backend : str or Backend
        "auto" is the fastest of ours that is installed: "numba", else "numpy".

    Raises
    ------
    ValueError
        If the name is unknown.
    ImportError
        If the backend exists but cannot be loaded; the message says how to install it.
    TypeError
        If it is neither a name nor a `Backend`.

    Examples
    --------
    >>> get_backend("numpy")
    NumpyBackend()
    """
    if isinstance(backend, Backend):
        return backend
    if not isinstance(backend, str):
        raise TypeError(f"backend must be a name or a Backend instance, got {backend!r}")
    if backend == "auto":
        return get_backend("numba" if importlib.util.find_spec("numba") else "numpy")
    if backend in _BUILT_IN:
        module, kind = _BUILT_IN[backend]
        try:
            made = getattr(importlib.import_module(module), kind)()
        except ImportError as error:
            raise ImportError(
                f"the backend {backend!r} cannot be loaded ({error}); install it with "
                f"`pip install {backend}`"
            ) from error
    else:
        found = {entry.name: entry for entry in entry_points(group=_ENTRY_POINT_GROUP)}
        if backend not in found:
            raise ValueError(
                f"unknown backend {backend!r}; choose 'auto' or one of "
                f"{_checks.listing(backend_names())}"
            )
        made = found[backend].load()()
    if not isinstance(made, Backend):
        raise TypeError(f"the backend {backend!r} is not a fastmlp Backend, got {made!r}")
    return made


def available_backends() -> dict[str, str | None]:
    """Return every backend's name with None, or with the reason why it cannot be used.

    Examples
    --------
    >>> available_backends()["numpy"] is None
    True
    """
    reasons: dict[str, str | None] = {}
    for name in backend_names():
        try:
            get_backend(name)
        except Exception as error:  # a stranger's backend may fail in any way
            reasons[name] = str(error)
        else:
            reasons[name] = None
    return reasons
