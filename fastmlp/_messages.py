"""What the library says by itself: to its logger, and on stderr unless it was told to be quiet."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from contextvars import ContextVar

#: For those who want it: ``logging.getLogger("fastmlp").setLevel(logging.INFO)``.
logger = logging.getLogger("fastmlp")
logger.addHandler(logging.NullHandler())

_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


@contextlib.contextmanager
def quiet(silent: bool = True) -> Iterator[None]:
    """Say nothing on stderr meanwhile, where `silent`."""
    token = _quiet.set(silent or _quiet.get())
    try:
        yield
    finally:
        _quiet.reset(token)


def announce(text: str) -> None:
    """Log a sentence; say it on stderr, if not quiet, and not in each of many workers."""
    logger.info(text)
    if not _quiet.get() and not _is_worker():
        print(f"fastmlp: {text}", file=sys.stderr)


def _is_worker() -> bool:
    # Not imported: a process that nobody made by it is the main one.
    processes = sys.modules.get("multiprocessing.process")
    return processes is not None and processes.current_process().name != "MainProcess"
