"""The doctor against a dataset whose every ailment was put there by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from harness.datasets.beir import open_dataset
from harness.datasets.doctor import Diagnosis, examine
from harness.types import UserError


def examined(
    folder: Path,
    corpus: dict[str, tuple[str, str]],
    queries: dict[str, str],
    qrels: list[tuple[str, str, int]],
    **options: bool,
) -> Diagnosis:
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"_id": each, "title": title, "text": text}) for each, (title, text) in corpus.items()]
    (folder / "corpus.jsonl").write_text("\n".join(lines))
    (folder / "queries.jsonl").write_text("\n".join(json.dumps({"_id": q, "text": t}) for q, t in queries.items()))
    rows = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in qrels)]
    (folder / "qrels" / "test.tsv").write_text("\n".join(rows))
    with open_dataset(folder, cache=folder / "cache", **options) as dataset:
        return examine(dataset)


def severities(report: Diagnosis) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"ok": [], "note": [], "problem": []}
    for finding in report.findings:
        found[finding.severity].append(finding.sentence)
    return found


def test_healthy(tmp_path: Path) -> None:
    report = examined(tmp_path, {"d1": ("t", "one"), "d2": ("t", "two")}, {"q1": "?"}, [("q1", "d1", 1)])
    found = severities(report)
    assert len(found["ok"]) == len(report.findings) == 8
    assert (report.documents, report.queries, report.judgements, report.splits) == (2, 1, 1, ["test"])
    assert json.loads(json.dumps(report.to_dict()))["document_characters"]["max"] == 5


def test_every_ailment_is_counted(tmp_path: Path) -> None:
    corpus = {
        "a": ("t", "same"), "b": ("t", "other"), "c": ("t", "same"), "d": ("", ""), "e": ("", " "),
        "f": ("t", "same"), "g": ("", "t other"), "h": ("", "alone"),
    }  # fmt: skip
    queries = {"q1": "what", "q2": "what", "q3": " ", "q4": "who", "unjudged": "what"}
    qrels = [("q1", "a", 1), ("q2", "gone", 1), ("q3", "b", 2), ("q3", "gone", 1), ("q4", "h", 0), ("q4", "b", -1)]
    report = examined(tmp_path, corpus, queries, qrels)
    assert report.queries_without_relevant == ["q4"]
    assert report.dangling == ["gone"]
    assert report.empty_queries == ["q3"]
    assert report.empty_documents == ["d", "e"]
    assert report.empty_titles == 4
    documents = report.duplicate_documents
    assert (documents.groups, documents.surplus, documents.examples) == (2, 3, [["a", "c", "f"], ["b", "g"]])
    assert (report.duplicate_queries.groups, report.duplicate_queries.examples) == (1, [["q1", "q2"]])
    lengths = [len(f"{title} {text}".strip()) for title, text in corpus.values()]
    assert report.document_characters["median"] == np.median(lengths)
    assert report.document_characters["p95"] == pytest.approx(np.percentile(lengths, 95))
    found = severities(report)
    assert [sentence.split(":")[0] for sentence in found["problem"]] == [
        "1 judged queries without a relevant document (they count 0)",
        "1 judged documents that are not in the corpus",
        "1 judged queries without text",
    ]
    assert len(found["note"]) == 5
    assert any("a = c = f; b = g" in sentence for sentence in found["note"])


@pytest.mark.parametrize(
    ("texts", "exclude_self", "severity", "words"),
    [
        (["the first one", "the second one"], False, "problem", "2 of 2 judged queries are documents themselves"),
        (["the first one", "the second one"], True, "ok", "exclude_self leaves each out"),
        (["unlike", "unlike too"], False, "note", "2 judged queries share their id with a document of another text"),
        (["unlike", "unlike too"], True, "problem", "which exclude_self would leave out"),
    ],
)
def test_ids_on_both_sides(tmp_path: Path, texts: list[str], exclude_self: bool, severity: str, words: str) -> None:
    """ArguAna's queries are documents, Cranfield's merely count from 1 as its documents do."""
    corpus = {"1": ("", "the first one"), "2": ("", "The second one"), "3": ("", "third")}
    queries = dict(zip("12", texts, strict=True))
    report = examined(tmp_path, corpus, queries, [("1", "3", 1), ("2", "3", 1)], exclude_self=exclude_self)
    assert report.ids_on_both_sides == 2
    assert any(words in sentence for sentence in severities(report)[severity])


def test_real_collection(tmp_path: Path, shared: Path) -> None:
    """Counts that the collection's own notes state; its one exact duplicate is the pair of empty documents."""
    with open_dataset(shared / "data" / "cranfield", cache=tmp_path) as dataset:
        report = examine(dataset)
    assert (report.documents, len(report.empty_documents), report.duplicate_documents.surplus) == (1400, 2, 0)
    assert report.splits == ["test"]
    assert not severities(report)["problem"]


def test_queries_that_share_documents_and_declared_groups(tmp_path: Path) -> None:
    """Clusters of 2, 1 and 1: design effect 1 + (6/4 - 1) x correlation."""
    corpus = {each: ("t", each) for each in "abc"}
    judged = [("q1", "a", 1), ("q2", "a", 1), ("q3", "b", 1), ("q3", "c", 0), ("q4", "c", 2)]
    queries = {f"q{number}": f"? {number}" for number in range(1, 5)}
    report = examined(tmp_path, corpus, queries, judged)
    (told,) = (each for each in severities(report)["note"] if "clusters" in each)
    assert "the 4 queries are 3 clusters of queries that share a relevant document (the largest has 2)" in told
    assert report.design_effect == pytest.approx({"0.1": 1.05, "0.3": 1.15, "1": 1.5})

    lines = [json.dumps({"_id": q, "text": t, "metadata": {"article": q in ("q1", "q4")}}) for q, t in queries.items()]
    (tmp_path / "queries.jsonl").write_text("\n".join(lines))
    (tmp_path / "dataset.toml").write_text('query_group = "article"\n')
    with pytest.raises(UserError, match=r"queries.jsonl line 1 has no text or whole number 'article' in its metadata"):
        open_dataset(tmp_path, cache=tmp_path / "cache")
    text = (tmp_path / "queries.jsonl").read_text().replace("true", '"x"').replace("false", "7")
    (tmp_path / "queries.jsonl").write_text(text)
    with open_dataset(tmp_path, cache=tmp_path / "cache") as dataset:
        assert dataset.groups == {"q1": "x", "q2": "7", "q3": "7", "q4": "x"}
        assert dataset.described()["clusters"] == {"rule": "group", "clusters": 2, "largest": 2, "linked": 2}
        plain = dataset.fingerprint
    (tmp_path / "dataset.toml").unlink()
    with open_dataset(tmp_path, cache=tmp_path / "cache") as dataset:
        assert dataset.fingerprint == plain, "the key of a result does not depend on groups"
