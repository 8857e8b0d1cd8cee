"""What the four converters have in common."""

from __future__ import annotations

import importlib
import json
import shutil
import tomllib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pytest

from harness.datasets.beir import STATED
from harness.datasets.catalog import catalogue, place, status
from harness.datasets.converters import CONVERTERS, convert, robust04, trec_news
from harness.types import UserError, resolve
from tests.conftest import Done
from tests.datasets.converters.test_trec_news import ARTICLES, source, write

__all__ = ["source"]
INSTRUCTIONS = {name: spec.instructions for name, spec in catalogue().datasets.items() if spec.instructions}
TOLD = {
    "bioasq": ["8B1_golden.json", "8B5_golden.json", "allMeSH_2020.json", "pubmed20n0001.xml.gz"],
    "signal1m": ["signalmedia-1m.jsonl.gz", "signal1m_tweets_qrels", "tweets/2015-09.jsonl"],
    "trec-news": [
        "TREC_Washington_Post_collection.v2.jl",
        "newsir19-background-linking-topics.xml",
        "newsir19-qrels-background.txt",
    ],
    "robust04": [
        "FBIS/fb396001.z",
        "FR94/01/fr940104.0z",
        "FT/ft911/ft911_1.z",
        "LATIMES/la010189.z",
        "04.testset.gz",
        "qrels.robust2004.txt",
    ],
}
"""Files as the instructions name them, and some inside the folders that they name."""


def test_every_one_has_instructions_that_name_its_owner_and_its_files() -> None:
    assert CONVERTERS.keys() == INSTRUCTIONS.keys() == {"bioasq", "signal1m", "trec-news", "robust04"}
    for name, target in CONVERTERS.items():
        about = importlib.import_module(target.partition(":")[0]).ABOUT
        assert about.name == name
        assert asdict(about.published) == asdict(catalogue().datasets[name].counts)  # type: ignore[arg-type]
        assert f"{about.published.documents:,} documents" in INSTRUCTIONS[name]
        assert f"harness fetch {name} --from FOLDER" in INSTRUCTIONS[name]
        assert "http" in INSTRUCTIONS[name]


@pytest.mark.parametrize("name", CONVERTERS)
def test_files_named_as_the_instructions_name_them_are_found(name: str, tmp_path: Path) -> None:
    for file in TOLD[name]:
        told = file.partition("/")[0].replace("20n0001", "*")
        assert told in INSTRUCTIONS[name], told
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    found = resolve(CONVERTERS[name].replace(":convert", ":files"))(tmp_path)
    assert sorted(path for paths in found.values() for path in paths) == sorted(tmp_path / file for file in TOLD[name])
    assert all(found.values())


def test_the_same_files_are_converted_once(source: Path, tmp_path: Path) -> None:
    home, spec = tmp_path / "home", catalogue().datasets["trec-news"]
    assert status(spec, home) == "needs licence"
    steps: list[str] = []
    first = convert("trec-news", source, home, lambda text, *_: steps.append(text))
    assert steps
    assert first.parent == home / "datasets"
    (source / "notes.txt").write_text("of no account")
    assert convert("trec-news", source, home, lambda *_: pytest.fail("converted again")) == first
    write(source, [*ARTICLES, ARTICLES[3] | {"id": "e" * 32}])
    second = convert("trec-news", source, home, lambda *_: None)
    assert second != first
    assert (place(spec, home), status(spec, home)) == (second, "ready")
    assert convert("trec-news", source, tmp_path / "other", lambda *_: None).name == second.name


