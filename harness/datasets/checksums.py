"""The checksums of a named dataset's files, written when it was brought here and held against them when it is used."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from harness.storage.atomic import sha256_file, write_json
from harness.storage.records import read_sealed, seal
from harness.storage.safe_load import fields, read_toml
from harness.types import UserError

RECORD = "checksums.json"


def record(folder: Path) -> None:
    """Writes the checksums of all that the folder holds."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    write_json(folder / RECORD, seal({path.relative_to(folder).as_posix(): sha256_file(path) for path in files}))


def check(folder: Path, name: str, corpus: str, *, described: bool = True) -> None:
    """Raises UserError where a file is not what it was, or the folder is another dataset's.

    ``corpus`` is the SHA-256 of corpus.jsonl, which is known; ``described``: its dataset.toml states the name.
    A folder without a record (an earlier version brought it, or its user made it) is taken as it is.
    """
    if described and (folder / RECORD).is_file():
        _check_name(folder, name)
    recorded = {}
    with suppress(FileNotFoundError):
        try:
            recorded = fields(read_sealed(folder / RECORD))
        except ValueError:
            recorded = {RECORD: ""}
    for file, expected in recorded.items():
        path = folder / file
        if (corpus if file == "corpus.jsonl" else sha256_file(path) if path.is_file() else "") != expected:
            raise UserError(
                f"{path} is damaged or was altered since {name} was brought here; delete {folder} and type: "
                f"harness fetch {name} (or use the folder as it is, under a name of its own: -d {folder})"
            )


def _check_name(folder: Path, name: str) -> None:
    """Raises UserError for the folder of another dataset, which may be undamaged in itself."""
    with suppress(OSError, ValueError):  # where dataset.toml is damaged, its checksum tells
        stated = read_toml(folder / "dataset.toml").get("name", name)
        if stated != name:
            raise UserError(f"{folder} holds the dataset {stated!r} instead; delete it and type: harness fetch {name}")
