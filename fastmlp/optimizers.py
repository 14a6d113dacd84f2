"""Optimizers: small frozen descriptions with their update rules in NumPy.

An optimizer sees flat vectors: parameters, gradient, and its moments as the rows of one array of
shape (n_moments, n_parameters), zero at the start. Definitions and defaults are PyTorch's.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastmlp import _checks

Array = NDArray[Any]


@dataclass(frozen=True)
class Optimizer(ABC):
    """How a gradient changes the parameters.

    Every optimizer has a `learning_rate`; a schedule may replace it at every step.

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

    def __post_init__(self) -> None:
        _checks.real(self.learning_rate, "learning_rate", above=0)

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
        learning_rate: float,
        step: int,
    ) -> None:
        """Change `parameters` and `moments` in place.

        Parameters
        ----------
        parameters : ndarray of shape (n_parameters,)
        gradient : ndarray of shape (n_parameters,)
            Used as scratch: it holds no gradient afterwards.
        moments : ndarray of shape (n_moments, n_parameters)
        learning_rate : float
            The rate of this step.
        step : int
            Counts updates from 1.
        """


@dataclass(frozen=True)
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
        learning_rate: float,
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


@dataclass(frozen=True)
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
        learning_rate: float,
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


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class EpsilonHatAdam(AdamW):
    """Adam as scikit-learn writes it, with `epsilon` before the correction of bias; decay as AdamW.

    Examples
    --------
    >>> EpsilonHatAdam(0.001).epsilon_hat
    True
    """

    epsilon_hat: ClassVar[bool] = True


@dataclass(frozen=True)
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
        learning_rate: float,
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


@dataclass(frozen=True)
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
        learning_rate: float,
        step: int,
    ) -> None:
        if self.weight_decay:
            gradient += self.weight_decay * parameters
        moments[0] += gradient * gradient
        gradient /= np.sqrt(moments[0]) + self.epsilon
        gradient *= learning_rate
        parameters -= gradient


@dataclass(frozen=True)
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
        learning_rate: float,
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
