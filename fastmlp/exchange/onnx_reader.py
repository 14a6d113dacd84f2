"""Networks from ONNX files: ours, and those that others write for plain multilayer perceptrons.

A file is read node by node, each of which must make something that is known of values that are
known: arrays, what layers compute, and labels. Elementwise nodes make formulas; where a layer's
values enter the next layer or leave the graph, their formula must be that of an activation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import _checks
from fastmlp._json import read_json
from fastmlp._schema import Items, Scalar, Text, shown
from fastmlp.activations import ACTIVATIONS, OUTPUT_ACTIVATIONS, Activation, OutputActivation
from fastmlp.errors import ModelFileError
from fastmlp.exchange.formulas import (
    OPERATORS,
    Formula,
    Z,
    apply,
    called,
    match,
    normal_form,
    number,
    op,
)
from fastmlp.exchange.layers import network_of_layers
from fastmlp.exchange.onnx_tensors import ELEMENTS, TEXT, Tensors, as_text
from fastmlp.exchange.onnx_writer import onnx_package
from fastmlp.exchange.vocabulary import of_formula
from fastmlp.network import MLP

Array = NDArray[Any]

#: From here on operators broadcast without attributes that say so.
FIRST_OPSET = 7
#: No plain network has more nodes or arrays; each may make a formula of some length.
MOST_PARTS = 100_000

_FLOATS: dict[int, np.dtype[Any]] = {1: np.dtype(np.float32), 11: np.dtype(np.float64)}
_INTEGERS = (6, 7)
_LAST_AXIS = (1, -1)
_VARIABLE = normal_form(Z)
_PROBABILITY = normal_form(op("Sigmoid", Z))
_COMPLEMENT = normal_form(1.0 - op("Sigmoid", Z))
#: What makes a label of a sigmoid.
_DECISIONS = [
    normal_form(op(kind, value, limit))
    for kind in ("Greater", "GreaterOrEqual")
    for value, limit in ((Z, 0.0), (op("Sigmoid", Z), 0.5))
]


def read_onnx(path: str | Path, output: str | OutputActivation | None = None) -> MLP:
    """Return the network that an ONNX file holds.

    A file from anywhere may be given: none makes the library read in another folder, or take more
    memory than the sizes of the files call for.

    Parameters
    ----------
    path : str or Path
    output : str, OutputActivation or None, default None
        The output activation, for a file that ends with logits; None takes them as values.

    Returns
    -------
    MLP

    Raises
    ------
    ImportError
        If onnx is not installed.
    OSError
        If the file cannot be opened.
    ModelFileError
        If it is damaged, or not a plain multilayer perceptron: the message names the node. If it
        has another output activation than `output`.
    ValueError
        If `output` is unknown.

    Examples
    --------
    >>> read_onnx("nowhere.onnx")
    Traceback (most recent call last):
        ...
    FileNotFoundError: [Errno 2] No such file or directory: 'nowhere.onnx'
    """
    package = onnx_package()
    from google.protobuf.message import DecodeError

    if output is not None:
        output = _checks.choose(output, OutputActivation, OUTPUT_ACTIVATIONS, "output activation")
    path = Path(path)
    content = path.read_bytes()
    try:
        model = package.ModelProto.FromString(content)
        return _Reader(model, path.parent).network(output)
    except (ValueError, RecursionError, MemoryError, DecodeError) as error:
        reason = str(error) or type(error).__name__
        raise ModelFileError(f"{path.name} cannot be read as an MLP: {reason}") from error


# What the names of a graph may stand for -------------------------------------------------------


@dataclass(frozen=True)
class _Constant:
    """An array, and the name that it came by: under another name it is still the same."""

    values: Array
    source: str


@dataclass(frozen=True, eq=False)
class _Layer:
    """Weights, biases, and where the layer's inputs come from."""

    weights: Array
    biases: Array | None
    previous: _Layer | None
    #: Of the layer before; None in the first, whose inputs are multiplied by the scale.
    activation: Activation | None = None
    input_scale: float = 1.0

    def chain(self) -> list[_Layer]:
        """Return all layers, from the first to this one."""
        layers, layer = list[_Layer](), self
        while True:
            layers.append(layer)
            if layer.previous is None:
                return layers[::-1]
            layer = layer.previous


