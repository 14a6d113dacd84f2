"""Random settings: the backends agree with each other, with themselves, and with an oracle.

``FASTMLP_DIFFERENTIAL=20000 python -m pytest tests/differential`` tries so many; `run.py` does too,
and simplifies those that disagree.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from numba import config

from fastmlp.backends import get_backend
from tests.broken_backends import mutants
from tests.differential.compare import disagreements, disagreements_with_oracle
from tests.differential.generator import draw

RUN = Path(__file__).with_name("run.py")
#: How many settings one test tries: a failure names each that disagrees.
SPAN = 20
WANTED = int(os.environ.get("FASTMLP_DIFFERENTIAL", "0"))

jitted_only = pytest.mark.skipif(config.DISABLE_JIT, reason="too much for plain Python")


def assert_agreement(first: int, check) -> None:
    wrong = {seed: reasons for seed in range(first, first + SPAN) if (reasons := check(draw(seed)))}
    assert not wrong, f"replay by `python {RUN} --seed {next(iter(wrong))}`"


@jitted_only
@pytest.mark.parametrize("first", range(0, WANTED or 4 * SPAN, SPAN))
def test_numba_agrees_with_the_reference(first: int):
    assert_agreement(first, lambda setting: disagreements(setting, get_backend("numba")))


@jitted_only
@pytest.mark.slow
@pytest.mark.parametrize("first", range(10_000, 10_000 + 15 * SPAN, SPAN))
def test_numba_agrees_with_the_reference_in_many_settings(first: int):
    assert_agreement(first, lambda setting: disagreements(setting, get_backend("numba")))


@pytest.mark.parametrize("first", range(20_000, 20_000 + 3 * SPAN, SPAN))
def test_the_reference_agrees_with_automatic_differentiation(first: int):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle, and not installed")
    torch.set_num_threads(1)
    assert_agreement(first, lambda setting: disagreements_with_oracle(setting, torch))


@pytest.mark.parametrize(
    "broken",
    [
        mutants.AveragesTooSlowly,
        mutants.ClipsByTheWrongNorm,
        mutants.ComputesInHalfPrecision,
        mutants.CountsAdamsStepsFromZero,
        mutants.ForgetsMaxNorm,
        mutants.LeavesTheLastInputsOutOfItsScale,
        mutants.LeavesTheLastPanelOutOfItsScale,
        mutants.NeverUpdatesItsScale,
        mutants.RestartsItsStepsAtEveryCall,
        mutants.SkipsTheBiasGradient,
    ],
)
def test_broken_backends_disagree(broken):
    backend = mutants.WrongBackend(broken)
    assert any(disagreements(draw(seed), backend) for seed in range(4 * SPAN))


@jitted_only
@pytest.mark.slow
def test_small_networks_agree_on_every_path_of_the_kernels():
    command = [sys.executable, str(RUN), "--lowered", "--settings", "400", "--start", "30000"]
    child = subprocess.run(command, capture_output=True, text=True)
    assert child.returncode == 0, child.stdout + child.stderr
