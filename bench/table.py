"""Write the comparison of every machine's results into the README, and draw the picture above it.

python bench/table.py
"""

from __future__ import annotations

import argparse
import re
import runpy
from pathlib import Path
from typing import Any

from fastmlp.benchmark.report import Report, markdown

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PICTURE = ROOT / "docs" / "speed.svg"
RESULTS = ROOT / "bench" / "results"
TABLE = re.compile(
    r"<!-- comparison table: begin.*?-->.*?<!-- comparison table: end -->", flags=re.DOTALL
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--results",
        type=Path,
        default=RESULTS,
        help="where `fastmlp bench --json` wrote a file each",
    )
    parser.add_argument("--readme", type=Path, default=README)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    options = parser.parse_args()
    tables = [markdown(Report.load(path)) for path in sorted(options.results.glob("*.json"))]
    if not tables:
        parser.error(f"{options.results} has no results")
    text = options.readme.read_text(encoding="utf-8")
    if not TABLE.search(text):
        parser.error(f"{options.readme.name} has no comments that mark the comparison table")
    begin = "<!-- comparison table: begin (python bench/table.py) -->"
    block = "\n".join([begin, "\n\n".join(tables), "<!-- comparison table: end -->"])
    options.readme.write_text(TABLE.sub(lambda _: block, text), encoding="utf-8")
    draw(options.picture)


def draw(picture: Path) -> None:
    """Write what the gallery draws of the committed result, its texts as texts."""
    import matplotlib as mpl

    mpl.use("agg")
    # Equal results are equal files.
    plain: dict[str, Any] = {"svg.fonttype": "none", "svg.hashsalt": "fastmlp"}
    with mpl.rc_context(plain):
        figure = runpy.run_path(str(ROOT / "docs" / "gallery" / "plot_speed.py"))["figure"]
        figure.savefig(picture, metadata={"Date": None})


if __name__ == "__main__":
    main()