@dataclass(frozen=True)
class _Signal:
    """A formula of what a layer computes, or of the inputs, where the layer is None."""

    layer: _Layer | None
    #: None where integers come in.
    dtype: np.dtype[Any] | None
    width: int | None
    formula: Formula = _VARIABLE
    is_flat: bool = True

    @property
    def is_bare(self) -> bool:
        return match(_VARIABLE, self.formula) is not None


@dataclass(frozen=True)
class _Columns:
    """The probabilities of no and yes, side by side, of a sigmoid."""

    of: _Signal


@dataclass(frozen=True)
class _Choice:
    """The number of the largest column."""

    of: _Signal
    is_pair: bool


@dataclass(frozen=True)
class _Decision:
    """0 or 1 for every sigmoid."""

    of: _Signal


@dataclass(frozen=True)
class _Labels:
    """Names chosen by numbers; or, in a map, names of the columns of probabilities."""

    of: _Signal
    chosen_by: _Choice | _Decision | None
    names: tuple[Any, ...]


_Decided = _Choice | _Decision | _Labels


@dataclass
class _Reader:
    """Reads one graph."""

    model: Any
    folder: Path
    known: dict[str, Any] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def network(self, output: OutputActivation | None) -> MLP:
        """Return the graph's network, with the output activation that is wanted of logits."""
        graph = self.model.graph
        self._check_version()
        self.tensors = Tensors(self.folder)
        self.arrays = {tensor.name: tensor for tensor in graph.initializer}
        self._take_inputs(graph.input)
        for node in graph.node:
            self._take_node(node)
        return self._network(graph.output, output)

    def _check_version(self) -> None:
        versions = [one.version for one in self.model.opset_import if _domain(one.domain) == ""]
        if len(versions) != 1 or versions[0] < FIRST_OPSET:
            raise ValueError(
                f"it is of the ONNX operator sets {shown(versions)}, or no ONNX file; it must be "
                f"of one from {FIRST_OPSET} on"
            )
        graph = self.model.graph
        for parts in (graph.node, graph.initializer, graph.input, graph.output):
            if len(parts) > MOST_PARTS:
                raise ValueError(f"it has more than {MOST_PARTS:,} nodes, arrays or values")

    def _take_inputs(self, inputs: Any) -> None:
        given = [one for one in inputs if one.name not in self.arrays]
        if len(given) != 1:
            raise ValueError(f"it has {len(given)} inputs, but must have one")
        kind = given[0].type
        if kind.WhichOneof("value") != "tensor_type":
            raise ValueError(f"its input {shown(given[0].name)} is not an array")
        shape = [one.dim_value or None for one in kind.tensor_type.shape.dim]
        if kind.tensor_type.HasField("shape") and len(shape) < 2:
            raise ValueError(f"its input {shown(given[0].name)} has no rows of features")
        sizes = shape[1:]
        width = math.prod(filter(None, sizes)) if sizes and None not in sizes else None
        dtype = _FLOATS.get(kind.tensor_type.elem_type)
        self.known[given[0].name] = _Signal(None, dtype, width, is_flat=len(shape) <= 2)

    def _take_node(self, node: Any) -> None:
        try:
            value = self._value(node)
            if not node.output or node.output[0] in self.known:
                raise ValueError("its output has no name of its own")
        except ValueError as error:
            name = node.name or next(iter(node.output), "")
            raise ValueError(
                f"the node {shown(name)} ({shown(node.op_type)[1:-1]}) is not understood: {error}"
            ) from error
        self.known[node.output[0]] = value

    def _value(self, node: Any) -> Any:
        domain = _domain(node.domain)
        values = [self._named(name) for name in node.input]
        while values and values[-1] is None:
            values.pop()
        attributes = dict(map(_attribute, node.attribute))
        method = _METHODS.get((domain, node.op_type))
        if method is None:
            if domain or node.op_type not in OPERATORS or node.op_type == "Z":
                raise ValueError("a plain MLP has no such operator")
            return self._elementwise(node.op_type, values, attributes)
        return called(method, [self, *values], attributes)

    def _named(self, name: str) -> Any:
        """Return what a name stands for; None for the empty name."""
        if not name:
            return None
        if name not in self.known:
            if name not in self.arrays:
                raise ValueError(f"it takes {shown(name)}, which nothing before it makes")
            try:
                self.known[name] = _Constant(self.tensors.array(self.arrays[name]), name)
            except ValueError as error:
                raise ValueError(f"of its input {shown(name)}, {error}") from error
        return self.known[name]

    # Values of layers --------------------------------------------------------------------------

    def _elementwise(self, kind: str, values: Sequence[Any], attributes: dict[str, Any]) -> _Signal:
        signals = [one for one in values if isinstance(one, _Signal)]
        if not signals:
            raise ValueError("it takes no values of a layer")
        if any(one.layer is not signals[0].layer for one in signals):
            raise ValueError("it combines values of two layers")
        formulas = [
            one.formula if isinstance(one, _Signal) else number(_scalar(one)) for one in values
        ]
        given = {
            name: value if isinstance(value, str) else number(_plain_number(value))
            for name, value in attributes.items()
        }
        return replace(signals[0], formula=apply(kind, formulas, given))

    def _matmul(self, x: Any, weights: Any) -> _Signal:
        x, weights = _signal(x), _constant(weights)
        w = weights.values
        if w.ndim != 2 or w.dtype not in _FLOATS.values() or x.dtype != w.dtype:
            raise ValueError(f"it multiplies values of {x.dtype} by {shown(w)}")
        if not x.is_flat:
            raise ValueError("its rows have more than one dimension, and no Flatten comes before")
        if x.width not in (None, len(w)):
            raise ValueError(f"its rows have {x.width} values, but its weights the shape {w.shape}")
        if weights.source in self.used:
            raise ValueError(f"another layer has its weights {shown(weights.source)} too")
        self.used.add(weights.source)
        if x.layer is None:
            if x.formula.skeleton != _VARIABLE.skeleton:
                raise ValueError("the inputs come to it by more than multiplication by a number")
            layer = _Layer(w, None, None, input_scale=x.formula.coefficient)
        else:
            activation = of_formula(x.formula, ACTIVATIONS)
            if activation is None:
                raise ValueError(
                    "what comes to it is no activation of a layer's values that is known "
                    f"({', '.join(ACTIVATIONS)})"
                )
            layer = _Layer(w, None, x.layer, activation)
        return _Signal(layer, w.dtype, w.shape[1])

    def _gemm(
        self,
        x: Any,
        weights: Any,
        biases: Any = None,
        *,
        alpha: float = 1.0,
        beta: float = 1.0,
        transA: int = 0,
        transB: int = 0,
    ) -> _Signal:
        if transA or alpha != 1 or (beta != 1 and biases is not None):
            raise ValueError("it has alpha or beta other than 1, or transA")
        product = self._matmul(x, self._transpose(weights) if transB else weights)
        if biases is None:
            return product
        biased = _with_biases(product, _constant(biases))
        if biased is None:
            raise ValueError(f"its biases are {shown(_constant(biases).values)}")
        return biased

    def _add(self, one: Any, other: Any) -> _Signal:
        value, constant = (other, one) if isinstance(one, _Constant) else (one, other)
        if isinstance(value, _Signal) and isinstance(constant, _Constant):
            biased = _with_biases(value, constant)
            if biased is not None:
                return biased
        return self._elementwise("Add", (one, other), {})

    def _clip(
        self,
        x: Any,
        low: Any = None,
        high: Any = None,
        *,
        min: float | None = None,
        max: float | None = None,
    ) -> _Signal:
        for kind, limit in (("Max", low), ("Min", high)):
            if limit is not None:
                x = self._elementwise(kind, (x, limit), {})
        for kind, given in (("Max", min), ("Min", max)):
            if given is not None:
                constant = _Constant(np.array([given], np.float32), "")
                x = self._elementwise(kind, (x, constant), {})
        return _signal(x)

    def _softmax(self, x: Any, *, axis: int = -1) -> _Signal:
        return self._over_columns("Softmax", x, axis)

    def _log_softmax(self, x: Any, *, axis: int = -1) -> _Signal:
        return self._over_columns("LogSoftmax", x, axis)

    def _over_columns(self, kind: str, x: Any, axis: int) -> _Signal:
        _check_axis(axis)
        return self._elementwise(kind, (x,), {})

    def _dropout(
        self,
        x: Any,
        share: Any = None,
        training: Any = None,
        *,
        ratio: float = 0.5,
        seed: int = 0,
    ) -> Any:
        if training is not None and _constant(training).values.any():
            raise ValueError("it drops values in prediction too")
        return x

    # Shapes and types --------------------------------------------------------------------------

    def _identity(self, x: Any) -> Any:
        return x

    def _flatten(self, x: Any, *, axis: int = 1) -> _Signal:
        if axis != 1:
            raise ValueError(f"its axis is {axis}")
        return replace(_signal(x), is_flat=True)

    def _reshape(self, x: Any, shape: Any, *, allowzero: int = 0) -> Any:
        if isinstance(x, _Decided):
            return self._squeeze(x)
        x = _signal(x)
        rows, columns = _shape_of_rows(shape)
        keeps_rows = columns > 0 or (columns == -1 and rows != -1)
        if (
            not keeps_rows
            or (rows == 0 and allowzero)
            or (columns > 0 and x.width not in (None, columns))
        ):
            raise ValueError(f"it makes the shape ({rows}, {columns}) of rows of {x.width} values")
        return replace(x, is_flat=True, width=columns if columns > 0 else x.width)

    def _squeeze(self, x: Any, axes: Any = None) -> Any:
        if not isinstance(x, _Decided) or _is_wide(x):
            raise ValueError("it takes a dimension from what is no single label of every row")
        return x

    def _transpose(self, x: Any, *, perm: Sequence[int] = (1, 0)) -> _Constant:
        constant = _constant(x)
        if constant.values.ndim != 2 or tuple(perm) != (1, 0):
            raise ValueError("it transposes what is no matrix of weights")
        return replace(constant, values=constant.values.T)

    def _cast(self, x: Any, *, to: int, saturate: int = 1) -> Any:
        if isinstance(x, _Constant):
            if to not in ELEMENTS or (x.values.dtype != ELEMENTS[to][0] and x.values.size > 1):
                raise ValueError("it changes the type of an array")
            return replace(x, values=x.values.astype(ELEMENTS[to][0], copy=False))
        if isinstance(x, _Decided):
            if to in _INTEGERS or (to == TEXT and isinstance(x, _Labels)):
                return x
        elif isinstance(x, _Signal):
            if to in _INTEGERS and any(match(one, x.formula) is not None for one in _DECISIONS):
                return _Decision(x)
            # Inputs are rounded once, to the weights' type; what is rounded is not widened again.
            is_rounding = x.layer is None and x.dtype != _FLOATS[1]
            if to in _FLOATS and (is_rounding or x.dtype == _FLOATS[to]):
                return replace(x, dtype=_FLOATS[to])
        raise ValueError(f"it changes values to ONNX's element type {to}")

    def _constant_node(self, **attributes: Any) -> _Constant:
        if len(attributes) != 1:
            raise ValueError("it is no constant")
        ((name, value),) = attributes.items()
        if name == "value":
            return _Constant(self.tensors.array(value), f"a constant of {len(self.known)}")
        if name not in ("value_float", "value_floats", "value_int", "value_ints"):
            raise ValueError(f"its value is given as {shown(name)}")
        dtype = np.float32 if "float" in name else np.int64
        return _Constant(np.array(value, dtype=dtype), f"a constant of {len(self.known)}")

    # Labels ------------------------------------------------------------------------------------

    def _concat(self, *values: Any, axis: int) -> _Columns:
        _check_axis(axis)
        if len(values) != 2:
            raise ValueError(f"it joins {len(values)} values")
        no, yes = map(_signal, values)
        formulas = (_COMPLEMENT, no.formula), (_PROBABILITY, yes.formula)
        if no.layer is not yes.layer or any(match(*pair) is None for pair in formulas):
            raise ValueError("it joins what is not the probabilities of no and yes")
        return _Columns(yes)

    def _argmax(
        self, x: Any, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0
    ) -> _Choice:
        _check_axis(axis)
        if select_last_index:
            raise ValueError("it takes the last of several largest")
        return _Choice(x.of, True) if isinstance(x, _Columns) else _Choice(_signal(x), False)

    def _binarizer(self, x: Any, *, threshold: float = 0.0) -> _Decision:
        limit = _Constant(np.array([threshold], np.float32), "")
        decided = self._elementwise("Greater", (x, limit), {})
        return self._cast(decided, to=_INTEGERS[0])

    def _gather(self, names: Any, numbers: Any, *, axis: int = 0) -> _Labels:
        return self._labels(names, numbers, axis)

    def _extract(self, names: Any, numbers: Any) -> _Labels:
        return self._labels(names, numbers, 0)

    def _labels(self, names: Any, numbers: Any, axis: int) -> _Labels:
        values = _constant(names).values
        is_vector = values.size == max(values.shape, default=0)
        is_number = isinstance(numbers, _Choice | _Decision) and not _is_wide(numbers)
        if axis or not is_vector or not is_number:
            raise ValueError("it takes what is no label by the number of its class")
        return _Labels(numbers.of, numbers, tuple(values.reshape(-1).tolist()))

    def _zip_map(
        self,
        x: Any,
        *,
        classlabels_int64s: Sequence[int] = (),
        classlabels_strings: Sequence[str] = (),
    ) -> _Labels:
        source = x.of if isinstance(x, _Columns) else _signal(x)
        return _Labels(source, None, (*classlabels_int64s, *classlabels_strings))

    # The end -----------------------------------------------------------------------------------

    def _network(self, outputs: Any, wanted: OutputActivation | None) -> MLP:
        ends = {one.name: self._named(one.name) for one in outputs}
        for name, end in ends.items():
            if not isinstance(end, _Signal | _Columns | _Decided):
                raise ValueError(f"its output {shown(name)} is not what a layer computes")
        values = [
            end if isinstance(end, _Signal) else end.of
            for end in ends.values()
            if not isinstance(end, _Decided) or (isinstance(end, _Labels) and not end.chosen_by)
        ]
        if not values:
            raise ValueError("none of its outputs holds what a network computes")
        last = values[0].layer
        sources = [end if isinstance(end, _Signal) else end.of for end in ends.values()]
        if last is None or any(one.layer is not last for one in sources):
            raise ValueError("its outputs are not all of one last layer")
        output = self._output(values, wanted)
        labels = [end for end in ends.values() if isinstance(end, _Decided)]
        for end in labels:
            _check_label(end, output)
        layers = last.chain()
        network = network_of_layers(
            [one.weights for one in layers],
            [_biases(one) for one in layers],
            [one.activation for one in layers[1:] if one.activation is not None],
            output,
            layers[0].input_scale,
        )
        self._name(network, [end.names for end in labels if isinstance(end, _Labels)])
        return network

    def _name(self, network: MLP, labels: Sequence[tuple[Any, ...]]) -> None:
        """Give a network the names of the metadata, or else those that its graph chooses from."""
        texts = {one.key: one.value for one in self.model.metadata_props}
        if "feature_names" in texts:
            names = read_json(texts["feature_names"], finite=True)
            Items(Text(), network.n_inputs).check(names, "feature_names")
            network.feature_names = tuple(names)
        if "label_names" in texts:
            names = read_json(texts["label_names"], finite=True)
            Items(Scalar()).check(names, "label_names")
            network.label_names = names
        if len(set(labels)) > 1:
            raise ValueError("its outputs have different labels")
        if labels and "label_names" not in texts and len(set(labels[0])) == len(labels[0]):
            network.label_names = labels[0]

    def _output(
        self, values: Sequence[_Signal], wanted: OutputActivation | None
    ) -> OutputActivation:
        """Return the output activation of what leaves the graph."""
        found = {of_formula(one.formula, OUTPUT_ACTIVATIONS) for one in values}
        output = found.pop()
        if found or output is None:
            raise ValueError(
                "what leaves it is none of the outputs that are known "
                f"({', '.join(OUTPUT_ACTIVATIONS)})"
            )
        if wanted is None or wanted == output:
            return output
        if output.name != "linear":
            raise ValueError(f"its output is {output.name!r}, but {wanted.name!r} is wanted")
        return wanted


