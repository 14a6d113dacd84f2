"""A notebook runs from top to bottom, and shows progress, histories, plots and estimators."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from fastmlp import History
from fastmlp._progress import Bar, Lines, display

NOTEBOOK = Path(__file__).parents[1] / "docs" / "notebooks" / "first_model.ipynb"


@pytest.fixture(scope="module")
def outputs() -> list[list[Any]]:
    """Return what every cell of code shows."""
    for package in ("ipykernel", "matplotlib", "sklearn"):
        pytest.importorskip(package, reason="notebooks run with fastmlp[docs]")
    nbformat = pytest.importorskip("nbformat", reason="notebooks run with fastmlp[docs]")
    preprocessors = pytest.importorskip("nbconvert.preprocessors")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MPLBACKEND", raising=False)  # a notebook has its own
        preprocessors.ExecutePreprocessor(timeout=300, kernel_name="python3").preprocess(notebook)
    return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]


def shown(cell: list[Any]) -> set[str]:
    """Return the kinds of what a cell shows."""
    return {kind for output in cell for kind in output.get("data", {})}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_notebook_shows_what_it_makes(outputs: list[list[Any]]) -> None:
    progress, history, plot, scores, estimator, score = outputs
    assert {output.name for output in progress if output.output_type == "stream"} == {"stderr"}
    assert "Epoch 10/10  loss" in "".join(output.get("text", "") for output in progress)
    assert "Warning" not in str(progress)
    assert "text/html" in shown(history)
    assert "image/png" in shown(plot)
    assert shown(scores) == shown(score) == {"text/plain"}
    assert "text/html" in shown(estimator)


def test_a_history_is_a_table_of_html() -> None:
    history = History([{"epoch": 1, "a<b": 0.5}, {"epoch": 2}])
    assert history._repr_html_() == (
        "<table>\n<tr><th>epoch</th><th>a&lt;b</th></tr>\n"
        "<tr><td>1</td><td>0.5000</td></tr>\n<tr><td>2</td><td></td></tr>\n</table>"
    )
    assert History()._repr_html_() == "<p>History of no epoch</p>"


def test_a_notebook_without_widgets_has_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where tqdm would draw its bar with characters, over and over, and warn."""
    pytest.importorskip("tqdm")
    monkeypatch.setitem(sys.modules, "ipykernel", object())
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert isinstance(display(True, 1, 2, 3), Lines)
    monkeypatch.delitem(sys.modules, "ipykernel")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    bar = display(True, 1, 2, 3)
    assert isinstance(bar, Bar)
    bar.close()
