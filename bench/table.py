"""Write the comparison of a measured result into the README.

python bench/table.py bench/results/NAME.json
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from fastmlp.benchmark.report import Report, markdown

README = Path(__file__).parents[1] / "README.md"
TABLE = re.compile(
    r"<!-- comparison table: begin.*?-->.*?<!-- comparison table: end -->", flags=re.DOTALL
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", type=Path, help="what `fastmlp bench --json` wrote")
    parser.add_argument("--readme", type=Path, default=README)
    options = parser.parse_args()
    table = markdown(Report.load(options.result))
    text = options.readme.read_text(encoding="utf-8")
    if not TABLE.search(text):
        parser.error(f"{options.readme.name} has no comments that mark the comparison table")
    begin = f"<!-- comparison table: begin (python bench/table.py {options.result.as_posix()}) -->"
    block = f"{begin}\n{table}\n<!-- comparison table: end -->"
    options.readme.write_text(TABLE.sub(lambda _: block, text), encoding="utf-8")


if __name__ == "__main__":
    main()
