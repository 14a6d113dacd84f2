"""Teams of threads: how many there are, and that nothing makes them hang or lie."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numba import config

from fastmlp import MLP, Predictor
from fastmlp import _cores as process_cores
from fastmlp.backends import get_backend
from fastmlp.backends.numba_backend import session
from fastmlp.backends.numba_backend.team import choice, workers
from fastmlp.backends.numba_backend.team.barrier import ABANDONED
from tests.tracing import raise_at

jitted_only = pytest.mark.skipif(config.DISABLE_JIT, reason="threads need compiled code")

#: What every child process begins with: a training on two threads, and its bits.
SETUP = """
import os, sys, threading, time
import numpy as np
from fastmlp import MLP, Trainer
from fastmlp.backends import get_backend
from fastmlp.backends.numba_backend import session
from fastmlp.backends.numba_backend.team import choice, workers
from fastmlp.optimizers import Adam

choice.WORTH_A_THREAD = 1  # two threads also for little work
RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 50)).astype("float32")
Y = RNG.integers(0, 5, 400)

def train(seed=0, n_threads=2, epochs=2, **options):
    trainer = Trainer(
        MLP([50, 70, 5], seed=seed), optimizer=Adam(), backend="numba", n_threads=n_threads
    )
    trainer.fit(X, Y, epochs, verbose=False, **options)
    return trainer.network.parameters.tobytes()
"""


def run(code: str, timeout: int = 300, **environment: str) -> str:
    """Return what a child process prints; a deadlock ends by the timeout."""
    child = subprocess.run(
        [sys.executable, "-c", SETUP + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **environment},
    )
    assert child.returncode == 0, child.stderr
    return child.stdout.strip()


# How many cores ------------------------------------------------------------------------------


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Return a function that describes a machine: cores, files of quotas, variables."""
    for name in ("FASTMLP_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)

    def describe(cores: int, files: dict[str, str] | None = None, **variables: str) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
        for name, text in (files or {}).items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        monkeypatch.setattr(
            process_cores, "Path", lambda path: tmp_path / path.removeprefix("/sys/fs/")
        )
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return describe


@pytest.mark.parametrize("cores", [1, 2, 64])
def test_affinity_counts(machine, cores: int):
    machine(cores)
    assert process_cores.usable_cores() == cores


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cgroup/cpu.max": "200000 100000\n"}, 2),
        ({"cgroup/cpu.max": "250000 100000\n"}, 3),
        ({"cgroup/cpu.max": "50000 100000\n"}, 1),
        ({"cgroup/cpu.max": "max 100000\n"}, 8),
        ({"cgroup/cpu.max": "9900000 100000\n"}, 8),
        ({"cgroup/cpu.max": "nonsense"}, 8),
        ({"cgroup/cpu/cpu.cfs_quota_us": "-1\n", "cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 8),
        (
            {"cgroup/cpu/cpu.cfs_quota_us": "300000\n", "cgroup/cpu/cpu.cfs_period_us": "100000\n"},
            3,
        ),
        ({}, 8),
    ],
)
def test_the_control_groups_quota_counts(machine, files, expected: int):
    machine(8, files)
    assert process_cores.usable_cores() == expected


@pytest.mark.parametrize(
    ("cores", "files", "expected"),
    [
        (1, {}, 8),
        (64, {}, 128),
        (64, {"cgroup/cpu.max": "1600000 100000\n"}, 32),
        (8, {"cgroup/cpu.max": "100000 100000\n"}, 8),
    ],
)
def test_no_more_threads_are_had_than_help(machine, cores: int, files, expected: int):
    machine(cores, files, OMP_NUM_THREADS="1")
    assert process_cores.most_threads() == expected


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"NUMBA_NUM_THREADS": "2", "OMP_NUM_THREADS": "4"}, 2),
        ({"OMP_NUM_THREADS": "99"}, 8),
        ({"OMP_NUM_THREADS": "4,2"}, 8),
        ({"OMP_NUM_THREADS": ""}, 8),
        ({"FASTMLP_NUM_THREADS": "5", "OMP_NUM_THREADS": "1"}, 5),
        ({"FASTMLP_NUM_THREADS": " 16 "}, 16),
        ({"FASTMLP_NUM_THREADS": ""}, 8),
    ],
)
def test_variables_count(machine, variables, expected: int):
    machine(8, **variables)
    assert process_cores.usable_cores() == expected


