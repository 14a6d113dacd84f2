"""How every activation is written elsewhere: one row each, read and written by the same row."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from fastmlp import _checks
from fastmlp.activations import ACTIVATIONS, OUTPUT_ACTIVATIONS, SELU, Activation, OutputActivation
from fastmlp.exchange.formulas import ENOUGH, Formula, Op, Parameter, Z, match, normal_form, op

T = TypeVar("T", Activation, OutputActivation)


@dataclass(frozen=True)
class Allowed:
    """A setting of a module that is written as one value, and read as any that is accepted."""

    written: Any
    accepts: Callable[[Any], bool]


@dataclass(frozen=True)
class Module:
    """A module of `torch.nn`, or of `fastmlp.exchange.torch`, with the settings that it has.

    Examples
    --------
    >>> module("GELU", approximate="tanh").name
    'GELU'
    """

    name: str
    settings: Mapping[str, Any]


def module(name: str, **settings: Any) -> Module:
    """Return a module of PyTorch with settings: values, `Allowed`, or a `Parameter`.

    Examples
    --------
    >>> module("ReLU").settings
    {}
    """
    return Module(name, settings)


@dataclass(frozen=True)
class Row:
    """How an activation is written.

    Parameters
    ----------
    onnx : Op
        In operators of ONNX, for float32.
    torch : tuple of Module
        In PyTorch; the first is written, all are read. Without one, nothing is.
    double : Op or None, default None
        For float64, where onnxruntime lacks an operator of `onnx` for it, or keeps its attributes
        in float32. None is `onnx`.
    also : tuple of Op, default ()
        What else is read.
    """

    onnx: Op
    torch: tuple[Module, ...]
    double: Op | None = None
    also: tuple[Op, ...] = ()

    def onnx_for(self, dtype: np.dtype[Any]) -> Op:
        """Return what is written for a dtype."""
        return self.onnx if dtype == np.float32 or self.double is None else self.double

    @cached_property
    def patterns(self) -> tuple[Formula, ...]:
        """The normal forms of all that is read."""
        written = (self.onnx, self.double, *self.also)
        return tuple(normal_form(one) for one in written if one is not None)


# What onnxruntime has for float64: no Elu, Selu, Softplus, HardSigmoid and Erf.
_POSITIVE, _NEGATIVE = op("Max", Z, 0.0), op("Min", Z, 0.0)
_SOFTPLUS = _POSITIVE + op("Log", 1.0 + op("Exp", op("Neg", op("Abs", Z))))
_BELOW = op("Exp", _NEGATIVE) - 1.0
_SIXTH = op("Clip", Z * (1 / 6) + 0.5, 0.0, 1.0)
_SLOPE, _ALPHA = Parameter("negative_slope"), Parameter("alpha")
_CUBIC = math.sqrt(2 / math.pi) * (Z + 0.044715 * (Z * Z * Z))


def _erf(x: Op) -> Op:
    """Return erf in arithmetic and exp: 1 - exp(-x^2) p(t), t = 2 / (2 + |x|), within 3e-15.

    p is the polynomial through Chebyshev's points for |x| <= 6, beyond which erf is 1 to all
    digits; its variable is stretched to [-1, 1], where powers keep their digits.
    """
    farthest, degree = 6.0, 18
    least = 2 / (2 + farthest)

    def scaled_complement(s: Any) -> Any:
        sizes = 2 / (least + (1 - least) * (s + 1) / 2) - 2
        return np.array([math.erfc(size) * math.exp(size * size) for size in sizes])

    series = np.polynomial.Chebyshev.interpolate(scaled_complement, degree)
    powers = series.convert(kind=np.polynomial.Polynomial).coef
    size = op("Min", op("Abs", x), farthest)
    t = 2.0 / (size + 2.0)
    s = t * (2 / (1 - least)) - (1 + least) / (1 - least)
    value = s * float(powers[-1]) + float(powers[-2])
    for power in powers[-3::-1]:
        value = value * s + float(power)
    return op("Sign", x) * (1.0 - op("Exp", op("Neg", size * size)) * value)


#: Every hidden activation.
HIDDEN: dict[str, Row] = {
    "relu": Row(op("Relu", Z), (module("ReLU"),)),
    "sigmoid": Row(op("Sigmoid", Z), (module("Sigmoid"),)),
    "tanh": Row(op("Tanh", Z), (module("Tanh"),)),
    "identity": Row(Z, (module("Identity"),)),
    "leaky_relu": Row(
        op("LeakyRelu", Z, alpha=_SLOPE),
        (module("LeakyReLU", negative_slope=_SLOPE),),
        double=_POSITIVE + _SLOPE * _NEGATIVE,
    ),
    "elu": Row(
        op("Elu", Z, alpha=_ALPHA),
        (module("ELU", alpha=_ALPHA),),
        double=_POSITIVE + _ALPHA * _BELOW,
    ),
    "selu": Row(
        op("Selu", Z, alpha=SELU.alpha, gamma=SELU.scale),
        (module("SELU"),),
        double=SELU.scale * (_POSITIVE + SELU.alpha * _BELOW),
    ),
    "gelu": Row(
        0.5 * (Z * (1.0 + op("Erf", Z * math.sqrt(0.5)))),
        (module("GELU", approximate="none"),),
        double=0.5 * (Z * (1.0 + _erf(Z * math.sqrt(0.5)))),
    ),
    "gelu_tanh": Row(0.5 * (Z * (1.0 + op("Tanh", _CUBIC))), (module("GELU", approximate="tanh"),)),
    "silu": Row(Z * op("Sigmoid", Z), (module("SiLU"),)),
    "mish": Row(
        Z * op("Tanh", op("Softplus", Z)), (module("Mish"),), double=Z * op("Tanh", _SOFTPLUS)
    ),
    "softplus": Row(
        op("Softplus", Z),
        # Above its threshold PyTorch's is z itself: nothing is lost from 40 on.
        (module("Softplus", beta=1.0, threshold=Allowed(40.0, lambda value: value >= ENOUGH)),),
        double=_SOFTPLUS,
    ),
    "relu6": Row(
        op("Clip", Z, 0.0, 6.0),
        (module("ReLU6"), module("Hardtanh", min_val=0.0, max_val=6.0)),
    ),
    "hard_tanh": Row(
        op("Clip", Z, -1.0, 1.0),
        (module("Hardtanh", min_val=-1.0, max_val=1.0),),
    ),
    "hard_sigmoid": Row(
        op("HardSigmoid", Z, alpha=1 / 6, beta=0.5), (module("Hardsigmoid"),), double=_SIXTH
    ),
    "hard_swish": Row(op("HardSwish", Z), (module("Hardswish"),), double=Z * _SIXTH),
}

_LAST_AXIS = Allowed(-1, lambda value: value in (-1, 1, None))
#: Every output activation. The logarithm of a softmax is read as the softmax.
OUTPUTS: dict[str, Row] = {
    "softmax": Row(
        op("Softmax", Z),
        (module("Softmax", dim=_LAST_AXIS), module("LogSoftmax", dim=_LAST_AXIS)),
        also=(op("LogSoftmax", Z),),
    ),
    "sigmoid": Row(op("Sigmoid", Z), (module("Sigmoid"),)),
    "linear": Row(Z, (module("Identity"),)),
    "exp": Row(op("Exp", Z), (module("Exp"),)),
}


def row_of(activation: Activation | OutputActivation) -> Row:
    """Return the row of an activation.

    Raises
    ------
    ValueError
        If it is not one of the library's own.

    Examples
    --------
    >>> row_of(ACTIVATIONS["relu"]).onnx.kind
    'Relu'
    """
    rows, named = _tables(activation)
    name = getattr(activation, "name", None)
    if name not in rows or type(named[name]) is not type(activation):
        raise ValueError(
            f"the activation {activation!r} cannot be written for other libraries, which know "
            f"{_checks.listing(rows)}"
        )
    return rows[name]


def parameter_of(activation: Activation | OutputActivation, value: Any) -> Any:
    """Return a value of a row, or the activation's own where it is a parameter.

    Examples
    --------
    >>> parameter_of(ACTIVATIONS["elu"], Parameter("alpha"))
    1.0
    """
    return getattr(activation, value.name) if isinstance(value, Parameter) else value


def of_formula(formula: Formula, named: Mapping[str, T]) -> T | None:
    """Return the activation whose formula it is; None if it is nobody's.

    Parameters
    ----------
    formula : Formula
    named : mapping
        `ACTIVATIONS` or `OUTPUT_ACTIVATIONS`.

    Examples
    --------
    >>> of_formula(normal_form(op("LeakyRelu", Z, alpha=0.3)), ACTIVATIONS)
    LeakyReLU(negative_slope=0.3)
    """
    for name, row in _tables(next(iter(named.values())))[0].items():
        for pattern in row.patterns:
            parameters = match(pattern, formula)
            if parameters is not None:
                return type(named[name])(**parameters)
    return None


def of_module(kind: str, settings: Any, named: Mapping[str, T]) -> T | None:
    """Return the activation that a module of PyTorch computes; None if it is none.

    Parameters
    ----------
    kind : str
        The name of its class.
    settings : object
        Its settings are attributes.
    named : mapping
        `ACTIVATIONS` or `OUTPUT_ACTIVATIONS`.
    """
    for name, row in _tables(next(iter(named.values())))[0].items():
        for one in row.torch:
            if one.name == kind and _accepts(one.settings, settings):
                given = {
                    value.name: float(getattr(settings, setting))
                    for setting, value in one.settings.items()
                    if isinstance(value, Parameter)
                }
                return type(named[name])(**given)
    return None


def _accepts(settings: Mapping[str, Any], seen: Any) -> bool:
    for name, wanted in settings.items():
        value = getattr(seen, name)
        if isinstance(wanted, Allowed):
            if not wanted.accepts(value):
                return False
        elif not isinstance(wanted, Parameter) and value != wanted:
            return False
    return True


def _tables(one: Activation | OutputActivation) -> tuple[dict[str, Row], Mapping[str, Any]]:
    if isinstance(one, OutputActivation):
        return OUTPUTS, OUTPUT_ACTIVATIONS
    return HIDDEN, ACTIVATIONS
