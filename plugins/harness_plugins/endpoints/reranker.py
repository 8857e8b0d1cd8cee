"""Rerankers behind an endpoint: ``rerank(bm25):model=NAME,base_url=URL``."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from itertools import groupby
from threading import Event
from typing import Any

import numpy as np

from harness import ModelFacts, ModelSpec, Option, Scored, UserError, hookimpl
from harness.registry.remote import Arrived
from harness.system.budget import Budget
from harness.types import Options, PluginError
from harness_plugins.endpoints.address import base_url, key_of
from harness_plugins.endpoints.models import PACKAGES, estimated, most_tokens, prepared, stated
from harness_plugins.endpoints.options import CONNECTION
from harness_plugins.endpoints.parallel import in_parallel
from harness_plugins.endpoints.shapes import WrongAnswer, rerank_answer, rerank_request

KEY_NAME, URL_NAME = "RERANK_API_KEY", "RERANK_BASE_URL"
BYTES_PER_SCORE, BYTES_PER_CHARACTER = 1 << 12, 12
"""Most bytes of an answer: some servers repeat the documents, whose characters JSON may escape."""
BLANK = "."
"""What is sent in place of a blank text, which servers refuse."""
OPTIONS: dict[str, Option] = {
    "model": Option(None, "its name at the endpoint"),
    "depth": Option(100, "how many of the member's hits are scored", minimum=1),
    "api": Option("cohere", "cohere: also Jina, vLLM, infinity and llama.cpp; tei", choices=("cohere", "tei")),
    **CONNECTION,
}


@hookimpl
def harness_models() -> Iterable[ModelSpec]:
    """Register the reranker."""
    yield ModelSpec(
        "rerank-api",
        "reranker",
        load=f"{__name__}:load",
        summary="a reranker behind an endpoint: rerank(bm25):model=NAME,base_url=URL",
        options=OPTIONS,
        fingerprint=f"{__name__}:fingerprint",
        packages=PACKAGES,
        facts=ModelFacts(endpoint=f"{__name__}:endpoint"),
    )


def endpoint(options: Options) -> str:
    """The address that texts are sent to."""
    return base_url(options, URL_NAME, "")


def fingerprint(options: Options) -> dict[str, Any]:
    """Address, model and every option that changes a score."""
    if not options["model"] and options["api"] != "tei":
        raise UserError("A reranker behind an endpoint needs its name there: add model=NAME.")
    return stated(options, OPTIONS, endpoint(options), KEY_NAME)


def load(options: Options) -> EndpointReranker:
    """Connects on the first request."""
    return EndpointReranker(options)


class EndpointReranker:
    """`RemoteReranker`: a request has one query and up to ``batch_size`` documents."""

    def __init__(self, options: Options) -> None:
        from harness_plugins.endpoints.client import Client

        self.budget, self.depth = Budget(), int(options["depth"] or 1)
        self._options, address = options, endpoint(options)
        key = key_of(options, KEY_NAME, address)
        self._client = Client(f"{address}/rerank", *key, float(options["timeout"] or 0))

    def score(self, pairs: Sequence[tuple[str, str]]) -> Scored:
        """float32 [len(pairs)]."""
        scores, tokens = np.empty(len(pairs), np.float32), 0
        for answer in self.score_batches(pairs):
            scores[list(answer.rows)] = answer.values[:, 0]
            tokens += answer.tokens
        return Scored(scores, tokens)

    def score_batches(self, pairs: Sequence[tuple[str, str]]) -> Generator[Arrived, None, None]:
        """The scores of all pairs as they arrive."""
        options, size = self._options, int(self._options["batch_size"] or 1)
        ready = [(prepared(query, options) or BLANK, prepared(text, options)) for query, text in pairs]
        ready = [(query if query.strip() else BLANK, text if text.strip() else BLANK) for query, text in ready]
        grouped = (list(rows) for _, rows in groupby(range(len(ready)), key=lambda row: ready[row][0]))

        def send(rows: list[int], stop: Event) -> tuple[Arrived, int]:
            return self._send(rows, ready[rows[0]][0], [ready[row][1] for row in rows], stop)

        yield from in_parallel(
            (rows[start : start + size] for rows in grouped for start in range(0, len(rows), size)),
            lambda rows: sum(most_tokens(text) for row in rows for text in ready[row]),
            send,
            int(options["concurrency"] or 1),
            self.budget,
            float(options["price"] or 0),
            str(options["model"] or self._client.url),
        )

    def _send(self, rows: list[int], query: str, documents: list[str], stop: Event) -> tuple[Arrived, int]:
        limit = (1 << 20) + BYTES_PER_SCORE * len(documents) + BYTES_PER_CHARACTER * sum(map(len, documents))
        content, attempts = self._client.post(rerank_request(self._options, query, documents), limit, stop)
        try:
            scores, tokens = rerank_answer(content, len(documents))
        except WrongAnswer as wrong:
            raise PluginError(f"{self._client.url}: {wrong}; try the other api= (cohere or tei).") from None
        counted = estimated([query] * len(documents) + documents) if tokens is None else tokens
        return Arrived(rows, scores, counted), attempts
