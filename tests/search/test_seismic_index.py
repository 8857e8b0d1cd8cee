"""Seismic's index of sparse vectors beside exact search: recall, cost, files, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from harness.embeddings.sparse import SparseVectors
from harness.search.index_config import IndexConfig, parse_index_config
from harness.search.index_record import StoredIndex
from harness.search.seismic_index import (
    INDEX,
    SeismicRecord,
    build_seismic,
    digest_of,
    load_seismic,
    queries_for_seismic,
    search_seismic,
    seismic_hits,
)
from harness.types import Hits, UserError
from tests.cli.test_plan import LETTERS

pytest.importorskip("seismic", reason="seismic needs its extra")

RNG = np.random.default_rng(0)
DENSE = np.where(RNG.random((300, 80)) < 0.2, RNG.gamma(2, 1, (300, 80)), 0).astype(np.float16).astype(np.float32)
DENSE[7] = 0
ROWS = scipy.sparse.csr_array(DENSE)
VECTORS = SparseVectors.of(ROWS[:130], ROWS[130:])
EXHAUSTIVE = "query_cut=80,heap_factor=0"


def made(home: Path, factory: str = "seismic", vectors: SparseVectors = VECTORS) -> StoredIndex[SeismicRecord]:
    return build_seismic(parse_index_config(factory), vectors, digest_of(vectors), home, lambda *_: None)


def found(built: StoredIndex[SeismicRecord], k: int, search: str) -> list[Hits]:
    return seismic_hits(search_seismic(load_seismic(built), queries_for_seismic(ROWS[:20]), k, search), 20)


def test_without_cuts_it_is_brute_force(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """All terms of the queries and no block skipped: the documents of float64 brute force (weights are float16)."""
    exact = DENSE[:20].astype(np.float64) @ DENSE.astype(np.float64).T
    hits = found(made(tmp_path, "seismic,n_postings=3000,centroid_fraction=0.2"), 10, EXHAUSTIVE)
    for own, hit in zip(exact, hits, strict=True):
        best = np.argsort(-own, kind="stable")[:10]
        best = best[own[best] > 0]
        assert hit.rows.tolist() == best.tolist()
        np.testing.assert_allclose(hit.scores, own[best], rtol=1e-5)
    assert capfd.readouterr().out == ""  # the library prints there
    assert not len(hits[7].rows)  # an empty query


def test_results_belong_to_their_queries_in_whatever_order_they_come() -> None:
    result = [[("2", 3.0, "7"), ("2", 1.0, "4")], [], [("0", 2.0, "5"), ("0", -1.0, "6")]]
    hits = seismic_hits(result, 3)
    assert [hit.rows.tolist() for hit in hits] == [[5], [], [7, 4]]
    assert [hit.scores.tolist() for hit in hits] == [[2.0], [], [3.0, 1.0]]


def test_cuts_lose_documents(tmp_path: Path) -> None:
    built = made(tmp_path)
    all_of_them, few = found(built, 10, EXHAUSTIVE), found(built, 10, "query_cut=1,heap_factor=1")
    same = [len({*a.rows} & {*b.rows}) for a, b in zip(all_of_them, few, strict=True)]
    assert sum(same) < sum(len(a.rows) for a in all_of_them)


def test_a_stored_index_is_used_again_until_it_is_damaged(tmp_path: Path) -> None:
    first = made(tmp_path)
    assert made(tmp_path) == first
    assert made(tmp_path, "seismic,n_postings=50").folder != first.folder
    changed = SparseVectors.of(2 * ROWS)
    assert made(tmp_path, vectors=changed).folder != first.folder
    file = first.folder / INDEX
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match="changed while it was in use"):
        load_seismic(first)
    assert made(tmp_path).record.sha256 != ""
    load_seismic(made(tmp_path))


def test_weights_below_zero_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="omit --index seismic"):
        made(tmp_path, vectors=SparseVectors.of(-1 * ROWS))


@pytest.mark.parametrize(
    ("factory", "search", "words"),
    [
        ("seismic,postings=3", "", "postings is not one of n_postings"),
        ("seismic,n_postings", "", "'n_postings' is no parameter with a number"),
        ("seismic", "nprobe=3", "nprobe is not one of query_cut, heap_factor"),
        ("seismic", "query_cut=-1", "no parameter with a number"),
    ],
)
def test_mistakes_end_with_a_sentence(factory: str, search: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse_index_config(factory, search)


def test_it_is_a_row_beside_exact_search_with_what_it_costs(harness, toy: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "letters.py"
    plugin.write_text(LETTERS)
    words = ("benchmark", "-m", "letters", "-m", "bm25", "--plugin", plugin, "-d", toy, "--index", "seismic")
    done = harness(*words, "--index-search", EXHAUSTIVE, "--json")
    assert done.code == 0, done.err
    assert "--index is for sparse models; bm25 is searched without it" in done.err
    exact, served, _ = json.loads(done.out)
    assert served["model"] == f"letters|seismic|{EXHAUSTIVE}"
    assert served["index"]["recall@10"] == 1.0
    lost = exact["measures"]["nDCG@10"] - served["measures"]["nDCG@10"]
    assert served["index"]["cost"]["nDCG@10"] == pytest.approx(lost)
    assert served["manifest"]["index"].keys() >= {"seismic", "sha256", "vectors"}
    assert served["geometry"]["documents"] == exact["geometry"]["documents"]
    again = json.loads(harness(*words, "--index-search", EXHAUSTIVE, "--json").out)
    assert [cell["cell"] for cell in again] == ["cached"] * 3
    verified = harness("verify", "--reuse", "--plugin", plugin, "-d", toy, "results")
    assert verified.code == 0, verified.err + verified.out
    refused = harness("index", "export", "-m", "minilm", "-d", toy, "--index", "seismic", "-o", tmp_path / "served")
    assert (refused.code, "is no FAISS index" in refused.err) == (2, True)


def test_labels_keep_what_was_asked() -> None:
    assert IndexConfig("seismic", "query_cut=3").label("letters:a=b") == "letters|seismic|query_cut=3:a=b"
    assert IndexConfig("seismic,n_postings=9").vectors == "sparse"
