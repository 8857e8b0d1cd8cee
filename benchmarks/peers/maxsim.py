"""MaxSim of all documents by maxsim-cpu and by sentence-transformers, then the best of every query."""

from __future__ import annotations

from typing import Any

import numpy as np

DIM = 128


class _Peer:
    """All scores of one query at a time."""

    def __init__(self, documents: str, queries: str, tokens: int, asked: int, k: int) -> None:
        self.documents = np.load(documents, allow_pickle=False).reshape(-1, tokens, DIM)
        self.queries, self.k = np.load(queries, allow_pickle=False).reshape(-1, asked, DIM), k

    def scores(self, query: Any) -> Any:
        """MaxSim of a query [asked, dim] and every document."""
        raise NotImplementedError

    def work(self) -> dict[str, Any]:
        """Rows and scores [queries, k]."""
        rows = np.empty((len(self.queries), self.k), np.int64)
        scores = np.empty(rows.shape)
        for at, query in enumerate(self.queries):
            found = self.scores(query)
            best = np.argpartition(-found, self.k - 1)[: self.k]
            rows[at] = best[np.argsort(-found[best])]
            scores[at] = found[rows[at]]
        return {"rows": rows, "scores": scores}


class MaxsimCpu(_Peer):
    """The package maxsim-cpu."""

    def scores(self, query: Any) -> Any:
        """As `_Peer.scores`."""
        import maxsim_cpu

        return np.asarray(maxsim_cpu.maxsim_scores(query, self.documents))


class SentenceTransformers(_Peer):
    """`MultiVectorEncoder.similarity`, all queries at once, in chunks of documents as its evaluator does it."""

    CHUNK = 5_000

    def work(self) -> dict[str, Any]:
        """Rows and scores [queries, k]."""
        import torch
        from sentence_transformers.util import maxsim

        asked, parts = torch.from_numpy(self.queries), []
        for start in range(0, len(self.documents), self.CHUNK):
            parts.append(maxsim(asked, torch.from_numpy(self.documents[start : start + self.CHUNK])))
        best = torch.cat(parts, dim=1).topk(self.k, dim=1)
        return {"rows": best.indices.numpy(), "scores": best.values.double().numpy()}
