"""Contestants by name: our backends and the libraries people would use instead.

Every module imports its library when a contestant prepares, never before.
"""

from __future__ import annotations

from fastmlp.backends.base import backend_names
from fastmlp.benchmark.contestants.base import Contestant, Run
from fastmlp.benchmark.contestants.jax_scan import JaxScan
from fastmlp.benchmark.contestants.keras_tensorflow import Keras, TensorFlow
from fastmlp.benchmark.contestants.onnx_runtime import OnnxRuntime
from fastmlp.benchmark.contestants.originals import Columns, OneByOne
from fastmlp.benchmark.contestants.ours import OurBackend, OurTrainer
from fastmlp.benchmark.contestants.pytorch import CompiledPyTorch, PyTorch
from fastmlp.benchmark.contestants.pytorch_cpp import CppPyTorch
from fastmlp.benchmark.contestants.scikit_learn import OurEstimator, ScikitLearn

__all__ = ["PEERS", "Contestant", "Run", "contestant", "contestant_names"]

PEERS: dict[str, type[Contestant]] = {
    kind.name: kind
    for kind in (
        OurTrainer,
        OurEstimator,
        ScikitLearn,
        PyTorch,
        CompiledPyTorch,
        CppPyTorch,
        JaxScan,
        Keras,
        TensorFlow,
        OnnxRuntime,
        Columns,
        OneByOne,
    )
}


def contestant_names() -> list[str]:
    """Return the names of all contestants: backends, then peers.

    Examples
    --------
    >>> contestant_names()[:3]
    ['numpy', 'numba', 'jax']
    """
    return [*backend_names(), *PEERS]


def contestant(name: str) -> Contestant:
    """Return the contestant of a name.

    Raises
    ------
    ValueError
        If the name is unknown.

    Examples
    --------
    >>> contestant("jax-scan").packages
    ('jax',)
    """
    if name in PEERS:
        return PEERS[name]()
    if name in backend_names():
        return OurBackend(name)
    raise ValueError(f"unknown contestant {name!r}; choose among {', '.join(contestant_names())}")
