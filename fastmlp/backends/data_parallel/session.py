"""A session whose batches are computed by all processes, each some chunks of every batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp._mapped import gather_rows, is_mapped
from fastmlp._pooled import PooledRows
from fastmlp._weights import total_weight
from fastmlp.backends.base import Session, TrainingState
from fastmlp.backends.data_parallel.pooling import bring
from fastmlp.backends.data_parallel.processes import Processes
from fastmlp.backends.data_parallel.tree import Node, edges_of, halves, nodes_inside, run_of

Array = NDArray[Any]

#: Vectors up to so many elements are sent whole: one exchange takes less time than two.
_SENT_WHOLE = 16_384


class DataParallelSession(Session):
    """A session of another backend in every process; all make the same calls, with equal arguments.

    What the calls compute of many rows, they compute together; load, store, update and functions
    of a row are each process's own.

    Parameters
    ----------
    inner : Session
        Which computes this process's chunks.
    processes : Processes
    n_chunks : int
    network, loss, optimizer, regularization, batch_size, seed
        As `Session` has them.
    """

    def __init__(
        self, inner: Session, processes: Processes, n_chunks: int, *arguments: Any
    ) -> None:
        self._inner, self._processes, self._n_chunks = inner, processes, n_chunks
        super().__init__(*arguments)
        self._runs = [run_of(p, processes.size, n_chunks) for p in range(processes.size)]
        self._sum: _Sum | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_sum": None}

    @property
    def step(self) -> int:
        return self._inner.step

    @step.setter
    def step(self, value: int) -> None:
        self._inner.step = value

    # What is each process's own --------------------------------------------------------------

    def _load(self, state: TrainingState) -> None:
        self._inner._load(state)

    def _store(self) -> TrainingState:
        return self._inner._store()

    def _weight_matrices(self) -> list[Array]:
        return self._inner._weight_matrices()

    def _update(self, gradient: Array, learning_rate: float) -> None:
        self._inner._update(gradient, learning_rate)

    def row_function(self, output: str) -> Callable[[Array, Array], bool] | None:
        return self._inner.row_function(output)

    # What all compute together ---------------------------------------------------------------

    def _logits(self, X: Any) -> Array:
        # In the same chunks whoever computes them: products of other shapes may have other bits.
        edges, run = edges_of(X.shape[0], self._n_chunks), self._run
        own = np.empty((edges[run.last] - edges[run.first], self.n_outputs), dtype=self.dtype)
        take = self._inputs(X, None, edges)
        for chunk in range(*run):
            first, last = edges[chunk], edges[chunk + 1]
            if first < last:
                start = first - edges[run.first]
                own[start : start + last - first] = self._inner._logits(take(slice(first, last)))
        sizes = [edges[one.last] - edges[one.first] for one in self._runs]
        return np.concatenate(self._gathered(own, sizes))

    def _loss_and_gradient(
        self,
        X: Any,
        y: Array,
        sample_weight: Array | None,
        gradient: Array,
        logits: Array | None = None,
    ) -> float:
        n_rows = X.shape[0]
        edges = edges_of(n_rows, self._n_chunks)
        places = [np.arange(edges[run.first], edges[run.last]) for run in self._runs]
        own = self._own_logits(places)
        losses = self._sum_chunks(self._inputs(X, None, edges), y, sample_weight, own)
        self._inner._whole_gradient(gradient, total_weight(sample_weight, n_rows))
        (loss,) = self._joined(losses[np.newaxis], own, places, logits)
        return float(loss)

    def _train(
        self,
        X: Any,
        y: Array,
        order: Array,
        learning_rates: Array,
        sample_weight: Array | None,
        logits: Array | None,
        penalties: Array | None,
    ) -> Array:
        losses = np.empty((len(learning_rates), self._run.last - self._run.first))
        places = [self._places(len(order), run) for run in self._runs]
        own, done = self._own_logits(places), 0
        mapped = is_mapped(X)
        if mapped:
            X = gather_rows(X, order[places[self._processes.rank]])
        for batch, rate in enumerate(learning_rates):
            rows = order[batch * self.batch_size :][: self.batch_size]
            weights = None if sample_weight is None else sample_weight[rows]
            total = total_weight(weights, len(rows))
            if penalties is not None:
                penalties[batch] = self.penalty(total)
            edges = edges_of(len(rows), self._n_chunks)
            begin, n_own = edges[self._run.first], edges[self._run.last] - edges[self._run.first]
            # Gathered rows are this process's alone, side by side.
            picked = done - begin + np.arange(len(rows)) if mapped else rows
            take = self._inputs(X, picked, edges)
            losses[batch] = self._sum_chunks(take, y[rows], weights, own[done : done + n_own])
            self._inner._apply_part(float(rate), total)
            done += n_own
        return self._joined(losses, own, places, logits)

    def _sum_chunks(
        self,
        take: Callable[[slice], Any],
        y: Array,
        sample_weight: Array | None,
        logits: Array,
    ) -> Array:
        """Write the sum of a batch's chunks where parts are; return what own ones add to its loss.

        Parameters
        ----------
        take : callable
            Returns some of the batch's inputs.
        y, sample_weight
            The batch's.
        logits : ndarray
            Where those of own chunks go.
        """
        edges, run = edges_of(len(y), self._n_chunks), self._run
        total = total_weight(sample_weight, len(y))
        losses = np.zeros(run.last - run.first)

        def compute(chunk: int) -> None:
            rows = slice(edges[chunk], edges[chunk + 1])
            own = slice(rows.start - edges[run.first], rows.stop - edges[run.first])
            weights = None if sample_weight is None else sample_weight[rows]
            losses[chunk - run.first] = self._inner._part_gradient(
                take(rows), y[rows], weights, rows.start, total, logits[own]
            )

        if self._sum is None:
            self._sum = _Sum(self._processes, self._runs, self._inner.part)
        self._sum.write(edges, compute)
        return losses

    # What is told of batches ---------------------------------------------------------------------

    @property
    def _run(self) -> Node:
        """The chunks of this process."""
        return self._runs[self._processes.rank]

    def _inputs(self, X: Any, rows: Array | None, edges: list[int]) -> Callable[[slice], Any]:
        """Return a function that returns the inputs of some of this process's part of a batch.

        The batch is all of X, or these rows of it.
        """
        if not isinstance(X, PooledRows):
            return lambda some: X[some if rows is None else rows[some]]
        numbers = np.arange(edges[-1]) if rows is None else rows
        wanted = [numbers[edges[run.first] : edges[run.last]] for run in self._runs]
        brought, begin = bring(self._processes, X, wanted), edges[self._run.first]
        return lambda some: brought[some.start - begin : some.stop - begin]

    def _own_logits(self, places: list[Array]) -> Array:
        """Return room for the logits of rows whose places are those of this process."""
        n_own = len(places[self._processes.rank])
        return np.empty((n_own, self.n_outputs), dtype=self.dtype)

    def _places(self, n_rows: int, run: Node) -> Array:
        """Return the places, among rows that come in batches, of those in a run of chunks."""
        places = []
        for start in range(0, n_rows, self.batch_size):
            edges = edges_of(min(self.batch_size, n_rows - start), self._n_chunks)
            places.append(np.arange(start + edges[run.first], start + edges[run.last]))
        return np.concatenate(places) if places else np.arange(0)

    def _joined(
        self, losses: Array, own: Array, places: list[Array], logits: Array | None
    ) -> Array:
        """Return every batch's loss, given what own chunks add to it; write all logits.

        `places` are those of every process's rows.
        """
        widths = [run.last - run.first for run in self._runs]
        parts = self._gathered(losses, [len(losses) * width for width in widths], per_row=1)
        by_chunk = np.hstack(
            [part.reshape(len(losses), width) for part, width in zip(parts, widths, strict=True)]
        )
        if logits is not None:
            pieces = self._gathered(own, [len(one) for one in places])
            for one, piece in zip(places, pieces, strict=True):
                logits[one] = piece
        return np.asarray(reduce(np.add, by_chunk.T)).copy()

    def _gathered(self, own: Array, sizes: list[int], per_row: int | None = None) -> list[Array]:
        """Return all processes' rows of so many elements, of which each has so many."""
        if self._processes.size == 1:
            return [own]
        width = self.n_outputs if per_row is None else per_row
        flat = self._processes.gathered(own.reshape(-1), [size * width for size in sizes])
        return [piece.reshape(-1, width) for piece in flat]


