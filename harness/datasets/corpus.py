"""A BEIR corpus on disk: one scan builds an index, then documents are read by row or id in constant memory.

The index is in the cache, never beside the corpus. It holds the offset of each line, the concatenated ids, and the
sorted 64-bit hashes of the ids. Its arrays are memory-mapped. A hit is compared with the id itself, so a hash collision
costs one comparison.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import threading
import time
import zlib
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets.duplicates import repeated_rows
from harness.datasets.jsonl import hashed_lines, open_to_read, parse_record, read_records
from harness.storage.atomic import file_state, whole_folder, write_json
from harness.storage.records import read_sealed, seal
from harness.storage.regular_files import open_regular
from harness.storage.safe_load import map_array
from harness.storage.strings import StringColumn, Strings
from harness.types import Document, Progress, UserError

FORMAT = 1
"""Version of the index format; an index of another version is rebuilt."""
FILES = ("ids.bin", "offsets.npy", "id_ends.npy", "hashes.npy", "order.npy")
CLOCK_TICK = 0.05
"""Seconds after which a change of a file is certain to change its time stamps."""
LINES_PER_PROGRESS = 10_000


@dataclass(frozen=True, slots=True)
class _Index:
    sha256: str
    ids: mmap.mmap
    """Concatenated, in UTF-8."""
    offsets: NDArray[np.int64]
    """Byte offset of each document's object."""
    id_ends: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    """Sorted."""
    order: NDArray[np.int64]
    """Row of each hash."""
    repeated: int = 0
    """Number of records that are identical to an earlier one and left out."""


