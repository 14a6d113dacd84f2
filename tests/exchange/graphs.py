"""ONNX graphs that tests build by hand, and what computes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fastmlp import MLP
from fastmlp.activations import ACTIVATIONS, ELU, OUTPUT_ACTIVATIONS, LeakyReLU

#: Every hidden activation, those with parameters by other values too.
HIDDEN = [*ACTIVATIONS.values(), LeakyReLU(0.3), ELU(0.7)]
OUTPUTS = list(OUTPUT_ACTIVATIONS)
KINDS = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}
#: Relative to the norm: rounding, of sums in another order and of exp.
BOUNDS = {"float32": 1e-6, "float64": 1e-13}


def network(hidden="relu", output="softmax", dtype="float32", sizes=(5, 7, 6, 3), **more) -> MLP:
    """Return a network with biases, whose hidden values lie on all sides of all bends."""
    made = MLP(list(sizes), hidden, output, dtype=dtype, seed=3, **more)
    rng = np.random.default_rng(4)
    made.parameters = made.parameters + 0.3 * rng.normal(size=made.n_parameters)
    return made


def rows(n_features=5, dtype="float32", n=200) -> np.ndarray:
    return (3 * np.random.default_rng(5).normal(size=(n, n_features))).astype(dtype)


def run(path: Path, X: np.ndarray, runtime: str = "onnxruntime") -> dict[str, np.ndarray]:
    """Return all outputs by name, as another library computes them."""
    if runtime == "reference":
        from onnx.reference import ReferenceEvaluator

        session: Any = ReferenceEvaluator(str(path))
        names, given = session.output_names, session.input_names[0]
    else:
        onnxruntime = pytest.importorskip("onnxruntime")
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = [one.name for one in session.get_outputs()]
        given = session.get_inputs()[0].name
    # Without harm: sigmoids of the reference, and what BLAS reads beside a vector and never uses.
    with np.errstate(over="ignore", invalid="ignore"):
        return dict(zip(names, session.run(None, {given: X}), strict=True))


def bound(made: MLP, X: np.ndarray) -> float:
    """Return how far apart rounding may bring outputs, relative to their norm."""
    # What is absolute in a logit is relative in its exponential.
    largest = max(1.0, float(np.abs(made.logits(X)).max()))
    return BOUNDS[made.dtype.name] * (largest if made.output_activation.name == "exp" else 1)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    assert a.dtype == b.dtype
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def node(kind: str, inputs: str, output: str, **attributes: Any) -> Any:
    """Return a node; inputs are names parted by spaces."""
    return helper.make_node(kind, inputs.split(), [output], name=f"{kind}-{output}", **attributes)


def save(
    path: Path,
    nodes: list[Any],
    arrays: dict[str, Any],
    outputs: str = "y",
    dtype: str = "float32",
    shape: tuple[Any, ...] = ("n", 2),
    opset: int = 17,
) -> Path:
    """Write a graph with the input x."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", KINDS[dtype], shape)],
        [helper.make_tensor_value_info(name, KINDS[dtype], None) for name in outputs.split()],
        [
            array
            if isinstance(array, onnx.TensorProto)
            else numpy_helper.from_array(np.asarray(array), name)
            for name, array in arrays.items()
        ],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, ir_version=8, opset_imports=imports)
    path.write_bytes(model.SerializeToString())
    return path


def arrays(dtype: str = "float32") -> dict[str, np.ndarray]:
    """Return the weights and biases of a network of 2, 3 and 2 units."""
    rng = np.random.default_rng(6)
    shapes = {"w0": (2, 3), "b0": (3,), "w1": (3, 2), "b1": (2,)}
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}


def layers(*between: Any, last: str = "y") -> list[Any]:
    """Return the nodes of two layers, with nodes that make "a" of "z" between them."""
    first = node("Gemm", "x w0 b0", "z")
    return [first, *between, node("Gemm", "a w1 b1", last)]
