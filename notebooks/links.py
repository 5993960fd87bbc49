"""Whether the links within a site lead anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["Page", "broken", "foreign"]


class Page(HTMLParser):
    """What a page has anchors for, links to and loads.

    Attributes
    ----------
    anchors : set of str
        The places in it.
    links : list of str
        Where its links lead.
    loaded : list of str
        What is shown or run as part of it.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[key] for key in ("id", "name") if key in found}
        if "href" in found:
            shown = tag == "link" and "stylesheet" in found.get("rel", "")
            (self.loaded if shown else self.links).append(found["href"])
        if "src" in found:
            self.loaded.append(found["src"])


def pages(site: Path) -> dict[Path, Page]:
    """All pages of a site by their files."""
    files = (file for file in sorted(site.rglob("*.html")) if "_static" not in file.parts)
    return {file: Page(file.read_text()) for file in files}


def has(page: Page | None, anchor: str) -> bool:
    """Whether a page has a place of that name; of what is no page, it is not known."""
    return page is None or anchor in page.anchors


def broken(site: Path) -> Iterator[str]:
    """Yield what is wrong with each link within a site that leads nowhere."""
    site = site.resolve()
    found = pages(site)
    for file, page in found.items():
        for link in dict.fromkeys(page.links + page.loaded):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or link == "#":
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            where = f"{file.relative_to(site)}: {link}"
            if not target.exists():
                yield f"{where} leads to no file"
            elif parts.fragment and not has(found.get(target), unquote(parts.fragment)):
                yield f"{where} leads to no place in its page"


def foreign(page: Page) -> list[str]:
    """What a page loads from other hosts."""
    return [link for link in page.loaded if urlsplit(link).netloc]
