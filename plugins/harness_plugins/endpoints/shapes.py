"""What is sent to an endpoint, and what is read of its answer, in the shapes of OpenAI, Cohere and rerankers.

Every answer is checked: the number of its rows, their order, their type, their length and their values.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.types import Options, PluginError, Role

MOST_DIMENSIONS = 1 << 16
BYTES_PER_TEXT = 32 * MOST_DIMENSIONS
"""Most bytes of an answer per text: a number has up to 25 characters."""
INPUT_TYPES = {"query": "search_query", "document": "search_document"}
"""Cohere's, which are what its models need."""


class WrongAnswer(PluginError):
    """An answer is not what was asked for; the message is a clause about it."""


class Embedded(NamedTuple):
    """Vectors of an answer, in the order of the texts, and its tokens (None: not stated)."""

    vectors: NDArray[np.float32]
    tokens: int | None


class OpenAI:
    """The shape of ``/embeddings``, which most servers and services speak."""

    path, key_name, url_name, usual = "/embeddings", "OPENAI_API_KEY", "OPENAI_BASE_URL", "https://api.openai.com/v1"

    def request(self, options: Options, texts: Sequence[str], role: Role) -> dict[str, Any]:
        """The body of a request."""
        body: dict[str, Any] = {"model": options["model"], "input": list(texts)}
        body["encoding_format"] = options["encoding_format"]
        if options["dimensions"]:
            body["dimensions"] = options["dimensions"]
        if kind := options[f"{role}_input_type"]:
            body["input_type"] = kind
        return body

    def answer(self, content: Any, count: int) -> Embedded:
        """Reads an answer to ``count`` texts."""
        rows = content.get("data") if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise WrongAnswer("the answer has no list of vectors (data)")
        ordered = in_order(rows, count, "vectors")
        return Embedded(stacked([row.get("embedding") for row in ordered]), _stated(content, "usage", "total_tokens"))


class Cohere:
    """The shape of ``/v2/embed``."""

    path, key_name, url_name, usual = "/v2/embed", "CO_API_KEY", "CO_API_URL", "https://api.cohere.com"

    def request(self, options: Options, texts: Sequence[str], role: Role) -> dict[str, Any]:
        """The body of a request."""
        body: dict[str, Any] = {"model": options["model"], "texts": list(texts)}
        body |= {"embedding_types": ["float"], "input_type": options[f"{role}_input_type"] or INPUT_TYPES[role]}
        if options["dimensions"]:
            body["output_dimension"] = options["dimensions"]
        return body

    def answer(self, content: Any, count: int) -> Embedded:
        """Reads an answer to ``count`` texts."""
        found = content.get("embeddings") if isinstance(content, dict) else None
        rows = found.get("float") if isinstance(found, dict) else None
        if not isinstance(rows, list):
            raise WrongAnswer("the answer has no list of vectors (embeddings.float)")
        _require_count(rows, count, "vectors")
        return Embedded(stacked(rows), _stated(content, "meta", "billed_units", "input_tokens"))


def rerank_request(options: Options, query: str, documents: Sequence[str]) -> dict[str, Any]:
    """The body of a request to ``/rerank``; of Text Embeddings Inference in its own words."""
    if options["api"] == "tei":
        return {"query": query, "texts": list(documents), "truncate": True, "raw_scores": True}
    return {"model": options["model"], "query": query, "documents": list(documents)}


def rerank_answer(content: Any, count: int) -> Embedded:
    """Reads the scores of ``count`` documents, float32 [count, 1]."""
    rows = content.get("results") if isinstance(content, dict) else content
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise WrongAnswer("the answer has no list of scores (results)")
    if not all("index" in row for row in rows):
        raise WrongAnswer("a score of the answer has no index, so that nobody knows which document it is of")
    scores = [[row.get("relevance_score", row.get("score"))] for row in in_order(rows, count, "scores")]
    tokens = _stated(content, "usage", "total_tokens") if isinstance(content, dict) else None
    return Embedded(stacked(scores), tokens)


def in_order(rows: list[dict[str, Any]], count: int, what: str) -> list[dict[str, Any]]:
    """The rows in the order of the texts, by their ``index``; as they are if none has one."""
    _require_count(rows, count, what)
    if not any("index" in row for row in rows):
        return rows
    placed: dict[Any, dict[str, Any]] = {row["index"]: row for row in rows if type(row.get("index")) is int}
    if {*placed} != {*range(count)}:
        raise WrongAnswer(f"the indexes of its {count} {what} are not 0 to {count - 1}, each once")
    return [placed[place] for place in range(count)]


def _require_count(rows: Sequence[object], count: int, what: str) -> None:
    if len(rows) != count:
        raise WrongAnswer(f"the answer has {len(rows)} {what} for {count} texts")


def stacked(rows: Sequence[Any]) -> NDArray[np.float32]:
    """float32 [n, dim] of lists of numbers or base64 text; WrongAnswer unless they are finite and of one length."""
    arrays = [_decoded(row) if isinstance(row, str) else _numbers(row) for row in rows]
    lengths = sorted({len(array) for array in arrays})
    if len(lengths) > 1:
        raise WrongAnswer(f"vectors of one answer have {lengths[0]} and {lengths[-1]} dimensions")
    if not 0 < lengths[0] <= MOST_DIMENSIONS:
        raise WrongAnswer(f"its vectors have {lengths[0]:,} dimensions")
    with np.errstate(over="ignore"):
        vectors = np.stack(arrays).astype(np.float32)
    if bad := int((~np.isfinite(vectors).all(axis=1)).sum()):
        raise WrongAnswer(f"{bad} of {len(vectors)} vectors hold NaN or infinity")
    return vectors


def _decoded(text: str) -> NDArray[Any]:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise WrongAnswer("a vector is neither a list of numbers nor base64") from None
    if len(data) % 4:
        raise WrongAnswer(f"a vector in base64 has {len(data)} bytes, which is no multiple of 4")
    return np.frombuffer(data, "<f4")


def _numbers(row: object) -> NDArray[Any]:
    try:
        array = np.asarray(row if isinstance(row, list) else None)
    except ValueError:  # lists within the list
        array = np.asarray(None)
    if array.ndim != 1 or (array.dtype.kind not in "iuf" and array.size):
        raise WrongAnswer("a vector is neither a list of numbers nor base64")
    return array


def _stated(content: Any, *names: str) -> int | None:
    """A count of tokens in an answer; None if there is none."""
    for name in names:
        content = content.get(name) if isinstance(content, dict) else None
    whole = int(content) if type(content) in (int, float) and 0 <= content < 1 << 40 else None
    return whole
