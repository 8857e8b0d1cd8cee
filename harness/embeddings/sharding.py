"""Texts cut into the pieces that become shards of vectors, each keyed by its content."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

SHARD_ROWS = 4096
SHARD_BYTES = 1 << 20
"""A shard closes at so many texts or bytes of text at the latest: a kill costs no more than that anywhere."""
SHARD_LEAST = 64
ENDS = 1024
"""One text in so many ends its shard, if that holds `SHARD_LEAST` by then: collections that differ in some texts cut
alike again after the next such text."""


class Chunk(NamedTuple):
    """The texts of one shard, and their content key."""

    key: str
    texts: list[str]


def chunks(texts: Iterable[str]) -> Iterator[Chunk]:
    """Cuts a stream of texts into shards; depends on the texts alone, so every run cuts alike."""
    batch: list[str] = []
    digest, size = hashlib.sha256(), 0
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
        batch.append(text)
        size += len(data)
        ends = len(batch) >= SHARD_LEAST and zlib.crc32(data) % ENDS == 0
        if ends or len(batch) == SHARD_ROWS or size >= SHARD_BYTES:
            yield Chunk(digest.hexdigest(), batch)
            batch, digest, size = [], hashlib.sha256(), 0
    if batch:
        yield Chunk(digest.hexdigest(), batch)
