"""Locks that a forked child finds open: there, the threads that held them do not exist."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class HasLocks(Protocol):
    """An object that can make its locks anew."""

    def make_locks(self) -> None:
        """Set the locks, all open."""


_owners: weakref.WeakSet[HasLocks] = weakref.WeakSet()


def make_locks(owner: HasLocks) -> None:
    """Make an object's locks, now and in every forked child.

    Locks themselves stay those of `threading`: what waits for them, or is interrupted, does so in
    C, where no exception comes between taking a lock and knowing of it.

    Examples
    --------
    >>> import threading
    >>> class Counter:
    ...     def make_locks(self):
    ...         self.lock = threading.Lock()
    >>> counter = Counter()
    >>> make_locks(counter)
    >>> counter.lock.locked()
    False
    """
    owner.make_locks()
    _owners.add(owner)


class Turn:
    """Whose turn it is at what one thread does at a time; others are refused, not kept waiting.

    Whoever claims it brings a lock that they hold, by ``with``: the interpreter lets go of that
    one, whatever interrupts, and with it of the turn.

    Examples
    --------
    >>> turn = Turn()
    >>> with (held := threading.Lock()):
    ...     turn.claim(held)
    True
    """

    def __init__(self) -> None:
        self._guard = threading.RLock()
        self._held, self._thread = threading.Lock(), 0

    def claim(self, held: threading.Lock) -> bool:
        """Return whether the turn is this thread's, as long as it holds the lock.

        It stays that of a claim before, where this thread's has not ended.
        """
        with self._guard:
            thread = threading.get_ident()
            if self._held.locked():
                return self._thread == thread
            self._thread = thread
            self._held = held
            return True


def _after_fork() -> None:
    for owner in list(_owners):
        owner.make_locks()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
