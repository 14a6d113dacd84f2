"""The backend whose sessions share every batch among processes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from fastmlp import _checks
from fastmlp.backends.base import Backend, Session, get_backend
from fastmlp.backends.data_parallel.pooling import pool
from fastmlp.backends.data_parallel.processes import all_processes
from fastmlp.backends.data_parallel.session import DataParallelSession
from fastmlp.backends.data_parallel.tree import run_of
from fastmlp.losses import Loss
from fastmlp.network import MLP
from fastmlp.optimizers import Optimizer
from fastmlp.regularization import Regularization

T = TypeVar("T")


class DataParallel(Backend):
    """Every process of ``mpirun -n N`` computes its share of each batch (needs ``fastmlp[mpi]``).

    All processes run the same script: they make the same trainer, and call its `fit` with the
    same data, or with what `pool` has made of each one's own. A batch is cut into chunks, whatever
    the number of processes; each process computes the gradients of some, and all are summed in one
    order. So the parameters have the same bits on any number of processes and threads, and every
    process has them.

    In a fit, the first process shows progress, calls callbacks and writes checkpoints, and all
    follow what callbacks decide; validation data are measured in shares. Outside of it,
    predictions and scores are each process's own affair. An error in one process ends all.

    Parameters
    ----------
    backend : str or Backend, default "auto"
        What computes the chunks.
    n_chunks : int, default 4
        The chunks of a batch, and the most processes that can share one. The bits of a training
        depend on it. Processes have equal shares where their number divides it, so that 12 suits
        1, 2, 3, 4, 6 and 12; each chunk costs the reading and writing of a gradient.

    Attributes
    ----------
    backend : Backend
    n_chunks : int

    Raises
    ------
    ImportError
        If mpi4py or an MPI is not installed.
    ValueError
        If the backend computes no parts of batches, or `n_chunks` is out of range.

    Examples
    --------
    >>> from fastmlp import MLP, Trainer
    >>> try:
    ...     trainer = Trainer(MLP([1, 2]), backend=DataParallel("numpy"))
    ...     history = trainer.fit([[0.0], [1.0]], [0, 1], epochs=2, verbose=False)
    ...     leads = trainer.backend.leads  # whether to write files of one's own
    ... except ImportError:  # there is no mpi4py
    ...     pass
    """

    name = "data parallel"
    has_parts = False
    gathers_rows = True

    def __init__(self, backend: str | Backend = "auto", n_chunks: int = 4) -> None:
        self.backend = get_backend(backend)
        self.n_chunks = _checks.integer(n_chunks, "n_chunks", at_least=1)
        if not self.backend.has_parts:
            raise ValueError(
                f"{self.backend} computes no parts of batches, which processes could share; "
                "DataParallel('numba') and DataParallel('numpy') do"
            )
        self._processes = all_processes()
        if self._processes.size > self.n_chunks:
            raise ValueError(
                f"{self._processes.size} processes cannot share {self.n_chunks} chunks of a batch; "
                f"start fewer, or choose n_chunks={self._processes.size} or more"
            )

    def __repr__(self) -> str:
        return f"DataParallel({self.backend!r}, n_chunks={self.n_chunks})"

    @property
    def n_processes(self) -> int:
        """How many processes share every batch."""
        return self._processes.size

    @property
    def leads(self) -> bool:
        return self._processes.rank == 0

    @property
    def local(self) -> Backend:
        return self.backend

    def led(self, act: Callable[[], T]) -> T:
        return self._processes.led(act)

    @contextlib.contextmanager
    def fitting(self) -> Iterator[Callable[[Callable[[], Mapping[str, Any]]], None]]:
        with self._processes.fitting() as agree:
            yield agree

    def share(self, n: int) -> range:
        """Return which of `n` things are this process's share: files, rows of a table, and so on.

        Parameters
        ----------
        n : int, at least 0

        Examples
        --------
        >>> try:
        ...     mine = DataParallel("numpy").share(10)  # of one process
        ... except ImportError:
        ...     mine = range(10)
        >>> mine
        range(0, 10)
        """
        n = _checks.integer(n, "n", at_least=0)
        return range(*run_of(self._processes.rank, self._processes.size, n))

    def pool(self, X: Any, *others: Any) -> tuple[Any, ...]:
        """Return the samples of all processes, each of which gives its own; all call it together.

        They are numbered process by process, as if they lay in one array, and `Trainer.fit` has
        the bits that it has with that array. The inputs stay where they are: a row travels when a
        process needs it for its share of a batch. Targets and weights are brought to all.

        Parameters
        ----------
        X : array-like of shape (n_own_samples, n_features)
            An array, a memory map or a frame, of no rows at all in some processes if need be. Or
            an array or frame of Dask, the same in all processes: each computes its share of the
            partitions.
        *others : array-like of shape (n_own_samples,) or (n_own_samples, n_columns)
            What goes with the samples: targets, weights.

        Returns
        -------
        tuple
            X, for `Trainer.fit`, its `validation_data` and `Trainer.evaluate` alone, and the others
            as arrays.

        Raises
        ------
        ValueError
            In all processes, if something in one of them does not fit, or they are not alike.

        Examples
        --------
        >>> from fastmlp import MLP, Trainer
        >>> try:
        ...     backend = DataParallel("numpy")
        ...     X, y = backend.pool([[0.0], [1.0]], [0, 1])
        ...     history = Trainer(MLP([1, 2]), backend=backend).fit(X, y, 1, verbose=False)
        ... except ImportError:  # there is no mpi4py
        ...     pass
        """
        return pool(self._processes, X, others)

    def unsupported(
        self, network: MLP, loss: Loss, optimizer: Optimizer, regularization: Regularization
    ) -> str | None:
        return self.backend.unsupported(network, loss, optimizer, regularization)

    def machine_epsilon(self, dtype: np.dtype[Any]) -> float:
        return self.backend.machine_epsilon(dtype)

    def _bind(
        self,
        network: MLP,
        loss: Loss,
        optimizer: Optimizer,
        regularization: Regularization,
        batch_size: int,
        n_threads: int | None,
        seed: int,
    ) -> Session:
        described = network, loss, optimizer, regularization
        most_rows = -(-batch_size // self.n_chunks)
        threads = self._processes.n_threads if n_threads is None else n_threads
        inner = self.backend._bind(*described, most_rows, threads, seed)
        return DataParallelSession(
            inner, self._processes, self.n_chunks, *described, batch_size, seed
        )
