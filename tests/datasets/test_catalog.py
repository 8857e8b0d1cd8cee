"""The catalogue against what others published and against the judgements themselves; suites of a user's own."""

from __future__ import annotations

import gzip
import os
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from harness import UserError
from harness.datasets import catalog
from harness.datasets.catalog import catalogue, labels, place, status, suite
from harness.metrics.qrels import read_qrels
from harness.registry.manager import load_registry

FORUMS = [
    "android",
    "english",
    "gaming",
    "gis",
    "mathematica",
    "physics",
    "programmers",
    "stats",
    "tex",
    "unix",
    "webmasters",
    "wordpress",
]
GATED = {"bioasq", "signal1m", "trec-news", "robust04"}
PAPER = {  # documents and test queries as printed in the BEIR paper, table 1
    "trec-covid": (171_332, 50),
    "bioasq": (14_914_602, 500),
    "nfcorpus": (3_633, 323),
    "nq": (2_681_468, 3_452),
    "hotpotqa": (5_233_329, 7_405),
    "fiqa": (57_638, 648),
    "signal1m": (2_866_316, 97),
    "trec-news": (594_977, 57),
    "robust04": (528_155, 249),
    "arguana": (8_674, 1_406),
    "webis-touche2020": (382_545, 49),
    "quora": (522_931, 10_000),
    "dbpedia-entity": (4_635_922, 400),
    "scidocs": (25_657, 1_000),
    "fever": (5_416_568, 6_666),
    "climate-fever": (5_416_593, 1_535),
    "scifact": (5_183, 300),
    "msmarco": (8_841_823, 6_980),
}
NOT_IN_REFERENCE = {"trec-covid": 2, "webis-touche2020": 1282}
"""Judgements that the reference files leave out: two of grade -1, and all of grade 0."""


def test_every_name_is_there() -> None:
    known = catalogue()
    assert set(known.suites["beir18"]) == {*PAPER, "cqadupstack"} - {"msmarco"}
    assert len(known.suites["beir18"]) == 18
    assert set(known.suites["beir14"]) == set(known.suites["beir18"]) - GATED
    assert set(known.suites["mteb15"]) == {*known.suites["beir14"], "msmarco"}
    assert len(known.suites["nano"]) == 13
    assert known.suites["demo"] == ("pydocs",)
    assert known.groups == {"cqadupstack": tuple(f"cqadupstack/{forum}" for forum in FORUMS)}
    names = {entry for entries in known.suites.values() for entry in entries} - {"pydocs"} - set(known.groups)
    assert set(known.datasets) == names | set(known.groups["cqadupstack"])
    registry = load_registry()
    assert set(known.datasets) | {"pydocs", "pydocs-train"} == set(registry.datasets)


def test_documents_and_queries_are_those_of_the_paper() -> None:
    known = catalogue().datasets
    found = {name: (spec.counts.documents, spec.counts.queries) for name, spec in known.items() if spec.counts}
    assert {name: figures for name, figures in found.items() if name in PAPER} == PAPER
    forums = [found[name] for name in catalogue().groups["cqadupstack"]]
    # The paper prints 457,199 documents and 13,145 queries for the twelve together.
    assert (sum(documents for documents, _ in forums), sum(queries for _, queries in forums)) == (457_199, 13_145)


def test_queries_and_judgements_are_those_of_the_reference(shared: Path) -> None:
    folder = shared / "reference" / "beir-topics-qrels"
    checked = 0
    for name, spec in catalogue().datasets.items():
        assert spec.counts is not None
        file = f"beir-v1.0.0-{name.replace('/', '-')}.test"
        if not (topics := folder / f"topics.{file}.tsv.gz").exists():
            assert name == "msmarco" or name.startswith("nano-")
            continue
        with gzip.open(topics, "rt", encoding="utf-8") as stream:
            assert sum(1 for _ in stream) == spec.counts.queries, name
        if not (qrels := folder / f"qrels.{file}.txt").exists():
            assert name == "robust04"
            continue
        judged = read_qrels(qrels)
        assert len(judged) == spec.counts.queries, name
        held = sum(map(len, judged.values()))
        assert held + NOT_IN_REFERENCE.get(name, 0) == spec.counts.judgements, name
        checked += 1
    assert checked == 17 + 11


