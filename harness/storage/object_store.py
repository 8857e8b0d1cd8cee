"""Where shared objects lie: a folder, or what fsspec reaches at a URL. An object appears whole or not at all.

In a folder it is written under a temporary name and renamed; object stores put atomically by themselves. Whoever may
write there is trusted with the numbers, not with this machine: nothing that comes from there is ever unpickled or run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from harness.storage.atomic import write_file
from harness.storage.regular_files import open_regular
from harness.types import UserError

SCHEMES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs", "https": "aiohttp", "memory": "fsspec"}
"""Of a URL -> the package that fsspec needs for it."""


class Objects(Protocol):
    """Bytes by name. What goes wrong raises whatever the file system raises; FileNotFoundError means absent."""

    writable: bool

    def read(self, name: str, most: int) -> bytes:
        """The object, or its first ``most`` bytes."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Puts the object there whole, in place of an older one."""
        ...

    def names(self, folder: str) -> set[str]:
        """What lies directly in a folder; nothing where there is no such folder."""
        ...


def open_objects(url: str) -> Objects:
    """A folder's path or a URL, as objects; no connection is opened yet.

    UserError for a scheme that is not in `SCHEMES`, for credentials in a URL and for a missing package or folder.
    """
    scheme, separator, _ = url.partition("://")
    if not separator or scheme == "file":
        return _Folder(_path(url) if separator else Path(url).expanduser())
    if scheme == "http":
        raise UserError(f"{_bare(url)} is plain http, which anyone on the way can alter; give an https URL.")
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in ("file", *SCHEMES))
        raise UserError(f"{_bare(url)} is no store: a store is a folder or a URL that begins with {known}.")
    if "::" in url or "?" in url or "#" in url or ":" in urlsplit(url).netloc.rpartition("@")[0]:
        raise UserError(
            f"{_bare(url)} holds more than a place; name the place alone, and keep credentials where {SCHEMES[scheme]} "
            f"looks for them (its environment variables or configuration)."
        )
    return _Remote(url.rstrip("/"), scheme)


def _path(url: str) -> Path:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise UserError(f"{url} names a machine; a file URL has three slashes, as in file:///mnt/share.")
    return Path(unquote(parts.path))


def _bare(url: str) -> str:
    """The URL as far as it may be shown: without credentials and signatures."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('?')[0].partition('#')[0].rpartition('@')[2]}"


class _Folder:
    """A folder, which other machines may share."""

    def __init__(self, root: Path) -> None:
        self.root, self.writable = root.absolute(), True
        try:
            self.root.mkdir(exist_ok=True)  # its parent is there, or a share is not mounted
        except OSError as error:
            reason = "a file is in its place" if isinstance(error, FileExistsError) else error.strerror
            raise UserError(f"The store {root} cannot be made ({reason}); name a folder in one that exists.") from error

    def read(self, name: str, most: int) -> bytes:
        """See `Objects`."""
        with open_regular(self.root / name) as stream:
            return stream.read(most)

    def write(self, name: str, data: bytes) -> None:
        """See `Objects`."""
        write_file(self.root / name, lambda stream: stream.write(data), sweeps=False)

    def names(self, folder: str) -> set[str]:
        """See `Objects`."""
        try:
            return {path.name for path in (self.root / folder).iterdir()}
        except FileNotFoundError:
            return set()


class _Remote:
    """A place that fsspec reaches. Its file system is opened when it is used first, in whatever process that is."""

    def __init__(self, url: str, scheme: str) -> None:
        self.url, self.scheme, self.writable = url, scheme, scheme != "https"
        try:
            from fsspec import get_filesystem_class

            get_filesystem_class(scheme)
        except ImportError as error:
            bare = getattr(error, "name", "") == "fsspec"
            package = '"retrieval-harness[store]"' if bare else SCHEMES[scheme]
            raise UserError(f"A store at {scheme}:// needs a package: pip install {package}") from error

    def _open(self, name: str) -> tuple[Any, str]:
        from fsspec.core import url_to_fs

        filesystem, root = url_to_fs(self.url, use_listings_cache=False)  # fsspec keeps and reuses the instance
        return filesystem, f"{root.rstrip('/')}/{name}"

    def read(self, name: str, most: int) -> bytes:
        """See `Objects`."""
        filesystem, path = self._open(name)
        return bytes(filesystem.cat_file(path, start=0, end=most))

    def write(self, name: str, data: bytes) -> None:
        """See `Objects`."""
        filesystem, path = self._open(name)
        filesystem.pipe_file(path, data)

    def names(self, folder: str) -> set[str]:
        """See `Objects`."""
        filesystem, path = self._open(folder)
        try:
            return {found.rstrip("/").rpartition("/")[2] for found in filesystem.ls(path, detail=False)}
        except FileNotFoundError:
            return set()
