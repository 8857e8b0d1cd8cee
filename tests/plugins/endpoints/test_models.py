"""Embedding models behind an endpoint: the same vectors and rankings as the model itself has, and one text one time."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from harness.embeddings.parts import digest
from harness.embeddings.sharding import chunks
from harness.metrics.ranking import read_run
from harness.models.canary import TEXTS
from harness.storage.safe_load import parse_arrays
from harness_plugins.endpoints.models import load_openai
from harness_plugins.endpoints.options import CONNECTION, EMBEDDING
from tests.conftest import write_dataset
from tests.endpoint_server import DIM, Endpoint, tokens, vector
from tests.forked import Forked

pytest.importorskip("httpx2", reason="endpoints need the endpoints extra")
pytest.importorskip("faiss", reason="dense models need the dense extra")

CANARIES = 12
"""Texts that are sent before the first text: three, for both roles, twice."""


def read(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Documents and queries of a dataset."""
    lines = (json.loads(line) for line in (folder / "corpus.jsonl").read_text().splitlines())
    documents = {line["_id"]: f"{line['title']} {line['text']}".strip() for line in lines}
    asked = (json.loads(line) for line in (folder / "queries.jsonl").read_text().splitlines())
    return documents, {line["_id"]: line["text"] for line in asked}


def ranked(scores: dict[str, float]) -> list[str]:
    """Document ids by score, ties by id descending."""
    return sorted(scores, key=lambda key: (scores[key], key), reverse=True)


def run_of(results: Path) -> dict[str, list[str]]:
    [file] = results.rglob("run.trec.gz")
    return {ranking.query_id: list(ranking.doc_ids) for ranking in read_run(file)}


def many(tmp_path: Path, count: int = 150) -> Path:
    """A dataset of one shard."""
    documents = {f"d{i}": f"document {i} of topic {i % 7}, word{i}" for i in range(count)}
    queries = {f"q{i}": f"word{i} topic" for i in range(6)}
    return write_dataset(tmp_path / "many", documents, queries, [(f"q{i}", f"d{i}", 1) for i in range(6)])


def stored_texts(home: Path) -> set[bytes]:
    """Digests of the texts whose rows are in parts."""
    parts = [parse_arrays(file.read_bytes(), 3) for file in home.rglob("parts/*/*.npy")]
    return {row.tobytes() for digests, _, _ in parts for row in digests}


@pytest.mark.parametrize(
    ("options", "dim", "prompts"),
    [
        ("", DIM, ("", "")),
        (":encoding_format=base64,batch_size=5", DIM, ("", "")),
        (":dimensions=8,query_prompt=query: ,document_prompt=passage: ", 8, ("query: ", "passage: ")),
        (":max_chars=20", DIM, ("", "")),
    ],
)
def test_the_ranking_is_that_of_the_model(
    harness, served: Endpoint, toy: Path, tmp_path: Path, options: str, dim: int, prompts: tuple[str, str]
) -> None:
    done = harness("benchmark", "-m", f"openai:org/m{options}", "--base-url", served.url, "-d", toy, "--json")
    assert done.code == 0, done.err
    most = 20 if "max_chars" in options else None
    documents, queries = read(toy)
    vectors = {key: vector((prompts[1] + text)[:most], dim=dim).astype(np.float64) for key, text in documents.items()}
    found = run_of(tmp_path / "results")
    for key, text in queries.items():
        asked = vector((prompts[0] + text)[:most], dim=dim).astype(np.float64)
        scores = {d: float(asked @ v / np.linalg.norm(asked) / np.linalg.norm(v)) for d, v in vectors.items()}
        assert found[key] == ranked(scores)
    assert {*served.paths} == {"/v1/embeddings"}
    assert all(body["model"] == "org/m" and len(body["input"]) <= 32 for body in served.bodies)
    [result] = json.loads(done.out)
    assert result["counts"]["document_tokens"] == sum(tokens((prompts[1] + text)[:most]) for text in documents.values())
    assert f"note: sent to endpoints: {served.spent:,} tokens in {len(served.bodies)} requests" in done.err