#: Operators that are not elementwise, or have more to them, by domain and name.
_METHODS: dict[tuple[str, str], Callable[..., Any]] = {
    ("", "MatMul"): _Reader._matmul,
    ("", "Gemm"): _Reader._gemm,
    ("", "Add"): _Reader._add,
    ("", "Clip"): _Reader._clip,
    ("", "Softmax"): _Reader._softmax,
    ("", "LogSoftmax"): _Reader._log_softmax,
    ("", "Dropout"): _Reader._dropout,
    ("", "Identity"): _Reader._identity,
    ("", "Flatten"): _Reader._flatten,
    ("", "Reshape"): _Reader._reshape,
    ("", "Squeeze"): _Reader._squeeze,
    ("", "Transpose"): _Reader._transpose,
    ("", "Cast"): _Reader._cast,
    ("", "Constant"): _Reader._constant_node,
    ("", "Concat"): _Reader._concat,
    ("", "ArgMax"): _Reader._argmax,
    ("", "Gather"): _Reader._gather,
    ("ai.onnx.ml", "Binarizer"): _Reader._binarizer,
    ("ai.onnx.ml", "ArrayFeatureExtractor"): _Reader._extract,
    ("ai.onnx.ml", "ZipMap"): _Reader._zip_map,
}

#: What attributes hold, by ONNX's number of their kinds.
_KINDS: dict[int, Callable[[Any], Any]] = {
    1: lambda attribute: attribute.f,
    2: lambda attribute: attribute.i,
    3: lambda attribute: attribute.s.decode(),
    4: lambda attribute: attribute.t,
    6: lambda attribute: list(attribute.floats),
    7: lambda attribute: list(attribute.ints),
    8: lambda attribute: [text.decode() for text in attribute.strings],
}
#: The attributes that any of the operators above has, and of which kind.
_ATTRIBUTES = {
    name: kind
    for kind, names in {
        1: "alpha beta gamma max min ratio threshold value_float",
        2: "allowzero axis keepdims saturate seed select_last_index to transA transB value_int",
        3: "approximate",
        4: "value",
        6: "value_floats",
        7: "axes classlabels_int64s perm value_ints",
        8: "classlabels_strings",
    }.items()
    for name in names.split()
}


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _attribute(attribute: Any) -> tuple[str, Any]:
    """Return an attribute's name and value."""
    name = as_text(attribute.name)
    if attribute.ref_attr_name or attribute.type != _ATTRIBUTES.get(name):
        raise ValueError(f"its attribute {shown(name)} is not known")
    return name, _KINDS[attribute.type](attribute)


