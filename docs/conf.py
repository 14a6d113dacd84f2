"""How Sphinx builds the site: sphinx-build -W docs build/site."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import os
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE.parent / "bench" / "results"
sys.path.insert(0, str(HERE))  # for what lies beside this file

from public_names import write_reference

import fastmlp
from fastmlp import build_kernels
from fastmlp.benchmark import fits, predictions
from fastmlp.benchmark.report import Report, markdown
from fastmlp.cli import main

project = "fastmlp"
author = "The fastmlp maintainers"
copyright = author
version = release = fastmlp.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["gallery", "notebooks", "measured.md"]
default_role = "py:obj"
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"fastmlp {version}"
html_copy_source = False

autodoc_default_options = {"members": True, "show-inheritance": True, "member-order": "bysource"}
autodoc_typehints = "signature"
napoleon_google_docstring = False
# Types in docstrings are prose: "ndarray of shape (n_parameters,)" is a link to nothing.
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_use_ivar = True
strip_signature_backslash = True  # so that attributes keep the underscore at their end

# The first layer of a network that reads MNIST is drawn where MNIST is at hand.
_everywhere = r"/plot_(?!first_layer)"
sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "pictures",
    "filename_pattern": r"/plot_" if os.environ.get("FASTMLP_DATA") else _everywhere,
    "download_all_examples": False,
    "show_memory": False,
    "min_reported_time": 1e9,
    "write_computation_times": False,
    "remove_config_comments": True,
    "abort_on_example_error": True,
}


def skip_generated(app: Any, what: str, name: str, value: Any, skip: bool, options: Any) -> Any:
    """Leave out the methods that scikit-learn brings: set_fit_request and its kin."""
    ours = (getattr(value, "__module__", None) or "fastmlp").startswith("fastmlp")
    made = re.fullmatch(r"set_\w+_request", name)
    return True if made or (inspect.isroutine(value) and not ours) else None


def help_of(*words: str) -> str:
    """Return what the command line says of itself after some words."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    return said.getvalue()


def command_line() -> str:
    """Return the page of the command line: what `--help` says of every command."""
    commands = re.findall(r"^    (\w+) ", help_of(), flags=re.MULTILINE)
    helps = {f"fastmlp {name}": help_of(name) for name in commands}
    builder = build_kernels.parser()
    helps[builder.prog] = builder.format_help()
    texts = [f"## {name}\n\n```text\n{said}```\n" for name, said in helps.items()]
    return "\n".join(["# Command line\n", *texts])


def measured() -> str:
    """Return what was measured: a table for every machine, of epochs, fits and predictions."""
    tables = []
    for folder, result, table in (
        (RESULTS, Report, markdown),
        (RESULTS / "fits", fits.Fits, fits.markdown),
        (RESULTS / "predictions", predictions.Predictions, predictions.markdown),
    ):
        tables += [table(result.load(path)) for path in sorted(folder.glob("*.json"))]
    return "\n\n".join(tables) + "\n"


def without_ways_back(app: Any, name: str, template: str, context: Any, doctree: Any) -> None:
    """Take the links to the reference from pages of source: they take each name's first home."""
    if name.startswith("_modules/"):
        context["body"] = re.sub(r'<a class="viewcode-back".*?</a>', "", context["body"])


def setup(app: Any) -> None:
    """Write what is made of code and results before Sphinx looks for pages."""
    os.environ["COLUMNS"] = "80"  # how wide the help of commands is
    logging.getLogger("fastmlp").setLevel(logging.WARNING)  # no line for every epoch
    app.connect("autodoc-skip-member", skip_generated)
    app.connect("html-page-context", without_ways_back)
    write_reference(HERE / "reference")
    (HERE / "command-line.md").write_text(command_line(), encoding="utf-8")
    (HERE / "measured.md").write_text(measured(), encoding="utf-8")
