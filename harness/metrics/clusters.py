"""Clusters: queries that are not independent, because they share relevant documents or belong to one declared group.

Queries that share a judged-relevant document succeed and fail together, so that a mean over them varies more than one
over as many independent queries. Every interval and test here takes whole clusters for its sample instead.

What links two queries, the first of these rules under which no cluster is too large:

- ``group``: the dataset declares groups (``query_group`` in dataset.toml): those, whatever their sizes;
- ``document``: they share a relevant document, directly or through other queries (connected components);
- ``half``: they share at least half of the relevant documents that either has;
- ``all``: they have the same relevant documents.

A cluster is too large if it has more than `LARGEST` of the queries: a test that flips it whole can show nothing, and an
interval from a few clusters of such sizes covers too rarely. Under a finer rule some sharing is left between clusters,
so the intervals of such a dataset may be too narrow; `Clusters.sentence` says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.types import Qrels

Values = NDArray[np.float64]
Codes = NDArray[np.int64]
Rule = Literal["group", "document", "half", "all"]
FINER = ("half", "all")
"""Rules under which sharing is left between clusters."""
LARGEST = 0.1
"""Share of the queries in one cluster above which the next finer rule is tried; `FEW` queries are always allowed."""
FEW = 10
PAIRS = 20_000_000
"""Pairs of queries with a common document above which the rule ``half`` is skipped."""
LINKS = {
    "group": "are of one group of the dataset",
    "document": "share a relevant document",
    "half": "share at least half of their relevant documents",
    "all": "have the same relevant documents",
}


@dataclass(frozen=True, slots=True)
class Clusters:
    """The cluster of every query."""

    codes: Codes
    """[queries]; clusters are numbered by their first query."""
    rule: Rule
    linked: int
    """Queries in the largest cluster under the rule ``document`` (or ``group``)."""

    @property
    def sizes(self) -> Codes:
        """Number of queries by cluster."""
        return np.bincount(self.codes).astype(np.int64)

    @property
    def trivial(self) -> bool:
        """Whether every cluster is a single query."""
        return len(self.sizes) == len(self.codes)

    def record(self) -> dict[str, Any]:
        """What a result's manifest keeps of them."""
        largest = int(self.sizes.max(initial=0))
        return {"rule": self.rule, "clusters": len(self.sizes), "largest": largest, "linked": self.linked}

    def sentence(self) -> str:
        """What they say about the dataset; empty if every query is independent of the others."""
        return cluster_sentence(self.record(), len(self.codes))


def cluster_sentence(record: Mapping[str, Any], queries: int) -> str:
    """`Clusters.sentence` from what a manifest keeps; empty if every query is independent of the others."""
    rule, counts = str(record.get("rule")), [record.get(name) for name in ("clusters", "largest", "linked")]
    if rule not in LINKS or not all(isinstance(count, int) for count in counts):
        return ""
    count, largest, linked = counts
    clusters = f"{count:,} clusters of queries that {LINKS[rule]} (the largest has {largest:,})"
    if rule not in FINER:
        return f"the {queries:,} queries are {clusters}" if count != queries else ""
    return (
        f"{linked:,} of the {queries:,} queries hang together by shared relevant documents, too many for one cluster; "
        f"taken instead are {clusters}; what is shared between these is not in the intervals, which may be too narrow: "
        f"little can be said of differences on this dataset"
    )


def query_clusters(qrels: Qrels, query_ids: Sequence[str], groups: Mapping[str, str] | None = None) -> Clusters:
    """The clusters of these queries.

    Args:
        qrels: Their judgements; relevant is a grade above 0.
        query_ids: The queries, in the order of the codes.
        groups: Query id -> group, where the dataset declares groups.
    """
    if groups:
        codes = _numbered([groups[query] for query in query_ids])
        return Clusters(codes, "group", _largest(codes))
    relevant = [frozenset(doc for doc, grade in qrels[query].items() if grade > 0) for query in query_ids]
    codes = _sharing(relevant, 0.0)
    linked, rule, allowed = _largest(codes), "document", max(FEW, LARGEST * len(relevant))
    if linked > allowed and _pairs(relevant) <= PAIRS:
        codes, rule = _sharing(relevant, 0.5), "half"
    if _largest(codes) > allowed:
        codes, rule = _numbered([documents or place for place, documents in enumerate(relevant)]), "all"
    return Clusters(codes, rule, linked)  # type: ignore[arg-type]


def per_cluster(values: Values, codes: Codes | None) -> Values:
    """One value per cluster, [clusters] or [runs, clusters], from values [queries] or [runs, queries].

    Their mean is the mean over the queries, and their variance over their number is its cluster-robust variance
    (Liang and Zeger 1986, with the factor G / (G - 1)), so that whatever takes queries for a sample takes these
    instead. Without clusters (None) the values themselves.
    """
    if codes is None:
        return values
    mean = values.mean(axis=-1, keepdims=True)
    sums = cluster_sums(values - mean, codes)
    return np.asarray(mean + sums * (sums.shape[-1] / len(codes)))


def cluster_sums(values: Values, codes: Codes | None) -> Values:
    """The sum over each cluster, [clusters] or [runs, clusters]: what a randomisation test flips as a whole."""
    if codes is None:
        return values
    count = int(codes.max()) + 1
    rows = [np.bincount(codes, weights=row, minlength=count) for row in np.atleast_2d(values)]
    return np.array(rows if values.ndim > 1 else rows[0], np.float64)


def design_effect(values: Values, codes: Codes | None) -> float:
    """The variance of the mean of values [queries] over that of as many independent queries (Kish 1965)."""
    if codes is None:
        return 1.0
    clustered = per_cluster(values, codes)
    independent = values.var(ddof=1) / len(values) if len(values) > 1 else 0.0
    return float(clustered.var(ddof=1) / len(clustered) / independent) if independent and len(clustered) > 1 else 1.0


def _numbered(names: Sequence[object]) -> Codes:
    """Codes by first appearance."""
    known: dict[object, int] = {}
    return np.fromiter((known.setdefault(name, len(known)) for name in names), np.int64, len(names))


def _largest(codes: Codes) -> int:
    return int(np.bincount(codes).max(initial=0))


def _pairs(relevant: Sequence[frozenset[str]]) -> int:
    counts: dict[str, int] = {}
    for documents in relevant:
        for document in documents:
            counts[document] = counts.get(document, 0) + 1
    return sum(count * count for count in counts.values())


def _sharing(relevant: Sequence[frozenset[str]], share: float) -> Codes:
    """Connected components of queries that have more than nothing, and at least the share of all, in common."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    known: dict[str, int] = {}
    columns = [known.setdefault(document, len(known)) for documents in relevant for document in documents]
    sizes = np.array([len(documents) for documents in relevant], np.int64)
    n, rows = len(relevant), np.repeat(np.arange(len(relevant)), sizes)
    if share:
        incidence = csr_matrix((np.ones(len(rows)), (rows, columns)), (n, len(known)))
        common = (incidence @ incidence.T).tocoo()
        union = sizes[common.row] + sizes[common.col] - common.data
        linked = common.data >= share * union
        graph = csr_matrix((common.data[linked], (common.row[linked], common.col[linked])), (n, n))
    else:
        places = n + np.array(columns, np.int64)
        graph = csr_matrix((np.ones(len(rows)), (rows, places)), (n + len(known),) * 2)
    return _numbered(connected_components(graph, directed=False)[1][:n].tolist())
