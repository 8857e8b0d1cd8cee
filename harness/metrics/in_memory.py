"""Judgements and runs in memory: nested dicts, and DataFrames with the column names of common libraries."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from harness.metrics.qrels import LARGEST
from harness.metrics.ranking import Ranking, rank
from harness.storage.columns import BLANK
from harness.types import Qrels, UserError

NAMES: Mapping[str, tuple[str, ...]] = {
    "query": ("query_id", "query-id", "qid", "q_id", "topic"),
    "document": ("doc_id", "corpus-id", "corpus_id", "docno", "docid", "did"),
    "relevance": ("relevance", "rel", "label", "score", "grade"),
    "score": ("score", "sim", "relevance"),
    "id": ("_id", "id", "doc_id", "docno", "docid", "corpus_id", "query_id", "qid"),
    "text": ("text", "query", "body", "contents"),
    "title": ("title",),
}
"""Column -> its names in DataFrames of ir_datasets, ir_measures, PyTerrier and others; the first found counts."""


def is_frame(thing: object) -> bool:
    """Whether it is a DataFrame (of pandas, or one with the same methods)."""
    return hasattr(thing, "columns") and hasattr(thing, "to_dict")


def columns(frame: Any, wanted: Sequence[str], what: str) -> list[list[Any]]:
    """The values of these columns of `NAMES`; UserError if one is missing. A title may be."""
    found = []
    for column in wanted:
        name = next((name for name in NAMES[column] if name in frame.columns), None)
        if name is None and column == "title":
            found.append([""] * len(frame))
            continue
        if name is None:
            names = ", ".join(map(str, frame.columns))
            raise UserError(
                f"{what} has no column {' or '.join(NAMES[column][:3])} (it has {names}); rename one of them."
            )
        found.append(frame[name].tolist())
    return found


def identifier(value: Any, what: str) -> str:
    """An id as text, integers too; UserError if a TREC run cannot hold it."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value or BLANK.search(value) or re.search("[\ud800-\udfff]", value):
        raise UserError(
            f"The {what} id {value!r} is not text without white space, which a TREC run needs; rename it everywhere."
        )
    return value


def qrels_of(given: Any) -> Qrels:
    """Judgements of a nested dict ``{query: {document: relevance}}`` or a DataFrame."""
    found: Qrels = {}
    for query, document, value in _triples(given, ("query", "document", "relevance"), "qrels"):
        try:
            grade = operator.index(int(value) if isinstance(value, float) and value.is_integer() else value)
        except TypeError:
            grade = LARGEST + 1
        if abs(grade) > LARGEST:
            raise UserError(
                f"The relevance {value!r} of document {document} for query {query} is not an integer of 32 bits."
            )
        judged = found.setdefault(identifier(query, "query"), {})
        if judged.setdefault(identifier(document, "document"), grade) != grade:
            raise UserError(f"The qrels judge document {document} for query {query} {grade}, and earlier otherwise.")
    return found


def rankings_of(given: Any) -> Iterator[Ranking]:
    """Rankings of a nested dict ``{query: {document: score}}`` or a DataFrame, ordered as those of a run file."""
    run: dict[str, dict[str, float]] = {}
    for query, document, value in _triples(given, ("query", "document", "score"), "run"):
        scores = run.setdefault(identifier(query, "query"), {})
        name = identifier(document, "document")
        if name in scores:
            raise UserError(f"The run ranks document {name} twice for query {query}; keep one of the two.")
        try:
            scores[name] = float(value)
        except (TypeError, ValueError):
            scores[name] = np.nan
        if np.isnan(scores[name]):
            raise UserError(f"The score {value!r} of document {name} for query {query} is not a number.")
    for query, scores in run.items():
        yield rank(query, [*scores], np.array([*scores.values()], np.float64), len(scores) or 1)


def _triples(given: Any, wanted: Sequence[str], what: str) -> Iterable[Sequence[Any]]:
    if is_frame(given):
        return zip(*columns(given, wanted, f"The DataFrame of the {what}"), strict=True)
    if isinstance(given, Mapping) and all(isinstance(inner, Mapping) for inner in given.values()):
        return ((query, document, value) for query, inner in given.items() for document, value in inner.items())
    raise UserError(
        f"The {what} are a {type(given).__name__}; give a dict {{query: {{document: {wanted[2]}}}}}, a DataFrame, or a "
        f"file's path."
    )