@pytest.mark.parametrize("wrong", ["0", "-1", "two", "1.5"])
def test_a_wrong_number_of_threads_is_refused(machine, wrong: str):
    machine(8, FASTMLP_NUM_THREADS=wrong)
    with pytest.raises(
        ValueError, match=f"FASTMLP_NUM_THREADS must be a whole number above 0, got {wrong!r}"
    ):
        process_cores.usable_cores()


def test_a_daemonic_child_has_one(machine, monkeypatch):
    import multiprocessing.process

    machine(8)
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    assert process_cores.usable_cores() == 1


@pytest.mark.parametrize(
    ("tasks", "variables", "expected"),
    [
        (1, {}, 1),
        (4, {}, 1),
        (1, {"OMP_NUM_THREADS": "1"}, 1),
        (1, {"OMP_NUM_THREADS": "4"}, 4),
        (2, {"OMP_NUM_THREADS": "4"}, 2),
        (8, {"OMP_NUM_THREADS": "4"}, 1),
        (2, {"OMP_NUM_THREADS": "99"}, 4),
        (2, {"FASTMLP_NUM_THREADS": "5"}, 5),
    ],
)
def test_a_task_of_dask_has_its_share(machine, monkeypatch, tasks, variables, expected: int):
    machine(8, **variables)
    worker = SimpleNamespace(state=SimpleNamespace(nthreads=tasks))
    monkeypatch.setitem(sys.modules, "distributed", SimpleNamespace(get_worker=lambda: worker))
    assert process_cores.usable_cores() == expected


def test_outside_of_tasks_dask_changes_nothing(machine, monkeypatch):
    def get_worker():
        raise ValueError("No worker found")

    machine(8)
    monkeypatch.setitem(sys.modules, "distributed", SimpleNamespace(get_worker=get_worker))
    assert process_cores.usable_cores() == 8
    monkeypatch.setitem(sys.modules, "distributed", SimpleNamespace())  # half imported
    assert process_cores.usable_cores() == 8


# Teams ---------------------------------------------------------------------------------------


def count(thread, n_threads, seen, sync):
    seen.append((thread, n_threads))
    return True


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_every_thread_of_a_team_runs_once(n_threads: int):
    seen: list = []
    assert workers.run_team(count, n_threads, None, (seen,)) == n_threads
    assert sorted(seen) == [(thread, n_threads) for thread in range(n_threads)]


def gathered(pool: workers._Pool, n_threads: int, at_most: int | None) -> workers._Team:
    """Return a team that computes until its lock is released."""
    team = workers._Team()
    team.lock.acquire()
    pool.gather(team, n_threads, at_most)
    return team


def test_teams_share_the_cores():
    pool = workers._Pool()
    first, second = gathered(pool, 4, 4), gathered(pool, 4, 4)
    assert (len(first.workers), len(second.workers)) == (3, 0)
    first.lock.release()
    assert len(gathered(pool, 4, 4).workers) == 2


def test_workers_are_used_again():
    pool = workers._Pool()
    first = gathered(pool, 3, None)
    first.lock.release()
    assert gathered(pool, 3, None).workers == first.workers


class Killed(BaseException):
    """What ends a thread from outside."""


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_a_killed_thread_ends_the_team(victim: int):
    def program(thread, n_threads, sync):
        if thread == victim:
            raise Killed
        while not sync[ABANDONED]:  # what threads do that wait at a barrier
            workers.threading.Event().wait(0.001)
        return False

    with pytest.raises(Killed if victim == 0 else workers.TeamError) as caught:
        workers.run_team(program, 3, None, ())
    if victim:
        assert isinstance(caught.value.__cause__, Killed)
    seen: list = []
    assert workers.run_team(count, 3, None, (seen,)) == 3


# Traced, CPython 3.11 runs in circles while an exception waits for a thread that is blocked.
@pytest.mark.skipif(sys.gettrace() is not None, reason="needs an untraced interpreter")
def test_an_exception_sent_to_an_idle_worker_loses_no_job(monkeypatch):
    monkeypatch.setattr(workers, "_pool", workers._Pool())
    for _ in range(20):
        seen: list = []
        assert workers.run_team(count, 3, None, (seen,)) == 3
        assert len(seen) == 3
        for thread in workers.threading.enumerate():
            if thread.name == "fastmlp-worker":
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread.ident), ctypes.py_object(Killed)
                )


