"""Split texts into chunks, each of which becomes a shard of vectors keyed by its content."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

SHARD_ROWS = 4096
SHARD_BYTES = 1 << 20
"""Largest number of texts and bytes per shard; a killed run loses at most one shard."""
MIN_SHARD_ROWS = 64
BOUNDARY_INTERVAL = 1024
"""On average one text in this many ends its shard (content-defined chunking), if the shard has `MIN_SHARD_ROWS`:
collections that differ in some texts have equal shards again after the next boundary."""


class Chunk(NamedTuple):
    """The texts of one shard, and their content key."""

    key: str
    texts: list[str]


def chunks(texts: Iterable[str]) -> Iterator[Chunk]:
    """Split a stream of texts into chunks; the boundaries depend only on the texts."""
    batch: list[str] = []
    digest, size = hashlib.sha256(), 0
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
        batch.append(text)
        size += len(data)
        ends = len(batch) >= MIN_SHARD_ROWS and zlib.crc32(data) % BOUNDARY_INTERVAL == 0
        if ends or len(batch) == SHARD_ROWS or size >= SHARD_BYTES:
            yield Chunk(digest.hexdigest(), batch)
            batch, digest, size = [], hashlib.sha256(), 0
    if batch:
        yield Chunk(digest.hexdigest(), batch)
