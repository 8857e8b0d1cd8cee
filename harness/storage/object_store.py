"""The objects of a remote cache, in a folder or at a URL that fsspec opens. An object appears whole or not at all.

In a folder it is written under a temporary name and renamed; object stores put atomically by themselves. Objects are
not trusted: nothing that is read here is ever unpickled or run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from harness.storage.atomic import write_file
from harness.storage.regular_files import open_regular
from harness.types import UserError

SCHEMES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs", "https": "aiohttp", "memory": "fsspec"}
"""URL scheme -> the package that fsspec needs for it."""


class FolderStore:
    """Objects as files in a folder, which machines may share."""

    def __init__(self, root: Path) -> None:
        self.root, self.writable = root.absolute(), True
        try:
            self.root.mkdir(exist_ok=True)  # without its parents: where these are missing, a share is not mounted
        except OSError as error:
            reason = "a file is in its place" if isinstance(error, FileExistsError) else error.strerror
            raise UserError(
                f"The remote cache {root} cannot be created ({reason}); name a folder in one that exists."
            ) from error

    def read(self, name: str, most: int) -> bytes:
        """The object, or its first ``most`` bytes. FileNotFoundError if it is missing."""
        with open_regular(self.root / name) as stream:
            return stream.read(most)

    def write(self, name: str, data: bytes) -> None:
        """Puts the object there, in place of an older one."""
        write_file(self.root / name, lambda stream: stream.write(data), sweeps=False)


class Bucket:
    """Objects behind fsspec. The file system is opened on first use, in whatever process that is."""

    def __init__(self, url: str, scheme: str) -> None:
        self.url, self.writable = url, scheme != "https"
        try:
            from fsspec import get_filesystem_class

            get_filesystem_class(scheme)
        except ImportError as error:
            without_fsspec = getattr(error, "name", "") == "fsspec"
            package = '"retrieval-harness[store]"' if without_fsspec else SCHEMES[scheme]
            raise UserError(f"A remote cache at {scheme}:// needs a package: pip install {package}") from error

    def _locate(self, name: str) -> tuple[Any, str]:
        from fsspec.core import url_to_fs

        filesystem, root = url_to_fs(self.url, use_listings_cache=False)  # fsspec keeps and reuses the instance
        return filesystem, f"{root.rstrip('/')}/{name}"

    def read(self, name: str, most: int) -> bytes:
        """As `Folder.read`; other errors are those of the file system's package."""
        filesystem, path = self._locate(name)
        return bytes(filesystem.cat_file(path, start=0, end=most))

    def write(self, name: str, data: bytes) -> None:
        """As `Folder.write`."""
        filesystem, path = self._locate(name)
        filesystem.pipe_file(path, data)


def open_objects(url: str) -> FolderStore | Bucket:
    """The objects below a folder's path or a URL; no connection is opened yet.

    Raises:
        UserError: For a scheme that is not in `SCHEMES`, credentials in the URL, and a missing package or folder.
    """
    scheme, separator, _ = url.partition("://")
    if not separator or scheme == "file":
        return FolderStore(_path(url) if separator else Path(url).expanduser())
    shown = _without_credentials(url)
    if scheme == "http":
        raise UserError(f"{shown} is plain http, which anyone on the way can alter; give an https URL.")
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in ("file", *SCHEMES))
        raise UserError(f"{shown} is not a remote cache: give a folder or a URL that begins with {known}.")
    if "::" in url or "?" in url or "#" in url or ":" in urlsplit(url).netloc.rpartition("@")[0]:
        raise UserError(
            f"{shown} holds more than a location; give the location alone, and keep credentials where "
            f"{SCHEMES[scheme]} looks for them (its environment variables or configuration)."
        )
    return Bucket(url.rstrip("/"), scheme)


def _path(url: str) -> Path:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise UserError(f"{url} names a machine; a file URL has three slashes, as in file:///mnt/share.")
    return Path(unquote(parts.path))


def _without_credentials(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('?')[0].partition('#')[0].rpartition('@')[2]}"
