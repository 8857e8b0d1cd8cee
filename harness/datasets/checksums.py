"""Checksums of a named dataset's files: recorded when it is downloaded or built, verified when it is opened."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from harness.storage.atomic import sha256_file, write_json
from harness.storage.records import read_sealed, seal
from harness.storage.safe_load import fields, read_toml
from harness.types import UserError

RECORD = "checksums.json"


def write_checksums(folder: Path) -> None:
    """Writes the checksums of all files in the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    write_json(folder / RECORD, seal({path.relative_to(folder).as_posix(): sha256_file(path) for path in files}))


def verify_checksums(folder: Path, name: str, corpus: str, *, described: bool = True) -> None:
    """Verifies the files of a dataset's folder against the recorded checksums.

    A folder without a record (from an earlier version, or made by the user) is not checked.

    Args:
        folder: The dataset's folder.
        name: The dataset's name.
        corpus: SHA-256 of corpus.jsonl, which the caller has already computed.
        described: Whether its dataset.toml states the name.

    Raises:
        UserError: A file has changed, or the folder holds another dataset.
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
                f"{path} is corrupt or was changed since {name} was fetched; delete {folder} and type: "
                f"harness fetch {name} (or use the folder as it is, under a name of its own: -d {folder})"
            )


def _check_name(folder: Path, name: str) -> None:
    """Raises UserError if the folder holds another dataset, even an undamaged one."""
    with suppress(OSError, ValueError):  # a corrupt dataset.toml is found by its checksum
        stated = read_toml(folder / "dataset.toml").get("name", name)
        if stated != name:
            raise UserError(f"{folder} holds the dataset {stated!r} instead; delete it and type: harness fetch {name}")
