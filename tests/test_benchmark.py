"""Benchmarks: contestants train the same thing, and what is measured is reported whole."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastmlp import cli
from fastmlp._cores import allowed_cores
from fastmlp.benchmark import (
    WORKLOADS,
    Fits,
    Predictions,
    Report,
    Sweep,
    Workload,
    fits,
    measure,
    measure_fits,
    measure_predictions,
    measure_sweep,
)
from fastmlp.benchmark.contestants import contestant, contestant_names
from fastmlp.benchmark.environment import _caches, environment, machine_line, machine_name
from fastmlp.benchmark.measurement import write_samples, write_test_samples
from fastmlp.benchmark.report import Row, Task, markdown
from fastmlp.benchmark.sweep import AXES, Point, valleys, workload_at
from fastmlp.benchmark.worker import Worker, WorkerError

# Importing them takes longer than all else that is tested here.
SLOW = (
    *("pytorch", "pytorch-compiled", "pytorch-cpp"),
    *("jax", "jax-scan", "keras", "tensorflow"),
)
OTHERS = [
    pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
    for name in contestant_names()
    if name != "numpy"
]
N_EPOCHS = 3


def small(name: str):
    """Return a workload with few rows, in float64, its last batch smaller than the others."""
    workload = WORKLOADS[name]
    return replace(workload, n_samples=3 * workload.batch_size + 5, dtype="float64")


def prepared(name: str, workload):
    """Return a run of a contestant and its samples; skip where it cannot take the workload."""
    chosen = contestant(name)
    reason = chosen.reason_against(workload)
    if reason:
        pytest.skip(reason)
    X, y, _ = workload.samples()
    return chosen.prepare(workload, workload.network(), X, y, n_threads=1), X, y


def loss_curve(run, n_samples: int) -> list[float]:
    """Return the losses of epochs that visit the rows as they lie."""
    if hasattr(run, "model") and hasattr(run.model, "partial_fit"):
        run.model.set_params(shuffle=False)
    return [run.epoch(np.arange(n_samples)) for _ in range(N_EPOCHS)]


def relative_error(actual, expected) -> float:
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


def tolerance(name: str, workload: Workload) -> float:
    """Some add Adam's epsilon before the second moment's bias is corrected; rates are float32."""
    if name not in ("scikit-learn", "keras", "tensorflow"):
        return 1e-9
    return 1e-4 if workload.optimizer.name == "adam" else 1e-9 if name == "scikit-learn" else 1e-6


@pytest.fixture
def contestants_own_process():
    """Put back what contestants change in theirs."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_enable_x64", False)


@pytest.mark.usefixtures("contestants_own_process")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # peers' own
@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize(
    "workload", ["first", "second", "first-adam", "second-adam", "tiny", "higgs"]
)
def test_contestants_train_the_same_network(name: str, workload: str):
    """From equal weights and in equal order, losses and outputs agree, and again from the start."""
    if name == "numba-fit":
        pytest.skip("Trainer.fit draws its own order; tests of the trainer compare it")
    task = small(workload)
    run, X, _ = prepared(name, task)
    reference, _, _ = prepared("numpy", task)
    np.testing.assert_allclose(run.outputs(X), reference.outputs(X), rtol=1e-9)
    if not contestant(name).trains:
        return
    if name == "scikit-learn" and task.layer_sizes[-1] == 2:
        pytest.skip("scikit-learn has one logistic output for two classes: see the next test")

    losses, expected = loss_curve(run, len(X)), loss_curve(reference, len(X))

    np.testing.assert_allclose(losses, expected, rtol=tolerance(name, task))
    assert losses[-1] < losses[0]
    assert relative_error(run.outputs(X), reference.outputs(X)) < 100 * tolerance(name, task)

    run.start(task.network())

    np.testing.assert_allclose(loss_curve(run, len(X)), expected, rtol=tolerance(name, task))


