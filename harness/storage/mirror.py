"""The shared side of one folder at home: what is taken over, published and refused. Does nothing without a store."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_args

from harness.storage.atomic import write_json
from harness.storage.bundles import Owner, put_together
from harness.storage.records import read_sealed, seal
from harness.storage.remote import Shared
from harness.types import Similarity

TRANSFERS = 8
"""Shards brought or published at a time."""

T = TypeVar("T")


class Replica:
    """A folder below $HARNESS_HOME, and the same below a shared store if there is one."""

    def __init__(self, shared: Shared | None, folder: Path) -> None:
        self.shared, self.folder = shared, folder

    def _name(self, name: str, shared: Shared) -> str:
        return (self.folder / name).relative_to(shared.home).as_posix()

    def offer(self, name: str) -> None:
        """Publishes what is kept here under a name unless that is published already."""
        if self.shared is not None:
            self.shared.offer(self._name(name, self.shared))

    @contextmanager
    def publishing(self, name: str) -> Iterator[None]:
        """Around keeping something here: publishes it afterwards, or in a later run after a kill in between."""
        if self.shared is not None:
            self.shared.mark(self._name(name, self.shared))
        yield
        if self.shared is not None:
            self.shared.publish(self._name(name, self.shared))

    def shard(self, key: str, examined: Callable[[dict[str, Any], bytes], T | None]) -> tuple[T, bytes] | None:
        """A published shard as ``examined`` makes it of its record and data, and the data, its checksum verified.

        What ``examined`` refuses (None, or anything raised: the bytes may be anybody's) is reported as damaged.
        """
        if self.shared is None or not re.fullmatch("[0-9a-f]{64}", key):  # a list from there may hold any key
            return None
        name = self._name(key, self.shared)
        record = self.shared.fetch(name)
        data = self.shared.fetch_data(name, record) if record is not None else None
        if record is None or data is None:
            return None
        try:
            seconds, tokens = record.content["seconds"], record.content["tokens"]
            plausible = isinstance(seconds, int | float) and 0 <= seconds < math.inf and isinstance(tokens, int)
            found = examined(record.content, data) if plausible and tokens >= 0 else None
        except Exception:
            found = None
        if found is None:
            self.shared.damaged(name)
        return None if found is None else (found, data)

    def files(self, name: str, directory: Path, of: Owner) -> float | None:
        """Writes a published folder's files into an empty one; returns the seconds that making them took.

        ``of`` is what the record must say that they belong to. None where there are none, or none that are sound; some
        may have been written then.
        """
        if self.shared is None or (record := self.shared.fetch(at := self._name(name, self.shared))) is None:
            return None
        if "of" not in record.content:  # an earlier version published it: it is made again, and replaced
            return None
        self.shared.progress(f"bringing an index from {self.shared.url}", 0, 0)
        try:
            return put_together(record.content, partial(self.shared.fetch_part, at), directory, of)
        except ValueError:
            self.shared.damaged(at)
            return None

    def listed(self, name: str, of: Owner) -> tuple[list[str], Similarity] | None:
        """The shards' keys and the similarity in a list that is kept here, or fetched from the store.

        ``of`` is what the list must say that it belongs to."""
        path = self.folder / f"{name}.json"
        try:
            found = _listed(read_sealed(path), of)
        except (OSError, ValueError):
            found = None
        if found is not None:
            self.offer(name)
        elif self.shared is not None and (record := self.shared.fetch(self._name(name, self.shared))) is not None:
            found = _listed(record.content, of)
            if found is not None:
                write_json(path, seal(record.content))
        return found

    def each(self, get: Callable[[str], T], keys: Sequence[str]) -> Iterator[T]:
        """``get`` of every key in order; several at a time where they may have to be brought or published."""
        if self.shared is None:
            yield from map(get, keys)
            return
        shared, moved = self.shared, (self.shared.received, self.shared.published)
        with ThreadPoolExecutor(TRANSFERS, "transfer-vectors") as pool:
            for number, found in enumerate(pool.map(get, keys), 1):
                if moved != (shared.received, shared.published):
                    shared.progress(f"sharing vectors with {shared.url}", number, len(keys))
                yield found


def _listed(content: Any, of: Owner) -> tuple[list[str], Similarity] | None:
    """The keys in a list, and the similarity; None where it is not such a list, or not the one asked for."""
    try:
        if content["of"] != of:
            return None
        keys = [key for key, _ in content["shards"]]
        similarity: Similarity = content["similarity"]
        sound = similarity in get_args(Similarity) and all(isinstance(key, str) for key in keys)
    except (ValueError, KeyError, TypeError):
        return None
    return (keys, similarity) if sound else None
