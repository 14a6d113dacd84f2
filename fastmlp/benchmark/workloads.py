"""What is trained: workloads as data, and the samples they train on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.datasets import load_digits, load_mnist
from fastmlp.network import MLP
from fastmlp.optimizers import SGD, Adam, Optimizer

Array = NDArray[Any]

_PLAIN = SGD(0.01)
#: Share of MNIST's pixels that are not zero; generated images have it too.
_MNIST_DENSITY = 0.19


@dataclass(frozen=True)
class Workload:
    """A network and how it is trained.

    Parameters
    ----------
    name : str
    layer_sizes : tuple of int
    batch_size : int
    n_samples : int, default 60000
        Rows in an epoch.
    hidden_activation, output_activation, loss : str
    optimizer : Optimizer, default ``SGD(0.01)``
    data : {"mnist", "digits", "normal"}, default "normal"
        MNIST's images, the bundled digits, or normally distributed features. Labels are class
        numbers; of a single output they are 0 and 1.
    dtype : {"float32", "float64"}, default "float32"

    Examples
    --------
    >>> WORKLOADS["tiny"].n_batches
    1875
    """

    name: str
    layer_sizes: tuple[int, ...]
    batch_size: int
    n_samples: int = 60_000
    hidden_activation: str = "relu"
    output_activation: str = "softmax"
    loss: str = "cross_entropy"
    optimizer: Optimizer = _PLAIN
    data: str = "normal"
    dtype: str = "float32"

    @property
    def n_batches(self) -> int:
        """Steps in an epoch."""
        return -(-self.n_samples // self.batch_size)

    @property
    def flops(self) -> int:
        """Floating-point operations that an epoch's matrix products need.

        Two for each weight and row, in the forward pass, the weight gradient and the input
        gradient; the first layer has no input gradient.
        """
        products = [a * b for a, b in zip(self.layer_sizes, self.layer_sizes[1:], strict=False)]
        return self.n_samples * (6 * sum(products) - 2 * products[0])

    @property
    def summary(self) -> str:
        """The network and its training in one line."""
        return (
            f"{list(self.layer_sizes)}, batch {self.batch_size}, {self.hidden_activation}, "
            f"{self.output_activation}, {self.loss}, {self.optimizer.name}, {self.dtype}, "
            f"{self.n_samples} samples"
        )

    def network(self) -> MLP:
        """Return the network to train; equal calls give equal weights."""
        return MLP(
            self.layer_sizes,
            self.hidden_activation,
            self.output_activation,
            dtype=self.dtype,
            seed=0,
        )

    def samples(self) -> tuple[Array, Array, str]:
        """Return features, class numbers, and where they come from.

        MNIST is read if ``FASTMLP_DATA`` names its folder; otherwise images with as many zeros
        are generated. Nothing is downloaded.
        """
        (X, y), _, source = self._parts()
        return X[: self.n_samples].astype(self.dtype), y[: self.n_samples], source

    def test_samples(self) -> tuple[Array, Array]:
        """Return features and class numbers of rows that nobody trains on."""
        _, (X, y), _ = self._parts()
        return X.astype(self.dtype), y

    def _parts(self) -> tuple[tuple[Array, Array], tuple[Array, Array], str]:
        if self.data == "digits":
            return *load_digits(), "the bundled digits"
        if self.data == "mnist" and mnist_is_here():
            return *load_mnist(), "MNIST"
        rng = np.random.default_rng(0)
        n = self.n_samples
        shape = (n + max(100, n // 6), self.layer_sizes[0])
        if self.data == "mnist":
            X = rng.random(shape, dtype=np.float32)
            X *= rng.random(shape, dtype=np.float32) < _MNIST_DENSITY
            source = "generated images with MNIST's share of zeros"
        else:
            X = rng.standard_normal(shape, dtype=np.float32)
            source = "generated, normal"
        teacher = rng.standard_normal((self.layer_sizes[0], self.layer_sizes[-1]), np.float32)
        scores = (X - X.mean(axis=0)) @ teacher
        y = scores.argmax(axis=1) if scores.shape[1] > 1 else (scores[:, 0] > 0).astype(np.int64)
        return (X[:n], y[:n]), (X[n:], y[n:]), source


def mnist_is_here() -> bool:
    """Return whether ``FASTMLP_DATA`` names a folder to read MNIST from.

    Examples
    --------
    >>> mnist_is_here() in (True, False)
    True
    """
    return bool(os.environ.get("FASTMLP_DATA"))


def _sweep(width: int) -> Workload:
    """Return a network of equal layers, with rows for some seconds of training at most."""
    n_samples = min(16_384, max(512, 2**33 // width**2 // 128 * 128))
    return Workload(f"width-{width}", (width, width, width, 10), 128, n_samples)


_FIRST = Workload("first", (784, 128, 64, 10), 64, data="mnist")
_SECOND = Workload(
    "second",
    (784, 16, 16, 10),
    32,
    hidden_activation="sigmoid",
    loss="mse",
    optimizer=SGD(1.0),
    data="mnist",
)

#: Every workload by name. "first" and "second" are the two original networks; "higgs" has the shape
#: of the network that Baldi et al. (2014) trained on HIGGS (https://doi.org/10.1038/ncomms5308).
WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        _FIRST,
        _SECOND,
        Workload("first-adam", (784, 128, 64, 10), 64, optimizer=Adam(), data="mnist"),
        Workload(
            "second-adam",
            (784, 16, 16, 10),
            32,
            hidden_activation="sigmoid",
            loss="mse",
            optimizer=Adam(),
            data="mnist",
        ),
        Workload("tiny", (16, 16, 16, 2), 32),
        Workload("deep", (28, *[300] * 5, 2), 128),
        Workload("wide", (784, 512, 512, 10), 128, data="mnist"),
        Workload("large", (1024, 2048, 2048, 1024), 256, n_samples=6 * 256),
        Workload(
            "higgs",
            (28, *[300] * 5, 1),
            100,
            20_000,
            hidden_activation="tanh",
            output_activation="sigmoid",
            optimizer=Adam(),
        ),
        Workload("digits", (64, 128, 10), 32, 1442, optimizer=Adam(), data="digits"),
        *(_sweep(2**power) for power in range(3, 12)),
    )
}
#: Those that `fastmlp bench` runs unless told otherwise.
SHORT = ("first", "second", "tiny")