def test_scikit_learn_reaches_the_same_accuracy_on_two_classes():
    task = replace(WORKLOADS["tiny"], n_samples=2000)
    accuracies = []
    for name in ("scikit-learn", "numpy"):
        run, X, y = prepared(name, task)
        for _ in range(20):
            run.epoch(np.random.default_rng(0).permutation(len(X)))
        accuracies.append(np.mean(run.outputs(X).argmax(axis=1) == y))
    assert min(accuracies) > 0.9
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.03)


# Workloads -----------------------------------------------------------------------------------

TINY = Workload("few", (4, 8, 3), batch_size=16, n_samples=100)


def test_flops_are_those_of_the_matrix_products():
    """Forward, weight gradient and input gradient, but none of the first layer's inputs."""
    assert TINY.flops == 2 * 100 * (4 * 8 + 8 * 3) + 2 * 100 * (4 * 8 + 8 * 3) + 2 * 100 * 8 * 3


def test_the_original_networks_are_those_that_were_asked_for():
    assert WORKLOADS["first"].layer_sizes == (784, 128, 64, 10)
    assert WORKLOADS["second"].layer_sizes == (784, 16, 16, 10)
    assert [w.layer_sizes[0] for w in WORKLOADS.values() if w.name.startswith("width")] == [
        8, 16, 32, 64, 128, 256, 512, 1024, 2048,
    ]  # fmt: skip


def test_generated_images_have_as_many_zeros_as_mnist(monkeypatch):
    monkeypatch.delenv("FASTMLP_DATA", raising=False)
    X, y, source = replace(WORKLOADS["first"], n_samples=500).samples()
    assert source.startswith("generated")
    assert X.dtype == np.float32
    assert np.mean(X != 0) == pytest.approx(0.19, abs=0.01)
    assert set(y) == set(range(10))


@pytest.mark.parametrize("name", ["first", "higgs", "digits", "tiny"])
def test_rows_for_the_test_are_of_the_same_kind_and_none_of_those_trained_on(name, monkeypatch):
    monkeypatch.delenv("FASTMLP_DATA", raising=False)
    task = replace(WORKLOADS[name], n_samples=500)
    X, y, _ = task.samples()
    X_test, y_test = task.test_samples()
    assert (X.shape, X_test.shape[1:], X_test.dtype) == ((500, X.shape[1]), X.shape[1:], X.dtype)
    assert set(y_test) <= set(y) <= set(range(max(2, task.layer_sizes[-1])))
    assert not {row.tobytes() for row in X} & {row.tobytes() for row in X_test}


def test_mnist_is_read_where_it_lies(mnist_folder):
    X, _, source = replace(WORKLOADS["first"], n_samples=100).samples()
    assert source == "MNIST"
    assert X.shape == (100, 784)


# Measuring -----------------------------------------------------------------------------------


class FakeWorker:
    """Counts what it is asked for; epochs get slower, and one contestant fails in its second."""

    def __init__(self, name: str, n_threads: int) -> None:
        self.name, self.n_threads, self.epochs = name, n_threads, 0
        calls.append(("start", name, n_threads))

    def prepare(self, workload: Workload, folder: Path, limit: float) -> float:
        assert (folder / "X.npy").exists()
        if self.name == "columns":
            raise WorkerError("no memory")
        return 7.0

    def epoch(self) -> float:
        self.epochs += 1
        calls.append(("epoch", self.name, self.n_threads))
        if self.name == "jax" and self.epochs == 2:
            raise WorkerError("crashed")
        return float(self.epochs)

    def predict(self) -> float:
        return 1e-6

    def latency(self) -> float:
        return 1e-5

    def call(self, n_rows: int) -> float:
        calls.append((f"call {n_rows}", self.name, self.n_threads))
        if self.name == "jax" and n_rows == 8:
            raise WorkerError("crashed")
        return n_rows * (1e-6 if self.name == "numba" else 4e-6)

    def fit(self, accuracy: float, most_epochs: int) -> list[tuple[float, float, float]]:
        calls.append(("fit", self.name, self.n_threads))
        if self.name == "jax" and self.epochs:
            raise WorkerError("crashed")
        self.epochs += 1
        seconds = 4.0 if self.name == "numpy" else 1.0
        epochs = [(seconds, 1.5 * seconds, share) for share in (0.5, 0.9, 0.98)]
        return epochs[: 2 if accuracy > 0.98 else 3]

    def cpu_seconds(self) -> float:
        return 9.0

    def close(self) -> None:
        calls.append(("close", self.name, self.n_threads))


