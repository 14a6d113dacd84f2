"""How many threads are chosen, on simulated machines: no clock is read, nothing is computed."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from fastmlp.backends.numba_backend.team import choice
from fastmlp.backends.numba_backend.team.choice import WORTH_A_THREAD, ThreadChoice

MNIST = [(784, 128), (128, 64), (64, 10)]
TINY = [(16, 16), (16, 16), (16, 2)]
LARGE = [(1024, 2048), (2048, 2048), (2048, 1024)]


@pytest.fixture(autouse=True)
def _real_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "WORTH_A_THREAD", WORTH_A_THREAD)
    monkeypatch.setattr(choice, "JIT_DISABLED", False)


@dataclass
class Machine:
    """What a step costs where work divides evenly, but for meetings."""

    cores: int
    sockets: int = 1
    #: Multiply-adds of a thread in a second.
    speed: float = 50e9
    meetings: int = 10
    #: Seconds of one between two threads; it grows with their number, and across sockets.
    meeting: float = 0.5e-6

    def seconds(self, work: float, n_threads: int, free: float) -> float:
        """Return the seconds of a step when so many cores are free."""
        crosses = self.sockets > 1 and n_threads > self.cores // self.sockets
        a_meeting = self.meeting * (n_threads - 1) ** 0.5 * (4 if crosses else 1)
        if n_threads > free:  # who has no core of its own is waited for
            a_meeting += 200e-6
        shared = max(1.0, n_threads / free) / n_threads
        return work / self.speed * shared + self.meetings * a_meeting


def work_of(shapes: list[tuple[int, int]], batch_size: int) -> int:
    return batch_size * sum(3 * a * b for a, b in shapes)


def train(threads: ThreadChoice, machine: Machine, work: float, until: float, free=None) -> float:
    """Train for so many simulated seconds; return the steps of a second in the last half."""
    clock, late, n_steps = 0.0, None, 0
    while clock < until:
        n, batches = threads.next_call(10_000)
        cores = machine.cores if free is None else free(clock)
        seconds = batches * machine.seconds(work, n, cores)
        threads.learn(n, batches, seconds)
        clock += seconds
        if clock > until / 2:
            late = clock if late is None else late
            n_steps += batches if clock > late else 0
    assert late is not None
    return n_steps / (clock - late)


def best(machine: Machine, work: float, free: float, candidates: list[int]) -> float:
    return max(1 / machine.seconds(work, n, free) for n in candidates)


MACHINES = [Machine(2), Machine(3), Machine(8), Machine(64), Machine(64, 2), Machine(128, 2)]
WORKLOADS = [(TINY, 32), (MNIST, 64), (MNIST, 1024), (LARGE, 256), (LARGE, 1024)]


@pytest.mark.parametrize("machine", MACHINES, ids=str)
@pytest.mark.parametrize(("shapes", "batch_size"), WORKLOADS)
def test_the_choice_comes_within_three_percent_of_the_best(
    monkeypatch: pytest.MonkeyPatch, machine: Machine, shapes, batch_size: int
):
    monkeypatch.setattr(choice, "usable_cores", lambda: machine.cores)
    threads, work = ThreadChoice(None, shapes, batch_size), work_of(shapes, batch_size)
    reached = train(threads, machine, work, until=20)
    assert reached >= 0.97 * best(machine, work, machine.cores, threads._candidates)


@pytest.mark.parametrize("shapes_and_batch", WORKLOADS[1:], ids=str)
def test_a_core_that_is_taken_is_left_alone_and_one_given_back_is_used(
    monkeypatch: pytest.MonkeyPatch, shapes_and_batch
):
    machine, work = Machine(2), work_of(*shapes_and_batch)
    monkeypatch.setattr(choice, "usable_cores", lambda: 2)
    threads = ThreadChoice(None, *shapes_and_batch)
    train(threads, machine, work, 10)
    assert threads._choice == 2
    slow = train(threads, machine, work, 40, free=lambda clock: 1)
    assert threads._choice == 1
    assert slow >= 0.95 * best(machine, work, 1, [1, 2])
    again = train(threads, machine, work, 200)
    assert threads._choice == 2
    assert again >= 0.95 * best(machine, work, 2, [1, 2])


def test_a_quota_below_the_cores_is_noticed(monkeypatch: pytest.MonkeyPatch):
    """Affinity may say 64 where the machine gives the time of six."""
    machine, work = Machine(64), work_of(MNIST, 1024)
    monkeypatch.setattr(choice, "usable_cores", lambda: 64)
    threads = ThreadChoice(None, MNIST, 1024)
    reached = train(threads, machine, work, 40, free=lambda clock: 6)
    assert threads._choice == 4
    assert reached >= 0.95 / machine.seconds(work, 4, 6)


def test_trials_of_a_step_that_takes_long_lose_two_percent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(choice, "usable_cores", lambda: 2)
    machine, work = Machine(2), work_of(LARGE, 2048)  # 0.5 s on one thread
    threads, clock, n_steps = ThreadChoice(None, LARGE, 2048), 0.0, 0
    while clock < 60:
        n, batches = threads.next_call(100)
        seconds = batches * machine.seconds(work, n, 2)
        threads.learn(n, batches, seconds)
        clock, n_steps = clock + seconds, n_steps + batches
    assert n_steps / clock >= 0.98 / machine.seconds(work, 2, 2)


@pytest.mark.parametrize("n_threads", [2, 3, 8])
def test_more_threads_than_the_work_is_worth_are_not_used_though_asked_for(n_threads: int):
    rows = (n_threads - 1) * WORTH_A_THREAD // work_of(TINY, 1) + 1
    few = ThreadChoice(n_threads, TINY, rows)
    assert few.next_call(100)[0] == few.most_in_training == n_threads - 1
    many = ThreadChoice(n_threads, TINY, 2 * rows)
    assert many.next_call(100)[0] == many.most_in_training == n_threads
    assert few.for_prediction(10) == n_threads


def test_a_call_is_short_and_the_first_ones_are_shorter(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(choice, "usable_cores", lambda: 1)
    threads = ThreadChoice(None, MNIST, 64)
    assert threads.next_call(1000) == (1, 8)
    threads.learn(1, 8, 0.008)
    assert threads.next_call(1000) == (1, 100)
    assert threads.next_call(7) == (1, 7)
