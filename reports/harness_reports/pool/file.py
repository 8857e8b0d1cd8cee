"""The file for annotators: TREC's qrels, with ``?`` for a grade and the texts in comments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from harness.types import Document, UserError
from harness_reports.pool.choose import PoolCandidate

OPEN = "?"
"""Stands for a grade that nobody has given yet."""
UNKNOWN = "its text is not on this machine"


def text(
    title: str, candidates: Sequence[PoolCandidate], queries: Mapping[str, str], documents: Mapping[str, Document]
) -> str:
    """The content of the file.

    Args:
        title: What the candidates are of.
        candidates: In order.
        queries: Query -> its text, where it is known.
        documents: Document -> its text, where it is known.

    Raises:
        UserError: For an id that begins with ``#``, which would make its line a comment.
    """
    return "\n".join([*_head(title), *(line for each in candidates for line in _entry(each, queries, documents)), ""])


def _head(title: str) -> Iterator[str]:
    yield f"# {_line(title)}"
    yield f"# Replace each {OPEN} by a grade: 0 not relevant, 1 or more relevant. Lines with a # are comments."


def _entry(each: PoolCandidate, queries: Mapping[str, str], documents: Mapping[str, Document]) -> Iterator[str]:
    if each.query_id.startswith("#"):
        raise UserError(f"The query id {each.query_id!r} begins with #, which marks a comment; rename that query.")
    document = documents.get(each.doc_id)
    yield "#"
    yield f"# query {each.query_id}: {_line(queries.get(each.query_id, '')) or UNKNOWN}"
    yield f"# document {each.doc_id}: {_line(f'{document.title} {document.text}') if document else UNKNOWN}"
    yield f"# ranks: {_line(', '.join(f'{model} {place}' for model, place in each.places.items()))}"
    yield f"{each.query_id} 0 {each.doc_id} {OPEN}"


def _line(words: str) -> str:
    """The text on one line, without characters that are not shown."""
    return "".join(c if c.isprintable() else "\ufffd" for c in " ".join(words.split()))