calls: list[tuple[str, str, int]] = []


@pytest.fixture
def fake_workers(monkeypatch):
    calls.clear()
    monkeypatch.setattr("fastmlp.benchmark.measurement.Worker", FakeWorker)
    monkeypatch.setattr("fastmlp.benchmark.measurement.note_peak", lambda *_: None)
    monkeypatch.setattr("fastmlp.benchmark.sweep.Worker", FakeWorker)
    monkeypatch.setattr(
        "fastmlp.benchmark.predictions.note_peak",
        lambda peaks, dtype, n: peaks.update({f"{dtype}/{n}": 1e9}),
    )
    return calls


def test_contestants_take_turns(fake_workers):
    report = measure([TINY], ["numpy", "numba"], [1, 2], rounds=3)
    turn = [(name, n) for n in (1, 2) for name in ("numpy", "numba")]
    assert [call[1:] for call in fake_workers if call[0] == "epoch"] == 3 * turn
    assert all(row.epoch_seconds == [1.0, 2.0, 3.0] for row in report.rows)
    assert all(row.prepare_seconds == 7.0 for row in report.rows)
    assert sum(call[0] == "close" for call in fake_workers) == 4


def test_a_failure_is_one_row_and_the_rest_goes_on(fake_workers):
    report = measure([TINY], ["columns", "jax", "numpy"], [1], rounds=3)
    columns, jax, numpy = report.rows
    assert (columns.failure, jax.failure, numpy.failure) == ("no memory", "crashed", None)
    assert (len(columns.epoch_seconds), len(numpy.epoch_seconds)) == (0, 3)
    table = report.table("few")
    assert "no memory" in table
    assert "crashed" in table


def test_no_round_begins_when_time_is_up_except_the_first(fake_workers):
    report = measure([TINY], ["numpy"], [1], rounds=3, seconds=0)
    assert len(report.rows[0].epoch_seconds) == 1


def test_an_interrupt_keeps_what_was_measured(fake_workers, monkeypatch):
    def interrupt(self) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(FakeWorker, "latency", interrupt)
    lines: list[str] = []
    report = measure([TINY], ["numpy"], [1], progress=lines.append)
    assert report.rows[0].epoch_seconds == [1.0]
    assert "interrupted" in lines[-1]


def test_contestants_predict_in_turns_and_a_failure_is_one_column(fake_workers, tmp_path: Path):
    names = ["numpy", "numba", "jax", "columns"]
    found = measure_predictions([TINY], names, [1, 2], n_rows=[1, 8], rounds=2)
    one = [(f"call {n}", name, 2) for n in (1, 8) for name in names[:3]]
    again = [call for call in one if call != ("call 8", "jax", 2) and call[1] != "jax"]
    assert [call for call in fake_workers if call[2] == 2 and "call" in call[0]] == one + again
    by_name = {calls.contestant: calls for calls in found.calls if calls.n_threads == 1}
    assert by_name["numba"].seconds == {1: [1e-6] * 2, 8: [8e-6] * 2}
    assert (by_name["jax"].failure, by_name["columns"].failure) == ("crashed", "no memory")
    table = found.table("few", 1).splitlines()
    assert "[4, 8, 3], relu, softmax, float32" in table[0]
    # Two operations for each of 56 weights, in a microsecond, of 10^9 a second.
    assert table[2].split() == ["1", "4.0", "1.0", "4.0", "0.25", "11%"]
    assert table[-2:] == ["jax: crashed", "columns: no memory"]
    found.save(tmp_path / "found.json")
    written = json.loads((tmp_path / "found.json").read_text())
    assert written["networks"]["few"]["flops"] == 112
    assert len(written["calls"]) == 8
    assert all(line in str(found) for line in table)


