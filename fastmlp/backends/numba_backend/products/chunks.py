"""How the gradient of a matrix of weights is divided: tasks of some rows of one panel each."""

from __future__ import annotations

from typing import NamedTuple

from fastmlp.backends.numba_backend.team.barrier import Team
from fastmlp.backends.numba_backend.vectors.pointers import larger, share, smaller
from fastmlp.backends.numba_backend.vectors.records import value
from fastmlp.backends.numba_backend.vectors.types import Index, inlined

#: Rows of a weight panel in one task: their gradient stays in the first-level cache.
CHUNK = 144
#: Rows spread over this many elements or more are packed: their pages are too many for the tables
#: of pages that a processor has at hand.
FAR = 1 << 16
#: Matrices of at least this many elements are divided by panels among threads.
LARGE = 1 << 16
#: Panels a thread from which on shares differ little, whether they divide evenly or not.
ABOUT_EVEN = 4


@value
class Tasks(NamedTuple):
    """A thread's share of the chunks of all panels.

    All panels are done for some rows before the next: these stay in the cache.
    """

    n_rows: Index  # of a panel
    n_chunks: Index
    first_panel: Index
    last_panel: Index
    first: Index  # task
    last: Index


@value
class Task(NamedTuple):
    """The gradient of some rows of a panel."""

    panel: Index
    chunk: Index
    first: Index  # row
    last: Index
    ends_panel: bool  # whether the biases follow


@inlined
def _chunks_of(n_rows: Index) -> Index:
    return larger(1, (n_rows + CHUNK - 1) // CHUNK)


@inlined
def whole_panels(n_rows: Index, first_panel: Index, last_panel: Index) -> Tasks:
    """Return all chunks of some panels."""
    n_chunks = _chunks_of(n_rows)
    n_tasks = (last_panel - first_panel) * n_chunks
    return Tasks(n_rows, n_chunks, first_panel, last_panel, 0, n_tasks)


@inlined
def shared_panels(n_rows: Index, n_panels: Index, team: Team, layer: Index) -> Tasks:
    """Return a thread's share of the chunks of all panels.

    Single tasks of several layers go to several threads.
    """
    n_chunks, seat = _chunks_of(n_rows), (team.thread + layer) % team.n_threads
    first = share(n_panels * n_chunks, seat, team.n_threads)
    last = share(n_panels * n_chunks, seat + 1, team.n_threads)
    return Tasks(n_rows, n_chunks, 0, n_panels, first, last)


@inlined
def task_of(tasks: Tasks, number: Index) -> Task:
    """Return one of the tasks."""
    n_panels = tasks.last_panel - tasks.first_panel
    chunk, panel = number // n_panels, tasks.first_panel + number % n_panels
    first = chunk * CHUNK
    last = smaller(first + CHUNK, tasks.n_rows)
    return Task(panel, chunk, first, last, chunk == tasks.n_chunks - 1)


@inlined
def divide_evenly(panels: Index, n_threads: Index) -> bool:
    """Return whether several threads can have about equal shares of whole panels."""
    return n_threads > 1 and (panels % n_threads == 0 or panels >= ABOUT_EVEN * n_threads)


@inlined
def divides(panels: Index, size: Index, n_threads: Index) -> bool:
    """Return whether the work of a layer is divided by panels rather than by rows.

    Then each thread reads its share of a large matrix only, for twice as many rows.
    """
    return size >= LARGE and divide_evenly(panels, n_threads)
