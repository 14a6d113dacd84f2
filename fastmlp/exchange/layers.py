"""A network from arrays that another library trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.activations import Activation, OutputActivation
from fastmlp.network import MLP

Array = NDArray[Any]


def network_of_layers(
    weights: Sequence[Array],
    biases: Sequence[Array],
    hidden: Sequence[str | Activation],
    output: str | OutputActivation,
    input_scale: float = 1.0,
) -> MLP:
    """Return a network with copies of weights and biases.

    Parameters
    ----------
    weights : sequence of ndarray of shape (n_in, n_out)
    biases : sequence of ndarray of shape (n_out,)
    hidden : sequence of str or Activation
    output : str or OutputActivation
    input_scale : float, default 1.0

    Returns
    -------
    MLP
        Of float32 if all arrays are, else of float64.

    Raises
    ------
    ValueError
        If the arrays do not follow one from another, or hold NaN or infinite values.

    Examples
    --------
    >>> network_of_layers([np.eye(2)], [np.zeros(2)], [], "linear").predict([1.0, 2.0])
    array([1., 2.])
    """
    if not len(weights) == len(biases) == len(hidden) + 1:
        raise ValueError(
            f"{len(weights)} arrays of weights and {len(biases)} of biases with {len(hidden)} "
            "hidden activations are no network"
        )
    width = weights[0].shape[0]
    for layer, (w, b) in enumerate(zip(weights, biases, strict=True), start=1):
        if w.shape != (width, *b.shape):
            raise ValueError(
                f"layer {layer} takes {width} values, but has weights of shape {w.shape} and "
                f"biases of shape {b.shape}"
            )
        if not (np.isfinite(w).all() and np.isfinite(b).all()):
            raise ValueError(f"layer {layer} has weights or biases that are NaN or infinite")
        width = len(b)
    dtype = np.result_type(*weights, *biases)
    network = MLP(
        [len(weights[0]), *(len(b) for b in biases)],
        list(hidden),
        output,
        dtype=np.float32 if dtype == np.float32 else np.float64,
        input_scale=input_scale,
    )
    network.weights = weights
    network.biases = biases
    return network


def folded_weights(network: MLP) -> list[Array]:
    """Return every layer's weights; those of the first are times the scaling layer's factors.

    So a format that knows no scaling layer holds what the network computes, but for rounding.

    Examples
    --------
    >>> network = MLP([2, 1], dtype="float64", scaling_layer=True)
    >>> network.weights[0], network.scale = [[1.0], [2.0]], [10.0, 100.0]
    >>> folded_weights(network)
    [array([[ 10.],
           [200.]])]
    """
    weights = list(network.weights)
    if network.scale is not None:
        weights[0] = network.scale[:, None] * weights[0]
    return weights
