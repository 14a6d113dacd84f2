"""Loss functions: small frozen descriptions with their formulas in NumPy.

The loss of a batch is the weighted mean of its samples' losses, sum(w_i l_i) / sum(w_i), with all
weights 1 where none are given. A sample's loss is a mean over its outputs, except categorical
cross entropy, which is a sum over the classes; so every loss is what PyTorch and Keras report.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastmlp import _checks
from fastmlp.activations import OutputActivation

Array = NDArray[Any]


@dataclass(frozen=True)
class Loss(ABC):
    """A loss of outputs against targets, both of shape (n_samples, n_outputs).

    Subclasses give `value` and `gradient`. `output_names` lists the output activations that the
    loss has a meaning for.

    Examples
    --------
    >>> from fastmlp.activations import OUTPUT_ACTIVATIONS
    >>> loss = LOSSES["mse"]
    >>> isinstance(loss, Loss)
    True
    >>> outputs, targets = np.array([[1.0, 3.0]]), np.array([[0.0, 1.0]])
    >>> loss.value(outputs, outputs, targets, OUTPUT_ACTIVATIONS["linear"])
    array([2.5])
    >>> loss.gradient(outputs, targets)
    array([[1., 2.]])
    """

    name: ClassVar[str]
    output_names: ClassVar[tuple[str, ...]] = ("softmax", "sigmoid", "linear", "exp")

    @abstractmethod
    def value(
        self, logits: Array, outputs: Array, targets: Array, output: OutputActivation
    ) -> Array:
        """Return every sample's loss, shape (n_samples,)."""

    @abstractmethod
    def gradient(self, outputs: Array, targets: Array) -> Array:
        """Return the gradient of every sample's loss by its outputs."""

    def delta(
        self, logits: Array, outputs: Array, targets: Array, output: OutputActivation
    ) -> Array:
        """Return the gradient of every sample's loss by its logits."""
        return output.backward(self.gradient(outputs, targets), outputs)

    def check_output(self, output: OutputActivation) -> None:
        """Raise ValueError, listing the meaningful pairs, if `output` does not suit this loss."""
        if output.name not in self.output_names:
            pairs = "; ".join(
                f"{loss.name}: {', '.join(loss.output_names)}" for loss in LOSSES.values()
            )
            raise ValueError(
                f"the loss {self.name!r} has no meaning for the output activation "
                f"{output.name!r}; allowed pairs (loss: outputs) are {pairs}"
            )

    def target_width(self, n_outputs: int) -> int:
        """Return how many target columns a network of `n_outputs` outputs is trained on."""
        return n_outputs


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """Cross entropy, computed from logits: categorical for softmax, binary for sigmoid.

    Softmax: -sum_k t_k log p_k. Sigmoid: the mean over the outputs of
    -t log p - (1 - t) log(1 - p), so that several labels can be on at once.

    Parameters
    ----------
    label_smoothing : float, default 0.0
        Share s in [0, 1) of the target that is spread evenly: t (1 - s) + s / n_classes (with
        two classes for sigmoid) (Szegedy et al. 2015, arXiv 1512.00567).

    Examples
    --------
    >>> CrossEntropy(label_smoothing=0.1).name
    'cross_entropy'
    """

    name: ClassVar[str] = "cross_entropy"
    output_names: ClassVar[tuple[str, ...]] = ("softmax", "sigmoid")
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        _checks.real(self.label_smoothing, "label_smoothing", at_least=0, below=1)

    def value(
        self, logits: Array, outputs: Array, targets: Array, output: OutputActivation
    ) -> Array:
        targets = self._smooth(targets, output)
        if output.name == "softmax":
            shifted = logits - logits.max(axis=1, keepdims=True)
            log_sum = np.log(np.exp(shifted).sum(axis=1))
            return log_sum * targets.sum(axis=1) - np.sum(targets * shifted, axis=1)
        # A sum of what is not negative: nothing cancels where a row is sure, of either label.
        size = np.abs(logits)
        own = np.where(logits > 0, 1 - targets, targets) * size + np.log1p(np.exp(-size))
        return np.asarray(np.mean(own, axis=1))

    def gradient(self, outputs: Array, targets: Array) -> Array:
        raise NotImplementedError("cross entropy is differentiated by the logits, in `delta`")

    def delta(
        self, logits: Array, outputs: Array, targets: Array, output: OutputActivation
    ) -> Array:
        targets = self._smooth(targets, output)
        if output.name == "softmax":
            return outputs * targets.sum(axis=1, keepdims=True) - targets
        others = output.forward(-logits, out=np.empty_like(logits))  # 1 - outputs, all digits
        return ((1 - targets) * outputs - targets * others) / outputs.shape[1]

    def _smooth(self, targets: Array, output: OutputActivation) -> Array:
        if self.label_smoothing == 0.0:
            return targets
        n_classes = targets.shape[1] if output.name == "softmax" else 2
        return targets * (1 - self.label_smoothing) + self.label_smoothing / n_classes


