"""The kernels on another kind of processor: compiled for aarch64, and run there by an emulator."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest
from numba import config

CHILD = Path(__file__).with_name("aarch64.py")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is compiled"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="compiles x86's own instructions"),
]


@pytest.fixture(params=["float32", "float64"], scope="module")
def output(request, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("aarch64")
    child = subprocess.run(
        [sys.executable, str(CHILD), request.param, str(folder)], capture_output=True, text=True
    )
    assert child.returncode == 0, child.stderr
    return child.stdout


def test_sums_of_tiles_are_multiplied_and_added_at_once(output: str):
    counts = dict(line.rsplit(" ", 1) for line in output.splitlines()[:2])
    assert int(counts["multiply-adds"]) > 500
    assert int(counts["calls for them"]) == 0


def test_training_there_is_training_here(output: str):
    outcome = output.splitlines()[-1]
    if outcome.startswith("cannot run"):
        pytest.skip(outcome)
    assert outcome == "trained"
