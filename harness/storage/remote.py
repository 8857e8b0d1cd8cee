"""Remote cache: a second level behind the local cache ($HARNESS_HOME), shared by machines. Every byte is checked.

A local entry NAME (vectors/MODELKEY/ROLE/KEY) is two objects: the data as NAME.SHA256.npy, and NAME.json, a record with
its own checksum and the checksum and size of the data. A local folder (indexes/MODELKEY/CORPUS) is a record and the
chunks of its files as NAME/SHA256 (see `harness.storage.bundles`). Data is named by its content and put first, so
neither a kill nor two writers at once leave a record that points at anything but its data.

A remote cache that cannot be reached at the start is an error. If it fails later, the run continues with the local
cache and a back-off that doubles; what could not be pushed stays listed in $HARNESS_HOME/unpublished until a run can.
Trade-off accepted: nothing is ever deleted, so corrupt data stays beside what replaces it.
"""

from __future__ import annotations

import hashlib
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, unquote

from harness.storage.atomic import content_key, disk_errors, dump_json
from harness.storage.bundles import split_folder
from harness.storage.object_store import open_objects
from harness.storage.records import read_sealed, seal, unsealed
from harness.storage.regular_files import open_regular
from harness.storage.safe_load import parse_json
from harness.types import Progress, UserError

FORMAT, MARKER = 1, "harness-store.json"
"""The version of this layout, and the object that says it."""
RETRY_SECONDS = (0.5, 2.0, 8.0)
"""Waits before the retries of an operation, about."""
BACK_OFF_SECONDS = 60.0
"""After the first failure; doubles with each further one."""
MOST_RECORD, MOST_DATA = 64 << 20, 1 << 30
"""Bytes of an object that are read at most, whatever a record says."""
MISSING = (FileNotFoundError, NotADirectoryError)

T = TypeVar("T")


class RemoteRecord(NamedTuple):
    """What is stored under a name, with the SHA-256 and size of its data (empty and 0 if it has none)."""

    content: dict[str, Any]
    data: str = ""
    size: int = 0

    def encode(self) -> bytes:
        """JSON with a checksum."""
        return dump_json(seal(self._asdict()))

    @classmethod
    def decode(cls, data: bytes) -> RemoteRecord | None:
        """The record that `encode` made these bytes of; None if they are not one."""
        try:
            record = cls(**unsealed(parse_json(data)))
            valid = isinstance(record.content, dict) and isinstance(record.size, int) and record.size >= 0
            valid = valid and re.fullmatch(r"|[0-9a-f]{64}", record.data) is not None
            return record if valid and data == record.encode() else None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None