@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """The mean of (output - target)^2 over all elements.

    Examples
    --------
    >>> MeanSquaredError().name
    'mse'
    """

    name: ClassVar[str] = "mse"
    #: The factor before the square.
    scale: ClassVar[float] = 1.0

    def value(
        self, logits: Array, outputs: Array, targets: Array, output: OutputActivation
    ) -> Array:
        return self.scale * np.mean(np.square(outputs - targets), axis=1)

    def gradient(self, outputs: Array, targets: Array) -> Array:
        return (2 * self.scale / outputs.shape[1]) * (outputs - targets)


@dataclass(frozen=True)
class SquaredError(MeanSquaredError):
    """Half the mean squared error, as scikit-learn defines its `squared_error`.

    Examples
    --------
    >>> SquaredError().scale
    0.5
    """

    name: ClassVar[str] = "squared_error"
    scale: ClassVar[float] = 0.5


@dataclass(frozen=True)
class MeanAbsoluteError(Loss):
    """The mean of ``|output - target|`` over all elements; its derivative at 0 is taken as 0.

    Examples
    --------
    >>> MeanAbsoluteError().name
    'mae'
    """

    name: ClassVar[str] = "mae"

    def value(
        self, logits: Array, outputs: Array, targets: Array, output: OutputActivation
    ) -> Array:
        return np.mean(np.abs(outputs - targets), axis=1)

    def gradient(self, outputs: Array, targets: Array) -> Array:
        return np.sign(outputs - targets) / outputs.shape[1]


@dataclass(frozen=True)
class Huber(Loss):
    """Huber's loss: ``e^2 / 2`` where ``|e| <= delta``, else ``delta (|e| - delta / 2)`` (1964).

    Parameters
    ----------
    threshold : float, default 1.0
        The delta of the formula, above 0, in the units of the target.

    Examples
    --------
    >>> Huber(threshold=0.5).name
    'huber'
    """

    name: ClassVar[str] = "huber"
    threshold: float = 1.0

    def __post_init__(self) -> None:
        _checks.real(self.threshold, "threshold", above=0)

    def value(
        self, logits: Array, outputs: Array, targets: Array, output: OutputActivation
    ) -> Array:
        error = np.abs(outputs - targets)
        near = np.minimum(error, self.threshold)
        return np.mean(near * (error - 0.5 * near), axis=1)

    def gradient(self, outputs: Array, targets: Array) -> Array:
        error = outputs - targets
        return np.clip(error, -self.threshold, self.threshold) / outputs.shape[1]


@dataclass(frozen=True)
class Quantile(Loss):
    """The pinball loss of one or several quantile levels (Koenker & Bassett 1978).

    With error e = target - output, a level q costs max(q e, (q - 1) e). A network with one output
    a level is trained on a single target column.

    Parameters
    ----------
    levels : float or sequence of float, default (0.5,)
        Levels inside (0, 1), kept as a tuple. One level serves any number of outputs and targets;
        several levels want exactly as many outputs, and one target column.

    Examples
    --------
    >>> Quantile(levels=(0.1, 0.5, 0.9)).target_width(3)
    1
    """

    name: ClassVar[str] = "quantile"
    output_names: ClassVar[tuple[str, ...]] = ("sigmoid", "linear", "exp")
    levels: tuple[float, ...] = (0.5,)

    def __post_init__(self) -> None:
        given: Any = self.levels
        if isinstance(given, str) or (hasattr(given, "__len__") and not len(given)):
            raise TypeError(f"levels must be a number or at least one of them, got {given!r}")
        levels = given if hasattr(given, "__iter__") else (given,)
        checked = (_checks.real(level, "a quantile level", above=0, below=1) for level in levels)
        object.__setattr__(self, "levels", tuple(checked))

    def value(
        self, logits: Array, outputs: Array, targets: Array, output: OutputActivation
    ) -> Array:
        error = targets - outputs
        levels = np.asarray(self.levels, dtype=outputs.dtype)
        return np.mean(np.maximum(levels * error, (levels - 1) * error), axis=1)

    def gradient(self, outputs: Array, targets: Array) -> Array:
        levels = np.asarray(self.levels, dtype=outputs.dtype)
        error = targets - outputs
        slopes = np.where(error > 0, -levels, np.where(error < 0, 1 - levels, 0))
        return np.asarray(slopes / outputs.shape[1], dtype=outputs.dtype)

    def target_width(self, n_outputs: int) -> int:
        if len(self.levels) == 1:
            return n_outputs
        if len(self.levels) != n_outputs:
            raise ValueError(
                f"a quantile loss of {len(self.levels)} levels needs as many outputs, "
                f"but the network has {n_outputs}"
            )
        return 1


