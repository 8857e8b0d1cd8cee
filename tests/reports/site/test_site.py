"""The static site: what is on its pages, that it is the same for the same results, and what it leaves alone."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import numpy as np
import pytest

from harness.types import UserError
from harness_reports.cli.report import render
from harness_reports.compare.compare import compare
from harness_reports.compare.render import content as comparison_content
from harness_reports.data.per_query import Evidence
from harness_reports.site.build import build
from harness_reports.site.names import file_names
from harness_reports.site.writer import LIST, write_site
from tests.conftest import Done
from tests.reports.factory import Results

pytest.importorskip("vl_convert", reason="the page's plots need the page extra")

EVIL = "<script>alert(1)</script>/../../x"
MODELS = {"bm25": 0.2, "minilm": 0.5, EVIL: 0.4, "st:org/Encoder": 0.3}
ATOM = "{http://www.w3.org/2005/Atom}"


def quiet(description: str, done: int, total: int) -> None:
    pass


def fill(results: Results) -> Results:
    draw = np.random.default_rng(0)
    for place, (model, mean) in enumerate(MODELS.items()):
        for dataset in ("alpha", "my/own"):
            made = {"finished": f"2026-11-{10 + place}T0{len(dataset)}:00:00+00:00"}
            values = draw.normal(mean, 0.2, 12).clip(0, 1).tolist()
            results.add_queries(model, dataset, values, manifest={"run": made})
    results.add("bm25", "gamma", reason=f"no luck {EVIL}")
    results.add_queries("minilm", "alpha:limit=5", [0.5] * 5)
    (results.store.root / "broken" / "alpha").mkdir(parents=True)
    (results.store.root / "broken" / "alpha" / "result.json").write_text("{")
    return results


class Reader(HTMLParser):
    """Tags, links, and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        self.links += [str(found[name]) for name in ("href", "src") if name in found]
        self.ids += [str(found["id"])] if "id" in found else []

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, dict[str, bytes]]:
    results = fill(Results(tmp_path_factory.mktemp("site") / "results"))
    return results, build(results.store.root, "Our board", None, 100, quiet).files


def pages(files: dict[str, bytes]) -> Iterator[tuple[str, Reader]]:
    for name, content in files.items():
        if name.endswith(".html") and name != "explore.html":
            yield name, Reader(content.decode())


def test_there_is_a_page_and_its_data_for_everything(site: tuple[Results, dict[str, bytes]]) -> None:
    _, files = site
    listed = json.loads(files["api/index.json"])
    assert {each["label"] for each in listed["models"]} == {*MODELS}
    assert {each["label"] for each in listed["datasets"]} == {"alpha", "my/own", "gamma", "alpha:limit=5"}
    assert len(listed["comparisons"]) == 6
    assert listed["newest"] == "2026-11-13T06:00:00+00:00"
    for each in (*listed["models"], *listed["datasets"], *listed["comparisons"]):
        assert {unquote(each["page"]), unquote(each["data"])} <= files.keys()
    assert all(json.loads(content) for name, content in files.items() if name.endswith(".json"))
    assert all(re.fullmatch(r"[\w.+=,@-]+(/[\w.+=,@-]+)*", name) and ".." not in name.split("/") for name in files)


def test_every_link_is_relative_and_leads_somewhere(site: tuple[Results, dict[str, bytes]]) -> None:
    _, files = site
    seen = set()
    for name, page in pages(files):
        for link in page.links:
            parts = urlsplit(link)
            assert not parts.scheme
            assert not parts.netloc
            assert not link.startswith("/")
            base = Path("/site") / name
            target = (base.parent / unquote(parts.path)).resolve() if parts.path else base
            assert str(target.relative_to("/site")) in files, f"{name} links {link}"
            if parts.fragment:
                assert parts.fragment in Reader(files[str(target.relative_to("/site"))].decode()).ids
            seen.add(str(target.relative_to("/site")))
    assert {name for name in files if name.endswith((".html", "feed.xml"))} <= seen  # all can be reached


