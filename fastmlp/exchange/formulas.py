"""Formulas of one variable: as they are written, and in a normal form that tells equal ones.

A formula is written as a tree of ONNX's operators, an `Op`. Its normal form, a `Formula`, knows
neither the order of terms and factors nor where a constant was multiplied in, so that
``0.5 * z * (1 + erf(z))`` and ``z * (erf(z) / 2 + 0.5)`` are one.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastmlp._schema import shown

#: Formulas that are longer, in characters of their skeletons, are refused: no activation is.
LONGEST = 2_000
#: Constants that differ relatively by less are equal: files hold many in float32.
TOLERANCE = 1e-6
#: From here on softplus may be replaced by its argument, as PyTorch does: exp(-20) is too little.
ENOUGH = 20.0


@dataclass(frozen=True)
class Op:
    """An operator of ONNX, applied to operands: how a formula is written.

    Parameters
    ----------
    kind : str
        The operator's name.
    operands : tuple of Op, Parameter or float
    attributes : tuple of (str, float, int, str or Parameter)

    Examples
    --------
    >>> (0.5 * Z).kind
    'Mul'
    """

    kind: str
    operands: tuple[Any, ...] = ()
    attributes: tuple[tuple[str, Any], ...] = ()

    def __add__(self, other: Op | Parameter | float) -> Op:
        return op("Add", self, other)

    def __radd__(self, other: Parameter | float) -> Op:
        return op("Add", other, self)

    def __sub__(self, other: Op | float) -> Op:
        return op("Sub", self, other)

    def __rsub__(self, other: float) -> Op:
        return op("Sub", other, self)

    def __mul__(self, other: Op | float) -> Op:
        return op("Mul", self, other)

    def __rmul__(self, other: Parameter | float) -> Op:
        return op("Mul", other, self)

    def __rtruediv__(self, other: float) -> Op:
        return op("Div", other, self)


@dataclass(frozen=True)
class Parameter:
    """The place of an activation's own parameter, such as a slope.

    Examples
    --------
    >>> (Parameter("alpha") * Z).kind
    'Mul'
    """

    name: str

    def __mul__(self, other: Op) -> Op:
        return op("Mul", self, other)


def op(kind: str, *operands: Op | Parameter | float, **attributes: Any) -> Op:
    """Return an operator applied to operands.

    Examples
    --------
    >>> op("Elu", Z, alpha=0.5).attributes
    (('alpha', 0.5),)
    """
    return Op(kind, operands, tuple(sorted(attributes.items())))


#: The variable.
Z = Op("Z")


@dataclass(frozen=True)
class Call:
    """A function applied to formulas: a factor of a `Formula`. The sum is the function "+"."""

    name: str
    operands: tuple[Formula, ...] = ()

    @functools.cached_property
    def skeleton(self) -> str:
        """It, without its numbers; sums come last in order."""
        inside = ",".join(formula.skeleton for formula in self.operands)
        return f"~+({inside})" if self.name == "+" else f"{self.name}({inside})"


@dataclass(frozen=True)
class Formula:
    """A number, times a parameter's value, times functions: the normal form.

    A sum's constant is 1, or its first term's number is where it has none; what was taken out is
    in front of it, and so is what multiplies the argument of max, min and abs.

    Examples
    --------
    >>> half = normal_form(0.5 * (1 + op("Erf", Z)))
    >>> half.skeleton == normal_form(op("Erf", Z) * 0.5 + 0.5).skeleton
    True
    """

    coefficient: float
    parameter: str | None = None
    factors: tuple[Call, ...] = ()

    @functools.cached_property
    def skeleton(self) -> str:
        """It, without its numbers."""
        if not self.factors:
            return "#"
        inside = "*".join(call.skeleton for call in self.factors)
        return inside if len(self.factors) == 1 else f"~({inside})"

    @property
    def is_number(self) -> bool:
        """Whether it is a number and nothing else."""
        return not self.factors and self.parameter is None

    def numbers(self) -> list[tuple[float, str | None]]:
        """Return all numbers, each with the parameter that it multiplies, in order."""
        found = [(self.coefficient, self.parameter)]
        for call in self.factors:
            for formula in call.operands:
                found += formula.numbers()
        return found


def match(pattern: Formula, formula: Formula) -> dict[str, float] | None:
    """Return the parameters for which a pattern is the formula; None if it is not for any.

    Examples
    --------
    >>> pattern = normal_form(op("LeakyRelu", Z, alpha=Parameter("slope")))
    >>> match(pattern, normal_form(op("Max", Z, 0.0) + op("Min", Z, 0.0) * 0.1))
    {'slope': 0.1}
    """
    if pattern.skeleton != formula.skeleton:
        return None
    found: dict[str, float] = {}
    for (wanted, parameter), (seen, _) in zip(pattern.numbers(), formula.numbers(), strict=True):
        if parameter is not None:
            value = seen / wanted
            if not _close(found.setdefault(parameter, value), value):
                return None
        elif not _close(wanted, seen):
            return None
    return found


def normal_form(written: Op | Parameter | float) -> Formula:
    """Return the normal form of a formula as it is written.

    Raises
    ------
    ValueError
        If an operator is not defined, or the formula is too long.

    Examples
    --------
    >>> normal_form(op("HardSigmoid", Z)).skeleton
    'Min(Max(~+(#,Z()),#),#)'
    """
    if isinstance(written, Parameter):
        return Formula(1.0, written.name)
    if not isinstance(written, Op):
        return number(written)
    attributes = {
        name: value if isinstance(value, str) else normal_form(value)
        for name, value in written.attributes
    }
    return apply(written.kind, [normal_form(one) for one in written.operands], attributes)


def apply(kind: str, operands: list[Formula], attributes: Mapping[str, Any]) -> Formula:
    """Return the normal form of an operator applied to formulas.

    Parameters
    ----------
    kind : str
    operands : list of Formula
    attributes : mapping of str to Formula or str
        Those that are missing have ONNX's defaults.

    Raises
    ------
    ValueError
        If there is no such operator, or it has not such operands or attributes.

    Examples
    --------
    >>> apply("Neg", [number(2.0)], {}).coefficient
    -2.0
    """
    if kind not in OPERATORS:
        raise ValueError(f"the operator {kind} is not known")
    made = called(OPERATORS[kind], operands, attributes)
    if len(made.skeleton) > LONGEST:
        raise ValueError("it is part of a formula that is too long for an activation")
    return made


def called(
    function: Callable[..., Any], values: Sequence[Any], attributes: Mapping[str, Any]
) -> Any:
    """Return what a function gives for an operator's operands and attributes.

    Raises
    ------
    ValueError
        If it does not take as many, or one of the attributes.

    Examples
    --------
    >>> called(number, [1, 2], {})
    Traceback (most recent call last):
        ...
    ValueError: it has 2 inputs and the attributes []
    """
    try:
        given = _signature(function).bind(*values, **attributes)
    except TypeError as error:
        raise ValueError(
            f"it has {len(values)} inputs and the attributes {shown(sorted(attributes))}"
        ) from error
    return function(*given.args, **given.kwargs)


def number(value: float) -> Formula:
    """Return a number as a formula.

    Examples
    --------
    >>> number(2).is_number
    True
    """
    return Formula(float(value))


_signature = functools.cache(inspect.signature)


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=1e-12)


def _call(name: str) -> Callable[..., Formula]:
    return lambda *operands: Formula(1.0, None, (Call(name, operands),))


def _times(*formulas: Formula) -> Formula:
    coefficient = math.prod(one.coefficient for one in formulas)
    parameters = [one.parameter for one in formulas if one.parameter is not None]
    factors = [call for one in formulas for call in one.factors]
    if coefficient == 0:
        return number(0)
    if len(parameters) > 1:
        raise ValueError("a product of parameters has no normal form")
    factors.sort(key=lambda call: call.skeleton)
    return Formula(coefficient, parameters[0] if parameters else None, tuple(factors))


def _plus(*formulas: Formula) -> Formula:
    constant, terms = 0.0, list[Formula]()
    for formula in formulas:
        if formula.is_number:
            constant += formula.coefficient
        else:
            terms.append(formula)
    terms.sort(key=lambda term: term.skeleton)
    if constant:
        terms.insert(0, number(constant))
    if len(terms) < 2:
        return terms[0] if terms else number(0)
    pivot = terms[0].coefficient
    monic = tuple(replace(term, coefficient=term.coefficient / pivot) for term in terms)
    return Formula(pivot, None, (Call("+", monic),))


def _minus(one: Formula, other: Formula) -> Formula:
    return _plus(one, _negative(other))


def _negative(formula: Formula) -> Formula:
    return _times(number(-1), formula)


def _over(one: Formula, other: Formula) -> Formula:
    if other.coefficient == 0 or other.parameter is not None:
        raise ValueError("it divides by zero")
    inverse = number(1 / other.coefficient)
    if other.is_number:
        return _times(one, inverse)
    return _times(one, inverse, _call("Reciprocal")(replace(other, coefficient=1.0)))


def _power(base: Formula, exponent: Formula) -> Formula:
    if not exponent.is_number or exponent.coefficient not in (2, 3):
        raise ValueError("only squares and cubes are known among powers")
    return _times(*[base] * int(exponent.coefficient))


def _bound(name: str, other: str) -> Callable[[Formula, Formula], Formula]:
    """Return max or min of a formula and a number, `other` being what it is to negatives."""

    def bound(one: Formula, limit: Formula) -> Formula:
        if one.is_number:
            one, limit = limit, one
        c = one.coefficient
        if one.is_number or not limit.is_number or one.parameter is not None or c == 0:
            raise ValueError(f"{name} is known of the values and a number")
        inside = replace(one, coefficient=1.0), number(limit.coefficient / c)
        return Formula(c, None, (_low_first(Call(name if c > 0 else other, inside)),))

    return bound


_maximum, _minimum = _bound("Max", "Min"), _bound("Min", "Max")


def _low_first(bound: Call) -> Call:
    """Return max(min(z, high), low) as min(max(z, low), high), which it is where low <= high."""
    inner, low = bound.operands
    if bound.name != "Max" or [call.name for call in inner.factors] != ["Min"]:
        return bound
    z, high = inner.factors[0].operands
    if low.coefficient > high.coefficient:
        return bound
    return Call("Min", (Formula(1.0, None, (Call("Max", (z, low)),)), high))


_ZERO, _ONE, _HALF = map(number, (0, 1, 0.5))
# Defaults of attributes.
_HUNDREDTH, _FIFTH = map(number, (0.01, 0.2))
_SELU_ALPHA, _SELU_GAMMA = map(number, (1.67326319217681884765625, 1.05070102214813232421875))

_exp, _log, _sigmoid, _tanh, _erf = map(_call, ("Exp", "Log", "Sigmoid", "Tanh", "Erf"))


def _absolute(formula: Formula) -> Formula:
    inside = replace(formula, coefficient=1.0)
    return Formula(abs(formula.coefficient), None, (Call("Abs", (inside,)),))


def _clip(z: Formula, low: Formula, high: Formula) -> Formula:
    return _minimum(_maximum(z, low), high)


def _relu(z: Formula) -> Formula:
    return _maximum(z, _ZERO)


def _leaky_relu(z: Formula, alpha: Formula = _HUNDREDTH) -> Formula:
    return _plus(_relu(z), _times(alpha, _minimum(z, _ZERO)))


def _elu(z: Formula, alpha: Formula = _ONE) -> Formula:
    below = _minus(_exp(_minimum(z, _ZERO)), _ONE)
    return _plus(_relu(z), _times(alpha, below))


def _selu(
    z: Formula,
    alpha: Formula = _SELU_ALPHA,
    gamma: Formula = _SELU_GAMMA,
) -> Formula:
    return _times(gamma, _elu(z, alpha))


def _softplus(z: Formula) -> Formula:
    return _plus(_relu(z), _log(_plus(_ONE, _exp(_negative(_absolute(z))))))


def _where(condition: Formula, yes: Formula, no: Formula) -> Formula:
    if [call.name for call in condition.factors] == ["Greater"]:
        value, limit = condition.factors[0].operands
        is_far = limit.is_number and limit.coefficient >= ENOUGH
        if is_far and match(value, yes) == {} and match(_softplus(value), no) == {}:
            return no
    return _call("Where")(condition, yes, no)


def _hard_sigmoid(z: Formula, alpha: Formula = _FIFTH, beta: Formula = _HALF) -> Formula:
    return _clip(_plus(_times(alpha, z), beta), _ZERO, _ONE)


def _gelu(z: Formula, approximate: str = "none") -> Formula:
    if approximate == "none":
        share = _erf(_times(number(math.sqrt(0.5)), z))
    elif approximate == "tanh":
        inner = _plus(z, _times(number(0.044715), z, z, z))
        share = _tanh(_times(number(math.sqrt(2 / math.pi)), inner))
    else:
        raise ValueError(f"its attribute approximate is {approximate!r}")
    return _times(_HALF, z, _plus(_ONE, share))


#: Operators of ONNX by name: from the normal forms of operands and attributes to that of the whole.
OPERATORS: dict[str, Callable[..., Formula]] = {
    "Z": _call("Z"),
    "Add": _plus,
    "Sub": _minus,
    "Mul": _times,
    "Div": _over,
    "Neg": _negative,
    "Pow": _power,
    "Reciprocal": lambda z: _over(_ONE, z),
    "Max": _maximum,
    "Min": _minimum,
    "Abs": _absolute,
    "Sign": _call("Sign"),
    "Exp": _exp,
    "Log": _log,
    "Sigmoid": _sigmoid,
    "Tanh": _tanh,
    "Erf": _erf,
    "Clip": _clip,
    "Relu": _relu,
    "LeakyRelu": _leaky_relu,
    "PRelu": _leaky_relu,
    "Elu": _elu,
    "Selu": _selu,
    "Softplus": _softplus,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda z: _times(z, _hard_sigmoid(z, number(1 / 6))),
    "Swish": lambda z, alpha=_ONE: _times(z, _sigmoid(_times(alpha, z))),
    "Mish": lambda z: _times(z, _tanh(_softplus(z))),
    "Gelu": _gelu,
    "Greater": _call("Greater"),
    "GreaterOrEqual": _call("GreaterOrEqual"),
    "Where": _where,
    "Softmax": _call("Softmax"),
    "LogSoftmax": _call("LogSoftmax"),
}
