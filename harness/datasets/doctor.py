"""Examines a dataset for problems that would bias a metric, in one pass over the corpus.

Memory: about 50 bytes per document. Equal texts are found by their 64-bit hashes (with 15 million documents, the
probability of any collision is 1 in 160,000).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.datasets.beir import Dataset, dangling, some, splits
from harness.metrics.clusters import cluster_sentence

Severity = Literal["ok", "note", "problem"]
EXAMPLES = 3
CORRELATIONS = (0.1, 0.3, 1.0)
SELF_SHARE = 0.5
"""If at least this share of judged queries is in the corpus under its own id, exclude_self is recommended."""
SAME_WORDS = 0.8
"""If more than this share of a query's words is in the document with the same id, the two count as the same text."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence about the dataset. A problem biases metrics; a note does not."""

    severity: Severity
    sentence: str


@dataclass(frozen=True, slots=True)
class DuplicateTexts:
    """Non-empty texts that occur more than once."""

    groups: int
    """Distinct texts that occur more than once."""
    surplus: int
    """Records to remove so that every text occurs once."""
    examples: list[list[str]]
    """Ids of the first groups."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Result of `examine`."""

    name: str
    split: str
    splits: list[str]
    documents: int
    queries: int
    judgements: int
    queries_without_relevant: list[str]
    duplicate_documents: DuplicateTexts
    duplicate_queries: DuplicateTexts
    empty_documents: list[str]
    """Ids of documents without title and text."""
    empty_titles: int
    empty_queries: list[str]
    dangling: list[str]
    """Judged documents that are not in the corpus."""
    odd_ids: list[str]
    """Ids with characters that are white space in Python but not in C."""
    ids_on_both_sides: int
    """Queries whose id is also the id of a document."""
    same_text: int
    """Those of them that have the same text as that document."""
    exclude_self: bool
    clusters: dict[str, Any]
    """Clusters of queries that are not independent, as a result's manifest keeps them."""
    design_effect: dict[str, float]
    """Variance of a mean over that of as many independent queries, if queries of a cluster have this correlation."""
    document_characters: dict[str, float]
    """min, median, p95 and max of the length of title and text."""
    query_characters: dict[str, float]
    findings: list[Finding]

    def to_dict(self) -> dict[str, Any]:
        """The report as a dictionary for JSON."""
        return asdict(self)


def examine(dataset: Dataset) -> Diagnosis:
    """Examines a dataset; every document is read once."""
    corpus, queries, qrels = dataset.corpus, dataset.queries, dataset.qrels
    hashes = np.empty(len(corpus), np.uint64)
    lengths = np.empty(len(corpus), np.int64)
    empty_titles, odd = 0, []
    for row, document in enumerate(corpus.iter()):
        content = document.content
        hashes[row], lengths[row] = _hash(content), len(content)
        empty_titles += not document.title.strip()
        if document.id.split() != [document.id]:
            odd.append(document.id)
    ids = [query.id for query in queries]
    query_hashes = np.fromiter((_hash(query.text) for query in queries), np.uint64, len(queries))
    query_lengths = np.array([len(query.text.strip()) for query in queries])
    shared = [(query, int(row)) for query, row in zip(queries, corpus.rows(ids), strict=True) if row >= 0]
    clusters = dataset.clusters()
    facts: dict[str, Any] = {
        "name": dataset.name,
        "split": dataset.split,
        "splits": splits(dataset.folder),
        "documents": len(corpus),
        "queries": len(queries),
        "judgements": sum(map(len, qrels.values())),
        "queries_without_relevant": [each for each in ids if max(qrels[each].values()) <= 0],
        "duplicate_documents": _duplicates(hashes, lengths, corpus.ids),
        "duplicate_queries": _duplicates(query_hashes, query_lengths, lambda rows: [ids[row] for row in rows]),
        "empty_documents": corpus.ids(np.flatnonzero(lengths == 0)),
        "empty_titles": empty_titles,
        "empty_queries": [ids[row] for row in np.flatnonzero(query_lengths == 0)],
        "dangling": dangling(qrels, dataset.judged),
        "odd_ids": odd + [each for each in ids if each.split() != [each]],
        "ids_on_both_sides": len(shared),
        "same_text": sum(_same(query.text, corpus[row].content) for query, row in shared),
        "exclude_self": dataset.exclude_self,
        "clusters": clusters.record(),
        "design_effect": {f"{each:g}": _design_effect(clusters.sizes, each) for each in CORRELATIONS},
        "document_characters": _spread(lengths),
        "query_characters": _spread(query_lengths),
    }
    return Diagnosis(**facts, findings=list(_findings(facts)))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _same(query: str, content: str) -> bool:
    """Whether nearly every word of the query is in the document; its punctuation may have been edited."""
    words = set(query.casefold().split())
    return len(words & set(content.casefold().split())) > SAME_WORDS * len(words)