class Corpus:
    """An open corpus.jsonl. Its rows are the records in order, without duplicates. Close it, or use ``with``."""

    def __init__(self, path: Path, stream: IO[bytes], index: _Index, packed: Path | None = None) -> None:
        """``packed``: the gzipped file of which ``path`` is the copy in the cache; None: ``path`` is not a copy."""
        self.path, self._packed = path, packed
        self.sha256 = index.sha256
        """SHA-256 of the file."""
        self.repeated = index.repeated
        """Number of records that are identical to an earlier one; they are not rows."""
        self._stream = stream  # not memory-mapped: mapped pages would count as memory of this process
        self._position = threading.Lock()
        self._index = index
        self._ids = StringColumn(index.ids, index.id_ends)

    def __len__(self) -> int:
        return len(self._index.offsets)

    def __getitem__(self, row: int) -> Document:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)} documents")
        with self._position:
            self._stream.seek(int(self._index.offsets[row]))
            line = self._stream.readline()
        return self._document(row, line)

    def iter(self, start: int = 0, stop: int | None = None) -> Iterator[Document]:
        """Yields the documents of rows ``start`` to ``stop`` (exclusive; default: the end).

        Raises:
            UserError: The file is not the one that was indexed. A changed document is found when it is read; any
                other change only at the end of an iteration over all rows.
        """
        stop = len(self) if stop is None else min(stop, len(self))
        if start >= stop:
            return
        everything = start == 0 and stop == len(self)
        with open_to_read(self.path) as stream:
            first, rows = int(self._index.offsets[start]), iter(range(start, stop))
            digest = hashlib.sha256(stream.read(first) if everything else b"")
            stream.seek(first)
            raw = hashed_lines(stream, digest) if everything else stream
            lines = self._records(raw, first, start) if self.repeated else (line for line in raw if line.strip())
            yield from (self._document(row, line) for line, row in zip(lines, rows, strict=False))
            for _ in lines if everything else ():
                pass
            if next(rows, None) is not None or (everything and digest.hexdigest() != self.sha256):
                raise self._changed()

    def _records(self, lines: Iterable[bytes], offset: int, row: int) -> Iterator[bytes]:
        """Yields the lines that are rows, from ``row`` on; the first line is at ``offset``."""
        starts = iter(self._index.offsets[row:].tolist())
        start = next(starts, None)
        for line in lines:
            if start is not None and offset <= start < offset + len(line):
                yield line
                start = next(starts, None)
            offset += len(line)

    def ids(self, rows: Sequence[int] | NDArray[np.integer[Any]] | slice) -> list[str]:
        """Ids of these rows, from the index."""
        return list(self.lazy_ids(rows))

    def lazy_ids(self, rows: Sequence[int] | NDArray[np.integer[Any]] | slice) -> Strings:
        """Ids of these rows, decoded when they are read."""
        chosen = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else np.asarray(rows, np.int64)
        if chosen.size and not 0 <= chosen.min() <= chosen.max() < len(self):
            raise IndexError(f"rows {chosen.min()} to {chosen.max()} of {len(self)} documents")
        return Strings(self._ids, chosen)

    def rows(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """int64 [len(ids)]: the row of each id, -1 if it is not in the corpus."""
        wanted = np.fromiter((_hash(each.encode("utf-8", "surrogatepass")) for each in ids), np.uint64, len(ids))
        place = np.searchsorted(self._index.hashes, wanted, "left")
        end = np.searchsorted(self._index.hashes, wanted, "right")
        found = np.full(len(ids), -1, np.int64)
        while (candidates := np.flatnonzero((found < 0) & (place < end))).size:
            rows = self._index.order[place[candidates]]
            same = [ids[at] == name for at, name in zip(candidates.tolist(), self.ids(rows), strict=True)]
            found[candidates[same]] = rows[same]
            place[candidates] += 1  # the next id with the same hash, if any
        return found

    def close(self) -> None:
        """Closes the files; the corpus can no longer be used."""
        self._stream.close()
        self._ids.release()
        self._index.ids.close()

    def __enter__(self) -> Corpus:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _document(self, row: int, line: bytes) -> Document:
        try:
            document = parse_record(line)
        except ValueError:
            raise self._changed() from None
        start = self._index.id_ends[row - 1] if row else 0
        if document.id.encode() != self._index.ids[start : self._index.id_ends[row]]:
            raise self._changed()
        return document

    def _changed(self) -> UserError:
        if self._packed is not None:
            return UserError(
                f"The unpacked copy of {self._packed} in the cache was corrupted while it was in use; run the same "
                f"command again, which unpacks it again."
            )
        return UserError(
            f"{self.path} was changed while it was in use, or the disk has corrupted it; replace it by a good copy and "
            f"run the same command again."
        )


def open_corpus(
    path: Path,
    cache: Path,
    progress: Progress | None = None,
    *,
    rehash: bool = False,
    packed: Path | None = None,
) -> Corpus:
    """Opens a corpus and builds its index if necessary.

    An index in ``cache`` is used if the file's state (`file_state`) is the recorded one, or if only the state has
    changed and the SHA-256 is the same. Otherwise the file is scanned and validated.

    Args:
        path: The corpus.jsonl.
        cache: Folder of corpus indexes.
        progress: Called with a text and the bytes done and in total.
        rehash: Hash the file even if its state is the recorded one.
        packed: The gzipped file of which ``path`` is the unpacked copy, for messages.

    Raises:
        UserError: A line is not a document, or two different documents have the same id.
    """
    path = path.resolve()
    folder, report = cache / hashlib.sha256(os.fsencode(path)).hexdigest(), progress or (lambda *_: None)
    with ExitStack() as on_failure:
        stream = on_failure.enter_context(open_to_read(path))
        index = None if rehash else _load(folder, _facts(stream, path))
        index = index or _rehashed(folder, path, stream, report) or _build(folder, path, stream, report)
        on_failure.pop_all()
    return Corpus(path, stream, index, packed)


def _facts(stream: IO[bytes], path: Path) -> dict[str, Any]:
    return {"format": FORMAT, "path": str(path), **file_state(os.fstat(stream.fileno()))}


def _wait_for_clock(facts: dict[str, Any]) -> None:
    """Waits until any later change of the file is certain to change its state."""
    time.sleep(min(max(0.0, facts["ctime_ns"] / 1e9 + CLOCK_TICK - time.time()), CLOCK_TICK))


def _rehashed(folder: Path, path: Path, stream: IO[bytes], progress: Progress) -> _Index | None:
    """The index in ``folder`` if it has the SHA-256 of the file, which is hashed now; updates the recorded state."""
    facts = _facts(stream, path)
    try:
        stated = read_sealed(folder / "index.json")
        if (stated["format"], stated["path"], stated["size"]) != (FORMAT, str(path), facts["size"]):
            return None
        _wait_for_clock(facts)
        progress(f"hashing {path}", 0, 0)
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]  # typeshed is strict
        stream.seek(0)
        if sha256 != stated["sha256"] or _facts(stream, path) != facts:
            return None
        if facts != {name: stated.get(name) for name in facts}:
            write_json(folder / "index.json", seal({**stated, **facts}))
        return _load(folder, facts)
    except (OSError, ValueError, KeyError, TypeError):
        stream.seek(0)
        return None


