"""Vectors on disk: shards keyed by the content of their texts and verified on reading.

$HARNESS_HOME/vectors/MODELKEY/ROLE/ holds KEY.npy (the arrays of the model's `Format`, one after another) and KEY.json
per shard (the JSON is written last, so a shard without it does not exist), and list-COLLECTION.json, the shards of one
collection in order. The key of a shard is the hash of its texts, so collections with common texts share shards and no
shard is ever stale. The boundaries of shards depend on the content: an inserted or deleted document changes one shard,
not all that follow (FEVER and Climate-FEVER share most of 5.4 million passages).
"""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.embeddings.formats import DENSE, Format
from harness.storage.atomic import write_file, write_json
from harness.storage.mirror import Mirror
from harness.storage.records import read_sealed, seal
from harness.storage.regular_files import open_regular
from harness.storage.remote import RemoteCache
from harness.storage.safe_load import fields, map_array, map_arrays, parse_arrays
from harness.storage.temporary_files import sweep
from harness.types import Role, Similarity, Storage

BLOCK_ROWS = 16_384
"""Rows per block: large enough for efficient matrix products, small enough for two blocks in memory."""
TORCH_SERIAL = 32_767
"""Largest array that torch converts in the calling thread; more threads would be slower on a busy machine."""


@dataclass(frozen=True, slots=True)
class Shard:
    """The record of a shard. ``seconds`` and ``tokens`` are the costs of encoding it."""

    key: str
    rows: int
    dim: int
    sha256: str
    seconds: float
    tokens: int
    owner: str = ""
    """MODELKEY/ROLE of its store; empty in records of earlier versions."""


def _shard(path: Path) -> Shard:
    """Read a shard record. Raises OSError, ValueError or TypeError."""
    shape = {"key": str, "rows": int, "dim": int, "sha256": str, "seconds": float, "tokens": int}
    return Shard(**fields(read_sealed(path), **shape))


