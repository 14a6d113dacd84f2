"""Run the code of a page as a reader would: in order, in a fresh folder.

python docs/pages.py            # write what the code of every page prints into the page
python docs/pages.py PAGE.md    # of one page

In a page's Markdown,

- blocks of ``python`` run one after another as one program, and blocks of ``sh`` in a shell, in the
  same folder; both must succeed. In the folder lie the files that pages call the reader's own;
- lines that install, that run the tests of this repository (as .ci/run does), or that serve until
  they are stopped are left out; and so are commands that read MNIST, where FASTMLP_DATA names no
  folder;
- a block of ``text`` right below is what the code printed: its numbers may differ by a
  twentieth from machine to machine, all else is the same, and ``...`` stands for anything;
- a comment ``<!-- needs: mnist -->`` above a block, or ``needs: torch``, says where the block runs:
  where FASTMLP_DATA names a folder, or a package is installed;
- ``<!-- not run: WHY -->`` above a block says why it does not run.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(
    r"(?:<!-- (?P<why>needs|not run): (?P<what>[^>]*?) -->\n)?"
    r"^```(?P<language>[^\n]*)\n(?P<code>.*?)^```\n"
    r"(?:\n```text\n(?P<output>.*?)^```\n)?",
    flags=re.DOTALL | re.MULTILINE,
)
#: Languages of blocks that run; others only show something.
_RUN = ("python", "sh")
_NUMBER = re.compile(r"-?\d+\.\d+(?:e[-+]\d+)?")
_LEFT_OUT = re.compile(r"^(pip install|pytest|python -m pytest|sphinx-build|fastmlp serve [^&]*$)")


@dataclass(frozen=True)
class Block:
    """A piece of code on a page."""

    language: str
    code: str
    #: What stands below it as its output, and where in the page; None if nothing does.
    output: str | None
    output_span: tuple[int, int]
    line: int
    needs: str | None = None
    not_run: str | None = None


def pages() -> list[Path]:
    """Return all pages that hold code: those of the site, and the README."""
    written = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [path for path in written if blocks(path.read_text(encoding="utf-8"))]


def blocks(text: str) -> list[Block]:
    """Return the blocks of a page that are to run, in order."""
    found = []
    for match in _BLOCK.finditer(text):
        language = match["language"].strip()
        if language in _RUN:
            why = {match["why"]: match["what"]}
            line = text.count("\n", 0, match.start("code")) + 1
            span = match.span("output")
            found.append(
                Block(
                    language,
                    match["code"],
                    match["output"],
                    span,
                    line,
                    why.get("needs"),
                    why.get("not run"),
                )
            )
    return found


def runs_here(block: Block) -> bool:
    """Return whether a block's needs are met on this machine."""
    if block.not_run is not None:
        return False
    if block.needs == "mnist":
        return bool(os.environ.get("FASTMLP_DATA"))
    return block.needs is None or all(map(importlib.util.find_spec, block.needs.split()))


def run_page(path: Path, folder: Path) -> list[tuple[Block, str]]:
    """Run the code of a page in a folder; return what each block that ran has printed."""
    program: dict[str, Any] = {"__name__": "__main__"}
    printed = []
    write_files(folder)
    with contextlib.chdir(folder):
        for block in blocks(path.read_text(encoding="utf-8")):
            if runs_here(block):
                run = _run_python if block.language == "python" else _run_shell
                printed.append((block, run(block, path, program)))
    return printed


def _run_python(block: Block, path: Path, program: dict[str, Any]) -> str:
    output = io.StringIO()
    # Lines of the page, so that a traceback names them.
    code = compile("\n" * (block.line - 1) + block.code, str(path), "exec")
    with contextlib.redirect_stdout(output):
        exec(code, program)
    return output.getvalue()


def _run_shell(block: Block, path: Path, program: dict[str, Any]) -> str:
    code = "\n".join(line for line in block.code.split("\n") if _is_run(line))
    scripts = str(Path(sys.executable).parent)
    environment = os.environ | {"PATH": scripts + os.pathsep + os.environ.get("PATH", "")}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code], env=environment, text=True, capture_output=True
    )
    if done.returncode:
        raise RuntimeError(f"{path.name}, line {block.line}: {done.stderr or done.stdout}")
    return done.stdout


def _is_run(line: str) -> bool:
    has_mnist = bool(os.environ.get("FASTMLP_DATA")) or "mnist" not in line
    return has_mnist and not _LEFT_OUT.match(line)


def write_files(folder: Path) -> None:
    """Write the files that pages call the reader's own: tables of wines and flowers."""
    from sklearn.datasets import load_iris, load_wine

    flowers = load_iris(as_frame=True)
    names = [name.removesuffix(" (cm)").replace(" ", "_") for name in flowers.feature_names]
    table = flowers.data.set_axis(names, axis=1)
    table["kind"] = flowers.target_names[flowers.target]
    shuffled = table.sample(frac=1, random_state=0)
    shuffled[:120].to_csv(folder / "flowers.csv", index=False)
    shuffled[120:].to_csv(folder / "test.csv", index=False)
    shuffled[120:].drop(columns="kind").to_csv(folder / "new.csv", index=False)
    wines = load_wine(as_frame=True)
    wines.data.assign(quality=wines.data.pop("alcohol")).to_csv(folder / "wine.csv", index=False)


def same(shown: str, printed: str) -> bool:
    """Return whether a page shows what its code printed: numbers within a twentieth."""
    shown, printed = " ".join(shown.split()), " ".join(printed.split())
    pattern = re.escape(_NUMBER.sub("\0", shown)).replace("\0", r"(-?\d+\.\d+(?:e[-+]\d+)?)")
    pattern = pattern.replace(re.escape("..."), ".*?")
    match = re.fullmatch(pattern, printed, flags=re.DOTALL)
    if match is None:
        return False
    pairs = zip(_NUMBER.findall(shown), match.groups(), strict=True)
    return all(abs(float(a) - float(b)) <= 0.05 * max(abs(float(a)), 0.1) for a, b in pairs)


def differences(path: Path, folder: Path) -> Iterator[str]:
    """Run a page, and tell of every block that prints something else than the page shows."""
    for block, printed in run_page(path, folder):
        if block.output is not None and not same(block.output, printed):
            yield f"{path.name}, line {block.line}: shown\n{block.output}\nprinted\n{printed}"


def write_outputs(path: Path, folder: Path) -> None:
    """Run a page, and put what its code prints in the place of what it shows."""
    text = path.read_text(encoding="utf-8")
    for block, printed in reversed(run_page(path, folder)):
        if block.output is not None and not same(block.output, printed):
            start, end = block.output_span
            text = text[:start] + printed.rstrip() + "\n" + text[end:]
    path.write_text(text, encoding="utf-8")


def main() -> None:
    """Write outputs into the pages that the command names, or into all."""
    for path in [Path(name).resolve() for name in sys.argv[1:]] or pages():
        print(path, file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            write_outputs(path, Path(folder))


if __name__ == "__main__":
    main()
