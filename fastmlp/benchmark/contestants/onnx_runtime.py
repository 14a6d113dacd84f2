"""onnxruntime, which predicts with a network that was trained elsewhere."""

from __future__ import annotations

import numpy as np

from fastmlp.benchmark.contestants.base import Array, Contestant, Run
from fastmlp.benchmark.workloads import Workload
from fastmlp.exchange.onnx_writer import onnx_model
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
        return _Run(network, n_threads)


class _Run(Run):
    def __init__(self, network: MLP, n_threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = n_threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            onnx_model(network), options, providers=["CPUExecutionProvider"]
        )

    def outputs(self, X: Array) -> Array:
        return self.session.run(None, {"X": np.atleast_2d(X)})[0]