def test_an_interrupt_keeps_the_predictions_that_were_measured(fake_workers, monkeypatch):
    def interrupt(self, n_rows: int) -> float:
        if n_rows == 8:
            raise KeyboardInterrupt
        return 1.0

    monkeypatch.setattr(FakeWorker, "call", interrupt)
    lines: list[str] = []
    found = measure_predictions([TINY], ["numpy"], [1], n_rows=[1, 8], progress=lines.append)
    assert found.calls[0].median(1) == 1.0
    assert found.calls[0].median(8) is None
    assert "interrupted" in lines[-1]


def test_predictions_are_saved_and_loaded_whole(fake_workers, tmp_path: Path):
    found = measure_predictions([TINY], ["numpy", "columns"], [1], n_rows=[1, 8], rounds=1)
    found.save(tmp_path / "found.json")
    assert Predictions.load(tmp_path / "found.json") == found


def test_contestants_fit_in_turns_and_a_failure_is_one_row(fake_workers, tmp_path: Path):
    names = ["numpy", "numba", "jax", "columns", "onnxruntime"]
    found = measure_fits([TINY], names, [2], accuracy=0.975, rounds=2)
    assert [call[1] for call in fake_workers if call[0] == "fit"] == [*names[:3], *names[:3]]
    numpy, numba, jax, columns, onnxruntime = found.fits
    assert (numpy.seconds, numpy.cpu_seconds, numpy.n_epochs) == (12.0, 18.0, 3)
    assert (numba.seconds, numba.ready_seconds, numba.ready_cpu_seconds) == (3.0, 7.0, 9.0)
    assert [fit.failure for fit in (jax, columns)] == ["crashed", "no memory"]
    assert onnxruntime.failure == "only predicts"
    lines = found.table("few").splitlines()
    assert lines[3].split() == [
        "numpy",
        "2",
        "3",
        "98.00%",
        "12.000",
        "18.000",
        "1.50",
        "7.0",
        "9.0",
    ]
    assert lines[-1].split(maxsplit=2) == ["onnxruntime", "2", "only predicts"]
    found.save(tmp_path / "found.json")
    assert Fits.load(tmp_path / "found.json") == found


def test_a_fit_that_does_not_reach_the_accuracy_took_more(fake_workers):
    found = measure_fits([TINY], ["numba"], [1], accuracy=0.99, rounds=1)
    assert not found.reached(found.fits[0])
    assert ">2.000" in found.table("few")
    assert "| numba | 1 | more than 2 | more than 2.00 |" in fits.markdown(found)


def test_a_sweep_visits_all_points_in_every_round(fake_workers, tmp_path: Path):
    found = measure_sweep(["width", "batch"], ["numpy", "columns"], [1], values=[1, 2], rounds=2)
    assert [len(p.seconds) for p in found.points if p.contestant == "numpy"] == [2] * 4
    assert {p.failure for p in found.points if p.contestant == "columns"} == {"no memory"}
    assert "columns: no memory" in str(found)
    # FakeWorker's epochs count up: the first point has the first and the fifth.
    assert found.points[0].seconds == [1.0, 5.0]
    found.save(tmp_path / "found.json")
    assert Sweep.load(tmp_path / "found.json") == found


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("value", [1, 48, 4096])
def test_a_sweep_grows_one_property_alone(axis: str, value: int):
    workload, base = workload_at(axis, value), workload_at("width", 64)
    changed = {
        "features": workload.layer_sizes[0] != base.layer_sizes[0],
        "width": set(workload.layer_sizes[1:-1]) != set(base.layer_sizes[1:-1]),
        "depth": len(workload.layer_sizes) != len(base.layer_sizes),
        "batch": workload.batch_size != base.batch_size,
    }
    assert [name for name, is_so in changed.items() if is_so] == [axis]
    assert workload.n_samples % workload.batch_size == 0


def test_valleys_are_those_of_speed_between_two_heights(tmp_path: Path):
    cost = {1: 9.0, 2: 4.0, 4: 5.2, 8: 5.4, 16: 3.0, 32: 3.3, 64: 2.9, 128: 8.0}
    assert valleys(cost) == [
        (4, pytest.approx(1 - 4 / 5.2), 2, 64),
        (8, pytest.approx(1 - 4 / 5.4), 2, 64),
    ]
    found = Sweep(MACHINE, [Point("width", v, "numba", 1, 1, [s]) for v, s in cost.items()])
    assert "width 8, numba, threads: 1: 26% below 2 and 64" in str(found)
    pytest.importorskip("matplotlib")
    found.plot(tmp_path / "sweep.svg")
    assert "seconds of a multiply-add" in (tmp_path / "sweep.svg").read_text(encoding="utf-8")


