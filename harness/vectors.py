"""Vectors on disk: shards keyed by the content of their texts, whole or absent, checked when read.

$HARNESS_HOME/vectors/MODELKEY/ROLE/ holds KEY.npy and KEY.json per shard (the JSON is written last, so a shard without
one does not exist), and list-COLLECTION.json, the shards of one collection in order. Because a shard's key is the hash
of its texts, two collections that share a stretch of texts share the shard, and nothing is ever stale.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from harness.atomic import sweep, write_file, write_json
from harness.spec import Role, Similarity

SHARD_ROWS = 4096
SHARD_BYTES = 1 << 20
"""A shard closes at so many texts or bytes of text: about equal work each, so a kill costs the same anywhere."""


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
        if len(batch) == SHARD_ROWS or size >= SHARD_BYTES:
            yield Chunk(digest.hexdigest(), batch)
            batch, digest, size = [], hashlib.sha256(), 0
    if batch:
        yield Chunk(digest.hexdigest(), batch)


@dataclass(frozen=True, slots=True)
class Shard:
    """What is recorded of one shard. ``seconds`` and ``tokens`` are what it cost whoever computed it."""

    key: str
    rows: int
    dim: int
    sha256: str
    seconds: float
    tokens: int


class VectorStore:
    """The shards of one model and role."""

    def __init__(self, home: Path, model_key: str, role: Role) -> None:
        self.folder = home / "vectors" / model_key[:32] / role
        self._intact: dict[str, Shard] = {}

    def get(self, key: str) -> Shard | None:
        """The shard's record if its file is whole and matches its checksum; a damaged shard is as good as absent."""
        if key not in self._intact:
            try:
                shard = Shard(**json.loads((self.folder / f"{key}.json").read_bytes()))
                data = (self.folder / f"{key}.npy").read_bytes()
                if hashlib.sha256(data).hexdigest() != shard.sha256:
                    return None
                if (key, *np.load(io.BytesIO(data), allow_pickle=False).shape) != (shard.key, shard.rows, shard.dim):
                    return None
            except (OSError, ValueError, TypeError):
                return None
            self._intact[key] = shard
        return self._intact[key]

    def records(self) -> Iterator[Shard]:
        """The record of every shard there is, its vectors neither read nor checked."""
        for path in sorted(self.folder.glob("[0-9a-f]*.json")):
            with suppress(OSError, ValueError, TypeError):
                yield Shard(**json.loads(path.read_bytes()))

    def sweep(self) -> None:
        """Drops what killed processes left half-written."""
        sweep(self.folder)

    def put(self, key: str, vectors: NDArray[np.float32], seconds: float, tokens: int) -> Shard:
        """Writes one shard: the array, then its record."""
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(vectors, np.float32), allow_pickle=False)
        data = buffer.getvalue()
        shard = Shard(key, len(vectors), vectors.shape[1], hashlib.sha256(data).hexdigest(), round(seconds, 6), tokens)
        write_file(self.folder / f"{key}.npy", lambda stream: stream.write(data))
        write_json(self.folder / f"{key}.json", asdict(shard))
        self._intact[key] = shard
        return shard

    def write_list(self, collection: str, shards: Sequence[Shard], similarity: Similarity) -> None:
        """Records which shards make up a collection, so that neither its texts nor the model are needed to know."""
        listed = {"similarity": similarity, "shards": [[s.key, s.rows] for s in shards]}
        write_json(self.folder / f"list-{collection}.json", listed)

    def read_list(self, collection: str) -> tuple[list[Shard], Similarity] | None:
        """The shards of a collection and how they are compared; None unless every shard is there and intact."""
        try:
            listed = json.loads((self.folder / f"list-{collection}.json").read_bytes())
            shards = [self.get(key) for key, _ in listed["shards"]]
            similarity: Similarity = listed["similarity"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        whole = [s for s in shards if s is not None]
        return (whole, similarity) if len(whole) == len(shards) and similarity in get_args(Similarity) else None


class Vectors:
    """The vectors of one collection: float32 [n, dim] spread over shards, memory-mapped, unit length if asked for."""

    def __init__(
        self, array: Callable[[int], NDArray[np.float32]], rows: Sequence[int], dim: int, *, normalise: bool = False
    ) -> None:
        """``array(i)`` gives the i-th shard's vectors, ``rows[i]`` their number."""
        # Every mapped file holds a descriptor, of which a process has about a thousand.
        self._array = lru_cache(maxsize=256)(array)
        self.dim = dim
        self.normalise = normalise
        self.starts = np.cumsum([0, *rows])

    @classmethod
    def open(cls, store: VectorStore, shards: Sequence[Shard], *, normalise: bool = False) -> Vectors:
        """Vectors of these shards; their files are mapped when they are asked for."""

        def array(shard: int) -> NDArray[np.float32]:
            mapped: NDArray[np.float32] = np.load(
                store.folder / f"{shards[shard].key}.npy", mmap_mode="r", allow_pickle=False
            )
            return mapped

        return cls(array, [s.rows for s in shards], shards[0].dim if shards else 0, normalise=normalise)

    @classmethod
    def of(cls, *arrays: NDArray[np.float32], normalise: bool = False) -> Vectors:
        """Vectors that are in memory (or mapped) already, as one array or several."""
        return cls(arrays.__getitem__, [len(a) for a in arrays], arrays[0].shape[1], normalise=normalise)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def _scaled(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        if not self.normalise:
            return block
        norms = np.sqrt(np.square(block, dtype=np.float64).sum(axis=1, keepdims=True))
        return (block / np.where(norms > 0, norms, 1.0)).astype(np.float32)  # a zero vector stays zero

    def blocks(self, rows: int = 65_536) -> Iterator[NDArray[np.float32]]:
        """float32 [<= rows, dim] blocks in order, each of whole shards where they fit."""
        first, shards = 0, len(self.starts) - 1
        while first < shards:
            start = self.starts[first]
            last = max(first + 1, int(np.searchsorted(self.starts, start + rows, side="right")) - 1)
            block = np.empty((self.starts[last] - start, self.dim), np.float32)
            for shard in range(first, last):
                block[self.starts[shard] - start : self.starts[shard + 1] - start] = self._array(shard)
            yield self._scaled(block)
            first = last

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32 [len(rows), dim], in the order asked for."""
        out = np.empty((len(rows), self.dim), np.float32)
        shard_of = np.searchsorted(self.starts, rows, side="right") - 1
        for shard in np.unique(shard_of):
            here = shard_of == shard
            out[here] = self._array(int(shard))[rows[here] - self.starts[shard]]
        return self._scaled(out)