class VectorStore:
    """The shards of one model and role. A float16 shard is converted from the float32 one if that is stored."""

    def __init__(
        self,
        home: Path,
        model_key: str,
        role: Role,
        storage: Storage = "float32",
        shared: RemoteCache | None = None,
        form: Format = DENSE,
    ) -> None:
        self.folder = home / "vectors" / model_key[:32] / (role if storage == "float32" else f"{role}-{storage}")
        self.home, self.role = home, role
        self.storage, self.form = storage, form
        self.shared = shared
        self._owner = f"{model_key}/{role}"
        self._wider = None if storage == "float32" else VectorStore(home, model_key, role, shared=shared, form=form)
        self._verified: dict[str, Shard] = {}

    @property
    def parts_folder(self) -> Path:
        """The folder for the parts of incomplete shards, which are float32."""
        return self.folder if self._wider is None else self._wider.folder

    def get(self, key: str) -> Shard | None:
        """Return the record of a shard; None if the shard is missing or corrupt.

        One that is not here is pulled from the remote cache if it has it.
        """
        found = self._stored(key)
        if found is not None:
            self._mirror.offer(key)
        found = found or self._pulled(key)
        if found is None and self._wider is not None and (wide := self._wider.get(key)) is not None:
            found = self.put(key, self._wider.read(wide), wide.seconds, wide.tokens)
        return found

    def _stored(self, key: str) -> Shard | None:
        if key not in self._verified:
            try:
                shard = _shard(self.folder / f"{key}.json")
                with open_regular(self.folder / f"{key}.npy") as stream:
                    data = stream.read()
            except (OSError, ValueError, TypeError):
                return None
            if not self._valid(key, shard, data):
                return None
            self._verified[key] = shard
        return self._verified[key]

    def _valid(self, key: str, shard: Shard, data: bytes) -> bool:
        """Whether the data matches the record of the shard, and the record belongs to this store."""
        if hashlib.sha256(data).hexdigest() != shard.sha256 or shard.owner not in ("", self._owner):
            return False
        try:
            rows = self._parsed(shard, data)
        except (OSError, ValueError, TypeError):
            return False
        return (key, *rows.shape) == (shard.key, shard.rows, shard.dim)

    def _parsed(self, shard: Shard, data: bytes) -> Any:
        return self.form.rows(parse_arrays(data, self.form.count), shard.dim, self.storage)

    def read(self, shard: Shard) -> Any:
        """The vectors of a shard, in memory."""
        with open_regular(self.folder / f"{shard.key}.npy") as stream:
            return self._parsed(shard, stream.read())

    def map(self, shard: Shard) -> Any:
        """The vectors of a shard, of which the last array is memory-mapped."""
        arrays = map_arrays(self.folder / f"{shard.key}.npy", self.form.count)
        return self.form.rows(arrays, shard.dim, self.storage)

    def _pulled(self, key: str) -> Shard | None:
        """The shard of the remote cache, validated and stored in the local cache."""

        def validated(content: dict[str, Any], data: bytes) -> Shard | None:
            shard = Shard(**content)
            valid = self._valid(key, shard, data) and np.isfinite(self.form.values(self._parsed(shard, data))).all()
            return shard if valid else None

        found = self._mirror.pull_shard(key, validated)
        return self._keep(*found) if found is not None else None

    @property
    def _mirror(self) -> Mirror:
        return Mirror(self.shared, self.folder)

    def _keep(self, shard: Shard, data: bytes) -> Shard:
        write_file(self.folder / f"{shard.key}.npy", lambda stream: stream.write(data))
        write_json(self.folder / f"{shard.key}.json", seal(asdict(shard)))
        self._verified[shard.key] = shard
        return shard

    def records(self) -> Iterator[Shard]:
        """Yield the records of all stored shards without reading the vectors."""
        for path in sorted(self.folder.glob("[0-9a-f]*.json")):
            with suppress(OSError, ValueError, TypeError):
                shard = _shard(path)
                if shard.owner in ("", self._owner):
                    yield shard

    def sweep(self) -> None:
        """Remove temporary files left by crashed processes."""
        sweep(self.folder)

    def put(self, key: str, vectors: Any, seconds: float, tokens: int) -> Shard:
        """Write a shard: its arrays, then its record. UserError if a value is too large for float16."""
        buffer = io.BytesIO()
        for array in self.form.arrays(vectors, self.storage):
            np.save(buffer, array, allow_pickle=False)
        data = buffer.getvalue()
        digest, spent = hashlib.sha256(data).hexdigest(), round(seconds, 6)
        rows, dim = vectors.shape
        shard = Shard(key, rows, dim, digest, spent, tokens, self._owner)
        with self._mirror.pushing(key):
            return self._keep(shard, data)

    def write_list(self, collection: str, shards: Sequence[Shard], similarity: Similarity) -> None:
        """Store the list of shards of a collection, so that it can be opened without its texts or the model."""
        listed = {
            "of": self._of(collection),
            "similarity": similarity,
            "shards": [[s.key, s.rows] for s in shards],
        }
        name = f"list-{collection}"
        with self._mirror.pushing(name):
            write_json(self.folder / f"{name}.json", seal(listed))

    def lists(self, collection: str) -> bool:
        """Whether it is recorded which shards make up a collection, be they intact or not."""
        return self._mirror.shard_list(f"list-{collection}", self._of(collection)) is not None

    def _of(self, collection: str) -> list[str]:
        """The owner of a list."""
        return [self._owner, collection]

    def read_list(self, collection: str) -> tuple[list[Shard], Similarity] | None:
        """The shards of a collection and how they are compared; None unless every shard is there and intact."""
        listed = self._mirror.shard_list(f"list-{collection}", self._of(collection))
        if listed is None:
            return None
        keys, similarity = listed
        shards = list(self._mirror.map(self.get, keys))
        whole = [s for s in shards if s is not None]
        return (whole, similarity) if len(whole) == len(shards) else None


