"""Activation functions: small frozen descriptions with their formulas in NumPy.

Hidden activations map pre-activations ``z`` to activations ``a`` element by element. Output
activations map logits to the network's outputs, row by row.
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


def stable_sigmoid(z: Array, out: Array | None = None) -> Array:
    """Return 1 / (1 + exp(-z)) without overflow and with full relative accuracy.

    Parameters
    ----------
    z : ndarray of float
    out : ndarray, optional
        Where the result is written; may be `z` itself.

    Examples
    --------
    >>> import numpy as np
    >>> stable_sigmoid(np.array([-1e4, 0.0, 1e4]))
    array([0. , 0.5, 1. ])
    """
    small = np.exp(-np.abs(z))
    numerator = np.where(z >= 0, z.dtype.type(1), small)
    return np.divide(numerator, 1 + small, out=out)


def softplus(z: Array) -> Array:
    """Return log(1 + exp(z)) without overflow.

    Examples
    --------
    >>> import numpy as np
    >>> softplus(np.array([-1e4, 0.0, 1.0])).round(4)
    array([0.    , 0.6931, 1.3133])
    """
    return np.logaddexp(z, z.dtype.type(0))


# NumPy has no erf; this one is slow and right, as a reference should be.
_erf_objects = np.frompyfunc(math.erf, 1, 1)


def _erf(z: Array) -> Array:
    return np.asarray(_erf_objects(z), dtype=z.dtype)


@dataclass(frozen=True)
class Activation(ABC):
    """A hidden activation ``a = f(z)``, applied element by element.

    Subclasses give `forward` and `derivative`; `name` identifies them in the vocabulary.

    Examples
    --------
    One of your own, which the NumPy backend takes as it is:

    >>> class Square(Activation):
    ...     name = "square"
    ...     needs_input = True
    ...
    ...     def forward(self, z, out):
    ...         return np.square(z, out=out)
    ...
    ...     def derivative(self, z, a):
    ...         return 2 * z
    >>> Square().forward(np.array([-1.0, 3.0]), out=np.empty(2))
    array([1., 9.])
    """

    name: ClassVar[str]
    #: True where ``f'`` cannot be had from ``a`` alone, so that ``z`` has to be kept.
    needs_input: ClassVar[bool] = False
    #: The initializer that suits weights which feed this activation.
    initializer: ClassVar[str] = "he_normal"

    @abstractmethod
    def forward(self, z: Array, out: Array) -> Array:
        """Write f(z) into `out` (which may be `z`) and return it."""

    @abstractmethod
    def derivative(self, z: Array, a: Array) -> Array:
        """Return f'(z), given ``a = f(z)``; `z` is meaningful only if `needs_input`."""


@dataclass(frozen=True)
class Identity(Activation):
    """f(z) = z.

    Examples
    --------
    >>> Identity().name
    'identity'
    """

    name: ClassVar[str] = "identity"
    initializer: ClassVar[str] = "glorot_uniform"

    def forward(self, z: Array, out: Array) -> Array:
        if out is not z:
            np.copyto(out, z)
        return out

    def derivative(self, z: Array, a: Array) -> Array:
        return np.ones_like(a)


@dataclass(frozen=True)
class ReLU(Activation):
    """f(z) = max(z, 0); its derivative at 0 is taken as 0.

    Examples
    --------
    >>> import numpy as np
    >>> ReLU().forward(np.array([-1.0, 2.0]), out=np.empty(2))
    array([0., 2.])
    """

    name: ClassVar[str] = "relu"

    def forward(self, z: Array, out: Array) -> Array:
        return np.maximum(z, 0, out=out)

    def derivative(self, z: Array, a: Array) -> Array:
        return a > 0


@dataclass(frozen=True)
class Sigmoid(Activation):
    """f(z) = 1 / (1 + exp(-z)).

    Examples
    --------
    >>> import numpy as np
    >>> Sigmoid().forward(np.array([0.0]), out=np.empty(1))
    array([0.5])
    """

    name: ClassVar[str] = "sigmoid"
    initializer: ClassVar[str] = "glorot_uniform"

    def forward(self, z: Array, out: Array) -> Array:
        return stable_sigmoid(z, out)

    def derivative(self, z: Array, a: Array) -> Array:
        return a * (1 - a)


@dataclass(frozen=True)
class Tanh(Activation):
    """f(z) = tanh(z).

    Examples
    --------
    >>> import numpy as np
    >>> Tanh().forward(np.array([0.0]), out=np.empty(1))
    array([0.])
    """

    name: ClassVar[str] = "tanh"
    initializer: ClassVar[str] = "glorot_uniform"

    def forward(self, z: Array, out: Array) -> Array:
        return np.tanh(z, out=out)

    def derivative(self, z: Array, a: Array) -> Array:
        return 1 - a * a


