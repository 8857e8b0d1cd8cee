"""Opens regular files only.

Opening a named pipe waits for its other end, and a device such as ``/dev/zero`` never ends. Untrusted folders
(datasets, results, checkpoints, archives) may hold either, so every file that is read is opened here.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path


def open_regular(path: Path) -> io.BufferedReader:
    """Opens a file for reading in binary mode without waiting for another process. Links are followed.

    Raises:
        OSError: The file cannot be opened. IsADirectoryError for a folder; "not a regular file" for a pipe, a socket
            or a device.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        _check(os.fstat(descriptor).st_mode, path)
    except OSError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def regular(path: Path) -> Path:
    """The path itself, for libraries that open files by name. Raises OSError like `open_regular`."""
    _check(path.stat().st_mode, path)
    return path


def special_file(folder: Path) -> Path | None:
    """The first pipe, socket or device below a folder, or None; for libraries that read whole folders."""
    return next((path for path in sorted(folder.rglob("*")) if path.exists() and _special(path.stat().st_mode)), None)


def _special(mode: int) -> bool:
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _check(mode: int, path: Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if _special(mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
