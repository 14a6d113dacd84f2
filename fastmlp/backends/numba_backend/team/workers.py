"""Teams of persistent workers that run a program together."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.numba_backend.prebuilt import passed
from fastmlp.backends.numba_backend.team.barrier import ABANDONED, N_SYNC


class _Job:
    """One thread's part of a team's program."""

    def __init__(self, run: Callable[[], bool], sync: NDArray[np.int64]) -> None:
        self._run = run
        self._sync = sync
        self.started = False
        self.over = False
        #: What stopped it.
        self.error: BaseException | None = None

    def run(self) -> None:
        """Run the part; where that does not end well, tell the team, which may be waiting."""
        self.started = True
        complete = False
        try:
            complete = bool(self._run())
        finally:
            if not complete:
                self._sync[ABANDONED] = 1


def _notify(lock: threading.Lock) -> None:
    """Let one wait for a lock end, be it under way or yet to come."""
    with contextlib.suppress(RuntimeError):  # notified already
        lock.release()


class _Worker:
    """A thread that waits for jobs. It is a daemon: nothing keeps a process from ending.

    An exception that is sent to a thread from outside reaches it when it wakes up, or anywhere:
    what is to be done next is seen from the job alone, which is still there then.
    """

    def __init__(self) -> None:
        self._job: _Job | None = None
        self._wake, self._done = threading.Lock(), threading.Lock()
        self._wake.acquire()
        self._done.acquire()
        threading.Thread(target=self._serve, name="fastmlp-worker", daemon=True).start()

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a job."""
        return self._job is None

    def begin(self, job: _Job) -> None:
        self._job = job
        _notify(self._wake)

    def finish(self, job: _Job) -> None:
        """Wait until a job is over; an interrupted call may be repeated."""
        if self._job is not job and not job.started:
            return  # its beginning was interrupted
        _notify(self._wake)
        while not job.over:
            self._done.acquire()

    def _serve(self) -> None:
        while True:
            try:
                while True:
                    self._go_on()
            except BaseException as error:
                if self._job is not None and self._job.started:
                    self._job.error = error  # the team raises; this thread goes on

    def _go_on(self) -> None:
        """Wait for a job, run it, or end it: whatever is next, also after an exception."""
        if self._job is None:
            self._wake.acquire()
        elif not self._job.started:
            self._job.run()
        else:
            self._job.over = True
            self._job = None
            try:  # noqa: SIM105 - a call in Python could be interrupted before it notifies
                self._done.release()
            except RuntimeError:  # notified already
                pass


class _Team:
    """Threads that compute together, as long as the lock is held.

    It is held by ``with``, which lets go of it whatever interrupts.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.size = 1
        #: All threads but the one that makes the team.
        self.workers: list[_Worker] = []


class _Pool:
    """The workers of this process, and the teams that are computing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._workers: list[_Worker] = []
        self._teams: list[_Team] = []

    def running(self) -> list[_Team]:
        """Return the teams that are computing."""
        return [team for team in self._teams if team.lock.locked()]

    def idle(self) -> list[_Worker]:
        """Return the workers that nothing is asked of."""
        busy = [worker for team in self.running() for worker in team.workers]
        return [worker for worker in self._workers if worker.is_idle and worker not in busy]

    def gather(self, team: _Team, n_threads: int, at_most: int | None) -> None:
        """Give a team, whose lock is held, n_threads - 1 workers.

        There are fewer where `at_most` threads would be exceeded.
        """
        with self._lock:
            self._teams = self.running()
            if at_most is not None:
                computing = sum(other.size for other in self._teams)
                n_threads = max(1, min(n_threads, at_most - computing))
            team.size = n_threads
            team.workers = self.idle()[: n_threads - 1] if n_threads > 1 else []
            self._teams.append(team)
        while len(team.workers) < n_threads - 1:
            try:
                worker = _Worker()
            except RuntimeError:  # the system gives no more threads: those that there are do
                team.size = 1 + len(team.workers)
                break
            team.workers.append(worker)
            self._workers.append(worker)


_pool = _Pool()


def _after_fork() -> None:
    """Forget the workers, which live in the parent only."""
    global _pool
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class TeamError(RuntimeError):
    """A thread of a team was stopped from outside; the call's results are not to be used."""


def run_team(
    program: Callable[..., bool], n_threads: int, at_most: int | None, arguments: tuple[Any, ...]
) -> int:
    """Run ``program(thread, n_threads, *arguments, sync)`` on every thread of a team.

    Parameters
    ----------
    program : callable
        Compiled; its threads meet at barriers in the array `sync`.
    n_threads : int
    at_most : int or None
        How many threads of this process may compute at once, counting other teams; a team is made
        smaller where that would be exceeded.
    arguments : tuple
        As `passed` returns them.

    Returns
    -------
    int
        The number of threads that ran.

    Raises
    ------
    TeamError
        If a thread was stopped before it finished.
    """
    sync = np.zeros(N_SYNC, dtype=np.int64)
    held = passed(sync)
    team = _Team()
    started: list[tuple[_Worker, _Job]] = []
    complete = False
    with team.lock:
        try:
            try:
                _pool.gather(team, n_threads, at_most)
                n_threads = team.size
                for thread, worker in enumerate(team.workers, start=1):
                    job = _Job(partial(program, thread, n_threads, *arguments, held), sync)
                    started.append((worker, job))
                    worker.begin(job)
                complete = bool(program(0, n_threads, *arguments, held))
            finally:
                _finish(started, sync, complete)
        finally:  # again, if an interrupt came before it waited
            _finish(started, sync, complete)
    if not complete or sync[ABANDONED]:
        raise TeamError(
            "a worker thread was stopped; the training step was not finished"
        ) from next((job.error for _, job in started if job.error), None)
    return n_threads


def _finish(started: list[tuple[_Worker, _Job]], sync: NDArray[np.int64], complete: bool) -> None:
    """Wait for all workers, whatever interrupts; raise the last interrupt then."""
    if not complete:
        sync[ABANDONED] = 1
    interrupt: BaseException | None = None
    for worker, job in started:
        while True:
            try:
                worker.finish(job)
                break
            except BaseException as error:  # workers must not go on behind our back
                interrupt = error
    if interrupt is not None:
        raise interrupt