def test_an_interrupt_keeps_the_fits_and_the_points_that_were_measured(fake_workers, monkeypatch):
    def interrupt(*_) -> float:
        raise KeyboardInterrupt

    lines: list[str] = []
    monkeypatch.setattr(FakeWorker, "fit", interrupt)
    assert measure_fits([TINY], ["numpy"], [1], progress=lines.append).fits[0].curves == []
    monkeypatch.setattr(FakeWorker, "epoch", interrupt)
    swept = measure_sweep(["width"], ["numpy"], [1], values=[1], progress=lines.append)
    assert swept.points[0].cost is None
    assert sum("interrupted" in line for line in lines) == 2


def test_an_unknown_contestant_is_refused():
    with pytest.raises(ValueError, match="unknown contestant 'theano'; choose among numpy"):
        measure([TINY], ["theano"], [1])


# Workers: real processes ---------------------------------------------------------------------


@pytest.fixture
def worker():
    worker = Worker("numpy", 1)
    yield worker
    worker.close()


def test_a_worker_measures(worker, tmp_path):
    write_samples(TINY, tmp_path)
    assert worker.prepare(TINY, tmp_path) > 0
    assert min(worker.epoch(), worker.predict(), worker.latency(), worker.call(250)) > 0


def test_a_worker_fits_until_the_accuracy_is_reached_and_counts_its_time(tmp_path):
    digits = WORKLOADS["digits"]
    write_samples(digits, tmp_path)
    write_test_samples(digits, tmp_path)
    worker = Worker("numpy", 1)
    worker.prepare(digits, tmp_path)
    before = worker.cpu_seconds()
    first, again = (worker.fit(0.9, 20) for _ in range(2))
    assert [share for *_, share in first] == [share for *_, share in again]
    assert len(first) < 20
    assert all(share < 0.9 for *_, share in first[:-1])
    assert first[-1][2] >= 0.9
    assert all(min(seconds, cpu) > 0 for seconds, cpu, _ in first)
    assert worker.cpu_seconds() - before >= sum(cpu for _, cpu, _ in [*first, *again])
    assert len(worker.fit(1.0, 3)) == 3
    worker.close()


def test_what_a_contestant_cannot_do_is_said(tmp_path):
    worker = Worker("columns", 1)
    write_samples(TINY, tmp_path)
    adam = replace(TINY, optimizer=WORKLOADS["first-adam"].optimizer)
    with pytest.raises(WorkerError, match="not expressible: has no adam"):
        worker.prepare(adam, tmp_path)
    worker.close()


def test_a_network_beyond_the_memory_is_reported(worker, tmp_path):
    write_samples(TINY, tmp_path)
    with pytest.raises(WorkerError, match="MemoryError: Unable to allocate"):
        worker.prepare(replace(TINY, layer_sizes=(4, 10**7, 10**7, 3)), tmp_path)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs Unix signals")
def test_a_crash_is_reported(worker, tmp_path):
    write_samples(TINY, tmp_path)
    os.kill(worker._process.pid, signal.SIGKILL)
    with pytest.raises(WorkerError, match="its process ended with code -9"):
        worker.prepare(TINY, tmp_path)


def test_a_contestant_that_takes_too_long_is_given_up(worker, tmp_path):
    write_samples(TINY, tmp_path)
    with pytest.raises(WorkerError, match="took longer than 0 s"):
        worker.prepare(TINY, tmp_path, limit=0.001)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs affinity")
def test_a_worker_keeps_to_its_cores():
    mine = os.sched_getaffinity(0)
    worker = Worker("numpy", 1)
    assert len(os.sched_getaffinity(worker._process.pid)) == 1
    assert os.sched_getaffinity(0) == mine
    worker.close()


