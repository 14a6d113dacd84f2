"""Fixtures that every test file may use."""

from __future__ import annotations

import gzip
import importlib.util
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from fastmlp.backends import Backend, get_backend

# Whatever libraries of kernels lie about, tests are of what Numba compiles; test_prebuilt.py is of
# libraries.
os.environ.setdefault("FASTMLP_KERNELS", "jit")

#: They import PyTorch, which tests do without: doctests are looked for in every module.
_OF_TORCH = ["torch_backend.py", "differential/oracle.py"]
collect_ignore = [] if importlib.util.find_spec("torch") else _OF_TORCH

# A deadline would be a test of wall-clock time: the first call of a kernel compiles it.
# In CI the examples are always the same, so that its verdict depends on the code alone.
settings.register_profile(
    "fast", max_examples=25, deadline=None, derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("fast")


@pytest.fixture(autouse=True)
def _teams_for_little_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give small networks the threads that tests ask for, as only large ones have otherwise."""
    monkeypatch.setattr("fastmlp.backends.numba_backend.team.choice.WORTH_A_THREAD", 1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Give estimators without a random_state the same draws in every run."""
    np.random.seed(0)  # noqa: NPY002 (scikit-learn draws from the global state)


@pytest.fixture(autouse=True)
def _jax_stays_as_it_is() -> Iterator[None]:
    """See that no test leaves JAX's float64 on, which would hide faults of those that follow."""
    yield
    assert "jax" not in sys.modules or not sys.modules["jax"].config.jax_enable_x64


def pack_idx(array: np.ndarray) -> bytes:
    """Return an array of unsigned bytes as a packed idx file."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 0x08, array.ndim, *array.shape)
    return gzip.compress(header + array.tobytes(), mtime=0)


@pytest.fixture
def idx_folder(tmp_path: Path) -> Path:
    """Return a folder with the four files of a tiny data set in MNIST's format."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "web"
    folder.mkdir()
    for part, n_images in (("train", 5), ("t10k", 3)):
        images = rng.integers(0, 256, (n_images, 4, 3), dtype=np.uint8)
        labels = np.arange(n_images, dtype=np.uint8)
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(pack_idx(images))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(pack_idx(labels))
    return folder


@pytest.fixture
def mnist_folder() -> Path:
    """Return the local folder of MNIST; a test that asks for it is skipped where there is none."""
    folder = Path(os.environ.get("FASTMLP_DATA", ""), "mnist")
    if not os.environ.get("FASTMLP_DATA") or not folder.is_dir():
        pytest.skip("FASTMLP_DATA names no folder that holds mnist/")
    return folder


@pytest.fixture(params=["numpy", "numba"], scope="session")
def backend(request: pytest.FixtureRequest) -> Backend:
    """Return each of our backends; all must pass the same tests."""
    return get_backend(request.param)
