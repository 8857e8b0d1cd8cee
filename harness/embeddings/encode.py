"""Encode texts to vectors, shard by shard, in batches of similar length.

The next shard is tokenised and the previous one written while a shard is encoded. Stored shards are not encoded again,
nor are those whose base embeddings are stored, of models that put a head on a base. What a model behind a server sends
is stored batch by batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.embeddings.formats import DENSE, Format
from harness.embeddings.parts import ShardParts, digest, receive, remove_parts
from harness.embeddings.sharding import Chunk, chunks
from harness.embeddings.store import Shard, Vectors, VectorStore
from harness.errors import plugin_code
from harness.registry.remote import Arrived, RemoteEncoder
from harness.types import EncoderModel, HeadModel, PluginError, Progress, Role, TokenModel

TOKEN_BUDGET = 2048
"""Tokens per batch including padding: larger batches exceed CPU caches and are slower. Overridden by the attribute
``token_budget`` of a model."""
CHARACTER_BUDGET, TEXT_BUDGET = 1 << 16, 256
"""Batch limits for models without a separate tokeniser."""


@dataclass(slots=True)
class Tally:
    """Counters for freshly encoded texts (cache hits excluded)."""

    texts: int = 0
    tokens: int = 0
    """0 if the model has no separate tokeniser."""
    seconds: float = 0.0


def encode_collection(
    model: EncoderModel,
    name: str,
    texts: Iterable[str],
    total: int,
    store: VectorStore,
    role: Role,
    progress: Progress,
    tally: Tally | None = None,
) -> list[Shard]:
    """Encode and store all texts that are not stored yet.

    Args:
        model: the model.
        name: name of the model for messages.
        texts: the collection.
        total: number of texts, for the progress.
        store: receives the shards, in the format of the model's kind.
        role: documents or queries.
        progress: receives the progress.
        tally: counts the freshly encoded texts.

    Returns:
        The shards of all texts, in order.

    Raises:
        PluginError: the model returned anything but valid vectors of its kind; the message names the batch.
    """
    store.sweep()
    base = VectorStore(store.home, model.base_key, role, shared=store.shared) if isinstance(model, HeadModel) else None
    shards: list[Shard | Future[Shard]] = []
    done = 0
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        pending: dict[str, Future[Shard]] = {}
        try:
            for chunk, tokens in _ahead(reader, model, chunks(texts), [store, *filter(None, [base])], role):
                stored = pending.get(chunk.key) or store.get(chunk.key)
                if stored is not None:
                    shards.append(stored)
                else:
                    report = partial(_report, progress, role, name, done, total)
                    vectors, seconds, count = _encoded(model, name, chunk, tokens, store, base, tally, report)
                    while pending:  # one pending write bounds the memory and reports a full disk early
                        pending.popitem()[1].result()
                    put = partial(_put, store) if isinstance(model, RemoteEncoder) else store.put
                    pending[chunk.key] = writer.submit(put, chunk.key, vectors, seconds, count)
                    shards.append(pending[chunk.key])
                done += len(chunk.texts)
                _report(progress, role, name, done, total, 0)
        finally:
            for write in pending.values():
                write.result()
    return [s.result() if isinstance(s, Future) else s for s in shards]


def _report(progress: Progress, role: Role, name: str, done: int, total: int, more: int) -> None:
    progress(f"encoding {role} texts with {name} (texts)", done + more, total)


def _put(store: VectorStore, key: str, vectors: Any, seconds: float, tokens: int) -> Shard:
    shard = store.put(key, vectors, seconds, tokens)
    remove_parts(store.parts_folder, key)
    return shard


def _received(
    model: RemoteEncoder,
    name: str,
    chunk: Chunk,
    store: VectorStore,
    tally: Tally | None,
    report: Callable[[int], object],
) -> tuple[Any, float, int]:
    """As `_encoded`, from a server: what has arrived before is not asked for again."""
    dim = model.dim  # type: ignore[attr-defined]  # it is a DenseModel, too
    digests = [digest(text) for text in chunk.texts]
    parts = ShardParts(store.parts_folder, chunk.key, dim)
    seconds, tokens, known = parts.seconds, parts.tokens, len(chunk.texts) - len(parts.missing(digests))

    def ask(missing: list[int]) -> Generator[Arrived, None, None]:
        return model.encode_batches([chunk.texts[place] for place in missing], role=store.role)

    def fault(vectors: object, count: int) -> str:
        return store.form.fault(vectors, count, dim)

    receive(parts, digests, ask, fault, f"{name}: encoding {store.role} texts", type(model).__module__, report)
    if tally is not None:
        tally.texts, tally.tokens = tally.texts + len(chunk.texts) - known, tally.tokens + parts.tokens - tokens
        tally.seconds += parts.seconds - seconds
    return parts.rows(digests), parts.seconds, parts.tokens


def _encoded(
    model: EncoderModel,
    name: str,
    chunk: Chunk,
    tokens: Future[list[list[int]]] | None,
    store: VectorStore,
    base: VectorStore | None,
    tally: Tally | None,
    report: Callable[[int], object],
) -> tuple[Any, float, int]:
    """Vectors of a chunk, and seconds and tokens that they took; those of its base embeddings if these were stored."""
    if isinstance(model, RemoteEncoder):
        return _received(model, name, chunk, store, tally, report)
    start = time.perf_counter()
    with plugin_code(f"{name}: tokenize() raised", type(model).__module__):
        ids = tokens.result() if tokens is not None else None
    known = base.get(chunk.key) if base is not None else None
    if base is not None and isinstance(model, HeadModel):
        vectors = _with_head(model, name, chunk, ids, base, known)
    else:
        vectors = encode_texts(model, name, chunk.texts, store.role, ids, store.form)
    seconds, count = time.perf_counter() - start, sum(map(len, ids or ()))
    if known is not None:
        return vectors, known.seconds + seconds, known.tokens
    if tally is not None:
        tally.texts, tally.tokens = tally.texts + len(chunk.texts), tally.tokens + count
        tally.seconds += seconds
    return vectors, seconds, count


def _with_head(
    model: HeadModel, name: str, chunk: Chunk, ids: list[list[int]] | None, base: VectorStore, known: Shard | None
) -> NDArray[np.float32]:
    """Vectors of a chunk from its base embeddings, which are computed, and stored if so wished, unless ``known``."""
    if known is None:
        if not model.keeps_base:
            own: NDArray[np.float32] = encode_texts(model, name, chunk.texts, base.role, ids)
            return own
        start = time.perf_counter()
        embeddings = encode_texts(model.base, name, chunk.texts, base.role, ids)
        base.put(chunk.key, embeddings, time.perf_counter() - start, sum(map(len, ids or ())))
    else:
        embeddings = Vectors.open(base, [known]).gather(np.arange(known.rows))
    with plugin_code(f"{name}: apply_head() raised", type(model).__module__):
        vectors = model.apply_head(embeddings)
    if fault := base.form.fault(vectors, len(chunk.texts), model.dim):
        raise PluginError(f"{name}: {base.role} texts (first text: {chunk.texts[0][:60]!r}): {fault}")
    return vectors


def _ahead(
    reader: ThreadPoolExecutor, model: EncoderModel, stream: Iterator[Chunk], stores: list[VectorStore], role: Role
) -> Iterator[tuple[Chunk, Future[list[list[int]]] | None]]:
    """Yield chunks with the future of their tokens, tokenising one chunk ahead of the consumer.

    What is in one of the ``stores`` needs no tokens.
    """
    previous = None
    for chunk in stream:
        tokens = None
        if isinstance(model, TokenModel) and all(store.get(chunk.key) is None for store in stores):
            tokens = reader.submit(model.tokenize, chunk.texts, role=role)
        if previous is not None:
            yield previous
        previous = (chunk, tokens)
    if previous is not None:
        yield previous


def encode_texts(
    model: EncoderModel,
    name: str,
    texts: Sequence[str],
    role: Role,
    tokens: Sequence[Sequence[int]] | None = None,
    form: Format = DENSE,
) -> Any:
    """Encode texts in batches of similar length, longest first.

    Returns:
        The vectors in input order: float32 [len(texts), dim], or what another ``form`` has.
    """
    module = type(model).__module__
    if isinstance(model, TokenModel):
        with plugin_code(f"{name}: tokenize() raised", module):
            tokens = model.tokenize(texts, role=role) if tokens is None else tokens
        if len(tokens) != len(texts):
            raise PluginError(f"{name}: tokenize() returned {len(tokens)} lists for {len(texts)} texts.")
        lengths, budget, most = [len(t) for t in tokens], int(getattr(model, "token_budget", TOKEN_BUDGET)), 1 << 30
    else:
        lengths, budget, most = [len(t) for t in texts], CHARACTER_BUDGET, TEXT_BUDGET
    parts, order = [], list[int]()
    for number, batch in enumerate(batches(lengths, budget, most)):
        where = f"{name}: batch {number + 1} of {role} texts (first text: {texts[batch[0]][:60]!r})"
        with plugin_code(f"{where}: it raised", module):
            if isinstance(model, TokenModel) and tokens is not None:
                vectors = model.encode_tokens([tokens[i] for i in batch], role=role)
            else:
                vectors = model.encode([texts[i] for i in batch], role=role)
        if fault := form.fault(vectors, len(batch), model.dim):
            raise PluginError(f"{where}: {fault}")
        parts.append(vectors)
        order += batch
    return form.joined(parts, order, model.dim)


def batches(lengths: Sequence[int], budget: int, most: int) -> Iterator[list[int]]:
    """Yield batches of indices, longest texts first, with longest x count within the budget (one text always fits)."""
    batch: list[int] = []
    for index in np.argsort(-np.asarray(lengths, np.int64), kind="stable").tolist():
        if batch and (lengths[batch[0]] * (len(batch) + 1) > budget or len(batch) == most):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
