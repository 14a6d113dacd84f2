"""ONNX files of others: what they write for plain networks is read, all else is refused by name."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from fastmlp import MLP, ModelFileError
from fastmlp.activations import ACTIVATIONS

onnx = pytest.importorskip("onnx", reason="onnx is not installed")

from tests.exchange.graphs import (  # noqa: E402
    arrays,
    distance,
    layers,
    network,
    node,
    rows,
    run,
    save,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


def number(value: float, dtype: str = "float32", shape=()) -> np.ndarray:
    return np.full(shape, value, dtype=dtype)


RELU = node("Relu", "z", "a")


def assert_read(path: Path, activation: str = "relu", output: str = "linear", dtype="float32"):
    """Check that a graph of two layers is read, and predicts what it computes."""
    read = MLP.from_onnx(path)
    assert [one.name for one in read.hidden_activations] == [activation]
    assert read.output_activation.name == output
    X = rows(2, dtype, 100)
    (values,) = run(path, X, "reference").values()
    assert distance(read.predict_proba(X), values) < 1e-6
    return read


#: Ways to write the same network, by what they differ in.
FORMS = {
    "as Gemm": (layers(RELU), {}),
    "transposed": (
        [
            node("Gemm", "x w0T b0", "z", transB=1, alpha=1.0, beta=1.0),
            RELU,
            node("Gemm", "a w1 b1", "y"),
        ],
        {"w0T": arrays()["w0"].T},
    ),
    "as MatMul and Add, as TensorFlow": (
        [
            node("MatMul", "x w0", "x/MatMul"),
            node("Add", "x/MatMul b0", "z"),
            RELU,
            node("MatMul", "a w1", "y/MatMul"),
            node("Add", "b1 y/MatMul", "y"),
        ],
        {},
    ),
    "biases as rows": (
        [
            node("MatMul", "x w0", "m"),
            node("Add", "m b0row", "z"),
            RELU,
            node("Gemm", "a w1 b1row", "y"),
        ],
        {"b0row": arrays()["b0"][None], "b1row": arrays()["b1"][None]},
    ),
    "without biases": ([node("MatMul", "x w0", "z"), RELU, node("Gemm", "a w1", "y")], {}),
    "with nodes that do nothing": (
        [
            node("Identity", "x", "x1"),
            node("Cast", "x1", "x2", to=1),
            node("Flatten", "x2", "x3"),
            node("Gemm", "x3 w0 b0", "z"),
            node("Relu", "z", "r"),
            node("Dropout", "r", "a"),
            node("Gemm", "a w1 b1", "y1"),
            node("Identity", "y1", "y"),
        ],
        {},
    ),
    "with constants as nodes": (
        [
            node("Constant", "", "w", value=onnx.numpy_helper.from_array(arrays()["w1"].T.copy())),
            node("Transpose", "w", "wT", perm=[1, 0]),
            node("Gemm", "x w0 b0", "z"),
            RELU,
            node("Gemm", "a wT b1", "y"),
        ],
        {},
    ),
    "reshaped": (
        [node("Reshape", "x rows", "x1"), node("Gemm", "x1 w0 b0", "z"), RELU, layers()[-1]],
        {"rows": np.array([-1, 2])},
    ),
    "ReLU as Max": (layers(node("Max", "zero z", "a")), {"zero": number(0)}),
    "ReLU as Clip": (layers(node("Clip", "z zero", "a")), {"zero": number(0)}),
}


@pytest.mark.parametrize("form", FORMS)
def test_one_network_in_many_forms(form, path):
    nodes, more = FORMS[form]
    read = assert_read(save(path, nodes, arrays() | more))
    for layer in range(2):
        np.testing.assert_array_equal(read.weights[layer], arrays()[f"w{layer}"])


#: Other ways to write an activation, from z to a.
SPELLINGS = {
    "silu": [node("Sigmoid", "z", "s"), node("Mul", "s z", "a")],
    "gelu": [
        node("Div", "z root2", "d"),
        node("Erf", "d", "e"),
        node("Add", "one e", "p"),
        node("Mul", "half z", "h"),
        node("Mul", "h p", "a"),
    ],
    "gelu_tanh": [
        node("Pow", "z three", "q"),
        node("Mul", "q cubic", "c"),
        node("Add", "z c", "i"),
        node("Mul", "i rootpi", "j"),
        node("Tanh", "j", "t"),
        node("Add", "t one", "p"),
        node("Mul", "p half", "h"),
        node("Mul", "h z", "a"),
    ],
    "mish": [node("Softplus", "z", "s"), node("Tanh", "s", "t"), node("Mul", "z t", "a")],
    "hard_swish": [
        node("Add", "z three", "t"),
        node("Clip", "t zero six", "c"),
        node("Div", "c six", "d"),
        node("Mul", "z d", "a"),
    ],
    "hard_sigmoid": [
        node("Add", "z three", "t"),
        node("Clip", "t zero six", "c"),
        node("Div", "c six", "a"),
    ],
    "relu6": [node("Relu", "z", "r"), node("Min", "r six", "a")],
    "leaky_relu": [node("PRelu", "z half", "a")],
    "elu": [node("Elu", "z", "a")],
    "selu": [node("Selu", "z", "a")],
    "identity": [node("Identity", "z", "a")],
    "softplus": [
        node("Softplus", "z", "s"),
        node("Greater", "z twenty", "g"),
        node("Where", "g z s", "a"),
    ],
}
NUMBERS = {
    "zero": 0,
    "half": 0.5,
    "one": 1,
    "three": 3,
    "six": 6,
    "twenty": 20,
    "root2": 2**0.5,
    "cubic": 0.044715,
    "rootpi": (2 / np.pi) ** 0.5,
}


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
@pytest.mark.parametrize("activation", SPELLINGS)
def test_activations_in_other_spellings(activation, shape, path):
    numbers = {name: number(value, shape=shape) for name, value in NUMBERS.items()}
    if activation in ("relu6", "hard_swish", "hard_sigmoid"):  # Clip takes scalars alone
        numbers |= {"zero": number(0), "six": number(6)}
    assert_read(save(path, layers(*SPELLINGS[activation]), arrays() | numbers), activation)


def test_parameters_are_the_decimal_numbers_that_were_meant(path):
    save(path, layers(node("LeakyRelu", "z", "a", alpha=0.2)), arrays())
    assert MLP.from_onnx(path).hidden_activations[0].negative_slope == 0.2
    nodes = [node("Mul", "x scale", "x1"), node("Gemm", "x1 w0 b0", "y")]
    save(path, nodes, arrays() | {"scale": number(0.1)})
    assert MLP.from_onnx(path).input_scale == 0.1
    save(path, [node("Div", "x scale", "x1"), *nodes[1:]], arrays() | {"scale": number(4)})
    assert MLP.from_onnx(path).input_scale == 0.25


def test_inputs_are_rounded_once(path):
    casts = [node("Cast", "x", "x1", to=1), node("Cast", "x1", "x2", to=11)]
    single = [node("Gemm", "x1 w0 b0", "z"), RELU, layers()[-1]]
    save(path, [casts[0], *single], arrays(), dtype="float64")
    assert MLP.from_onnx(path).dtype == np.float32
    double = [node("Gemm", "x2 w0 b0", "z"), RELU, layers()[-1]]
    save(path, [*casts, *double], arrays("float64"), dtype="float64")
    with pytest.raises(ModelFileError, match=r"'Cast-x2' .*element type 11"):
        MLP.from_onnx(path)


def test_a_near_softplus_is_refused(path):
    spelled = SPELLINGS["softplus"]
    for other in (node("Greater", "z ten", "g"), node("Greater", "s twenty", "g")):
        nodes = layers(spelled[0], other, spelled[2])
        numbers = {"ten": number(10), "twenty": number(20)}
        with pytest.raises(ModelFileError, match="no activation"):
            MLP.from_onnx(save(path, nodes, arrays() | numbers))


def test_old_operator_sets(path):
    nodes = layers(node("Clip", "z", "a", min=0.0, max=6.0))
    assert_read(save(path, nodes, arrays(), opset=9), "relu6")
    save(path, layers(RELU), arrays(), opset=6)
    with pytest.raises(ModelFileError, match="operator sets"):
        MLP.from_onnx(path)


def test_images_are_flattened(path):
    nodes = [node("Flatten", "x", "f"), node("Gemm", "f w0 b0", "z"), RELU, layers()[-1]]
    weights = arrays() | {"w0": np.ones((4, 3), np.float32)}
    save(path, nodes, weights, shape=("n", 2, 2))
    assert MLP.from_onnx(path).layer_sizes == (4, 3, 2)
    save(path, nodes[1:], weights | {"f": np.float32(0)}, shape=("n", 2, 2))
    with pytest.raises(ModelFileError, match="takes what is not the values of a layer"):
        MLP.from_onnx(path)
    save(path, [node("MatMul", "x w0", "y")], weights, shape=("n", 2, 2))
    with pytest.raises(ModelFileError, match="no Flatten comes before"):
        MLP.from_onnx(path)


def test_logits_get_the_output_that_is_wanted(path):
    save(path, layers(RELU), arrays())
    assert MLP.from_onnx(path).output_activation.name == "linear"
    assert MLP.from_onnx(path, output="softmax").output_activation.name == "softmax"
    with pytest.raises(ValueError, match="unknown output activation 'argmax'"):
        MLP.from_onnx(path, output="argmax")
    save(path, [*layers(RELU, last="l"), node("Sigmoid", "l", "y")], arrays())
    assert MLP.from_onnx(path, output="sigmoid").output_activation.name == "sigmoid"
    with pytest.raises(ModelFileError, match="'sigmoid', but 'softmax' is wanted"):
        MLP.from_onnx(path, output="softmax")


#: Graphs that are no plain network: the node to blame, nodes and arrays.
REFUSED = {
    "'Conv-a' .*no such operator": (layers(node("Conv", "z w1", "a")), {}),
    "'BatchNormalization-a'": (layers(node("BatchNormalization", "z b0 b0 b0 b0", "a")), {}),
    "'Sin-a' .*no such operator": (layers(node("Sin", "z", "a")), {}),
    "'Gemm-y' .*of a layer's values that is known": (layers(node("Exp", "z", "a")), {}),
    "'Mul-a' .*combines a layer's values with an array": (layers(node("Mul", "z b0", "a")), {}),
    "'Add-a' .*values of two layers": (
        [
            node("Gemm", "x w0 b0", "z"),
            node("MatMul", "x v0", "v"),
            node("Add", "z v", "a"),
            layers()[-1],
        ],
        {"v0": np.ones((2, 3), np.float32)},
    ),
    "'Gemm-y' .*another layer has its weights": (
        [node("Gemm", "x w b1", "z"), RELU, node("Gemm", "a w b1", "y")],
        {"w": np.eye(2, dtype=np.float32)},
    ),
    "'Gemm-y' .*alpha or beta": (
        [layers()[0], RELU, node("Gemm", "a w1 b1", "y", alpha=0.5)],
        {},
    ),
    "'Gemm-y' .*its rows have 3 values": ([layers()[0], RELU, node("Gemm", "a w0 b0", "y")], {}),
    "'Gemm-y' .*biases are an array": ([layers()[0], RELU, node("Gemm", "a w1 b0", "y")], {}),
    "'Gemm-y' .*float32 by an array of float64": (
        layers(RELU),
        {"w1": arrays("float64")["w1"]},
    ),
    "'Gemm-z' .*more than multiplication": (
        [node("Add", "x one", "x1"), node("Gemm", "x1 w0 b0", "z"), RELU, layers()[-1]],
        {"one": number(1)},
    ),
    "what leaves it is none of the outputs": (
        [*layers(RELU, last="l"), node("Relu", "l", "y")],
        {},
    ),
    "'Dropout-a' .*in prediction too": (
        layers(node("Dropout", "z half yes", "a")),
        {"half": number(0.5), "yes": np.array(True)},
    ),
    "'Relu-a' .*nothing before it makes": ([layers()[0], node("Relu", "q", "a"), layers()[-1]], {}),
    "'Softmax-y' .*axis is 0": ([*layers(RELU, last="l"), node("Softmax", "l", "y", axis=0)], {}),
    "'Clip-a' .*attribute 'limit' is not known": (layers(node("Clip", "z", "a", limit=1.0)), {}),
    "'Cast-a' .*element type 7": (layers(node("Cast", "z", "a", to=7)), {}),
    "'Relu-y' .*no name of its own": ([*layers(RELU), node("Relu", "y", "y")], {}),
    "'ArgMax-y' .*axis is 0": ([*layers(RELU, last="l"), node("ArgMax", "l", "y")], {}),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_not_understood_is_named(reason, path):
    nodes, more = REFUSED[reason]
    save(path, nodes, arrays() | more)
    with pytest.raises(ModelFileError, match=f"model.onnx cannot be read as an MLP: .*{reason}"):
        MLP.from_onnx(path)


def test_labels_of_another_output_are_refused(path):
    nodes = [
        *layers(RELU, last="l"),
        node("Sigmoid", "l", "y"),
        node("ArgMax", "y", "c", axis=1),
        node("Gather", "names c", "label"),
    ]
    save(path, nodes, arrays() | {"names": np.array([3, 4])}, outputs="label y")
    with pytest.raises(ModelFileError, match="labels are not those of sigmoid outputs"):
        MLP.from_onnx(path)


@pytest.mark.parametrize("hidden", ACTIVATIONS)
@pytest.mark.parametrize("opset", [9, 14, 18])
def test_files_of_pytorchs_first_exporter(hidden, opset, path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    module = network(hidden, "softmax").to_torch().eval()
    given = torch.from_numpy(rows(n=20))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(module, (given,), str(path), dynamo=False, opset_version=opset)
    except torch.onnx.errors.UnsupportedOperatorError:
        pytest.skip(f"PyTorch cannot write {hidden} in operator set {opset}")
    check_torch(MLP.from_onnx(path), module, given, hidden)


@pytest.mark.slow
@pytest.mark.parametrize("hidden", ["relu", "gelu", "gelu_tanh", "mish", "softplus", "hard_tanh"])
def test_files_of_pytorchs_second_exporter(hidden, path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    module = network(hidden, "softmax", sizes=(5, 40, 3)).to_torch().eval()
    given = torch.from_numpy(rows(n=20))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (given,), str(path), dynamo=True, opset_version=18, verbose=False)
    check_torch(MLP.from_onnx(path), module, given, hidden)


def check_torch(read: MLP, module, given, hidden: str) -> None:
    assert {one.name for one in read.hidden_activations} == {hidden}
    expected = module(given).detach().numpy()
    assert distance(read.predict_proba(given.numpy()), expected) < 1e-6


@pytest.mark.parametrize("zipmap", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["two", "three", "text", "several"])
def test_files_of_skl2onnx(kind, dtype, zipmap, path):
    skl2onnx = pytest.importorskip("skl2onnx", reason="skl2onnx is not installed")
    from sklearn.neural_network import MLPClassifier

    X = rows(3, dtype, 60)
    classes = np.digitize(X[:, 0], [-1, 1])
    y = {
        "two": 3 * (classes > 0),
        "three": classes,
        "text": np.array(["a", "b", "ü"])[classes],
        "several": X[:, :2] > 0,
    }[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has not converged, and protobuf warns of itself
        model = MLPClassifier((4,), max_iter=3, random_state=0).fit(X, y)
        written = skl2onnx.to_onnx(model, X[:1], options={"zipmap": zipmap})
    path.write_bytes(written.SerializeToString())
    read = MLP.from_onnx(path)
    probabilities = read.predict_proba(X)
    if kind == "two":
        probabilities = np.hstack([1 - probabilities, probabilities])
    np.testing.assert_allclose(probabilities, model.predict_proba(X), rtol=0, atol=1e-6)
    if kind != "several":
        np.testing.assert_array_equal(np.array(read.label_names)[read.predict(X)], model.predict(X))
