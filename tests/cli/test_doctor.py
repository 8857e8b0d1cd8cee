"""``harness doctor``: findings, their JSON, and an exit code to gate on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import write_dataset


def findings(text: str) -> list[tuple[str, str]]:
    return [tuple(line.split(": ", 1)) for line in text.splitlines()]  # type: ignore[misc]


def test_a_sound_dataset(harness, toy: Path) -> None:
    done = harness("doctor", toy)
    assert done.code == 0, done.err
    assert {severity for severity, _ in findings(done.out)} == {"ok", "note"}
    notes = [sentence for severity, sentence in findings(done.out) if severity == "note"]
    assert notes == ["11 of 12 documents without a title"]


PLANTED = {
    "a query without relevant documents": ("queries_without_relevant", ["q4"]),
    "a judged document that is gone": ("dangling", ["ghost"]),
    "an empty query": ("empty_queries", ["q1"]),
}


def plant(name: str, toy: Path) -> None:
    qrels, queries = toy / "qrels" / "test.tsv", toy / "queries.jsonl"
    if name == "a query without relevant documents":
        qrels.write_text(qrels.read_text().replace("q4\tmars\t1", "q4\tmars\t0"))
    elif name == "a judged document that is gone":
        qrels.write_text(qrels.read_text() + "q1\tghost\t1\n")
    else:
        queries.write_text(queries.read_text().replace("how does blood move", " "))


@pytest.mark.parametrize("name", PLANTED)
def test_a_problem_is_named_and_the_exit_code_is_1(name: str, harness, toy: Path) -> None:
    plant(name, toy)
    key, ids = PLANTED[name]
    done = harness("doctor", toy)
    assert done.code == 1
    [problem] = [sentence for severity, sentence in findings(done.out) if severity == "problem"]
    assert problem.endswith(f": {ids[0]}")
    as_json = harness("doctor", toy, "--json")
    assert as_json.code == 1
    report = json.loads(as_json.out)
    assert report[key] == ids
    assert {"severity": "problem", "sentence": problem} in report["findings"]
    assert [(f["severity"], f["sentence"]) for f in report["findings"]] == findings(done.out)


def test_notes_do_not_fail(harness, tmp_path: Path) -> None:
    documents = {"d1": "the same text", "d2": "the same text", "d3": "", "q1": "a document with a query's id"}
    folder = write_dataset(
        tmp_path / "odd", documents, {"q1": "what", "q2": "what"}, [("q1", "d1", 1), ("q2", "d2", 1)]
    )
    done = harness("doctor", folder, "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert report["duplicate_documents"] == {"groups": 1, "surplus": 1, "examples": [["d1", "d2"]]}
    assert report["duplicate_queries"]["examples"] == [["q1", "q2"]]
    assert report["empty_documents"] == ["d3"]
    assert (report["ids_on_both_sides"], report["same_text"]) == (1, 0)
    assert (report["name"], report["split"], report["splits"]) == ("odd", "test", ["test"])
    assert (report["documents"], report["queries"], report["judgements"]) == (4, 2, 2)
    assert report["document_characters"] | {"min": 0, "max": 28} == report["document_characters"]
    assert [f["severity"] for f in report["findings"]].count("note") == 4


def test_queries_that_are_documents_want_exclude_self(harness, tmp_path: Path) -> None:
    texts = {"a": "red apples are sweet", "b": "green apples are sour"}
    folder = write_dataset(tmp_path / "self", texts, texts, [("a", "b", 1), ("b", "a", 1)])
    done = harness("doctor", folder)
    assert done.code == 1
    assert "set exclude_self = true in dataset.toml" in done.out
    (folder / "dataset.toml").write_text("exclude_self = true\n")
    assert harness("doctor", folder).code == 0
    assert harness("doctor", folder, "--include-self").code == 1


def test_the_split_and_the_limit_it_was_asked_for(harness, toy: Path) -> None:
    (toy / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tgone\t1\nq1\theart\t1\n")
    assert harness("doctor", toy).code == 0
    done = harness("doctor", toy, "--split", "dev", "--json")
    assert done.code == 1
    assert json.loads(done.out)["splits"] == ["dev", "test"]
    assert json.loads(harness("doctor", toy, "--limit", 2, "--json").out)["queries"] == 2


def test_a_plugins_dataset(harness, tmp_path: Path, toy: Path) -> None:
    plugin = tmp_path / "toys.py"
    plugin.write_text(
        "import shutil\nfrom harness import DatasetSpec, hookimpl\n"
        f"def build(folder):\n    shutil.copytree({str(toy)!r}, folder, dirs_exist_ok=True)\n"
        "def key():\n    return '1'\n"
        "@hookimpl\ndef harness_datasets():\n"
        "    yield DatasetSpec('toys', '', f'{__name__}:build', f'{__name__}:key')\n"
    )
    done = harness("doctor", "toys", "--plugin", plugin, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["documents"] == 12