# Reports -------------------------------------------------------------------------------------


MACHINE = {"processor": "a CPU", "cores": "2", "date": "2026-01-01", "numpy": "2.4"}


@pytest.fixture
def report() -> Report:
    report = Report(dict(MACHINE))
    report.peaks["float32/1"] = 1e9
    report.start["import"] = 0.125
    report.tasks["few"] = Task("[4, 8, 3]", "generated", "float32", 100, 20_000_000)
    report.rows = [
        Row("few", "numpy", 1, 0.5, [0.4, 0.2, 0.9], [1e-6], [25e-6]),
        Row("few", "numba", 1, 1.0, [0.1, 0.1, 0.3], [2e-7], [5e-6]),
        Row("few", "jax", 1, failure="jax is not installed"),
    ]
    return report


def test_a_report_compares_with_numpy_and_with_the_peak(report):
    numpy, numba, _ = report.rows
    assert numpy.seconds == 0.4
    assert report.relative_to(numba, "numpy") == pytest.approx(0.25)
    assert report.relative_to(numpy, "numba") == pytest.approx(4.0)
    assert report.share_of_peak(numba) == pytest.approx(0.2)


def test_a_report_prints_its_environment_above_its_tables(report):
    lines = str(report).splitlines()
    assert lines[0].split() == ["processor", "a", "CPU"]
    assert "20%" in next(line for line in lines if line.startswith("numba"))
    assert "jax is not installed" in lines[-1]


def test_a_report_is_saved_and_loaded_whole(report, tmp_path):
    report.save(tmp_path / "result.json")
    assert Report.load(tmp_path / "result.json") == report


def test_the_comparison_names_machine_date_and_every_measured_contestant(report):
    text = markdown(report)
    assert "a CPU, 2 cores, 2026-01-01, numpy 2.4." in text
    assert "| numba | 0.10 |" in text
    assert "jax" not in text


