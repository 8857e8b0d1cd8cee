"""The link checker, on sites that are written here."""

from __future__ import annotations

from pathlib import Path

import pytest

from site_builder.links import check, online_problems
from tests.server import Site

GOOD = '<h1 id="top">x</h1><a href="sub/b.html#there">b</a><a href="/sub/">root</a><a href="#top">top</a>'


def write(folder: Path, **bodies: str) -> Path:
    pages = {"index": "", "sub/b": '<a name="there"></a><a href="../index.html?q=1">a</a>', "sub/index": ""} | bodies
    for name, body in pages.items():
        (folder / f"{name}.html").parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.html").write_text(f"<html><body>{body}</body></html>")
    (folder / "style.css").write_text("")
    return folder


def test_a_site_without_mistakes(tmp_path: Path) -> None:
    body = (
        GOOD
        + '<link rel="stylesheet" href="style.css"><img src="data:image/png;base64,AA=="/><a href="mailto:a@b">m</a>'
    )
    found = check(write(tmp_path, index=body))
    assert found.problems == []
    assert (found.pages, found.links, found.assets) == (3, 4, 1)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('<a href="gone.html">x</a>', "index.html: gone.html does not exist"),
        ('<a href="sub/b.html#nowhere">x</a>', "index.html: sub/b.html#nowhere has no anchor #nowhere"),
        ('<a href="#nowhere">x</a>', "index.html: #nowhere has no anchor #nowhere"),
        ('<a href="../outside.html">x</a>', "index.html: ../outside.html is outside of the site"),
        ('<img src="gone.png">', "index.html: gone.png does not exist"),
        ('<script src="https://cdn.example/a.js"></script>', "https://cdn.example/a.js is loaded from another server"),
        ('<link rel="stylesheet" href="//fonts.example/f.css">', "//fonts.example/f.css is loaded from another server"),
    ],
)
def test_a_mistake_is_named(body: str, said: str, tmp_path: Path) -> None:
    [problem] = check(write(tmp_path, index=body)).problems
    assert said in problem


def test_external_links_are_listed_and_not_asked(tmp_path: Path) -> None:
    found = check(
        write(tmp_path, index='<a href="https://example.org/x">x</a><link rel="canonical" href="https://e.org">')
    )
    assert found.external == {"https://example.org/x": "index.html"}
    assert found.problems == []


def test_an_empty_site_is_a_problem(tmp_path: Path) -> None:
    assert check(tmp_path).problems == [f"{tmp_path} has no pages"]


def test_servers_are_asked_online(site: Site) -> None:
    site.files["/there"] = b"x"
    closed = "http://127.0.0.1:1/"
    [gone, silent] = online_problems({f"{site.url}/there": "a.html", f"{site.url}/gone": "b.html", closed: "c.html"})
    assert gone == f"b.html: {site.url}/gone has the status 404"
    assert silent.startswith(f"c.html: {closed} does not answer")
