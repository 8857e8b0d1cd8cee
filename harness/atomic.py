"""Files and folders that appear whole or not at all.

Trade-off accepted: the data is flushed to the disk before the rename (a power cut leaves the old file or the new one),
but the directory entry is not, so after a power cut a finished file can be missing. It is then made again.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from harness.spec import Progress, UserError


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns the disk's refusals (full, read-only, forbidden) into one sentence."""
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


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")


def write_file(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Calls ``write`` with a temporary file beside ``path``, flushes it to the disk and renames it into place."""
    temporary = _temporary(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as stream:
                write(stream)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Writes indented UTF-8 JSON; NaN and infinity are refused (they are not JSON)."""
    write_file(path, lambda stream: stream.write(dump_json(content)))


def dump_json(content: Any) -> bytes:
    """The one way this project writes JSON: sorted by nothing, indented, UTF-8, a final newline."""
    return (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yields an empty temporary folder that becomes ``path`` when the block ends well, replacing the old one.

    A replaced folder steps aside as ``.NAME.old`` between the two renames; `recover` undoes a kill there.
    """
    temporary, aside = _temporary(path), path.with_name(f".{path.name}.old")
    with disk_errors(path):
        temporary.mkdir(parents=True)
        try:
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    with file.open("rb+") as stream:
                        os.fsync(stream.fileno())
            recover(path)
            if path.exists():
                path.rename(aside)
            temporary.rename(path)
            shutil.rmtree(aside, ignore_errors=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def recover(path: Path) -> None:
    """Puts a folder back that a kill caught between `whole_folder`'s two renames, and drops one that was superseded."""
    aside = path.with_name(f".{path.name}.old")
    if aside.exists():
        if path.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.rename(path)


@contextmanager
def alone(target: Path, progress: Progress) -> Iterator[None]:
    """Holds the lock of one folder that is being made, and drops what a killed process left of it; others wait."""
    lock = target.with_name(f".{target.name}.lock")
    with disk_errors(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        stream = lock.open("w")
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"waiting for another process that makes {target.name}", 0, 0)
            fcntl.flock(stream, fcntl.LOCK_EX)
        sweep(target)
        yield


def sweep(target: Path) -> None:
    """Drops what killed processes left of a folder under way; only for whoever holds the lock that its makers hold."""
    for leftover in target.parent.glob(f".{target.name}.{'[0-9a-f]' * 8}.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def content_key(content: Any) -> str:
    """Hex SHA-256 of a JSON-able value in canonical form; what every cache is keyed by."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
