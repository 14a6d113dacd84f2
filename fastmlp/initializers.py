"""Initial weights: small frozen descriptions of how a layer's weights are drawn."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import _checks

Array = NDArray[Any]


@dataclass(frozen=True)
class Initializer(ABC):
    """How the weights of one layer are drawn; biases always start at zero.

    Examples
    --------
    One of your own:

    >>> class Constant(Initializer):
    ...     def sample(self, generator, n_in, n_out):
    ...         return np.full((n_in, n_out), 0.5)
    >>> from fastmlp import MLP
    >>> MLP([2, 1], output_activation="linear", initializer=Constant()).predict([[1.0, 1.0]])
    array([1.], dtype=float32)
    """

    @abstractmethod
    def sample(self, generator: np.random.Generator, n_in: int, n_out: int) -> Array:
        """Return float64 weights of shape (n_in, n_out)."""


@dataclass(frozen=True)
class Normal(Initializer):
    """Plain normal weights of mean 0, whatever the layer's size.

    Parameters
    ----------
    standard_deviation : float, default 0.05
        Above 0.

    Examples
    --------
    >>> import numpy as np
    >>> Normal(0.1).sample(np.random.default_rng(0), 2, 3).shape
    (2, 3)
    """

    standard_deviation: float = 0.05

    def __post_init__(self) -> None:
        _checks.real(self.standard_deviation, "standard_deviation", above=0)

    def sample(self, generator: np.random.Generator, n_in: int, n_out: int) -> Array:
        return generator.normal(0.0, self.standard_deviation, (n_in, n_out))


@dataclass(frozen=True)
class VarianceScaling(Initializer):
    """Weights whose variance is `gain` over a mean of the layer's fan-in and fan-out.

    Parameters
    ----------
    gain : float
    fan_out_share : float
        0 divides by n_in, 0.5 by the mean of n_in and n_out.
    uniform : bool
        Uniform instead of normal draws, of the same variance.

    Examples
    --------
    >>> import numpy as np
    >>> w = INITIALIZERS["he_normal"].sample(np.random.default_rng(0), 800, 100)
    >>> round(float(w.std()), 3)
    0.05
    """

    gain: float
    fan_out_share: float
    uniform: bool

    def sample(self, generator: np.random.Generator, n_in: int, n_out: int) -> Array:
        fan = n_in * (1 - self.fan_out_share) + n_out * self.fan_out_share
        deviation = math.sqrt(self.gain / fan)
        if self.uniform:
            limit = math.sqrt(3) * deviation
            return generator.uniform(-limit, limit, (n_in, n_out))
        return generator.normal(0.0, deviation, (n_in, n_out))


#: Every initializer by name. He: He et al. 2015 (arXiv 1502.01852); Glorot: Glorot & Bengio 2010;
#: LeCun: LeCun et al. 1998, "Efficient BackProp".
INITIALIZERS: _checks.Vocabulary[Initializer] = _checks.Vocabulary(
    {
        "he_normal": VarianceScaling(2.0, 0.0, False),
        "he_uniform": VarianceScaling(2.0, 0.0, True),
        "glorot_normal": VarianceScaling(1.0, 0.5, False),
        "glorot_uniform": VarianceScaling(1.0, 0.5, True),
        "lecun_normal": VarianceScaling(1.0, 0.0, False),
        "normal": Normal(),
    },
    {
        "he_normal": ("kaiming_normal",),
        "he_uniform": ("kaiming_uniform",),
        "glorot_normal": ("xavier_normal",),
        "glorot_uniform": ("xavier_uniform",),
        "normal": ("random_normal",),
    },
)