class _Sum:
    """The sum of all chunks' vectors, written in every process.

    Where there are several, each sums a slice of the vector; all tell each other theirs.

    Parameters
    ----------
    processes : Processes
    runs : list of Node
        Every process's chunks.
    part : ndarray
        Where a chunk's vector is written, and then the sum.
    """

    def __init__(self, processes: Processes, runs: list[Node], part: Array) -> None:
        self._processes, self._part = processes, part
        self._root = Node(0, runs[-1].last)
        self._nodes = [nodes_inside(run, self._root) for run in runs]
        size, n = len(part), len(runs)
        self._whole = size <= _SENT_WHOLE
        cuts = [size * p // n for p in range(n + 1)]
        slices = [(0, size)] * n if self._whole else list(pairwise(cuts))
        self._slices = [slice(first, last) for first, last in slices]
        self._lengths = [last - first for first, last in slices]
        self._buffers: dict[tuple[str, int], Array] = {}
        self._edges: list[int] = []

    def write(self, edges: list[int], compute: Callable[[int], None]) -> None:
        """Write the sum of the vectors of a batch's chunks, each of which `compute` writes."""
        self._edges = edges
        own = self._nodes[self._processes.rank]
        sums = []
        for number, node in enumerate(own):
            out = self._part if node is own[-1] else self._buffer("sum", number)
            if self._has_rows(node):
                self._sum_here(node, out, compute, 0)
            sums.append(out)
        if self._processes.size > 1:
            self._meet(sums)

    def _sum_here(self, node: Node, out: Array, compute: Callable[[int], None], level: int) -> None:
        """Write the sum of a node whose chunks are all of this process."""
        if node.last - node.first == 1:
            compute(node.first)
            if out is not self._part:
                np.copyto(out, self._part)
            return
        left, right = halves(node)
        if not (self._has_rows(left) and self._has_rows(right)):
            self._sum_here(left if self._has_rows(left) else right, out, compute, level)
            return
        kept = self._buffer("left", level) if out is self._part else out
        self._sum_here(left, kept, compute, level + 1)
        self._sum_here(right, self._part, compute, level + 1)
        np.add(kept, self._part, out=out)

    def _meet(self, sums: list[Array]) -> None:
        """Exchange the sums of nodes, sum what is above them, and exchange that."""
        rank, length = self._processes.rank, self._lengths[self._processes.rank]
        starts = [one.start for one in self._slices]
        received: dict[Node, Array] = {}
        for number in range(max(map(len, self._nodes))):
            theirs = [nodes[number : number + 1] for nodes in self._nodes]
            present = [bool(one) and self._has_rows(one[0]) for one in theirs]
            place = self._buffer("received", number, len(theirs) * length)
            own = sums[number] if present[rank] else self._part
            own_parts = [n if present[rank] else 0 for n in self._lengths], starts
            their_starts = [p * length for p in range(len(theirs))]
            their_parts = [length if here else 0 for here in present], their_starts
            self._processes.exchange(own, own_parts, place, their_parts)
            for p, one in enumerate(theirs):
                if present[p]:
                    received[one[0]] = place[p * length : (p + 1) * length]
        self._part[self._slices[rank]] = self._sum_above(self._root, received)
        if not self._whole:
            self._processes.complete(self._part, (self._lengths, starts))

    def _sum_above(self, node: Node, received: dict[Node, Array]) -> Array:
        if node in received:
            return received[node]
        left, right = halves(node)
        if not (self._has_rows(left) and self._has_rows(right)):
            return self._sum_above(left if self._has_rows(left) else right, received)
        out = self._sum_above(left, received)
        return np.add(out, self._sum_above(right, received), out=out)

    def _has_rows(self, node: Node) -> bool:
        return self._edges[node.first] < self._edges[node.last]

    def _buffer(self, use: str, number: int, size: int | None = None) -> Array:
        key = use, number
        if key not in self._buffers:
            size = len(self._part) if size is None else size
            self._buffers[key] = np.empty(size, dtype=self._part.dtype)
        return self._buffers[key]