def _duplicates(hashes: NDArray[np.uint64], lengths: NDArray[Any], ids: Callable[[Any], list[str]]) -> DuplicateTexts:
    order = np.flatnonzero(lengths)
    order = order[np.argsort(hashes[order], kind="stable")]
    starts = np.flatnonzero(np.diff(hashes[order], prepend=~hashes[order[:1]]))
    sizes = np.diff(starts, append=len(order))
    groups = np.flatnonzero(sizes > 1)
    first = groups[np.argsort(order[starts[groups]])[:EXAMPLES]]
    examples = [ids(order[starts[group] :][: min(sizes[group], EXAMPLES)]) for group in first]
    return DuplicateTexts(len(groups), int(sizes[groups].sum()) - len(groups), examples)


def _spread(lengths: NDArray[Any]) -> dict[str, float]:
    points = {"min": 0, "median": 50, "p95": 95, "max": 100}
    return {name: float(np.percentile(lengths, share)) for name, share in points.items()}


def _design_effect(sizes: NDArray[np.int64], correlation: float) -> float:
    """Kish (1965): 1 + (the size of the average query's cluster - 1) x the correlation."""
    return float(1 + ((sizes**2).sum() / sizes.sum() - 1) * correlation)


def _findings(facts: dict[str, Any]) -> Iterator[Finding]:
    checks: list[tuple[str, Severity, str]] = [
        ("queries_without_relevant", "problem", "judged queries without a relevant document (they count 0)"),
        ("dangling", "problem", "judged documents that are not in the corpus"),
        ("empty_queries", "problem", "judged queries without text"),
        ("empty_documents", "note", "documents without title and text"),
    ]
    for name, severity, what in checks:
        ids = facts[name]
        yield Finding(severity, f"{len(ids)} {what}: {some(ids)}") if ids else Finding("ok", f"no {what}")
    for what in ("documents", "queries"):
        found: DuplicateTexts = facts[f"duplicate_{what}"]
        groups = "; ".join(" = ".join(group) for group in found.examples)
        repeats = Finding("note", f"{found.surplus} {what} repeat the text of another: {groups}")
        yield repeats if found.groups else Finding("ok", f"no two {what} with the same text")
    if odd := facts["odd_ids"]:
        what = "ids hold characters that Python takes for white space"
        programs = "trec_eval and the harness read a run with them, ir_measures and ranx do not"
        yield Finding("note", f"{len(odd)} {what} ({some([ascii(each)[1:-1] for each in odd])}): {programs}")
    untitled = facts["empty_titles"]
    if 0 < untitled < facts["documents"]:
        yield Finding("note", f"{untitled} of {facts['documents']} documents without a title")
    if shared := cluster_sentence(facts["clusters"], facts["queries"]):
        effects = ", ".join(f"{effect:.2f} at {each}" for each, effect in facts["design_effect"].items())
        yield Finding("note", f"{shared}; design effect by the correlation within clusters: {effects}")
    else:
        yield Finding("ok", "no two queries share a relevant document")
    yield _own_documents(facts["queries"], facts["ids_on_both_sides"], facts["same_text"], facts["exclude_self"])


def _own_documents(queries: int, shared: int, same: int, exclude_self: bool) -> Finding:
    if same >= SELF_SHARE * queries:
        many = f"{same} of {queries} judged queries are documents themselves"
        if exclude_self:
            return Finding("ok", f"{many}, and exclude_self leaves each out of its own ranking")
        return Finding("problem", f"{many} and would find themselves first: set exclude_self = true in dataset.toml")
    other = f"{shared - same} judged queries share their id with a document of another text"
    if exclude_self and shared > same:
        return Finding(
            "problem", f"{other}, which exclude_self would leave out: set it to false, or rename the queries"
        )
    if exclude_self:
        return Finding("note", f"exclude_self is set, though only {same} of {queries} judged queries are documents")
    return Finding("note", f"{other}; leave exclude_self off") if shared else Finding("ok", "no id on both sides")