@dataclass(frozen=True)
class LeakyReLU(Activation):
    """f(z) = z for z > 0, else `negative_slope` * z (Maas et al. 2013).

    Parameters
    ----------
    negative_slope : float, default 0.01
        Slope below zero, at least 0.

    Examples
    --------
    >>> import numpy as np
    >>> LeakyReLU(0.1).forward(np.array([-1.0, 2.0]), out=np.empty(2))
    array([-0.1,  2. ])
    """

    name: ClassVar[str] = "leaky_relu"
    negative_slope: float = 0.01

    def __post_init__(self) -> None:
        _checks.real(self.negative_slope, "negative_slope", at_least=0)

    def forward(self, z: Array, out: Array) -> Array:
        return np.multiply(z, np.where(z > 0, 1, self.negative_slope).astype(z.dtype), out=out)

    def derivative(self, z: Array, a: Array) -> Array:
        return np.where(a > 0, 1, self.negative_slope).astype(a.dtype)


@dataclass(frozen=True)
class ELU(Activation):
    """f(z) = z for z > 0, else `alpha` (exp(z) - 1) (Clevert et al. 2015, arXiv 1511.07289).

    Parameters
    ----------
    alpha : float, default 1.0
        Minus the limit at minus infinity, above 0.

    Examples
    --------
    >>> import numpy as np
    >>> ELU().forward(np.array([-1.0, 2.0]), out=np.empty(2)).round(4)
    array([-0.6321,  2.    ])
    """

    name: ClassVar[str] = "elu"
    alpha: float = 1.0

    def __post_init__(self) -> None:
        _checks.real(self.alpha, "alpha", above=0)

    def forward(self, z: Array, out: Array) -> Array:
        below = self.alpha * np.expm1(np.minimum(z, 0))
        return np.add(np.maximum(z, 0), below, out=out)

    def derivative(self, z: Array, a: Array) -> Array:
        return np.where(a > 0, 1, a + self.alpha).astype(a.dtype)


@dataclass(frozen=True)
class SELU(Activation):
    """The self-normalizing ELU (Klambauer et al. 2017, arXiv 1706.02515).

    f(z) = scale * z for z > 0, else scale * alpha * (exp(z) - 1).

    Examples
    --------
    >>> import numpy as np
    >>> SELU().forward(np.array([-1.0, 1.0]), out=np.empty(2)).round(4)
    array([-1.1113,  1.0507])
    """

    name: ClassVar[str] = "selu"
    initializer: ClassVar[str] = "lecun_normal"
    alpha: ClassVar[float] = 1.6732632423543772
    scale: ClassVar[float] = 1.0507009873554805

    def forward(self, z: Array, out: Array) -> Array:
        below = self.scale * self.alpha * np.expm1(np.minimum(z, 0))
        return np.add(self.scale * np.maximum(z, 0), below, out=out)

    def derivative(self, z: Array, a: Array) -> Array:
        return np.where(a > 0, self.scale, a + self.scale * self.alpha).astype(a.dtype)


@dataclass(frozen=True)
class GELU(Activation):
    """f(z) = z Phi(z), Phi the normal distribution function (arXiv 1606.08415).

    Examples
    --------
    >>> import numpy as np
    >>> GELU().forward(np.array([-1.0, 1.0]), out=np.empty(2)).round(4)
    array([-0.1587,  0.8413])
    """

    name: ClassVar[str] = "gelu"
    needs_input: ClassVar[bool] = True

    def forward(self, z: Array, out: Array) -> Array:
        return np.multiply(z, self._distribution(z), out=out)

    def derivative(self, z: Array, a: Array) -> Array:
        density = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
        return self._distribution(z) + z * density

    @staticmethod
    def _distribution(z: Array) -> Array:
        return 0.5 * (1 + _erf(z * math.sqrt(0.5)))


@dataclass(frozen=True)
class GELUTanh(Activation):
    """The tanh approximation of GELU: f(z) = z/2 (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3))).

    Examples
    --------
    >>> import numpy as np
    >>> GELUTanh().forward(np.array([-1.0, 1.0]), out=np.empty(2)).round(4)
    array([-0.1588,  0.8412])
    """

    name: ClassVar[str] = "gelu_tanh"
    needs_input: ClassVar[bool] = True

    def forward(self, z: Array, out: Array) -> Array:
        return np.multiply(z, 0.5 * (1 + self._tanh(z)), out=out)

    def derivative(self, z: Array, a: Array) -> Array:
        t = self._tanh(z)
        inner = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * z * z)
        return 0.5 * (1 + t) + 0.5 * z * (1 - t * t) * inner

    @staticmethod
    def _tanh(z: Array) -> Array:
        return np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z * z * z))


