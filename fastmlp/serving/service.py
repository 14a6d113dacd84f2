"""A model that is served: what it says of itself, and what it answers."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
from concurrent.futures import Executor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Backend
from fastmlp.datasets.files import has_polars, needs_polars
from fastmlp.model_file import ModelFile
from fastmlp.predictor import Predictor
from fastmlp.preprocessing import Feature
from fastmlp.serving.errors import RequestError
from fastmlp.serving.limits import Limits
from fastmlp.serving.rows import encode, read_request
from fastmlp.serving.together import Together

Array = NDArray[Any]

#: Of a network's inputs that one request may make: names become many columns.
_MOST_NUMBERS = 2**24
#: Multiplications that are done before a thread would have begun with them: some 100 microseconds.
_AT_ONCE = 2**20
#: JSON that is read in less than a millisecond.
_SMALL_BODY = 2**16
#: Sides of square images that the page lets people draw.
_SIDES = (28, 8)


class Service:
    """A model that answers requests.

    Parameters
    ----------
    name : str
    model : ModelFile
    limits : Limits
    executor : Executor
        Threads for what would keep other requests waiting.
    backend : str or Backend, default "auto"
    n_threads : int or None, default None
        As for `Predictor`.

    Raises
    ------
    ImportError
        If the model takes dates, and polars is not installed.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> from fastmlp import MLP
    >>> network = MLP([2, 1], output_activation="linear")
    >>> network.weights[0] = [[1.0], [2.0]]
    >>> with ThreadPoolExecutor(1) as pool:
    ...     service = Service("sum", ModelFile(network), Limits(), pool, backend="numpy")
    ...     asyncio.run(service.answer(b'{"rows": [[3, 4]]}'))[0]["predictions"]
    [11.0]
    """

    def __init__(
        self,
        name: str,
        model: ModelFile,
        limits: Limits,
        executor: Executor,
        backend: str | Backend = "auto",
        n_threads: int | None = None,
    ) -> None:
        self.name, self.model, self.columns = name, model, model.columns
        if any(feature.kind == "date" for feature in self.columns.features) and not has_polars():
            raise needs_polars(f"{name}, which takes dates")
        n_inputs = model.network.n_inputs
        self.most_rows = max(1, min(limits.rows, _MOST_NUMBERS // n_inputs))
        self._executor = executor
        self._predictor = Predictor(model.network, backend, n_threads)
        self._together = Together(self._predictor.logits, executor, self.most_rows)

    def warm_up(self) -> None:
        """Let the backend load or compile what predictions need, for one row and for many."""
        network = self.model.network
        for n_rows in (1, 2):
            with contextlib.suppress(ValueError):  # of logits: said when a row has them
                self._predictor.logits(np.zeros((n_rows, network.n_inputs), network.dtype))

    @functools.cached_property
    def description(self) -> dict[str, Any]:
        """What the model takes and gives, in values of JSON."""
        network, columns = self.model.network, self.columns
        return {
            "name": self.name,
            "task": self.model.task,
            "features": [_feature(feature) for feature in columns.features],
            "missing_values": columns.fill is not None,
            "labels": list(self.model.labels),
            "probability_labels": self._probability_labels,
            "target": list(columns.target),
            "image_side": self._image_side,
            "input_scale": network.input_scale,
            "layer_sizes": list(network.layer_sizes),
            "activations": [
                *(one.name for one in network.hidden_activations),
                network.output_activation.name,
            ],
            "parameters": network.n_parameters,
            "dtype": network.dtype.name,
            "training": network.training,
            "most_rows": self.most_rows,
        }

    async def answer(self, body: bytes) -> tuple[dict[str, Any], int]:
        """Return what a request is answered, and how many rows it has.

        Parameters
        ----------
        body : bytes
            JSON, as for `read_request`.

        Raises
        ------
        RequestError
            If it cannot be answered.
        """
        loop = asyncio.get_running_loop()
        if len(body) <= _SMALL_BODY:
            X = self._read(body)
        else:
            X = await loop.run_in_executor(self._executor, self._read, body)
        try:
            logits = await self._logits(X)
        except ValueError as error:
            raise RequestError(422, str(error)) from error
        if logits.size <= _SMALL_BODY:
            return self._answer(logits), len(X)
        return await loop.run_in_executor(self._executor, self._answer, logits), len(X)

    def _read(self, body: bytes) -> Array:
        rows, ignore_unknown = read_request(body, self.most_rows)
        return encode(self.columns, self.model.network, rows, ignore_unknown)

    async def _logits(self, X: Array) -> Array:
        if len(X) * self.model.network.n_parameters <= _AT_ONCE:
            return self._predictor.logits(X)
        return await self._together(X)

    def _answer(self, logits: Array) -> dict[str, Any]:
        with np.errstate(all="ignore"):  # what overflows is told below, with its row
            predictions, probabilities = self.model.answers(logits)
        if predictions.dtype.kind == "f" and not np.isfinite(predictions).all():
            row = int(
                np.argmax(~np.isfinite(predictions.reshape(len(predictions), -1)).all(axis=1))
            )
            raise RequestError(422, f"rows[{row}]: its prediction is infinite")
        return {
            "model": self.name,
            "predictions": predictions.tolist(),
            "labels": self._probability_labels,
            "probabilities": None if probabilities is None else probabilities.tolist(),
        }

    @functools.cached_property
    def _probability_labels(self) -> list[Any] | None:
        """What the columns of probabilities stand for; None where there are none."""
        labels = self.model.probability_labels
        return None if labels is None else list(labels)

    @functools.cached_property
    def _image_side(self) -> int | None:
        """How many pixels a side has, if rows may be images that are drawn."""
        features = self.columns.features
        side = math.isqrt(len(features))
        plain = all(feature.kind == "number" for feature in features)
        return side if plain and side in _SIDES and side * side == len(features) else None


def _feature(feature: Feature) -> dict[str, Any]:
    made: dict[str, Any] = {"name": feature.name, "kind": feature.kind}
    if feature.categories:
        made["categories"] = list(feature.categories)
    if feature.date_format is not None:
        made["date_format"] = feature.date_format
    return made
