"""A formula that is read as an activation is that activation, however it is written or changed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmlp.activations import ACTIVATIONS, ELU, LeakyReLU
from fastmlp.exchange.formulas import Op, Parameter, Z, normal_form, op
from fastmlp.exchange.vocabulary import HIDDEN, of_formula, parameter_of

POINTS = np.concatenate([np.linspace(-12, 12, 241), [-30.0, 30.0, 1e-3, -1e-3]])
ACTIVE = [*ACTIVATIONS.values(), LeakyReLU(0.3), ELU(0.7)]
erf = np.vectorize(math.erf)

FUNCTIONS = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Max": np.maximum,
    "Min": np.minimum,
    "Neg": np.negative,
    "Abs": np.abs,
    "Sign": np.sign,
    "Exp": np.exp,
    "Log": np.log,
    "Erf": erf,
    "Tanh": np.tanh,
    "Sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "Relu": lambda z: np.maximum(z, 0),
    "Softplus": lambda z: np.logaddexp(z, 0),
    "Clip": lambda z, low, high: np.minimum(np.maximum(z, low), high),
    "LeakyRelu": lambda z, alpha: np.where(z > 0, z, alpha * z),
    "Elu": lambda z, alpha: np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0))),
    "Selu": lambda z, alpha, gamma: gamma * np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0))),
    "HardSigmoid": lambda z, alpha, beta: np.clip(alpha * z + beta, 0, 1),
    "HardSwish": lambda z: z * np.clip(z / 6 + 0.5, 0, 1),
}


def value(written: Any) -> Any:
    """Return a formula's values, by NumPy."""
    if written == Z:
        return POINTS
    if not isinstance(written, Op):
        return written
    attributes = dict(written.attributes)
    with np.errstate(all="ignore"):
        return FUNCTIONS[written.kind](*map(value, written.operands), **attributes)


def settled(written: Any, activation: Any) -> Any:
    """Return a formula with the activation's own numbers in place of parameters."""
    if isinstance(written, Parameter):
        return parameter_of(activation, written)
    if not isinstance(written, Op):
        return written
    return Op(
        written.kind,
        tuple(settled(one, activation) for one in written.operands),
        tuple((name, parameter_of(activation, one)) for name, one in written.attributes),
    )


def forms(activation: Any) -> list[Op]:
    row = HIDDEN[activation.name]
    return [settled(one, activation) for one in (row.onnx, row.double) if one is not None]


ALL = [(activation, form) for activation in ACTIVE for form in forms(activation)]


def values_of(activation: Any) -> np.ndarray:
    return activation.forward(POINTS, out=np.empty_like(POINTS))


def test_every_row_is_the_formula_of_its_activation():
    for activation, form in ALL:
        np.testing.assert_allclose(
            value(form), values_of(activation), rtol=1e-12, atol=1e-13, err_msg=repr(activation)
        )


def rewritten(written: Any, draw: Any) -> Any:
    """Return a formula written otherwise: operands in another order, constants elsewhere."""
    if not isinstance(written, Op) or written == Z:
        return written
    operands = tuple(rewritten(one, draw) for one in written.operands)
    same = replace(written, operands=operands)
    way = draw(st.integers(0, 5))
    if way == 0 and written.kind in ("Add", "Mul", "Max", "Min"):
        return replace(same, operands=operands[::-1])
    if way == 1:
        return op("Neg", op("Neg", same))
    if way == 2:
        return (same * 0.25) * 4.0
    if way == 3 and written.kind == "Sub":
        return operands[0] + op("Neg", operands[1]) if isinstance(operands[1], Op) else same
    if way == 4 and written.kind == "Clip":
        return op("Max", operands[1], op("Min", operands[2], operands[0]))
    return same


def changed(written: Any, draw: Any) -> Any:
    """Return a formula that is another one in one place or more, most often."""
    if isinstance(written, float):
        return written * draw(st.sampled_from([1.0, 1.0, 1.0, 1.01, 0.5, -1.0, 2.0]))
    if not isinstance(written, Op) or written == Z:
        return written
    made = Op(
        written.kind,
        tuple(changed(one, draw) for one in written.operands),
        tuple((name, changed(one, draw)) for name, one in written.attributes),
    )
    others = {"Max": "Min", "Min": "Max", "Add": "Sub", "Mul": "Add", "Tanh": "Sigmoid"}
    if made.kind in others and draw(st.integers(0, 9)) == 0:
        return replace(made, kind=others[made.kind])
    if draw(st.integers(0, 19)) == 0:
        return op("Neg", made)
    return made


@settings(max_examples=100)
@given(pair=st.sampled_from(ALL), data=st.data())
def test_other_spellings_are_read_as_the_same(pair, data):
    activation, form = pair
    spelled = rewritten(form, data.draw)
    np.testing.assert_allclose(value(spelled), values_of(activation), rtol=1e-9, atol=1e-12)
    assert of_formula(normal_form(spelled), ACTIVATIONS).name == activation.name


@settings(max_examples=200)
@given(pair=st.sampled_from(ALL), data=st.data())
def test_what_is_read_as_an_activation_is_it(pair, data):
    mutant = changed(pair[1], data.draw)
    try:
        found = of_formula(normal_form(mutant), ACTIVATIONS)
    except ValueError:  # no such activation, such as one of a negative slope
        return
    if found is not None:
        np.testing.assert_allclose(value(mutant), values_of(found), rtol=1e-5, atol=1e-5)
