"""What servers do wrong, and what is said about it: one sentence each, a retry where one helps, and never the key."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import numpy as np
import pytest

from harness import Arrived, ModelError, PluginError
from harness_plugins.endpoints.models import EndpointEncoder, load_cohere, load_openai
from harness_plugins.endpoints.options import CONNECTION, EMBEDDING
from harness_plugins.endpoints.reranker import OPTIONS, EndpointReranker, load
from tests.endpoint_server import DIM, Endpoint, endpoint, raw, silent, status, vector

httpx2 = pytest.importorskip("httpx2", reason="endpoints need the endpoints extra")
client = pytest.importorskip("harness_plugins.endpoints.client")

TEXTS = [f"some text {i}" for i in range(4)]
SECRET = "sk-SECRET.0123456789/abc"
Fault = Callable[[Any], bool]


def encoder(served: Endpoint, **options: object) -> EndpointEncoder:
    usual = {name: option.default for name, option in {**CONNECTION, **EMBEDDING}.items()}
    return load_openai({**usual, "model": "m", "base_url": served.url, **options})


def reranker(served: Endpoint, **options: object) -> EndpointReranker:
    usual = {name: option.default for name, option in OPTIONS.items()}
    return load({**usual, "model": "m", "base_url": served.url, **options})


def expected() -> np.ndarray:
    return np.stack([vector(text) for text in TEXTS])


def later(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    "fault",
    [
        *(status(code) for code in (408, 425, 429, 500, 502, 503, 504, 529)),
        status(429, {"Retry-After": "0"}),
        status(429, {"Retry-After": "0.01"}),
        status(503, {"Retry-After": "soon"}),
        status(503, {"Retry-After": later(-5)}),
        raw(b'{"data": [', length=5000),
        raw(b"", length=100),
    ],
)
def test_a_fault_that_passes_is_retried(served: Endpoint, fault: Fault) -> None:
    served.faults = [fault]
    assert np.array_equal(encoder(served).encode(TEXTS, role="document"), expected())
    assert len(served.bodies) == 2
    assert served.bodies[0] == served.bodies[1]


def test_the_wait_that_a_server_asks_for_is_kept_by_all_threads(served: Endpoint) -> None:
    served.faults = [status(429, {"Retry-After": "0.4"})]
    model, start = encoder(served, batch_size=1, concurrency=2), time.monotonic()
    assert np.array_equal(model.encode(TEXTS, role="document"), expected())
    assert time.monotonic() - start >= 0.4


def test_back_off_doubles_without_one(served: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RETRY_DELAY", 0.01)
    waited: list[float] = []
    monkeypatch.setattr(client, "note", lambda event, **fields: waited.append(fields["seconds"]))
    monkeypatch.setattr(client.random, "random", lambda: 0.0)
    monkeypatch.setattr(client, "round", lambda value, digits: value, raising=False)
    served.faults = [status(500)] * 5
    assert len(encoder(served).encode(TEXTS, role="document")) == 4
    assert waited == [0.01, 0.02, 0.04, 0.08, 0.16]


@pytest.mark.parametrize("workers", [1, 16])
def test_a_server_that_is_down_is_given_up_after_six_waits_with_any_number_of_threads(
    served: Endpoint, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(client, "RETRY_DELAY", 0.01)
    served.dies_after = 0
    model = encoder(served, batch_size=1, concurrency=workers)
    with pytest.raises(PluginError, match="503 Service Unavailable, 6 times in a row"):
        model.encode([f"text {i}" for i in range(32)], role="document")
    assert model._client._waits == 6


def test_a_wait_of_hours_is_left_to_the_user(served: Endpoint) -> None:
    for asked in ("7200", later(7200)):
        served.faults = [status(429, {"Retry-After": asked})]
        with pytest.raises(PluginError, match=r"asks to wait 7,[12]\d\d seconds; what has arrived is stored"):
            encoder(served).encode(TEXTS, role="document")


@pytest.mark.parametrize(
    ("fault", "error", "sentence"),
    [
        (status(500), PluginError, r"answers 500 Internal Server Error, 6 times in a row; what has arrived is stored"),
        (raw(b"{", length=9), PluginError, r"the connection broke \(.*\), 6 times in a row"),
        (
            status(404, body='{"error": {"message": "no model m"}}'),
            ModelError,
            r"404 Not Found \(no model m\); check the",
        ),
        (
            status(400, body='{"message": "too long"}'),
            PluginError,
            r"400 Bad Request \(too long\); .* give max_chars=N",
        ),
        (status(413), PluginError, r"answers 413 .* smaller batch_size=N\."),
        (status(402), ModelError, r"nothing left to spend: the server answers 402"),
        (status(429, body='{"error": {"code": "insufficient_quota"}}'), ModelError, r"nothing left to spend"),
        (
            status(403, body="<html>no</html>"),
            ModelError,
            r"it wants a key: .*403 Forbidden; set the .* OPENAI_API_KEY",
        ),
        (
            status(307, {"Location": "http://elsewhere/v1?key=1"}),
            ModelError,
            r"redirects to http://elsewhere/v1; .*alone",
        ),
        (raw(b"<html>hello</html>"), PluginError, r"the answer is not JSON \(.*\): '<html>hello</html>'\.$"),
        (raw(b"\xff\xfe"), PluginError, r"the answer is not JSON"),
        (raw(b"[" * 5000), PluginError, r"the answer is not JSON"),
        (raw(b'"text"'), PluginError, r"the answer has no list of vectors \(data\)"),
        (raw(b'{"data": [1, 2, 3, 4]}'), PluginError, r"the answer has no list of vectors \(data\)"),
    ],
)
def test_a_fault_that_stays_is_one_sentence(
    served: Endpoint, fault: Fault, error: type[Exception], sentence: str
) -> None:
    served.faults = [fault] * 6
    with pytest.raises(error, match=sentence) as raised:
        encoder(served).encode(TEXTS, role="document")
    assert str(raised.value).startswith(f"{served.url}/embeddings: ")
    assert "\n" not in str(raised.value)


def changed(change: Callable[[list[dict[str, Any]]], object]) -> Callable[[Any], Any]:
    """A spoilt answer: its rows are changed in place."""

    def spoil(content: Any) -> Any:
        change(content["data"])
        return content

    return spoil


def put(value: object, row: int = 1) -> Callable[[Any], Any]:
    return changed(lambda rows: rows[row].update(embedding=value))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (changed(lambda rows: rows.pop()), "the answer has 3 vectors for 4 texts"),
        (changed(lambda rows: rows.append(rows[0])), "the answer has 5 vectors for 4 texts"),
        (changed(lambda rows: rows[0].update(index=3)), "the indexes of its 4 vectors are not 0 to 3, each once"),
        (changed(lambda rows: rows[0].update(index=True)), "the indexes of its 4 vectors are not 0 to 3"),
        (changed(lambda rows: rows[0].pop("index")), "the indexes of its 4 vectors are not 0 to 3"),
        (put([0.5] * 7), "vectors of one answer have 7 and 24 dimensions"),
        (put([float("nan")] * DIM), "1 of 4 vectors hold NaN or infinity"),
        (put([1e300] * DIM), "1 of 4 vectors hold NaN or infinity"),
        (put([10**200] * DIM), "a vector is neither a list of numbers nor base64"),
        (put(None), "a vector is neither a list of numbers nor base64"),
        (put(["0.5"] * DIM), "a vector is neither a list of numbers nor base64"),
        (put([[0.5] * DIM]), "a vector is neither a list of numbers nor base64"),
        (put([[0.5], [0.5, 1]]), "a vector is neither a list of numbers nor base64"),
        (put("!!!"), "a vector is neither a list of numbers nor base64"),
        (put(base64.b64encode(b"12345").decode()), "a vector in base64 has 5 bytes"),
        (changed(lambda rows: [row.update(embedding=[]) for row in rows]), "its vectors have 0 dimensions"),
    ],
)
def test_a_wrong_answer_is_one_sentence(served: Endpoint, spoil: Callable[[Any], Any], sentence: str) -> None:
    served.spoil = spoil
    with pytest.raises(PluginError, match=sentence):
        encoder(served).encode(TEXTS, role="document")
    assert len(served.bodies) == 1


def test_the_order_is_that_of_the_index(served: Endpoint) -> None:
    served.spoil = changed(lambda rows: rows.reverse())
    assert np.array_equal(encoder(served).encode(TEXTS, role="document"), expected())
    served.spoil = changed(lambda rows: [row.pop("index") for row in rows])
    assert np.array_equal(encoder(served).encode(TEXTS, role="document"), expected())


def test_another_dimension_than_before_or_than_asked_for(served: Endpoint) -> None:
    model = encoder(served)
    model.encode(TEXTS, role="document")
    served.spoil = changed(lambda rows: [row.update(embedding=row["embedding"][:9]) for row in rows])
    with pytest.raises(PluginError, match="a vector has 9 dimensions, and others had 24"):
        model.encode(TEXTS, role="document")
    with pytest.raises(PluginError, match="a vector has 9 dimensions, and dimensions=12 was asked for"):
        encoder(served, dimensions=12).encode(TEXTS, role="document")


def test_an_answer_that_is_too_large(served: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "JSON_BYTES", 1000)
    for length in (None, -1):  # stated beforehand, and not
        served.faults = [raw(b" " * 5000) if length is None else unstated(b" " * 5000)]
        with pytest.raises(PluginError, match=r"the answer is larger than 1,000 bytes"):
            encoder(served).encode(TEXTS, role="document")
    served.faults = [status(400, body="x" * 1_000_000)]
    with pytest.raises(PluginError, match=r"400 Bad Request \(x+\.\.\.\)"):
        encoder(served).encode(TEXTS, role="document")


def unstated(body: bytes) -> Fault:
    """An answer without a length."""

    def fault(handler: Any) -> bool:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = True
        return True

    return fault


def test_a_silent_server_and_one_that_trickles(served: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ATTEMPTS", 2)
    served.faults = [silent(0.4), silent(0.4)]
    with pytest.raises(PluginError, match=r"no answer within 0\.1 seconds, 2 times in a row"):
        encoder(served, timeout=0.1).encode(TEXTS, role="document")

    def trickle(handler: Any) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        for _ in range(8):
            time.sleep(0.05)
            handler.wfile.write(b" ")
        return True

    served.faults = [trickle, trickle]
    with pytest.raises(PluginError, match=r"no (complete )?answer within 0\.2 seconds, 2 times in a row"):
        encoder(served, timeout=0.2).encode(TEXTS, role="document")


def test_a_server_that_does_not_run(served: Endpoint) -> None:
    with endpoint() as gone:
        pass
    with pytest.raises(ModelError, match=r"cannot be reached \(.*\); check the base URL and that the server runs"):
        encoder(gone).encode(TEXTS, role="document")


def test_one_failure_ends_the_others_retries_and_keeps_what_is_under_way(served: Endpoint) -> None:
    refused = threading.Event()

    def refuse(handler: Any) -> bool:
        while served.under_way < 3:
            time.sleep(0.005)
        status(400)(handler)
        refused.set()
        return True

    def late(handler: Any) -> bool:
        refused.wait(20)
        time.sleep(0.2)
        return False

    served.faults = [refuse, late, late]
    model, arrived = encoder(served, batch_size=1, concurrency=3), list[Arrived]()
    with pytest.raises(PluginError, match="400 Bad Request"):
        arrived.extend(model.encode_batches([f"some text {i}" for i in range(40)], role="document"))
    assert 2 <= len(arrived) < 39
    assert len(served.bodies) == len(arrived) + 1


@pytest.mark.parametrize(
    "fault",
    [
        status(401, body=json.dumps({"error": {"message": f"Incorrect API key provided: {SECRET}"}})),
        status(400, body=f"you said Bearer {SECRET}"),
        status(400, body="x" * 150 + SECRET),
        status(307, {"Location": f"http://127.0.0.1:9/{SECRET}"}),
        raw(f"<html>{SECRET}".encode()),
        raw(b"x" * 70 + SECRET.encode()),
        raw(f'{{"{SECRET}": "'.encode()),
    ],
)
def test_a_key_that_a_server_repeats_is_not_shown(
    served: Endpoint, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    served.faults = [fault]
    with pytest.raises((PluginError, ModelError)) as raised:
        encoder(served).encode(TEXTS, role="document")
    assert served.keys == [f"Bearer {SECRET}"]
    error: BaseException | None = raised.value
    while error is not None:
        assert SECRET not in f"{error}{error!r}"
        assert "sk-SECRET" not in str(error)
        error = error.__cause__ if error.__cause__ or error.__suppress_context__ else error.__context__


def test_the_key_stays_with_its_host(served: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with endpoint() as other:
        served.faults = [status(308, {"Location": f"{other.url}/embeddings"})]
        with pytest.raises(ModelError, match="redirects to"):
            encoder(served).encode(TEXTS, role="document")
        assert other.bodies == []


def test_the_scores_of_a_reranker_are_checked(served: Endpoint) -> None:
    pairs = [("a query", text) for text in TEXTS]
    for api in ("cohere", "tei"):
        served.spoil = lambda content: content[1:] if isinstance(content, list) else {"results": content["results"][1:]}
        with pytest.raises(PluginError, match="the answer has 3 scores for 4 texts"):
            reranker(served, api=api).score(pairs)
    for content, sentence in (
        ({"results": [{"relevance_score": 1.0}] * 4}, "has no index"),
        ({"results": [{"index": 0, "relevance_score": 1.0}] * 4}, "are not 0 to 3"),
        ({"results": [{"index": i, "relevance_score": "1"} for i in range(4)]}, "neither a list of numbers"),
        ({"results": [{"index": i} for i in range(4)]}, "neither a list of numbers"),
        ({"results": [{"index": i, "relevance_score": float("nan")} for i in range(4)]}, "NaN"),
        ({"scores": []}, r"no list of scores \(results\)"),
        (7, r"no list of scores \(results\)"),
    ):
        served.spoil = lambda _, content=content: content
        with pytest.raises(PluginError, match=sentence):
            reranker(served).score(pairs)


def test_the_vectors_of_cohere_are_checked(served: Endpoint) -> None:
    usual = {name: option.default for name, option in {**CONNECTION, **EMBEDDING}.items()}
    model = load_cohere({**usual, "model": "m", "base_url": served.url})
    served.spoil = lambda content: {"embeddings": {"float": content["embeddings"]["float"][1:]}}
    with pytest.raises(PluginError, match="the answer has 3 vectors for 4 texts"):
        model.encode(TEXTS, role="query")
    served.spoil = lambda content: {"embeddings": []}
    with pytest.raises(PluginError, match=r"no list of vectors \(embeddings\.float\)"):
        model.encode(TEXTS, role="query")
