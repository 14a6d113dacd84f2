"""Data larger than memory: read from the file in pieces, never held whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastmlp import MLP, Trainer
from fastmlp import _mapped as mapped

MEASURE = """
import sys
import numpy as np
from fastmlp import MLP, Trainer

path, dtype, n_rows, epochs, backend = *sys.argv[1:3], *map(int, sys.argv[3:5]), sys.argv[5]
X = np.memmap(path, dtype=dtype, mode="r", shape=(n_rows, 784))
network = MLP([784, 16, 10], input_scale=1 / 255)
trainer = Trainer(network, batch_size=256, backend=backend)
trainer.fit(X, np.arange(n_rows) % 10, epochs=epochs, verbose=False)
trainer.evaluate(X[: n_rows // 4], np.arange(n_rows // 4) % 10)
for line in open("/proc/self/status"):
    if line.startswith("VmHWM"):
        print(int(line.split()[1]) // 1024)
"""


def make_map(path: Path, dtype: str = "float32", mode: str = "r") -> np.memmap:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 2, (90, 3)).astype(dtype)
    rows.tofile(path)
    return np.memmap(path, dtype=dtype, mode=mode, shape=rows.shape)


def peak_megabytes(path: Path, dtype: str, n_bytes: int, epochs: int, backend: str) -> int:
    n_rows = n_bytes // (784 * np.dtype(dtype).itemsize)
    with path.open("wb") as file:
        file.truncate(n_rows * 784 * np.dtype(dtype).itemsize)  # a file of zeros takes no disk
    command = [sys.executable, "-c", MEASURE, str(path), dtype, str(n_rows), str(epochs), backend]
    return int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_a_memory_map_trains_like_the_array(backend, dtype, mode, tmp_path):
    X = make_map(tmp_path / "X.bin", dtype, mode)
    y = np.arange(len(X)) % 2
    networks = []
    for rows in (X, np.array(X)):
        trainer = Trainer(MLP([3, 4, 2]), optimizer="adam", batch_size=8, backend=backend)
        trainer.fit(rows, y, 3, (rows, y), sample_weight=np.arange(1.0, 91), verbose=False)
        networks.append(trainer.network)
    np.testing.assert_array_equal(networks[0].parameters, networks[1].parameters)


@pytest.mark.parametrize("view", [lambda X: X, lambda X: X[5:50], np.asarray, lambda X: X[:, ::-1]])
def test_views_of_shared_maps_are_known(view, tmp_path):
    assert mapped.is_mapped(view(make_map(tmp_path / "X.bin")))


def test_arrays_and_private_maps_are_left_alone(tmp_path):
    X = make_map(tmp_path / "X.bin", mode="c")
    X[0] = 7
    mapped.release_pages(X)
    assert np.all(X[0] == 7), "a change that is in no file would be lost"
    assert not mapped.is_mapped(np.ones(3))


def test_changes_of_a_shared_map_survive_a_release(tmp_path):
    X = make_map(tmp_path / "X.bin", mode="r+")
    X[0] = 7
    mapped.release_pages(X)
    assert np.all(X[0] == 7)


@pytest.mark.parametrize("resident", [None, 0, 10**6])
def test_rows_are_gathered_in_order(resident, tmp_path, monkeypatch):
    steps = iter(range(0, 10**9, resident or 1))
    monkeypatch.setattr(mapped, "_resident_bytes", lambda: resident and next(steps) * 10**3)
    X = make_map(tmp_path / "X.bin")
    rows = np.random.default_rng(1).permutation(90)
    np.testing.assert_array_equal(mapped.gather_rows(X, rows), np.array(X)[rows])


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_a_map_is_not_held_whole(dtype, tmp_path):
    n_bytes = 2**29
    assert peak_megabytes(tmp_path / "X.bin", dtype, n_bytes, 1, "numpy") < 400


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_a_map_of_4_gigabytes_trains_within_500_megabytes(backend, tmp_path):
    assert peak_megabytes(tmp_path / "X.bin", "float32", 2**32, 1, backend.name) < 500
