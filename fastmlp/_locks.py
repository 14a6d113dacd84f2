"""Locks that a forked child finds open: there, the threads that held them do not exist."""

from __future__ import annotations

import os
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


def _after_fork() -> None:
    for owner in list(_owners):
        owner.make_locks()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
