"""What a setting means: a network, rows, targets and weights, equal for all that compute it."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from fastmlp.backends import Backend
from fastmlp.backends.base import Session
from fastmlp.network import MLP
from fastmlp.optimizers import SGD, Optimizer
from fastmlp.targets import prepare_targets

from .generator import Setting

Array = np.ndarray[Any, Any]


class Problem:
    """The network and the data of a setting.

    Everything is rounded to the dtype under test, so that float64 holds the very same numbers.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.dtype = np.dtype(setting.dtype)
        rng = np.random.default_rng([setting.seed, 1])
        self.order = self._order(rng)
        values = self._values(rng, setting.n_rows)
        for batch in setting.blank_batches:
            values[self.order[self.span(batch)]] = 0
        self.values = values
        self.predicted = self._values(rng, setting.n_predicted)
        self.weights = self._weights(rng)
        self.raw_targets = self._targets(rng)
        self.parameters = self._parameters(rng)

    def span(self, batch: int) -> slice:
        """Return the visits of a batch."""
        size = self.setting.batch_size
        return slice(batch * size, min((batch + 1) * size, self.setting.n_visits))

    # Sessions

    def network(self, dtype: str) -> MLP:
        s = self.setting
        scales = {"input_scale": s.input_scale, "scaling_layer": s.scaling_layer}
        network = MLP(s.sizes, s.hidden, s.output, dtype=dtype, **scales)
        network.parameters = self.parameters
        return network

    def bind(self, backend: Backend, dtype: str, n_threads: int | None = None) -> Session:
        return backend.bind(
            self.network(dtype),
            self.setting.loss,
            self.optimizer,
            self.setting.regularization,
            batch_size=self.setting.batch_size,
            n_threads=n_threads,
            seed=self.setting.seed,
        )

    @cached_property
    def optimizer(self) -> Optimizer:
        """The setting's optimizer with a rate at which outputs change by about `pace` a step."""
        size = self._size_of_inputs()
        hidden = max(self.setting.sizes[1:-1], default=1)
        if isinstance(self.setting.optimizer, SGD):
            rate = 0.5 / max(size**2 * self.setting.sizes[0], hidden)
        else:
            rate = 0.3 / max(size * self.setting.sizes[0], hidden)
        return replace(self.setting.optimizer, learning_rate=self.setting.pace * rate)

    @cached_property
    def rates(self) -> Array:
        rate = self.optimizer.learning_rate
        return np.linspace(rate, 0.5 * rate, self.setting.n_batches)

    # Inputs

    def targets(self, session: Session) -> Array:
        return prepare_targets(
            self.raw_targets,
            session.loss,
            session.output_activation,
            session.n_outputs,
            session.dtype,
        )

    def rounded(self, values: Array) -> Array:
        """Return rows as the dtype under test holds them, in float64."""
        with np.errstate(under="ignore"):
            return values.astype(self.dtype).astype(np.float64)

    def formed(self, values: Array) -> Any:
        """Return rows in the form that the setting asks for."""
        form, native = self.setting.form, values.astype(self.dtype)
        if form == "CSR":
            from scipy import sparse

            return sparse.csr_matrix(native)
        if form == "memory map":
            return _mapped(native)
        if form == "every other row":
            return np.repeat(native, 2, axis=0)[::2]
        if form == "every other column":
            return np.repeat(native, 2, axis=1)[:, ::2]
        if form == "reversed":
            return native[::-1, ::-1].copy()[::-1, ::-1]
        if form == "other float":
            return values.astype("float32" if self.dtype == np.float64 else "float64")
        if form == "big-endian":
            return native.astype(self.dtype.newbyteorder(">"))
        if form in ("float16", "uint8", "bool", "int32"):
            return values.astype(form)
        formed = np.array(native, order="F" if form == "Fortran" else "C")
        formed.setflags(write=form != "read-only")
        return formed

    def _values(self, rng: np.random.Generator, n_rows: int) -> Array:
        """Return rows of numbers that the setting's form can hold, many of them perhaps zero."""
        s = self.setting
        shape = n_rows, s.sizes[0]
        if s.form == "uint8":
            values = rng.integers(1, 256, shape).astype(float)
        elif s.form == "bool":
            values = np.ones(shape)
        elif s.form == "int32":
            values = rng.choice([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0], shape)
        else:
            values = rng.normal(size=shape)
            values = values.astype("float16" if s.form == "float16" else "float32").astype(float)
            if s.form not in ("float16", "other float"):
                values = (values * (1 + 1e-9 * rng.normal(size=shape))).astype(self.dtype)
                values = values.astype(float)
        blocks = -(-shape[0] // s.block), -(-shape[1] // s.block)
        blank = rng.random(blocks) < s.zeros
        blank = blank.repeat(s.block, axis=0).repeat(s.block, axis=1)[: shape[0], : shape[1]]
        values[blank] = 0 if rng.random() < 0.8 or s.form in ("uint8", "bool", "int32") else -0.0
        values[rng.random(shape[0]) < s.blank_rows] = 0
        if rng.random() < 0.5:
            values[:, rng.random(shape[1]) < s.blank_columns] = 0
        else:  # side by side, as the margins of an image
            values[:, : round(s.blank_columns * shape[1])] = 0
        return values

    def _size_of_inputs(self) -> float:
        """Return about how large an input is, once scaled."""
        return max(float(np.abs(self.values).max(initial=0)) / 2, 1e-9) * self.setting.input_scale

    def _order(self, rng: np.random.Generator) -> Array:
        n = self.setting.n_rows
        rounds = [rng.permutation(n) for _ in range(-(-self.setting.n_visits // n))]
        return np.concatenate(rounds)[: self.setting.n_visits]

    def _weights(self, rng: np.random.Generator) -> Array | None:
        kind = self.setting.weights
        if kind == "none":
            return None
        weights = rng.uniform(0.5, 2, self.setting.n_rows).astype(self.dtype)
        if kind == "with zeros":
            weights[rng.random(len(weights)) < 0.4] = 0
        elif kind == "blank batch":
            weights[self.order[self.span(int(rng.integers(self.setting.n_batches)))]] = 0
        return weights

    def _targets(self, rng: np.random.Generator) -> Array:
        s = self.setting
        shape = s.n_rows, s.loss.target_width(s.sizes[-1])
        if s.labels:
            return rng.integers(0, s.sizes[-1], s.n_rows)
        if s.output == "softmax":
            y = rng.dirichlet(np.ones(shape[1]), s.n_rows)
        elif s.output == "sigmoid":
            y = rng.uniform(size=shape)
            y[rng.random(s.n_rows) < 0.3] = 1.0
        elif s.output == "exp":
            y = rng.poisson(1.5, shape).astype(float)
        else:
            y = 2 * rng.normal(size=shape)
        return y.astype(self.dtype)

    def _parameters(self, rng: np.random.Generator) -> Array:
        """Return parameters, biases too, at which pre-activations are of order one."""
        s = self.setting
        options = {"dtype": "float64", "seed": s.seed, "scaling_layer": s.scaling_layer}
        network = MLP(s.sizes, s.hidden, s.output, **options)
        for weights, biases in zip(network.weights, network.biases, strict=True):
            biases[:] = rng.normal(0, 0.3, biases.shape)
            weights += rng.normal(0, 0.3 / np.sqrt(len(weights)), weights.shape)
        network.weights[0] /= self._size_of_inputs()
        if network.scale is not None:
            network.scale *= rng.choice([-1, 1], s.sizes[0]) * rng.uniform(0.3, 2, s.sizes[0])
        if s.zero_parameters == 1:  # a layer of zeros, and units that are all zero
            layer = int(rng.integers(len(network.weights)))
            network.weights[layer][:, rng.random(s.sizes[layer + 1]) < 0.7] = 0
            network.biases[layer][rng.random(s.sizes[layer + 1]) < 0.7] = 0
        elif s.zero_parameters:
            network.parameters[rng.random(network.n_parameters) < s.zero_parameters] = 0
        return network.parameters.astype(self.dtype)


def _mapped(array: Array) -> Array:
    if not array.size:
        return array
    with tempfile.TemporaryFile() as file:
        array.tofile(file)
        file.flush()
        return np.memmap(file, array.dtype, "r", shape=array.shape)
