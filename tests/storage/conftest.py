"""Fixtures of the tests of the remote cache."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty bucket in the place of S3, and retries without waiting."""
    from tests.storage.bucket import REGISTRY, Bucket, MemoryFileSystem

    monkeypatch.setitem(REGISTRY, "s3", Bucket)
    monkeypatch.setattr("harness.storage.remote.RETRY_SECONDS", (0.0, 0.0, 0.0))
    Bucket.before, Bucket.alter = staticmethod(lambda *_: None), staticmethod(lambda data: data)  # type: ignore[assignment]
    yield Bucket
    Bucket.store.clear()
    Bucket.pseudo_dirs[:] = [""]
    MemoryFileSystem.store.clear()
