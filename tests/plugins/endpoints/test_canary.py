"""A model that changes behind its name is noticed; an endpoint's own noise is not taken for a change."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import write_dataset
from tests.endpoint_server import Endpoint
from tests.plugins.endpoints.test_models import CANARIES

pytest.importorskip("httpx2", reason="endpoints need the endpoints extra")
pytest.importorskip("faiss", reason="dense models need the dense extra")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another dataset than ``toy``, so that something has to be sent."""
    documents = {f"d{i}": f"another document {i}" for i in range(5)}
    return write_dataset(tmp_path / "other", documents, {"q": "document 3"}, [("q", "d3", 1)])


def content(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_another_model_behind_the_same_name(harness, served: Endpoint, toy: Path, other: Path, home: Path) -> None:
    model = f"openai:m:base_url={served.url}"
    assert harness("benchmark", "-m", model, "-d", toy).code == 0
    before = content(home / "vectors")
    served.forget()
    served.seed = "new weights"
    done = harness("benchmark", "-m", model, "-d", toy, "-d", other)
    assert done.code == 2
    assert "openai:m" in done.err
    assert "the model behind this name has changed: vectors of fixed test texts moved by 1" in done.err
    assert "its stored vectors are kept and none are added to them" in done.err
    assert "give it a version of its own, as in version=20" in done.err
    assert len(served.answered) == CANARIES
    assert content(home / "vectors") == before
    done = harness("benchmark", "-m", f"{model},version=2", "-d", toy, "-d", other)
    assert done.code == 0, done.err
    assert before.items() <= content(home / "vectors").items()
    served.seed = ""
    assert harness("benchmark", "-m", model, "-d", other).code == 0
    done = harness("benchmark", "-m", f"{model},version=2", "-d", other, "--limit", "1", "--force")
    assert done.code == 0, "what is stored needs no model"


def test_another_query_prompt_sends_no_document_again_unless_the_model_changed(
    harness, served: Endpoint, toy: Path
) -> None:
    """Documents are shared by all prompts of the queries, so their record is, too."""
    words = ("benchmark", "--base-url", served.url, "-d", toy)
    assert harness(*words, "-m", "openai:m").code == 0
    served.forget()
    done = harness(*words, "-m", "openai:m:query_prompt=query: ")
    assert done.code == 0, done.err
    sent = [text for body in served.bodies for text in body["input"]]
    queries = [text for text in sent if text.startswith("query: ")]
    assert len(sent) - len(queries) == CANARIES // 2  # the documents' canaries and nothing else
    assert len(queries) > CANARIES // 2
    served.seed = "new weights"
    done = harness(*words, "-m", "openai:m:query_prompt=question: ")
    assert done.code == 2
    assert "the model behind this name has changed" in done.err


def test_one_changed_model_does_not_stop_the_others(harness, served: Endpoint, toy: Path, other: Path) -> None:
    first, second = (f"openai:{name}:base_url={served.url}" for name in "ab")
    assert harness("benchmark", "-m", first, "-d", toy).code == 0
    served.seed = "new weights"
    done = harness("benchmark", "-m", first, "-m", second, "-d", other)
    assert done.code == 1
    assert "failed: openai:a" in done.err
    assert "failed: openai:b" not in done.err


def test_another_dimension_is_another_model(harness, served: Endpoint, toy: Path, other: Path) -> None:
    words = ("benchmark", "-m", "openai:m", "--base-url", served.url)
    assert harness(*words, "-d", toy).code == 0
    served.spoil = lambda answer: {
        **answer,
        "data": [{**row, "embedding": row["embedding"][:9]} for row in answer["data"]],
    }
    done = harness(*words, "-d", other)
    assert done.code == 2
    assert "moved by 100.0%" in done.err


def test_noise_is_no_change(harness, served: Endpoint, toy: Path, other: Path) -> None:
    words = ("benchmark", "-m", "openai:m", "--base-url", served.url)
    served.noise = 3e-2
    done = harness(*words, "-d", toy)
    assert done.code == 0, done.err
    assert "one text gives vectors that differ by" in done.err
    assert harness(*words, "-d", other).code == 0


def test_a_change_within_the_floor_is_none_and_one_above_it_is(
    harness, served: Endpoint, toy: Path, other: Path
) -> None:
    model = f"openai:m:base_url={served.url}"
    assert harness("benchmark", "-m", model, "-d", toy).code == 0
    for share, code in ((4.9e-3, 0), (5.1e-3, 2)):
        served.spoil = lambda answer, share=share: {
            **answer,
            "data": [
                {**row, "embedding": [value * (1 + share) for value in row["embedding"]]} for row in answer["data"]
            ],
        }
        done = harness("benchmark", "-m", model, "-d", other, "--split", "test", "--force")
        assert done.code == code, done.err
        if not code:  # so that something has to be sent again
            for file in Path(other).glob("corpus.jsonl"):
                file.write_text(file.read_text().replace("another", "yet another"))


def test_a_reranker_that_changes(harness, served: Endpoint, toy: Path, other: Path) -> None:
    pytest.importorskip("bm25s", reason="BM25 needs the bm25 extra")
    model = f"rerank(bm25):model=r,base_url={served.url}"
    assert harness("benchmark", "-m", model, "-d", toy).code == 0
    served.spoil = lambda answer: {
        "results": [{**r, "relevance_score": 0.9 * r["relevance_score"]} for r in answer["results"]]
    }
    done = harness("benchmark", "-m", model, "-d", other)
    assert done.code == 2
    assert "moved by 10.0%" in done.err


def test_a_damaged_record_is_not_taken_for_none(harness, served: Endpoint, toy: Path, other: Path, home: Path) -> None:
    words = ("benchmark", "-m", "openai:m", "--base-url", served.url)
    assert harness(*words, "-d", toy).code == 0
    [record] = home.rglob("canaries-document.json")
    record.write_text(record.read_text().replace("0.", "0.1", 1))
    done = harness(*words, "-d", other)
    assert done.code == 2
    assert "is damaged, so that nobody can tell" in done.err
    record.unlink()
    assert harness(*words, "-d", other).code == 0


def test_offline_what_is_stored_is_used_and_nothing_is_sent(
    harness, served: Endpoint, toy: Path, other: Path, home: Path
) -> None:
    words = ("benchmark", "-m", "openai:m", "--base-url", served.url)
    done = harness(*words, "-d", toy, "--offline")
    assert done.code == 2
    assert f"runs at {served.url}, and the network is switched off" in done.err
    assert harness(*words, "-d", toy).code == 0
    served.forget()
    assert harness(*words, "-d", toy, "--offline", "--results", "new").code == 0
    assert harness(*words, "-d", other, "--offline").code == 2
    assert served.bodies == []


def test_a_remote_cache_is_not_for_models_that_may_change(harness, served: Endpoint, toy: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert harness("benchmark", "-m", "openai:m", "--base-url", served.url, "-d", toy, "--store", store).code == 0
    assert not list(store.rglob("*.npy"))