@dataclass(frozen=True)
class Poisson(Loss):
    """The Poisson deviance's varying part, rate - target log(rate), for counts at least 0.

    Computed from the logits of an ``exp`` output: exp(z) - t z, as PyTorch's PoissonNLLLoss.

    Examples
    --------
    >>> Poisson().output_names
    ('exp',)
    """

    name: ClassVar[str] = "poisson"
    output_names: ClassVar[tuple[str, ...]] = ("exp",)

    def value(
        self, logits: Array, outputs: Array, targets: Array, output: OutputActivation
    ) -> Array:
        return np.mean(outputs - targets * logits, axis=1)

    def gradient(self, outputs: Array, targets: Array) -> Array:
        return (1 - targets / outputs) / outputs.shape[1]

    def delta(
        self, logits: Array, outputs: Array, targets: Array, output: OutputActivation
    ) -> Array:
        return (outputs - targets) / outputs.shape[1]


@dataclass(frozen=True)
class CustomLoss(Loss):
    """A user's own loss, as a pair of NumPy functions.

    Both take outputs and targets of shape (n_samples, n_outputs). The NumPy backend calls them
    directly; the Numba backend leaves compiled code for every batch to do so, which costs tens
    of microseconds a step and trains on one thread.

    Parameters
    ----------
    value_function : callable
        Returns every sample's loss, shape (n_samples,).
    gradient_function : callable
        Returns the gradient of every sample's loss by its outputs, of the outputs' shape.

    Examples
    --------
    >>> import numpy as np
    >>> fourth_power = CustomLoss(
    ...     lambda outputs, targets: np.mean((outputs - targets) ** 4, axis=1),
    ...     lambda outputs, targets: 4 * (outputs - targets) ** 3 / outputs.shape[1],
    ... )
    >>> fourth_power.gradient(np.array([[1.0]]), np.array([[0.0]]))
    array([[4.]])
    """

    name: ClassVar[str] = "custom"
    value_function: Callable[[Array, Array], Array]
    gradient_function: Callable[[Array, Array], Array]

    def value(
        self, logits: Array, outputs: Array, targets: Array, output: OutputActivation
    ) -> Array:
        return np.asarray(self.value_function(outputs, targets))

    def gradient(self, outputs: Array, targets: Array) -> Array:
        return np.asarray(self.gradient_function(outputs, targets))


#: Every loss by name, with default parameters.
LOSSES: _checks.Vocabulary[Loss] = _checks.Vocabulary(
    {
        loss.name: loss
        for loss in (
            CrossEntropy(),
            MeanSquaredError(),
            SquaredError(),
            MeanAbsoluteError(),
            Huber(),
            Quantile(),
            Poisson(),
        )
    },
    {
        "cross_entropy": (
            "log_loss",
            "categorical_crossentropy",
            "sparse_categorical_crossentropy",
            "binary_crossentropy",
            "CrossEntropyLoss",
            "BCELoss",
            "BCEWithLogitsLoss",
            "bce",
        ),
        "mse": ("mean_squared_error", "MSELoss"),
        "mae": ("absolute_error", "mean_absolute_error", "L1Loss", "l1"),
        "huber": ("HuberLoss", "SmoothL1Loss"),
        "quantile": ("pinball", "pinball_loss", "quantile_loss"),
        "poisson": ("PoissonNLLLoss", "poisson_loss"),
    },
)
