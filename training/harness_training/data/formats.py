"""Reads triplets from Parquet, JSON lines and tab-separated files with a header.

Columns are query (or anchor), positive, and negative or negative_1 ... negative_m; others are ignored. Rows are
streamed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from harness.download.http import brief
from harness.storage import safe_load
from harness.storage.parquet import is_text, open_parquet
from harness.storage.regular_files import open_regular
from harness.storage.safe_load import open_gzip, parse_json
from harness.types import UserError

Row = tuple[str, ...]
"""query, positive, negative_1 ... negative_m."""
WANTED = "query (or anchor), positive, and negative or negative_1 ... negative_m"


@dataclass(frozen=True, slots=True)
class TripletFiles:
    """Triplets in files of one format."""

    files: list[Path]
    negatives: int
    """Negatives per row."""
    rows: Callable[[], Iterator[tuple[str, Row]]]
    """Position ("FILE row 7") and cells of each row, which may be empty."""


def open_table(files: list[Path]) -> TripletFiles:
    """Open these files; UserError for a missing column or an unknown format."""
    kind = "".join(files[0].suffixes[-2:]).removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        names, read = _parquet_names(files[0]), _parquet
    elif kind in ("jsonl", "json", "ndjson"):
        names, read = _json_names(files[0]), _json
    elif kind == "tsv":
        names, read = _tsv_names(files[0]), _tsv
    else:
        raise UserError(f"{files[0]} has an unknown format; triplets are read from .parquet, .jsonl and .tsv files.")
    columns = _columns(files[0], names)
    return TripletFiles(files, len(columns) - 2, lambda: (found for file in files for found in read(file, columns)))


def _columns(file: Path, names: list[str]) -> list[str]:
    """Names of the query, positive and negative columns, in that order."""
    query = "query" if "query" in names else "anchor"
    numbered = sorted((int(match[1]), match[0]) for name in names if (match := re.fullmatch(r"negative_(\d+)", name)))
    negatives = ["negative"] if "negative" in names else [name for _, name in numbered]
    if lacking := [name for name in (query, "positive") if name not in names] + ([] if negatives else ["negative"]):
        listed = " and ".join("query" if name == "anchor" else name for name in lacking)
        hint = "; `harness mine` finds negatives" if lacking == ["negative"] else ""
        raise UserError(
            f"{file} lacks the column {listed}; it has {', '.join(map(repr, names)) or 'none'}, and triplets need "
            f"{WANTED}: rename or add them{hint}."
        )
    return [query, "positive", *negatives]


def _parquet_names(file: Path) -> list[str]:
    import pyarrow

    try:
        with open_parquet(file) as table:
            return table.names
    except (pyarrow.ArrowException, OSError, ValueError, MemoryError) as error:
        raise _unreadable(file, error) from error


def _parquet(file: Path, columns: list[str]) -> Iterator[tuple[str, Row]]:
    import pyarrow

    number = 0
    try:
        with open_parquet(file) as table:
            if lacking := [name for name in columns if name not in table.names]:
                raise UserError(
                    f"{file} lacks the column {lacking[0]}, which the files beside it have; fix or remove it."
                )
            for name in columns:
                if not is_text(kind := table.type(name)):
                    raise UserError(f"{file}: the column {name} holds {kind}, not text; convert it to text.")
            for batch in table.batches(columns):
                texts = [batch.column(name).to_pylist() for name in columns]
                for row in zip(*texts, strict=True):
                    number += 1
                    yield f"{file} row {number}", tuple(text or "" for text in row)
    except (pyarrow.ArrowException, OSError, ValueError, MemoryError) as error:
        raise _unreadable(file, error) from error


def _json_names(file: Path) -> list[str]:
    for _, line in lines(file):
        return list(_record(file, 1, line))
    raise UserError(f"{file} holds no rows; it needs one JSON object a line.")


def _json(file: Path, columns: list[str]) -> Iterator[tuple[str, Row]]:
    for number, line in lines(file):
        record = _record(file, number, line)
        values = [record.get(name) for name in columns]
        for name, value in zip(columns, values, strict=True):
            if value is not None and not isinstance(value, str):
                raise UserError(f"{file} line {number}: {name} is {str(value)[:40]!r}, not text; fix that line.")
        yield f"{file} line {number}", tuple(replace_surrogates(value or "") for value in values)


def replace_surrogates(text: str) -> str:
    """Replace unpaired surrogates, which are valid in JSON but not in UTF-8, by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _record(file: Path, number: int, line: str) -> dict[str, Any]:
    try:
        record = parse_json(line)
    except ValueError as error:
        raise UserError(f"{file} line {number} is not JSON ({error}); fix or remove that line.") from None
    if not isinstance(record, dict):
        raise UserError(f'{file} line {number} is not a JSON object; write it as {{"query": ..., "positive": ...}}.')
    return record


def _tsv_names(file: Path) -> list[str]:
    for _, line in lines(file):
        return line.split("\t")
    raise UserError(f"{file} holds no rows; it needs a header with the columns {WANTED}.")


def _tsv(file: Path, columns: list[str]) -> Iterator[tuple[str, Row]]:
    numbered = lines(file)
    names = next(numbered)[1].split("\t")
    places = [names.index(column) for column in columns]
    for number, line in numbered:
        cells = line.split("\t")
        if len(cells) != len(names):
            raise UserError(f"{file} line {number} has {len(cells)} cells where the header has {len(names)}; fix it.")
        yield f"{file} line {number}", tuple(cells[place] for place in places)


def lines(file: Path) -> Iterator[tuple[int, str]]:
    """Number (from 1) and text of each non-empty line."""
    number = 0
    try:
        with open_decompressed(file) as stream:
            for number, line in enumerate(safe_load.lines(stream, file), 1):
                if text := line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n"):
                    yield number, text
    except UnicodeDecodeError:
        raise UserError(f"{file} line {number} is not UTF-8 text; save the file as UTF-8.") from None
    except OSError as error:
        raise _unreadable(file, error) from error


def open_decompressed(file: Path) -> IO[bytes]:
    """Open a file for reading, decompressed where its name ends in .gz."""
    return open_gzip(file) if file.suffix == ".gz" else open_regular(file)


def _unreadable(file: Path, error: Exception) -> UserError:
    return UserError(f"{file} cannot be read ({brief(str(error))}); make or copy it again.")
