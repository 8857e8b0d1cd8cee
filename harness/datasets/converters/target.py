"""The folder in BEIR format that a conversion fills: documents as they come, then queries, judgements, and the account
of what the source lacked."""

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
"""How many ids of missing documents are written down."""
SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a pair, which JSON can spell and UTF-8 cannot."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Sizes of a dataset."""

    documents: int
    queries: int
    judgements: int


@dataclass(frozen=True, slots=True)
class About:
    """What is known of a dataset before it is converted."""

    name: str
    published: Counts
    """BEIR's own."""
    citation: str
    licence: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a conversion wrote, and what it could not."""

    about: About
    counts: Counts
    missing: int
    """Judged documents that the source lacks."""
    first_missing: list[str]
    queries_without_relevant: int
    """Queries none of whose relevant documents the source holds."""
    left_out: Mapping[str, int]
    """Why something in the source was not taken -> how often."""


class Target:
    """A corpus.jsonl being written, and which judged documents it still lacks."""

    def __init__(self, stream: IO[bytes], qrels: Qrels) -> None:
        self.left_out: Counter[str] = Counter()
        self.documents = 0
        self.lacking = {doc_id for judgements in qrels.values() for doc_id in judgements}
        self._stream = stream

    def add(self, document: Document) -> None:
        """Writes one document; its id must be new."""
        self._stream.write(_line(_id=document.id, title=document.title, text=document.text))
        self.documents += 1
        self.lacking.discard(document.id)


@contextmanager
def corpus(folder: Path, qrels: Qrels) -> Iterator[Target]:
    """Opens ``folder``/corpus.jsonl; the folder itself is the caller's `harness.storage.atomic.whole_folder`."""
    with (folder / "corpus.jsonl").open("wb", buffering=1 << 20) as stream:
        yield Target(stream, qrels)


def finish(
    folder: Path, about: About, target: Target, queries: Iterable[Query], qrels: Qrels, files: Mapping[str, list[Path]]
) -> Report:
    """Writes queries.jsonl, qrels/test.tsv and dataset.toml, which states the source and what it lacked.

    Judgements of documents that the source lacks are kept: they count in the ideal ranking, as trec_eval has it.
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
    report = Report(
        about,
        Counts(target.documents, len(judged), judgements),
        len(target.lacking),
        sorted(target.lacking)[:FIRST],
        sum(ids <= target.lacking for ids in relevant),
        dict(target.left_out),
    )
    (folder / "dataset.toml").write_text(_stated(report, files), encoding="utf-8")
    return report


def _stated(report: Report, files: Mapping[str, list[Path]]) -> str:
    about, counts, published = report.about, report.counts, report.about.published
    missing: dict[str, Any] = {}
    if report.missing:
        missing = {"judged_documents": report.missing, "first": report.first_missing}
        missing |= {"queries_without_relevant": report.queries_without_relevant}
    tables: dict[str, Mapping[str, Any]] = {
        "": {"name": about.name, "split": "test", "citation": about.citation, "licence": about.licence},
        "versions.source": {part: f"{len(paths)} files, {_size(paths)} bytes" for part, paths in files.items()},
        "versions.counts": {name: getattr(counts, name) for name in Counts.__dataclass_fields__},
        "versions.published": {name: getattr(published, name) for name in Counts.__dataclass_fields__},
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
    # JSON's strings, integers and lists of strings are TOML's too, quoted keys included.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _line(**fields: str) -> bytes:
    text = json.dumps(fields, ensure_ascii=False)
    return (SURROGATE.sub("\ufffd", text) + "\n").encode()
