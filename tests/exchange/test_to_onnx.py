"""Networks as ONNX files: as other libraries compute them, and as they are read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fastmlp import MLP, ModelFileError
from fastmlp.activations import ACTIVATIONS, OUTPUT_ACTIVATIONS, ReLU
from fastmlp.exchange import vocabulary
from fastmlp.exchange.formulas import Z, match, normal_form, op
from fastmlp.exchange.vocabulary import HIDDEN as ROWS
from fastmlp.exchange.vocabulary import OUTPUTS as OUTPUT_ROWS
from fastmlp.exchange.vocabulary import of_formula

onnx = pytest.importorskip("onnx", reason="onnx is not installed")

from tests.exchange.graphs import (  # noqa: E402
    HIDDEN,
    OUTPUTS,
    bound,
    distance,
    network,
    rows,
    run,
)

RUNTIMES = ["onnxruntime", "reference"]
DTYPES = ["float32", "float64"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


def test_every_activation_has_its_row():
    assert list(ROWS) == list(ACTIVATIONS)
    assert list(OUTPUT_ROWS) == list(OUTPUT_ACTIVATIONS)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden", HIDDEN, ids=repr)
def test_others_compute_the_same(hidden, dtype, runtime, path):
    X = rows(dtype=dtype)
    for output in OUTPUTS:
        made = network(hidden, output, dtype)
        made.to_onnx(path)
        onnx.checker.check_model(str(path), full_check=True)
        (values,) = run(path, X, runtime).values()
        assert distance(values, made.predict_proba(X)) < bound(made, X)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_scaling_layer_is_part_of_the_first_weights(dtype, runtime, path):
    made, X = MLP([3, 5, 2], "tanh", dtype=dtype, scaling_layer=True), rows(3, dtype=dtype)
    made.scale = [0.5, -2.0, 3.0]
    before = made.parameters.copy()
    made.to_onnx(path)
    (values,) = run(path, X, runtime).values()
    assert distance(values, made.predict_proba(X)) < bound(made, X)
    read = MLP.from_onnx(path)
    assert read.scale is None
    np.testing.assert_array_equal(read.weights[0], made.scale[:, None] * made.weights[0])
    np.testing.assert_array_equal(made.parameters, before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden", HIDDEN, ids=repr)
def test_what_is_read_is_what_was_written(hidden, dtype, path):
    for output in OUTPUTS:
        made = network(hidden, output, dtype)
        made.to_onnx(path)
        assert_same(MLP.from_onnx(path), made)


def assert_same(read: MLP, made: MLP) -> None:
    assert read.layer_sizes == made.layer_sizes
    assert read.hidden_activations == made.hidden_activations
    assert read.output_activation == made.output_activation
    assert read.dtype == made.dtype
    assert read.parameters.tobytes() == made.parameters.tobytes()
    # A float32 network multiplies by its scale in float32.
    assert made.dtype.type(read.input_scale) == made.dtype.type(made.input_scale)
    assert read.feature_names == made.feature_names
    assert read.label_names == made.label_names


@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=5),
    hidden=st.sampled_from(HIDDEN),
    output=st.sampled_from(OUTPUTS),
    dtype=st.sampled_from(DTYPES),
    scale=st.sampled_from([1.0, 1 / 255, 0.5]),
    n=st.integers(1, 40),
)
def test_any_network_goes_and_comes_back(tmp_path_factory, sizes, hidden, output, dtype, scale, n):
    path = tmp_path_factory.mktemp("any") / "model.onnx"
    made = network(hidden, output, dtype, sizes, input_scale=scale)
    made.to_onnx(path)
    assert_same(MLP.from_onnx(path), made)
    X = rows(sizes[0], dtype, n)
    expected = made.predict_proba(X)
    assume(np.isfinite(expected).all())
    (values,) = run(path, X, "reference").values()
    assert distance(values, expected) < bound(made, X)


def test_one_file_takes_any_number_of_rows(path):
    made = network()
    made.to_onnx(path)
    for n in (1, 2, 1000):
        assert run(path, rows(n=n), "reference")["probabilities"].shape == (n, 3)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(
    "names", [("low", "middle", "hïgh"), (3, 1, 2), (0.5, 1, 2), (-(2**60), 0, 2**60)]
)
def test_classes_are_labelled(names, runtime, path):
    made = network()
    made.label_names = names
    made.to_onnx(path)
    X = rows()
    outputs = run(path, X, runtime)
    assert list(outputs) == ["label", "probabilities"]
    assert outputs["label"].tolist() == [names[number] for number in made.predict(X)]
    assert_same(MLP.from_onnx(path), made)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_one_sigmoid_chooses_from_two_labels(runtime, path):
    made = network(output="sigmoid", sizes=(5, 4, 1))
    made.label_names = ("no", "yes")
    made.to_onnx(path)
    X = np.concatenate([rows(), np.zeros((1, 5), np.float32)])
    made.parameters[-1] -= made.logits(X[-1])[0]  # a tie in the last row
    made.to_onnx(path)
    outputs = run(path, X, runtime)
    assert outputs["label"].tolist() == [made.label_names[number] for number in made.predict(X)]
    assert outputs["probabilities"].shape == (len(X), 1)
    assert_same(MLP.from_onnx(path), made)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_several_sigmoids_have_a_label_each(runtime, path):
    made = network(output="sigmoid")
    made.label_names = ("cat", "dog", "cow")
    made.feature_names = ("a", "b", "c", "d", "ü")
    made.to_onnx(path)
    X = rows()
    np.testing.assert_array_equal(run(path, X, runtime)["label"], made.predict(X))
    assert_same(MLP.from_onnx(path), made)


def test_values_keep_the_names_of_targets(path):
    made = network(output="linear")
    made.label_names = ("width", "height", "depth")
    made.to_onnx(path)
    assert list(run(path, rows(), "reference")) == ["variable"]
    assert_same(MLP.from_onnx(path), made)


def test_raw_images_are_scaled_in_the_file(path):
    made = network(input_scale=1 / 255)
    made.to_onnx(path)
    X = np.random.default_rng(0).integers(0, 256, (50, 5)).astype(np.float32)
    values = run(path, X, "reference")["probabilities"]
    assert distance(values, made.predict_proba(X)) < 1e-6


class Own(ReLU):
    """An activation that is not the library's."""


