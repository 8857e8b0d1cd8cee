"""Atomic writes: a file or folder appears complete or not at all.

Trade-off accepted: the data is flushed to the disk before the rename (a power cut leaves the old file or the new one),
but the directory entry is not, so after a power cut a finished file can be missing. It is then made again.

A killed process leaves its temporary files behind. A running process holds a lock on each of its own, so `sweep`
removes only abandoned ones: before the next write into the same folder, and in the next command that uses the local
cache or the results. Trade-off accepted: on a file system without locks, nothing is removed.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from harness.storage.regular_files import open_regular
from harness.storage.temporary_files import remove, sweep
from harness.types import UserError

UNSHOWN = re.compile("[\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters that JSON does not escape by itself, and marks that turn the direction of text."""
_SWEPT: set[Path] = set()
"""Folders that this process has written into and swept before."""


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Converts errors of the disk (full, read-only, forbidden, failing) at ``path`` into UserError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UserError(
                f"The disk is full: {path} could not be written. What was finished is kept; "
                f"free some space (or set HARNESS_HOME to a larger disk) and run the same command again."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise UserError(
                f"{path} cannot be written ({error.strerror}); choose a folder you may write to, "
                f"with HARNESS_HOME or --results."
            ) from error
        if error.errno == errno.EIO:
            raise UserError(
                f"The disk failed at {path} ({error.strerror}); check it, then run the same command again."
            ) from error
        raise


@contextmanager
def _temporary(path: Path, make: Callable[[Path], object]) -> Iterator[Path]:
    """A temporary file or folder beside ``path``, locked against `sweep`; removed at the end unless it was renamed."""
    descriptor, attempts = None, 0
    while descriptor is None:
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            make(temporary)
        except FileNotFoundError:  # another process failed and removed the empty folder
            if (attempts := attempts + 1) == 100:
                raise
            path.parent.mkdir(parents=True, exist_ok=True)
        else:
            descriptor = _lock(temporary)
    try:
        yield temporary
    finally:
        remove(temporary)
        os.close(descriptor)


def _lock(path: Path) -> int | None:
    """A descriptor that keeps `sweep` away from ``path`` until it is closed; None if a sweep has removed it already."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    with suppress(OSError):  # a file system without locks
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    if path.exists():
        return descriptor
    os.close(descriptor)
    return None


@contextmanager
def _parent_of(path: Path) -> Iterator[None]:
    """Creates the parent folders of ``path``; if the block fails, removes those that it created and that are empty."""
    made = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for folder in made:
            with suppress(OSError):  # something is in it
                folder.rmdir()
        raise


def write_file(path: Path, write: Callable[[IO[bytes]], object], *, sweeps: bool = True) -> None:
    """Writes a file atomically: a temporary file beside ``path`` is flushed to the disk and renamed.

    Args:
        path: The file; its folder need not exist.
        write: Called with the open temporary file.
        sweeps: Whether this process's first write into a folder removes the temporary files of killed processes. Not
            for folders that other machines write into, whose locks may not be visible here.

    Raises:
        UserError: If the disk is full, fails or may not be written to.
    """
    with disk_errors(path), _parent_of(path):
        if sweeps and path.parent not in _SWEPT:
            _SWEPT.add(path.parent)
            sweep(path.parent, locks=False)
        with _temporary(path, Path.touch) as temporary:
            with temporary.open("wb") as stream:
                write(stream)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)


def write_json(path: Path, content: Any) -> None:
    """Writes indented UTF-8 JSON; NaN and infinity are refused (they are not JSON)."""
    write_file(path, lambda stream: stream.write(dump_json(content)))


def dump_json(content: Any) -> bytes:
    """JSON in UTF-8, indented, in the order of insertion, with a final newline.

    Only control characters (also those of `UNSHOWN`) are escaped.
    """
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return _utf8(UNSHOWN.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


@contextmanager
def whole_folder(path: Path, keep: Callable[[], bool] = lambda: False) -> Iterator[Path]:
    """Writes a folder atomically: yields an empty temporary folder that becomes ``path`` when the block succeeds.

    An existing folder is replaced. Between the two renames it is called ``.NAME.old``; `recover` undoes a kill there.

    Args:
        path: The folder; those above it need not exist.
        keep: Called at the end. If it is true, the folder that another process has put there meanwhile stays, because
            it may be in use.

    Raises:
        UserError: If the disk is full, fails or may not be written to.
    """
    with disk_errors(path), _parent_of(path):
        sweep(path.parent, locks=False)
        with _temporary(path, Path.mkdir) as temporary:
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    with file.open("rb+") as stream:
                        os.fsync(stream.fileno())
            _put(temporary, path, keep)


def _put(temporary: Path, path: Path, keep: Callable[[], bool]) -> None:
    aside = path.with_name(f".{path.name}.old")
    for attempt in range(100):
        recover(path)
        if keep():
            return
        try:
            if replaced := path.exists():
                path.rename(aside)
            temporary.rename(path)
            if replaced:  # else the folder that is aside belongs to another process, which has yet to put its own
                remove(aside)
            return
        except OSError as error:  # another process renames its own folder at the same time
            if attempt == 99 or error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
                raise


def recover(path: Path) -> None:
    """Undoes a kill between the two renames of `whole_folder`: restores the old folder, or removes a replaced one."""
    aside = path.with_name(f".{path.name}.old")
    with suppress(OSError):  # another process was faster, or the folder is read-only
        if aside.exists() and path.exists():
            remove(aside)
        elif aside.exists():
            aside.rename(path)


def file_state(status: os.stat_result) -> dict[str, int]:
    """The fields of a file's status that change with its content.

    A replaced file has another inode, and any write changes the ctime, which unlike the mtime no program can set.
    """
    return {
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "inode": status.st_ino,
        "ctime_ns": status.st_ctime_ns,
    }


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def content_key(content: Any) -> str:
    """Hex SHA-256 of a JSON value in canonical form: the key of every cache."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(_utf8(text)).hexdigest()


def _utf8(text: str) -> bytes:
    """The text in UTF-8; UserError for half surrogate pairs, Python's form of file names that are not UTF-8."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        shown = ascii(re.split(r"[\"\n]", text[: error.end])[-1][-100:])
        raise UserError(f"The name that begins with {shown} is not UTF-8 text; rename that file or folder.") from None