def test_a_report_plots_itself(report, tmp_path):
    pytest.importorskip("matplotlib")
    report.plot(tmp_path / "bars.png")
    assert (tmp_path / "bars.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_expressed_is_said_with_its_reason(report):
    report.rows.append(Row("few", "columns", 1, failure="not expressible: has no adam"))
    report.rows.append(Row("other", "columns", 1, 1.0, [0.5]))
    report.tasks["other"] = report.tasks["few"]
    lines = markdown(report).splitlines()
    assert "| columns | not expressible | 0.50 |" in lines
    assert lines[-1] == "- columns has no adam (few)"


def test_a_report_holds_the_machine_and_its_load():
    facts = environment()
    assert facts["SIMD width"] in ("128 bits", "256 bits", "512 bits")
    assert int(facts["cores"]) == allowed_cores()
    assert machine_name().endswith("core" if facts["cores"] == "1" else "cores")
    if hasattr(os, "getloadavg"):
        assert len(facts["load"].split()) == 3


def test_the_machine_fits_a_line():
    facts = {
        "date": "2026-01-01",
        "processor": "a CPU",
        "SIMD width": "256 bits",
        "caches": "L1d 32 KiB, L2 1 MiB",
        "cores": "2",
        "governor": "performance",
        "load": "0.10 0.20 0.30",
        "system": "Linux",
        "numpy": "2.4",
    }
    assert machine_line(facts) == (
        "a CPU, 2 cores, 256-bit vectors, L1d 32 KiB, L2 1 MiB, governor performance, "
        "load 0.10 before, 2026-01-01, numpy 2.4"
    )


def test_caches_are_those_for_data_of_the_first_core(tmp_path: Path):
    for i, (level, kind, size) in enumerate(
        [("1", "Data", "48K"), ("1", "Instruction", "32K"), ("2", "Unified", "1280K")]
    ):
        folder = tmp_path / "cache" / f"index{i}"
        folder.mkdir(parents=True)
        for name, text in (("level", level), ("type", kind), ("size", size)):
            (folder / name).write_text(text + "\n")
    assert _caches(tmp_path) == "L1d 48 KiB, L2 1.25 MiB"
    assert _caches(tmp_path / "nowhere") == ""


def readme_after(reports, tmp_path, monkeypatch, text: str) -> str:
    """Return what bench/table.py makes of a README, by the results of some machines."""
    path = Path(__file__).parents[1] / "bench" / "table.py"
    specification = importlib.util.spec_from_file_location("table", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    results = tmp_path / "results"
    results.mkdir(exist_ok=True)
    for i, report in enumerate(reports):
        report.save(results / f"machine-{i}.json")
    readme = tmp_path / "README.md"
    readme.write_text(text, encoding="utf-8")
    picture = str(tmp_path / "speed.svg")
    arguments = ["table.py", "--results", str(results), "--readme", str(readme)]
    arguments += ["--picture", picture]
    monkeypatch.setattr("sys.argv", arguments)
    module.main()
    assert ">pytorch<" in Path(picture).read_text(encoding="utf-8")
    return readme.read_text(encoding="utf-8")


def test_the_readme_has_a_table_for_every_machine_between_its_marks(report, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    old = (
        "before\n<!-- comparison table: begin (x) -->\nold\n<!-- comparison table: end -->\nafter\n"
    )
    other = replace(report, environment={**MACHINE, "processor": "another CPU"})
    once = readme_after([report, other], tmp_path, monkeypatch, old)
    assert "old" not in once
    assert once.startswith("before\n")
    assert once.endswith("after\n")
    assert f"{markdown(report)}\n\n{markdown(other)}" in once
    assert readme_after([report, other], tmp_path, monkeypatch, once) == once


# The command ---------------------------------------------------------------------------------


def test_the_command_measures_and_writes(tmp_path, capsys):
    path = tmp_path / "result.json"
    words = "bench --workloads width-8 --contestants numpy --threads 1 --rounds 2 --json"
    assert cli.main([*words.split(), str(path)]) == 0
    output = capsys.readouterr().out
    assert "width-8: [8, 8, 8, 10]" in output
    assert output.splitlines()[0].startswith("date")
    (row,) = json.loads(path.read_text())["rows"]
    assert (row["contestant"], len(row["epoch_seconds"])) == ("numpy", 2)


@pytest.mark.parametrize(
    ("kind", "words", "said"),
    [
        (Predictions, "--predict --workloads tiny", "microseconds of a call"),
        (Fits, "--accuracy --workloads digits", "until 97.50% of the test rows are right"),
        (Sweep, "--sweep batch", "picoseconds of a multiply-add"),
    ],
)
def test_the_command_measures_other_things(kind, words: str, said: str, tmp_path, capsys):
    """Each in its quick form, into a folder, where the file has the machine's name."""
    words = f"bench {words} --quick --contestants numpy --threads 1 --json {tmp_path}"
    assert cli.main(words.split()) == 0
    assert said in capsys.readouterr().out
    assert said in str(kind.load(tmp_path / f"{machine_name()}.json"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rounds", "0"], "--rounds must be above 0, got 0"),
        (["--threads", "0"], "--threads must be 1 to"),
        (["--json", "nowhere/result.json"], "--json: the folder"),
        (["--accuracy", "97.5"], "--accuracy must be above 0 and at most 1, got 97.5"),
        (["--predict", "--plot", "x.svg"], "--plot goes with training, not with --predict"),
        (["--sweep", "--workloads", "tiny"], "--sweep has networks of its own"),
    ],
)
def test_wrong_options_are_refused_at_once(words: list[str], message: str, capsys):
    assert cli.main(["bench", *words]) == 2
    assert message in capsys.readouterr().err


# The machine's peak --------------------------------------------------------------------------


def test_the_peak_kernel_multiplies_and_adds_as_often_as_it_says():
    pytest.importorskip("numba")
    from fastmlp.backends.numba_backend.compiled import compiled
    from fastmlp.backends.numba_backend.products.heights import FULL

    a, w = np.array([3.0]), np.arange(8.0)
    out = np.zeros(len(FULL) * 8)
    compiled("multiply_add", np.dtype("float64"))(a, w, out, 1000)
    np.testing.assert_array_equal(out.reshape(-1, 8), np.tile(3000 * w, (len(FULL), 1)))
