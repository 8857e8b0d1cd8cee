"""A training set on disk: triplets.parquet and training-set.json in one folder, written atomically.

The Parquet file has the columns query, positive, negative_1 ... negative_m (text, never empty), compressed with zstd in
row groups of `GROUP` rows, so that it can be streamed. training-set.json states the origin of the rows: ``name``,
``rows``, ``columns``, ``seed``, ``sources`` (name, split and fingerprint of every dataset whose judgements were used),
``miners``, ``filters``, ``counts``, then ``request`` (hash of the request), ``key`` (hash of the texts, order
included) and ``sha256`` of the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

from harness.storage.atomic import content_key, recover, sha256_file, whole_folder, write_json
from harness.storage.records import read_record, seal
from harness.storage.safe_load import fields
from harness.types import Progress, UserError
from harness_training.data.formats import Row, TripletFiles, open_table

RECORD = "training-set.json"
TRIPLETS = "triplets.parquet"
FORMAT = 1
GROUP = 10_000
"""Rows per row group: about 10 MB of MS MARCO's passages."""


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """A complete training set."""

    folder: Path
    record: Mapping[str, Any]
    """Content of training-set.json."""

    @property
    def file(self) -> Path:
        """The Parquet file, for ``datasets.load_dataset("parquet", data_files=...)`` or pyarrow."""
        return self.folder / TRIPLETS

    @property
    def name(self) -> str:
        """Display name."""
        return str(self.record["name"])

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.record["rows"])

    @property
    def columns(self) -> list[str]:
        """query, positive, negative_1 ... negative_m."""
        return list(self.record["columns"])

    @property
    def negatives(self) -> int:
        """Negatives per row."""
        return len(self.record["columns"]) - 2

    @property
    def key(self) -> str:
        """Hex SHA-256 of the texts in order; another file with the same rows has the same key."""
        return str(self.record["key"])

    @property
    def sources(self) -> list[dict[str, Any]]:
        """``name``, ``split`` and ``fingerprint`` of the datasets whose judgements were used."""
        return list(self.record["sources"])

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Names of those datasets, for `harness.types.ModelSpec.trained_on`."""
        return tuple(dict.fromkeys(source["name"] for source in self.sources))

    def iter(self) -> Iterator[Row]:
        """The rows, streamed."""
        return (row for _, row in open_table([self.file]).rows())


def write(folder: Path, rows: Iterable[Row], negatives: int, record: Callable[[int], Mapping[str, Any]]) -> TrainingSet:
    """Stream rows into a new training set, replacing the folder (see `refuse_occupied`).

    Args:
        folder: Of the training set.
        rows: At least one; UserError for none.
        negatives: Per row.
        record: Number of rows -> further fields of training-set.json.
    """
    columns = columns_of(negatives)
    with whole_folder(folder) as made:
        digest, count = write_rows(made / TRIPLETS, columns, rows)
        if not count:
            raise UserError(f"No triplet is left for {folder}; see the counts, and use weaker filters or more depth.")
        counted = {"format": FORMAT, "rows": count, "columns": columns}
        keys = {"key": content_key([columns, count, digest]), "sha256": sha256_file(made / TRIPLETS)}
        write_json(made / RECORD, seal({**counted, **record(count), **keys}))
    return TrainingSet(folder, _record(folder))


def columns_of(negatives: int) -> list[str]:
    """query, positive, negative_1 ... negative_m."""
    return ["query", "positive", *(f"negative_{number}" for number in range(1, negatives + 1))]


def write_rows(path: Path | IO[bytes], columns: list[str], rows: Iterable[Row]) -> tuple[str, int]:
    """Write a Parquet file; returns the hash of its texts and the number of rows."""
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema([(name, pyarrow.string()) for name in columns])
    digest, count, stream = hashlib.sha256(), 0, iter(rows)
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        while group := list(islice(stream, GROUP)):
            for text in (text for row in group for text in row):
                data = text.encode()
                digest.update(len(data).to_bytes(8, "little") + data)
            count += len(group)
            arrays = [pyarrow.array(column, pyarrow.string()) for column in zip(*group, strict=True)]
            writer.write_table(pyarrow.table(arrays, schema=schema))
    return digest.hexdigest(), count


def refuse_occupied(folder: Path) -> None:
    """UserError where the folder is not empty."""
    recover(folder)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        what = "holds another training set" if (folder / RECORD).exists() else "already exists"
        raise UserError(f"{folder} {what}; give another folder with -o, or remove it first.")


def made(folder: Path, request: str) -> TrainingSet | None:
    """The training set in ``folder`` if it is valid and was made by this request."""
    with suppress(UserError):
        found = _open(folder)
        if found.record.get("request") == request:
            return found
    return None


def read(path: Path, home: Path, progress: Progress = lambda *_: None) -> TrainingSet:
    """Open a training set, or import triplets (see `harness_training.data.formats`) into one under ``home``.

    Raises:
        UserError: A file was changed or cannot be read, columns are missing, or a row has an empty text or a positive
            that is also its negative.
    """
    recover(path)
    if (path / RECORD).is_file():
        return _open(path)
    table = open_table(_files(path))
    hashes = {file.name: sha256_file(file) for file in table.files}
    request = content_key({"format": FORMAT, "files": hashes})
    folder = home / "triplets" / request[:32]
    if (found := made(folder, request)) is None:
        source = {"name": path.stem, "split": "", "fingerprint": {"files": hashes}}
        record = {"name": path.stem, "seed": None, "sources": [source], "request": request}
        found = write(folder, _checked(table, progress), table.negatives, lambda _: record)
    return found


def _files(path: Path) -> list[Path]:
    if path.is_dir() and not (parts := sorted(path.glob("*.parquet"))):
        raise UserError(
            f"{path} holds neither {RECORD} nor *.parquet; name a folder that `harness mine` made, or a file."
        )
    if not path.exists():
        raise UserError(f"There is no training set {path}; `harness mine` and `harness data` make one.")
    return parts if path.is_dir() else [path]


def _checked(table: TripletFiles, progress: Progress) -> Iterator[Row]:
    number = -1
    for number, (place, row) in enumerate(table.rows()):
        if wrong := fault(row):
            raise UserError(f"{place} {wrong}; fix or remove that row and run the same command again.")
        if number % GROUP == 0:
            progress(f"reading {table.files[0].name} (rows)", number, 0)
        yield row
    if number < 0:
        raise UserError(f"{table.files[0]} holds no triplets; name another file.")


def fault(row: Row) -> str:
    """Describe why a row is invalid; empty for a valid row."""
    for place, text in enumerate(row):
        if not text or not text.strip():
            return f"has no text for the {'query' if place == 0 else 'positive' if place == 1 else 'negative'}"
    return "has a positive that is also its negative" if row[1] in row[2:] else ""


def _open(folder: Path) -> TrainingSet:
    record = _record(folder)
    file = folder / TRIPLETS
    if not file.is_file() or sha256_file(file) != record["sha256"]:
        raise UserError(f"{file} is missing or was changed since it was made; remove {folder} and make it again.")
    return TrainingSet(folder, record)


def _record(folder: Path) -> dict[str, Any]:
    try:
        record = fields(read_record(folder / RECORD), format=int, rows=int, columns=list, sources=list)
        fields(record, **dict.fromkeys(("name", "key", "sha256"), str))
        if record["format"] != FORMAT:
            raise ValueError(f"format {record['format']}")
        if record["columns"] != columns_of(len(record["columns"]) - 2):
            raise ValueError("its columns are not those of triplets")
        for source in record["sources"]:
            fields(source, name=str)
        return record
    except (OSError, ValueError) as error:
        reason = str(error)
    raise UserError(
        f"{folder / RECORD} is not a record of a training set, or is damaged ({reason}); remove the folder and make it "
        f"again."
    )
