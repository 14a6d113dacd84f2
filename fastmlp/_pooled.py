"""Rows that several processes have together: each holds some, and knows of all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class PooledRows:
    """Rows by their numbers among those of all processes; they stay where they are.

    Like SciPy's sparse rows it has a shape, a dtype, `data` and a choice of rows by ``[...]``, but
    only sessions that share batches among processes can bring the rows to where they are needed.

    Parameters
    ----------
    own : ndarray of shape (n_own, n_features)
        What this process holds; may be a memory map.
    starts : ndarray of int64, of shape (n_processes + 1,)
        The number of every process's first row; at last, that of all rows.
    names : tuple of str or None, default None
        Of the columns, where rows came in frames.
    numbers : ndarray of int64 or None, default None
        The rows that were chosen; None are all.

    Examples
    --------
    >>> rows = PooledRows(np.zeros((2, 3)), starts=np.array([0, 2, 6]))
    >>> rows.shape, rows[1:4].shape, rows[1:4].numbers_of(np.array([2, 0]))
    ((6, 3), (3, 3), array([3, 1]))
    """

    own: Array
    starts: NDArray[np.int64]
    names: tuple[str, ...] | None = None
    numbers: NDArray[np.int64] | None = None

    ndim = 2

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), self.own.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.own.dtype

    @property
    def data(self) -> Array:
        """The values that this process holds, to look at."""
        return self.own

    @property
    def columns(self) -> tuple[str, ...]:
        if self.names is None:
            raise AttributeError("columns")  # as of what is no frame
        return self.names

    def __len__(self) -> int:
        return int(self.starts[-1]) if self.numbers is None else len(self.numbers)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> PooledRows:
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        return replace(self, numbers=self.numbers_of(rows))

    def numbers_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers, among all rows, of some of those chosen."""
        return rows if self.numbers is None else self.numbers[rows]

    def toarray(self) -> NoReturn:
        raise TypeError(
            "X holds rows of several processes, which only a Trainer with the DataParallel that "
            "pooled them can fit and evaluate; here, give rows of this process's own"
        )

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        self.toarray()
