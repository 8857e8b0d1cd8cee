"""Converts datasets of the Hugging Face hub to BEIR format.

Two layouts are supported: BEIR's (corpus and queries as gzipped JSON lines or Parquet, qrels as TSV in a separate
repository) and NanoBEIR's (all three as Parquet, qrels without a grade).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from harness.download.http import SourceFailed, brief
from harness.download.hub import Repository
from harness.metrics.qrels import HEADER, qrels_line
from harness.storage.atomic import disk_errors
from harness.storage.columns import BLANK, integer
from harness.storage.parquet import open_parquet
from harness.storage.regular_files import open_regular
from harness.storage.safe_load import Corrupt, open_gzip
from harness.types import Progress, Source

RECORD = {"_id": ("_id", "id"), "title": ("title",), "text": ("text",)}
"""Key of a JSON line -> names of the Parquet column that holds it; the first that exists is used."""
JUDGEMENT = {"query-id": ("query-id",), "corpus-id": ("corpus-id",), "score": ("score",)}
OPTIONAL = ("title", "score")


def convert_hub_dataset(source: Source, split: str, folder: Path, scratch: Path, progress: Progress) -> None:
    """Downloads a dataset and writes it in BEIR format.

    Args:
        source: The repository, and that of the qrels if they are in a separate one.
        split: Split of the qrels.
        folder: Folder to write to.
        scratch: Folder for the downloads; the next call resumes them.
        progress: Called with a text and the work done and in total.

    Raises:
        SourceFailed: The hub cannot be reached, or the repository has another layout.
    """
    files = Repository(source.place, scratch, progress)
    for name in ("corpus", "queries"):
        found = files.fetch_matching(name, (f"{name}.jsonl.gz", f"{name}.jsonl", f"{name}/*.parquet"), split)
        _write_records(found, folder / f"{name}.jsonl")
    if source.judgements:
        files = Repository(source.judgements, scratch, progress)
    qrels = files.fetch_matching("judgements", (f"{split}.tsv", f"qrels/{split}.tsv", "qrels/*.parquet"), split)
    _write_qrels(qrels, folder / "qrels" / f"{split}.tsv")


def _write_records(files: list[Path], target: Path) -> None:
    def lines() -> Iterator[str]:
        for row in _rows(files, RECORD):
            yield json.dumps({key: "" if row[key] is None else row[key] for key in row}, ensure_ascii=False) + "\n"

    if files[0].suffix == ".parquet":
        _write(target, (line.encode("utf-8", "replace") for line in lines()))
    else:
        _write(target, (block for file in files for block in _blocks(file)))


def _write_qrels(files: list[Path], target: Path) -> None:
    if files[0].suffix != ".parquet":
        return _write(target, (block for file in files for block in _blocks(file)))
    lines = (_judgement(row, number) for number, row in enumerate(_rows(files, JUDGEMENT), 1))
    return _write(target, (line.encode() for line in chain([f"{HEADER}\n"], lines)))


def _judgement(row: dict[str, Any], number: int) -> str:
    """The qrels line of a row; a row without a score is relevant."""
    query, document, score = row["query-id"], row["corpus-id"], row.get("score", 1)
    for name, value in (("query-id", query), ("corpus-id", document)):
        if value is None or not str(value) or BLANK.search(str(value)):
            raise SourceFailed(f"row {number} of its judgements has the {name} {value!r}, which is not an id")
    try:
        return qrels_line(str(query), str(document), integer(str(score).encode()))
    except ValueError:
        raise SourceFailed(f"row {number} of its judgements has the score {score!r}, which is not an integer") from None


def _rows(files: list[Path], wanted: Mapping[str, tuple[str, ...]]) -> Iterator[dict[str, Any]]:
    """Yields the rows of Parquet files under the keys of ``wanted``; `OPTIONAL` keys may be missing."""
    import pyarrow

    try:
        for file in files:
            with open_parquet(file) as table:
                columns = {}
                for key, names in wanted.items():
                    if found := [name for name in names if name in table.names]:
                        columns[found[0]] = key
                    elif key not in OPTIONAL:
                        raise SourceFailed(f"{file.name} has no column {' or '.join(names)}")
                for batch in table.batches([*columns]):
                    yield from ({key: row[name] for name, key in columns.items()} for row in batch.to_pylist())
    except (pyarrow.ArrowException, OSError, ValueError, LookupError, MemoryError) as error:
        raise SourceFailed(
            f"{files[0].name} is not a Parquet file with the expected columns: {brief(str(error))}"
        ) from error


def _blocks(file: Path) -> Iterator[bytes]:
    try:
        with open_gzip(file) if file.suffix == ".gz" else open_regular(file) as stream:
            while block := stream.read(1 << 20):
                yield block
    except Corrupt as error:
        raise SourceFailed(f"{file.name} is corrupt: {brief(str(error))}") from error


def _write(target: Path, blocks: Iterable[bytes]) -> None:
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as stream:
            stream.writelines(blocks)
