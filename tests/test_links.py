"""Links of the README and its kin lead to files; dead ones of a built site are found."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
specification = importlib.util.spec_from_file_location("links", ROOT / "docs" / "links.py")
links = importlib.util.module_from_spec(specification)
specification.loader.exec_module(links)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"])
def test_a_link_leads_to_a_file(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    here = [target for target in targets if "://" not in target]
    assert [target for target in here if not (ROOT / target).exists()] == []


def test_dead_links_of_a_site_are_found(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "index.html").write_text(
        '<h1 id="up">A</h1><a href="deep/page.html#there">x</a><a href="https://example.org/no">x</a>'
        '<a href="#up">x</a><a href="deep/page.html#nowhere">x</a><img src="no.png">'
    )
    (tmp_path / "deep" / "page.html").write_text('<p id="there"><a href="../index.html">x</a>')
    assert links.dead_links(tmp_path) == [
        "index.html: deep/page.html#nowhere",
        "index.html: no.png",
    ]
