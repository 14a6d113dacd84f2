"""Every public name has an entry in the reference, and an example that runs."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

import fastmlp

pytest.importorskip("sklearn", reason="fastmlp.sklearn is public")
pytest.importorskip("fastapi", reason="fastmlp.serving is public")
pytest.importorskip("sphinx", reason="the reference is made with fastmlp[docs]")


def _module(name: str) -> ModuleType:
    path = Path(__file__).parents[1] / "docs" / f"{name}.py"
    specification = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


REFERENCE = _module("public_names")
MODULES = [importlib.import_module(name) for name in REFERENCE.PAGES]
NAMES = [(module, name) for module in MODULES for name in REFERENCE.public_names(module)]


def test_every_public_module_has_a_page() -> None:
    """A module is public by its name; inner rooms are those that the reference names."""
    assert set(REFERENCE.public_modules()) - {"fastmlp"} == set(REFERENCE.PAGES)


def test_every_name_of_the_package_has_an_entry(tmp_path: Path) -> None:
    REFERENCE.write_reference(tmp_path)
    text = "".join(path.read_text(encoding="utf-8") for path in tmp_path.glob("*.rst"))
    for name in fastmlp.__all__:
        assert f":: fastmlp.{name}\n" in text, name
    for module, name in NAMES:
        assert f":: {REFERENCE.shown_name(module, name)}\n" in text, name


@pytest.mark.parametrize(
    ("module", "name"), NAMES, ids=[f"{module.__name__}.{name}" for module, name in NAMES]
)
def test_every_public_name_has_an_example(module: ModuleType, name: str) -> None:
    """Examples run as doctests of the modules that they are written in."""
    assert ">>> " in (getattr(module, name).__doc__ or "")


def test_a_page_that_says_the_same_is_left_as_it_is(tmp_path: Path) -> None:
    """So that Sphinx reads only what changed."""
    REFERENCE.write_reference(tmp_path)
    (tmp_path / "gone.rst").write_text("a module that is no more")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("fastmlp*.rst")}
    REFERENCE.write_reference(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.rst")} == {
        **before,
        tmp_path / "index.rst": (tmp_path / "index.rst").stat().st_mtime_ns,
    }
