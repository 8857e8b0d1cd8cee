"""Hubness: how unevenly documents share the top ranks.

N_k of a document is the number of queries with it among their k best (its k-occurrence; Radovanovic, Nanopoulos and
Ivanovic, JMLR 2010). A few hubs and many antihubs make its distribution skewed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

TOP = 10


class Hubness:
    """Counts over a run; memory grows with k times the queries, not with the corpus."""

    def __init__(self, k: int = TOP):
        self.k = k
        self._counts: Counter[str] = Counter()

    def add(self, doc_ids: Sequence[str]) -> None:
        """Counts one query's documents, best first; those after the k-th are not looked at."""
        self._counts.update(doc_ids[: self.k])

    def summary(self, n_documents: int, queries: int) -> dict[str, float | int | None]:
        """Skewness of N_k over the whole corpus (population form; None where all counts are equal), the share of the
        queries that have the commonest document in their top k, and the share of documents in no top k (antihubs)."""
        if n_documents < len(self._counts):
            raise ValueError(f"{len(self._counts)} documents were retrieved from a corpus of {n_documents}")
        sizes = Counter(self._counts.values())
        sizes[0] = n_documents - len(self._counts)
        mean = self._counts.total() / n_documents if n_documents else 0.0
        second, third = (sum(times * (size - mean) ** power for size, times in sizes.items()) for power in (2, 3))
        return {
            "k": self.k,
            "queries": queries,
            "documents": n_documents,
            "skewness": third / n_documents / (second / n_documents) ** 1.5 if second else None,
            "largest_share": max(sizes) / queries if queries else None,
            "antihub_share": sizes[0] / n_documents if n_documents else None,
        }
