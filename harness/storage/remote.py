"""A store that many machines share, behind the one at home: the same names, every byte checked, no half object ever.

Under a name of the home's (vectors/MODELKEY/ROLE/KEY) the store holds NAME.json, a record with its own checksum and the
checksum and size of its data, and the data as NAME.SHA256.npy. The data is put first and the record last, and data is
named by its content, so neither a kill nor two writers at once leave a record that points at anything but its data. Of
a folder of the home's (indexes/MODELKEY/CORPUS) it holds the files in parts, as NAME/SHA256 (see
`harness.storage.bundles`).

A store that cannot be reached at the start is the user's to mend. One that fails later is left alone for `REST`
seconds, then for twice as long and so on: work goes on at home, and what could not be published is remembered there
($HARNESS_HOME/unpublished) until a run can. Trade-off accepted: nothing is ever deleted there, so damaged data stays
beside what replaces it.
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
from harness.storage.bundles import cut
from harness.storage.object_store import open_objects
from harness.storage.records import read_sealed, seal, unsealed
from harness.storage.regular_files import open_regular
from harness.storage.safe_load import parse_json
from harness.types import Progress, UserError

FORMAT = 1
MARKER = "harness-store"
"""The record that says that this is a store, and of which format."""
WAITS = (0.5, 2.0, 8.0)
"""Seconds before an operation that failed is tried again, about."""
REST = 60.0
MOST_RECORD, MOST_DATA = 64 << 20, 1 << 30
"""Bytes of an object that are read at most, whatever a record says."""

T = TypeVar("T")


class Record(NamedTuple):
    """What is published under a name."""

    content: dict[str, Any]
    data: str
    """Hex SHA-256 of what belongs to it; empty where nothing does."""
    size: int


class Shared:
    """A shared store. Safe to use from several threads; a process that gets a copy opens the store for itself."""

    def __init__(
        self,
        url: str,
        home: Path,
        note: Callable[[str], None] = lambda _: None,
        progress: Progress = lambda *_: None,
    ) -> None:
        """UserError where the URL is none that can be a store; see `open_objects`."""
        self.url, self.home, self.note, self.progress = url, home, note, progress
        self.received = self.published = 0
        self._objects = open_objects(url)
        self._marks = home / "unpublished" / content_key(url)[:16]
        self._known: dict[str, set[str]] = {}
        self._lock, self._listing = threading.Lock(), threading.Lock()
        self._resting_until, self._failures = 0.0, 0
        self._told: set[str] = set()
        self._read_only = not self._objects.writable

    def __reduce__(self) -> tuple[Any, ...]:
        return Shared, (self.url, self.home)

    def connect(self) -> None:
        """Makes sure of the store before any work starts, and publishes what earlier runs could not.

        UserError where it cannot be reached or read, or is of another version.
        """
        self.progress(f"asking the store {self.url}", 0, 0)
        try:
            found = _opened(self._tried(lambda: self._objects.read(f"{MARKER}.json", MOST_RECORD)))
            stated = found.content.get("format") if found else None
        except FileNotFoundError:
            found = stated = None
        except Exception as error:  # whatever a file system raises, here and below
            raise UserError(f"The store {self.url} cannot be read ({_reason(error)}); {ADVICE}") from error
        if found is not None and stated != FORMAT:
            raise UserError(f"The store {self.url} has format {stated}, this version knows {FORMAT}; update harness.")
        if found is None and self._read_only:
            raise UserError(f"There is no store at {self.url}; give the URL of one that was filled over s3, gs or az.")
        if found is None:
            try:
                self._tried(lambda: self._objects.write(f"{MARKER}.json", _sealed(Record({"format": FORMAT}, "", 0))))
            except Exception as error:
                raise UserError(f"The store {self.url} cannot be written ({_reason(error)}); {ADVICE}") from error
        self.settle()

    def settle(self) -> None:
        """Publishes what could not be published before, and says what is still left."""
        names = sorted(unquote(mark.name) for mark in self._marks.glob("*"))
        for number, name in enumerate(names, 1):
            self.progress(f"publishing to {self.url}", number, len(names))
            self.publish(name)
        if left := len(list(self._marks.glob("*"))):
            self.note(
                f"{left} objects are kept in {self.home} and not yet in the store {self.url}; the next run with it "
                f"publishes them"
            )

    def fetch(self, name: str) -> Record | None:
        """What is published under a name; None where nothing is, or nothing whole."""
        return self._checked(f"{name}.json", MOST_RECORD, _opened)

    def fetch_data(self, name: str, record: Record) -> bytes | None:
        """The data of a record, its checksum verified; None where it is damaged or absent."""
        return self._data(_data_name(name, record.data), record.data, record.size)

    def fetch_part(self, name: str, digest: str, size: int) -> bytes | None:
        """A part of a published folder's files; see `fetch_data`."""
        return self._data(f"{name}/{digest}", digest, size)

    def _data(self, name: str, digest: str, size: int) -> bytes | None:
        def whole(data: bytes) -> bytes | None:
            return data if len(data) == size and hashlib.sha256(data).hexdigest() == digest else None

        found = self._checked(name, min(size, MOST_DATA) + 1, whole)
        with self._lock:
            self.received += found is not None
        return found

    def damaged(self, name: str) -> None:
        """Says, once, that an object is not what it should be."""
        if name in self._told:
            return
        self._told.add(name)
        self.note(f"{name} in the store {self.url} is damaged; what it held is made again and replaces it")

    def mark(self, name: str) -> None:
        """Remembers, beyond a kill, that what is about to be kept at home is to be published."""
        with disk_errors(self._marks):
            if not self._read_only:
                self._marks.mkdir(parents=True, exist_ok=True)
                (self._marks / quote(name, safe="")).touch()

    def publish(self, name: str) -> None:
        """Publishes what the home holds under a name, in place of what is there; a failure is noted, no more."""
        if self._read_only or self._resting():
            return
        try:
            for place, data in self._at_home(name):
                self._tried(partial(self._objects.write, place, data))
                with self._lock:
                    self.published += place == f"{name}.json"
        except PermissionError as error:
            self._read_only = True
            self.note(f"the store {self.url} may only be read ({_reason(error)}), so nothing is published there")
        except Exception as error:
            self._rest(error)
        else:
            with suppress(OSError):
                (self._marks / quote(name, safe="")).unlink()

    def offer(self, name: str) -> None:
        """Publishes what the home holds under a name unless that is published already."""
        folder, _, last = name.rpartition("/")
        if self._read_only or self._resting():
            return
        try:
            with self._listing:
                if folder not in self._known:
                    self._known[folder] = self._tried(lambda: self._objects.names(folder))
        except Exception as error:
            return self._rest(error)
        with self._lock:
            absent = f"{last}.json" not in self._known[folder]
            self._known[folder].add(f"{last}.json")
        if absent:
            self.mark(name)
            self.publish(name)

    def _at_home(self, name: str) -> Iterator[tuple[str, bytes]]:
        """The objects that make up what the home holds under a name, the record last; it only if all is whole."""
        try:
            if (self.home / name).is_dir():
                record = Record((yield from cut(self.home / name, name)), "", 0)
            elif "sha256" in (content := read_sealed(self.home / f"{name}.json")):
                with open_regular(self.home / f"{name}.npy") as stream:
                    data = stream.read()
                record = Record(content, hashlib.sha256(data).hexdigest(), len(data))
                if record.data != content["sha256"]:
                    return
                yield _data_name(name, record.data), data
            else:  # a list: its record is all there is
                record = Record(dict(content), "", 0)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return
        yield f"{name}.json", _sealed(record)

    def _checked(self, name: str, most: int, check: Callable[[bytes], T | None]) -> T | None:
        """An object that passes its check; read twice, because a transfer may be damaged where the object is not."""
        if self._resting():
            return None
        try:
            for _ in range(2):
                found = check(self._tried(lambda: self._objects.read(name, most)))
                if found is not None:
                    return found
        except (FileNotFoundError, NotADirectoryError):
            return None
        except Exception as error:
            self._rest(error)
            return None
        self.damaged(name)
        return None

    def _tried(self, action: Callable[[], T]) -> T:
        """The action's outcome, after some patience with what may pass; none while the store has failed of late."""
        for wait in () if self._failures else WAITS:
            try:
                return action()
            except (FileNotFoundError, PermissionError, NotADirectoryError):
                raise
            except Exception:
                time.sleep(wait * random.uniform(0.5, 1.5))
        found = action()
        self._failures = 0
        return found

    def _resting(self) -> bool:
        return time.monotonic() < self._resting_until

    def _rest(self, error: Exception) -> None:
        """Leaves the store alone for a while, twice as long after every further failure; told at the first."""
        with self._lock:
            if self._resting():
                return
            self._resting_until = time.monotonic() + REST * 2 ** min(self._failures, 6)
            self._failures += 1
            first = self._failures == 1
        if first:
            self.note(
                f"the store {self.url} fails ({_reason(error)}); work goes on without it, what is made is kept in "
                f"{self.home} and published later"
            )


