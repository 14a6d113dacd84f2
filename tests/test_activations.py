from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from fastmlp.activations import ACTIVATIONS, OUTPUT_ACTIVATIONS, softplus, stable_sigmoid

DTYPES = [np.float32, np.float64]
EXTREME = [-1e4, -100.0, -1.0, 0.0, 1.0, 100.0, 1e4]


def batches(dtype, largest: float = 1e4):
    width = np.finfo(dtype).bits
    return arrays(
        dtype,
        array_shapes(min_dims=2, max_dims=2),
        elements=st.floats(-largest, largest, width=width),
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS)
@given(data=st.data())
def test_values_and_derivatives_are_finite_and_keep_the_dtype(activation, dtype, data):
    z = data.draw(batches(dtype))
    a = activation.forward(z, out=np.empty_like(z))
    slope = activation.derivative(z, a)
    assert a.dtype == (a * slope).dtype == dtype
    assert a.shape == slope.shape == z.shape
    assert np.all(np.isfinite(a))
    assert np.all(np.isfinite(slope))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS)
@given(data=st.data())
def test_in_place_and_apart_give_the_same(activation, dtype, data):
    z = data.draw(batches(dtype))
    kept = z.copy()
    apart = activation.forward(z, out=np.full_like(z, np.nan))
    np.testing.assert_array_equal(z, kept)
    in_place = activation.forward(z, out=z)
    assert in_place is z
    np.testing.assert_array_equal(in_place, apart)


@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_the_derivative_needs_the_input_only_where_it_says_so(activation):
    z = np.random.default_rng(0).normal(0, 3, (50, 4))
    a = activation.forward(z, out=np.empty_like(z))
    with np.errstate(invalid="ignore"):
        without_z = activation.derivative(np.full_like(z, np.nan), a)
    assert np.all(np.isfinite(without_z)) != activation.needs_input


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("relu", (0, 1e4)),
        ("sigmoid", (0, 1)),
        ("tanh", (-1, 1)),
        ("identity", (-1e4, 1e4)),
        ("leaky_relu", (-100, 1e4)),
        ("elu", (-1, 1e4)),
        ("selu", (-1.7580993408473766, 10507.009873554805)),
        ("gelu", (0, 1e4)),
        ("gelu_tanh", (0, 1e4)),
        ("silu", (0, 1e4)),
        ("mish", (0, 1e4)),
        ("softplus", (0, 1e4)),
        ("relu6", (0, 6)),
        ("hard_tanh", (-1, 1)),
        ("hard_sigmoid", (0, 1)),
        ("hard_swish", (0, 1e4)),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_limits(name: str, limits, dtype):
    z = np.array([[-1e4, 1e4]], dtype)
    a = ACTIVATIONS[name].forward(z, out=np.empty_like(z))
    np.testing.assert_allclose(a, [limits], rtol=1e-6)


@pytest.mark.parametrize("name", ["relu", "relu6"])
def test_the_slope_of_a_dead_unit_is_zero(name: str):
    z = np.zeros((1, 1))
    a = ACTIVATIONS[name].forward(z, out=np.empty_like(z))
    assert ACTIVATIONS[name].derivative(z, a) == 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["softmax", "sigmoid", "linear"])
@given(data=st.data())
def test_outputs_are_finite_and_keep_the_dtype(name: str, dtype, data):
    z = data.draw(batches(dtype))
    output = OUTPUT_ACTIVATIONS[name]
    outputs = output.forward(z, out=np.empty_like(z))
    gradient = output.backward(np.ones_like(z), outputs)
    assert outputs.dtype == gradient.dtype == dtype
    assert np.all(np.isfinite(outputs))
    assert np.all(np.isfinite(gradient))
    np.testing.assert_array_equal(output.forward(z, out=z), outputs)


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_softmax_gives_probabilities(dtype, data):
    z = data.draw(batches(dtype))
    p = OUTPUT_ACTIVATIONS["softmax"].forward(z, out=np.empty_like(z))
    assert p.min() >= 0
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=4 * z.shape[1] * np.finfo(dtype).eps)


@given(z=batches(np.float64, 700), shift=st.floats(-700, 700))
def test_softmax_ignores_a_shift(z, shift: float):
    softmax = OUTPUT_ACTIVATIONS["softmax"].forward
    np.testing.assert_allclose(
        softmax(z + shift, out=np.empty_like(z)), softmax(z, out=np.empty_like(z)), atol=1e-10
    )


def test_the_exponential_output_is_infinite_where_no_float_can_hold_it():
    z = np.array([[-1e4, 0, 1e4]])
    outputs = OUTPUT_ACTIVATIONS["exp"].forward(z, out=np.empty_like(z))
    np.testing.assert_array_equal(outputs, [[0, 1, np.inf]])


@pytest.mark.parametrize("z", EXTREME)
def test_sigmoid_and_softplus_keep_their_relative_accuracy(z: float):
    negative = -abs(z)
    tiny = np.exp(negative)
    sigmoid = stable_sigmoid(np.array([negative]))
    np.testing.assert_allclose(sigmoid, tiny / (1 + tiny), rtol=1e-15)
    np.testing.assert_allclose(softplus(np.array([negative])), np.log1p(tiny), rtol=1e-15)
    np.testing.assert_allclose(softplus(np.array([abs(z)])), abs(z) + np.log1p(tiny), rtol=1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_softmax_takes_logits_as_far_apart_as_there_are(dtype: str):
    most = np.finfo(dtype).max
    logits = np.array([[most, -most, 0.0]], dtype=dtype)
    outputs = OUTPUT_ACTIVATIONS["softmax"].forward(logits, out=np.empty_like(logits))
    assert outputs.tolist() == [[1.0, 0.0, 0.0]]
