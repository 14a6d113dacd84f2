"""Training and prediction time of every workload, contestant and number of threads.

``pytest bench`` runs everything, which takes long; ``pytest bench -k "first and numba"`` a part.
Each contestant runs in a process of its own, which measures; the benchmark's clock adds that up.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastmlp._cores import allowed_cores
from fastmlp.backends import available_backends
from fastmlp.benchmark.contestants import contestant, contestant_names
from fastmlp.benchmark.environment import environment
from fastmlp.benchmark.measurement import write_samples
from fastmlp.benchmark.predictions import N_ROWS
from fastmlp.benchmark.startup import first_fit_seconds, import_seconds
from fastmlp.benchmark.worker import Worker, WorkerError
from fastmlp.benchmark.workloads import WORKLOADS, Workload

ROUNDS = 5


class Clock:
    """A clock that only measured seconds move."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def __repr__(self) -> str:
        return "seconds measured by workers"

    def move(self, measure: Callable[[], float]) -> None:
        self.seconds += measure()


clock = Clock()
pytestmark = pytest.mark.benchmark(timer=clock)


@pytest.fixture(params=WORKLOADS, scope="module")
def workload(request: pytest.FixtureRequest) -> Workload:
    return WORKLOADS[request.param]


@pytest.fixture(scope="module")
def samples(workload: Workload) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        write_samples(workload, Path(folder))
        yield Path(folder)


@pytest.fixture(params=sorted({1, allowed_cores()}), scope="module")
def threads(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(params=contestant_names(), scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def worker(workload: Workload, samples: Path, threads: int, name: str) -> Iterator[Worker]:
    """Return a contestant that has imported, compiled, and trained one epoch."""
    worker = Worker(name, threads)
    try:
        worker.prepare(workload, samples)
        yield worker
    except WorkerError as error:
        pytest.skip(str(error))
    finally:
        worker.close()


def run(benchmark, group: str, measure: Callable[[], float], rounds: int = ROUNDS) -> None:
    benchmark.group = group
    benchmark.extra_info.update(environment())
    benchmark.pedantic(clock.move, args=(measure,), rounds=rounds)


def test_epoch(benchmark, worker: Worker, workload: Workload, name: str):
    """Seconds per epoch; in the JSON, per step and GFLOP/s as well."""
    if not contestant(name).trains:
        pytest.skip(f"{name} only predicts")
    run(benchmark, f"epoch: {workload.name}", worker.epoch)
    if benchmark.stats is not None:
        seconds = benchmark.stats.stats.median
        benchmark.extra_info["seconds per step"] = seconds / workload.n_batches
        benchmark.extra_info["GFLOP/s"] = workload.flops / seconds / 1e9


@pytest.mark.parametrize("n_rows", N_ROWS)
def test_predict(benchmark, worker: Worker, workload: Workload, n_rows: int):
    """Seconds of a call that predicts so many rows."""
    run(benchmark, f"predict, {n_rows} rows: {workload.name}", lambda: worker.call(n_rows))


@pytest.mark.parametrize(
    "module",
    [
        "fastmlp",
        "numpy",
        "numba",
        "sklearn.neural_network",
        "torch",
        "jax",
        "tensorflow",
        "keras",
        "onnxruntime",
    ],
)
def test_import(benchmark, module: str):
    pytest.importorskip(module.partition(".")[0])
    run(benchmark, "import", lambda: import_seconds(module))


@pytest.mark.parametrize("backend", available_backends())
def test_first_fit(benchmark, backend: str):
    """From importing fastmlp to the end of a small fit, everything compiled before."""
    run(benchmark, "first fit", lambda: first_fit_seconds(backend, cold=False), rounds=3)


def test_first_fit_that_compiles(benchmark):
    """The same on a machine that never ran the Numba backend."""
    if available_backends()["numba"] is not None:
        pytest.skip("numba is not installed")
    run(benchmark, "first fit", lambda: first_fit_seconds("numba", cold=True), rounds=1)
