"""How many threads a session's compiled calls get, and how long they may be."""

from __future__ import annotations

from collections import deque

from fastmlp._cores import most_threads, usable_cores
from fastmlp.backends.numba_backend.numba_target import JIT_DISABLED

#: Compiled calls are kept about this short, so that Ctrl-C answers.
_CALL_SECONDS = 0.1
#: Below this many multiply-adds a step, meeting costs more than a second thread brings.
WORTH_A_TEAM = 400_000
#: Below this many multiply-adds a call, waking a second thread takes longer than it saves.
WORTH_WAKING = 6_000_000


class ThreadChoice:
    """How many threads the next compiled call gets, and how long it may be.

    A given number is kept. Otherwise the choice follows the measured speed: now and then a short
    call tries another number, so that a core taken by another process, or given back, is noticed.

    Parameters
    ----------
    n_threads : int or None
    layer_shapes : list of (int, int)
    batch_size : int
    """

    #: One call in so many is a trial, and lasts this share of an ordinary one.
    _TRIAL_EVERY = 8
    _TRIAL_SHARE = 1 / 8
    #: What a trial must gain before the choice changes, by the best of so many last calls each.
    _GAIN = 1.05
    _MEMORY = 3

    def __init__(
        self, n_threads: int | None, layer_shapes: list[tuple[int, int]], batch_size: int
    ) -> None:
        cores = 1 if JIT_DISABLED else usable_cores()
        self.most = (1 if JIT_DISABLED else min(n_threads, most_threads())) if n_threads else cores
        work = batch_size * sum(3 * n_in * n_out for n_in, n_out in layer_shapes)
        self._row_work = work / batch_size
        if n_threads or cores == 1:
            self._candidates = [self.most]
        elif work < WORTH_A_TEAM:
            self._candidates = [1]
        else:
            self._candidates = [1, cores] if cores <= 3 else [1, cores // 2, cores]
        #: No more threads than this at once in the process, unless the user asked for them.
        self.at_most = None if n_threads else cores
        self._choice = self._candidates[-1]
        self._recent: dict[int, deque[float]] = {
            n: deque(maxlen=self._MEMORY) for n in self._candidates
        }
        self._calls = 0

    def for_prediction(self, n_samples: int) -> int:
        """Return the number of threads for the forward pass of so many rows."""
        asked_for = self.at_most is None
        many = n_samples * self._row_work / 3 > WORTH_WAKING
        return self.most if asked_for or many else 1

    def next_call(self, batches: int) -> tuple[int, int]:
        """Return the number of threads and of batches, at most `batches`, of the next call."""
        self._calls += 1
        n_threads = self._choice
        least_known = min(self._candidates, key=lambda n: len(self._recent[n]))
        trial = len(self._recent[least_known]) < self._MEMORY
        if trial:
            n_threads = least_known
        elif len(self._candidates) > 1 and self._calls % self._TRIAL_EVERY == 0:
            trial, n_threads = True, self._next_candidate()
        known = self._recent[n_threads] or self._recent[self._choice]
        if not known:  # a first short call
            return n_threads, min(batches, 8)
        wanted = _CALL_SECONDS * (self._TRIAL_SHARE if trial else 1) / min(known)
        return n_threads, int(max(1, min(batches, wanted)))

    def learn(self, n_threads: int, batches: float, seconds: float) -> None:
        """Take note that a call of so many batches, or of a part of one, took `seconds`."""
        self._recent[n_threads].append(seconds / batches)
        known = {n: min(times) for n, times in self._recent.items() if len(times) == self._MEMORY}
        if self._choice in known:
            best = min(known, key=lambda n: known[n])
            if known[self._choice] > self._GAIN * known[best]:
                self._choice = best

    def _next_candidate(self) -> int:
        others = [n for n in self._candidates if n != self._choice]
        return others[self._calls // self._TRIAL_EVERY % len(others)]
