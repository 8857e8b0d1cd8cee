"""Indexes on disk: stored with a record of what they were built from and their checksum, verified on reuse."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from harness.storage.atomic import content_key, sha256_file, whole_folder, write_json
from harness.storage.records import read_sealed, seal
from harness.storage.safe_load import fields
from harness.types import UserError

RECORD = "record.json"
LOCK = ".lock"
"""Ending of a file that a library locks while it reads an index."""


class Recorded(Protocol):
    """A record with the checksum of the index."""

    @property
    def sha256(self) -> str:
        """As `sha256_of`."""
        ...


Record = TypeVar("Record", bound=Recorded)


def sha256_of(index: Path) -> str:
    """Hex SHA-256 of a file; of a folder, that of its files' names and checksums."""
    if not index.is_dir():
        return sha256_file(index)
    return content_key({file.name: sha256_file(file) for file in index.iterdir() if file.suffix != LOCK})


def bytes_of(index: Path) -> int:
    """Size of a file, or of the files of a folder."""
    return sum(file.stat().st_size for file in (index.iterdir() if index.is_dir() else [index]))


def valid_record(
    folder: Path, name: str, wanted: Mapping[str, Any], record_type: Callable[..., Record], shape: Mapping[str, type]
) -> Record | None:
    """The record in a folder if it has the wanted values and the checksum of the index ``name`` is valid."""
    with suppress(OSError, ValueError, TypeError):
        record = record_type(**fields(read_sealed(folder / RECORD), **shape))
        stated = asdict(record)  # type: ignore[call-overload]  # every record is a dataclass
        if wanted.items() <= stated.items() and sha256_of(folder / name) == record.sha256:
            return record
    return None


def stored_index(
    root: Path,
    name: str,
    wanted: Mapping[str, Any],
    record_type: Callable[..., Record],
    shape: Mapping[str, type],
    build: Callable[[Path], Mapping[str, Any]],
    **further: Any,
) -> tuple[Path, Record]:
    """The folder and record of the stored index if it is valid, else of the one that is built now.

    Args:
        root: The index is stored in a folder of this one, named by a hash.
        name: Of the index in its folder.
        wanted: The fields of the record that determine the index.
        record_type: Of the record.
        shape: The fields of the record with their types.
        build: Writes the index to a path, and returns the other fields of the record, without size and checksum.
        further: What else the hash depends on.
    """
    folder = root / content_key({**wanted, **further})[:32]
    stored = partial(valid_record, folder, name, wanted, record_type, shape)
    if record := stored():
        return folder, record
    with whole_folder(folder, keep=lambda: stored() is not None) as made:
        built = build(made / name)
        record = record_type(**wanted, **built, bytes=bytes_of(made / name), sha256=sha256_of(made / name))
        write_json(made / RECORD, seal(asdict(record)))  # type: ignore[call-overload]  # every record is a dataclass
    return folder, stored() or record  # another process may have built it first


def require_unchanged(index: Path, record: Recorded) -> None:
    """Raise UserError if the index does not have the checksum of its record; called before a library reads it."""
    if sha256_of(index) != record.sha256:
        raise UserError(f"{index} changed while it was in use; run the same command again.")