def _load(folder: Path, facts: dict[str, Any]) -> _Index | None:
    """The index in ``folder`` if it is valid and of this file, else None."""
    try:
        stated = read_sealed(folder / "index.json")
        if facts != {name: stated[name] for name in facts}:
            return None
        if stated["crc32"] != {name: _crc32(folder / name) for name in FILES}:
            return None
        with open_regular(folder / FILES[0]) as stream:
            ids = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        offsets, ends, hashes, order = (np.asarray(map_array(folder / name)) for name in FILES[1:])
        if stated != read_sealed(folder / "index.json"):  # replaced by another process
            return None
        return _Index(stated["sha256"], ids, offsets, ends, hashes, order, int(stated.get("repeated", 0)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _crc32(path: Path) -> int:
    checksum = 0
    with open_regular(path) as stream:
        while block := stream.read(1 << 20):
            checksum = zlib.crc32(block, checksum)
    return checksum


def _build(folder: Path, path: Path, stream: IO[bytes], progress: Progress) -> _Index:
    """Scans the file, writes its index and loads it; concurrent processes may load each other's index."""
    facts = _facts(stream, path)
    _wait_for_clock(facts)
    for _ in range(5):
        try:
            with whole_folder(folder) as temporary:
                repeated = _scan(stream, path, facts["size"], temporary, progress)
                if repeated:
                    stream.seek(0)
                    _scan(stream, path, facts["size"], temporary, progress, repeated)
                stream.seek(0)
                sha256 = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]  # typeshed is strict
                if _facts(stream, path) != facts:
                    raise UserError(
                        f"{path} was changed while it was read; wait for that to finish and run the same command again."
                    )
                checksums = {name: _crc32(temporary / name) for name in FILES}
                stated = {**facts, "sha256": sha256, "crc32": checksums, "repeated": len(repeated)}
                write_json(temporary / "index.json", seal(stated))
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOENT):
                raise
        if (index := _load(folder, facts)) is not None:
            return index
        stream.seek(0)
    raise UserError(
        f"The index of {path} cannot be written to {folder}; delete that folder and run the same command again."
    )


def _scan(
    stream: IO[bytes], path: Path, size: int, made: Path, progress: Progress, left_out: Collection[int] = ()
) -> set[int]:
    """Writes `FILES` for all records except those ``left_out``.

    Memory: about 20 bytes per document while the hashes are sorted.

    Returns:
        The records that are identical to an earlier one.
    """
    columns = tuple(made / f"{name}.raw" for name in ("offsets", "id_ends", "hashes"))
    with ExitStack() as files:
        ids, *raws = (files.enter_context(file.open("wb")) for file in (made / FILES[0], *columns))
        buffers, end = (array("q"), array("q"), array("Q")), 0

        def flush() -> None:
            for buffer, raw in zip(buffers, raws, strict=True):
                buffer.tofile(raw)
                del buffer[:]

        count = 0
        for record, (number, offset, document) in enumerate(read_records(stream, path)):
            if record in left_out:
                continue
            count += 1
            identifier = document.id.encode()
            ids.write(identifier)
            end += len(identifier)
            for buffer, value in zip(buffers, (offset, end, _hash(identifier)), strict=True):
                buffer.append(value)
            if number % LINES_PER_PROGRESS == 0:
                flush()
                progress(f"reading {path} (bytes)", offset, size)
        flush()
    if not count:
        raise UserError(f"{path} holds no documents; it needs one JSON object a line, at least one.")
    progress(f"reading {path} (bytes)", size, size)
    for raw, name in zip(columns[:2], FILES[1:3], strict=True):
        with open_regular(raw) as source:
            _save(made / name, np.dtype(np.int64), count, iter(lambda: source.read(1 << 20), b""))
        raw.unlink()
    unsorted = np.fromfile(columns[2], np.uint64)
    columns[2].unlink()
    order = np.argsort(unsorted, kind="stable")
    pieces = (unsorted[order[start : start + 65_536]].tobytes() for start in range(0, count, 65_536))
    _save(made / FILES[3], unsorted.dtype, count, pieces)
    np.save(made / FILES[4], order, allow_pickle=False)
    hashes = map_array(made / FILES[3])
    again = np.flatnonzero(hashes[1:] == hashes[:-1])
    return repeated_rows(path, map_array(made / FILES[1]), np.union1d(order[again], order[again + 1]))


def _save(file: Path, dtype: np.dtype[Any], count: int, pieces: Iterable[bytes]) -> None:
    """Writes an array [count] in the format of np.save, from pieces of its bytes."""
    with file.open("wb") as stream:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (count,)}
        np.lib.format.write_array_header_1_0(stream, header)
        stream.writelines(pieces)


def _hash(identifier: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(identifier, digest_size=8).digest(), "little")
