"""PLAID's index of token vectors beside exact search: recall, cost, files, and what is refused.

fast-plaid works with one version of torch alone, so most of these tests run in an environment of their own
(CONTRIBUTING.md).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.embeddings.multivector import MultiVectors
from harness.embeddings.token_vectors import TokenVectors
from harness.search import plaid_index
from harness.search.index_config import IndexConfig, parse_index_config
from harness.search.index_libraries import PLAID
from harness.search.index_record import StoredIndex
from harness.search.maxsim import search_multivector
from harness.search.plaid_index import (
    INDEX,
    PlaidRecord,
    build_plaid,
    load_plaid,
    plaid_hits,
    queries_for_plaid,
    search_plaid,
    summarise,
)
from harness.types import Hits, UserError
from tests.evaluation.test_multivector import written


def absent() -> str:
    """Why fast-plaid cannot run here; empty if it can."""
    try:
        PLAID.require()
    except UserError as error:
        return str(error)
    return ""


needed = pytest.mark.skipif(bool(absent()), reason=absent())

RNG = np.random.default_rng(0)
COUNTS = RNG.integers(1, 12, 300)
COUNTS[[7, 130, 299]] = 0
TOKENS = RNG.normal(size=(COUNTS.sum(), 16)).astype(np.float32)
TOKENS /= np.linalg.norm(TOKENS, axis=1, keepdims=True)
ROWS = TokenVectors(TOKENS, np.concatenate([[0], np.cumsum(COUNTS)]))
DOCUMENTS = MultiVectors.of(ROWS[:130], ROWS[130:])
QUERIES = ROWS[np.array([*range(20), 250])]
EXHAUSTIVE = "n_ivf_probe=100000,n_full_scores=4000"


def made(home: Path, factory: str = "plaid", documents: MultiVectors = DOCUMENTS) -> StoredIndex[PlaidRecord]:
    return build_plaid(parse_index_config(factory), documents, summarise(documents), home, lambda *_: None)


def found(built: StoredIndex[PlaidRecord], k: int, search: str = "", queries: TokenVectors = QUERIES) -> list[Hits]:
    result = search_plaid(load_plaid(built), queries_for_plaid(queries), k, search)
    return plaid_hits(result, COUNTS, queries.counts)


@needed
def test_exhaustive_search_finds_what_float64_finds(tmp_path: Path) -> None:
    """All centroids and all documents restored, 8 bits a number: nearly the order of exact MaxSim."""
    exact = list(search_multivector(QUERIES, DOCUMENTS, 10))
    hits = found(made(tmp_path, "plaid,nbits=8,kmeans_niters=2"), 300, EXHAUSTIVE)
    shares = []
    for own, hit in zip(exact, hits, strict=True):
        assert not {7, 130, 299} & {*hit.rows}  # they have no vectors
        assert len(hit.rows) == (297 if len(own.rows) else 0)
        assert (np.diff(hit.scores) <= 0).all()
        scores = dict(zip(hit.rows.tolist(), hit.scores.tolist(), strict=True))
        for row, score in zip(own.rows.tolist(), own.scores.tolist(), strict=True):
            assert scores[row] == pytest.approx(score, abs=0.02 * 12)
        shares += [len({*own.rows[:10]} & {*hit.rows[:10]}) / 10] if len(own.rows) else []
    assert np.mean(shares) > 0.95
    assert len(hits[7].rows) == 0  # a query without vectors


@needed
def test_fewer_centroids_and_scores_lose_documents(tmp_path: Path) -> None:
    built = made(tmp_path)
    few = found(built, 300, "n_ivf_probe=1")
    assert sum(len(hit.rows) for hit in few) < sum(len(hit.rows) for hit in found(built, 300))
    assert max(len(hit.rows) for hit in found(built, 300, "n_ivf_probe=64,n_full_scores=40")) == 10
    assert len(found(built, 3)[0].rows) == 3


@needed
def test_a_build_is_repeated_to_the_byte_and_keeps_no_vectors(tmp_path: Path) -> None:
    first, again = made(tmp_path / "one"), made(tmp_path / "two")
    assert first.record.sha256 == again.record.sha256
    names = {file.name for file in (first.folder / INDEX).iterdir()}
    assert not names & {"embeddings.npy", "buffer.npy", "plaid.lock"}  # pickles, and what a killed process leaves
    for file in (first.folder / INDEX).glob("*.npy"):
        np.load(file, allow_pickle=False)
    assert first.record.bytes == sum(file.stat().st_size for file in (first.folder / INDEX).iterdir())
    assert [path.name for path in first.folder.parent.iterdir()] == [first.folder.name]


@needed
def test_a_stored_index_is_used_again_until_it_is_damaged(tmp_path: Path) -> None:
    first = made(tmp_path)
    before = found(first, 10)
    assert made(tmp_path) == first  # although its folder was locked for reading meanwhile
    assert made(tmp_path, "plaid,nbits=2").folder != first.folder
    changed = MultiVectors.of(TokenVectors(TOKENS[:, ::-1].copy(), ROWS.offsets))
    assert made(tmp_path, documents=changed).folder != first.folder
    file = first.folder / INDEX / "merged_residuals.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="changed while it was in use"):
        load_plaid(first)
    assert made(tmp_path) == first._replace(record=made(tmp_path).record)
    for old, new in zip(before, found(made(tmp_path), 10), strict=True):
        assert old.rows.tolist() == new.rows.tolist()


@needed
def test_zeros_at_the_end_of_a_query_change_nothing(tmp_path: Path) -> None:
    """fast-plaid takes them for padding."""
    built = made(tmp_path)
    padded = TokenVectors.of([np.vstack([QUERIES[i : i + 1].vectors, np.zeros((3, 16), np.float32)]) for i in range(3)])
    plain, other = found(built, 10, queries=QUERIES[:3]), found(built, 10, queries=padded)
    assert [hit.rows.tolist() for hit in plain] == [hit.rows.tolist() for hit in other]


@needed
def test_a_tiny_collection_is_indexed(tmp_path: Path) -> None:
    rows = ROWS[np.array([np.flatnonzero(COUNTS >= 10)[0]])]
    built = made(tmp_path, documents=MultiVectors.of(rows))
    result = search_plaid(load_plaid(built), queries_for_plaid(QUERIES[:2]), 1000, "n_ivf_probe=64")
    assert [[row for row, _ in pairs] for pairs in result] == [[0], [0]]


def children() -> set[str]:
    """The processes that this one has started and that are there, where /proc tells."""
    return {each for file in Path("/proc/self/task").glob("*/children") for each in file.read_text().split()}


class StandIn:
    """Stands for ``fast_plaid.search.FastPlaid`` where that cannot run: it keeps all vectors and computes MaxSim."""

    def __init__(self, index: str, device: str) -> None:
        self.folder = Path(index)
        self.folder.mkdir(exist_ok=True)
        (self.folder / "plaid.lock").touch()

    def __enter__(self) -> StandIn:
        return self

    def __exit__(self, *_: object) -> None: ...

    def create(self, documents_embeddings: list[Any], *, seed: int, start_from_scratch: int, nbits: int = 4) -> None:
        for number, each in enumerate(documents_embeddings):
            np.save(self.folder / f"{number}.npy", each.numpy())
        np.save(self.folder / "centroids.npy", np.zeros((64, each.shape[1])))

    def freeze(self) -> None: ...

    def search(self, queries: list[Any], *, top_k: int, n_ivf_probe: int, **_: Any) -> list[list[tuple[int, float]]]:
        assert n_ivf_probe <= 64  # the library aborts for more
        count = len([*self.folder.glob("*.npy")]) - 1
        documents = [np.load(self.folder / f"{number}.npy").astype(np.float32) for number in range(count)]
        scores = [[float((query.numpy() @ each.T).max(axis=1).sum()) for each in documents] for query in queries]
        order = [np.argsort(own)[::-1][:top_k].tolist() for own in scores]
        return [[(row, own[row]) for row in rows] for rows, own in zip(order, scores, strict=True)]


@pytest.fixture(params=[pytest.param("fast-plaid", marks=needed), "stand-in"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.search.ann_eval.ENOUGH_SECONDS", 0)
    if request.param == "stand-in":
        monkeypatch.setitem(sys.modules, "fast_plaid", ModuleType("fast_plaid"))
        monkeypatch.setitem(sys.modules, "fast_plaid.search", SimpleNamespace(FastPlaid=StandIn))  # type: ignore[arg-type]
        monkeypatch.setattr(plaid_index, "version", lambda _: "1.7.0.2110")
        monkeypatch.setattr(type(PLAID), "require", lambda _: None)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("similarity", ["maxsim", "meanmaxsim"])
def test_it_is_a_row_beside_exact_search_with_what_it_costs(harness, toy: Path, tmp_path: Path, similarity) -> None:
    plugin, before = written(tmp_path, similarity=similarity), children()
    words = ("benchmark", "-m", "words", "-m", "bm25", "--plugin", plugin, "-d", toy, "--index", "plaid,nbits=8")
    done = harness(*words, "--index-search", EXHAUSTIVE, "--json")
    assert done.code == 0, done.err
    assert "--index is for multivector models; bm25 is searched without it" in done.err
    exact, served, _ = json.loads(done.out)
    assert served["model"] == f"words|plaid,nbits=8|{EXHAUSTIVE}"
    assert served["index"]["recall@10"] == 1.0
    lost = exact["measures"]["nDCG@10"] - served["measures"]["nDCG@10"]
    assert served["index"]["cost"]["nDCG@10"] == pytest.approx(lost)
    assert served["index"]["vectors_bytes"] == exact["counts"]["index_bytes"]
    assert served["manifest"]["index"].keys() >= {"fast_plaid", "sha256", "vectors", "seed"}
    again = json.loads(harness(*words, "--index-search", EXHAUSTIVE, "--json").out)
    assert [cell["cell"] for cell in again] == ["cached"] * 3
    verified = harness("verify", "--reuse", "--plugin", plugin, "-d", toy, "results")
    assert verified.code == 0, verified.err + verified.out
    refused = harness("index", "export", "-m", "minilm", "-d", toy, "--index", "plaid", "-o", tmp_path / "served")
    assert (refused.code, "is no FAISS index" in refused.err) == (2, True)
    pooled = harness("benchmark", "-m", "pool(words)", *words[5:], "--index-search", EXHAUSTIVE, "--json")
    assert [cell["cell"] for cell in json.loads(pooled.out)] == ["ok", "ok"], pooled.err
    assert children() <= before


def test_a_result_belongs_to_documents_and_queries_that_have_vectors() -> None:
    result = [[(1, 3.0), (0, 1.5)], []]
    hits = plaid_hits(result, np.array([0, 2, 0, 4]), np.array([2, 0, 5]), mean=True)
    assert [hit.rows.tolist() for hit in hits] == [[3, 1], [], []]
    assert [hit.scores.tolist() for hit in hits] == [[1.5, 0.75], [], []]


def test_the_summary_does_not_depend_on_shards() -> None:
    one, other = summarise(DOCUMENTS), summarise(MultiVectors.of(ROWS[:1], ROWS[1:250], ROWS[250:]))
    assert one.sha256 == other.sha256 != summarise(MultiVectors.of(ROWS[1:])).sha256
    assert one.counts.tolist() == COUNTS.tolist()
    assert (one.shortest, one.longest) == (pytest.approx(1), pytest.approx(1))
    merged = MultiVectors.of(TokenVectors(TOKENS, np.delete(ROWS.offsets, 5)))
    assert summarise(merged).sha256 != one.sha256


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (np.ones((20, 12), np.float32), "the dimension is a multiple of 8, and these have 12"),
        (np.ones((9, 8), np.float32), "learns from 10 vectors or more, and the documents have 9"),
        (np.full((20, 8), 200, np.float32), "no longer than 255, and one has length 566"),
    ],
)
def test_vectors_that_it_cannot_index_are_refused(tmp_path: Path, tokens, words: str) -> None:
    documents = MultiVectors.of(TokenVectors.of([tokens]))
    with pytest.raises(UserError, match=words):
        build_plaid(IndexConfig("plaid"), documents, summarise(documents), tmp_path, lambda *_: None)


def test_a_note_says_that_lengths_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    documents = MultiVectors.of(TokenVectors(2 * TOKENS, ROWS.offsets))
    monkeypatch.setattr(plaid_index, "version", lambda _: "1.7.0.2110")
    monkeypatch.setattr(plaid_index, "stored_index", lambda *_, **__: (tmp_path, None))
    monkeypatch.setattr(type(PLAID), "require", lambda _: None)
    build_plaid(IndexConfig("plaid"), documents, summarise(documents), tmp_path, lambda text, *_: said.append(text))
    build_plaid(IndexConfig("plaid"), DOCUMENTS, summarise(DOCUMENTS), tmp_path, lambda text, *_: said.append(text))
    assert [text for text in said if "have lengths 2 to 2" in text] == said
    assert len(said) == 1
