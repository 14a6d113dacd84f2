"""Follow every link within the built site: python docs/links.py build/site.

Prints dead ones, to files or to places in them, and ends with 1 if there are any. Links to other
sites are looked at by ``sphinx-build -b linkcheck``.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    """The links of a page, and the places in it that links may point to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = {"", "top"}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value is not None and name in ("href", "src"):
                self.links.append(value)
            elif value is not None and name in ("id", "name"):
                self.places.add(value)


def dead_links(site: Path) -> list[str]:
    """Return a line for every link of a site's pages that leads nowhere within it."""
    pages = {path.resolve(): _Page(path) for path in site.rglob("*.html")}
    dead = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            place = unquote(parts.fragment)
            if not target.is_file() or (target in pages and place not in pages[target].places):
                dead.append(f"{path.relative_to(site.resolve())}: {link}")
    return dead


def main() -> None:
    """Print dead links."""
    site = Path(sys.argv[1])
    if not (site / "index.html").is_file():
        raise SystemExit(f"there is no site in {site}; sphinx-build -W docs {site} makes one")
    dead = dead_links(site)
    print("\n".join(dead) or "no dead link")
    raise SystemExit(bool(dead))


if __name__ == "__main__":
    main()
