"""Writes a converted dataset in BEIR format: documents, queries, qrels, and a report of what the source lacked."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from harness.metrics.qrels import HEADER, qrels_line
from harness.types import Document, Qrels, Query

FIRST = 20
"""Number of ids of missing documents that are recorded."""
SURROGATE = re.compile("[\ud800-\udfff]")
"""Unpaired surrogates, which JSON can express and UTF-8 cannot."""


@dataclass(frozen=True, slots=True)
class ConvertedCounts:
    """Sizes of a dataset."""

    documents: int
    queries: int
    judgements: int


@dataclass(frozen=True, slots=True)
class About:
    """Properties of a dataset that do not depend on the conversion."""

    name: str
    published: ConvertedCounts
    """Counts that BEIR published."""
    citation: str
    licence: str


@dataclass(frozen=True, slots=True)
class ConversionReport:
    """Result of a conversion."""

    about: About
    counts: ConvertedCounts
    missing: int
    """Number of judged documents that the source lacks."""
    first_missing: list[str]
    queries_without_relevant: int
    """Number of queries without any relevant document in the source."""
    left_out: Mapping[str, int]
    """Reason why records of the source were left out -> their number."""


class Target:
    """Writes corpus.jsonl and keeps track of the judged documents that are still missing."""

    def __init__(self, stream: IO[bytes], qrels: Qrels) -> None:
        self.left_out: Counter[str] = Counter()
        self.documents = 0
        self.missing = {doc_id for judgements in qrels.values() for doc_id in judgements}
        self._stream = stream

    def add(self, document: Document) -> None:
        """Writes one document; its id must be new."""
        self._stream.write(_line(_id=document.id, title=document.title, text=document.text))
        self.documents += 1
        self.missing.discard(document.id)


@contextmanager
def corpus(folder: Path, qrels: Qrels) -> Iterator[Target]:
    """Opens ``folder``/corpus.jsonl for writing; the caller provides the temporary folder."""
    with (folder / "corpus.jsonl").open("wb", buffering=1 << 20) as stream:
        yield Target(stream, qrels)


def finish(
    folder: Path, about: About, target: Target, queries: Iterable[Query], qrels: Qrels, files: Mapping[str, list[Path]]
) -> ConversionReport:
    """Writes queries.jsonl, qrels/test.tsv and dataset.toml, which states the source and what it lacked.

    Judgements of missing documents are kept: they count in the ideal ranking, as in trec_eval.
    """
    judged = [query for query in queries if query.id in qrels]
    with (folder / "queries.jsonl").open("wb") as stream:
        stream.writelines(_line(_id=query.id, text=query.text) for query in judged)
    (folder / "qrels").mkdir()
    judgements = 0
    with (folder / "qrels" / "test.tsv").open("w", encoding="utf-8", newline="\n") as table:
        table.write(f"{HEADER}\n")
        for query in judged:
            judgements += len(qrels[query.id])
            table.writelines(qrels_line(query.id, doc_id, score) for doc_id, score in qrels[query.id].items())
    relevant = ({key for key, score in qrels[query.id].items() if score > 0} for query in judged)
    report = ConversionReport(
        about,
        ConvertedCounts(target.documents, len(judged), judgements),
        len(target.missing),
        sorted(target.missing)[:FIRST],
        sum(ids <= target.missing for ids in relevant),
        dict(target.left_out),
    )
    (folder / "dataset.toml").write_text(_stated(report, files), encoding="utf-8")
    return report


def _stated(report: ConversionReport, files: Mapping[str, list[Path]]) -> str:
    about, counts, published = report.about, report.counts, report.about.published
    missing: dict[str, Any] = {}
    if report.missing:
        missing = {"judged_documents": report.missing, "first": report.first_missing}
        missing |= {"queries_without_relevant": report.queries_without_relevant}
    tables: dict[str, Mapping[str, Any]] = {
        "": {"name": about.name, "split": "test", "citation": about.citation, "licence": about.licence},
        "versions.source": {part: f"{len(paths)} files, {_size(paths)} bytes" for part, paths in files.items()},
        "versions.counts": {name: getattr(counts, name) for name in ConvertedCounts.__dataclass_fields__},
        "versions.published": {name: getattr(published, name) for name in ConvertedCounts.__dataclass_fields__},
        "versions.missing": missing,
        "versions.left_out": report.left_out,
    }
    blocks = []
    for header, table in tables.items():
        heading = [f"[{header}]"] if header else []
        blocks.append("\n".join([*heading, *(f"{_toml(key)} = {_toml(value)}" for key, value in table.items())]))
    return "\n\n".join(blocks) + "\n"


def _size(paths: list[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


def _toml(value: Any) -> str:
    # Strings (also as keys), integers and lists of strings have the same syntax in JSON and TOML.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _line(**fields: str) -> bytes:
    text = json.dumps(fields, ensure_ascii=False)
    return (SURROGATE.sub("\ufffd", text) + "\n").encode()