def test_names_are_text_and_nothing_runs(site: tuple[Results, dict[str, bytes]]) -> None:
    _, files = site
    for name, page in pages(files):
        assert "script" not in page.tags, name
        assert "default-src 'none'; script-src 'none'" in files[name].decode().replace("&#x27;", "'")
    assert EVIL in Reader(files["index.html"].decode()).text
    model = next(name for name in files if name.startswith("models/_script"))
    assert EVIL in Reader(files[model].decode()).text
    assert f"no luck {EVIL}" in Reader(files["models/bm25.html"].decode()).text


def test_the_data_are_those_of_the_commands(site: tuple[Results, dict[str, bytes]]) -> None:
    results, files = site
    board = results.read()
    told = json.loads(files["api/leaderboard.json"])
    reported = json.loads(render(board, "json", Evidence(board)))
    root = f"{results.store.root}/"
    assert told == json.loads(json.dumps(reported).replace(root, ""))
    assert root not in files["index.html"].decode() + files["explore.html"].decode()
    expected = comparison_content(compare(Evidence(board), ["bm25", "minilm"]))
    assert json.loads(files["api/comparisons/bm25+vs+minilm.json"]) == json.loads(json.dumps(expected))
    own = json.loads(files["api/models/minilm.json"])
    assert {row["model"] for row in own["rows"]} == {"minilm"}
    assert {row["dataset"] for row in own["rows"]} == {"alpha", "my/own", "alpha:limit=5"}
    shown = Reader(files["datasets/alpha.html"].decode()).text
    assert all(
        f"{100 * score:.2f}" in shown for (_, d), cell in board.cells.items() if (score := cell.score) and d == "alpha"
    )


def test_the_same_results_elsewhere_give_the_same_bytes(site: tuple[Results, dict[str, bytes]], tmp_path: Path) -> None:
    results, files = site
    shutil.copytree(results.store.root, tmp_path / "copy of them")
    again = build(tmp_path / "copy of them", "Our board", None, 100, quiet)
    assert again.files == files
    assert [each.path.name for each in again.skipped] == ["result.json"]


def test_the_feed_has_an_entry_for_each_model_and_day(site: tuple[Results, dict[str, bytes]]) -> None:
    _, files = site
    feed = ElementTree.fromstring(files["feed.xml"])
    entries = feed.findall(f"{ATOM}entry")
    assert [str(entry.findtext(f"{ATOM}title")) for entry in entries] == [f"{m}: 2 results" for m in reversed(MODELS)]
    dates = [entry.findtext(f"{ATOM}updated") for entry in entries]
    assert dates == sorted(map(str, dates), reverse=True)
    assert feed.findtext(f"{ATOM}updated") == dates[0] == "2026-11-13T06:00:00+00:00"
    ids = [each.text for each in feed.iter(f"{ATOM}id")]
    assert len({*ids}) == len(ids) == 5
    for link in feed.iter(f"{ATOM}link"):
        assert unquote(link.attrib["href"]) in files


def test_the_folder_can_be_pushed_as_a_space(site: tuple[Results, dict[str, bytes]]) -> None:
    yaml = pytest.importorskip("yaml")
    _, files = site
    front = yaml.safe_load(files["README.md"].decode().split("---")[1])
    assert front == {"title": "Our board", "sdk": "static", "app_file": "index.html", "pinned": False}
    assert files[".nojekyll"] == b""  # GitHub Pages would hide names with an underscore in front


def test_pairs_beyond_the_limit_have_no_page(site: tuple[Results, dict[str, bytes]]) -> None:
    results, _ = site
    built = build(results.store.root, "t", None, 1, quiet)
    assert built.left_out == 5
    best = sorted([results.read().models[0], results.read().models[1]])
    [name] = [name for name in built.files if name.startswith("comparisons/")]
    assert name.startswith(f"comparisons/{file_names([best[0]])[best[0]][:7]}")


