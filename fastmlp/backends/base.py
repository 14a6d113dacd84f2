"""The interface that every backend has, and the look-up of backends by name.

A backend binds a network, a loss and an optimizer; what comes back is a `Session`, which holds the
parameters in whatever layout the backend likes and trains them. Public methods check shapes,
dtypes, labels and buffers once; the underscored methods that backends implement can rely on them,
and their docstrings say on what. `fastmlp.testing` checks that a backend keeps the contract.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastmlp import _checks
from fastmlp._weights import total_weight
from fastmlp.losses import LOSSES, Loss
from fastmlp.network import MLP, as_rows, check_finite, check_logits, decide, layer_views
from fastmlp.optimizers import SGD, Optimizer
from fastmlp.regularization import Regularization
from fastmlp.targets import prepare_targets

Array = NDArray[Any]
T = TypeVar("T")

#: Our own backends: name to module, class, and what to install where the module misses it.
_BUILT_IN = {
    "numpy": ("fastmlp.backends.numpy_backend", "NumpyBackend", "numpy"),
    "numba": ("fastmlp.backends.numba_backend", "NumbaBackend", "numba"),
    "jax": ("fastmlp.backends.jax_backend", "JaxBackend", "'fastmlp[jax]'"),
}
_ENTRY_POINT_GROUP = "fastmlp.backends"
#: What `Session.predict` can return.
_PREDICTIONS = ("decisions", "outputs", "logits")


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

    Subclasses implement `_bind`, and `unsupported` where there is something that they do not know.
    They are chosen by an argument, by name or as an instance, and hold no state of any network.
    They are pickled with the trainers that use them.

    Examples
    --------
    >>> from fastmlp.backends import get_backend
    >>> session = get_backend("numpy").bind(MLP([2, 3]))
    >>> session.logits([[0.0, 0.0]])
    array([[0., 0., 0.]], dtype=float32)
    """

    name: ClassVar[str]
    #: True where the class takes the name of a device, which `get_backend` then takes too.
    takes_device: ClassVar[bool] = False
    #: Whether sessions compute parts of a batch (`Session.part_gradient`), so that several
    #: processes can share one.
    has_parts: ClassVar[bool] = False
    #: Whether sessions gather the rows of a memory map that they are to train on by themselves,
    #: and let go of its pages.
    gathers_rows: ClassVar[bool] = False

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
            The most rows in one training batch, for which a backend may take its memory at once.
        n_threads : int or None, default None
            None lets the backend choose.
        seed : int, default 0
            Of dropout masks and noise.

        Raises
        ------
        ValueError, TypeError
            If the loss has no meaning for the network's output, or an argument is out of range.
        NotImplementedError
            If this backend does not know what it is given; the message is what `unsupported`
            returns.
        """
        loss = default_loss(network) if loss is None else loss
        optimizer = SGD() if optimizer is None else optimizer
        loss.check_output(network.output_activation)
        loss.target_width(network.n_outputs)
        regularization = Regularization() if regularization is None else regularization
        regularization.dropout_rates(network.n_layers)
        optimizer.layer_factors(network.n_layers)
        if n_threads is not None:
            n_threads = _checks.integer(n_threads, "n_threads", at_least=1)
        batch_size = _checks.integer(batch_size, "batch_size", at_least=1)
        seed = _checks.integer(seed, "seed", at_least=0)
        reason = self.unsupported(network, loss, optimizer, regularization)
        if reason is not None:
            raise NotImplementedError(reason)
        return self._bind(network, loss, optimizer, regularization, batch_size, n_threads, seed)

    def unsupported(
        self, network: MLP, loss: Loss, optimizer: Optimizer, regularization: Regularization
    ) -> str | None:
        """Return one sentence on what this backend does not know, or None if it knows all of it.

        The default is None. A backend that computes by the formulas of the descriptions
        themselves knows every subclass of them; one with kernels of its own should name what it
        has none for, so that nothing is trained as something else. A backend that knows no
        scaling layer says so where ``network.scaling_layer`` is True, and one without products in
        bfloat16 where ``network.precision`` is "bfloat16".

        Parameters
        ----------
        network : MLP
        loss : Loss
        optimizer : Optimizer
        regularization : Regularization

        Examples
        --------
        >>> from fastmlp.backends import get_backend
        >>> network = MLP([2, 3])
        >>> get_backend("numpy").unsupported(
        ...     network, default_loss(network), SGD(), Regularization()
        ... )
        """
        return None

    def machine_epsilon(self, dtype: np.dtype[Any]) -> float:
        """Return the relative spacing of the numbers that a network of `dtype` is computed with.

        The default is that of `dtype`. A backend that computes float64 networks in float32, or
        float32 products in TF32, returns that one's; the conformance kit's bounds follow it.

        Parameters
        ----------
        dtype : dtype
            float32 or float64.

        Examples
        --------
        >>> from fastmlp.backends import get_backend
        >>> get_backend("numpy").machine_epsilon(np.dtype("float64")) == 2.0**-52
        True
        """
        return float(np.finfo(dtype).eps)

    # Of processes that train together. What is here is right for one process alone. --------------

    @property
    def leads(self) -> bool:
        """Whether this process shows progress, calls callbacks and writes files.

        One of the processes that train together does; the others follow it.

        Examples
        --------
        >>> from fastmlp.backends import get_backend
        >>> get_backend("numpy").leads
        True
        """
        return True

    @property
    def local(self) -> Backend:
        """The backend that computes in this process alone, for predictions at any time.

        Examples
        --------
        >>> from fastmlp.backends import get_backend
        >>> get_backend("numpy").local
        NumpyBackend()
        """
        return self

    def led(self, act: Callable[[], T]) -> T:
        """Call `act` in the process that leads; return what it returns in all of them.

        What it raises there is raised in all.

        Examples
        --------
        >>> from fastmlp.backends import get_backend
        >>> get_backend("numpy").led(lambda: 5)
        5
        """
        return act()

    @contextlib.contextmanager
    def fitting(self) -> Iterator[Callable[[Callable[[], Mapping[str, Any]]], None]]:
        """Hold a fit, which several processes may be at.

        An error that ends it in one of them ends it in all.

        Yields
        ------
        callable
            Takes a function that returns what must be equal in all processes, by name, and raises
            the same ValueError in all where something is not. One that trains alone need not call
            the function.

        Examples
        --------
        >>> from fastmlp.backends import get_backend
        >>> with get_backend("numpy").fitting() as agree:
        ...     agree(lambda: {"batch_size": 32})
        """
        yield lambda facts: None

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
    ) -> Session:
        """Return a session; every argument has been checked, and every default filled in.

        The session starts from a copy of the network's parameters, with moments of zero, an
        average that equals the parameters where `regularization.ema` is set, and step 0
        (`TrainingState.initial`). It never writes to the network, and what becomes of the
        network later does not reach it.

        `batch_size` is the most rows of one training batch; prediction and
        `loss_and_gradient` take any number. `n_threads` changes no bit of any result. `seed` is
        any whole number of at least 0, also beyond 64 bits; the random numbers of a step are
        those of `fastmlp.regularization.dropout_mask` and `gaussian_noise`.
        """

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Session(ABC):
    """A network, a loss and an optimizer bound to a backend.

    Subclasses implement the underscored methods; `_train` has a default, the readable loop over
    `_loss_and_gradient` and `_update`. A session is used by one thread at a time.

    What every implementation keeps to:

    - **Numbers.** Parameters, moments, averages, gradients and logits are in the network's dtype;
      losses are float64. `self.step` counts updates, by Python's unbounded integers.
    - **Bits.** Equal calls give equal bits: whatever the number of threads, the load of the
      machine, the calls into which a training is cut, the layout of X and the dtype that its
      values came in; and a session that has loaded another's state goes on with that one's bits.
    - **Inputs.** No argument is written, but `gradient` and `logits`. Arrays may be read-only.
    - **Pickling.** Sessions pickle, between any two calls, with all of their state.

    Parameters
    ----------
    network, loss, optimizer, regularization, batch_size, seed
        As `Backend.bind` checked them.

    Attributes
    ----------
    layer_shapes : list of (int, int)
        (n_in, n_out) of every weight layer.
    n_layers, n_inputs, n_outputs, n_parameters : int
        As `MLP` has them.
    hidden_activations : tuple of Activation
        One for each hidden layer; they may differ.
    output_activation : OutputActivation
    input_scale : float
        What the inputs are multiplied by, once they are in the network's dtype.
    scaling_layer : bool
        Whether a learned factor for every input stands in front of the first weight layer: the
        last `n_inputs` of the parameters (`fastmlp.network.scale_view`).
    precision : str
        "full", or "bfloat16" where the factors of all products are rounded to it (`MLP`).
    dtype : dtype
        The network's: float32 or float64.
    loss, optimizer, regularization, batch_size, seed
        As given.
    step : int
        Number of updates so far; dropout, noise and bias corrections depend on it.
    part : ndarray of one dimension, in the network's dtype
        Where the backend `has_parts`: what `part_gradient` writes and `apply_part` reads, in
        whatever layout the backend likes. That of a sum of gradients is the sum of theirs. The
        array stays the same one; whoever sums reads it and writes to it.

    Examples
    --------
    >>> session = get_backend("numpy").bind(MLP([1, 1], output_activation="linear"), batch_size=2)
    >>> gradient = np.empty(2, dtype=np.float32)
    >>> before = session.loss_and_gradient([[0.0], [1.0]], [1.0, 3.0], gradient)
    >>> session.update(gradient, learning_rate=0.1)
    >>> session.step
    1
    >>> session.loss_and_gradient([[0.0], [1.0]], [1.0, 3.0], gradient) < before
    True
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
        self.n_layers = network.n_layers
        self.n_inputs = network.n_inputs
        self.n_outputs = network.n_outputs
        self.n_parameters = network.n_parameters
        self.hidden_activations = network.hidden_activations
        self.output_activation = network.output_activation
        self.input_scale = network.input_scale
        self.scaling_layer = network.scaling_layer
        self.precision = network.precision
        self.dtype = network.dtype
        self.loss = loss
        self.optimizer = optimizer
        self.regularization = regularization
        self.batch_size = batch_size
        self.seed = seed
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

    def predict(self, X: Any, kind: str = "decisions") -> Array:
        """Return what the methods of `MLP` that predict return, by the current parameters.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_inputs) or (n_inputs,)
        kind : {"decisions", "outputs", "logits"}, default "decisions"
            What `MLP.predict`, `MLP.predict_proba` or `MLP.logits` returns.

        Raises
        ------
        ValueError
            As theirs: if X has another width, is not numeric, or holds NaN or infinite values; or
            if the logits are NaN or infinite.
        """
        if kind not in _PREDICTIONS:
            raise ValueError(f"kind must be one of {_checks.listing(_PREDICTIONS)}, got {kind!r}")
        rows, single = as_rows(X, self.n_inputs)
        result = self._predict(rows, kind)
        return result[0] if single else result

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
            Overwritten, never added to; contiguous, writable and in the network's dtype.
        sample_weight : array-like of shape (n_samples,), optional
            Weights at least 0 of the mean over samples. Where all are 0, loss and gradient are
            those of the penalties alone.
        logits : ndarray of shape (n_samples, n_outputs), optional
            Where the rows' logits are written; contiguous, writable and in the network's dtype.

        Raises
        ------
        ValueError
            If shapes disagree, a target or a weight is not as stated, or a buffer is not.
        """
        rows, targets, weights = self._checked(X, y, sample_weight)
        self._check_buffer(gradient, (self.n_parameters,), "gradient")
        if logits is not None:
            self._check_buffer(logits, (len(targets), self.n_outputs), "logits")
        loss = self._loss_and_gradient(rows, targets, weights, gradient, logits)
        return loss + self.penalty(total_weight(weights, len(targets)))

    def update(self, gradient: Array, learning_rate: float | None = None) -> None:
        """Clip `gradient`, apply one optimizer update, and count the step.

        Parameters
        ----------
        gradient : ndarray of shape (n_parameters,)
            Used as scratch; contiguous, writable and in the network's dtype.
        learning_rate : float, optional
            Default: the optimizer's.

        Raises
        ------
        ValueError
            If `gradient` is not as stated.
        """
        self._check_buffer(gradient, (self.n_parameters,), "gradient")
        rate = self.optimizer.learning_rate if learning_rate is None else learning_rate
        self._update(gradient, rate)

    def part_gradient(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        first_row: int,
        total: float,
        logits: Array | None = None,
    ) -> float:
        """Return what a part of a batch adds to its loss, and write what it adds to its gradient.

        The gradient's addend is in `part` until the next call. Penalties are in neither. Dropout
        and noise are those of the next step.

        Parameters
        ----------
        X, y, sample_weight, logits
            As for `loss_and_gradient`, of the part.
        first_row : int
            The number in the batch of the part's first row.
        total : float
            What the mean divides by: the whole batch's number of rows, or the sum of their
            weights. Where it is 0, so are loss and gradient.

        Raises
        ------
        ValueError
            If shapes disagree, a target or a weight is not as stated, or a buffer is not.
        NotImplementedError
            If the backend has no parts.

        Examples
        --------
        >>> session = get_backend("numpy").bind(MLP([1, 1], output_activation="linear"))
        >>> X, y = [[0.0], [1.0]], [1.0, 3.0]
        >>> whole = np.zeros_like(session.part)
        >>> for i in range(2):
        ...     _ = session.part_gradient(X[i : i + 1], y[i : i + 1], first_row=i, total=2)
        ...     whole += session.part
        >>> session.part[:] = whole
        >>> session.apply_part(total=2, learning_rate=0.1)
        >>> session.step
        1
        """
        rows, targets, weights = self._checked(X, y, sample_weight)
        if logits is not None:
            self._check_buffer(logits, (len(targets), self.n_outputs), "logits")
        return self._part_gradient(rows, targets, weights, first_row, total, logits)

    def whole_gradient(self, gradient: Array, *, total: float) -> None:
        """Write the gradient whose parts' sum `part` holds, penalties included.

        Parameters
        ----------
        gradient : ndarray of shape (n_parameters,)
            As for `loss_and_gradient`.
        total : float
            The batch's number of rows, or the sum of their weights.

        Raises
        ------
        ValueError
            If `gradient` is not as stated.
        NotImplementedError
            If the backend has no parts.
        """
        self._check_buffer(gradient, (self.n_parameters,), "gradient")
        self._whole_gradient(gradient, total)

    def apply_part(self, *, total: float, learning_rate: float | None = None) -> None:
        """Update by the gradient whose parts' sum `part` holds, as `update` does.

        The penalties' gradient is added before. `part` holds anything afterwards.

        Parameters
        ----------
        total : float
            The batch's number of rows, or the sum of their weights.
        learning_rate : float, optional
            Default: the optimizer's.

        Raises
        ------
        NotImplementedError
            If the backend has no parts.
        """
        rate = self.optimizer.learning_rate if learning_rate is None else learning_rate
        self._apply_part(rate, total)

    def train(
        self,
        X: Any,
        y: Array,
        order: Array,
        learning_rates: Array,
        sample_weight: Array | None = None,
        logits: Array | None = None,
        penalties: Array | None = None,
        *,
        n_epochs: int = 1,
    ) -> Array:
        """Train over the samples in the given order, in batches, one update a batch.

        Parameters
        ----------
        X : array of shape (n_samples, n_inputs), or SciPy sparse rows
            Any numeric dtype; converted row by row, scaled by the network's `input_scale`.
        y : ndarray
            As `prepare_targets` returns it: class numbers, or a matrix of targets.
        order : array-like of int
            Rows to visit; every batch takes the next `batch_size` of them, the last of an epoch
            what is left of it.
        learning_rates : ndarray of float64, of shape (n_batches,)
            Of all epochs' batches.
        sample_weight : ndarray of shape (n_samples,), optional
            Weights at least 0 of each batch's mean.
        logits : ndarray of shape (len(order), n_outputs), optional
            Where each sample's logits are written, as they were before its batch's update;
            contiguous, writable and in the network's dtype.
        penalties : ndarray of float64, of shape (n_batches,), optional
            Where every batch's L1 and L2 penalties before its update are written; contiguous and
            writable.
        n_epochs : int, default 1
            How many epochs of equal length `order` holds, one after the other.

        Returns
        -------
        ndarray of float64, of shape (n_batches,)
            Every batch's loss before its update, without the penalties on weights.

        Raises
        ------
        ValueError
            If shapes disagree, `order` points outside the samples or does not divide into epochs,
            a label or a weight of a sample that is visited is out of range, or `logits` is not as
            stated.
        """
        rows, _ = as_rows(X, self.n_inputs)
        order = self._checked_order(order, rows.shape[0])
        n_epochs = _checks.integer(n_epochs, "n_epochs", at_least=1)
        if len(order) % n_epochs:
            raise ValueError(f"order holds {len(order)} rows, which are no {n_epochs} whole epochs")
        n_batches = n_epochs * -(-(len(order) // n_epochs) // self.batch_size)
        learning_rates = np.ascontiguousarray(learning_rates, dtype=np.float64)
        if learning_rates.shape != (n_batches,):
            raise ValueError(
                f"{n_batches} batches need as many learning rates, got {learning_rates.shape}"
            )
        y = self._checked_targets(y, rows.shape[0], order)
        if sample_weight is not None:
            sample_weight = self._weights(sample_weight, rows.shape[0], order)
        if logits is not None:
            self._check_buffer(logits, (len(order), self.n_outputs), "logits")
        if penalties is not None:
            self._check_buffer(penalties, (n_batches,), "penalties", np.dtype(np.float64))
        given = (rows, y, order, learning_rates, sample_weight, logits, penalties)
        return self._train(*given) if n_epochs == 1 else self._train_epochs(*given, n_epochs)

    def penalty(self, total_weight: float = 1.0) -> float:
        """Return the L1 and L2 penalties of the current weights, in a batch of this total weight.

        The weight matters to `DividedL2` only.
        """
        if not (self.regularization.l1 or self.regularization.l2):
            return 0.0
        return self.regularization.penalty(self._weight_matrices(), total_weight)

    # What lies on a device ---------------------------------------------------------------------

    def keep(self, X: Any, y: Array) -> None:
        """Be told what samples the next calls of `train` take, until `release`.

        A session may copy them to where it computes, once for all those calls, and know them again
        by their identity: whoever calls this changes nothing in them before `release`. The default
        does nothing, as for a backend that computes in the host's memory.

        Parameters
        ----------
        X, y
            As they will be given to `train`.

        Examples
        --------
        >>> session = get_backend("numpy").bind(MLP([1, 2]), batch_size=2)
        >>> X, y = np.zeros((4, 1), "float32"), np.array([0, 1, 0, 1])
        >>> session.keep(X, y)
        >>> for epoch in range(2):
        ...     losses = session.train(X, y, np.arange(4), np.full(2, 0.1))
        >>> session.release()
        """
        return

    def release(self) -> None:
        """Forget what `keep` was told; calls that know none do nothing."""
        return

    # What a backend implements ---------------------------------------------------------------

    @abstractmethod
    def _load(self, state: TrainingState) -> None:
        """Copy the parameters, moments and average of `state`, in place of the session's own.

        The arrays have the session's shapes, and may have another dtype. `average` is None
        exactly where `regularization.ema` is. `self.step` has been set.
        """

    @abstractmethod
    def _store(self) -> TrainingState:
        """Return parameters, moments, average and `self.step`, as copies in the session's dtype.

        What was loaded comes back with the same bits.
        """

    @abstractmethod
    def _weight_matrices(self) -> list[Array]:
        """Return the current weights of every layer, each of its shape (n_in, n_out).

        They are read, for penalties, and may be views.
        """

    @abstractmethod
    def _logits(self, X: Any) -> Array:
        """Return the logits of rows, of shape (n_samples, n_outputs), in an array of its own.

        There is no dropout and no noise, and nothing of the state changes.

        Parameters
        ----------
        X : ndarray or SciPy sparse rows, of shape (n_samples, n_inputs)
            Any number of rows, none among them; any boolean, integer or floating dtype and byte
            order; any strides, also negative, zero and unaligned; a memory map may be behind it.
            Values are converted to the network's dtype and then multiplied by `input_scale`.
            NaN and infinite values are the caller's affair.
        """

    def _predict(self, X: Any, kind: str) -> Array:
        """Return the logits, outputs or decisions of rows, as `predict` says, in an own array.

        The default is right for any backend. One that overrides it finds what is not finite by
        itself, and leaves the words to `check_finite` and `check_logits`. `X` is as `_logits` has
        it.
        """
        check_finite(X, self.dtype, self.input_scale)
        with np.errstate(all="ignore"):  # what overflows is reported below, once
            logits = self._logits(X)
        check_logits(logits)
        if kind == "logits":
            return logits
        if kind == "outputs":
            return self.output_activation.forward(logits, out=logits)
        return decide(self.output_activation, logits)

    @abstractmethod
    def _loss_and_gradient(
        self,
        X: Any,
        y: Array,
        sample_weight: Array | None,
        gradient: Array,
        logits: Array | None = None,
    ) -> float:
        """Write the whole gradient, penalties included; return the loss without them.

        Dropout and noise are those of step `self.step`, which stays as it is: inputs are scaled,
        then get noise, then dropout, and then the factors of the scaling layer, where there is
        one; hidden layers get dropout behind their activation.

        Parameters
        ----------
        X : ndarray or SciPy sparse rows
            At least one row, also more than `batch_size`; else as for `_logits`.
        y : ndarray
            Class numbers in range, int64 of shape (n_samples,), for a softmax output only; or
            targets of shape (n_samples, loss.target_width(n_outputs)) in the network's dtype.
            Contiguous or rows of what is.
        sample_weight : ndarray of shape (n_samples,), or None
            Finite, at least 0, in the network's dtype. Each counts by its share of their sum,
            taken in float64; where all are 0, the loss is 0 and the gradient that of the
            penalties. Their sum, or the number of rows, is what `regularization.l2_of` is asked
            with.
        gradient : ndarray of shape (n_parameters,)
            Holds anything, NaN too: overwrite every element, never add. Contiguous, writable, in
            the layout of `MLP.parameters`.
        logits : ndarray of shape (n_samples, n_outputs), or None
            Where the logits of this pass, dropout and noise included, are to be written as well.
        """

    @abstractmethod
    def _update(self, gradient: Array, learning_rate: float) -> None:
        """Clip `gradient`, update parameters, moments and average, and add 1 to `self.step`.

        In this order: limit every element to `clip_value`, scale the whole down to `clip_norm`
        (a norm taken in float64), count the step, apply the optimizer's rule (whose steps count
        from 1), scale each unit's incoming weights down to `max_norm`, move the average by what
        has become of the parameters.

        Where the optimizer has `rate_factors`, the rule's rate is, for every parameter, the
        learning rate times its factor; `optimizer.layer_factors` says them by layer, and
        `optimizer.scale_factor` that of the scaling layer; `RateFactors.of_parameters` has them
        in the layout of `MLP.parameters`.

        Parameters
        ----------
        gradient : ndarray of shape (n_parameters,)
            Contiguous and writable; may be used as scratch.
        learning_rate : float
        """

    @property
    def part(self) -> Array:
        """What `part_gradient` writes and `apply_part` reads."""
        raise NotImplementedError(f"{type(self).__name__} computes no parts of batches")

    def _part_gradient(
        self,
        X: Any,
        y: Array,
        sample_weight: Array | None,
        first_row: int,
        total: float,
        logits: Array | None,
    ) -> float:
        """Write to `part` what some rows of a batch add to its gradient; return its loss's addend.

        That is the sum of the rows' gradients, each times its weight over `total` (0 where that
        is), without penalties. All is as `_loss_and_gradient` has it, but that dropout and noise
        are those of rows `first_row` and on: of n columns, the element in row i and column k has
        the number (first_row + i) * n + k. The default says that there are no parts.
        """
        raise NotImplementedError(f"{type(self).__name__} computes no parts of batches")

    def _whole_gradient(self, gradient: Array, total: float) -> None:
        """Write what `part` holds, and the penalties' gradient, in the layout of the parameters.

        The default is right where `part` has that layout.
        """
        gradient[:] = self.part
        self._add_penalty_gradient(gradient, total)

    def _apply_part(self, learning_rate: float, total: float) -> None:
        """Add the penalties' gradient to what `part` holds, and do by it what `_update` does.

        The default is right for any backend that has parts.
        """
        gradient = np.empty(self.n_parameters, dtype=self.dtype)
        self._whole_gradient(gradient, total)
        self._update(gradient, learning_rate)

    def _add_penalty_gradient(self, gradient: Array, total: float) -> None:
        """Add the gradient of the penalties in a batch of this total weight."""
        l1, l2 = self.regularization.l1, self.regularization.l2_of(total)
        if not (l1 or l2):
            return
        weight_gradients, _ = layer_views(gradient, self.layer_shapes)
        for w, g in zip(self._weight_matrices(), weight_gradients, strict=True):
            g += l2 * w + l1 * np.sign(w)

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
        """Train batch by batch over `order`; return every batch's loss, as `train` says.

        The default is right for any backend. One that overrides it counts `self.step` up by one
        a batch itself, and leaves no step half done where an exception, such as an interrupt,
        ends it. All arguments are as `_loss_and_gradient` has them, but:

        Parameters
        ----------
        X, y, sample_weight
            Of all samples, not only of those visited; a row may be visited more than once.
        order : ndarray of int64, contiguous
            In range; any length, none too.
        learning_rates : ndarray of float64, contiguous, of shape (n_batches,)
        logits : ndarray of shape (len(order), n_outputs), or None
            Row i belongs to sample ``order[i]``, before its batch's update.
        penalties : ndarray of float64, contiguous, of shape (n_batches,), or None
            Where `penalty` of each batch, before its update, is to be written.
        """
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

    def _train_epochs(
        self,
        X: Any,
        y: Array,
        order: Array,
        learning_rates: Array,
        sample_weight: Array | None,
        logits: Array | None,
        penalties: Array | None,
        n_epochs: int,
    ) -> Array:
        """Train over several epochs of equal length; return every batch's loss.

        The default is right for any backend. Where epochs are short, one that overrides it may
        save what a call costs; no batch has rows of two epochs. All other arguments are as
        `_train` has them.
        """
        n_rows, n_batches = len(order) // n_epochs, len(learning_rates) // n_epochs
        losses = np.empty(len(learning_rates))
        for epoch in range(n_epochs):
            rows = slice(epoch * n_rows, (epoch + 1) * n_rows)
            batches = slice(epoch * n_batches, (epoch + 1) * n_batches)
            losses[batches] = self._train(
                X,
                y,
                order[rows],
                learning_rates[batches],
                sample_weight,
                None if logits is None else logits[rows],
                None if penalties is None else penalties[batches],
            )
        return losses

    # Checks ----------------------------------------------------------------------------------

    def _checked(self, X: Any, y: Any, sample_weight: Any) -> tuple[Any, Array, Array | None]:
        rows, _ = as_rows(X, self.n_inputs)
        if rows.shape[0] == 0:
            raise ValueError("X must hold at least one row, got none")
        targets = prepare_targets(y, self.loss, self.output_activation, self.n_outputs, self.dtype)
        if len(targets) != rows.shape[0]:
            raise ValueError(f"X has {rows.shape[0]} rows, but y has {len(targets)}")
        n_samples = rows.shape[0]
        weights = None if sample_weight is None else self._weights(sample_weight, n_samples)
        return rows, targets, weights

    def _checked_order(self, order: Any, n_samples: int) -> Array:
        order = np.asarray(order)
        if order.ndim != 1 or (order.size and order.dtype.kind not in "iu"):
            raise ValueError(
                f"order must be a vector of integers, got {order.dtype} of shape {order.shape}"
            )
        order = np.ascontiguousarray(order, dtype=np.int64)
        if len(order) and (order.min() < 0 or order.max() >= n_samples):
            raise ValueError(f"order must point at rows 0 to {n_samples - 1}")
        return order

    def _checked_targets(self, y: Any, n_samples: int, order: Array) -> Array:
        """Return prepared targets; labels are checked where `order` visits them.

        A long training comes in many short calls, so that looking at all samples each time
        would cost more than the training.
        """
        _checks.not_masked(y, "y")
        y = np.asarray(y)
        if len(y) != n_samples:
            raise ValueError(f"X has {n_samples} rows, but y has {len(y)}")
        width = self.loss.target_width(self.n_outputs)
        if y.ndim == 2 and y.shape[1] == width and y.dtype.kind in "biuf":
            return np.ascontiguousarray(y, dtype=self.dtype)
        if self.output_activation.name != "softmax" or y.ndim != 1 or y.dtype.kind not in "iu":
            labels = " or class numbers" if self.output_activation.name == "softmax" else ""
            raise ValueError(
                f"y must be a matrix of {width} target columns{labels}, as prepare_targets "
                f"returns it, got {y.dtype} of shape {y.shape}"
            )
        labels = y[order]
        if labels.size and (labels.min() < 0 or labels.max() >= self.n_outputs):
            wrong = labels.min() if labels.min() < 0 else labels.max()
            raise ValueError(
                f"labels must lie between 0 and {self.n_outputs - 1} for {self.n_outputs} "
                f"softmax outputs, got {wrong}"
            )
        return np.ascontiguousarray(y, dtype=np.int64)

    def _weights(self, sample_weight: Any, n_samples: int, order: Array | None = None) -> Array:
        """Return weights, checked where `order` visits them; without it, all of them."""
        _checks.not_masked(sample_weight, "sample_weight")
        weights = np.ascontiguousarray(sample_weight, dtype=self.dtype)
        if weights.shape != (n_samples,):
            raise ValueError(f"sample_weight must have shape ({n_samples},), got {weights.shape}")
        visited = weights if order is None else weights[order]
        bad = ~((visited >= 0) & np.isfinite(visited))
        if np.any(bad):
            raise ValueError(
                f"sample_weight must hold finite numbers of at least 0, got {visited[bad][0]:g}"
            )
        return weights

    def _check_buffer(
        self, buffer: Array, shape: tuple[int, ...], what: str, dtype: np.dtype[Any] | None = None
    ) -> None:
        """Refuse an array that the hooks could not write, or would write a copy of."""
        dtype = self.dtype if dtype is None else dtype
        if buffer.shape != shape or buffer.dtype != dtype:
            raise ValueError(
                f"{what} must be {dtype} of shape {shape}, "
                f"got {buffer.dtype} of shape {buffer.shape}"
            )
        if not buffer.flags.carray:
            reason = "not contiguous" if buffer.flags.writeable else "read-only"
            raise ValueError(f"{what} must be contiguous and writable, but is {reason}")


def first_unknown(
    known: Collection[type],
    network: MLP,
    loss: Loss,
    optimizer: Optimizer,
    regularization: Regularization,
) -> str | None:
    """Return what is none of the known types, for `Backend.unsupported`; None if all are.

    The types are exact: a subclass may compute anything else.

    Examples
    --------
    >>> network = MLP([2, 3])
    >>> known = {type(network.output_activation), type(default_loss(network)), Regularization}
    >>> first_unknown(known, network, default_loss(network), SGD(), Regularization())
    'optimizer SGD'
    """
    for what, one in (
        *(("hidden activation", activation) for activation in network.hidden_activations),
        ("output activation", network.output_activation),
        ("loss", loss),
        ("optimizer", optimizer),
        ("regularization", regularization),
    ):
        if type(one) not in known:
            return f"{what} {type(one).__name__}"
    return None


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
    >>> backend_names()[:3]
    ['numpy', 'numba', 'jax']
    """
    others = [entry.name for entry in entry_points(group=_ENTRY_POINT_GROUP)]
    return [*_BUILT_IN, *sorted(set(others) - set(_BUILT_IN))]


