"""Networks as ONNX files.

A file has one input, ``X`` of shape (n, n_inputs) for any n and of the network's dtype. Its
outputs are named as skl2onnx names them: ``probabilities``, after ``label`` where labels are known;
``variable`` for a regression. Names of features and labels are in the metadata too, as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import __version__
from fastmlp._files import write_atomically
from fastmlp._schema import shown
from fastmlp.activations import Activation, OutputActivation
from fastmlp.errors import ModelFileError
from fastmlp.exchange.formulas import Op, Parameter, Z
from fastmlp.exchange.layers import folded_weights
from fastmlp.exchange.vocabulary import parameter_of, row_of
from fastmlp.network import MLP, copying
from fastmlp.preprocessing import Preprocessing

Array = NDArray[Any]

#: Of 2022: read by onnxruntime 1.12 and later, and by all that has come since.
OPSET, IR_VERSION = 17, 8
#: A file is one message of Protocol Buffers, which hold no more.
MOST_BYTES = 2**31 - 2**20


def write_onnx(
    path: str | Path,
    network: MLP,
    of_estimator: bool = False,
    preprocessing: Preprocessing | None = None,
) -> None:
    """Write a network as an ONNX file, whole or not at all.

    Parameters
    ----------
    path : str or Path
        Replaced if it exists.
    network : MLP
        With its label names, which a softmax and a single sigmoid choose from; of several
        sigmoids the labels are 0 and 1.
    of_estimator : bool, default False
        Predict as scikit-learn's estimators do: two columns of probabilities for a single
        sigmoid, and probability 1/2 is a no, where it is a yes for `MLP.predict`.
    preprocessing : Preprocessing or None, default None
        What makes the network's inputs of a table's columns. The file takes their encoded values,
        in float64 where missing ones, NaN, are filled or all are standardized.

    Raises
    ------
    ImportError
        If onnx is not installed.
    FileNotFoundError
        If there is no such folder.
    ModelFileError
        If the network has an activation that is not the library's, parameters that are NaN or
        infinite or too many for such a file, or labels of a kind that ONNX has not.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_onnx(Path(folder, "a.onnx"), MLP([2, 3]))
    ...     MLP.from_onnx(Path(folder, "a.onnx")).layer_sizes
    (2, 3)
    """
    onnx_package()
    try:
        content = onnx_model(network, of_estimator, preprocessing)
    except ValueError as error:
        raise ModelFileError(f"{Path(path).name} is not written: {error}") from error
    write_atomically(path, content)


def onnx_package() -> Any:
    """Return the package onnx.

    Raises
    ------
    ImportError
        If it is not installed.

    Examples
    --------
    >>> onnx_package().__name__
    'onnx'
    """
    try:
        import onnx
        import onnx.numpy_helper
    except ImportError as error:
        raise ImportError(
            "ONNX files need the onnx package: pip install 'fastmlp[onnx]'"
        ) from error
    return onnx


def onnx_model(
    network: MLP, of_estimator: bool = False, preprocessing: Preprocessing | None = None
) -> bytes:
    """Return what `write_onnx` writes.

    Raises
    ------
    ValueError
        If the network has an activation that is not the library's, parameters that are NaN or
        infinite or too many for such a file, or labels of a kind that ONNX has not.

    Examples
    --------
    >>> len(onnx_model(MLP([10, 10]))) > 440
    True
    """
    from onnx import TensorProto, helper

    with copying:
        network = network.copy()
    if network.parameters.nbytes > MOST_BYTES:
        raise ValueError(
            f"its parameters take {network.parameters.nbytes:,} bytes, but an ONNX file holds at "
            f"most {MOST_BYTES:,}"
        )
    if not np.isfinite(network.parameters).all():
        raise ValueError("its parameters are NaN or infinite")
    graph = _Graph(network.dtype)
    rows = _add_preprocessing(graph, preprocessing)
    logits = _add_layers(graph, network, rows)
    outputs = _add_outputs(graph, network, logits, of_estimator)
    given = graph.element_type if rows == "X" else TensorProto.DOUBLE
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "mlp",
            [helper.make_tensor_value_info("X", given, ["n", network.n_inputs])],
            outputs,
            graph.constants,
        ),
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="fastmlp",
        producer_version=__version__,
    )
    names = {"feature_names": network.feature_names, "label_names": network.label_names}
    texts = {key: json.dumps(given) for key, given in names.items() if given is not None}
    helper.set_model_props(model, texts)
    return bytes(model.SerializeToString())


class _Graph:
    """Nodes and constants that grow."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        from onnx import helper

        self.dtype = dtype
        self.element_type = helper.np_dtype_to_tensor_dtype(dtype)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._numbers: dict[float, str] = {}

    def add(self, kind: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Add a node; return the name of its output."""
        from onnx import helper

        output = output or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, values: Array) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def number(self, value: float) -> str:
        if value not in self._numbers:
            name = f"number_{len(self._numbers)}"
            self._numbers[value] = self.constant(name, np.array(value, dtype=self.dtype))
        return self._numbers[value]

    def formula(self, written: Op, variable: str, of: Activation | OutputActivation) -> str:
        """Add the nodes of an activation's formula; return the name of its value."""
        known: dict[Op, str] = {Z: variable}

        def value(one: Op | Parameter | float) -> str:
            if not isinstance(one, Op):
                return self.number(float(parameter_of(of, one)))
            if one not in known:
                attributes = {name: parameter_of(of, setting) for name, setting in one.attributes}
                inputs = [value(operand) for operand in one.operands]
                known[one] = self.add(one.kind, inputs, **attributes)
            return known[one]

        return value(written)

    def rename(self, old: str, new: str) -> None:
        """Give a value another name."""
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [new if name == old else name for name in names]


def _add_preprocessing(graph: _Graph, preprocessing: Preprocessing | None) -> str:
    """Add what is done to encoded columns in float64; return the name of the network's rows."""
    value = "X"
    if preprocessing is None:
        return value
    if preprocessing.fill is not None:
        is_missing = graph.add("IsNaN", [value])
        filled = graph.constant("fill", np.array(preprocessing.fill))
        value = graph.add("Where", [is_missing, filled, value])
    if preprocessing.mean is not None:
        value = graph.add("Sub", [value, graph.constant("mean", np.array(preprocessing.mean))])
        deviation = graph.constant("deviation", np.array(preprocessing.deviation))
        value = graph.add("Div", [value, deviation])
    return value if value == "X" else graph.add("Cast", [value], to=graph.element_type)


def _add_layers(graph: _Graph, network: MLP, rows: str) -> str:
    """Add all layers; return the name of the logits."""
    value = rows
    if network.input_scale != 1.0:
        value = graph.add("Mul", [value, graph.number(network.input_scale)])
    for layer, (w, b) in enumerate(zip(folded_weights(network), network.biases, strict=True)):
        if layer > 0:
            activation = network.hidden_activations[layer - 1]
            written = row_of(activation).onnx_for(network.dtype)
            value = graph.formula(written, value, activation)
        names = graph.constant(f"weights_{layer}", w), graph.constant(f"biases_{layer}", b)
        value = graph.add("Gemm", [value, *names])
    return value


def _add_outputs(graph: _Graph, network: MLP, logits: str, of_estimator: bool) -> list[Any]:
    """Add what follows the logits; return the descriptions of the graph's outputs."""
    from onnx import helper

    activation, width = network.output_activation, network.n_outputs
    values = graph.formula(row_of(activation).onnx_for(network.dtype), logits, activation)
    is_class = activation.name in ("softmax", "sigmoid")
    described = []
    if is_class and network.label_names is not None:
        if activation.name == "softmax":
            numbers = graph.add("ArgMax", [values], axis=1, keepdims=0)
        else:
            numbers = _add_decision(graph, logits, "Greater" if of_estimator else "GreaterOrEqual")
        described.append(_add_label(graph, network, numbers, of_estimator))
    if of_estimator and activation.name == "sigmoid" and width == 1:
        no = graph.add("Sub", [graph.number(1.0), values])
        values, width = graph.add("Concat", [no, values], axis=1), 2
    name = "probabilities" if is_class else "variable"
    graph.rename(values, name)
    described.append(helper.make_tensor_value_info(name, graph.element_type, ["n", width]))
    return described


def _add_decision(graph: _Graph, logits: str, comparison: str) -> str:
    """Add the 0 or 1 of every sigmoid."""
    from onnx import TensorProto

    decided = graph.add(comparison, [logits, graph.number(0.0)])
    return graph.add("Cast", [decided], to=TensorProto.INT64)


def _add_label(graph: _Graph, network: MLP, numbers: str, of_estimator: bool) -> Any:
    """Add the label of every row, or several; return its description."""
    from onnx import TensorProto, helper

    names, width = network.label_names or (), network.n_outputs
    if network.output_activation.name == "sigmoid":
        is_pair = width == 1 and (of_estimator or len(names) == 2)
        if not is_pair:
            graph.rename(numbers, "label")
            return helper.make_tensor_value_info("label", TensorProto.INT64, ["n", width])
        names = names[0], names[-1]  # an estimator may know one class alone
        numbers = graph.add("Reshape", [numbers, graph.constant("one_dimension", np.array([-1]))])
    classes = graph.constant("classes", _label_array(names))
    graph.add("Gather", [classes, numbers], "label")
    return helper.make_tensor_value_info("label", graph.constants[-1].data_type, ["n"])


def _label_array(names: Sequence[Any]) -> Array:
    """Return labels as an array of a type that ONNX has: int64, float64 or text."""
    if all(isinstance(name, str) for name in names):
        return np.array(names, dtype=object)
    for kinds, dtype in ((int, np.int64), (int | float, np.float64)):
        if all(isinstance(name, kinds) for name in names):
            try:
                return np.array(names, dtype=dtype)
            except OverflowError as error:
                raise ValueError(f"its labels must have 64 bits, got {shown(names)}") from error
    raise ValueError(f"its labels must be numbers or text alone, got {shown(names)}")
