"""Rerankers behind an endpoint: the order is that of the reranker, and one pair is sent one time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.endpoint_server import Endpoint, relevance
from tests.plugins.endpoints.test_models import many, ranked, read, run_of

pytest.importorskip("httpx2", reason="endpoints need the endpoints extra")
pytest.importorskip("bm25s", reason="BM25 needs the bm25 extra")
CANARIES = 12
"""Pairs that are sent before the first pair: six, twice, in three requests and more."""


@pytest.mark.parametrize("api", ["cohere", "tei"])
def test_the_order_is_that_of_the_reranker(harness, served: Endpoint, toy: Path, tmp_path: Path, api: str) -> None:
    base = served.url if api == "cohere" else served.url.removesuffix("/v1")
    model = f"rerank(bm25):model=org/r,base_url={base},api={api},depth=5,batch_size=2"
    done = harness("benchmark", "-m", "bm25", "-m", model, "-d", toy, "--json")
    assert done.code == 0, done.err
    documents, queries = read(toy)
    first, second = (run_of(tmp_path / "results" / folder) for folder in _folders(tmp_path))
    for key, text in queries.items():
        top = first[key][:5]
        scores = {document: relevance(text, documents[document]) for document in top}
        assert second[key][: len(top)] == ranked(scores)
        assert second[key][len(top) :] == first[key][5:]
    assert {*served.paths} == {"/v1/rerank" if api == "cohere" else "/rerank"}
    assert all(len(body.get("texts") or body["documents"]) <= max(2, 6) for body in served.bodies)
    assert json.loads(done.out)[1]["counts"]["pairs"] == sum(len(first[key][:5]) for key in queries)


def _folders(tmp_path: Path) -> list[str]:
    return sorted((folder.name for folder in (tmp_path / "results").iterdir()), key=len)


def test_scores_that_have_arrived_are_not_sent_again(harness, served: Endpoint, tmp_path: Path, home: Path) -> None:
    data = many(tmp_path, 40)
    words = ("benchmark", "-m", f"rerank(bm25):model=r,base_url={served.url},batch_size=8,depth=20", "-d", data)
    served.dies_after = 8
    done = harness(*words)
    assert done.code == 1
    assert "answers 503" in done.err
    before = served.answered[CANARIES:]
    assert before
    served.forget()
    served.dies_after = None
    assert harness(*words, "--results", "whole").code == 0
    after = served.answered[CANARIES:]
    assert len({*before, *after}) == len(before) + len(after) == 6 * 20
    assert list(home.rglob("parts")) == []
    served.forget()
    assert harness(*words, "--results", "again", "--offline").code == 0
    assert served.bodies == []


def test_a_reranker_over_an_endpoint(harness, served: Endpoint, toy: Path, tmp_path: Path) -> None:
    member = f"openai:m:base_url={served.url},dimensions=12"
    done = harness("benchmark", "-m", f"rerank({member}):base_url={served.url},api=tei,depth=12", "-d", toy)
    assert done.code == 0, done.err
    documents, queries = read(toy)
    found = run_of(tmp_path / "results")
    for key, text in queries.items():
        assert found[key] == ranked({document: relevance(text, words) for document, words in documents.items()})


def test_blank_texts_are_sent_as_a_full_stop(served: Endpoint) -> None:
    from tests.plugins.endpoints.test_client import reranker

    scored = reranker(served).score([("query", ""), (" ", "text"), ("query", "text")])
    assert np.array_equal(
        scored.scores, np.float32([relevance("query", "."), relevance(".", "text"), scored.scores[2]])
    )
    assert scored.tokens == sum(-(-len(text) // 4) for text in ("query", ".", ".", "text", "query", "text"))


def test_it_needs_a_name_and_an_address(harness, toy: Path) -> None:
    done = harness("benchmark", "-m", "rerank-api(bm25)", "-d", toy)
    assert done.code == 2
    assert "needs its name there: add model=NAME." in done.err
    done = harness("benchmark", "-m", "rerank-api(bm25):model=r", "-d", toy)
    assert done.code == 2
    assert "An endpoint needs its address: add base_url=..." in done.err
    done = harness("benchmark", "-m", "rerank(bm25):model=path/to/folder", "-d", toy)
    assert done.code == 2
    assert "There is no folder path/to/folder" in done.err
