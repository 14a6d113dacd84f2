"""How many threads a session's compiled calls get, and how long they may be."""

from __future__ import annotations

from collections import deque

from fastmlp._cores import most_threads, usable_cores
from fastmlp.backends.numba_backend.numba_target import JIT_DISABLED

#: Compiled calls are kept about this short, so that Ctrl-C answers.
_CALL_SECONDS = 0.1
#: Below this many multiply-adds of a step for each thread, meeting costs more than another thread
#: brings.
WORTH_A_THREAD = 200_000
#: With this many for each thread, a team is likely to be worth it: where the search begins.
_SURE_OF_A_THREAD = 1_000_000
#: Below this many multiply-adds a call, waking a second thread takes longer than it saves.
WORTH_WAKING = 6_000_000


class ThreadChoice:
    """How many threads the next compiled call gets, and how long it may be.

    A given number is kept, as far as each thread has enough to do. Otherwise the choice follows the
    measured speed: now and then a short call tries half or twice as many, so that a core taken by
    another process, or given back, is noticed. How often depends on what that is expected to lose.

    Parameters
    ----------
    n_threads : int or None
    layer_shapes : list of (int, int)
    batch_size : int

    Attributes
    ----------
    most : int
        The most threads of any call.
    most_in_training : int
        The most threads of a call that trains.
    at_most : int or None
        No more threads than this at once in the process; None where the user asked for them.
    """

    _TRIAL_SECONDS = _CALL_SECONDS / 8
    #: The share of all time that trials may lose, and the first trial of a number.
    _COST, _FIRST_COST = 0.01, 0.05
    #: Seconds between trials of a number that is known, whatever they lose.
    _PAUSE = 0.5
    #: What more threads must gain before they are chosen, by the best of so many last calls each.
    _GAIN = 1.05
    _MEMORY = 3

    def __init__(
        self, n_threads: int | None, layer_shapes: list[tuple[int, int]], batch_size: int
    ) -> None:
        cores = 1 if JIT_DISABLED else usable_cores()
        self.most = (1 if JIT_DISABLED else min(n_threads, most_threads())) if n_threads else cores
        self.at_most = None if n_threads else cores
        self._row_work = sum(3 * n_in * n_out for n_in, n_out in layer_shapes)
        work = batch_size * self._row_work
        self.most_in_training = max(1, min(self.most, work // WORTH_A_THREAD))
        if n_threads:
            self._candidates = [self.most_in_training]
        else:
            self._candidates = _doubled(self.most_in_training)
        sure = [n for n in self._candidates if n * _SURE_OF_A_THREAD <= work]
        self._choice = sure[-1] if sure else self._candidates[0]
        self._recent: dict[int, deque[float]] = {
            n: deque(maxlen=self._MEMORY) for n in self._candidates
        }
        #: Seconds that were computed since each was tried.
        self._since = dict.fromkeys(self._candidates, 0.0)

    def for_prediction(self, n_samples: int) -> int:
        """Return the number of threads for the forward pass of so many rows."""
        asked_for = self.at_most is None
        many = n_samples * self._row_work / 3 > WORTH_WAKING
        return self.most if asked_for or many else 1

    def next_call(self, batches: int) -> tuple[int, int]:
        """Return the number of threads and of batches, at most `batches`, of the next call."""
        if not self._recent[self._choice]:  # a first short call
            return self._choice, min(batches, 8)
        trial = next(filter(self._is_due, self._neighbours()), None)
        if trial is not None:
            return trial, min(batches, self._trial_batches(trial))
        wanted = int(_CALL_SECONDS / self._expected(self._choice))
        return self._choice, max(1, min(batches, wanted))

    def learn(self, n_threads: int, batches: float, seconds: float) -> None:
        """Take note that a call of so many batches, or of a part of one, took `seconds`."""
        for n in self._since:
            self._since[n] += seconds
        self._since[n_threads] = 0.0
        self._recent[n_threads].append(seconds / batches)
        known = {n: min(times) for n, times in self._recent.items() if len(times) == self._MEMORY}
        if self._choice not in known:
            return
        best = min(known, key=lambda n: (known[n], n))
        # What fewer threads do as fast, more would only keep others from doing.
        gain = 1.0 if best < self._choice else self._GAIN
        if best != self._choice and known[self._choice] >= gain * known[best]:
            self._choice = best

    def _is_due(self, n_threads: int) -> bool:
        """Return whether a trial of a number loses little of the time since the last one."""
        if len(self._recent[self._choice]) < self._MEMORY:
            return False
        known, since = self._recent[n_threads], self._since[n_threads]
        if len(known) == self._MEMORY and since < self._PAUSE:
            return False
        slower = self._expected(n_threads) - self._expected(self._choice)
        loss = self._trial_batches(n_threads) * slower
        return loss <= (self._COST if known else self._FIRST_COST) * since

    def _trial_batches(self, n_threads: int) -> int:
        return max(1, int(self._TRIAL_SECONDS / self._expected(n_threads)))

    def _neighbours(self) -> list[int]:
        """Return the numbers next to the choice, what was tried longest ago first."""
        place = self._candidates.index(self._choice)
        beside = self._candidates[max(0, place - 1) : place + 2]
        others = [n for n in beside if n != self._choice]
        return sorted(others, key=lambda n: self._since[n], reverse=True)

    def _expected(self, n_threads: int) -> float:
        """Return the seconds of a batch; of a number never tried, as if all of it were shared."""
        if self._recent[n_threads]:
            return min(self._recent[n_threads])
        return min(self._recent[self._choice]) * max(1.0, self._choice / n_threads)


def _doubled(most: int) -> list[int]:
    """Return 1, 2, 4 and so on, and `most`."""
    return [*(1 << i for i in range((most - 1).bit_length())), most]