def test_base64_and_numbers_give_the_same_bytes(harness, served: Endpoint, toy: Path, home: Path) -> None:
    model = f"openai:m:base_url={served.url},encoding_format="
    assert harness("benchmark", "-m", f"{model}float", "-m", f"{model}base64", "-d", toy).code == 0
    files = [file.read_bytes() for file in sorted(home.rglob("document/*.npy"))]
    assert len(files) == 2
    assert files[0] == files[1]
    assert {body["encoding_format"] for body in served.bodies} == {"float", "base64"}


def test_input_types(harness, served: Endpoint, toy: Path) -> None:
    own = "query_input_type=query,document_input_type=passage"
    assert harness("benchmark", "-m", f"openai:m:base_url={served.url},{own}", "-d", toy).code == 0
    documents, queries = read(toy)
    kinds = {text: body["input_type"] for body in served.bodies for text in body["input"]}
    assert {kinds[text] for text in documents.values()} == {"passage"}
    assert {kinds[text] for text in queries.values()} == {"query"}


def test_the_shape_of_cohere(harness, served: Endpoint, toy: Path, tmp_path: Path) -> None:
    url = served.url.removesuffix("/v1")
    done = harness("benchmark", "-m", "cohere:embed-v4:dimensions=16", "--base-url", url, "-d", toy)
    assert done.code == 0, done.err
    documents, queries = read(toy)
    kinds = {text: body["input_type"] for body in served.bodies for text in body["texts"]}
    assert {kinds[text] for text in documents.values()} == {"search_document"}
    assert {kinds[text] for text in queries.values()} == {"search_query"}
    assert {(body["model"], body["output_dimension"]) for body in served.bodies} == {("embed-v4", 16)}
    assert {*served.paths} == {"/v2/embed"}
    vectors = {key: vector(text, dim=16).astype(np.float64) for key, text in documents.items()}
    for key, text in queries.items():
        scores = {d: float(vector(text, dim=16).astype(np.float64) @ v) for d, v in vectors.items()}
        assert run_of(tmp_path / "results")[key][:5] == ranked(scores)[:5]


def test_the_address_of_the_environment(harness, served: Endpoint, toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"{served.url}/")
    done = harness("benchmark", "-m", "openai:m", "-d", toy, "--json")
    assert done.code == 0, done.err
    [result] = json.loads(done.out)
    assert result["model"] == "openai:m"
    assert result["manifest"]["model"]["fingerprint"]["endpoint"] == served.url
    assert f"note: openai:m: texts are sent to {served.url}" in done.err


def test_options_that_change_no_vector_are_not_in_the_key_nor_the_name(harness, served: Endpoint, toy: Path) -> None:
    model = f"openai:m:base_url={served.url}"
    assert harness("benchmark", "-m", model, "-d", toy).code == 0
    served.forget()
    other = f"{model},price=3,batch_size=2,concurrency=1,timeout=9,key_env=none"
    done = harness("benchmark", "-m", other, "-d", toy, "--json")
    assert [(r["model"], r["cell"]) for r in json.loads(done.out)] == [(model, "cached")]
    assert served.bodies == []
    assert harness("benchmark", "-m", f"{model},version=2", "-d", toy, "--json").code == 0
    assert len(served.answered) > CANARIES


def test_what_has_arrived_is_not_sent_again_after_a_failure(
    harness, served: Endpoint, tmp_path: Path, home: Path
) -> None:
    words = ("benchmark", "-m", "openai:m:batch_size=10,concurrency=3", "--base-url", served.url, "-d", many(tmp_path))
    served.dies_after = 6 + 7  # the canaries, and some batches
    done = harness(*words)
    assert done.code == 1
    assert "answers 503 Service Unavailable" in done.err
    assert "what has arrived is stored: run the same command again to continue" in done.err
    before = [*served.answered[CANARIES:]]
    assert {digest(text) for text in before} == stored_texts(home)
    assert len(before) == 70
    served.forget()
    served.dies_after = None
    assert harness(*words).code == 0
    after = served.answered[CANARIES:]
    assert len({*before, *after}) == len(before) + len(after) == 150 + 6
    assert list(home.rglob("parts")) == []


