"""Checks the links of a built site, internal ones without a network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from html.parser import HTMLParser
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

LOADED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("link", "href")}
"""What a browser fetches by itself; none of it may come from another server."""
NOT_LOADED = {"canonical", "alternate", "next", "prev"}
"""Relations of a ``link`` that is not fetched."""
MISSING = (404, 410)


class Page(HTMLParser):
    """The addresses and anchors of one HTML page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.assets: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collects what the tag names."""
        given = {name: value for name, value in attrs if value is not None}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        for name, value in given.items():
            if (tag, name) in LOADED and not (tag == "link" and given.get("rel") in NOT_LOADED):
                self.assets.append(value)
            elif (tag, name) == ("a", "href"):
                self.links.append(value)

    handle_startendtag = handle_starttag


@dataclass
class Found:
    """What was checked, and what is wrong."""

    pages: int = 0
    links: int = 0
    assets: int = 0
    external: dict[str, str] = field(default_factory=dict)
    """Address -> a page that has it."""
    problems: list[str] = field(default_factory=list)


@dataclass
class Site:
    """The pages of a folder."""

    folder: Path

    @cached_property
    def pages(self) -> dict[Path, Page]:
        """Every HTML page by its path."""
        found = sorted(self.folder.rglob("*.html"))
        return {file: Page(file.read_text(encoding="utf-8")) for file in found}

    def problem(self, file: Path, address: str) -> str:
        """Why an internal address leads nowhere; empty if it leads somewhere."""
        parts = urlsplit(address)
        path = unquote(parts.path)
        start = self.folder if path.startswith("/") else file.parent
        there = Path(os.path.normpath(start / path.lstrip("/"))) if path else file
        if not there.is_relative_to(self.folder):
            return "is outside of the site"
        there = there / "index.html" if there.is_dir() else there
        if not there.is_file():
            return "does not exist"
        page = self.pages.get(there)
        if parts.fragment and page and unquote(parts.fragment) not in page.anchors:
            return f"has no anchor #{parts.fragment}"
        return ""


def check(folder: Path) -> Found:
    """Checks every link, anchor, script, style and image of the site in ``folder``."""
    site, found = Site(folder), Found()
    found.pages = len(site.pages)
    if not found.pages:
        found.problems.append(f"{folder} has no pages")
    for file, page in site.pages.items():
        name = file.relative_to(folder)
        for address, loaded in _addresses(page):
            if urlsplit(address).scheme in ("data", "mailto", "javascript"):
                continue
            if urlsplit(address).netloc:
                found.external.setdefault(address, str(name))
                if loaded:
                    found.problems.append(f"{name}: {address} is loaded from another server")
                continue
            found.assets, found.links = found.assets + loaded, found.links + (not loaded)
            if reason := site.problem(file, address):
                found.problems.append(f"{name}: {address} {reason}")
    return found


def _addresses(page: Page) -> Iterator[tuple[str, bool]]:
    yield from ((address, False) for address in page.links)
    yield from ((address, True) for address in page.assets)


def online_problems(addresses: dict[str, str]) -> list[str]:
    """A sentence for each external address whose server says that it does not exist, or that does not answer."""
    with ThreadPoolExecutor(8) as pool:
        answers = zip(addresses.items(), pool.map(_answer, addresses), strict=True)
        return [f"{page}: {address} {answer}" for (address, page), answer in answers if answer]


def _answer(address: str) -> str:
    request = Request(address, headers={"User-Agent": "Mozilla/5.0 (link checker)"})
    try:
        with urlopen(request, timeout=20):
            return ""
    except HTTPError as error:
        return f"has the status {error.code}" if error.code in MISSING else ""
    except (OSError, HTTPException, ValueError) as error:
        return f"does not answer: {error}"
