"""Optimizers: small frozen descriptions with their update rules in NumPy.

An optimizer sees flat vectors: parameters, gradient, and its moments as the rows of one array of
shape (n_moments, n_parameters), zero at the start. Definitions and defaults are PyTorch's.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastmlp import _checks

Array = NDArray[Any]


@dataclass(frozen=True)
class RateFactors:
    """Factors on the learning rate, for weights and biases of every layer, and the scaling layer.

    A pure factor on the rate of every step, as the rates of PyTorch's parameter groups: decoupled
    weight decay follows it, moments do not, and 0 leaves parameters as they are.

    Parameters
    ----------
    weights, biases : float or sequence of float, default 1.0
        At least 0. A number holds for every layer; several are those of each weight layer.
    scale : float, default 1.0
        Of the scaling layer, at least 0; it means nothing to a network without one.

    Examples
    --------
    >>> from fastmlp import MLP, Adam, RateFactors, Trainer
    >>> factors = RateFactors(weights=(1.0, 0.5), biases=0.1)
    >>> trainer = Trainer(MLP([4, 8, 2]), optimizer=Adam(0.01, rate_factors=factors))
    """

    weights: float | tuple[float, ...] = 1.0
    biases: float | tuple[float, ...] = 1.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        for name in ("weights", "biases"):
            given: Any = getattr(self, name)
            if isinstance(given, list | np.ndarray):
                object.__setattr__(self, name, tuple(given))
            several = isinstance(given, list | tuple | np.ndarray)
            for factor in given if several else (given,):
                _checks.real(factor, f"a rate factor of {name}", at_least=0)
        _checks.real(self.scale, "the rate factor of scale", at_least=0)

    def of_layers(self, n_layers: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the factors of each layer's weights, and those of its biases.

        Raises
        ------
        ValueError
            If a tuple of factors does not match the number of layers.

        Examples
        --------
        >>> RateFactors(weights=(1.0, 0.5), biases=0.1).of_layers(2)
        ((1.0, 0.5), (0.1, 0.1))
        """
        return self._each("weights", n_layers), self._each("biases", n_layers)

    def _each(self, name: str, n_layers: int) -> tuple[float, ...]:
        given = getattr(self, name)
        if not isinstance(given, tuple):
            return (float(given),) * n_layers
        if len(given) != n_layers:
            raise ValueError(
                f"rate factors of {name} as a tuple need {n_layers} numbers, one for each weight "
                f"layer, got {len(given)}"
            )
        return tuple(float(factor) for factor in given)

    def of_parameters(
        self,
        layer_shapes: Sequence[tuple[int, int]],
        dtype: np.dtype[Any],
        scaling_layer: bool = False,
    ) -> Array:
        """Return every parameter's factor, in the layout of `MLP.parameters`.

        Parameters
        ----------
        layer_shapes : sequence of (int, int)
            (n_in, n_out) of every weight layer.
        dtype : dtype
        scaling_layer : bool, default False
            Whether the network has one.

        Raises
        ------
        ValueError
            If a tuple of factors does not match the number of layers.

        Examples
        --------
        >>> RateFactors(0.5, 2.0).of_parameters([(2, 1), (1, 1)], np.dtype("float64"))
        array([0.5, 0.5, 2. , 0.5, 2. ])
        >>> RateFactors(scale=6.0).of_parameters([(2, 1)], np.dtype("float64"), True)
        array([1., 1., 1., 6., 6.])
        """
        weights, biases = self.of_layers(len(layer_shapes))
        parts = []
        for (n_in, n_out), weight, bias in zip(layer_shapes, weights, biases, strict=True):
            parts += [np.full(n_in * n_out, weight, dtype), np.full(n_out, bias, dtype)]
        if scaling_layer:
            parts.append(np.full(layer_shapes[0][0], self.scale, dtype))
        return np.concatenate(parts)