def test_an_interrupt_while_workers_finish_waits_for_all(monkeypatch):
    """Interrupted at the first worker, a team still waits for the second, and returns both."""
    finish, interrupts, over = workers._Worker.finish, iter([KeyboardInterrupt]), []

    def interrupted(worker, job):
        for interrupt in interrupts:
            raise interrupt
        finish(worker, job)

    def program(thread, n_threads, sync):
        if thread:
            workers.threading.Event().wait(0.05)
            over.append(thread)
        return True

    monkeypatch.setattr(workers, "_pool", workers._Pool())
    monkeypatch.setattr(workers._Worker, "finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        workers.run_team(program, 3, None, ())
    assert sorted(over) == [1, 2]
    assert (len(workers._pool.running()), len(workers._pool.idle())) == (0, 2)


def test_an_interrupt_at_any_line_leaves_no_team_behind(monkeypatch):
    """Workers wait for whoever makes the team, or are waited for, until all have ended."""
    arrived: list[int] = []
    over: list[int] = []

    def program(thread, n_threads, sync):
        arrived.append(thread)
        while len(arrived) < n_threads and not sync[ABANDONED]:  # as at a barrier
            workers.threading.Event().wait(0.001)
        over.append(thread)
        return not sync[ABANDONED]

    def run(line: int | None) -> int:
        return len(raise_at(line, Killed, lambda: workers.run_team(program, 3, 3, ())))

    pool = workers._Pool()
    monkeypatch.setattr(workers, "_pool", pool)
    n_lines = run(None)
    for line in range(n_lines):
        arrived.clear()
        over.clear()
        run(line)
        n_over = len(over)
        assert (pool.running(), len(pool.idle())) == ([], len(pool._workers)), line
        assert workers.run_team(count, 3, 3, ([],)) == 3, line
        assert len(over) == n_over, "a worker went on"
    assert len(pool._workers) == 2


# Whole processes -----------------------------------------------------------------------------


@jitted_only
@pytest.mark.slow
def test_a_killed_worker_leaves_whole_parameters():
    output = run("""
    import fastmlp
    trainer = Trainer(MLP([50, 70, 5]), backend="numba", n_threads=2)
    trainer.fit(X, Y, 1, verbose=False)
    before = trainer.network.parameters.tobytes()
    run = workers._Job.run
    def broken(job):
        job.started = True
        job._sync[workers.ABANDONED] = 1
        raise SystemExit  # silent in a thread
    workers._Job.run = broken
    try:
        trainer.fit(X, Y, 1, verbose=False)
    except workers.TeamError as error:
        print(error)
    assert trainer.network.parameters.tobytes() == before
    workers._Job.run = run
    trainer.fit(X, Y, 1, verbose=False)
    whole = Trainer(MLP([50, 70, 5]), backend="numba", n_threads=1)
    whole.fit(X, Y, 2, verbose=False)
    assert trainer.network.parameters.tobytes() == whole.network.parameters.tobytes()
    """)
    assert "a worker thread was stopped" in output


@jitted_only
@pytest.mark.slow
def test_a_keyboard_interrupt_leaves_whole_epochs():
    output = run("""
    import signal, warnings
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    warnings.simplefilter("ignore")
    big = RNG.normal(size=(4000, 300)).astype("float32")
    labels = RNG.integers(0, 5, 4000)
    def make():
        return Trainer(MLP([300, 400, 5]), backend="numba", n_threads=2)
    trainer = make()
    trainer.fit(big, labels, 1, verbose=False)
    for wait in (0.05, 0.3, 0.7):
        timer = threading.Timer(wait, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        trainer.fit(big, labels, 100_000, verbose=False)
        timer.join()
        epochs = len(trainer.history)
        whole = make()
        whole.fit(big, labels, epochs, verbose=False)
        assert trainer.network.parameters.tobytes() == whole.network.parameters.tobytes(), epochs
    print("whole")
    """)
    assert output == "whole"


@jitted_only
@pytest.mark.slow
def test_an_exception_from_outside_ends_a_team():
    output = run("""
    import ctypes
    class Stop(Exception): pass
    caught = []
    Trainer(MLP([50, 70, 5]), backend="numba", n_threads=2).fit(X, Y, 1, verbose=False)  # loads
    trainer = Trainer(MLP([50, 70, 5]), backend="numba", n_threads=2)
    def work():
        try:
            trainer.fit(X, Y, 100_000, verbose=False)
        except Stop as error:
            caught.append(error)
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    time.sleep(0.5)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident), ctypes.py_object(Stop)
    )
    thread.join(60)
    assert not thread.is_alive() and caught
    epochs = len(trainer.history)
    whole = Trainer(MLP([50, 70, 5]), backend="numba", n_threads=1)
    whole.fit(X, Y, epochs, verbose=False)
    assert whole.network.parameters.tobytes() == trainer.network.parameters.tobytes()
    print("ended")
    """)
    assert output == "ended"


@jitted_only
def test_an_exception_in_a_callback_leaves_the_last_epoch():
    from fastmlp import MLP, Trainer

    def fail(trainer, record):
        if record["epoch"] == 2:
            raise RuntimeError("no more")

    X, y = np.random.default_rng(0).normal(size=(100, 50)), np.arange(100) % 5
    broken, whole = (Trainer(MLP([50, 70, 5]), backend="numba", n_threads=2) for _ in range(2))
    with pytest.raises(RuntimeError, match="no more"):
        broken.fit(X, y, 5, callbacks=[fail], verbose=False)
    whole.fit(X, y, 2, verbose=False)
    assert broken.network.parameters.tobytes() == whole.network.parameters.tobytes()


@jitted_only
@pytest.mark.slow
def test_several_python_threads_train_at_once():
    output = run("""
    seeds = range(6)
    expected = [train(seed, 1) for seed in seeds]
    for n_threads in (1, 2, None):
        found = [None] * len(seeds)
        def work(seed):
            found[seed] = train(seed, n_threads)
        running = [threading.Thread(target=work, args=(seed,)) for seed in seeds]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        assert found == expected
    print("same bits")
    """)
    assert output == "same bits"


@jitted_only
@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_training_goes_on_after_a_fork():
    output = run(
        """
    expected = train()
    child = os.fork()
    if child == 0:
        os._exit(0 if train() == expected else 1)
    assert train() == expected
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    print("same bits")
    """,
        PYTHONWARNINGS="ignore::DeprecationWarning",
    )
    assert output == "same bits"


@jitted_only
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_joblib_trains(backend: str, tmp_path: Path):
    pytest.importorskip("joblib")
    output = run_file(
        tmp_path,
        f"""
        from joblib import Parallel, delayed
        expected = [train(seed, 1) for seed in range(4)]
        found = Parallel(n_jobs=2, backend={backend!r})(
            delayed(train)(seed, n_threads) for seed, n_threads in enumerate([1, 2, None, 2])
        )
        print("same bits" if found == expected else "other bits")
        """,
    )
    assert output == "same bits"


@jitted_only
@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_multiprocessing_trains(method: str, tmp_path: Path):
    import multiprocessing

    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    output = run_file(
        tmp_path,
        f"""
        import multiprocessing
        expected = [train(seed, 2) for seed in range(3)]
        with multiprocessing.get_context({method!r}).Pool(2) as pool:
            found = pool.map(train, range(3))
        print("same bits" if found == expected else "other bits")
        """,
    )
    assert output == "same bits"


def run_file(folder: Path, code: str) -> str:
    """Return what a script prints that child processes may import."""
    body = textwrap.indent(textwrap.dedent(code), "    ")
    script = folder / "script.py"
    script.write_text(f"{SETUP}\nif __name__ == '__main__':\n{body}")
    child = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)], capture_output=True, text=True, timeout=300
    )
    assert child.returncode == 0, child.stderr
    return child.stdout.strip()