def _signal(value: Any) -> _Signal:
    if not isinstance(value, _Signal):
        raise ValueError("it takes what is not the values of a layer")
    return value


def _constant(value: Any) -> _Constant:
    if not isinstance(value, _Constant):
        raise ValueError("it takes what is not an array of the file")
    return value


def _scalar(value: Any) -> float:
    """Return the number that a constant is."""
    values = _constant(value).values
    if values.size != 1 or values.ndim > 2 or values.dtype.kind not in "iuf":
        raise ValueError(f"it combines a layer's values with {shown(values)}")
    return _plain_number(values.item(), is_single=values.dtype == np.float32)


def _plain_number(value: Any, is_single: bool = True) -> float:
    """Return a number; of float32, as attributes are, the shortest decimal one: what was meant."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"it has {shown(value)} for a number")
    return float(str(np.float32(value))) if is_single else float(value)


def _shape_of_rows(value: Any) -> tuple[int, int]:
    values = _constant(value).values
    if values.shape != (2,) or values.dtype.kind != "i":
        raise ValueError(f"it has {shown(values)} for a shape")
    rows, columns = map(int, values)
    return rows, columns


def _check_axis(axis: int) -> None:
    if axis not in _LAST_AXIS:
        raise ValueError(f"its axis is {axis}, not that of the columns")


def _with_biases(product: _Signal, constant: _Constant) -> _Signal | None:
    """Return a product with biases; None if it is none, or the array has another shape."""
    layer, values = product.layer, constant.values
    if layer is None or layer.biases is not None or not product.is_bare:
        return None
    width = product.width
    if values.shape not in ((width,), (1, width)) or values.dtype != product.dtype:
        return None
    return replace(product, layer=replace(layer, biases=values.reshape(-1)))


def _biases(layer: _Layer) -> Array:
    if layer.biases is not None:
        return layer.biases
    return np.zeros(layer.weights.shape[1], dtype=layer.weights.dtype)


def _is_wide(decided: _Decided) -> bool:
    """Return whether it is a matrix, of several labels."""
    return isinstance(decided, _Decision) and decided.of.width != 1


def _check_label(decided: _Decided, output: OutputActivation) -> None:
    """Raise ValueError if labels are not those that a network of such an output gives."""
    chosen_by = decided.chosen_by if isinstance(decided, _Labels) else decided
    width = decided.of.width
    one_sigmoid = output.name == "sigmoid" and width == 1
    if isinstance(chosen_by, _Choice):
        fits = output.name == "softmax" or (one_sigmoid and chosen_by.is_pair)
    else:
        fits = chosen_by is None or output.name == "sigmoid"
    seen = of_formula(decided.of.formula, OUTPUT_ACTIVATIONS)
    if not fits or (seen is None and not isinstance(chosen_by, _Decision)):
        raise ValueError(f"its labels are not those of {output.name} outputs")
    if isinstance(decided, _Labels):
        n_wanted = 2 if one_sigmoid else width
        if len(decided.names) != n_wanted:
            raise ValueError(f"it has {len(decided.names)} labels for {n_wanted} classes")
