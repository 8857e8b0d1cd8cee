"""An endpoint on loopback with a real model: words are hashed to vectors. It fails in the ways that a test asks for."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import numpy as np

from tests.server import running

DIM = 24


def word_vector(word: str, seed: str = "") -> np.ndarray:
    """A random direction, the same for the same word everywhere."""
    data = hashlib.shake_256(f"{seed}/{word}".encode()).digest(4 * DIM)
    return np.frombuffer(data, "<i4").astype(np.float64) / 2**31


def vector(text: str, seed: str = "", dim: int = DIM) -> np.ndarray:
    """float32 [dim]: the sum of the words' vectors, of unit length."""
    words = "".join(c if c.isalnum() else " " for c in text.lower()).split() or [text]
    total = sum(word_vector(word, seed) for word in words)
    cut = np.asarray(total)[:dim]
    return (cut / np.linalg.norm(cut)).astype(np.float32)


def relevance(query: str, document: str) -> float:
    """The score of the reranker."""
    return float(np.float32(vector(query, "r").astype(np.float64) @ vector(document, "r").astype(np.float64)))


def tokens(text: str) -> int:
    """As the server counts them."""
    return len(text.split()) + 2


@dataclass
class Endpoint:
    """What the server does, and what it was asked."""

    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    """The Authorization header of every request; empty if there was none."""
    answered: list[str] = field(default_factory=list)
    """The texts (of a reranker, query and document) that were answered with a value, one entry each time."""
    seed: str = ""
    """Another one is another model."""
    noise: float = 0.0
    """Share of a vector's length that is added at random."""
    usage: bool = True
    key: str = ""
    """Required of every request, if not empty."""
    faults: list[Callable[[BaseHTTPRequestHandler], bool]] = field(default_factory=list)
    """For the next requests: called with the handler; False: go on as if nothing was."""
    spoil: Callable[[Any], Any] | None = None
    """Changes every answer before it is sent."""
    dies_after: int | None = None
    """Requests that are answered before all others get 503."""
    delay: float = 0.0
    at_once: int = 0
    """The most requests under way at the same time so far."""
    under_way: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def spent(self) -> int:
        """Tokens of all texts that were answered."""
        return sum(map(tokens, self.answered))

    def forget(self) -> None:
        """Empties the records."""
        for records in (self.bodies, self.paths, self.keys, self.answered):
            records.clear()

    def embed(self, texts: list[str], dim: int) -> list[np.ndarray]:
        rng = np.random.default_rng()
        vectors = [vector(text, self.seed, dim) for text in texts]
        return [v + self.noise * rng.standard_normal(dim).astype(np.float32) / dim**0.5 for v in vectors]

    def answer(self, path: str, body: dict[str, Any]) -> Any:
        """What a server in good order says."""
        usage = {}
        if path.endswith("/rerank"):
            documents = body.get("texts") or body["documents"]
            scores = [relevance(body["query"], text) for text in documents]
            self.answered += [f"{body['query']} {text}" for text in documents]
            name = "score" if "texts" in body else "relevance_score"
            rows = [{"index": i, name: score} for i, score in enumerate(scores)]
            rows.sort(key=lambda row: -row[name])  # as all of them do
            return rows if "texts" in body else {"results": rows}
        if path.endswith("/v2/embed"):
            vectors = self.embed(body["texts"], body.get("output_dimension", DIM))
            self.answered += body["texts"]
            billed = {"input_tokens": sum(map(tokens, body["texts"]))}
            return {"embeddings": {"float": [v.tolist() for v in vectors]}, "meta": {"billed_units": billed}}
        vectors = self.embed(body["input"], body.get("dimensions", DIM))
        self.answered += body["input"]
        packed = body.get("encoding_format") == "base64"
        rows = [base64.b64encode(v.astype("<f4").tobytes()).decode() if packed else v.tolist() for v in vectors]
        if self.usage:
            usage = {"usage": {"total_tokens": sum(map(tokens, body["input"]))}}
        return {"data": [{"index": i, "embedding": row} for i, row in enumerate(rows)], **usage}


def status(code: int, headers: dict[str, str] | None = None, body: str = "") -> Callable[[Any], bool]:
    """A fault: an answer with this status."""

    def fault(handler: Any) -> bool:
        data = body.encode()
        handler.send_response(code)
        for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)
        return True

    return fault


def raw(body: bytes, length: int | None = None) -> Callable[[Any], bool]:
    """A fault: status 200 with these bytes; of another length than stated, if ``length`` is given."""

    def fault(handler: Any) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = True
        return True

    return fault


def silent(seconds: float) -> Callable[[Any], bool]:
    """A fault: nothing for so long, then a good answer."""

    def fault(handler: Any) -> bool:
        time.sleep(seconds)
        return False

    return fault


@contextmanager
def endpoint() -> Iterator[Endpoint]:
    """A running server."""
    state = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            with state.lock:
                state.under_way += 1
                state.at_once = max(state.at_once, state.under_way)
            try:
                self._answer()
            finally:
                with state.lock:
                    state.under_way -= 1

        def _answer(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with state.lock:
                state.bodies.append(body)
                state.paths.append(self.path)
                state.keys.append(self.headers.get("Authorization", ""))
                fault = state.faults.pop(0) if state.faults else None
                dead = state.dies_after is not None and len(state.bodies) > state.dies_after
            time.sleep(state.delay)
            if dead:
                status(503)(self)
                return
            if fault and fault(self):
                return
            if state.key and self.headers.get("Authorization") != f"Bearer {state.key}":
                status(401, body=json.dumps({"error": {"message": f"bad: {self.headers.get('Authorization')}"}}))(self)
                return
            with state.lock:
                content = state.answer(self.path, body)
            content = state.spoil(content) if state.spoil else content
            data = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with running(Handler) as url:
        state.url = f"{url}/v1"
        yield state
