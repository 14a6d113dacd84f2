"""Samples as trainers hold them: checked once, chosen from, and told from others."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp._mapped import gather_rows, is_mapped
from fastmlp._pooled import PooledRows

Array = NDArray[Any]


@dataclass(frozen=True)
class Data:
    """Samples as sessions take them, checked once."""

    X: Any
    targets: Array
    #: What predictions are compared with.
    score_targets: Array
    #: The user's, for scores.
    sample_weights: Array | None
    #: The same times the weights of classes, for the loss.
    weights: Array | None
    #: Where the samples lie in all of the above, in their order; None if those are the samples.
    rows: Array | None = None

    @property
    def n_samples(self) -> int:
        return len(self.targets if self.rows is None else self.rows)

    def at(self, samples: Any) -> Any:
        """Return where some samples lie, a slice or numbers of them."""
        return samples if self.rows is None else self.rows[samples]

    def split(self, n_first: int) -> tuple[Data, Data]:
        """Return the first samples and the others."""
        first, others = slice(n_first), slice(n_first, None)
        if self.rows is not None:
            return replace(self, rows=self.rows[first]), replace(self, rows=self.rows[others])
        return self._part(self.X[first], first), self._part(self.X[others], others)

    def inputs(self, samples: slice) -> Any:
        """Return the rows of X of some samples: a view, or where they lie anywhere, a copy."""
        rows = self.at(samples)
        return (
            gather_rows(self.X, rows)
            if self.rows is not None and is_mapped(self.X)
            else self.X[rows]
        )

    def gathered(self, rows: Array) -> Data:
        """Return some rows of a memory map as data of their own."""
        return self._part(gather_rows(self.X, rows), rows)

    def shares(self, samples: slice) -> Array:
        """Return the weights of some samples in the loss, as float64."""
        if self.weights is None:
            return np.ones(len(range(*samples.indices(self.n_samples))))
        return np.asarray(self.weights[self.at(samples)].astype(np.float64))

    def _part(self, X: Any, rows: Any) -> Data:
        return Data(
            X,
            self.targets[rows],
            self.score_targets[rows],
            rows_of(self.sample_weights, rows),
            rows_of(self.weights, rows),
        )


def fingerprint(data: Data | None) -> str:
    """Return a description of samples by which other ones are likely to be told from them."""
    if data is None:
        return "none"
    n_samples = data.n_samples
    looked_at = np.unique(np.linspace(0, n_samples - 1, 4096).astype(np.int64))
    few, many = (data.at(one) for one in (looked_at[:: max(1, len(looked_at) // 64)], looked_at))
    given = [data.targets[many]]
    if not isinstance(data.X, PooledRows):  # which processes have in common
        X = data.X[few]
        given.append(X.toarray() if hasattr(X, "toarray") else X)
    given += [one[many] for one in (data.sample_weights, data.weights) if one is not None]
    return f"{n_samples} rows (checksum {checksum(*given):08x})"


def checksum(*arrays: Array | None) -> int:
    """Return a number that tells arrays from others."""
    number = 0
    for array in arrays:
        if array is not None:
            form = f"{array.dtype} {array.shape}".encode()
            number = zlib.crc32(array.tobytes(), zlib.crc32(form, number))
    return number


def rows_of(values: Array | None, rows: Any) -> Array | None:
    """Return some rows of weights, if there are any."""
    return None if values is None else values[rows]
