"""Where the threads of a team meet."""

from __future__ import annotations

from typing import NamedTuple

from fastmlp.backends.numba_backend.vectors.atomics import (
    atomic_add,
    atomic_load,
    atomic_store,
    pause,
    sleep_briefly,
)
from fastmlp.backends.numba_backend.vectors.pointers import Numbers, share
from fastmlp.backends.numba_backend.vectors.records import value
from fastmlp.backends.numba_backend.vectors.types import Index, inlined

# Elements of the array by which threads meet and share; each on a cache line of its own.
ARRIVED, GENERATION, ABANDONED, CLAIMED, N_SYNC = 0, 16, 32, 48, 64

_PATIENCE = 5000


@value
class Team(NamedTuple):
    """A thread, and those that it works with."""

    thread: Index
    n_threads: Index
    sync: Numbers


@inlined
def meet(team: Team) -> bool:
    """Wait until all threads have come here; return False if one has given up."""
    if team.n_threads == 1:
        return True
    sync = team.sync
    generation = atomic_load(sync, GENERATION)
    if atomic_add(sync, ARRIVED, 1) == team.n_threads - 1:
        atomic_store(sync, ARRIVED, 0)
        atomic_add(sync, GENERATION, 1)
        return True
    waited = 0
    while atomic_load(sync, GENERATION) == generation:
        waited += 1
        if waited < _PATIENCE:
            pause()
        else:
            if atomic_load(sync, ABANDONED) != 0:
                return False
            sleep_briefly()
    return True


@inlined
def claim(team: Team) -> Index:
    """Return the number of the next task that no thread has taken: 0, 1, 2, ...

    Tasks that depend on nothing are shared like this, so that none waits for a thread that has
    not begun, or whose core is busy.
    """
    return atomic_add(team.sync, CLAIMED, 1)


@inlined
def begin_of(total: Index, team: Team) -> Index:
    """Return where a thread's share of range(total) begins."""
    return share(total, team.thread, team.n_threads)


@inlined
def end_of(total: Index, team: Team) -> Index:
    """Return where a thread's share of range(total) ends."""
    return share(total, team.thread + 1, team.n_threads)
