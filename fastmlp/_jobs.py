"""Jobs that threads take from a queue, while the thread that asked listens."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from queue import Empty, SimpleQueue

#: Seconds between two looks around, where the system does not wake a waiting thread for Ctrl-C.
_MOMENT = 0.2


class Stopped(BaseException):
    """Ends a job whose result nobody waits for any more; no handler of errors should catch it.

    Examples
    --------
    >>> issubclass(Stopped, Exception)
    False
    """


class Jobs:
    """Jobs that are all done, or ended together: by an error of one, or by an interrupt.

    Parameters
    ----------
    work : callable
        ``work(number)`` does a job; in it, `check` is to be called often.
    n_jobs : int

    Attributes
    ----------
    failed : int or None
        The number of the first job that raised.

    Examples
    --------
    >>> done = []
    >>> Jobs(done.append, 3).run(n_threads=2)
    >>> sorted(done)
    [0, 1, 2]
    """

    def __init__(self, work: Callable[[int], object], n_jobs: int) -> None:
        self.failed: int | None = None
        self._work = work
        self._waiting = deque(range(n_jobs))
        self._ending = False
        self._error: BaseException | None = None
        #: What the thread that waits is to do; None where one of the others has ended.
        self._news: SimpleQueue[Callable[[], object] | None] = SimpleQueue()

    def check(self) -> None:
        """Raise Stopped in a job if all are to end."""
        if self._ending:
            raise Stopped

    def tell(self, news: Callable[[], object]) -> None:
        """Have the thread that waits call something."""
        self.check()
        self._news.put(news)

    def run(self, n_threads: int) -> None:
        """Do all jobs; whatever is raised in one, or in this thread, ends the others first."""
        threads = [
            threading.Thread(
                target=copy_context().run, args=(self._serve,), name=f"fastmlp-job-{i}", daemon=True
            )
            for i in range(n_threads)
        ]
        try:
            self._listen(_start(threads))
        finally:
            # A thread that begins only now finds that there is nothing to do.
            self._ending = True
            _join(threads)
        if self._error is not None:
            raise self._error

    def _listen(self, n_threads: int) -> None:
        while n_threads:
            try:
                news = self._news.get(timeout=_MOMENT)
            except Empty:
                continue
            if news is None:
                n_threads -= 1
            else:
                news()

    def _serve(self) -> None:
        """Do jobs until there is none left."""
        try:
            while not self._ending:
                number = self._waiting.popleft()
                try:
                    self._work(number)
                except BaseException as error:
                    if self._error is None and not isinstance(error, Stopped):
                        self.failed, self._error = number, error
                    self._ending = True
        except IndexError:  # none left
            pass
        finally:
            self._news.put(None)


def _start(threads: list[threading.Thread]) -> int:
    """Return how many threads there are; the system may give fewer."""
    for i, thread in enumerate(threads):
        try:
            thread.start()
        except RuntimeError:
            if i == 0:
                raise
            return i
    return len(threads)


def _join(threads: list[threading.Thread]) -> None:
    """Wait for all threads, whatever interrupts; raise the last interrupt then."""
    interrupt: BaseException | None = None
    while True:
        try:
            alive = [thread for thread in threads if thread.is_alive()]
            if not alive:
                break
            alive[0].join(_MOMENT)
        except BaseException as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt
