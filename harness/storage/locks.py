"""Locks between processes: one makes a thing, the others wait for it."""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from harness.storage.atomic import disk_errors
from harness.storage.temporary_files import same_file
from harness.types import Progress, UserError

if TYPE_CHECKING:
    from filelock import FileLock

UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
"""Errors of a file system that has no locks."""


@contextmanager
def exclusive(target: Path, progress: Progress, what: str = "") -> Iterator[None]:
    """Holds the lock of ``target`` while the block runs; other processes and threads wait for it.

    The lock is the file .NAME.lock beside the target. It ends with the process that holds it, even if that is killed,
    and the file is removed at the end. On a file system without locks nobody waits.

    Args:
        target: File or folder to be made; it need not exist.
        progress: Called once if the lock is taken.
        what: What the other process does, for the progress; "makes NAME" by default.

    Raises:
        UserError: If the lock file cannot be made (disk full, read-only folder, something else in its place).
    """
    path = target.with_name(f".{target.name}.lock")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _require_regular(path)
        reason = f"waiting for another process that {what or f'makes {target.name}'}"
        lock = _acquired(path, lambda: progress(reason, 0, 0))
    try:
        yield
    finally:
        if lock is not None:
            with suppress(OSError):
                path.unlink()
            lock.release()


def _acquired(path: Path, waiting: Callable[[], None]) -> FileLock | None:
    """The lock, held; None if the file system has no locks. ``waiting`` is called if another holds it."""
    from filelock import FileLock, Timeout

    held: list[int] = []
    lock = FileLock(path, thread_local=False, fallback_to_soft=False, on_acquired=held.append)
    try:
        try:
            lock.acquire(blocking=False)
        except Timeout:
            waiting()
            lock.acquire()
        while not same_file(path, held[-1]):  # its last holder removed it; over NFS an open file keeps a link
            lock.release()
            lock.acquire()
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        return None
    return lock


def _require_regular(path: Path) -> None:
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            raise UserError(f"{path} is not a regular file, so it cannot be used as a lock; remove it and run again.")
