"""The scripts and the README's Python run: on a handful of images here, on MNIST when slow."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fastmlp import datasets

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


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


def test_the_readme_is_right(monkeypatch, tmp_path):
    """Its blocks of Python run in order, as one program."""
    pytest.importorskip("sklearn")
    monkeypatch.setattr(datasets, "load_mnist", handful)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert blocks
    program: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), program)


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
