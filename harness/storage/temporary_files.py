"""Removes the temporary files, temporary folders and lock files that killed processes left."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import stat
from contextlib import suppress
from pathlib import Path

TEMPORARY = re.compile(r"\..*\.[0-9a-f]{8}\.tmp", re.DOTALL)
LOCK = re.compile(r"\..*\.lock", re.DOTALL)


def remove(path: Path) -> None:
    """Removes a file or a folder, whichever is there at that moment; errors within a folder are ignored."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:  # unlink of a folder: EISDIR on Linux, EPERM elsewhere
        if error.errno != errno.EISDIR and not path.is_dir():
            raise
        shutil.rmtree(path, ignore_errors=True)


def sweep(folder: Path, *, locks: bool = True) -> None:
    """Removes the temporary files and folders of killed processes from a folder; those of running ones stay.

    With ``locks``, abandoned lock files too. Not for a user's folder, where they may belong to another program.
    """
    with suppress(OSError):
        for entry in [*os.scandir(folder)]:
            if TEMPORARY.fullmatch(entry.name) or (locks and LOCK.fullmatch(entry.name)):
                _remove_abandoned(Path(entry.path))


def sweep_tree(root: Path, depth: int = 100) -> None:
    """`sweep` with ``locks`` for a folder and those below it, at most ``depth`` levels; links are not followed."""
    sweep(root)
    if depth:
        with suppress(OSError):
            for entry in [*os.scandir(root)]:
                if entry.is_dir(follow_symlinks=False) and not TEMPORARY.fullmatch(entry.name):
                    sweep_tree(Path(entry.path), depth - 1)


def _remove_abandoned(path: Path) -> None:
    with suppress(OSError):  # locked by a running process, removed already, or read-only
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        try:
            status = os.fstat(descriptor)
            is_file, is_lock = stat.S_ISREG(status.st_mode), path.suffix == ".lock"
            ours = is_file and not status.st_size if is_lock else is_file or stat.S_ISDIR(status.st_mode)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if ours and same_file(path, descriptor):  # another process may have created a new lock file
                remove(path)
        finally:
            os.close(descriptor)


def same_file(path: Path, descriptor: int) -> bool:
    """Whether the open file is still the one at ``path``."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
