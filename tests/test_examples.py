"""The scripts of bench/ run: on a handful of images here, on MNIST when slow."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


def script(name: str) -> ModuleType:
    """Return a script of bench/ as a module."""
    specification = importlib.util.spec_from_file_location(name, ROOT / "bench" / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def accuracies(output: str) -> list[float]:
    return [float(value) for value in re.findall(r"test accuracy (\d\.\d+)", output)]


def handful():
    """Return a few images of MNIST's shape: ten patterns with noise."""
    rng = np.random.default_rng(0)
    patterns = rng.random((10, 784), dtype=np.float32)
    labels = np.tile(np.arange(10), 20)
    images = patterns[labels] + 0.1 * rng.random((200, 784), dtype=np.float32)
    return (images, labels), (images[:50], labels[:50])


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_the_original_networks_are_trained(name: str, monkeypatch, capsys):
    originals = script("originals")
    monkeypatch.setattr(originals, "load_mnist", handful)
    originals.main(["--backend", name, "--epochs", "2"])
    output = capsys.readouterr().out
    assert len(accuracies(output)) == len(originals.RUNS) == output.count("2 epochs")


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_the_recipe_learns_a_handful(name: str, monkeypatch, capsys):
    recipe = script("recipe_mnist")
    monkeypatch.setattr(recipe, "load_mnist", handful)
    recipe.main(["--backend", name, "--epochs", "20"])
    assert accuracies(capsys.readouterr().out) == [1.0]


@pytest.mark.slow
def test_the_original_networks_learn_mnist(mnist_folder, capsys):
    originals = script("originals")
    originals.main([])
    first, _, *second = accuracies(capsys.readouterr().out)
    assert first >= 0.945
    assert min(second) >= 0.93


@pytest.mark.slow
def test_the_recipe_reaches_its_accuracy(mnist_folder, capsys):
    script("recipe_mnist").main([])
    assert accuracies(capsys.readouterr().out)[0] >= 0.985


@pytest.mark.slow
def test_mnist_goes_all_the_way_to_a_service(mnist_folder, tmp_path):
    """The commands of the worked example, with an epoch of each network."""
    pytest.importorskip("fastmlp.serving", exc_type=ImportError)
    commands = Path(sys.executable).parent
    for needed in ("bash", "curl", "fastmlp"):
        if not shutil.which(needed, path=f"{commands}{os.pathsep}{os.environ['PATH']}"):
            pytest.skip(f"there is no {needed}")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    run = subprocess.run(
        [ROOT / "bench" / "mnist_service.sh", tmp_path],
        capture_output=True,
        text=True,
        timeout=300,
        env={
            **os.environ,
            "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
            "EPOCHS": "1",
            "PORT": str(port),
            "BACKEND": "numpy",
        },
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr.endswith("fastmlp: ended\n")
    evaluated = [
        float(value) for value in re.findall(r"^accuracy: (\S+)", run.stdout, re.MULTILINE)
    ]
    assert evaluated[0] > 0.85
    assert evaluated[1] > 0.7
    answers = [json.loads(line) for line in run.stdout.splitlines() if line.startswith('{"model"')]
    assert [answer["model"] for answer in answers] == ["first", "second"]
    for answer in answers:
        with open(tmp_path / f"{answer['model']}.csv", newline="") as file:
            rows = [[float(cell) for cell in row] for row in list(csv.reader(file))[1:]]
        assert len(rows) == 10_000
        assert answer["predictions"] == [row[0] for row in rows[:2]]
        np.testing.assert_allclose(
            answer["probabilities"], [row[1:] for row in rows[:2]], atol=1e-3
        )


@pytest.mark.slow
def test_a_service_answers_several_clients_without_an_error(capsys):
    pytest.importorskip("fastmlp.serving", exc_type=ImportError)
    options = ["--clients", "2", "--seconds", "1", "--rows", "3", "--backend", "numpy"]
    assert script("serve_load").main(options) == 0
    said = capsys.readouterr().out
    assert said.startswith("2 clients")
    assert " 0 errors" in said
