"""The arithmetic of the plans of fusions and rerankers, against figures worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.models.runner import Prepared
from harness.planning import reranking, speed
from harness.planning.cost_model import CostModel, Endpoint, cost_model
from harness.planning.devices import device
from harness.planning.forecast import Conditions, compared, forecast, total
from harness.planning.reranking import Scoring, recorded_scoring, scoring
from harness.planning.stored import SharedParts
from harness.planning.workload import Workload
from harness.registry.manager import load_registry
from harness.search.rerank import ScoreStore
from tests.conftest import BYTE_COUNTS
from tests.planning.test_forecast import DENSE, LEXICAL, WORK

FUSION = CostModel("f", "fusion", members=(LEXICAL, DENSE), depth=500)
RERANKER = CostModel(
    "r", "reranker", members=(LEXICAL,), depth=50, scoring=Scoring(400, "measured"), weights_bytes=10_000_000
)
BOTH = (("m", "document"), ("m", "query"))


def test_a_fused_cell_by_hand() -> None:
    """6 s for the index, 100,160 tokens at 500 a second, and both searches: 1.2 s and 2.1 s."""
    cell = forecast(FUSION, WORK, Conditions(price=3600.0))
    assert cell.seconds == pytest.approx({"index": 6.0, "encode": 200.32, "geometry": 40.0, "search": 1.2 + 2.1})
    assert cell.cost == pytest.approx(cell.total_seconds)
    assert (cell.documents, cell.tokens, cell.download_bytes, cell.text_bytes) == (1000, 100_160, 200_000, 600_000)
    assert cell.stored_bytes == 300_000 + 1010 * 400
    stored = {("l", "d"): frozenset({"index"}), ("m", "d"): frozenset({"document", "query"})}
    again = forecast(FUSION, WORK, Conditions(stored=stored))
    assert again.seconds == pytest.approx({"index": 0, "encode": 0, "geometry": 40.0, "search": 3.3})
    assert again.stored_bytes == 0


def test_members_are_searched_as_deep_as_their_hits_are_read() -> None:
    """A fusion reads its own depth of each member, a reranker as many as the run needs where that is more."""
    deep, shallow = (forecast(DENSE, WORK, Conditions(depth=depth)).memory_bytes for depth in (1000, 500))
    lexical = 24 * 1000  # without the libraries, which both need
    assert forecast(FUSION, WORK, Conditions(depth=1000)).memory_bytes == shallow + lexical
    assert forecast(replace(FUSION, depth=0), WORK, Conditions(depth=1000)).memory_bytes == deep + lexical
    reranker = replace(RERANKER, members=(DENSE,))
    for depth in (500, 1000):
        first = forecast(DENSE, WORK, Conditions(depth=depth)).memory_bytes
        found = forecast(replace(reranker, depth=500), WORK, Conditions(depth=depth)).memory_bytes
        assert found == first + 4 * 10_000_000


def test_members_with_the_same_vectors_encode_them_once_but_results_count_them_twice() -> None:
    mapped = replace(DENSE, label="t", kind="transform", dim=40, base=DENSE, repeated=BOTH)
    fusion = CostModel("f", "fusion", members=(DENSE, mapped), depth=1000)
    first, second = forecast(DENSE, WORK, Conditions()), forecast(replace(mapped, repeated=()), WORK, Conditions())
    cell = forecast(fusion, WORK, Conditions())
    assert cell.seconds["encode"] == pytest.approx(200.32)
    assert cell.seconds["transform"] == second.seconds["transform"]
    assert cell.stored_bytes == 1010 * 400 + 1010 * 160
    whole = forecast(fusion, WORK, Conditions(in_full=True))
    assert whole.total_seconds == pytest.approx(first.total_seconds + second.total_seconds)
    nested = CostModel("g", "fusion", members=(DENSE, replace(fusion, repeated=BOTH)), depth=1000)
    assert forecast(nested, WORK, Conditions()).seconds["encode"] == pytest.approx(200.32)


def test_a_reranked_cell_by_hand() -> None:
    """10 queries of 16 tokens, 50 documents of 100 tokens each: 500 pairs of 116 tokens at 400 a second."""
    cell = forecast(RERANKER, WORK, Conditions(price=3600.0))
    assert cell.seconds == pytest.approx({"index": 6.0, "search": 1.2, "rerank": 500 * 116 / 400})
    assert cell.cost == pytest.approx(7.2 + 145)
    assert cell.stored_bytes == 300_000 + 500 * 4
    assert cell.memory_bytes == 1_040_000_000 + 24 * 1000
    cut = forecast(replace(RERANKER, longest=58), WORK, Conditions())
    assert cut.seconds["rerank"] == pytest.approx(500 * 58 / 400)
    few = forecast(RERANKER, replace(WORK, documents=20, document_tokens=2000), Conditions())
    assert few.seconds["rerank"] == pytest.approx(200 * 116 / 400)  # no more than there are
    done = compared(cell, {"index": 6.0, "search": 1.2, "rerank": 300.0, "fuse": 9.0}, comparable=True)
    assert done.measured == {"index": 6.0, "search": 1.2, "rerank": 300.0}


def test_pairs_are_cut_text_by_text() -> None:
    """Documents of 100 and of 1,900 characters: 23 and 401 tokens, and queries of 10."""
    work = Workload("d", 10, 2, document_tokens=2035, query_tokens=20, sampled=(100, 1900))
    assert work.pair_tokens(128) == pytest.approx((33 + 128) / 2)
    assert work.pair_tokens(512) == pytest.approx((33 + 411) / 2)
    assert work.pair_tokens(0) == pytest.approx((33 + 394) / 2)
    assert replace(work, sampled=()).pair_tokens(0) == pytest.approx(10 + 203.5)
    assert replace(work, sampled=()).pair_tokens(100) == 100
    assert replace(work, queries=None).pair_tokens(100) is None


def test_what_is_not_known_of_a_member_is_left_open() -> None:
    absent = replace(DENSE, encoding=None, note="harness fetch m")
    cell = forecast(replace(FUSION, members=(LEXICAL, absent)), replace(WORK, note="needs licence"), Conditions(1.0))
    assert (cell.seconds, cell.cost, cell.note) == (None, None, "needs licence; harness fetch m")
    assert cell.stored_bytes == 300_000 + 1010 * 400
    slow = forecast(replace(RERANKER, scoring=None, note="speed unknown"), WORK, Conditions())
    assert (slow.seconds, slow.note, slow.stored_bytes) == (None, "speed unknown", 302_000)
    assert forecast(replace(RERANKER, depth=0), WORK, Conditions()).seconds is None
    nameless = forecast(FUSION, Workload("d", note="its size is not known"), Conditions(price=1.0))
    assert (nameless.seconds, nameless.documents, nameless.note) == (None, None, "its size is not known")


def test_members_behind_endpoints_cost_what_they_are_sent() -> None:
    remote = replace(DENSE, endpoint=Endpoint("http://127.0.0.1", 2.0))
    cell = forecast(replace(FUSION, members=(LEXICAL, remote)), WORK, Conditions(price=3600.0))
    assert cell.sent_tokens == 100_160
    assert cell.cost == pytest.approx(cell.total_seconds + 0.20032)
    served = replace(RERANKER, endpoint=Endpoint("http://127.0.0.1", 1.0), members=(remote,), weights_bytes=0)
    cell = forecast(served, WORK, Conditions())
    assert cell.sent_tokens == 100_160 + 50 * (10 * 100 + 160)
    assert cell.cost == pytest.approx(0.20032 + 0.058)
    assert cell.seconds["rerank"] == pytest.approx(145)


def test_weights_of_members_are_downloaded_once() -> None:
    minilm = replace(DENSE, download_bytes=10_000_000, files="weights-1")
    cut = replace(minilm, label="m:truncate_dim=8", dim=8)
    fusion = CostModel("f", "fusion", members=(minilm, cut, LEXICAL), depth=1000)
    cells = [forecast(model, WORK, Conditions()) for model in (minilm, fusion)]
    assert total("all", cells, [minilm, fusion]).download_bytes == 200_000 + 10_000_000
    assert total("f", cells[1:], [fusion]).download_bytes == 200_000 + 10_000_000


def test_what_earlier_rows_store_for_any_member_counts_for_later_ones() -> None:
    registry = load_registry([BYTE_COUNTS])
    shared, both = SharedParts(), frozenset(("document", "query"))
    fusion = registry.model("rrf(bm25,center(byte-counts))")
    assert not any(shared.of(fusion, [WORK]).values())
    shared.add(registry.model("byte-counts:truncate_dim=16"), "d")
    found = shared.of(fusion, [WORK])
    assert found["byte-counts", "d"] == both
    assert found["bm25", "d"] == found["center(byte-counts)", "d"] == frozenset()
    shared.add(fusion, "d")
    assert shared.of(registry.model("rerank(bm25:k1=2):model=x"), [WORK]) == {("bm25:k1=2.0", "d"): frozenset()}
    assert shared.of(registry.model("rerank(bm25):model=x"), [WORK]) == {("bm25", "d"): frozenset({"index"})}
    assert shared.of(registry.model("center(byte-counts)"), [WORK])["center(byte-counts)", "d"] == both


def test_members_are_measured_alone_and_say_what_an_earlier_one_stores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "ENOUGH_ENCODING", 0.01)
    monkeypatch.setattr(speed, "_scan", lambda device: {"flops": 1e9, "query_seconds": 0.0, "processor_flops": 1e9})
    text = "rrf(byte-counts,byte-counts:truncate_dim=16):depth=7"
    ref = load_registry([BYTE_COUNTS]).model(text)
    costs = cost_model(ref, Prepared(ref, tmp_path), tmp_path, None, lambda *_: None)
    first, second = costs.members
    assert (costs.depth, first.dim, second.dim, first.repeated) == (7, 256, 16, ())
    assert set(second.repeated) == {("byte-counts:truncate_dim=16", role) for role in ("document", "query")}
    assert [part.label for part in costs.parts] == [first.label, second.label, text]


class _Clocked:
    """Scores pairs at 50 tokens a second of a clock of its own, with 5 tokens a pair (or does not count them)."""

    depth = 3

    def __init__(self, clock: list[float], counted: int) -> None:
        self.clock, self.counted = clock, counted

    def score(self, pairs: Any) -> Any:
        from harness.registry.protocols import Scored

        self.clock[0] += len(pairs) * 0.1
        return Scored(np.zeros(len(pairs), np.float32), self.counted * len(pairs))


@pytest.mark.parametrize("counted", [5, 0])
def test_the_speed_of_a_reranker_is_measured_with_pairs(monkeypatch: pytest.MonkeyPatch, counted: int) -> None:
    clock = [0.0]
    monkeypatch.setattr(speed.time, "perf_counter", lambda: clock[0])
    model: Any = type("Model", (), {"reranker": _Clocked(clock, counted), "label": "r"})()
    found = reranking._score(model)["tokens_per_second"]
    if counted:
        assert found == pytest.approx(50)
    else:  # 32 pairs take 3.2 s
        texts = [text for pair in reranking._sample_pairs(32) for text in pair]
        assert found == pytest.approx(sum(2 + 0.21 * len(text) for text in texts) / 3.2)


def test_recorded_scores_say_how_fast_a_reranker_is(tmp_path: Path) -> None:
    key = "ab" * 32
    store = ScoreStore(tmp_path, key)
    store.put("1" * 64, np.ones((3, 1), np.float32), 9.0, 1000)
    assert recorded_scoring(key, tmp_path) is None  # too little to say anything
    store.put("2" * 64, np.ones((3, 1), np.float32), 6.0, 29_000)
    store.put("3" * 64, np.ones((3, 1), np.float32), 6.0, 0)  # its tokens were not counted
    assert recorded_scoring(key, tmp_path) == Scoring(2000, "recorded")
    model: Any = type("Model", (), {"ref": type("Ref", (), {"own_key": key})})()
    assert scoring(model, tmp_path, lambda *_: None) == Scoring(2000, "recorded")


def test_a_reranker_on_a_named_device_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two layers of 4 x 32 x 32 and 2 x 32 x 64 numbers, and the score's 32; 24 tokens of a pair are read."""
    pytest.importorskip("sentence_transformers")
    from tests.cross_encoders import write_cross_encoder

    monkeypatch.setattr(speed, "_scan", lambda device: {"flops": 1e9, "query_seconds": 0.0, "processor_flops": 1e9})
    folder = write_cross_encoder(tmp_path / "cross", {"bread", "moon"})
    registry = load_registry([BYTE_COUNTS])
    ref = registry.model(f"rerank(byte-counts):model={folder},depth=7")
    t4 = device("t4")
    flops = 2 * (2 * (4 * 32**2 + 2 * 32 * 64) + 32)
    costs = cost_model(ref, "not measured: nothing here", tmp_path, t4, lambda *_: None)
    assert costs.scoring == Scoring(pytest.approx(65e12 * 0.25 / flops), "assumed")
    assert (costs.depth, costs.longest, costs.note) == (7, 24, "")
    assert costs.weights_bytes == (folder / "model.safetensors").stat().st_size
    shorter = registry.model(f"rerank(byte-counts):model={folder},max_length=10")
    assert cost_model(shorter, "", tmp_path, t4, lambda *_: None).longest == 10
    assert ref.facts["max_tokens"] == 24
    assert ref.facts["parameters"] > flops / 2
