"""onnxruntime, which predicts with a network that was trained elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmlp.benchmark.contestants.base import Array, Contestant, Run
from fastmlp.benchmark.workloads import Workload
from fastmlp.network import MLP


class OnnxRuntime(Contestant):
    """onnxruntime on the CPU: prediction only.

    Examples
    --------
    >>> OnnxRuntime().trains
    False
    """

    name = "onnxruntime"
    packages = ("onnx", "onnxruntime")
    trains = False

    def prepare(self, workload: Workload, network: MLP, X: Array, y: Array, n_threads: int) -> Run:
        return _Run(workload, network, n_threads)


class _Run(Run):
    def __init__(self, workload: Workload, network: MLP, n_threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = n_threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            _model(workload, network), options, providers=["CPUExecutionProvider"]
        )

    def outputs(self, X: Array) -> Array:
        return self.session.run(None, {"X": np.atleast_2d(X)})[0]


def _model(workload: Workload, network: MLP) -> bytes:
    """Return the network as an ONNX model: a Gemm and an activation for each layer."""
    from onnx import TensorProto, checker, helper, numpy_helper

    hidden = {"relu": "Relu", "sigmoid": "Sigmoid"}[workload.hidden_activation]
    nodes: list[Any] = []
    constants: list[Any] = []
    name = "X"
    for layer, (w, b) in enumerate(zip(network.weights, network.biases, strict=True)):
        last = layer == network.n_layers - 1
        constants.append(numpy_helper.from_array(w.copy(), f"w{layer}"))
        constants.append(numpy_helper.from_array(b.copy(), f"b{layer}"))
        nodes.append(helper.make_node("Gemm", [name, f"w{layer}", f"b{layer}"], [f"z{layer}"]))
        name = "outputs" if last else f"a{layer}"
        nodes.append(helper.make_node("Softmax" if last else hidden, [f"z{layer}"], [name]))
    kind = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}[workload.dtype]
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("X", kind, ["n", network.n_inputs])],
        [helper.make_tensor_value_info("outputs", kind, ["n", network.n_outputs])],
        constants,
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    checker.check_model(model)
    return bytes(model.SerializeToString())