# How many threads a call gets -----------------------------------------------------------------


@pytest.fixture
def sizes_of_teams(monkeypatch: pytest.MonkeyPatch):
    """Return the sizes of the teams that sessions ask for, on a machine of two cores."""
    asked: list[int] = []

    def note(program, n_threads, at_most, arguments):
        asked.append(n_threads)
        return workers.run_team(program, n_threads, at_most, arguments)

    monkeypatch.setattr(choice, "usable_cores", lambda: 2)
    monkeypatch.setattr(session, "run_team", note)
    return asked


@jitted_only
def test_many_rows_are_predicted_on_all_cores_and_few_on_one(sizes_of_teams):
    predictor = Predictor(MLP([784, 128, 64, 10]), "numba")
    predictor.predict(np.ones((1000, 784), dtype="float32"))
    predictor.predict(np.ones((2, 784), dtype="float32"))
    assert sizes_of_teams == [2, 1]


@jitted_only
def test_gradients_alone_find_out_what_a_second_thread_brings(sizes_of_teams, monkeypatch):
    monkeypatch.setattr(choice.ThreadChoice, "_FIRST_COST", float("inf"))  # a trial at once
    bound = get_backend("numba").bind(MLP([100, 100, 10]), batch_size=500)
    X, y = np.ones((500, 100), dtype="float32"), np.zeros(500, dtype=int)
    gradient = np.empty(bound.n_parameters, dtype="float32")
    for _ in range(8):
        bound.loss_and_gradient(X, y, gradient)
    assert set(sizes_of_teams) == {1, 2}
