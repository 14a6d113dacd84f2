"""Code of the README and of the site's pages runs, and prints what they show."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fastmlp import datasets

DOCS = Path(__file__).parents[1] / "docs"


def script(name: str) -> ModuleType:
    """Return a module of docs/."""
    specification = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


PAGES = script("pages")


@pytest.fixture(autouse=True)
def _as_readers_have_it(monkeypatch: pytest.MonkeyPatch):
    for package in ("matplotlib", "onnx", "pandas", "polars", "safetensors", "sklearn"):
        pytest.importorskip(package, reason="pages use all extras: fastmlp[docs]")
    pyplot = importlib.import_module("matplotlib.pyplot")
    monkeypatch.setattr(pyplot, "show", lambda: None)
    yield
    pyplot.close("all")


def handful():
    """Return a few images of MNIST's shape: ten patterns with noise."""
    rng = np.random.default_rng(0)
    patterns = rng.random((10, 784), dtype=np.float32)
    labels = np.tile(np.arange(10), 20)
    images = patterns[labels] + 0.1 * rng.random((200, 784), dtype=np.float32)
    return (images, labels), (images[:50], labels[:50])


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES.pages(), ids=lambda path: path.name)
def test_the_code_of_a_page_runs_and_prints_what_it_shows(page: Path, tmp_path: Path, monkeypatch):
    """On a handful of images in the place of MNIST, which takes minutes."""
    monkeypatch.setattr(datasets, "load_mnist", handful)
    assert list(PAGES.differences(page, tmp_path)) == []


def test_a_page_is_told_apart_from_what_its_code_prints(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    for shown, right in [("0.50 s", True), ("0.51 s", True), ("0.60 s", False), ("1 s", False)]:
        page.write_text(f"```python\nprint('0.50 s')\n```\n\n```text\n{shown}\n```\n")
        assert (list(PAGES.differences(page, tmp_path)) == []) == right, shown


def test_code_that_fails_fails_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nx = 1\n```\n\n```python\ny = x / 0\n```\n")
    with pytest.raises(ZeroDivisionError):
        PAGES.run_page(page, tmp_path)
    page.write_text("```sh\nfalse\ntrue\n```\n")
    with pytest.raises(RuntimeError, match=r"page\.md, line 2"):
        PAGES.run_page(page, tmp_path)


def test_printed_output_can_be_written_into_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("A\n\n```python\nprint(6 * 7)\n```\n\n```text\n?\n```\n\nB\n")
    PAGES.write_outputs(page, tmp_path)
    assert page.read_text() == "A\n\n```python\nprint(6 * 7)\n```\n\n```text\n42\n```\n\nB\n"
