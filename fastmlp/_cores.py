"""How many threads this process may use."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from fastmlp._locks import make_locks

#: What thread pools around us set for their workers; we keep to it like other libraries.
_LIMITS = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")


def usable_cores() -> int:
    """Return how many threads whoever calls should use.

    ``FASTMLP_NUM_THREADS`` if set. Otherwise the cores that the process may run on, by affinity
    and by its control group's quota, at most ``OMP_NUM_THREADS`` and ``NUMBA_NUM_THREADS``, which
    joblib, Dask and Ray set for their worker processes; one in a daemonic child process, whose
    parent already has one for each core. A task of Dask has its worker's share of the variables,
    and one where there are none.

    Raises
    ------
    ValueError
        If ``FASTMLP_NUM_THREADS`` is not a whole number above 0.

    Examples
    --------
    >>> usable_cores() >= 1
    True
    """
    wanted = os.environ.get("FASTMLP_NUM_THREADS", "").strip()
    if wanted:
        chosen = _positive(wanted)
        if chosen is None:
            raise ValueError(f"FASTMLP_NUM_THREADS must be a whole number above 0, got {wanted!r}")
        return chosen
    multiprocessing = sys.modules.get("multiprocessing.process")
    if multiprocessing is not None and multiprocessing.current_process().daemon:
        return 1
    given = [_positive(os.environ.get(name)) for name in _LIMITS]
    limits = [limit for limit in given if limit]
    cores, tasks = min([allowed_cores(), *limits]), _tasks_at_once()
    if tasks is None:
        return cores
    return max(1, cores // tasks) if limits else 1


@contextlib.contextmanager
def claimed_cores() -> Iterator[int]:
    """Take all of `usable_cores` that others in this process have not taken, at least one.

    For what runs threads of its own, and may itself run in several threads at once.

    Examples
    --------
    >>> with claimed_cores() as all_of_them, claimed_cores() as left:
    ...     all_of_them == usable_cores(), left
    (True, 1)
    """
    claim = object()
    try:
        yield _claims.take(claim, usable_cores())
    finally:
        _claims.give_back(claim)


class _Claims:
    """How many cores each claim has in this process."""

    def __init__(self) -> None:
        make_locks(self)

    def make_locks(self) -> None:
        """Make the lock, and in a forked child forget the claims of threads that it has not."""
        self._lock = threading.Lock()
        self._taken: dict[object, int] = {}

    def take(self, claim: object, n_cores: int) -> int:
        with self._lock:
            taken = max(1, n_cores - sum(self._taken.values()))
            self._taken[claim] = taken
        return taken

    def give_back(self, claim: object) -> None:
        with self._lock:
            self._taken.pop(claim, None)


_claims = _Claims()


def most_threads() -> int:
    """Return how many threads a team may have that a user asks for.

    More than two for each core that the process may use only wait for each other, and results do
    not depend on it.

    Examples
    --------
    >>> most_threads() >= 8
    True
    """
    return max(8, 2 * allowed_cores())


def _tasks_at_once() -> int | None:
    """Return how many tasks the worker of Dask runs at once whose task this is; None outside."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        return max(1, int(distributed.get_worker().state.nthreads))
    except (ValueError, AttributeError):  # no task; or half imported, or another distributed
        return None


def allowed_cores() -> int:
    """Return the cores that the process may use, by affinity and by its control group.

    Examples
    --------
    >>> allowed_cores() >= 1
    True
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return min(cores, _quota() or cores)


def _positive(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() and int(text) > 0 else None


def _quota() -> int | None:
    """Return the cores that the control group allows, rounded up, or None."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            folder = Path("/sys/fs/cgroup/cpu")
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if quota in ("max", "-1"):
        return None
    return max(1, -(-int(quota) // int(period)))