@dataclass(frozen=True, repr=False)
class Optimizer(ABC):
    """How a gradient changes the parameters.

    Every optimizer has a `learning_rate`; a schedule may replace it at every step. Every one takes
    `rate_factors`, by keyword: factors on that rate for weights and biases of every layer.

    Parameters
    ----------
    learning_rate : float, default 0.01
        Above 0.
    rate_factors : RateFactors or None, default None
        None takes the rate for all parameters alike.

    Examples
    --------
    >>> import numpy as np
    >>> optimizer = OPTIMIZERS["sgd"]
    >>> isinstance(optimizer, Optimizer)
    True
    >>> parameters, gradient, moments = np.array([1.0]), np.array([0.5]), np.empty((0, 1))
    >>> optimizer.update(parameters, gradient, moments, learning_rate=0.1, step=1)
    >>> parameters
    array([0.95])
    """

    name: ClassVar[str]
    #: Moments that are sums or means of squares, which are never negative.
    squares: ClassVar[tuple[int, ...]] = ()
    learning_rate: float = 0.01
    rate_factors: RateFactors | None = field(
        default=None, kw_only=True, metadata={"kind": RateFactors}
    )

    def __post_init__(self) -> None:
        _checks.real(self.learning_rate, "learning_rate", above=0)
        if not isinstance(self.rate_factors, RateFactors | None):
            raise TypeError(f"rate_factors must be RateFactors or None, got {self.rate_factors!r}")

    def __repr__(self) -> str:
        values = {item.name: getattr(self, item.name) for item in fields(self) if item.repr}
        if self.rate_factors is None:
            del values["rate_factors"]
        shown = ", ".join(f"{name}={value!r}" for name, value in values.items())
        return f"{type(self).__qualname__}({shown})"

    def layer_factors(self, n_layers: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the factors on the rate of each layer's weights, and those of its biases.

        Raises
        ------
        ValueError
            If a tuple of factors does not match the number of layers.

        Examples
        --------
        >>> OPTIMIZERS["sgd"].layer_factors(2)
        ((1.0, 1.0), (1.0, 1.0))
        """
        return self._factors.of_layers(n_layers)

    @property
    def scale_factor(self) -> float:
        """The factor on the rate of the scaling layer.

        Examples
        --------
        >>> SGD(rate_factors=RateFactors(scale=6.0)).scale_factor, SGD().scale_factor
        (6.0, 1.0)
        """
        return float(self._factors.scale)

    @property
    def _factors(self) -> RateFactors:
        return RateFactors() if self.rate_factors is None else self.rate_factors

    @property
    def n_moments(self) -> int:
        """How many vectors of state the optimizer keeps."""
        return 0

    @abstractmethod
    def update(
        self,
        parameters: Array,
        gradient: Array,
        moments: Array,
        learning_rate: float | Array,
        step: int,
    ) -> None:
        """Change `parameters` and `moments` in place.

        Parameters
        ----------
        parameters : ndarray of shape (n_parameters,)
        gradient : ndarray of shape (n_parameters,)
            Used as scratch: it holds no gradient afterwards.
        moments : ndarray of shape (n_moments, n_parameters)
        learning_rate : float or ndarray of shape (n_parameters,)
            The rate of this step; an array, each parameter's own, only where there are
            `rate_factors`.
        step : int
            Counts updates from 1.
        """


@dataclass(frozen=True, repr=False)
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum or Nesterov momentum on request.

    b = momentum b + g; p -= learning_rate b, or learning_rate (g + momentum b) with Nesterov
    (Sutskever et al. 2013), as PyTorch writes them.

    Parameters
    ----------
    learning_rate : float, default 0.01
        Above 0.
    momentum : float, default 0.0
        In [0, 1).
    nesterov : bool, default False
        Needs a momentum above 0.
    weight_decay : float, default 0.0
        Adds weight_decay * p to the gradient, biases included.
    rate_factors : RateFactors or None, default None
        By keyword: factors on the rate of every layer.

    Examples
    --------
    >>> import numpy as np
    >>> p = np.array([1.0])
    >>> SGD(0.1).update(p, np.array([2.0]), np.empty((0, 1)), 0.1, 1)
    >>> p
    array([0.8])
    """

    name: ClassVar[str] = "sgd"
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _checks.real(self.momentum, "momentum", at_least=0, below=1)
        _checks.real(self.weight_decay, "weight_decay", at_least=0)
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum greater than 0, got momentum=0")

    @property
    def n_moments(self) -> int:
        return 1 if self.momentum else 0

    def update(
        self,
        parameters: Array,
        gradient: Array,
        moments: Array,
        learning_rate: float | Array,
        step: int,
    ) -> None:
        if self.weight_decay:
            gradient += self.weight_decay * parameters
        if self.momentum:
            moments[0] *= self.momentum
            moments[0] += gradient
            if self.nesterov:
                gradient += self.momentum * moments[0]
            else:
                gradient[:] = moments[0]
        gradient *= learning_rate
        parameters -= gradient


@dataclass(frozen=True, repr=False)
class Adam(Optimizer):
    """Adam (Kingma & Ba 2014, arXiv 1412.6980).

    Parameters
    ----------
    learning_rate : float, default 0.001
        Above 0.
    beta_1, beta_2 : float, default 0.9 and 0.999
        Decay rates of the two moments, in [0, 1).
    epsilon : float, default 1e-8
        Added to the root of the second moment, above 0.
    weight_decay : float, default 0.0
        Adds weight_decay * p to the gradient, biases included.
    rate_factors : RateFactors or None, default None
        By keyword: factors on the rate of every layer.

    Examples
    --------
    >>> import numpy as np
    >>> p = np.array([1.0])
    >>> Adam().update(p, np.array([2.0]), np.zeros((2, 1)), 0.001, 1)
    >>> p.round(6)
    array([0.999])
    """

    name: ClassVar[str] = "adam"
    squares: ClassVar[tuple[int, ...]] = (1,)
    #: True where weight decay shrinks the parameters directly, apart from the gradient.
    decoupled_decay: ClassVar[bool] = False
    #: True where epsilon is added to the root before the correction of its bias: the paper's
    #: epsilon hat, at the end of its section 2.
    epsilon_hat: ClassVar[bool] = False
    learning_rate: float = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _checks.real(self.beta_1, "beta_1", at_least=0, below=1)
        _checks.real(self.beta_2, "beta_2", at_least=0, below=1)
        _checks.real(self.epsilon, "epsilon", above=0)
        _checks.real(self.weight_decay, "weight_decay", at_least=0)

    @property
    def n_moments(self) -> int:
        return 2

    def update(
        self,
        parameters: Array,
        gradient: Array,
        moments: Array,
        learning_rate: float | Array,
        step: int,
    ) -> None:
        if self.weight_decay and self.decoupled_decay:
            parameters *= 1 - learning_rate * self.weight_decay
        elif self.weight_decay:
            gradient += self.weight_decay * parameters
        first, second = moments
        first *= self.beta_1
        first += (1 - self.beta_1) * gradient
        second *= self.beta_2
        second += (1 - self.beta_2) * gradient * gradient  # a square alone overflows sooner
        np.sqrt(second, out=gradient)
        root = math.sqrt(1 - self.beta_2**step)
        gradient /= root
        gradient += self.epsilon / root if self.epsilon_hat else self.epsilon
        np.divide(first, gradient, out=gradient)
        gradient *= learning_rate / (1 - self.beta_1**step)
        parameters -= gradient


@dataclass(frozen=True, repr=False)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2017, arXiv 1711.05101).

    Parameters as `Adam`, but `weight_decay` (default 0.01) first shrinks every parameter by the
    factor 1 - learning_rate * weight_decay.

    Examples
    --------
    >>> AdamW().weight_decay
    0.01
    """

    name: ClassVar[str] = "adamw"
    decoupled_decay: ClassVar[bool] = True
    weight_decay: float = 0.01


@dataclass(frozen=True, repr=False)
class EpsilonHatAdam(AdamW):
    """Adam as scikit-learn writes it, with `epsilon` before the correction of bias; decay as AdamW.

    Examples
    --------
    >>> EpsilonHatAdam(0.001).epsilon_hat
    True
    """

    epsilon_hat: ClassVar[bool] = True


@dataclass(frozen=True, repr=False)
class RMSprop(Optimizer):
    """RMSprop (Tieleman & Hinton 2012, Lecture 6.5 of "Neural Networks for Machine Learning").

    Parameters
    ----------
    learning_rate : float, default 0.01
        Above 0.
    smoothing : float, default 0.99
        Decay rate of the mean square (PyTorch's alpha), in [0, 1).
    epsilon : float, default 1e-8
        Added to the root of the mean square, above 0.
    momentum : float, default 0.0
        In [0, 1).
    weight_decay : float, default 0.0
        Adds weight_decay * p to the gradient, biases included.
    rate_factors : RateFactors or None, default None
        By keyword: factors on the rate of every layer.

    Examples
    --------
    >>> RMSprop(momentum=0.9).n_moments
    2
    """

    name: ClassVar[str] = "rmsprop"
    squares: ClassVar[tuple[int, ...]] = (0,)
    smoothing: float = 0.99
    epsilon: float = 1e-8
    momentum: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _checks.real(self.smoothing, "smoothing", at_least=0, below=1)
        _checks.real(self.epsilon, "epsilon", above=0)
        _checks.real(self.momentum, "momentum", at_least=0, below=1)
        _checks.real(self.weight_decay, "weight_decay", at_least=0)

    @property
    def n_moments(self) -> int:
        return 2 if self.momentum else 1

    def update(
        self,
        parameters: Array,
        gradient: Array,
        moments: Array,
        learning_rate: float | Array,
        step: int,
    ) -> None:
        if self.weight_decay:
            gradient += self.weight_decay * parameters
        moments[0] *= self.smoothing
        moments[0] += (1 - self.smoothing) * gradient * gradient
        gradient /= np.sqrt(moments[0]) + self.epsilon
        if self.momentum:
            moments[1] *= self.momentum
            moments[1] += gradient
            gradient[:] = moments[1]
        gradient *= learning_rate
        parameters -= gradient


@dataclass(frozen=True, repr=False)
class Adagrad(Optimizer):
    """Adagrad (Duchi et al. 2011).

    Parameters
    ----------
    learning_rate : float, default 0.01
        Above 0.
    epsilon : float, default 1e-10
        Added to the root of the sum of squares, above 0.
    weight_decay : float, default 0.0
        Adds weight_decay * p to the gradient, biases included.
    rate_factors : RateFactors or None, default None
        By keyword: factors on the rate of every layer.

    Examples
    --------
    >>> Adagrad().n_moments
    1
    """

    name: ClassVar[str] = "adagrad"
    squares: ClassVar[tuple[int, ...]] = (0,)
    epsilon: float = 1e-10
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _checks.real(self.epsilon, "epsilon", above=0)
        _checks.real(self.weight_decay, "weight_decay", at_least=0)

    @property
    def n_moments(self) -> int:
        return 1

    def update(
        self,
        parameters: Array,
        gradient: Array,
        moments: Array,
        learning_rate: float | Array,
        step: int,
    ) -> None:
        if self.weight_decay:
            gradient += self.weight_decay * parameters
        moments[0] += gradient * gradient
        gradient /= np.sqrt(moments[0]) + self.epsilon
        gradient *= learning_rate
        parameters -= gradient


@dataclass(frozen=True, repr=False)
class Lion(Optimizer):
    """Lion: the sign of an interpolated momentum (Chen et al. 2023, arXiv 2302.06675).

    Parameters
    ----------
    learning_rate : float, default 0.0001
        Above 0; 3 to 10 times smaller than Adam's.
    beta_1, beta_2 : float, default 0.9 and 0.99
        Interpolation of the update and decay of the momentum, in [0, 1).
    weight_decay : float, default 0.0
        Decoupled, as in `AdamW`.
    rate_factors : RateFactors or None, default None
        By keyword: factors on the rate of every layer.

    Examples
    --------
    >>> import numpy as np
    >>> p = np.array([1.0])
    >>> Lion(0.1).update(p, np.array([2.0]), np.zeros((1, 1)), 0.1, 1)
    >>> p
    array([0.9])
    """

    name: ClassVar[str] = "lion"
    learning_rate: float = 0.0001
    beta_1: float = 0.9
    beta_2: float = 0.99
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _checks.real(self.beta_1, "beta_1", at_least=0, below=1)
        _checks.real(self.beta_2, "beta_2", at_least=0, below=1)
        _checks.real(self.weight_decay, "weight_decay", at_least=0)

    @property
    def n_moments(self) -> int:
        return 1

    def update(
        self,
        parameters: Array,
        gradient: Array,
        moments: Array,
        learning_rate: float | Array,
        step: int,
    ) -> None:
        if self.weight_decay:
            parameters *= 1 - learning_rate * self.weight_decay
        direction = np.sign(self.beta_1 * moments[0] + (1 - self.beta_1) * gradient)
        moments[0] *= self.beta_2
        moments[0] += (1 - self.beta_2) * gradient
        direction *= learning_rate
        parameters -= direction


#: Every optimizer by name, with default parameters.
OPTIMIZERS: _checks.Vocabulary[Optimizer] = _checks.Vocabulary(
    {kind.name: kind() for kind in (SGD, Adam, AdamW, RMSprop, Adagrad, Lion)},
)