def test_a_killed_run_sends_no_stored_text_again(harness, served: Endpoint, tmp_path: Path, home: Path) -> None:
    model = f"openai:m:batch_size=10,concurrency=2,base_url={served.url}"
    words = ("benchmark", "-m", model, "-d", many(tmp_path))
    served.delay = 0.05
    process = Forked([*words])
    while len(list(home.rglob("parts/*/*.npy"))) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.kill()
    process.wait()
    kept = stored_texts(home)
    assert 10 <= len(kept) < 150
    served.forget()
    served.delay = 0.0
    done = harness(*words, "--json")
    assert done.code == 0, done.err
    sent = {digest(text) for text in served.answered if text not in TEXTS}  # with what the killed run had under way
    assert not sent & kept
    assert len(sent | kept) == 150 + 6
    [result] = json.loads(done.out)
    documents, _ = read(tmp_path / "many")
    assert result["counts"]["document_tokens"] == sum(map(tokens, documents.values()))


def test_a_batch_of_another_size_uses_what_has_arrived(harness, served: Endpoint, tmp_path: Path) -> None:
    data, model = many(tmp_path), f"openai:m:base_url={served.url},batch_size="
    served.dies_after = 6 + 3
    assert harness("benchmark", "-m", f"{model}20", "-d", data).code == 1
    before = {*served.answered[CANARIES:]}
    assert len(before) == 60
    served.forget()
    served.dies_after = None
    assert harness("benchmark", "-m", f"{model}7", "-d", data).code == 0
    assert not before & {*served.answered[CANARIES:]}


def test_equal_and_blank_texts(harness, served: Endpoint, tmp_path: Path, home: Path) -> None:
    documents = {"a": "one text", "b": "one text", "c": "", "d": " \t", "e": "another"}
    data = write_dataset(tmp_path / "odd", documents, {"q": "one"}, [("q", "a", 1)])
    assert harness("benchmark", "-m", "openai:m", "--base-url", served.url, "-d", data).code == 0
    assert sorted(served.answered[CANARIES:]) == ["another", "one", "one text"]
    rows = np.load(next(home.rglob("document/*.npy")))
    assert np.array_equal(rows[0], vector("one text"))
    assert np.array_equal(rows[1], rows[0])
    assert not rows[2:4].any()


def test_several_requests_at_a_time(served: Endpoint) -> None:
    texts = [f"text {i}" for i in range(40)]
    for workers in (1, 4):

        def together(handler: object, workers: int = workers) -> bool:
            end = time.monotonic() + 20
            while served.under_way < workers and time.monotonic() < end:
                time.sleep(0.005)
            return False

        served.at_once, served.faults = 0, [together] * workers
        model = encoder(served, concurrency=workers, batch_size=4)
        assert np.array_equal(model.encode(texts, role="document"), np.stack([vector(text) for text in texts]))
        assert served.at_once == workers


def test_a_server_that_states_no_tokens_is_counted_by_bytes(served: Endpoint) -> None:
    served.usage = False
    model = encoder(served)
    assert sum(a.tokens for a in model.encode_batches(["12345678", "123"], role="query")) == 2 + 1


@pytest.mark.parametrize("packed", [False, True])
def test_requests_and_vectors_are_those_of_the_official_client(
    served: Endpoint, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    openai = pytest.importorskip("openai")
    monkeypatch.setenv("OPENAI_API_KEY", "a-key")
    texts = ["some text", "another", "Straße 東京"]
    how = {} if packed else {"encoding_format": "float"}  # its own default is base64
    with openai.OpenAI(base_url=served.url) as official:
        answer = official.embeddings.create(model="m", input=texts, dimensions=7, **how)
    own = encoder(served, dimensions=7, encoding_format="base64" if packed else "float")
    ours = own.encode([texts[2], texts[0], texts[1]], role="document")
    assert served.bodies[0] == {**served.bodies[1], "input": texts}
    assert sorted(served.bodies[1]["input"]) == sorted(texts)
    assert served.paths[0] == served.paths[1]
    assert served.keys[0] == served.keys[1] == "Bearer a-key"
    assert np.array_equal(ours[[1, 2, 0]], np.array([row.embedding for row in answer.data], np.float32))


def encoder(served: Endpoint, **options: object):
    usual = {name: option.default for name, option in {**CONNECTION, **EMBEDDING}.items()}
    return load_openai({**usual, "model": "m", "base_url": served.url, **options})


def test_the_shards_of_this_file_are_one(tmp_path: Path) -> None:
    """What the tests above suppose."""
    assert len(list(chunks(read(many(tmp_path))[0].values()))) == 1
