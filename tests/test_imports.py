"""``import fastmlp`` is cheap: it loads NumPy and nothing else that is heavy."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = [
    "numba",
    "llvmlite",
    "sklearn",
    "scipy",
    "matplotlib",
    "tqdm.notebook",
    "pooch",
    "safetensors",
]
NEW_MODULES = """
import json, sys
import numpy.random
before = set(sys.modules)
{statement}
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def modules_loaded_by(statement: str) -> list[str]:
    """Return what a fresh Python loads for a statement, beyond NumPy."""
    run = subprocess.run(
        [sys.executable, "-c", NEW_MODULES.format(statement=statement)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "statement",
    [
        "import fastmlp",
        "import fastmlp.datasets",
        "import fastmlp.cli",
        "from fastmlp import MLP; MLP([2, 3, 2]).predict([1.0, 2.0])",
        "from fastmlp.backends import get_backend; get_backend('numpy')",
        "from fastmlp.datasets import load_digits; load_digits()",
    ],
)
def test_only_numpy_is_loaded(statement: str):
    loaded = modules_loaded_by(statement)
    assert "fastmlp.network" in loaded or "fastmlp.datasets" in loaded
    ours_or_pythons = {"fastmlp", "numpy", *sys.stdlib_module_names}
    assert [name for name in loaded if name.partition(".")[0] not in ours_or_pythons] == []


@pytest.mark.parametrize("name", HEAVY)
def test_heavy_packages_wait_until_they_are_used(name: str):
    assert name not in modules_loaded_by("import fastmlp")


def test_the_measurement_sees_what_is_loaded():
    assert "csv" in modules_loaded_by("import csv")
    assert "fastmlp.network" in modules_loaded_by("import fastmlp")


def test_every_public_name_exists():
    import fastmlp

    assert all(hasattr(fastmlp, name) for name in fastmlp.__all__)
    assert len(set(fastmlp.__all__)) == len(fastmlp.__all__)
