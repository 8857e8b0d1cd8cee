"""Reads MS MARCO's original files, optionally gzipped.

collection.tsv, queries.train.tsv and qrels.train.tsv; triples.train.small.tsv (texts); qidpidtriples.train.*.tsv (ids,
next to collection and queries).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from harness.datasets.corpus import open_corpus
from harness.storage.atomic import content_key, sha256_file, whole_folder
from harness.types import Progress, UserError
from harness_training.data.formats import Row, lines
from harness_training.data.msmarco import Origin

COLLECTION, QUERIES, QRELS = "collection.tsv", "queries.train.tsv", "qrels.train.tsv"
TRIPLES = ("triples.train.small.tsv", "qidpidtriples.train.full.2.tsv", "qidpidtriples.train.small.tsv")
WANTED = (
    f"a folder with {COLLECTION}, {QUERIES} and {QRELS}, one with BEIR's corpus.jsonl, queries.jsonl and "
    f"qrels/train.tsv, or a file of triples ({TRIPLES[0]}, {TRIPLES[1]})"
)


def locate(path: Path) -> Path:
    """Resolve ``path`` to a file of triples or a folder to mine; UserError where it is neither."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"There is no {path}; --from takes {WANTED}.")
    if (path / "corpus.jsonl").is_file() or all(_find(path, name) for name in (COLLECTION, QUERIES, QRELS)):
        return path
    if triples := next((found for name in TRIPLES if (found := _find(path, name))), None):
        return triples
    raise UserError(f"{path} holds none of MS MARCO's known files; --from takes {WANTED}.")


def _find(folder: Path, name: str) -> Path | None:
    return next((file for file in (folder / name, folder / f"{name}.gz") if file.is_file()), None)


def _need(folder: Path, name: str) -> Path:
    if (found := _find(folder, name)) is None:
        raise UserError(f"{folder} lacks {name}; put it there (MS MARCO's site has it) and run the same command again.")
    return found


def open_triples(file: Path, home: Path, progress: Progress) -> Origin:
    """Open a file of triples; the texts of ids are read from the files next to it."""
    number, first = next(_rows(file), (0, ()))
    if not number:
        raise UserError(f"{file} holds no rows; --from takes {WANTED}.")
    progress(f"hashing {file.name}", 0, 0)
    files = {file.name: sha256_file(file)}

    def rows() -> Iterator[Row]:
        return (row for _, row in _rows(file))

    if not all(cell.isascii() and cell.isdigit() for cell in first):
        return Origin(rows, 1, {"files": files})
    sides = [_need(file.parent, name) for name in (COLLECTION, QUERIES)]
    corpus = open_corpus(beir_folder(file.parent, home, progress, judged=False) / "corpus.jsonl", home / "corpora")
    queries = {key: text for _, (key, text) in _cells(sides[1], 2)}

    def texts(row: Row) -> Row:
        found = corpus.rows(row[1:])
        if row[0] not in queries or (found < 0).any():
            lacking = row[0] if row[0] not in queries else row[1 + int((found < 0).argmax())]
            raise UserError(f"{file} names {lacking}, which {file.parent} has no text for; use matching files.")
        return (queries[row[0]], *(corpus[at].content for at in found.tolist()))

    return Origin(rows, 1, {"files": files | {side.name: sha256_file(side) for side in sides}}, texts)


def _rows(file: Path) -> Iterator[tuple[int, Row]]:
    return _cells(file, 3)


def _cells(file: Path, wanted: int) -> Iterator[tuple[int, Row]]:
    for number, line in lines(file):
        cells = tuple(line.split("\t"))
        if len(cells) != wanted:
            raise UserError(f"{file} line {number} has {len(cells)} cells, not {wanted} with tabs between; fix it.")
        yield number, cells


def beir_folder(folder: Path, home: Path, progress: Progress, *, judged: bool = True) -> Path:
    """Convert the collection to BEIR format under ``home``, once; a folder in that format is returned as is."""
    if (folder / "corpus.jsonl").is_file():
        return folder
    progress("hashing MS MARCO's files", 0, 0)
    names = (COLLECTION, QUERIES, QRELS) if judged else (COLLECTION, QUERIES)
    files = [_need(folder, name) for name in names]
    made = home / "datasets" / f"msmarco-own-{content_key([sha256_file(file) for file in files])[:12]}"
    if made.is_dir():
        return made
    with whole_folder(made, keep=made.is_dir) as temporary:
        for name, file in zip(("corpus.jsonl", "queries.jsonl"), files, strict=False):
            with (temporary / name).open("w", encoding="utf-8") as stream:
                for number, (key, text) in _cells(file, 2):
                    stream.write(json.dumps({"_id": key, "text": text}, ensure_ascii=False) + "\n")
                    if number % 100_000 == 0:
                        progress(f"converting {file.name} (rows)", number, 0)
        if judged:
            (temporary / "qrels").mkdir()
            with (temporary / "qrels" / "train.tsv").open("w", encoding="utf-8") as stream:
                stream.write("query-id\tcorpus-id\tscore\n")
                stream.writelines(f"{query}\t{doc}\t{grade}\n" for _, (query, _, doc, grade) in _cells(files[2], 4))
    return made
