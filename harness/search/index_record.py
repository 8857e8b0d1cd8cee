"""The record beside an index on disk, which says what it was built from and the checksum of its file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from harness.storage.atomic import sha256_file
from harness.storage.records import read_sealed
from harness.storage.safe_load import fields

RECORD = "record.json"
Record = TypeVar("Record")


def valid_record(
    folder: Path, file: str, wanted: Mapping[str, Any], record_type: Callable[..., Record], shape: Mapping[str, type]
) -> Record | None:
    """The record in a folder if it has the wanted values and the checksum of the index ``file`` is valid."""
    with suppress(OSError, ValueError, TypeError):
        record = record_type(**fields(read_sealed(folder / RECORD), **shape))
        stated = asdict(record)  # type: ignore[call-overload]  # every record is a dataclass
        if wanted.items() <= stated.items() and sha256_file(folder / file) == stated["sha256"]:
            return record
    return None
