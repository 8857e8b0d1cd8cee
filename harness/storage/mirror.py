"""A folder of the local cache and its counterpart in the remote cache: pull, push and validation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, get_args

from harness.storage.atomic import write_json
from harness.storage.bundles import Owner, assemble
from harness.storage.records import read_sealed, seal
from harness.storage.remote import RemoteCache, data_name
from harness.storage.safe_load import fields
from harness.types import Similarity

TRANSFERS = 8
"""Shards transferred at a time."""

T = TypeVar("T")


class Mirror:
    """A folder below $HARNESS_HOME. Without a remote cache nothing is pulled and nothing pushed."""

    def __init__(self, remote: RemoteCache | None, folder: Path) -> None:
        self.remote, self.folder = remote, folder
        self._prefix = f"{folder.relative_to(remote.home).as_posix()}/" if remote is not None else ""

    def offer(self, name: str) -> None:
        """Pushes a local entry that the remote cache does not have."""
        if self.remote is not None:
            self.remote.offer(self._prefix + name)

    @contextmanager
    def pushing(self, name: str) -> Iterator[None]:
        """Pushes an entry that the block writes; if the process is killed, the next run does."""
        if self.remote is not None:
            self.remote.add_pending(self._prefix + name)
        yield
        if self.remote is not None:
            self.remote.push(self._prefix + name)

    def pull_shard(self, key: str, validated: Callable[[dict[str, Any], bytes], T | None]) -> tuple[T, bytes] | None:
        """A shard of the remote cache, and its data, the checksum of which is verified.

        Args:
            key: The shard's. A list may hold any key: what is not a hash is not looked for.
            validated: Makes the shard of its record and data. If it returns None or raises, the shard is corrupt.
        """
        if self.remote is None or not re.fullmatch("[0-9a-f]{64}", key):
            return None
        record = self.remote.pull(name := self._prefix + key)
        data = self.remote.pull_data(data_name(name, record), record.data, record.size) if record else None
        if record is None or data is None:
            return None
        try:
            stated = fields(record.content, seconds=float, tokens=int)
            found = validated(stated, data) if min(stated["seconds"], stated["tokens"]) >= 0 else None
        except Exception:
            found = None
        if found is None:
            self.remote.report_corrupt(name)
            return None
        return found, data

    def pull_files(self, name: str, directory: Path, owner: Owner) -> float | None:
        """Writes the files of a folder of the remote cache, which must be ``owner``'s, into an empty directory.

        Returns:
            The seconds that making them took; None if the folder is missing or corrupt. The directory may hold some
            of the files then.
        """
        remote, source = self.remote, self._prefix + name
        if remote is None or (record := remote.pull(source)) is None or "of" not in record.content:
            return None  # without an owner it is of an earlier version: made again, and replaced
        remote.progress(f"pulling an index from {remote.url}", 0, 0)
        try:
            return assemble(
                record.content, lambda sha, size: remote.pull_data(f"{source}/{sha}", sha, size), directory, owner
            )
        except ValueError:
            remote.report_corrupt(source)
            return None

    def shard_list(self, name: str, owner: Owner) -> tuple[list[str], Similarity] | None:
        """The shards' keys and the similarity in a list that is ``owner``'s, from the local cache or else pulled."""
        path = self.folder / f"{name}.json"
        try:
            found = _shard_list(read_sealed(path), owner)
        except (OSError, ValueError):
            found = None
        if found is not None:
            self.offer(name)
        elif self.remote is not None and (record := self.remote.pull(self._prefix + name)) is not None:
            found = _shard_list(record.content, owner)
            if found is not None:
                write_json(path, seal(record.content))
        return found

    def map(self, get: Callable[[str], T], keys: Sequence[str]) -> Iterator[T]:
        """``get`` of every key in order; several at a time if they may have to be transferred."""
        if self.remote is None:
            yield from map(get, keys)
            return
        with ThreadPoolExecutor(TRANSFERS, "transfer-vectors") as pool:
            for number, found in enumerate(pool.map(get, keys), 1):
                self.remote.progress(f"synchronising vectors with {self.remote.url} (shards)", number, len(keys))
                yield found


def _shard_list(content: Any, owner: Owner) -> tuple[list[str], Similarity] | None:
    """The keys in a list, and the similarity; None if it is not such a list, or another owner's."""
    try:
        keys = [key for key, _ in content["shards"]]
        similarity: Similarity = content["similarity"]
        valid = content["of"] == owner and similarity in get_args(Similarity)
    except (ValueError, KeyError, TypeError):
        return None
    return (keys, similarity) if valid and all(isinstance(key, str) for key in keys) else None
