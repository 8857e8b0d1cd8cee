"""A bucket in memory in the place of S3, homes that share it, and files of authors who are not trusted."""

from __future__ import annotations

import io
import itertools
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from harness.embeddings.store import VectorStore
from harness.storage.atomic import content_key
from harness.storage.remote import open_remote_cache

fsspec = pytest.importorskip("fsspec", reason="URLs need fsspec (the store extra)")
from fsspec.implementations.memory import MemoryFileSystem  # noqa: E402

REGISTRY = sys.modules["fsspec.registry"]._registry  # type: ignore[attr-defined]
KEYS = [content_key(number) for number in range(3)]
COLLECTION = content_key("collection")


class Bucket(MemoryFileSystem):  # type: ignore[misc]
    """Objects in memory; tests make calls fail and alter what is read."""

    protocol = "s3"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    before: ClassVar[Callable[[str, str], None]]
    """Called with operation and path; may raise."""
    alter: ClassVar[Callable[[bytes], bytes]]
    """Changes what is read."""

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + str(path).partition("://")[2].strip("/") if "://" in str(path) else str(path).rstrip("/")

    def cat_file(self, path: str, start: Any = None, end: Any = None, **more: Any) -> bytes:
        type(self).before("read", path)
        return type(self).alter(super().cat_file(path, start, end, **more))

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **more: Any) -> None:
        type(self).before("write", path)
        super().pipe_file(path, value, mode, **more)


class Home:
    """A $HARNESS_HOME with a remote cache behind it."""

    def __init__(self, folder: Path, url: str, **how: Any) -> None:
        self.folder, self.notes = folder, list[str]()
        folder.mkdir(exist_ok=True)
        self.shared = open_remote_cache(url, folder, self.notes.append, lambda *_: None, **how)
        self.calls: Counter[tuple[str, bool]] = Counter()
        for operation in ("read", "write"):
            self._count(operation)

    def _count(self, operation: str) -> None:
        call = getattr(self.shared._objects, operation)

        def counted(name: str, *rest: Any) -> Any:
            value = call(name, *rest)
            self.calls[operation, name.endswith(".json")] += 1
            return value

        setattr(self.shared._objects, operation, counted)

    @property
    def pushed(self) -> int:
        return self.calls["write", True]

    @property
    def pulled(self) -> int:
        return self.calls["read", False]

    def store(self, **how: Any) -> VectorStore:
        return VectorStore(self.folder, "model", "document", shared=self.shared, **how)

    def fill(self) -> None:
        store = self.store()
        store.write_list(COLLECTION, [store.put(key, vectors(key), 1.5, 7) for key in KEYS], "cosine")

    def files(self) -> dict[str, bytes]:
        found = (path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in found}

    @property
    def pending(self) -> int:
        return sum(name.startswith("unpublished/") for name in self.files())


def vectors(key: str) -> np.ndarray:
    return np.random.default_rng(int(key[:8], 16)).standard_normal((5, 3)).astype(np.float32)


def failing(*operations: str, error: Exception = OSError("the cable is cut"), first: int = 0) -> Any:  # noqa: B008
    """Raises at every call of these operations from the first on."""
    calls = itertools.count()

    def before(operation: str, path: str) -> None:
        if operation in operations and next(calls) >= first:
            raise error

    return staticmethod(before)


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]


def saved(array: np.ndarray, **how: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **how)
    return stream.getvalue()


class Bomb:
    """Leaves a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("exploded"),)


GOOD = saved(np.ones((5, 3), np.float32))
