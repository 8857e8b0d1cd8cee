"""Temporary files, temporary folders and locks of killed processes, as `harness.storage.atomic` makes them: removed."""

from __future__ import annotations

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
    """Removes a file, or a folder as far as it can be; `shutil.rmtree` would wait for a pipe in a folder's place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sweep(folder: Path, *, locks: bool = True) -> None:
    """Removes the temporary files and folders of killed processes from a folder; those of running ones stay.

    With ``locks``, abandoned locks too: in folders of ours alone, since elsewhere another program may own such a file.
    """
    with suppress(OSError):
        for entry in [*os.scandir(folder)]:
            if TEMPORARY.fullmatch(entry.name) or (locks and LOCK.fullmatch(entry.name)):
                _remove_abandoned(Path(entry.path))


def sweep_tree(root: Path, depth: int = 100) -> None:
    """`sweep` for a folder of ours and the folders below it, so many levels deep; links are not followed."""
    sweep(root)
    if depth:
        with suppress(OSError):
            for entry in [*os.scandir(root)]:
                if entry.is_dir(follow_symlinks=False) and not TEMPORARY.fullmatch(entry.name):
                    sweep_tree(Path(entry.path), depth - 1)


def _remove_abandoned(path: Path) -> None:
    with suppress(OSError):  # a running process holds it, it is gone already, or it may not be removed
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        try:
            status = os.fstat(descriptor)
            is_file, is_lock = stat.S_ISREG(status.st_mode), path.suffix == ".lock"
            ours = is_file and not status.st_size if is_lock else is_file or stat.S_ISDIR(status.st_mode)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if ours and same_file(path, descriptor):  # a lock's name may be another process's by now
                remove(path)
        finally:
            os.close(descriptor)


def same_file(path: Path, descriptor: int) -> bool:
    """Whether the open file is still the one at ``path``."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