ADVICE = "check its name, the network and your rights, or leave --store away."


def open_shared(
    url: str, home: Path, note: Callable[[str], None], progress: Progress, *, offline: bool = False
) -> Shared:
    """The store of a command line, ready for work. UserError where it is none, or needs a network that may not be."""
    if offline and "://" in url and not url.startswith(("file:", "memory:")):
        raise UserError(f"The store {url} needs the network, which is switched off; leave --store or --offline away.")
    shared = Shared(url, home, note, progress)
    shared.connect()
    return shared


def _data_name(name: str, digest: str) -> str:
    return f"{name}.{digest}.npy"


def _sealed(record: Record) -> bytes:
    return dump_json(seal(record._asdict()))


def _opened(data: bytes) -> Record | None:
    """A record, if these bytes are one to the last."""
    try:
        record = Record(**unsealed(parse_json(data)))
        sound = isinstance(record.content, dict) and isinstance(record.size, int) and record.size >= 0
        sound = sound and re.fullmatch(r"|[0-9a-f]{64}", record.data) is not None
        return record if sound and data == _sealed(record) else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _reason(error: BaseException) -> str:
    """What went wrong, in one line and not too long."""
    cause = error.__cause__ if isinstance(error, UserError) and error.__cause__ else error
    said = " ".join((getattr(cause, "strerror", None) or str(cause)).split())
    return said[:200] or type(cause).__name__
