"""RealMLP-TD-S (Holzmüller et al. 2024, arXiv 2407.04491) in the terms of this library.

The paper's layers compute ``z = x @ W / sqrt(n_in) + b`` with W and b drawn from N(0, 1). That is
an ordinary layer whose weights are drawn from N(0, 1 / n_in) and learn at 1 / sqrt(n_in) of the
rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastmlp.activations import Activation
from fastmlp.network import MLP
from fastmlp.optimizers import Adam, RateFactors

#: Factors on the learning rate of biases and of the scaling layer.
_BIAS_FACTOR = 0.1
_SCALE_FACTOR = 6.0
_BETA_2 = 0.95


def make_network(
    layer_sizes: Sequence[int], activation: str | Activation, output: str, seed: int, dtype: Any
) -> MLP:
    """Return a network with a scaling layer; `draw` gives it its first weights.

    Examples
    --------
    >>> make_network([4, 8, 3], "selu", "softmax", seed=0, dtype="float32").scale.shape
    (4,)
    """
    return MLP(layer_sizes, activation, output, dtype=dtype, seed=seed, scaling_layer=True)


def draw(network: MLP) -> None:
    """Draw the recipe's first weights by the network's seed; the last layer's are 0.

    Examples
    --------
    >>> network = make_network([4, 8, 3], "selu", "softmax", seed=0, dtype="float32")
    >>> draw(network)
    >>> float(abs(network.biases[0]).min()) > 0, float(abs(network.weights[1]).max())
    (True, 0.0)
    """
    generator = np.random.default_rng(network.seed)
    for weights, biases in zip(network.weights[:-1], network.biases[:-1], strict=True):
        weights[:] = generator.standard_normal(weights.shape) / math.sqrt(len(weights))
        biases[:] = generator.standard_normal(biases.shape)
    network.weights[-1][:] = 0
    network.biases[-1][:] = 0


def optimizer_of(layer_sizes: Sequence[int], learning_rate: float) -> Adam:
    """Return Adam with the paper's rates of each kind of parameter.

    Examples
    --------
    >>> optimizer_of([4, 16, 3], 0.04).rate_factors
    RateFactors(weights=(0.5, 0.25), biases=0.1, scale=6.0)
    """
    factors = RateFactors(
        weights=tuple(1 / math.sqrt(n_in) for n_in in layer_sizes[:-1]),
        biases=_BIAS_FACTOR,
        scale=_SCALE_FACTOR,
    )
    return Adam(learning_rate, beta_2=_BETA_2, rate_factors=factors)