class RemoteCache:
    """A remote cache. Safe to use from several threads; a process that gets a copy opens it for itself.

    Args:
        url: A folder's path or a URL; see `open_objects`, which may raise UserError.
        home: The local cache. Names are paths relative to it, without a suffix.
        note: Called with a sentence for the user when something fails.
        progress: Called with what is being done.
    """

    def __init__(
        self,
        url: str,
        home: Path,
        note: Callable[[str], None] = lambda _: None,
        progress: Progress = lambda *_: None,
    ) -> None:
        self.url, self.home, self.note, self.progress = url, home, note, progress
        self._objects = open_objects(url)
        self._read_only = not self._objects.writable
        self._pending = home / "unpublished" / content_key(url)[:16]
        self._offered: set[str] = set()
        self._corrupt: set[str] = set()
        self._lock = threading.Lock()
        self._idle_until, self._failures = 0.0, 0

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteCache, (self.url, self.home)

    def connect(self) -> None:
        """Checks that the remote cache can be used, creates an empty one, and pushes what earlier runs could not.

        Raises:
            UserError: If it cannot be reached, or is of another version.
        """
        self.progress(f"connecting to the remote cache {self.url}", 0, 0)
        found = self._required("read", self._stored_format)
        if found is None and self._read_only:
            raise UserError(f"There is no remote cache at {self.url}; give the URL of one filled over s3, gs or az.")
        if found is None:
            self._required("written", partial(self._objects.write, MARKER, RemoteRecord({"format": FORMAT}).encode()))
        elif (version := found.content.get("format")) != FORMAT:
            raise UserError(
                f"The remote cache {self.url} has format {version}, this version knows {FORMAT}; update harness."
            )
        self.flush()

    def _stored_format(self) -> RemoteRecord | None:
        try:
            return RemoteRecord.decode(self._objects.read(MARKER, MOST_RECORD))
        except FileNotFoundError:
            return None

    def _required(self, done: str, action: Callable[[], T]) -> T:
        try:
            return self._retried(action)
        except Exception as error:  # each file system has its own
            raise UserError(
                f"The remote cache {self.url} cannot be {done} ({_reason(error)}); check its name, the network and "
                f"your permissions, or omit --store."
            ) from error

    def flush(self) -> None:
        """Pushes the pending uploads, and says how many are left."""
        names = sorted(unquote(path.name) for path in self._pending.glob("*"))
        for number, name in enumerate(names, 1):
            self.progress(f"pushing to {self.url} (files)", number, len(names))
            self.push(name)
        if left := len(list(self._pending.glob("*"))):
            self.note(
                f"{left} entries are kept in {self.home} and not yet in the remote cache {self.url}; the next run with "
                f"it pushes them"
            )

    def pull(self, name: str) -> RemoteRecord | None:
        """The record of an entry; None if it is missing or corrupt, or the remote cache fails."""
        return self._pull(f"{name}.json", MOST_RECORD, RemoteRecord.decode)

    def pull_data(self, name: str, digest: str, size: int) -> bytes | None:
        """The object that has this SHA-256 and size; None as for `pull`."""

        def verified(data: bytes) -> bytes | None:
            return data if len(data) == size and hashlib.sha256(data).hexdigest() == digest else None

        return self._pull(name, min(size, MOST_DATA) + 1, verified)

    def report_corrupt(self, name: str) -> None:
        """Tells the user, once, that an object is corrupt."""
        if name not in self._corrupt:
            self._corrupt.add(name)
            self.note(f"{name} in the remote cache {self.url} is corrupt; it is made again and replaced")

    def add_pending(self, name: str) -> None:
        """Records an entry as a pending upload, before it is written to the local cache: a kill does not lose it."""
        with disk_errors(self._pending):
            if not self._read_only:
                self._pending.mkdir(parents=True, exist_ok=True)
                (self._pending / quote(name, safe="")).touch()

    def push(self, name: str) -> None:
        """Uploads a local entry, in place of an older one. A failure is noted, and the upload stays pending."""
        if self._read_only or self._backing_off():
            return
        try:
            for target, data in self._local_objects(name):
                self._retried(partial(self._objects.write, target, data))
        except PermissionError as error:
            self._read_only = True
            self.note(f"the remote cache {self.url} is read-only ({_reason(error)}), so nothing is pushed to it")
        except Exception as error:
            self._back_off(error)
        else:
            self._offered.add(name)
            with suppress(OSError):
                (self._pending / quote(name, safe="")).unlink()

    def offer(self, name: str) -> None:
        """Pushes a local entry that the remote cache does not have."""
        if self._read_only or name in self._offered:
            return
        if self.pull(name) is not None:
            self._offered.add(name)
        elif not self._backing_off():
            self.add_pending(name)
            self.push(name)

    def _local_objects(self, name: str) -> Iterator[tuple[str, bytes]]:
        """The objects of a local entry, the record last; no record if the entry is missing or corrupt."""
        path = self.home / name
        try:
            if path.is_dir():
                record = RemoteRecord((yield from split_folder(path, name)))
            elif "sha256" in (content := read_sealed(self.home / f"{name}.json")):
                with open_regular(self.home / f"{name}.npy") as stream:
                    data = stream.read()
                record = RemoteRecord(content, hashlib.sha256(data).hexdigest(), len(data))
                if record.data != content["sha256"]:
                    return
                yield data_name(name, record), data
            else:  # a list, which has no data
                record = RemoteRecord(dict(content))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return
        yield f"{name}.json", record.encode()

    def _pull(self, name: str, most: int, decode: Callable[[bytes], T | None]) -> T | None:
        """An object, decoded; read twice if need be, because a transfer may be damaged where the object is not."""
        if self._backing_off():
            return None
        try:
            for _ in range(2):
                if (found := decode(self._retried(partial(self._objects.read, name, most)))) is not None:
                    return found
        except MISSING:
            return None
        except Exception as error:
            self._back_off(error)
            return None
        self.report_corrupt(name)
        return None

    def _retried(self, action: Callable[[], T]) -> T:
        """The action's value, after up to three retries; none while the remote cache keeps failing."""
        for wait in () if self._failures else RETRY_SECONDS:
            try:
                return action()
            except (*MISSING, PermissionError):
                raise
            except Exception:
                time.sleep(wait * random.uniform(0.5, 1.5))
        value = action()
        self._failures = 0
        return value

    def _backing_off(self) -> bool:
        return time.monotonic() < self._idle_until

    def _back_off(self, error: Exception) -> None:
        """Does not use the remote cache for a while, twice as long after every further failure; notes the first."""
        with self._lock:
            if self._backing_off():
                return
            self._idle_until = time.monotonic() + BACK_OFF_SECONDS * 2 ** min(self._failures, 6)
            self._failures += 1
            first = self._failures == 1
        if first:
            self.note(
                f"the remote cache {self.url} fails ({_reason(error)}); the run continues without it, what it makes is "
                f"kept in {self.home} and pushed later"
            )


def open_remote_cache(
    url: str, home: Path, note: Callable[[str], None], progress: Progress, *, offline: bool = False
) -> RemoteCache:
    """The remote cache of a command, connected. UserError if it cannot be used, or needs the network and is offline."""
    if offline and "://" in url and not url.startswith(("file:", "memory:")):
        raise UserError(f"The remote cache {url} needs the network, which is off; omit --store or --offline.")
    remote = RemoteCache(url, home, note, progress)
    remote.connect()
    return remote


def data_name(name: str, record: RemoteRecord) -> str:
    """The name of an entry's data."""
    return f"{name}.{record.data}.npy"


def _reason(error: BaseException) -> str:
    """The error in one short line."""
    cause = error.__cause__ if isinstance(error, UserError) and error.__cause__ else error
    said = " ".join((getattr(cause, "strerror", None) or str(cause)).split())
    return said[:200] or type(cause).__name__
