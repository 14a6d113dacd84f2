"""Regularization: one frozen description of everything that holds a network back from overfitting.

The random numbers of dropout and noise come from a counter-based hash, so that a number depends
on the seed, the step, the layer and the element alone: every backend, and any number of threads,
draws the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import _checks

Array = NDArray[Any]

#: Streams keep the hash's uses apart: masks use the layer's number, noise these.
NOISE_RADIUS_STREAM = 1 << 20
NOISE_ANGLE_STREAM = NOISE_RADIUS_STREAM + 1

_MASK = 0xFFFFFFFF


@dataclass(frozen=True)
class Regularization:
    """What is added to plain training; the default adds nothing.

    Parameters
    ----------
    l1, l2 : float, default 0.0
        Add l1 * sum|w| + l2 / 2 * sum w^2 over all weights (not biases) to the loss.
    dropout : float or sequence of float, default 0.0
        Share of units in [0, 1) that each step drops, the rest scaled by 1 / (1 - share)
        (Srivastava et al. 2014). A number holds for every hidden layer; several are the shares
        of the input and then of each hidden layer.
    input_noise : float, default 0.0
        Standard deviation of Gaussian noise that each step adds to the inputs.
    clip_norm : float or None, default None
        Scales the whole gradient down to this Euclidean norm where it is longer.
    clip_value : float or None, default None
        Limits every element of the gradient to [-clip_value, clip_value], before `clip_norm`.
    max_norm : float or None, default None
        After each update, scales each unit's incoming weights down to this Euclidean norm.
    ema : float or None, default None
        Decay in (0, 1) of an exponential moving average of the parameters, updated every step:
        average = ema * average + (1 - ema) * parameters. The network ends with the average.

    Examples
    --------
    >>> Regularization(dropout=0.5).dropout_rates(n_layers=3)
    (0.0, 0.5, 0.5)
    """

    l1: float = 0.0
    l2: float = 0.0
    dropout: float | tuple[float, ...] = 0.0
    input_noise: float = 0.0
    clip_norm: float | None = None
    clip_value: float | None = None
    max_norm: float | None = None
    ema: float | None = None

    def __post_init__(self) -> None:
        _checks.real(self.l1, "l1", at_least=0)
        _checks.real(self.l2, "l2", at_least=0)
        given: Any = self.dropout
        if isinstance(given, list | np.ndarray):
            object.__setattr__(self, "dropout", tuple(given))
        rates = self.dropout if isinstance(self.dropout, tuple) else (self.dropout,)
        for rate in rates:
            _checks.real(rate, "a dropout share", at_least=0, below=1)
        _checks.real(self.input_noise, "input_noise", at_least=0)
        for what in ("clip_norm", "clip_value", "max_norm"):
            if getattr(self, what) is not None:
                _checks.real(getattr(self, what), what, above=0)
        if self.ema is not None:
            _checks.real(self.ema, "ema", above=0, below=1)

    def dropout_rates(self, n_layers: int) -> tuple[float, ...]:
        """Return the dropped share of each weight layer's inputs, n_layers numbers.

        Raises
        ------
        ValueError
            If a tuple of shares does not match the number of layers.
        """
        if not isinstance(self.dropout, tuple):
            return (0.0,) + (float(self.dropout),) * (n_layers - 1)
        if len(self.dropout) != n_layers:
            raise ValueError(
                f"dropout as a tuple needs {n_layers} shares (the input and each hidden layer), "
                f"got {len(self.dropout)}"
            )
        return tuple(float(rate) for rate in self.dropout)

    def l2_of(self, total_weight: Any) -> Any:
        """Return the coefficient of the L2 penalty in batches of this total weight.

        Parameters
        ----------
        total_weight : float or ndarray of float64
            The number of a batch's samples, or the sum of their weights; at least 0.

        Returns
        -------
        float or ndarray of float64
            Here `l2` whatever the weight; `DividedL2` divides it.
        """
        return self.l2

    def penalty(self, weights: Sequence[Array], total_weight: float = 1.0) -> float:
        """Return l1 * sum|w| + l2 / 2 * sum w^2, in a batch of this total weight."""
        total, l2 = 0.0, float(self.l2_of(total_weight))
        for w in weights:
            if self.l1:
                total += self.l1 * float(np.abs(w).sum(dtype=np.float64))
            if l2:
                total += 0.5 * l2 * float(np.square(w, dtype=np.float64).sum())
        return total


@dataclass(frozen=True)
class DividedL2(Regularization):
    """Regularization whose `l2` is divided by the total weight of each batch.

    As if the penalty were added to the sum of a batch's losses and not to their mean; this is what
    scikit-learn's `alpha` means. Parameters as `Regularization`.

    Examples
    --------
    >>> DividedL2(l2=3.0).l2_of(6.0), Regularization(l2=3.0).l2_of(6.0)
    (0.5, 3.0)
    """

    def l2_of(self, total_weight: Any) -> Any:
        """Return l2 / total_weight, and 0 where there is no weight."""
        weights = np.asarray(total_weight, dtype=np.float64)
        divided = np.divide(self.l2, weights, out=np.zeros_like(weights), where=weights > 0)
        return divided if divided.ndim else float(divided)


def mix(value: Any) -> Any:
    """Return a 32-bit integer with its bits well mixed, or an array of uint64 that holds such.

    The finalizer "lowbias32" of C. Wellons' "Prospecting for hash functions" (2018).

    Examples
    --------
    >>> mix(0), mix(1)
    (0, 1753845952)
    """
    value = value & _MASK
    value = ((value ^ (value >> 16)) * 0x7FEB352D) & _MASK
    value = ((value ^ (value >> 15)) * 0x846CA68B) & _MASK
    return value ^ (value >> 16)


def stream_key(seed: int, step: Any, stream: int) -> Any:
    """Return the 32-bit key of one stream of random numbers in one step.

    Steps may be an array of uint64, of which no key depends on more bits; keys are one then too.

    Examples
    --------
    >>> stream_key(seed=0, step=1, stream=0) != stream_key(seed=0, step=2, stream=0)
    True
    """
    key = mix(seed + 0x9E3779B9)
    key = mix(key ^ mix((seed >> 32) + 0x85EBCA6B))
    key = mix(key ^ mix(step + 0xC2B2AE35))
    key = mix(key ^ mix((step >> 32) + 0x27D4EB2F))
    return mix(key ^ mix(stream + 0x165667B1))


def random_bits(key: int, n_rows: int, n_columns: int, first_row: int = 0) -> Array:
    """Return uint32 random bits for the elements of an (n_rows, n_columns) array.

    It may be a part of a longer one, which begins at its row `first_row`: an element's number is
    (first_row + row) * n_columns + column, modulo 2**32.

    Examples
    --------
    >>> bits = random_bits(stream_key(0, 1, 0), 1000, 10)
    >>> bool(abs(bits.mean() / 2**32 - 0.5) < 0.01)
    True
    >>> bool(np.all(random_bits(stream_key(0, 1, 0), 10, 10, first_row=7) == bits[7:17]))
    True
    """
    first = np.uint32(first_row * n_columns & _MASK)
    index = np.arange(n_rows * n_columns, dtype=np.uint32) + first
    value = index * np.uint32(0x9E3779B9) + np.uint32(key)
    value = (value ^ (value >> np.uint32(16))) * np.uint32(0x7FEB352D)
    value = (value ^ (value >> np.uint32(15))) * np.uint32(0x846CA68B)
    return (value ^ (value >> np.uint32(16))).reshape(n_rows, n_columns)


def dropout_mask(
    rate: float,
    seed: int,
    step: int,
    layer: int,
    shape: tuple[int, int],
    dtype: Any,
    first_row: int = 0,
) -> Array:
    """Return the factors, 0 or 1 / (1 - rate), of a layer's inputs in one step.

    Of a part of a batch, `first_row` is the number in the batch of its first row.

    Examples
    --------
    >>> dropout_mask(0.5, seed=0, step=1, layer=0, shape=(1, 4), dtype="float32").shape
    (1, 4)
    """
    bits = random_bits(stream_key(seed, step, layer), *shape, first_row)
    kept = bits >= np.uint32(rate * 2**32)
    return kept.astype(dtype) * np.dtype(dtype).type(1 / (1 - rate))


def gaussian_noise(
    seed: int, step: int, shape: tuple[int, int], dtype: Any, first_row: int = 0
) -> Array:
    """Return standard normal numbers (Box & Muller 1958) for the inputs of one step.

    Of a part of a batch, `first_row` is the number in the batch of its first row.

    Examples
    --------
    >>> bool(abs(gaussian_noise(0, 1, (1000, 10), "float64").std() - 1) < 0.02)
    True
    """
    # Half a unit is added so that the logarithm never sees zero.
    radius_key = stream_key(seed, step, NOISE_RADIUS_STREAM)
    angle_key = stream_key(seed, step, NOISE_ANGLE_STREAM)
    radius = (random_bits(radius_key, *shape, first_row) + 0.5) / 2**32
    angle = random_bits(angle_key, *shape, first_row) / 2**32
    return (np.sqrt(-2 * np.log(radius)) * np.cos(2 * np.pi * angle)).astype(dtype)
