"""ONNX files that are damaged or hostile: one class of error, or a network; never much memory."""

from __future__ import annotations

import contextlib
import json
import os
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp import MLP, ModelFileError

onnx = pytest.importorskip("onnx", reason="onnx is not installed")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from tests.exchange.graphs import arrays, layers, network, node, save  # noqa: E402

RELU = node("Relu", "z", "a")
#: More than any file here is worth.
MOST_MEMORY = 30_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


def assert_refused(path: Path, reason: str = "") -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match=f"model.onnx cannot be read as an MLP.*{reason}"):
            MLP.from_onnx(path)
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("content", [b"", b"\0", b"PK\3\4", b"hello" * 99, b"\x08\x08" * 10_000])
def test_what_is_no_onnx_file(content, path):
    path.write_bytes(content)
    assert_refused(path)


def test_a_file_that_ends_early(path):
    network("gelu").to_onnx(path)
    content = path.read_bytes()
    for end in range(0, len(content) - 1, 7):
        path.write_bytes(content[:end])
        with contextlib.suppress(ModelFileError):
            MLP.from_onnx(path)  # names at the end may be missing
    path.write_bytes(content[: len(content) // 2])
    assert_refused(path)


def changed(path: Path, change: Callable[[Any], Any]) -> Path:
    """Write the file of a network after a change of its message."""
    made = network(output="softmax")
    made.label_names = ("a", "b", "c")
    made.to_onnx(path)
    model = onnx.load(str(path))
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def array_of(model: Any, name: str = "weights_0") -> Any:
    return next(one for one in model.graph.initializer if one.name == name)


def set_shape(*dims: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        del array_of(model).dims[:]
        array_of(model).dims.extend(dims)

    return change


@pytest.mark.parametrize(
    "dims",
    [
        (5, 8),
        (10**9, 10**9),
        (2**31, 2**33),
        (2**62, 2**62),
        (0, 10**12),
        (10**12, 0),
        (-5, -7),
        (35,),
        (),
        (5, 7, 1),
        (1,) * 9,
        (2,) * 100_000,
    ],
    ids=lambda dims: str(dims)[:20],
)
def test_shapes_that_are_not_the_arrays(dims, path):
    assert_refused(changed(path, set_shape(*dims)))


def test_an_array_without_values_makes_no_biases(path):
    """Those that a layer lacks are zeros, as many as its weights have columns."""
    empty = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[0, 10**9], raw_data=b"")
    assert_refused(save(path, [node("MatMul", "x w", "y")], {"w": empty}, shape=("n", "m")))


def test_arrays_of_other_sizes_and_types(path):
    def without_values(model):
        array_of(model).ClearField("raw_data")

    def as_text(model):
        array_of(model).data_type = TensorProto.STRING

    def as_doubles(model):
        array_of(model).data_type = TensorProto.DOUBLE

    def as_unknown(model):
        array_of(model).data_type = 99

    def as_halves(model):
        values = numpy_helper.to_array(array_of(model)).astype(np.float16)
        array_of(model).CopyFrom(numpy_helper.from_array(values, "weights_0"))

    def in_parts(model):
        array_of(model).segment.begin = 0

    def not_finite(model):
        array_of(model).raw_data = np.full(35, np.nan, np.float32).tobytes()

    for change in (
        without_values,
        as_text,
        as_doubles,
        as_unknown,
        as_halves,
        in_parts,
        not_finite,
    ):
        assert_refused(changed(path, change))


def test_values_in_the_typed_fields_are_read(path):
    def typed(model):
        one = array_of(model)
        values = numpy_helper.to_array(one)
        one.CopyFrom(helper.make_tensor(one.name, one.data_type, one.dims, values.reshape(-1)))

    read = MLP.from_onnx(changed(path, typed))
    np.testing.assert_array_equal(read.parameters, network().parameters)


def test_numbers_of_labels_and_names(path):
    def labels(model):
        array_of(model, "classes").dims[0] = 2
        del array_of(model, "classes").string_data[2:]

    def name(key: str, value: str):
        def change(model):
            helper.set_model_props(model, {key: value})

        return change

    assert_refused(changed(path, labels))
    deep = "[" * 100_000 + "]" * 100_000
    for key, value in (
        ("feature_names", '["a", "b"]'),
        ("feature_names", "[1, 2, 3, 4, 5]"),
        ("feature_names", "no JSON"),
        ("label_names", '["a"]'),
        ("label_names", '["a", [], "c"]'),
        ("label_names", '{"a": 1}'),
        ("label_names", deep),
        ("label_names", "[" + "9" * 10_000 + "]"),
    ):
        assert_refused(changed(path, name(key, value)))


def test_inputs_and_outputs_that_are_none(path):
    def no_input(model):
        del model.graph.input[:]

    def two_inputs(model):
        model.graph.input.add(name="other")

    def sequence(model):
        model.graph.input[0].type.sequence_type.SetInParent()

    def text(model):
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING

    def one_dimension(model):
        del model.graph.input[0].type.tensor_type.shape.dim[1:]

    def other_width(model):
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 6

    def negative_width(model):
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = -5

    def no_output(model):
        del model.graph.output[:]

    def only_label(model):
        del model.graph.output[1:]

    def hidden_output(model):
        model.graph.output.add(name=model.graph.node[0].output[0])

    def array_output(model):
        model.graph.output.add(name="weights_0")

    def no_nodes(model):
        del model.graph.node[:]

    def no_operators(model):
        del model.opset_import[:]

    for change in (
        *(no_input, two_inputs, sequence, text, one_dimension, other_width, negative_width),
        *(no_output, only_label, hidden_output, array_output, no_nodes, no_operators),
    ):
        assert_refused(changed(path, change))


@pytest.mark.parametrize("kind", ["Relu", "Sigmoid", "Identity", "Neg"])
def test_a_chain_of_very_many_nodes(kind, path):
    chain = [node(kind, f"c{i}" if i else "z", f"c{i + 1}") for i in range(5_000)]
    save(path, layers(*chain, node("Relu", "c5000", "a")), arrays())
    with contextlib.suppress(ModelFileError):
        MLP.from_onnx(path)  # all but Sigmoid leave a ReLU
    if kind == "Sigmoid":
        assert_refused(path, "too long")


def test_more_nodes_than_any_network_has(path, monkeypatch):
    from fastmlp.exchange import onnx_reader

    monkeypatch.setattr(onnx_reader, "MOST_PARTS", 2)
    save(path, layers(RELU), arrays())
    assert_refused(path, "more than 2 nodes")
    nodes = [node("Identity", "x", "y")]
    for graph in (save(path, nodes, arrays()), save(path, nodes, {}, outputs="y y y")):
        assert_refused(graph, "more than 2 nodes, arrays or values")


def test_a_formula_that_doubles(path):
    chain = [node("Mul", f"c{i} c{i}" if i else "z z", f"c{i + 1}") for i in range(100)]
    assert_refused(save(path, layers(*chain, node("Relu", "c100", "a")), arrays()), "too long")


def test_one_array_of_weights_serves_one_layer(path):
    """Else a small file would make a network of any size."""
    nodes = [node("MatMul", f"h{i}" if i else "x", f"h{i + 1}") for i in range(3)]
    for one in nodes:
        one.input.append("w")
    assert_refused(save(path, nodes, {"w": np.eye(2, dtype=np.float32)}, outputs="h3"), "too")
    nodes = [nodes[0], node("Transpose", "w", "wT", perm=[1, 0]), node("MatMul", "h1 wT", "y")]
    assert_refused(save(path, nodes, {"w": np.eye(2, dtype=np.float32)}), "another layer has")


def test_graphs_inside_attributes_are_not_entered(path):
    inner = helper.make_graph([], "inner", [], [])
    for _ in range(200):
        one = helper.make_node("If", ["z"], ["a"], then_branch=inner, else_branch=inner)
        inner = helper.make_graph([one], "inner", [], [])
        if inner.ByteSize() > 100_000:
            break
    assert_refused(save(path, layers(*inner.node), arrays()))


# Arrays in other files ---------------------------------------------------------------------------


def outside(path: Path, **entries: str) -> Path:
    """Write a graph one of whose arrays lies in another file."""
    tensor = numpy_helper.from_array(arrays()["w0"], "w0")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return save(path, layers(RELU), arrays() | {"w0": tensor})


def test_arrays_in_files_beside_it_are_read(path):
    made = network("elu")
    made.to_onnx(path)
    onnx.save_model(
        onnx.load(str(path)),
        str(path),
        save_as_external_data=True,
        location="values.bin",
        size_threshold=0,
    )
    read = MLP.from_onnx(path)
    np.testing.assert_array_equal(read.parameters, made.parameters)
    (path.parent / "values.bin").write_bytes(b"")
    assert_refused(path, "values.bin")


@pytest.fixture
def secret(tmp_path_factory) -> Path:
    """Return a file in another folder, as large as the array."""
    secret = tmp_path_factory.mktemp("elsewhere") / "secret"
    secret.write_bytes(arrays()["w0"].tobytes())
    return secret


def test_no_file_outside_the_folder_is_opened(path, secret, monkeypatch):
    (path.parent / "link").symlink_to(secret)
    (path.parent / "folder").symlink_to(secret.parent)
    (path.parent / "circle").symlink_to(path.parent / "circle")
    opened: list[str] = []
    plain = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, *a, **k: opened.append(self.name) or plain(self, *a, **k)
    )
    for location in (
        str(secret),
        f"../{secret.parent.name}/secret",
        f"./nowhere/../../{secret.parent.name}/secret",
        "link",
        "folder/secret",
        "circle",
        "",
        ".",
        "..",
        "nowhere",
        "a\0b",
        "x" * 5000,
        "/dev/zero",
        "/proc/self/environ",
    ):
        assert_refused(outside(path, location=location), "no file in the folder")
    assert set(opened) <= {"model.onnx"}


def test_places_in_a_file_that_it_does_not_have(path):
    (path.parent / "values").write_bytes(arrays()["w0"].tobytes())
    MLP.from_onnx(outside(path, location="values"))
    MLP.from_onnx(outside(path, location="values", offset="0", length="24"))
    for entries in (
        {"offset": "4"},
        {"offset": "-1"},
        {"offset": "1e3"},
        {"offset": "9" * 30},
        {"length": "23"},
        {"length": "1000000000000"},
        {"offset": "٣"},  # a digit of another script
        {"length": ""},
    ):
        assert_refused(outside(path, location="values", **entries))


def test_many_arrays_do_not_share_one_file(path):
    """Else a large file and many names of it would take any memory."""
    (path.parent / "values").write_bytes(arrays()["w0"].tobytes())
    outside(path, location="values")
    model = onnx.load(str(path), load_external_data=False)
    second = TensorProto()
    second.CopyFrom(next(one for one in model.graph.initializer if one.name == "w0"))
    second.name, second.dims[:] = "w1", [3, 2]
    kept = [one for one in model.graph.initializer if one.name != "w1"]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, second])
    path.write_bytes(model.SerializeToString())
    assert_refused(path, "shares them")