@dataclass(frozen=True)
class SiLU(Activation):
    """f(z) = z sigmoid(z), also called swish (arXiv 1606.08415, 1710.05941).

    Examples
    --------
    >>> import numpy as np
    >>> SiLU().forward(np.array([0.0, 1.0]), out=np.empty(2)).round(4)
    array([0.    , 0.7311])
    """

    name: ClassVar[str] = "silu"
    needs_input: ClassVar[bool] = True

    def forward(self, z: Array, out: Array) -> Array:
        return np.multiply(z, stable_sigmoid(z), out=out)

    def derivative(self, z: Array, a: Array) -> Array:
        s = stable_sigmoid(z)
        return s * (1 + z * (1 - s))


@dataclass(frozen=True)
class Mish(Activation):
    """f(z) = z tanh(softplus(z)) (Misra 2019, arXiv 1908.08681).

    Examples
    --------
    >>> import numpy as np
    >>> Mish().forward(np.array([0.0, 1.0]), out=np.empty(2)).round(4)
    array([0.    , 0.8651])
    """

    name: ClassVar[str] = "mish"
    needs_input: ClassVar[bool] = True

    def forward(self, z: Array, out: Array) -> Array:
        return np.multiply(z, np.tanh(softplus(z)), out=out)

    def derivative(self, z: Array, a: Array) -> Array:
        t = np.tanh(softplus(z))
        return t + z * (1 - t * t) * stable_sigmoid(z)


@dataclass(frozen=True)
class Softplus(Activation):
    """f(z) = log(1 + exp(z)).

    Examples
    --------
    >>> import numpy as np
    >>> Softplus().forward(np.array([0.0]), out=np.empty(1)).round(4)
    array([0.6931])
    """

    name: ClassVar[str] = "softplus"
    needs_input: ClassVar[bool] = True

    def forward(self, z: Array, out: Array) -> Array:
        np.copyto(out, softplus(z))
        return out

    def derivative(self, z: Array, a: Array) -> Array:
        return stable_sigmoid(z)


@dataclass(frozen=True)
class ReLU6(Activation):
    """f(z) = min(max(z, 0), 6).

    Examples
    --------
    >>> import numpy as np
    >>> ReLU6().forward(np.array([-1.0, 9.0]), out=np.empty(2))
    array([0., 6.])
    """

    name: ClassVar[str] = "relu6"

    def forward(self, z: Array, out: Array) -> Array:
        return np.clip(z, 0, 6, out=out)

    def derivative(self, z: Array, a: Array) -> Array:
        return (a > 0) & (a < 6)


@dataclass(frozen=True)
class HardTanh(Activation):
    """f(z) = min(max(z, -1), 1).

    Examples
    --------
    >>> import numpy as np
    >>> HardTanh().forward(np.array([-3.0, 0.5]), out=np.empty(2))
    array([-1. ,  0.5])
    """

    name: ClassVar[str] = "hard_tanh"
    initializer: ClassVar[str] = "glorot_uniform"

    def forward(self, z: Array, out: Array) -> Array:
        return np.clip(z, -1, 1, out=out)

    def derivative(self, z: Array, a: Array) -> Array:
        return (a > -1) & (a < 1)


@dataclass(frozen=True)
class HardSigmoid(Activation):
    """f(z) = min(max(z / 6 + 1/2, 0), 1), as PyTorch and Keras 3 define it.

    Examples
    --------
    >>> import numpy as np
    >>> HardSigmoid().forward(np.array([-3.0, 0.0]), out=np.empty(2))
    array([0. , 0.5])
    """

    name: ClassVar[str] = "hard_sigmoid"
    initializer: ClassVar[str] = "glorot_uniform"

    def forward(self, z: Array, out: Array) -> Array:
        return np.clip(z * (1 / 6) + 0.5, 0, 1, out=out)

    def derivative(self, z: Array, a: Array) -> Array:
        return np.where((a > 0) & (a < 1), 1 / 6, 0).astype(a.dtype)


@dataclass(frozen=True)
class HardSwish(Activation):
    """f(z) = z hard_sigmoid(z) (Howard et al. 2019, arXiv 1905.02244).

    Examples
    --------
    >>> import numpy as np
    >>> HardSwish().forward(np.array([-4.0, 3.0]), out=np.empty(2))
    array([-0.,  3.])
    """

    name: ClassVar[str] = "hard_swish"
    needs_input: ClassVar[bool] = True

    def forward(self, z: Array, out: Array) -> Array:
        return np.multiply(z, np.clip(z * (1 / 6) + 0.5, 0, 1), out=out)

    def derivative(self, z: Array, a: Array) -> Array:
        inside = z * (1 / 3) + 0.5
        return np.where(z <= -3, 0, np.where(z >= 3, 1, inside)).astype(z.dtype)