def test_what_cannot_be_written_leaves_the_old_file(path):
    network().to_onnx(path)
    before = path.read_bytes()
    not_finite = network()
    not_finite.parameters[3] = np.nan
    mixed = network()
    mixed.label_names = (1, "two", 3)
    long = network()
    long.label_names = (1, 2, 2**64)
    for made, reason in (
        (network(Own()), "Own"),
        (not_finite, "NaN"),
        (mixed, "numbers or text alone"),
        (long, "64 bits"),
    ):
        with pytest.raises(ModelFileError, match=f"model.onnx is not written.*{reason}"):
            made.to_onnx(path)
    with pytest.raises(FileNotFoundError):
        network().to_onnx(path.parent / "nowhere" / "model.onnx")
    assert path.read_bytes() == before


def test_a_network_beyond_the_formats_limit_is_refused(path, monkeypatch):
    from fastmlp.exchange import onnx_writer

    monkeypatch.setattr(onnx_writer, "MOST_BYTES", 100)
    with pytest.raises(ModelFileError, match="holds at most 100"):
        network().to_onnx(path)
    assert not path.exists()


def test_without_onnx_the_error_names_the_extra(path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnx", None)
    for call in (lambda: network().to_onnx(path), lambda: MLP.from_onnx(path)):
        with pytest.raises(ImportError, match=r"pip install 'fastmlp\[onnx\]'"):
            call()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (0.5 * (Z * (1.0 + op("Erf", Z))), Z * (op("Erf", Z) * 0.5 + 0.5)),
        (op("HardSwish", Z), (Z * op("Clip", Z + 3.0, 0.0, 6.0)) * (1 / 6)),
        (op("Clip", Z, 0.0, 6.0), op("Min", 6.0, op("Max", 0.0, Z))),
        (op("Mish", Z), Z * op("Tanh", op("Softplus", Z))),
        (op("Max", op("Neg", Z), 0.0), op("Neg", op("Min", Z, 0.0))),
        (op("Swish", Z), op("Sigmoid", Z) * Z),
    ],
)
def test_formulas_are_the_same_however_they_are_written(one, other):
    assert match(normal_form(one), normal_form(other)) == {}


def test_near_formulas_are_not_taken_for_an_activation():
    assert of_formula(normal_form(op("Clip", Z, 0.0, 6.1)), ACTIVATIONS) is None
    assert of_formula(normal_form(op("HardSigmoid", Z)), ACTIVATIONS) is None  # Keras 2's slope
    assert of_formula(normal_form(op("Swish", Z, alpha=1.702)), ACTIVATIONS) is None
    assert of_formula(normal_form(op("Gelu", Z, approximate="tanh")), ACTIVATIONS).name == (
        "gelu_tanh"
    )


def test_erf_in_arithmetic_is_erf():
    import math

    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    from fastmlp.exchange.onnx_writer import _Graph

    graph = _Graph(np.dtype("float64"))
    name = graph.formula(vocabulary._erf(Z), "x", ACTIVATIONS["gelu"])
    info = [helper.make_tensor_value_info(one, TensorProto.DOUBLE, ["n"]) for one in ("x", name)]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "erf", info[:1], info[1:], graph.constants),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    x = np.concatenate([np.linspace(-9, 9, 2001), [-1e300, -30, 0.0, 1e-300, 1e-9, 30, 1e300]])
    with np.errstate(over="ignore"):
        (values,) = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_allclose(values, [math.erf(v) for v in x], rtol=0, atol=4e-15)