def test_names_that_differ_in_case_alone_get_files_of_their_own() -> None:
    found = file_names(["Model", "model", "a/b", "a_b", ".", "CON"])
    assert len({name.casefold() for name in found.values()}) == 6
    assert found == file_names(["model", "CON", ".", "a_b", "a/b", "Model"])
    assert all("/" not in name and not name.startswith(".") for name in found.values())


def test_the_command(results: Results, tmp_path: Path, harness: Callable[..., Done]) -> None:
    results.add_queries("bm25", "alpha", [0.25, 0.5])
    out = tmp_path / "public"
    done = harness("site", results.store.root, "-o", out, "--title", "Mine")
    assert (done.code, done.out) == (0, f"{out / 'index.html'}\n"), done.err
    (out / "CNAME").write_text("example.org")
    results.add_queries("minilm", "alpha", [0.75, 0.5])
    assert harness("site", results.store.root, "-o", out).code == 0
    assert (out / "comparisons" / "bm25+vs+minilm.html").is_file()
    assert (out / "CNAME").read_text() == "example.org"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    refused = harness("site", results.store.root, "-o", tmp_path / "mine")
    assert (refused.code, len(refused.err.splitlines())) == (2, 1), refused.err
    assert "is not empty" in refused.err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_a_folder_of_ours_is_brought_up_to_date(tmp_path: Path) -> None:
    out = tmp_path / "public"
    write_site({"index.html": b"1", "models/a.html": b"a", "models/b.html": b"b"}, out)
    (out / ".git").mkdir()
    (out / "models" / "notes.txt").write_text("mine")
    (out / "models" / "b.html").write_bytes(b"edited")
    write_site({"index.html": b"2", "datasets/d.html": b"d"}, out)
    left = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert left == {"index.html", "datasets/d.html", "models/notes.txt", "models/b.html", LIST}
    assert (out / ".git").is_dir()
    assert (out / "index.html").read_bytes() == b"2"


@pytest.mark.parametrize("kind", ["edited", "somebody's", "a link", "a folder"])
def test_a_file_of_somebody_elses_is_not_replaced(kind: str, tmp_path: Path) -> None:
    out, other = tmp_path / "public", tmp_path / "precious"
    write_site({"index.html": b"1"}, out)
    other.write_bytes(b"1")
    if kind == "edited":
        (out / "index.html").write_bytes(b"mine")
    elif kind == "somebody's":
        (out / "new.html").write_bytes(b"mine")
    elif kind == "a link":
        (out / "new.html").symlink_to(other)
    else:
        (out / "new.html").mkdir()
    with pytest.raises(UserError, match="would be replaced"):
        write_site({"index.html": b"2", "new.html": b"2"}, out)
    assert other.read_bytes() == b"1"
    assert (out / "index.html").read_bytes() == (b"mine" if kind == "edited" else b"1")


def test_a_list_that_leads_out_of_the_folder_is_not_believed(tmp_path: Path) -> None:
    out, other = tmp_path / "public", tmp_path / "precious"
    other.write_bytes(b"1")
    write_site({"index.html": b"1"}, out)
    listed = json.loads((out / LIST).read_text())
    listed["files"]["../precious"] = listed["files"]["index.html"]
    (out / LIST).write_text(json.dumps(listed))
    with pytest.raises(UserError, match="did not write it"):
        write_site({"index.html": b"2"}, out)
    assert other.exists()


def test_a_run_that_was_killed_can_be_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness_reports.site import writer

    out = tmp_path / "public"
    write_site({"a.html": b"1", "b.html": b"1", "old.html": b"1"}, out)
    write, done = writer._write, []

    def killed(path: Path, content: bytes) -> None:
        if done.append(path) or len(done) > 2:  # type: ignore[func-returns-value]
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(writer, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        write_site({"a.html": b"2", "b.html": b"2"}, out)
    monkeypatch.setattr(writer, "_write", write)
    write_site({"a.html": b"3", "b.html": b"3"}, out)
    assert {path.name for path in out.iterdir()} == {"a.html", "b.html", LIST}
    assert (out / "a.html").read_bytes() == (out / "b.html").read_bytes() == b"3"
