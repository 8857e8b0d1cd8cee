"""Datasets in memory, written to a folder in BEIR format below $HARNESS_HOME that is named after their content."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from harness.datasets.jsonl import replace_surrogates
from harness.metrics.in_memory import columns, identifier, is_frame, qrels_of
from harness.metrics.qrels import HEADER, qrels_line
from harness.storage.atomic import whole_folder
from harness.types import Qrels, UserError

PARTS = ("corpus", "queries", "qrels")
HELD = {"corpus.jsonl": "documents", "queries.jsonl": "queries", "qrels/test.tsv": "judgements"}
"""What a file of a dataset holds."""
NAME = re.compile(r"\w[\w.+-]*")


class InMemory(NamedTuple):
    """A dataset as beir's GenericDataLoader returns it; each part may be a DataFrame instead."""

    corpus: Any
    """``{document: {"title": ..., "text": ...}}`` or ``{document: text}``."""
    queries: Any
    """``{query: text}``."""
    qrels: Any
    """``{query: {document: relevance}}``."""


def as_parts(thing: object) -> InMemory | None:
    """The three parts, if the object is a triple of them or a dict with their names; None otherwise."""
    if isinstance(thing, Mapping) and set(thing) == {*PARTS}:
        return InMemory(*(thing[part] for part in PARTS))
    if (
        isinstance(thing, tuple)
        and len(thing) == 3
        and all(isinstance(each, Mapping) or is_frame(each) for each in thing)
    ):
        return InMemory(*thing)
    return None


def write(parts: InMemory, name: str, home: Path) -> tuple[str, Path]:
    """Writes the dataset unless it is there already.

    Args:
        parts: The content.
        name: Name of the dataset; if empty, ``data-`` and six digits of a hash of the content.
        home: $HARNESS_HOME.

    Returns:
        The name and the folder.

    Raises:
        UserError: If a part is empty or not of the right form.
    """
    if name and not NAME.fullmatch(name):
        raise UserError(f"The dataset name {name!r} is not one of letters, digits and . _ + -; take another.")
    qrels = qrels_of(parts.qrels)
    files: dict[str, Callable[[], Iterator[bytes]]] = {
        "corpus.jsonl": lambda: _lines(_documents(parts.corpus)),
        "queries.jsonl": lambda: _lines(_queries(parts.queries)),
        "qrels/test.tsv": lambda: _judgements(qrels),
    }
    digest = hashlib.sha256()
    for file, lines in files.items():
        before = digest.copy()
        for line in lines():
            digest.update(line)
        if digest.digest() == before.digest():
            raise UserError(f"The dataset has no {HELD[file]}; give at least one.")
    name = name or f"data-{digest.hexdigest()[:6]}"
    folder = home / "in-memory" / f"{name}-{digest.hexdigest()[:12]}"
    if not folder.is_dir():
        with whole_folder(folder, keep=folder.is_dir) as temporary:
            (temporary / "qrels").mkdir()
            for file, lines in files.items():
                with (temporary / file).open("wb") as stream:
                    stream.writelines(lines())
    return name, folder


def _lines(records: Iterable[dict[str, str]]) -> Iterator[bytes]:
    for record in records:
        yield json.dumps(record).encode() + b"\n"


def _documents(corpus: Any) -> Iterator[dict[str, str]]:
    for key, title, text in _rows(corpus, "corpus"):
        yield {"_id": identifier(key, "document"), "title": _text(title, key), "text": _text(text, key)}


def _queries(queries: Any) -> Iterator[dict[str, str]]:
    for key, _, text in _rows(queries, "queries"):
        yield {"_id": identifier(key, "query"), "text": _text(text, key)}


def _judgements(qrels: Qrels) -> Iterator[bytes]:
    lines = [qrels_line(query, doc, grade).encode() for query, judged in qrels.items() for doc, grade in judged.items()]
    yield from [HEADER.encode() + b"\n", *lines] if lines else ()


def _rows(given: Any, what: str) -> Iterable[tuple[Any, Any, Any]]:
    """Id, title and text of each record."""
    if is_frame(given):
        return zip(*columns(given, ("id", "title", "text"), f"The DataFrame of the {what}"), strict=True)
    if not isinstance(given, Mapping):
        raise UserError(f"The {what} are a {type(given).__name__}; give a dict {{id: text}} or a DataFrame.")
    return ((key, *_fields(value, key)) for key, value in given.items())


def _fields(value: Any, key: Any) -> tuple[Any, Any]:
    if not isinstance(value, Mapping):
        return "", value
    if "text" not in value:
        raise UserError(f"The entry {key!r} has no 'text'; give {{'title': ..., 'text': ...}} or the text alone.")
    return value.get("title"), value["text"]


def _text(value: Any, key: Any) -> str:
    if value is None or (isinstance(value, float) and value != value):  # a missing title in a DataFrame
        return ""
    if not isinstance(value, str):
        raise UserError(f"The entry {key!r} holds {str(value)[:40]!r}, not a text; give each text as one string.")
    return replace_surrogates(value)