@dataclass(frozen=True)
class OutputActivation(ABC):
    """An output activation: logits to outputs, with its vector-Jacobian product.

    Examples
    --------
    >>> output = OUTPUT_ACTIVATIONS["softmax"]
    >>> isinstance(output, OutputActivation)
    True
    >>> output.forward(np.zeros((1, 4)), out=np.empty((1, 4)))
    array([[0.25, 0.25, 0.25, 0.25]])
    """

    name: ClassVar[str]
    initializer: ClassVar[str] = "glorot_uniform"

    @abstractmethod
    def forward(self, logits: Array, out: Array) -> Array:
        """Write the outputs of `logits`, shape (n_samples, n_outputs), into `out`."""

    @abstractmethod
    def backward(self, gradient: Array, outputs: Array) -> Array:
        """Return the gradient by the logits, given the gradient by the outputs."""


@dataclass(frozen=True)
class Softmax(OutputActivation):
    """Probabilities of classes: exp(z_k) over the sum of all exp(z_j).

    Examples
    --------
    >>> import numpy as np
    >>> Softmax().forward(np.array([[1e4, 1e4]]), out=np.empty((1, 2)))
    array([[0.5, 0.5]])
    """

    name: ClassVar[str] = "softmax"

    def forward(self, logits: Array, out: Array) -> Array:
        with np.errstate(over="ignore"):  # a difference beyond the dtype is a probability of 0
            np.subtract(logits, logits.max(axis=1, keepdims=True), out=out)
        np.exp(out, out=out)
        out /= out.sum(axis=1, keepdims=True)
        return out

    def backward(self, gradient: Array, outputs: Array) -> Array:
        """Multiply by the full Jacobian diag(p) - p p^T, not its diagonal."""
        inner = np.sum(gradient * outputs, axis=1, keepdims=True)
        return outputs * (gradient - inner)


@dataclass(frozen=True)
class SigmoidOutput(OutputActivation):
    """Independent probabilities, one for each output.

    Examples
    --------
    >>> import numpy as np
    >>> SigmoidOutput().forward(np.array([[0.0]]), out=np.empty((1, 1)))
    array([[0.5]])
    """

    name: ClassVar[str] = "sigmoid"

    def forward(self, logits: Array, out: Array) -> Array:
        return stable_sigmoid(logits, out)

    def backward(self, gradient: Array, outputs: Array) -> Array:
        return gradient * outputs * (1 - outputs)


@dataclass(frozen=True)
class Linear(OutputActivation):
    """Outputs are the logits themselves.

    Examples
    --------
    >>> Linear().name
    'linear'
    """

    name: ClassVar[str] = "linear"

    def forward(self, logits: Array, out: Array) -> Array:
        if out is not logits:
            np.copyto(out, logits)
        return out

    def backward(self, gradient: Array, outputs: Array) -> Array:
        return gradient


@dataclass(frozen=True)
class Exp(OutputActivation):
    """Positive outputs exp(z), for rates (Poisson regression).

    Examples
    --------
    >>> import numpy as np
    >>> Exp().forward(np.array([[0.0]]), out=np.empty((1, 1)))
    array([[1.]])
    """

    name: ClassVar[str] = "exp"

    def forward(self, logits: Array, out: Array) -> Array:
        with np.errstate(over="ignore"):  # a rate beyond the float range is infinite
            return np.exp(logits, out=out)

    def backward(self, gradient: Array, outputs: Array) -> Array:
        return gradient * outputs


#: Every hidden activation by name, with default parameters.
ACTIVATIONS: _checks.Vocabulary[Activation] = _checks.Vocabulary(
    {
        kind.name: kind()
        for kind in (
            ReLU,
            Sigmoid,
            Tanh,
            Identity,
            LeakyReLU,
            ELU,
            SELU,
            GELU,
            GELUTanh,
            SiLU,
            Mish,
            Softplus,
            ReLU6,
            HardTanh,
            HardSigmoid,
            HardSwish,
        )
    },
    {
        "sigmoid": ("logistic",),
        "identity": ("linear", "none"),
        "silu": ("swish",),
        "hard_swish": ("hard_silu",),
    },
)

#: Every output activation by name.
OUTPUT_ACTIVATIONS: _checks.Vocabulary[OutputActivation] = _checks.Vocabulary(
    {kind.name: kind() for kind in (Softmax, SigmoidOutput, Linear, Exp)},
    {
        "sigmoid": ("logistic",),
        "linear": ("identity", "none"),
        "exp": ("exponential",),
    },
)
