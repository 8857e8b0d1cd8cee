"""Embedding models behind an endpoint: ``-m openai:MODEL --base-url URL`` and ``-m cohere:MODEL``."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import ModelFacts, ModelFiles, ModelSpec, Option, Packages, hookimpl
from harness.embeddings.encode import batches
from harness.registry.remote import Arrived
from harness.system.budget import Budget
from harness.types import Options, PluginError, Role, Similarity
from harness_plugins.endpoints.address import base_url, key_of
from harness_plugins.endpoints.options import CONNECTION, EMBEDDING
from harness_plugins.endpoints.shapes import BYTES_PER_TEXT, Cohere, OpenAI, WrongAnswer

IMPLEMENTATION = 1
"""Part of the fingerprint; raised when other texts are sent, or other vectors are read of an answer."""
PACKAGES = Packages(modules=("httpx2",), extra="endpoints")
CHARACTERS = 1 << 18
"""Most characters of a request of several texts: services limit the tokens of one."""
OVERHEAD = 16
"""Most tokens that a server adds to a text."""
SHAPES: Mapping[str, OpenAI | Cohere] = {"openai": OpenAI(), "cohere": Cohere()}


@hookimpl
def harness_models() -> Iterable[ModelSpec]:
    """Register both shapes."""
    yield _spec("openai", "a model behind any OpenAI-compatible embeddings endpoint: -m openai:MODEL --base-url URL")
    yield _spec("cohere", "a model behind Cohere's embed endpoint: -m cohere:MODEL", without=("encoding_format",))


def _spec(name: str, summary: str, without: tuple[str, ...] = ()) -> ModelSpec:
    own = {"model": Option(None, f"its name at the endpoint; stands after {name}:"), **CONNECTION, **EMBEDDING}
    return ModelSpec(
        name,
        "dense",
        load=f"{__name__}:load_{name}",
        summary=summary,
        options={key: option for key, option in own.items() if key not in without},
        similarity="cosine",
        fingerprint=f"{__name__}:fingerprint_{name}",
        packages=PACKAGES,
        files=ModelFiles(argument="model"),
        facts=ModelFacts(endpoint=f"{__name__}:endpoint_{name}", by_options=f"{__name__}:facts"),
    )


def endpoint_openai(options: Options) -> str:
    """The address that texts are sent to."""
    return base_url(options, OpenAI.url_name, OpenAI.usual)


def endpoint_cohere(options: Options) -> str:
    """The address that texts are sent to."""
    return base_url(options, Cohere.url_name, Cohere.usual)


def facts(options: Options) -> dict[str, Any]:
    """The dimension, if it was asked for."""
    return {"dim": options["dimensions"]} if options["dimensions"] else {}


def fingerprint_openai(options: Options) -> dict[str, Any]:
    """Address, model and every option that changes a vector."""
    return stated(options, {**CONNECTION, **EMBEDDING}, endpoint_openai(options), OpenAI.key_name)


def fingerprint_cohere(options: Options) -> dict[str, Any]:
    """Address, model and every option that changes a vector."""
    return stated(options, {**CONNECTION, **EMBEDDING}, endpoint_cohere(options), Cohere.key_name)


def stated(options: Options, known: Mapping[str, Option], address: str, key_name: str) -> dict[str, Any]:
    """The fingerprint of a model behind an endpoint. Of the options of both roles, only the unusual ones are in it."""
    key_of(options, key_name, address)  # before a label that may hold it is written anywhere
    chosen = {
        name: options[name]
        for name, option in known.items()
        if option.changes_output and not option.role and name != "base_url"
        if options.get(name) not in (option.default, None)
    }
    of_one_role = {name: options[name] for name, option in known.items() if option.role}
    own = {"endpoint": address, "name": options["model"], "implementation": IMPLEMENTATION, "options": chosen}
    return {**own, **of_one_role}


def load_openai(options: Options) -> EndpointEncoder:
    """Connects on the first request."""
    return EndpointEncoder(options, OpenAI(), endpoint_openai(options))


def load_cohere(options: Options) -> EndpointEncoder:
    """Connects on the first request."""
    return EndpointEncoder(options, Cohere(), endpoint_cohere(options))


class EndpointEncoder:
    """`RemoteEncoder` in one of the shapes. A blank text is not sent, as servers refuse it: its vector is zero."""

    def __init__(self, options: Options, shape: OpenAI | Cohere, address: str) -> None:
        from harness_plugins.endpoints.client import Client

        self.budget = Budget()
        self.similarity: Similarity = options["similarity"]  # type: ignore[assignment]  # one of its choices
        self._options, self._shape = options, shape
        key = key_of(options, shape.key_name, address)
        self._client = Client(address + shape.path, *key, float(options["timeout"] or 0))
        self._dim = int(options["dimensions"] or 0)

    @property
    def dim(self) -> int:
        """Length of the vectors; asked for with a short text if nothing has been encoded yet."""
        if not self._dim:
            self.encode(["a"], role="document")
        return self._dim

    def encode(self, texts: Sequence[str], *, role: Role) -> NDArray[np.float32]:
        """float32 [len(texts), dim]."""
        answers = list(self.encode_batches(texts, role=role))
        vectors = np.zeros((len(texts), self.dim), np.float32)
        for answer in answers:
            vectors[list(answer.rows)] = answer.values
        return vectors

    def encode_batches(self, texts: Sequence[str], *, role: Role) -> Generator[Arrived, None, None]:
        """The vectors of all texts as they arrive; those of similar length together."""
        options = self._options
        ready = [prepared(text, options, str(options[f"{role}_prompt"] or "")) for text in texts]
        if blank := [place for place, text in enumerate(ready) if not text.strip()]:
            yield Arrived(blank, np.zeros((len(blank), self.dim), np.float32))
        from harness_plugins.endpoints.parallel import in_parallel

        full = [place for place, text in enumerate(ready) if text.strip()]
        sizes = [len(ready[place]) for place in full]
        grouped = ([full[i] for i in batch] for batch in batches(sizes, CHARACTERS, int(options["batch_size"] or 1)))

        def send(rows: list[int], stop: Event) -> tuple[Arrived, int]:
            return self._send(rows, [ready[row] for row in rows], role, stop)

        yield from in_parallel(
            grouped,
            lambda rows: sum(most_tokens(ready[row]) for row in rows),
            send,
            int(options["concurrency"] or 1),
            self.budget,
            float(options["price"] or 0),
            str(options["model"]),
        )

    def _send(self, rows: list[int], texts: list[str], role: Role, stop: Event) -> tuple[Arrived, int]:
        limit = (1 << 20) + BYTES_PER_TEXT * len(texts)
        content, attempts = self._client.post(self._shape.request(self._options, texts, role), limit, stop)
        try:
            vectors, tokens = self._shape.answer(content, len(texts))
        except WrongAnswer as wrong:
            raise PluginError(
                f"{self._client.url}: {wrong}; the server is not one for this shape, or is broken."
            ) from None
        dim = vectors.shape[1]
        if dim != (self._dim or dim):
            asked = (
                f"dimensions={self._dim} was asked for" if self._options["dimensions"] else f"others had {self._dim}"
            )
            raise PluginError(
                f"{self._client.url}: a vector has {dim} dimensions, and {asked}; the server does not keep it."
            )
        self._dim = dim
        return Arrived(rows, vectors, estimated(texts) if tokens is None else tokens), attempts


def prepared(text: str, options: Options, prompt: str = "") -> str:
    """A text as it is sent: with its prompt, cut at ``max_chars``."""
    most = int(options["max_chars"] or 0)
    return (prompt + text)[: most or None]


def most_tokens(text: str) -> int:
    """The most tokens that a text can have: each is made of a byte at least."""
    return len(text.encode("utf-8", "replace")) + OVERHEAD


def estimated(texts: Iterable[str]) -> int:
    """Tokens of texts whose server does not state them: one for four bytes."""
    return sum(-(-len(text.encode("utf-8", "replace")) // 4) for text in texts)
