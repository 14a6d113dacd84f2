"""What a compiled program depends on, and the numbers that it is given with each call."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.activations import Activation
from fastmlp.losses import Loss
from fastmlp.network import MLP, layer_views, scale_view
from fastmlp.optimizers import Optimizer
from fastmlp.regularization import NOISE_ANGLE_STREAM, NOISE_RADIUS_STREAM, Regularization

Array = NDArray[Any]


@dataclass(frozen=True)
class Description:
    """A network and how it is trained, but for the numbers that a program takes as arguments.

    Parameters
    ----------
    layer_shapes : tuple of (int, int)
    hidden_activations : tuple of Activation
    output : type
        Of the output activation.
    loss : Loss
    optimizer : type
    settings : frozenset of str
        The optimizer's and the regularization's, where they are neither 0, None nor False.
    dropped : tuple of bool
        Whether each weight layer's inputs know dropout.
    input_scale : float
    scaling_layer : bool
    dtype : str

    Examples
    --------
    >>> from fastmlp.losses import CrossEntropy
    >>> from fastmlp.optimizers import SGD
    >>> dropout = Regularization(dropout=0.5)
    >>> Description.of(MLP([2, 8, 2]), CrossEntropy(), SGD(), dropout).streams
    (1,)
    """

    layer_shapes: tuple[tuple[int, int], ...]
    hidden_activations: tuple[Activation, ...]
    output: type
    loss: Loss
    optimizer: type
    settings: frozenset[str]
    dropped: tuple[bool, ...]
    input_scale: float
    scaling_layer: bool
    dtype: str

    @classmethod
    def of(
        cls, network: MLP, loss: Loss, optimizer: Optimizer, regularization: Regularization
    ) -> Description:
        """Return the description of a network and of how it is trained."""
        settings = {
            field.name: getattr(one, field.name)
            for one in (optimizer, regularization)
            for field in fields(one)
            if field.name != "learning_rate"
        }
        return cls(
            tuple(network.layer_shapes),
            network.hidden_activations,
            type(network.output_activation),
            loss,
            type(optimizer),
            frozenset(name for name, value in settings.items() if value not in (0, None)),
            tuple(rate > 0 for rate in regularization.dropout_rates(network.n_layers)),
            network.input_scale,
            network.scaling_layer,
            network.dtype.name,
        )

    @property
    def n_layers(self) -> int:
        """The number of weight layers."""
        return len(self.layer_shapes)

    @property
    def streams(self) -> tuple[int, ...]:
        """The streams of random numbers that a step draws from."""
        drawn = [layer for layer, dropped in enumerate(self.dropped) if dropped]
        if "input_noise" in self.settings:
            drawn += [NOISE_RADIUS_STREAM, NOISE_ANGLE_STREAM]
        return tuple(drawn)

    def split(self, flat: Array) -> tuple[Array, ...]:
        """Return pieces of a flat vector: weights and biases in turn, then the scaling layer's."""
        weights, biases = layer_views(flat, self.layer_shapes)
        parts = [part.reshape(-1) for pair in zip(weights, biases, strict=True) for part in pair]
        scale = scale_view(flat, self.layer_shapes)
        return tuple(parts if scale is None else [*parts, scale])


def numbers(optimizer: Optimizer, regularization: Regularization, n_layers: int) -> dict[str, Any]:
    """Return all settings as float64 numbers, with dropout and rate factors by layer.

    Examples
    --------
    >>> from fastmlp.optimizers import SGD
    >>> numbers(SGD(momentum=0.9), Regularization(dropout=0.5), 2)["dropout"]
    array([0. , 0.5])
    """
    found = {
        field.name: np.float64(getattr(one, field.name) or 0.0)
        for one in (optimizer, regularization)
        for field in fields(one)
        if field.name not in ("rate_factors", "dropout", "learning_rate")
    }
    weights, biases = optimizer.layer_factors(n_layers)
    pairs = [factor for pair in zip(weights, biases, strict=True) for factor in pair]
    return found | {
        "dropout": np.array(regularization.dropout_rates(n_layers)),
        "rate_factors": np.array([*pairs, optimizer.scale_factor]),
    }
