"""Speeds: what is on record, what is measured, and that a measurement is made once."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from harness import throughput
from harness.index import search
from harness.prepared import Prepared
from harness.registry import load_registry
from harness.throughput import encoding, indexing, recorded_encoding, sample_texts, scanning
from harness.vectors import Vectors, VectorStore
from tests.conftest import BYTE_COUNTS


def put(home: Path, key: str, tokens: int, seconds: float) -> None:
    store = VectorStore(home, key, "document")
    store.put(f"{tokens:064x}", np.ones((3, 7), np.float32), seconds, tokens)


def test_recorded_speed_is_all_tokens_over_all_seconds(tmp_path: Path) -> None:
    key = "ab" * 32
    assert recorded_encoding(key, tmp_path) is None
    put(tmp_path, key, 1_000, 9.0)
    assert recorded_encoding(key, tmp_path) is None  # too little to say anything
    put(tmp_path, key, 29_000, 6.0)
    put(tmp_path, "cd" * 32, 90_000, 1.0)
    (tmp_path / "vectors" / key[:32] / "document" / "beef.json").write_text("{")
    found = recorded_encoding(key, tmp_path)
    assert (found.tokens_per_second, found.dim, found.origin) == (30_000 / 15.0, 7, "recorded")


def test_a_measurement_is_made_once_and_gives_way_to_the_record(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(throughput, "ENOUGH_ENCODING", 0.02)
    model = Prepared(load_registry([BYTE_COUNTS]).model("byte-counts"), tmp_path)
    first = encoding(model, tmp_path, lambda *_: None)
    assert first.tokens_per_second > 0
    assert (first.dim, first.origin) == (256, "measured")
    [file] = (tmp_path / "throughput").glob("*.json")
    content = json.loads(file.read_text())
    assert content["sample"] == throughput.SAMPLE
    content["figures"]["tokens_per_second"] = 123.0
    file.write_text(json.dumps(content))
    fresh = Prepared(load_registry([BYTE_COUNTS]).model("byte-counts"), tmp_path)
    assert encoding(fresh, tmp_path, lambda *_: None).tokens_per_second == 123.0
    assert "_loaded" not in vars(fresh)  # nothing was loaded for it
    put(tmp_path, fresh.ref.key, 40_000, 10.0)
    assert encoding(fresh, tmp_path, lambda *_: None).tokens_per_second == 4000.0
    monkeypatch.setattr(throughput, "machine", lambda: {"system": "another"})
    (tmp_path / "vectors").rename(tmp_path / "away")
    assert encoding(fresh, tmp_path, lambda *_: None).tokens_per_second != 123.0


def test_indexing_takes_the_record_of_stored_indexes(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("bm25s")
    monkeypatch.setattr(throughput, "ENOUGH_INDEXING", 0.01)
    model = Prepared(load_registry().model("bm25"), tmp_path)
    measured = indexing(model, tmp_path, lambda *_: None)
    assert measured.origin == "measured"
    assert measured.bytes_per_second > 1e5
    assert measured.query_seconds + measured.query_document_seconds > 0
    sha256 = "ef" * 32
    corpus, index = tmp_path / "corpora" / "x", tmp_path / "indexes" / model.ref.key[:32] / sha256[:32]
    for folder in (corpus, index):
        folder.mkdir(parents=True)
    (corpus / "index.json").write_text(json.dumps({"sha256": sha256, "size": 6_000_000}))
    record = json.dumps({"seconds": 2.0, "files": {}})
    (index / "harness-index.json").write_text(record)
    (index / "postings").write_bytes(bytes(3_000_000 - len(record)))
    found = indexing(model, tmp_path, lambda *_: None)
    assert (found.bytes_per_second, found.index_share, found.origin) == (3_000_000.0, 0.5, "recorded")
    assert found.query_seconds == measured.query_seconds


def test_exact_search_is_measured_as_it_is_done(tmp_path: Path) -> None:
    """What is predicted of a search from the two figures is what that search takes, within a factor of four."""
    pytest.importorskip("faiss")
    speed = scanning(tmp_path, lambda *_: None)
    rng = np.random.default_rng(3)
    documents, queries = (rng.standard_normal((n, 256), np.float32) for n in (20_000, 64))
    start = time.perf_counter()
    hits = list(search(queries, Vectors.of(documents), np.zeros(256), 1000, "euclidean"))
    spent = time.perf_counter() - start
    assert len(hits) == 64
    predicted = 2 * 20_000 * 64 * 256 / speed.flops + 64 * speed.query_seconds
    assert predicted / 4 < spent < 4 * predicted


def test_the_sample_is_always_the_same_and_spread_alike() -> None:
    texts = sample_texts(64)
    assert texts == sample_texts(128)[:64]
    lengths = [len(text.split()) for text in texts]
    assert min(lengths) >= 10
    assert max(lengths) <= 150
    assert len(set(lengths)) > 50
    words = [throughput._word(rank) for rank in range(throughput.VOCABULARY)]
    assert len(set(words)) == len(words)
    counts = np.unique([word for text in texts for word in text.split()], return_counts=True)[1]
    assert all(a >= b for a, b in pairwise(sorted(counts, reverse=True)))
    assert 0.25 < sum(word in throughput.COMMON for text in texts for word in text.split()) / sum(lengths) < 0.45
