"""Samples of which every process has some: they are pooled by number, and rows travel when used."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp._frames import as_numbers, column_names
from fastmlp._mapped import gather_rows, is_mapped
from fastmlp._pooled import PooledRows
from fastmlp.backends.data_parallel.processes import Processes
from fastmlp.backends.data_parallel.tree import run_of

Array = NDArray[Any]


def pool(processes: Processes, X: Any, others: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return all processes' samples; see `DataParallel.pool`."""
    here: Any = None
    own: list[Array] = []

    def facts() -> dict[str, Any]:
        nonlocal here, own
        here = own_part(X, processes)
        own = _checked(here, [own_part(one, processes) for one in others])
        return {
            "the number of features": own[0].shape[1],
            "the dtype of X": own[0].dtype,
            "the columns of X": column_names(here),
            "the shape of a target or weight": [one.shape[1:] for one in own[1:]],
        }

    processes.compare(facts)
    rows, *vectors = own
    if processes.size == 1:
        return here, *vectors
    everyone = processes.told((len(rows), vectors))
    starts = np.cumsum([0, *(n_rows for n_rows, _ in everyone)])
    theirs = zip(*(vectors for _, vectors in everyone), strict=True)
    return PooledRows(rows, starts, column_names(here)), *map(np.concatenate, theirs)


def own_part(values: Any, processes: Processes) -> Any:
    """Return what this process is given: of tables of Dask, its share of the partitions."""
    parts = getattr(values, "blocks", getattr(values, "partitions", None))
    if parts is None or not hasattr(values, "__dask_graph__"):
        return values
    n_parts = values.numblocks[0] if hasattr(values, "numblocks") else values.npartitions
    first, last = run_of(processes.rank, processes.size, n_parts)
    if first == last:
        return parts[:1].compute()[:0]
    return parts[first:last].compute()


def bring(processes: Processes, X: PooledRows, wanted: list[NDArray[np.int64]]) -> Array:
    """Return the rows that this process wants, in its order; all call it together.

    Parameters
    ----------
    wanted : list of ndarray
        For every process, which of the rows of `X` it wants; the same lists in all processes.
    """
    rank, starts = processes.rank, X.starts
    numbers = [X.numbers_of(rows) for rows in wanted]
    owners = [np.searchsorted(starts, some, side="right") - 1 for some in numbers]
    asked = [
        some[owner == rank] - starts[rank] for some, owner in zip(numbers, owners, strict=True)
    ]
    sent = _rows(X.own, np.concatenate(asked))
    received = np.empty((len(wanted[rank]), X.shape[1]), dtype=X.dtype)
    from_each = np.bincount(owners[rank], minlength=processes.size)
    processes.exchange(
        _bytes(sent),
        _parts(list(map(len, asked)), sent),
        _bytes(received),
        _parts(from_each.tolist(), received),
    )
    found = np.empty_like(received)
    found[np.argsort(owners[rank], kind="stable")] = received
    return found


def _checked(X: Any, others: list[Any]) -> list[Array]:
    """Return a process's own samples as arrays."""
    rows = as_numbers(X)
    if hasattr(rows, "toarray"):
        raise TypeError("X is sparse, and rows that are pooled must be dense: give X.toarray()")
    if rows.ndim != 2:
        raise ValueError(f"X must have shape (n_samples, n_features), got {rows.shape}")
    arrays = [np.asarray(one) for one in others]
    for array in arrays:
        if array.shape[:1] != (len(rows),):
            raise ValueError(f"X has {len(rows)} rows, but what goes with it is {array.shape}")
    return [rows, *arrays]


def _rows(own: Array, numbers: NDArray[np.int64]) -> Array:
    found = gather_rows(own, numbers) if is_mapped(own) else own[numbers]
    return np.ascontiguousarray(found)


def _bytes(rows: Array) -> NDArray[np.uint8]:
    return rows.reshape(-1).view(np.uint8)


def _parts(counts: list[int], rows: Array) -> tuple[list[int], list[int]]:
    """Return the bytes of so many rows, process by process, and where they begin."""
    n_bytes = rows.shape[1] * rows.itemsize
    ends = np.cumsum(counts) * n_bytes
    sizes = [count * n_bytes for count in counts]
    return sizes, (ends - sizes).tolist()
