"""Vectors computed from stored vectors, in shards with keys of their own; only missing shards are computed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

from harness.embeddings.store import Shard, VectorStore
from harness.storage.atomic import content_key
from harness.types import Similarity

Block = TypeVar("Block")


class Derived(NamedTuple):
    """Where the vectors derived from those of a collection are kept."""

    store: VectorStore
    collection: str
    """Content key of the source."""
    similarity: Similarity
    """How the derived vectors are compared."""
    progress: Callable[[int, int], None]
    """Receives done and total texts."""


def derived_shards(
    blocks: Iterable[Block],
    total: int,
    prepare: Callable[[], Callable[[Block], Any]],
    derived: Derived,
) -> list[Shard]:
    """Return the shards of a derived collection, computing those that are not stored.

    Args:
        blocks: the source vectors in blocks, one for each shard; not read if all shards are stored.
        total: number of texts.
        prepare: returns the function that computes a shard's rows from a block; called only if rows must be computed.
            Its time is part of the shard's seconds.
        derived: the collection.
    """
    store, collection = derived.store, derived.collection
    found = store.read_list(collection)
    if found is not None and sum(shard.rows for shard in found[0]) == total:
        return found[0]
    store.sweep()
    shards: list[Shard] = []
    for number, block in enumerate(blocks):
        key = content_key([collection, number])
        shard = store.get(key)
        if shard is None:
            start = time.perf_counter()
            rows = prepare()(block)
            shard = store.put(key, rows, time.perf_counter() - start, 0)
        shards.append(shard)
        derived.progress(sum(shard.rows for shard in shards), total)
    store.write_list(collection, shards, derived.similarity)
    return shards