def get_backend(backend: str | Backend) -> Backend:
    """Return the backend that a name, "auto" or an instance stands for.

    Parameters
    ----------
    backend : str or Backend
        "auto" is the fastest of ours that can run on the processor: "numba", if Numba is installed
        or kernels came compiled, else "numpy". The name of a device may follow behind a colon where
        a backend knows some: "jax:gpu", "jax:gpu:1".

    Raises
    ------
    ValueError
        If the name or its device is unknown.
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
        return _fastest()
    name, colon, device = backend.partition(":")
    if name in _BUILT_IN:
        module, kind, package = _BUILT_IN[name]
        try:
            made = _made(getattr(importlib.import_module(module), kind), backend, device, colon)
        except ImportError as error:
            missing = isinstance(error, ModuleNotFoundError)
            hint = f"; install it with `pip install {package}`" if missing else ""
            raise ImportError(f"the backend {name!r} cannot be loaded ({error}){hint}") from error
    else:
        found = {entry.name: entry for entry in entry_points(group=_ENTRY_POINT_GROUP)}
        if name not in found:
            near = _checks.hint(_checks.nearest(name.lower(), backend_names()))
            raise ValueError(
                f"unknown backend {name!r}; {near}choose 'auto' or one of "
                f"{_checks.listing(backend_names())}"
            )
        made = _made(found[name].load(), backend, device, colon)
    if not isinstance(made, Backend):
        raise TypeError(f"the backend {backend!r} is not a fastmlp Backend, got {made!r}")
    return made


def alone(backend: str | Backend, what: str) -> Backend:
    """Return a backend for what `what` says, which several processes cannot share.

    Raises
    ------
    ValueError
        If processes share the backend's batches.

    Examples
    --------
    >>> alone("numpy", "an ensemble trains")
    NumpyBackend()
    """
    found = get_backend(backend)
    if found.local is not found:
        raise ValueError(
            f"{what} in one process alone: {found!r} is for Trainer; here, choose {found.local!r}"
        )
    return found


def _made(kind: Any, asked: str, device: str, colon: str) -> Any:
    """Return a backend by its class, on a device if one is asked for."""
    if not colon:
        return kind()
    if not getattr(kind, "takes_device", False):
        raise ValueError(f"this backend has no devices to choose from, got {asked!r}")
    return kind(device)


def _fastest() -> Backend:
    try:
        return get_backend("numba")
    except ImportError as error:
        # What is installed, or asked for, but does not work is not hidden.
        if importlib.util.find_spec("numba") or not isinstance(
            error.__cause__, ModuleNotFoundError
        ):
            raise
        return get_backend("numpy")


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
