"""Indexes on disk, of one file or of several: used again while they are valid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.search.index_record import bytes_of, require_unchanged, sha256_of, stored_index
from harness.types import UserError


@dataclass(frozen=True)
class Record:
    factory: str
    seconds: float
    bytes: int
    sha256: str


def build(path: Path) -> dict[str, Any]:
    path.mkdir()
    (path / "codes").write_bytes(b"123")
    (path / "lengths").write_bytes(b"45")
    return {"seconds": 0.5}


def never(path: Path) -> dict[str, Any]:
    raise AssertionError("it is stored")


def test_a_folder_is_stored_once_until_a_file_changes(tmp_path: Path) -> None:
    wanted = {"factory": "plaid"}
    folder, record = stored_index(tmp_path, "index", wanted, Record, build)
    assert (record.bytes, record.seconds) == (5, 0.5)
    (folder / "index" / "plaid.lock").touch()  # by a library that reads it
    assert stored_index(tmp_path, "index", wanted, Record, never) == (folder, record)
    assert stored_index(tmp_path, "index", wanted, Record, build, metric="dot")[0] != folder
    for change in (
        lambda: (folder / "index" / "codes").write_bytes(b"124"),
        lambda: (folder / "index" / "more").touch(),
        lambda: (folder / "index" / "codes").rename(folder / "index" / "other"),
    ):
        change()
        with pytest.raises(UserError, match="changed while it was in use"):
            require_unchanged(folder / "index", record)
        assert stored_index(tmp_path, "index", wanted, Record, build) == (folder, record)
        require_unchanged(folder / "index", record)


def test_a_file_is_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "index").write_bytes(b"abc")
    assert sha256_of(tmp_path / "index") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert bytes_of(tmp_path / "index") == 3