def test_names_that_are_no_text(path):
    def scrambled() -> None:
        path.write_bytes(path.read_bytes().replace(b"WRONG", b"\xff\xfe\xfd\xfc\xfb"))

    for nodes in (
        layers(node("LeakyRelu", "z", "a", alpha=0.5, WRONG=0.5)),
        layers(node("Softmax", "z", "a", axis=1, WRONG=1)),
        layers(node("WRONG", "z", "a")),
        layers(node("Relu", "WRONG", "a")),
        layers(node("LeakyRelu", "z", "a", alpha="WRONG")),
        layers(node("Relu", "z", "WRONG")),
    ):
        save(path, nodes, arrays())
        scrambled()
        assert_refused(path)
    for entries in ({"location": "WRONG"}, {"location": "values", "offset": "WRONG"}):
        outside(path, **entries)
        scrambled()
        assert_refused(path)
    changed(path, lambda model: helper.set_model_props(model, {"label_names": "WRONG"}))
    scrambled()
    assert_refused(path)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("Gemm", "alpha"),
        ("Gemm", "transB"),
        ("LeakyRelu", "alpha"),
        ("Gelu", "approximate"),
        ("Clip", "min"),
        ("Cast", "to"),
        ("Flatten", "axis"),
        ("Softmax", "axis"),
        ("ArgMax", "axis"),
        ("Dropout", "ratio"),
        ("Transpose", "perm"),
        ("Constant", "value"),
        ("Constant", "value_float"),
        ("Constant", "value_ints"),
    ],
)
def test_attributes_of_another_kind(kind, name, path):
    tensor = numpy_helper.from_array(np.zeros(2))
    graph = helper.make_graph([], "graph", [], [])
    for value in (3, 0.5, "text", [1, 2], [0.5, 1.5], ["a", "b"], tensor, graph, [tensor]):
        inputs = {"Gemm": "z w1 b1", "Transpose": "w0", "Constant": ""}.get(kind, "z")
        save(path, layers(node(kind, inputs, "a", **{name: value})), arrays())
        with contextlib.suppress(ModelFileError):  # one kind is the right one
            MLP.from_onnx(path)


