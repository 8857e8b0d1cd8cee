"""From the catalogue to the report, for every name, against a local server."""

from __future__ import annotations

import json
import shutil
import socket
from collections import Counter
from pathlib import Path

import pytest

from harness.datasets import catalog
from harness.datasets.acquire import check_counts, describe
from harness.datasets.catalog import Catalogue, place
from harness.results.store import ResultStore
from tests import standin
from tests.server import Site

GATED = ["bioasq", "signal1m", "trec-news", "robust04"]


@pytest.fixture
def known(site: Site, monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    published = standin.published(site)
    monkeypatch.setattr(catalog, "catalogue", lambda: published)
    return published


def convert(known: Catalogue, name: str, home: Path) -> None:
    """What a converter leaves of a dataset under licence."""
    spec = known.datasets[name]
    folder = home / "datasets" / f"{name}-{'0' * 12}"
    for path, data in standin.content(spec).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    describe(spec, folder, {"source": "FOLDER"})


def cells(line: str) -> list[str]:
    """What stands in a row of a Markdown table."""
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_every_name_from_the_catalogue_to_the_report(harness, known: Catalogue, site: Site, home: Path) -> None:
    states = {row["name"]: row["status"] for row in json.loads(harness("datasets", "--json").out)}
    assert Counter(states.values()) == {"needs fetch": 14 + 12 + 13, "needs licence": 4, "built on first use": 2}

    done = harness("fetch", "--suite", "beir18", "--suite", "mteb15", "--suite", "nano", "--json")
    assert done.code == 2
    folders = json.loads(done.out)
    assert len(folders) == 17 + 12 + 1 + 13
    assert [name for name, folder in folders.items() if folder is None] == GATED
    for name in GATED:
        assert f"harness fetch {name} --from FOLDER" in done.err
        convert(known, name, home)
    for spec in known.datasets.values():
        assert spec.counts
        check_counts(place(spec, home), spec.split, spec.counts)
    states = {row["name"]: row["status"] for row in json.loads(harness("datasets", "--json").out)}
    assert Counter(states.values()) == {"ready": len(known.datasets), "built on first use": 2}

    for name in known.datasets:
        done = harness("doctor", name, "--offline")
        assert done.code == 0, (name, done.out, done.err)

    suites = ["--suite", "beir18", "--suite", "nano", "-d", "msmarco", "-d", "cqadupstack"]
    done = harness("benchmark", "-m", "bm25", *suites, "--offline", "--json")
    assert done.code == 0, done.err
    scores = {cell["dataset"]: cell["measures"]["nDCG@10"] for cell in json.loads(done.out)}
    assert set(scores) == set(known.datasets)
    assert {cell["dataset"]: cell["split"] for cell in json.loads(done.out)}["msmarco"] == "dev"

    assert len(set(scores.values())) > 1

    told = json.loads(harness("report", "--json").out)
    assert {row["dataset"] for row in told["rows"]} == set(known.datasets)
    averages = {a["average"]: a["value"] for a in told["averages"]}
    forums = sum(scores[name] for name in known.groups["cqadupstack"]) / 12
    single = {**scores, "cqadupstack": forums}
    for suite, size in (("beir18", 18), ("mteb15", 15), ("beir14", 14), ("nano", 13)):
        by_hand = sum(single[name] for name in known.suites[suite]) / size
        assert averages[f"{suite} ({size} of {size})"] == pytest.approx(by_hand, abs=1e-12)
    assert averages["cqadupstack (12 of 12)"] == pytest.approx(forums, abs=1e-12)
    done = harness("report", "--suite", "beir18")
    assert done.code == 0
    header, _, row = (cells(line) for line in done.out.splitlines()[4:7])
    listed = [entry for entry in known.suites["beir18"] if entry != "cqadupstack"]
    assert sorted(header) == sorted(["model", *listed, "cqadupstack (12 of 12)", "beir18 (18 of 18)", "95% interval"])
    assert row[header.index("beir18 (18 of 18)")] == f"{100 * averages['beir18 (18 of 18)']:.2f}"

    shutil.rmtree(ResultStore(Path("results")).folder("bm25", "cqadupstack/tex"))
    shown = harness("report", "--suite", "beir18").out
    row = cells(next(line for line in shown.splitlines() if line.startswith("| bm25")))
    assert {"17 of 18", "11 of 12"} < set(row)
    lacking = json.loads(harness("report", "--suite", "beir18", "--json").out)["averages"]
    assert {each["average"]: (each["value"], each["measured"]) for each in lacking} == {
        "beir18 (17 of 18)": (None, 17),
        "cqadupstack (11 of 12)": (None, 11),
    }


def test_benchmark_fetches_what_it_needs_and_leaves_out_what_needs_a_licence(
    harness, known: Catalogue, site: Site, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.toml").write_text('name = "mine"\ndatasets = ["scifact", "nano-nq", "bioasq"]\n')
    done = harness("benchmark", "-m", "bm25", "--suite", tmp_path / "mine.toml", "--json")
    assert done.code == 0, done.err
    assert [cell["dataset"] for cell in json.loads(done.out)] == ["scifact", "nano-nq"]
    assert "note: bioasq left out: a licence is needed" in done.err
    done = harness("report", "--suite", tmp_path / "mine.toml")
    assert "mine (2 of 3)" in done.out
    assert "2 of 3 |" in done.out
    done = harness("benchmark", "-m", "bm25", "-d", "bioasq")
    assert (done.code, "bioasq needs a licence" in done.err) == (2, True)


@pytest.mark.parametrize("way", ["--offline", "HARNESS_OFFLINE"])
def test_offline_opens_no_socket(
    harness, known: Catalogue, home: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    pytest.importorskip("sentence_transformers", reason="the models need the dense extra")

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", forbidden)
    monkeypatch.setattr(socket, "create_connection", forbidden)
    flags = ["--offline"] if way == "--offline" else []
    if not flags:
        monkeypatch.setenv(way, "1")
    for words in (
        ["fetch", "scifact"],
        ["doctor", "scifact"],
        ["benchmark", "-m", "bm25", "-d", "scifact"],
        ["isotropy", "-m", "minilm", "-d", "scifact"],
    ):
        done = harness(*words, *flags)
        assert done.code == 2, words
        assert "scifact is not on this machine and the network is switched off" in done.err
        assert done.err.rstrip().endswith("without --offline: harness fetch scifact")
    done = harness("benchmark", "-m", "bm25", "--suite", "beir14", *flags)
    assert done.code == 2
    assert "harness fetch trec-covid nfcorpus" in done.err


def test_a_network_that_fails_is_one_sentence(harness, known: Catalogue, site: Site, home: Path) -> None:
    site.files.clear()
    done = harness("benchmark", "-m", "bm25", "-d", "scifact")
    assert done.code == 2
    sentence = done.err.splitlines()[-1]
    assert sentence.startswith("harness: scifact could not be downloaded from BEIR's archive (")
    assert "nor from the Hugging Face hub" in sentence
    assert "nor from ir_datasets" in sentence
    assert sentence.endswith("harness fetch scifact")


def test_names(harness, known: Catalogue, home: Path) -> None:
    done = harness("fetch", "scifcat")
    assert (done.code, "did you mean" in done.err, "scifact" in done.err) == (2, True, True)
    done = harness("fetch")
    assert (done.code, "harness fetch NAME" in done.err) == (2, True)
    done = harness("doctor", "cqadupstack")
    assert (done.code, "stands for 12 datasets" in done.err) == (2, True)
    done = harness("fetch", "robust04")
    assert done.code == 2
    assert "https://trec.nist.gov/data/cd45/index.html" in done.out
    done = harness("fetch", "bm25", "robust04", "bioasq")
    assert done.out.startswith("bm25: needs nothing fetched")
    assert done.out.index("robust04: ") < done.out.index("bioasq: ")
    assert done.err.splitlines()[-1].startswith("harness: robust04, bioasq not fetched: a licence is needed")
    rows = json.loads(harness("suites", "--json").out)
    assert {row["name"]: row["size"] for row in rows}["beir18"] == 18
