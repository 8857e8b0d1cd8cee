"""Speeds: what is on record, what is measured, and for how long a measurement is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.embeddings.store import Vectors, VectorStore
from harness.models.runner import Prepared
from harness.planning import speed
from harness.planning.speed import encoding, indexing, recorded_encoding, sample_texts, scanning
from harness.registry.manager import load_registry
from harness.search.exact import Limits
from harness.storage.records import seal, unsealed
from harness.system.processor import Watch
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


@pytest.fixture
def machine_state(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Whether other work takes the processor while something is measured."""
    state = {"busy": False}

    @contextmanager
    def watching() -> Iterator[Watch]:
        yield Watch(state["busy"])

    monkeypatch.setattr(speed, "watching", watching)
    return state


def ours(home: Path) -> Prepared:
    return Prepared(load_registry([BYTE_COUNTS]).model("byte-counts"), home)


def kept(home: Path) -> list[Path]:
    return [*(home / "throughput").glob("*.json")]


def rewritten(file: Path, **changed: object) -> None:
    """A kept measurement, with a checksum of what it says now."""
    file.write_text(json.dumps(seal(unsealed(json.loads(file.read_text())) | changed)))


def test_a_measurement_is_made_once_and_gives_way_to_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine_state: dict[str, bool]
) -> None:
    monkeypatch.setattr(speed, "ENOUGH_ENCODING", 0.02)
    first = encoding(ours(tmp_path), tmp_path, lambda *_: None)
    assert first.tokens_per_second > 0
    assert (first.dim, first.origin, first.reliable) == (256, "measured", True)
    [file] = kept(tmp_path)
    assert json.loads(file.read_text())["of"]["sample"] == speed.SAMPLE
    rewritten(file, figures={"tokens_per_second": 123.0, "dim": 256})
    fresh = ours(tmp_path)
    assert encoding(fresh, tmp_path, lambda *_: None).tokens_per_second == 123.0
    assert "_loaded" not in vars(fresh)  # nothing was loaded for it
    put(tmp_path, fresh.ref.key, 40_000, 10.0)
    assert encoding(fresh, tmp_path, lambda *_: None).tokens_per_second == 4000.0


@pytest.mark.parametrize("change", ["machine", "threads", "days", "future", "another's", "damaged"])
def test_it_is_made_again_when_it_no_longer_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine_state: dict[str, bool], change: str
) -> None:
    monkeypatch.setattr(speed, "ENOUGH_ENCODING", 0.02)
    encoding(ours(tmp_path), tmp_path, lambda *_: None)
    [file] = kept(tmp_path)
    rewritten(file, figures={"tokens_per_second": 123.0, "dim": 256})
    stated = json.loads(file.read_text())
    if change == "machine":
        monkeypatch.setattr(speed, "machine", lambda: {"processor": "another"})
    elif change == "threads":
        monkeypatch.setattr(speed, "threads", lambda: 77)
    elif change == "days":
        rewritten(file, time=stated["time"] - speed.DAYS * 86_400 - 1)
    elif change == "future":
        rewritten(file, time=stated["time"] + 1e9)
    elif change == "another's":
        rewritten(file, of={**stated["of"], "what": "encoding something else"})
    else:
        file.write_text(file.read_text().replace("123.0", "124.0"))
    assert encoding(ours(tmp_path), tmp_path, lambda *_: None).tokens_per_second not in (123.0, 124.0)


def test_what_was_measured_on_a_busy_machine_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine_state: dict[str, bool]
) -> None:
    monkeypatch.setattr(speed, "ENOUGH_ENCODING", 0.02)
    machine_state["busy"] = True
    told: list[str] = []
    first, again = (encoding(ours(tmp_path), tmp_path, lambda text, *_: told.append(text)) for _ in range(2))
    assert not first.reliable
    assert again == first  # the rows of one plan measure once
    assert len(told) == 1
    assert kept(tmp_path) == []
    machine_state["busy"] = False
    monkeypatch.setattr(speed, "RECENT", 0)
    assert encoding(ours(tmp_path), tmp_path, lambda *_: None).reliable
    assert len(kept(tmp_path)) == 1


def test_the_median_of_several_runs_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    spent = iter([9.0, 2.0])
    monkeypatch.setattr(speed, "timed", lambda work: next(spent))
    assert speed.median_seconds(lambda: None, 1.0) == 2.0


def test_indexing_takes_the_record_of_stored_indexes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine_state: dict[str, bool]
) -> None:
    pytest.importorskip("bm25s")
    monkeypatch.setattr(speed, "ENOUGH_INDEXING", 0.01)
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


def test_what_a_query_costs_and_what_documents_add_come_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that only searches move, by a fixed time a query and one a product."""
    pytest.importorskip("faiss")
    clock, asked = [0.0], list[str]()

    def search(queries: Any, documents: Vectors, *_: Any, limits: Limits) -> list[Any]:
        asked.append(limits.device)
        clock[0] += len(queries) * 0.002 + 2 * len(queries) * len(documents) * documents.dim / 4e9
        return []

    monkeypatch.setattr("harness.search.exact.search", search)
    monkeypatch.setattr(speed.time, "perf_counter", lambda: clock[0])
    found = speed._searching("cuda")
    assert (found["flops"], found["query_seconds"]) == (pytest.approx(4e9), pytest.approx(0.002))
    assert {*asked} == {"cuda"}


def test_the_processors_products_are_what_numpy_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock by which every look takes a second: a measurement of 1 s is 2 products."""
    clock = iter(range(100))
    monkeypatch.setattr(speed.time, "perf_counter", lambda: float(next(clock)))
    assert speed._multiplying() == 2.0 * 512 * 4096 * 768 * 2


def test_search_is_measured_for_the_device_that_does_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine_state: dict[str, bool]
) -> None:
    speeds = {"cpu": 1e10, "cuda": 1e13}
    monkeypatch.setattr(
        speed, "_scan", lambda device: {"flops": speeds[device], "query_seconds": 0.0, "processor_flops": 1e10}
    )
    told: list[str] = []
    for device in ("cpu", "cuda", "cpu"):
        assert scanning(tmp_path, lambda text, *_: told.append(text), device).flops == speeds[device]
    assert len(kept(tmp_path)) == 2
    assert told == ["measuring exact search"] * 2  # what is cached is not measured


def test_the_sample_is_always_the_same_and_spread_alike() -> None:
    texts = sample_texts(64)
    assert texts == sample_texts(128)[:64]
    lengths = [len(text.split()) for text in texts]
    assert min(lengths) >= 10
    assert max(lengths) <= 150
    assert len(set(lengths)) > 50
    words = [speed._word(rank) for rank in range(speed.VOCABULARY)]
    assert len(set(words)) == len(words)
    counts = np.unique([word for text in texts for word in text.split()], return_counts=True)[1]
    assert all(a >= b for a, b in pairwise(sorted(counts, reverse=True)))
    assert 0.25 < sum(word in speed.COMMON for text in texts for word in text.split()) / sum(lengths) < 0.45


def test_a_line_through_two_measurements() -> None:
    """Neither the slope nor the offset is below 0."""
    assert speed._line(100, 1.0, 300, 2.0) == (0.005, 0.5)
    assert speed._line(100, 1.0, 300, 0.5) == (0.0, 1.0)
    assert speed._line(100, 1.0, 300, 9.0) == (0.04, 0.0)
