"""The arithmetic of plans, against figures worked out by hand and sums published for BEIR."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.planning.cost_model import CostModel, Endpoint
from harness.planning.devices import device, devices
from harness.planning.forecast import Conditions, compared, forecast, total
from harness.planning.speed import Encoding, Indexing, PoolingSpeed, Scanning, SearchSpeed
from harness.planning.workload import QUERY_TOKENS, Workload, workloads
from harness.registry.manager import load_registry
from harness.types import UserError

WORK = Workload("d", 1000, 10, document_tokens=100_000, query_tokens=160, text_bytes=600_000, download_bytes=200_000)
DENSE = CostModel(
    "m", "dense", Encoding(500, 100, "recorded"), None, Scanning(1e6, 0.01), 100, weights_bytes=10_000_000
)
LEXICAL = CostModel("l", "lexical", indexing=Indexing(1e5, 0.5, 0.02, 1e-4, "measured"))


@pytest.fixture
def beir18(tmp_path: Path) -> list[Workload]:
    return workloads([], ["beir18"], load_registry(), tmp_path)


def test_a_dense_cell_by_hand() -> None:
    cell = forecast(DENSE, WORK, Conditions(price=36.0))
    assert cell.seconds == pytest.approx({"encode": 100_160 / 500, "geometry": 40.0, "search": 2.0 + 0.1})
    assert cell.total_seconds == pytest.approx(242.42)
    assert cell.cost == pytest.approx(2.4242)
    assert (cell.documents, cell.tokens) == (1000, 100_160)
    assert (cell.download_bytes, cell.text_bytes, cell.stored_bytes) == (200_000, 600_000, 1010 * 100 * 4)
    assert forecast(DENSE, WORK, Conditions(number_bytes=2)).stored_bytes == (1000 * 2 + 10 * 4) * 100
    # 1 GB of process, 4 times the weights, 24 MiB of FAISS, blocks of 1,000 documents, and 10 queries of which
    # 1,094 documents each are kept
    search = (24 << 20) + 1000 * (14 * 100 + 12) + 10 * (12 * 100 + 88 * 1094 + 16 * 1000)
    assert cell.memory_bytes == 1_040_000_000 + search
    large = replace(WORK, documents=30_000_000, queries=100_000)
    assert forecast(DENSE, large, Conditions(search_bytes=50_000_000)).memory_bytes == 1_090_000_000


def test_search_and_geometry_run_where_they_run() -> None:
    """The geometry on the processor, whatever searches."""
    gpu = replace(DENSE, scanning=Scanning(1e9, 0.01, processor_flops=2e6))
    cell = forecast(gpu, WORK, Conditions())
    assert cell.seconds == pytest.approx({"encode": 100_160 / 500, "geometry": 20.0, "search": 0.002 + 0.1})


def test_a_lexical_cell_by_hand() -> None:
    cell = forecast(LEXICAL, WORK, Conditions(price=3600.0))
    assert cell.seconds == pytest.approx({"index": 6.0, "search": 10 * (0.02 + 0.1)})
    assert cell.cost == pytest.approx(7.2)
    assert cell.stored_bytes == 300_000
    built = Conditions(stored={("l", "d"): frozenset({"index"})})
    again = forecast(LEXICAL, WORK, built)
    assert again.seconds == pytest.approx({"index": 0.0, "search": 1.2})
    assert again.stored_bytes == 0


def test_a_sparse_cell_by_hand() -> None:
    encoding, searching = Encoding(500, 30_000, "measured", text_bytes=808.5), SearchSpeed(0.02, 1e-4)
    model = CostModel("s", "sparse", encoding, search_speed=searching)
    cell = forecast(model, WORK, Conditions(price=3600.0))
    assert cell.seconds == pytest.approx({"encode": 100_160 / 500, "search": 10 * (0.02 + 0.1)})
    assert cell.stored_bytes == 816_585  # 1,010 texts
    queries = forecast(model, WORK, Conditions(stored={("s", "d"): frozenset({"document"})}))
    assert queries.seconds == pytest.approx({"encode": 160 / 500, "search": 1.2})
    assert queries.stored_bytes == 8085


def test_token_vectors_of_documents_may_be_kept_in_float16() -> None:
    encoding = Encoding(500, 128, "measured", text_bytes=1000)
    model = CostModel("s", "multivector", encoding, search_speed=SearchSpeed(1, 1))
    assert forecast(model, WORK, Conditions()).stored_bytes == 1_010_000  # 1,000 documents and 10 queries
    assert forecast(model, WORK, Conditions(number_bytes=2)).stored_bytes == 510_000


def test_stored_vectors_cost_nothing() -> None:
    for roles, tokens, rows in ((("document",), 160, 10), (("query",), 100_000, 1000), (("document", "query"), 0, 0)):
        cell = forecast(DENSE, WORK, Conditions(stored={("m", "d"): frozenset(roles)}))
        assert cell.seconds["encode"] == pytest.approx(tokens / 500)
        assert cell.seconds["search"] == pytest.approx(2.1)
        assert cell.stored_bytes == rows * 400
    other = forecast(DENSE, WORK, Conditions(stored={("m", "e"): frozenset(("document", "query"))}))
    assert other.seconds["encode"] == pytest.approx(100_160 / 500)


def test_a_transformed_cell_by_hand() -> None:
    """100 dimensions mapped to 40: the fit reads the documents once, and all vectors are mapped, in float64."""
    base = replace(DENSE, scanning=Scanning(1e6, 0.01, processor_flops=2e6))
    model = replace(base, label="t", kind="transform", dim=40, base=base)
    cell = forecast(model, WORK, Conditions(price=3600.0))
    fit, mapping = 4 * 1000 * 100**2 / 2e6, 4 * 1010 * 100 * 40 / 2e6
    rest = {"geometry": 4 * 1000 * 40**2 / 2e6, "search": 2 * 1000 * 10 * 40 / 1e6 + 10 * 0.01}
    assert cell.seconds == pytest.approx({"encode": 100_160 / 500, "transform": fit + mapping, **rest})
    assert list(cell.seconds) == ["encode", "transform", "geometry", "search"]
    assert cell.cost == pytest.approx(cell.total_seconds)
    assert cell.stored_bytes == 1010 * 4 * (100 + 40)
    narrow = forecast(model, WORK, Conditions(number_bytes=2))
    assert narrow.stored_bytes == 1000 * 2 * 100 + 10 * 4 * 100 + 1010 * 4 * 40  # the new ones are float32
    assert cell.memory_bytes == forecast(replace(base, dim=40), WORK, Conditions()).memory_bytes
    both = frozenset(("document", "query"))
    based = forecast(model, WORK, Conditions(stored={("m", "d"): both}))
    assert based.seconds == pytest.approx({"encode": 0, "transform": fit + mapping, **rest})
    assert based.stored_bytes == 1010 * 4 * 40
    new_queries = {("m", "d"): both, ("t", "d"): frozenset({"document"})}
    asked = forecast(model, WORK, Conditions(stored=new_queries))
    assert asked.seconds["transform"] == pytest.approx(fit + 4 * 10 * 100 * 40 / 2e6)
    done = forecast(model, WORK, Conditions(stored={("m", "d"): both, ("t", "d"): both}))
    assert (done.seconds, done.stored_bytes) == (pytest.approx({"encode": 0, "transform": 0, **rest}), 0)


def test_truncated_vectors_are_stored_whole_and_compared_short() -> None:
    cell = forecast(replace(DENSE, dim=40, stored_dim=100), WORK, Conditions())
    rest = {"geometry": 4 * 1000 * 40**2 / 1e6, "search": 2 * 1000 * 10 * 40 / 1e6 + 0.1}
    assert cell.seconds == pytest.approx({"encode": 100_160 / 500, **rest})
    assert cell.stored_bytes == 1010 * 100 * 4
    base = replace(DENSE, dim=40, stored_dim=100)
    mapped = forecast(replace(base, label="t", kind="transform", dim=20, stored_dim=0, base=base), WORK, Conditions())
    assert mapped.seconds["transform"] == pytest.approx((4 * 1000 * 40**2 + 4 * 1010 * 40 * 20) / 1e6)
    assert mapped.stored_bytes == 1010 * 4 * (100 + 20)


def test_a_pooled_cell_by_hand() -> None:
    base = CostModel("m", "multivector", Encoding(500, 128, "measured", text_bytes=1000), weights_bytes=10_000_000)
    model = replace(base, label="p", kind="pooling", base=base, search_speed=SearchSpeed(0.02, 1e-4))
    unmeasured = forecast(replace(model, note="harness fetch m"), WORK, Conditions())
    assert (unmeasured.seconds, unmeasured.stored_bytes, unmeasured.note) == (None, None, "harness fetch m")
    model = replace(model, pooling=PoolingSpeed(0.003, 600))
    cell = forecast(model, WORK, Conditions(price=3600.0))
    assert cell.seconds == pytest.approx({"encode": 100_160 / 500, "transform": 3.0, "search": 10 * (0.02 + 0.1)})
    assert cell.stored_bytes == 1_010_000 + 600_000  # queries are not pooled
    assert cell.memory_bytes == forecast(base, WORK, Conditions()).memory_bytes
    assert forecast(model, WORK, Conditions(number_bytes=2)).stored_bytes == 510_000 + 300_000
    both = frozenset(("document", "query"))
    based = forecast(model, WORK, Conditions(stored={("m", "d"): both}))
    assert (based.seconds["encode"], based.seconds["transform"], based.stored_bytes) == (0, 3.0, 600_000)
    done = forecast(model, WORK, Conditions(stored={("m", "d"): both, ("p", "d"): both}))
    assert (done.seconds["transform"], done.stored_bytes) == (0, 0)
    twice = replace(model, label="q", base=model, pooling=PoolingSpeed(0.001, 400))
    cell = forecast(twice, WORK, Conditions())
    assert cell.seconds == pytest.approx({"encode": 100_160 / 500, "transform": 4.0, "search": 1.2})
    assert cell.stored_bytes == 1_010_000 + 600_000 + 400_000


def test_tokens_sent_for_a_transform_are_those_of_its_member() -> None:
    base = replace(DENSE, endpoint=Endpoint("http://127.0.0.1", 2.0))
    model = replace(base, label="t", kind="transform", dim=40, base=base)
    cell = forecast(model, WORK, Conditions())
    assert (cell.sent_tokens, cell.cost) == (100_160, pytest.approx(0.20032))
    stored = {("m", "d"): frozenset({"document"})}
    assert forecast(model, WORK, Conditions(stored=stored)).sent_tokens == 160


def test_what_is_not_known_is_left_open() -> None:
    unmeasured = forecast(replace(DENSE, encoding=None, note="harness fetch m"), WORK, Conditions(price=1.0))
    assert (unmeasured.seconds, unmeasured.cost, unmeasured.note) == (None, None, "harness fetch m")
    assert unmeasured.stored_bytes == 1010 * 400  # the dimension is stated
    nameless = forecast(DENSE, Workload("d", note="its size is not known"), Conditions(price=1.0))
    assert (nameless.seconds, nameless.documents, nameless.note) == (None, None, "its size is not known")


def test_a_total_counts_what_is_left_and_every_dataset_once() -> None:
    first = [forecast(DENSE, replace(WORK, label=name), Conditions(price=36.0)) for name in "abc"]
    first[2] = compared(first[2], {"encode_documents": 1.0}, comparable=True)
    open_ = forecast(replace(DENSE, encoding=None), replace(WORK, label="e"), Conditions(price=36.0))
    fetched = replace(DENSE, download_bytes=10_000_000)
    own = total("m", [*first, open_], [fetched])
    assert (own.cells, own.known, own.documents) == (3, 2, 3000)
    assert own.total_seconds == pytest.approx(2 * 242.42)
    assert own.cost == pytest.approx(2 * 2.4242)
    assert own.download_bytes == 3 * 200_000 + 10_000_000
    assert own.note == "1 finished, apart"
    second = [forecast(LEXICAL, replace(WORK, label=name), Conditions(price=36.0)) for name in "abc"]
    both = total("all", [*first[:2], *second], [fetched, LEXICAL])
    assert both.text_bytes == 3 * 600_000
    assert both.stored_bytes == 2 * 404_000 + 3 * 300_000
    assert both.memory_bytes == first[0].memory_bytes
    assert total("m", [first[2]]).total_seconds == 0


def test_weights_that_several_models_need_are_downloaded_once() -> None:
    fetched = replace(DENSE, download_bytes=10_000_000)
    mapped = replace(fetched, label="t", kind="transform", base=fetched)
    cells = [forecast(model, WORK, Conditions()) for model in (fetched, mapped)]
    assert total("all", cells, [fetched, mapped]).download_bytes == 200_000 + 10_000_000


def test_a_finished_cell_stands_beside_its_prediction() -> None:
    cell = forecast(DENSE, WORK, Conditions(price=36.0))
    spent = {"encode_documents": 400.0, "encode_queries": 2.0, "geometry": 60.0, "search": 22.84, "measure": 9.0}
    done = compared(cell, spent, comparable=True)
    assert done.measured == {"encode": 402.0, "geometry": 60.0, "search": 22.84}
    assert done.ratio == pytest.approx(2.0)
    assert (done.seconds, done.download_bytes, done.stored_bytes, done.cost) == (cell.seconds, 0, 0, None)
    assert compared(cell, spent, comparable=False).ratio is None


def test_beir18_is_44_million_documents_and_7_billion_tokens(beir18: list[Workload]) -> None:
    assert len(beir18) == 17 + 12
    assert sum(w.documents or 0 for w in beir18) == 43_922_722  # BEIR's table 1, summed by hand
    assert sum(w.document_tokens or 0 for w in beir18) == pytest.approx(6.7e9, rel=0.25)
    gated = {w.label for w in beir18 if w.note == "needs licence"}
    assert gated == {"bioasq", "signal1m", "trec-news", "robust04"}
    forums = [w.download_bytes for w in beir18 if w.label.startswith("cqadupstack/")]
    assert sorted(forums)[:-1] == [0] * 11  # one archive
    queries = {w.label: w.query_tokens for w in beir18}
    assert queries["scifact"] == 300 * QUERY_TOKENS
    assert queries["arguana"] == 1406 * 215  # there a query is a document
    twins = [w.label for w in beir18 if w.corpus == "wikipedia-2017"]
    assert twins == ["fever", "climate-fever"]


def test_mpnet_on_an_h100_by_hand(beir18: list[Workload]) -> None:
    """6.7e9 tokens x 169.87e6 operations / (989e12 x 0.40) is 48 minutes; 44e6 vectors of 768 floats are 135 GB."""
    figures, h100 = load_registry().model("mpnet").figures, device("H100")
    assert figures == {"dim": 768, "flops_per_token": pytest.approx(169.87e6, rel=1e-4)}
    speed = Encoding(h100.flops * h100.utilisation / figures["flops_per_token"], 768, "assumed")
    pace = CostModel("mpnet", "dense", speed, None, Scanning(1e12, 0.0), 768, 439_000_000)
    whole = total("mpnet", [forecast(pace, work, Conditions(h100.price)) for work in beir18])
    assert whole.seconds["encode"] / 60 == pytest.approx(48, abs=1)
    assert whole.stored_bytes == pytest.approx(135e9, rel=0.01)
    assert whole.cost == pytest.approx(whole.total_seconds / 3600 * h100.price)


def test_devices_are_sound_and_unknown_ones_are_named() -> None:
    assert {"t4", "a100", "h100"} <= set(devices())
    for each in devices().values():
        assert 0 < each.utilisation < 1
        assert each.flops > 1e13
        assert each.price > 0
    with pytest.raises(UserError, match="did you mean h100"):
        device("h10")


def test_limit_and_split_of_a_dataset_that_is_not_here(tmp_path: Path) -> None:
    registry = load_registry()
    [limited] = workloads(["scifact"], [], registry, tmp_path, limit=20)
    assert (limited.label, limited.queries, limited.documents) == ("scifact:limit=20", 20, 5183)
    [train] = workloads(["scifact"], [], registry, tmp_path, split="train")
    assert (train.label, train.queries) == ("scifact:split=train", None)
    assert "split train" in train.note
    [usual] = workloads(["msmarco"], [], registry, tmp_path, split="dev")
    assert (usual.label, usual.queries) == ("msmarco", 6980)


def test_tokens_of_a_real_collection_are_near_the_truth(shared: Path, tmp_path: Path) -> None:
    """1,572,248 word pieces of documents and 6,853 of queries, counted by the model's own tokenizer."""
    [scifact] = workloads([str(shared / "data" / "scifact")], [], load_registry(), tmp_path)
    assert (scifact.documents, scifact.queries) == (5183, 300)
    assert scifact.document_tokens == pytest.approx(1_572_248, rel=0.15)
    assert scifact.query_tokens == pytest.approx(6_853, rel=0.25)
    assert scifact.download_bytes == 0


def test_texts_are_planned_as_long_as_the_model_reads_them() -> None:
    """Documents of 100 and of 1,900 characters (23 and 384 tokens) held to 128."""
    work = Workload("d", 10, 2, document_tokens=2035, query_tokens=300, sampled=(100, 1900))
    held = work.held_to(128)
    assert (held.document_tokens, held.query_tokens) == (round(10 * (23 + 128) / 2), 256)
    assert work.held_to(0) is work.held_to(384) is work
    assert replace(work, sampled=()).held_to(128).document_tokens == 1280
    short = forecast(replace(DENSE, longest=128), work, Conditions())
    whole = forecast(DENSE, work, Conditions())
    assert short.seconds["encode"] / whole.seconds["encode"] == pytest.approx((755 + 256) / (2035 + 300))
    assert replace(DENSE, longest=128).label == DENSE.label