# Chance ----------------------------------------------------------------------------------------


def samples(folder: Path) -> list[bytes]:
    """Return files of every kind of network."""
    written = []
    for hidden, output, dtype in (
        ("gelu", "softmax", "float64"),
        ("leaky_relu", "sigmoid", "float32"),
        ("softplus", "exp", "float64"),
        ("hard_swish", "linear", "float32"),
    ):
        made = network(hidden, output, dtype, sizes=(2, 3, 2), input_scale=0.5)
        made.label_names, made.feature_names = (1, 2), ("a", "b")
        made.to_onnx(folder / "sample.onnx")
        written.append((folder / "sample.onnx").read_bytes())
    return written


def mutated(content: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """Return a file that differs in bytes, or in values of its message."""
    if chance.random() < 0.5:
        return in_bytes(bytearray(content), others, chance)
    model = onnx.ModelProto.FromString(content)
    for _ in range(chance.randint(1, 3)):
        in_fields(model, chance)
    return model.SerializeToString()


def in_bytes(content: bytearray, others: list[bytes], chance: random.Random) -> bytes:
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(content))
        kind = chance.randrange(5)
        if kind == 0:
            content[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            content[place] = chance.choice([0, 1, 127, 128, 255])
        elif kind == 2:
            del content[place : place + chance.randint(1, 20)]
        elif kind == 3:
            content[place:place] = chance.randbytes(chance.randint(1, 20))
        else:
            other = chance.choice(others)
            start = chance.randrange(len(other))
            content[place : place + 30] = other[start : start + 30]
        content = content or bytearray(b"\0")
    return bytes(content)


def in_fields(message: Any, chance: random.Random) -> None:
    """Change one field somewhere in a message."""
    fields = message.ListFields()
    if not fields:
        return
    field, value = chance.choice(fields)
    if hasattr(value, "ListFields"):
        in_fields(value, chance)
    elif hasattr(value, "append") or hasattr(value, "add"):
        in_items(value, chance)
    elif isinstance(value, bool | int):
        number = chance.choice([0, 1, -1, 7, value + 1, 2**31 - 1, -(2**31)])
        with contextlib.suppress(ValueError):
            setattr(message, field.name, number)
    elif isinstance(value, float):
        setattr(message, field.name, chance.choice([0.0, -1.0, float("nan"), 1e38, float("inf")]))
    elif isinstance(value, str):
        setattr(message, field.name, chance.choice(["", "X", "Add", "weights_0", value + "?"]))
    elif isinstance(value, bytes):
        setattr(message, field.name, chance.choice([b"", value[:-1], value * 2, value[::-1]]))


def in_items(items: Any, chance: random.Random) -> None:
    if not items:
        return
    place = chance.randrange(len(items))
    kind = chance.randrange(4)
    if kind == 0:
        del items[place]
    elif kind == 1 and hasattr(items, "add"):
        items.add().CopyFrom(items[place])
    elif hasattr(items[place], "ListFields"):
        in_fields(items[place], chance)
    elif isinstance(items[place], int):
        items[place] = chance.choice([0, 1, -1, 3, 2**40])
    elif isinstance(items[place], str):
        items[place] = chance.choice(["", "X", "weights_0", "biases_0"])


def assert_survived(folder: Path, n_tries: int, seed: int) -> None:
    chance = random.Random(seed)
    files = samples(folder)
    n_read = 0
    path = folder / "model.onnx"
    for trial in range(n_tries):
        content = mutated(chance.choice(files), files, chance)
        path.unlink(missing_ok=True)  # a new file is made faster than an old one is emptied
        path.write_bytes(content)
        try:
            read = MLP.from_onnx(path)
        except ModelFileError:
            continue
        except BaseException:
            print(f"try {trial} of seed {seed}: {path}")
            raise
        n_read += 1
        assert np.isfinite(read.parameters).all()
        assert read.parameters.nbytes <= len(content)
    # Many of the bytes are weights and names of nodes, whose changes nobody can see.
    assert 0.02 * n_tries < n_read < 0.9 * n_tries


def test_files_changed_by_chance_are_refused_or_read(tmp_path):
    assert_survived(tmp_path, 500, seed=int(os.environ.get("FASTMLP_FUZZ_SEED", "0")))


@pytest.mark.slow
def test_many_files_changed_by_chance_are_refused_or_read(tmp_path):
    assert_survived(tmp_path, 5_000, seed=1)


def test_names_of_the_metadata_are_those_of_the_network(path):
    made = network()
    made.feature_names = ("a", 'b"', "ç", "", "e\n")
    made.label_names = (10, 20, 30)
    made.to_onnx(path)
    texts = {one.key: json.loads(one.value) for one in onnx.load(str(path)).metadata_props}
    assert texts == {"feature_names": ["a", 'b"', "ç", "", "e\n"], "label_names": [10, 20, 30]}
    assert MLP.from_onnx(path).feature_names == made.feature_names