def test_its_name_means_what_was_converted_last(
    source: Path, harness: Callable[..., Done], home: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(source, tmp_path / "other")
    write(other, [*ARTICLES, ARTICLES[3] | {"id": "e" * 32}])
    folders = {}
    for folder in (source, other, source):
        done = harness("fetch", "trec-news", "--from", folder, "--json")
        assert done.code == 0, done.err
        folders[folder] = json.loads(done.out)["trec-news"]
        shown = harness("fetch", "trec-news").out.splitlines()
        assert shown[0] == f"trec-news: {folders[folder]}"
        assert shown[1].startswith(f"{4 if folder == other else 3} documents (BEIR: 594,977), 2 queries")
        listed = {row["name"]: row["status"] for row in json.loads(harness("datasets", "--json").out)}
        assert (listed["trec-news"], listed["robust04"]) == ("ready", "needs licence")
    assert len(set(folders.values())) == 2
    done = harness("benchmark", "-m", "bm25", "-d", "trec-news", "--json", "--offline")
    assert done.code == 0, done.err
    [cell] = json.loads(done.out)
    assert cell["counts"] | {"documents": 3, "queries": 2} == cell["counts"]
    assert cell["manifest"]["dataset"]["fingerprint"]["missing"]["judged_documents"] == 1


def test_dataset_toml_states_source_counts_and_licence(source: Path, tmp_path: Path) -> None:
    folder = convert("trec-news", source, tmp_path / "home", lambda *_: None)
    stated = tomllib.loads((folder / "dataset.toml").read_text())
    assert stated.keys() <= STATED.keys()
    assert stated["versions"]["counts"] == {"documents": 3, "queries": 2, "judgements": 5}
    assert stated["versions"]["missing"]["first"] == ["d" * 32]
    size = sum(path.stat().st_size for path in source.rglob("*.jl"))
    assert stated["versions"]["source"]["articles"] == f"1 files, {size} bytes"
    assert "NIST" in stated["licence"]


def test_from_goes_with_one_licensed_dataset(harness: Callable[..., Done], tmp_path: Path) -> None:
    for words in (["pydocs"], ["bioasq", "robust04"], [], ["bioasq", "--suite", "demo"]):
        done = harness("fetch", *words, "--from", tmp_path)
        assert done.code == 2
        assert "--from goes with one dataset under licence" in done.err


def test_instructions_are_printed_and_nothing_is_made(harness: Callable[..., Done], home: Path) -> None:
    for name, text in INSTRUCTIONS.items():
        done = harness("fetch", name)
        assert (done.code, done.out) == (2, text + "\n\n")
        assert done.err.count("\n") == 1
        done = harness("fetch", name, "--json")
        assert (done.code, json.loads(done.out)) == (2, {name: None})
        assert done.err.startswith(text)
    assert not list(home.iterdir())


@pytest.mark.parametrize("piece", ["<DOC>", "<TEXT>", "<!--", "<DOCNO>", "<DOCNO> ", "<num>", "&amp", "<P "])
def test_markup_that_never_ends_takes_no_quadratic_time(piece: str, tmp_path: Path) -> None:
    """A million characters: a second where each is looked at once, hours where every tag looks to the end."""
    markup = piece * (1_000_000 // len(piece))
    for text in (f"<DOC><DOCNO> D1 </DOCNO>\n<TEXT>a {markup}</TEXT></DOC>", f"<DOC>{markup}</DOC>", markup):
        (tmp_path / "fb0").write_text(text)
        with suppress(UserError):
            assert [document.id for document in robust04.read(tmp_path / "fb0")] in (["D1"], [])
    for text in (f"<top>{markup}</top>", f"<top><num> {' ' * 100_000}x{markup}</top>", "<top>" * 200_000):
        (tmp_path / "topics").write_text(text)
        for topics in (robust04.topics, trec_news.topics):
            with pytest.raises(UserError, match=r"damaged|without <num>|holds no <top>"):
                topics(tmp_path / "topics")


@pytest.mark.parametrize("piece", ["<a ", "<!--", "</a", "<?x", "<!d", "<![", "<a x='"])
def test_html_that_never_ends_is_refused(piece: str, tmp_path: Path) -> None:
    content = {"subtype": "paragraph", "content": piece * 20_000}
    (tmp_path / "articles.jl").write_text(json.dumps({"id": "a", "title": "t", "contents": [content]}) + "\n")
    with pytest.raises(UserError, match=r"line 1 holds HTML that cannot be read"):
        list(trec_news.read(tmp_path / "articles.jl", lambda *_: None))
    few = {**content, "content": f"one &lt; two<br>three{piece * 3}"}
    (tmp_path / "articles.jl").write_text(json.dumps({"id": "a", "title": "t", "contents": [few]}) + "\n")
    with suppress(UserError):  # some of these Python's parser refuses at once
        assert next(trec_news.read(tmp_path / "articles.jl", lambda *_: None)).text.startswith("one < two three")