def test_what_a_dataset_says_about_itself() -> None:
    known = catalogue().datasets
    assert {name for name, spec in known.items() if spec.exclude_self} == {"arguana", "quora"}
    assert {name: spec.split for name, spec in known.items() if spec.split != "test"} == {"msmarco": "dev"}
    checksums: dict[str, set[str]] = {}
    for name, spec in known.items():
        assert spec.citation, name
        assert spec.licence, name
        assert 10 <= spec.tokens <= 384, name
        assert bool(spec.sources) != (name in GATED), name
        assert bool(spec.instructions) == (name in GATED), name
        for source in spec.sources:
            if source.kind == "zip":
                assert re.fullmatch(r"[0-9a-f]{32}", source.md5), name
                assert source.bytes > 0, name
                assert source.root == name, name
                checksums.setdefault(source.md5, set()).add(source.place)
    assert all(len(places) == 1 for places in checksums.values()), "two archives with one checksum: a misprint"
    for name in GATED:
        assert f"harness fetch {name} --from FOLDER" in known[name].instructions


def test_where_a_dataset_lies_depends_on_what_it_is(tmp_path: Path) -> None:
    spec = catalogue().datasets["scifact"]
    others = [
        replace(spec, split="train"),
        replace(spec, sources=(replace(spec.sources[0], md5="0" * 32),)),
        replace(spec, counts=replace(spec.counts, documents=1)),  # type: ignore[type-var]
    ]
    assert len({place(each, tmp_path) for each in [spec, *others]}) == 4
    assert place(replace(spec, citation="other"), tmp_path) == place(spec, tmp_path)
    assert status(spec, tmp_path) == "needs fetch"
    place(spec, tmp_path).mkdir(parents=True)
    assert status(spec, tmp_path) == "ready"


def test_a_dataset_under_licence_lies_where_it_was_converted_last(tmp_path: Path) -> None:
    spec = catalogue().datasets["robust04"]
    assert status(spec, tmp_path) == "needs licence"
    for number, digit in enumerate("ab"):
        folder = tmp_path / "datasets" / f"robust04-{digit * 12}"
        folder.mkdir(parents=True)
        assert status(spec, tmp_path) == ("ready" if number else "needs licence")  # not before it is finished
        (folder / "dataset.toml").touch()
        os.utime(folder / "dataset.toml", (number, number))
        assert place(spec, tmp_path) == folder


def test_a_suite_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "dataset.toml").write_text('name = "told"\n')
    file = tmp_path / "mine.toml"
    file.write_text('name = "three"\ndatasets = ["scifact", "cqadupstack", "cqadupstack/tex", "./own", "./plain"]\n')
    found = suite(str(file))
    assert found.name == "three"
    assert found.datasets[:3] == ("scifact", "cqadupstack", "cqadupstack/tex")
    assert [Path(each) for each in found.datasets[3:]] == [tmp_path / "own", tmp_path / "plain"]
    assert labels(found.datasets[3]) == ("told",)
    assert labels(found.datasets[4]) == ("plain",)
    assert len(labels("cqadupstack")) == 12
    file.write_text('datasets = ["scifact"]\n')
    assert suite(str(file)) == ("mine", ("scifact",))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("datasets = [", "is not TOML"),
        ('name = "x"', "list of datasets is missing"),
        ('datasets = ["scifact", 3]', "missing or wrong"),
        ("datasets = []", "missing or wrong"),
        ('name = 3\ndatasets = ["scifact"]', "missing or wrong"),
        ('datasets = ["scifact"]\nsplit = "dev"', "unknown key 'split'"),
    ],
)
def test_a_suite_file_that_is_none(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        suite(str(tmp_path / "s.toml"))
    assert 'datasets = ["scifact", "./folder"]' in str(caught.value)


def test_suites_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no suite 'beir81'; did you mean beir18"):
        suite("beir81")
    with pytest.raises(UserError, match=r"cannot be read \(No such file"):
        suite(str(tmp_path / "absent.toml"))


def test_the_file_is_part_of_the_package() -> None:
    root = catalog.FILE.parents[2]
    packed = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["harness"]
    assert any(catalog.FILE.relative_to(root / "harness").match(pattern) for pattern in packed)
    assert all(len(line) <= 200 for line in catalog.FILE.read_text().splitlines())
