"""Indexes on disk: stored with a record of what they were built from and their checksum, verified on reuse."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, NamedTuple, Protocol, TypeVar, get_origin, get_type_hints

from harness.storage.atomic import content_key, sha256_file, whole_folder, write_json
from harness.storage.records import read_sealed, seal
from harness.storage.safe_load import fields
from harness.types import UserError

RECORD = "record.json"
LOCK = ".lock"
"""Ending of a file that a library locks while it reads an index."""


class Recorded(Protocol):
    """A dataclass with the checksum of the index."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def sha256(self) -> str:
        """Checksum of the index, from `sha256_of`."""
        ...


Record = TypeVar("Record", bound=Recorded)


class StoredIndex(NamedTuple, Generic[Record]):
    """An index on disk."""

    folder: Path
    record: Record


def sha256_of(index: Path) -> str:
    """Hex SHA-256 of a file; of a folder, that of its files' names and checksums."""
    if not index.is_dir():
        return sha256_file(index)
    return content_key({file.name: sha256_file(file) for file in index.iterdir() if file.suffix != LOCK})


def bytes_of(index: Path) -> int:
    """Size of a file, or of the files of a folder."""
    return sum(file.stat().st_size for file in (index.iterdir() if index.is_dir() else [index]))


def _valid_record(
    folder: Path, name: str, wanted: Mapping[str, Any], record_type: Callable[..., Record]
) -> Record | None:
    """The record in a folder if it has the wanted values and the checksum of the index ``name`` is valid."""
    with suppress(OSError, ValueError, TypeError):
        hints = get_type_hints(record_type).items()
        shape = {field: str if get_origin(kind) is Literal else kind for field, kind in hints}
        record = record_type(**fields(read_sealed(folder / RECORD), **shape))
        if wanted.items() <= asdict(record).items() and sha256_of(folder / name) == record.sha256:
            return record
    return None


def stored_index(
    root: Path,
    name: str,
    wanted: Mapping[str, Any],
    record_type: Callable[..., Record],
    build: Callable[[Path], Mapping[str, Any]],
    **further: Any,
) -> StoredIndex[Record]:
    """The stored index if it is valid, else one that is built now.

    Args:
        root: The index is stored in a folder of this one, named by a hash.
        name: Of the index in its folder.
        wanted: The fields of the record that determine the index.
        record_type: Of the record, a dataclass.
        build: Writes the index to a path, and returns the other fields of the record, without size and checksum.
        further: What else the hash depends on.
    """
    folder = root / content_key({**wanted, **further})[:32]
    stored = partial(_valid_record, folder, name, wanted, record_type)
    if record := stored():
        return StoredIndex(folder, record)
    with whole_folder(folder, keep=lambda: stored() is not None) as made:
        built = build(made / name)
        record = record_type(**wanted, **built, bytes=bytes_of(made / name), sha256=sha256_of(made / name))
        write_json(made / RECORD, seal(asdict(record)))
    return StoredIndex(folder, stored() or record)  # another process may have built it first


def require_unchanged(index: Path, record: Recorded) -> None:
    """Raise UserError if the index does not have the checksum of its record; called before a library reads it."""
    if sha256_of(index) != record.sha256:
        raise UserError(f"{index} changed while it was in use; run the same command again.")