class Vectors:
    """The vectors of a collection: float32 [n, dim] in shards on disk, optionally normalised to unit length."""

    def __init__(
        self,
        array: Callable[[int], NDArray[np.floating[Any]]],
        rows: Sequence[int],
        dim: int,
        *,
        normalise: bool = False,
    ) -> None:
        """``array(i)`` returns the vectors of shard i (float32 or float16); ``rows[i]`` is their number."""
        self._array = array
        self.dim = dim
        self.normalise = normalise
        self.starts = np.cumsum([0, *rows])

    @classmethod
    def open(cls, store: VectorStore, shards: Sequence[Shard], *, normalise: bool = False, dim: int = 0) -> Vectors:
        """Open the vectors of shards, or their leading ``dim`` dimensions; a file is mapped only while it is read."""
        kept = min(dim or shards[0].dim, shards[0].dim) if shards else 0

        def array(shard: int) -> NDArray[np.floating[Any]]:
            return map_array(store.folder / f"{shards[shard].key}.npy", "c")[:, :kept]

        return cls(array, [s.rows for s in shards], kept, normalise=normalise)

    @classmethod
    def of(cls, *arrays: NDArray[np.floating[Any]], normalise: bool = False) -> Vectors:
        """Wrap vectors that are in memory (or mapped), in one or several arrays."""
        return cls(arrays.__getitem__, [len(a) for a in arrays], arrays[0].shape[1], normalise=normalise)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def part(self, start: int, stop: int) -> Vectors:
        """The vectors of rows ``start`` to ``stop`` (not empty)."""
        first = int(np.searchsorted(self.starts, start, side="right")) - 1
        edges = np.clip(self.starts[first : int(np.searchsorted(self.starts, stop)) + 1], start, stop)

        def array(shard: int) -> NDArray[np.floating[Any]]:
            before = int(self.starts[first + shard])
            return self._array(first + shard)[edges[shard] - before : edges[shard + 1] - before]

        return Vectors(array, np.diff(edges).tolist(), self.dim, normalise=self.normalise)

    def leading(self, dim: int) -> Vectors:
        """The leading ``dim`` dimensions; of unit length again if the vectors are."""

        def array(shard: int) -> NDArray[np.floating[Any]]:
            return self._array(shard)[:, :dim]

        return Vectors(array, np.diff(self.starts).tolist(), min(dim, self.dim), normalise=self.normalise)

    def _scale(self, block: NDArray[np.float32]) -> None:
        """Normalise the rows in place if ``normalise`` is set."""
        for start in range(0, len(block) if self.normalise else 0, 1024):  # small pieces: their copies are float64
            piece = block[start : start + 1024]
            norms = np.sqrt(np.square(piece, dtype=np.float64).sum(axis=1, keepdims=True))
            piece[:] = piece / np.where(norms > 0, norms, 1.0)  # a zero vector stays zero

    def blocks(self, rows: int = BLOCK_ROWS) -> Iterator[NDArray[np.float32]]:
        """Yield float32 blocks [<= rows, dim] in order; the next one is read in the background.

        A block is valid until the next one is requested, as its memory is reused. At most two blocks are in memory.
        """
        n = len(self)
        buffers = [np.empty((min(rows, n), self.dim), np.float32) for _ in range(1 if n <= rows else 2)]
        spans = [(start, min(start + rows, n)) for start in range(0, n, rows)]
        with ThreadPoolExecutor(1, "read-vectors") as reader:
            ahead = [reader.submit(self._fill, buffers[0], *span) for span in spans[:1]]
            for number in range(len(spans)):
                block = ahead.pop().result()
                if number + 1 < len(spans):
                    ahead.append(reader.submit(self._fill, buffers[(number + 1) % 2], *spans[number + 1]))
                yield block

    def _fill(self, buffer: NDArray[np.float32], start: int, stop: int) -> NDArray[np.float32]:
        shard = int(np.searchsorted(self.starts, start, side="right")) - 1
        at = start
        while at < stop:
            first, end = int(self.starts[shard]), min(int(self.starts[shard + 1]), stop)
            if end > at:
                _widen(self._array(shard)[at - first : end - first], buffer[at - start : end - start])
            at, shard = end, shard + 1
        block = buffer[: stop - start]
        self._scale(block)
        return block

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors of ``rows``, float32 [len(rows), dim]."""
        out = np.empty((len(rows), self.dim), np.float32)
        for places, vectors in self.pieces(rows):
            out[places] = vectors
        return out

    def pieces(
        self, rows: NDArray[np.int64], most: int = 1 << 12
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Yield the requested rows, reading each shard once: positions in ``rows`` and float32 [<= most, dim]."""
        order = np.argsort(rows, kind="stable")
        rising = rows[order]
        edges = np.searchsorted(rising, self.starts)
        for shard in np.flatnonzero(np.diff(edges)).tolist():
            array = self._array(shard)
            for start in range(int(edges[shard]), int(edges[shard + 1]), most):
                stop = min(start + most, int(edges[shard + 1]))
                block = np.empty((stop - start, self.dim), np.float32)
                _widen(array[rising[start:stop] - self.starts[shard]], block)
                self._scale(block)
                yield order[start:stop], block


def _widen(values: NDArray[np.floating[Any]], out: NDArray[np.float32]) -> None:
    """Write values to a float32 array. If torch is loaded, it converts float16 ten times as fast as numpy."""
    torch: Any = sys.modules.get("torch")
    if torch is None or values.dtype != np.float16 or not values.flags.writeable:  # torch warns about read-only arrays
        out[:] = values
    else:
        step = max(1, TORCH_SERIAL // max(out.shape[1], 1))
        for start in range(0, len(out), step):
            torch.from_numpy(out[start : start + step]).copy_(
                torch.from_numpy(np.asarray(values[start : start + step]))
            )
