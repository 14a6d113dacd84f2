"""Several processes train together by MPI: with the same bits as one, and ended together."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from fastmlp import MLP, Ensemble
from fastmlp.backends import DataParallel, Session
from fastmlp.backends.data_parallel import processes
from fastmlp.backends.numpy_backend import NumpyBackend, NumpySession
from fastmlp.checkpoint import read_checkpoint
from fastmlp.sklearn import MLPClassifier
from fastmlp.testing import check_backend

CHILD = Path(__file__).with_name("data_parallel_child.py")
_BESIDE = Path(sys.executable).with_name("mpirun")
MPIRUN = str(_BESIDE) if _BESIDE.exists() else shutil.which("mpirun")

needs_mpi = pytest.mark.skipif(
    MPIRUN is None or importlib.util.find_spec("mpi4py") is None,
    reason="mpi4py or mpirun is missing: pip install 'fastmlp[mpi]'",
)
#: What Open MPI wants to hear in a container, and on fewer cores than processes.
ENVIRONMENT = os.environ | {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_mpi_yield_when_idle": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OPENBLAS_NUM_THREADS": "1",
}


def start(n: int, *command: Any, **options: Any) -> subprocess.Popen[str]:
    words = [MPIRUN, "-n", str(n), sys.executable, *map(str, command)]
    return subprocess.Popen(
        words,
        env=ENVIRONMENT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        **options,
    )


def run(n: int, *command: Any) -> tuple[int, str, str]:
    """Return the code, stdout and stderr of `n` processes; they must come to an end."""
    process = start(n, *command)
    try:
        out, err = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise AssertionError(f"hangs: {process.communicate()}") from None
    return process.returncode, out, err


def play(n: int, scenes: str, folder: Path) -> dict[str, list[Any]]:
    """Return what every process has seen in every scene."""
    code, out, err = run(n, CHILD, scenes, folder)
    assert code == 0, out + err
    return {
        scene: [json.loads((folder / f"{scene}-{n}-{r}.json").read_text()) for r in range(n)]
        for scene in scenes.split(",")
    }


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, list[Any]]]:
    """Return what 1 to 4 processes have seen."""
    folder = tmp_path_factory.mktemp("played")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(333, 20)).astype(np.float32)
    np.save(folder / "X.npy", X)
    pl.DataFrame(X).write_parquet(folder / "X.parquet", row_group_size=50)
    scenes = "equal_bits,own_rows,callbacks,alone,mistakes"
    return {n: play(n, scenes, folder) for n in (1, 2, 3, 4)}


@needs_mpi
def test_the_bits_depend_on_no_number_of_processes_and_threads(played):
    expected = played[1]["equal_bits"][0]
    for name, seen in expected.items():
        other = name.removesuffix("2") + "1" if name.endswith("2") else name
        assert seen == expected[other], name
    for n, scenes in played.items():
        for rank, seen in enumerate(scenes["equal_bits"]):
            for name in expected:
                assert seen[name] == expected[name], (name, n, rank)


@needs_mpi
def test_a_memory_map_gives_the_bits_of_an_array(played):
    seen = played[3]["equal_bits"][0]
    assert seen["memory map"] == seen["adam float32 numba 1"]
    assert seen["rows of a memory map"] == seen["rows"]


@needs_mpi
def test_rows_that_lie_in_several_processes_give_the_bits_of_one_array(played):
    one = played[1]["own_rows"][0]
    for name in ("adam float32 numba 1", "memory map", "full-batch steps", "empty chunks", "rows"):
        assert one[name] == played[1]["equal_bits"][0][name], name
    assert one["all in the last process"] == one["adam float32 numba 1"]
    trained = [name for name in one if isinstance(one[name], list)]
    for n, scenes in played.items():
        for seen in scenes["own_rows"]:
            assert [seen[name] for name in trained] == [one[name] for name in trained], n
            assert seen["slices of a Parquet file"] == one["adam float32 numba 1"][0]
            assert seen["names"]
            assert seen["scores"] == pytest.approx(seen["scores here"], rel=1e-6)
            assert seen["good"] == "no error"


@needs_mpi
def test_each_process_computes_its_share_of_a_table_of_dask(tmp_path: Path):
    pytest.importorskip("dask.dataframe", reason="needs Dask: pip install 'fastmlp[sweeps]'")
    (one,) = play(1, "partitions", tmp_path)["partitions"]
    assert one["array"] == one["frame"] == one["here"]
    for n in (2, 4):
        for seen in play(n, "partitions", tmp_path)["partitions"]:
            assert seen == {"array": one["here"], "frame": one["here"]}


@needs_mpi
@pytest.mark.parametrize("n", [2, 3])
def test_own_rows_that_do_not_fit_are_said_in_all_processes(played, n: int):
    *others, last = played[n]["own_rows"]
    text = f"process {n - 1} of {n} cannot train: ValueError"
    for seen in (*others, last):
        assert seen["predict"].startswith(
            "TypeError: X holds rows of several processes, which only"
        )
        assert seen["width"] == (
            "ValueError: the processes must train alike, but the number of features is 20 in "
            f"process 0 and 19 in process {n - 1}"
        )
    for seen in others:
        assert seen["length"].startswith(f"ValueError: {text}: X has ")
        assert seen["holes"].startswith(f"ValueError: {text}: X holds NaN")
        assert seen["holed scores"] == seen["holes"]
    assert "rows, but what goes with it is (" in last["length"]
    assert "(first in row 0)" in last["holes"]


@needs_mpi
def test_callbacks_are_called_in_the_first_process_and_all_do_what_they_decide(played):
    for n, scenes in played.items():
        first, *others = scenes["callbacks"]
        assert first["calls"] == [1, 2, 3, 4, 5, 6]
        assert all(one["calls"] == [] for one in others)
        for one in others:
            assert {**one, "calls": 0} == {**first, "calls": 0}, n
        assert first["epochs"][0] == 6
        assert first["epochs"][1] < 50
        assert first["rates"][3] == 0.02 * 0.1
        assert first["bits"] == played[1]["callbacks"][0]["bits"]


@needs_mpi
def test_predictions_outside_of_a_fit_need_no_other_process(played):
    assert len({one["bits"] for scenes in played.values() for one in scenes["alone"]}) == 1


@needs_mpi
@pytest.mark.parametrize("n", [2, 3])
def test_unlike_processes_say_so_everywhere_and_can_go_on(played, n: int):
    seen = played[n]["mistakes"]
    first = seen[0]
    unlike = "ValueError: the processes must train alike, but "
    last = f"in process {n - 1}"
    assert first["batch size"] == f"{unlike}batch_size is 32 in process 0 and 33 {last}"
    assert first["seed"] == f"{unlike}seed is 3 in process 0 and 4 {last}"
    assert first["epochs"] == f"{unlike}epochs is 1 in process 0 and 2 {last}"
    assert first["rate"].startswith(f"{unlike}optimizer is ")
    assert first["data"].startswith(f"{unlike}the training data is 333 rows (checksum ")
    wrong = "X has 332 rows, but y has 333"
    assert first["too few rows"] == (
        f"ValueError: process {n - 1} of {n} cannot train: ValueError: {wrong}"
    )
    assert seen[-1]["too few rows"] == f"ValueError: {wrong}"
    assert first["callback"] == "RuntimeError: the disk is full"
    assert first["divergence"].startswith("DivergenceError: ")
    assert first["good"] == "no error"
    for one in seen:
        assert {**one, "too few rows": ""} == {**first, "too few rows": ""}


@needs_mpi
def test_a_run_goes_on_with_its_bits_on_another_number_of_processes(tmp_path: Path):
    play(2, "train_on", tmp_path)
    went_on = play(3, "train_on", tmp_path)["train_on"]
    (whole,) = play(1, "whole_run", tmp_path)["whole_run"]
    assert [one["bits"] for one in went_on] == [whole["bits"]] * 3
    assert went_on[0]["epochs"] == 6


@needs_mpi
def test_an_error_in_one_process_ends_all(tmp_path: Path):
    code, _, err = run(3, CHILD, "fails_in_one", tmp_path)
    assert code != 0
    assert "RuntimeError: process out of luck" in err
    assert err.count("fastmlp: the error above, in process 2 of 3, ends the training of all") == 1


def killed(folder: Path, seconds: float, n: int = 2) -> None:
    """Kill one process a while after the fit begins, and want all to end, and the file whole."""
    process = start(n, CHILD, "forever", folder)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(seconds)
        os.kill(random.choice(children(process.pid)), signal.SIGKILL)
        out, err = process.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise AssertionError("hangs beyond 10 s after a process was killed") from None
    assert process.returncode != 0
    assert "killed" in (out + err).lower()


def children(launcher: int) -> list[int]:
    """Return the processes that run the child under a launcher."""
    found = subprocess.run(
        ["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    parents, runs = {}, []
    for line in found.splitlines():
        pid, ppid, arguments = line.split(None, 2)
        parents[int(pid)] = int(ppid)
        if arguments.startswith(sys.executable) and CHILD.name in arguments:
            runs.append(int(pid))

    def is_below(pid: int) -> bool:
        while pid in parents and pid != launcher:
            pid = parents[pid]
        return pid == launcher

    return [pid for pid in runs if is_below(pid)]


@needs_mpi
@pytest.mark.slow
def test_a_killed_process_ends_the_others_and_leaves_the_checkpoint_whole(tmp_path: Path):
    epochs = 0
    for _ in range(int(os.environ.get("FASTMLP_KILLS", "4"))):
        killed(tmp_path, random.uniform(0, 1.5))
        if (tmp_path / "run.npz").exists():
            now = len(read_checkpoint(tmp_path / "run.npz")["records"])
            assert now >= epochs
            epochs = now
    assert epochs > 0


@needs_mpi
def test_one_process_trains_as_the_reference(tmp_path: Path):
    (seen,) = play(1, "like_the_reference", tmp_path)["like_the_reference"]
    assert max(seen.values()) < 1e-12


@needs_mpi
def test_the_command_line_trains_with_several_processes(tmp_path: Path):
    words = ["-m", "fastmlp", "train", "--mpi", "--epochs", "2", "--backend", "numpy"]
    for n in (1, 2):
        file = tmp_path / f"{n}.npz"
        code, out, err = run(n, *words, "--save", file)
        assert code == 0, err
        assert out.count("test accuracy:") == 1
        assert err.count("Epoch 2/2") == 1
    one, two = (read_checkpoint(tmp_path / f"{n}.npz") for n in (1, 2))
    assert np.array_equal(one["parameters"], two["parameters"])


@needs_mpi
@pytest.mark.parametrize("inner", ["numpy", "numba"])
def test_it_conforms_on_one_process_and_on_three(inner: str):
    code = (
        "import sys; from fastmlp.backends import DataParallel; "
        "from fastmlp.testing import check_backend; "
        f"check_backend(DataParallel({inner!r}), sample=0.05)"
    )
    for n in (1, 3):
        returned, _, err = run(n, "-c", code)
        assert returned == 0, err


@needs_mpi
def test_more_processes_than_chunks_are_refused():
    code = "from fastmlp.backends import DataParallel; DataParallel('numpy', n_chunks=1)"
    returned, _, err = run(2, "-c", code)
    assert returned != 0
    assert "2 processes cannot share 1 chunks of a batch" in err


@needs_mpi
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_what_processes_cannot_share_is_refused(solver: str):
    backend = DataParallel("numpy")
    with pytest.raises(ValueError, match="MLPClassifier trains in one process alone: DataParallel"):
        MLPClassifier(backend=backend, solver=solver).fit([[0.0], [1.0]], [0, 1])
    with pytest.raises(ValueError, match=r"for Trainer; here, choose NumpyBackend\(\)"):
        Ensemble(MLP([1, 2]), 2, backend=backend)


def test_without_mpi_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    processes.all_processes.cache_clear()
    with pytest.raises(ImportError, match=r"pip install 'fastmlp\[mpi\]'"):
        DataParallel("numpy")


class WholeSession(NumpySession):
    part = Session.part
    _part_gradient = Session._part_gradient


class Whole(NumpyBackend):
    name = "whole"
    has_parts = False

    def _bind(self, network, loss, optimizer, regularization, batch_size, n_threads, seed):
        return WholeSession(network, loss, optimizer, regularization, batch_size, seed)


def test_a_backend_without_parts_is_refused_and_conforms():
    with pytest.raises(ValueError, match=r"Whole\(\) computes no parts of batches"):
        DataParallel(Whole())
    check_backend(Whole(), ["parts"], sample=3)


def test_sessions_without_parts_say_so():
    session = Whole().bind(MLP([2, 2]))
    with pytest.raises(NotImplementedError, match="WholeSession computes no parts of batches"):
        session.part_gradient([[0.0, 0.0]], [0], first_row=0, total=1)
