"""Numba's other users in the process: nothing that they compile is typed or runs differently."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from numba import config

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is compiled"),
]


def seen(way: str, folder: Path) -> list[Any]:
    environment = {**os.environ, "FASTMLP_CACHE_DIR": str(folder)}
    child = subprocess.run(
        [sys.executable, Path(__file__).with_name("foreign.py"), way],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Any:
    (look,) = seen("alone", tmp_path_factory.mktemp("alone"))
    return look


def test_other_code_compiles_to_the_same_before_and_while_ours_does(alone, tmp_path: Path):
    before, *during, after = seen("around", tmp_path)
    assert during
    for look in (before, *during, after):
        assert look == {name: alone[name] for name in look}


def test_other_code_compiles_to_the_same_where_ours_came_first(alone, tmp_path: Path):
    assert seen("after", tmp_path) == [alone]


def test_nothing_of_numbas_changes_before_while_or_after_ours_compiles(tmp_path: Path):
    changes = seen("changes", tmp_path)
    assert len(changes) > 1
    assert all(found == [] for found in changes), changes
