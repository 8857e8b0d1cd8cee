"""Exact search of sparse vectors by scipy's product, and by sentence-transformers' similarity of a `SparseEncoder`.

From texts to rankings: `SparseEncoder` alone, and mteb's wrapper of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from benchmarks.peers.retrieval import read as read_texts

QUERIES, DOCUMENTS = 64, 50_000
"""Queries per product of scipy; documents per chunk of sentence-transformers' evaluator."""


def read(file: str) -> Any:
    """The rows of a .npz file that `benchmarks.runner.synthetic.sparse_vectors` wrote."""
    from benchmarks.runner.synthetic import TERMS

    with np.load(file, allow_pickle=False) as stored:
        starts, terms, weights = stored["starts"], stored["terms"], stored["weights"]
    return scipy.sparse.csr_array((weights, terms, starts), (len(starts) - 1, TERMS))


class Scipy:
    """The product of two CSR arrays, then the largest of every row."""

    def __init__(self, documents: str, queries: str, k: int) -> None:
        self.documents, self.queries, self.k = read(documents).T.tocsr(), read(queries), k

    def work(self) -> dict[str, Any]:
        """Rows and scores [queries, k]."""
        rows = np.empty((self.queries.shape[0], self.k), np.int64)
        scores = np.empty(rows.shape)
        for start in range(0, len(rows), QUERIES):
            dense = (self.queries[start : start + QUERIES] @ self.documents).toarray()
            best = np.argpartition(-dense, self.k - 1, axis=1)[:, : self.k]
            own = np.take_along_axis(dense, best, axis=1)
            order = np.argsort(-own, axis=1)
            rows[start : start + QUERIES] = np.take_along_axis(best, order, axis=1)
            scores[start : start + QUERIES] = np.take_along_axis(own, order, axis=1)
        return {"rows": rows, "scores": scores}


class Similarity:
    """`SparseEncoder.similarity` in chunks of documents, as sentence-transformers' evaluator does it."""

    def __init__(self, documents: str, queries: str, k: int) -> None:
        from sentence_transformers.util import dot_score

        found, self.k, self.similarity = read(documents), k, dot_score
        self.chunks = [_tensor(found[start : start + DOCUMENTS]) for start in range(0, found.shape[0], DOCUMENTS)]
        self.queries = _tensor(read(queries))

    def work(self) -> dict[str, Any]:
        """Rows and scores [queries, k]."""
        import torch

        scores, rows, start = [], [], 0
        for chunk in self.chunks:
            found = self.similarity(self.queries, chunk)
            best = (found.to_dense() if found.is_sparse else found).topk(min(self.k, chunk.shape[0]), dim=1)
            scores.append(best.values)
            rows.append(best.indices + start)
            start += chunk.shape[0]
        both = torch.cat(scores, dim=1).topk(self.k, dim=1)
        return {"rows": torch.cat(rows, dim=1).gather(1, both.indices).numpy(), "scores": both.values.double().numpy()}


def _tensor(rows: Any) -> Any:
    import torch

    coordinates = rows.tocoo()
    places = torch.from_numpy(np.stack([coordinates.row, coordinates.col]).astype(np.int64))
    return torch.sparse_coo_tensor(places, torch.from_numpy(coordinates.data), rows.shape).coalesce()


class TextsEncoded:
    """`SparseEncoder`: encode_document, encode_query, similarity, and the largest of every row."""

    def __init__(self, folder: str, model: str, k: int) -> None:
        from sentence_transformers import SparseEncoder

        corpus, queries, _ = read_texts(Path(folder))
        self.documents = [f"{each['title']} {each['text']}".strip() for each in corpus.values()]
        self.queries, self.k = list(queries.values()), k
        self.model = SparseEncoder(model, device="cpu", local_files_only=True)

    def work(self) -> dict[str, Any]:
        """Rows and scores [queries, k]."""
        documents = self.model.encode_document(self.documents, batch_size=32, show_progress_bar=False)
        queries = self.model.encode_query(self.queries, batch_size=32, show_progress_bar=False)
        found = self.model.similarity(queries, documents)
        best = (found.to_dense() if found.is_sparse else found).topk(self.k, dim=1)
        return {"rows": best.indices.numpy(), "scores": best.values.double().numpy()}


class Mteb:
    """mteb's SparseEncoderWrapper in its SearchEncoderWrapper, as `mteb.evaluate` calls them."""

    def __init__(self, folder: str, model: str, k: int) -> None:
        import mteb
        from datasets import Dataset
        from mteb.models import SearchEncoderWrapper, SparseEncoderWrapper

        corpus, queries, _ = read_texts(Path(folder))
        self.order = {document: row for row, document in enumerate(corpus)}
        self.corpus = Dataset.from_list([{"id": name, **fields} for name, fields in corpus.items()])
        self.queries = Dataset.from_list([{"id": name, "text": text} for name, text in queries.items()])
        [task] = mteb.get_tasks(tasks=["SciFact"])
        encode = {"show_progress_bar": False, "batch_size": 32}
        self.given: dict[str, Any] = {"task_metadata": task.metadata, "hf_split": "test", "hf_subset": "default"}
        self.given["encode_kwargs"] = encode
        self.model = SearchEncoderWrapper(SparseEncoderWrapper(model, device="cpu", local_files_only=True))
        self.k = k

    def work(self) -> dict[str, Any]:
        """Rows and scores [queries, k]; rows below 0 where there is no document."""
        self.model.index(self.corpus, **self.given)
        found = self.model.search(self.queries, top_k=self.k, **self.given)
        rows, scores = np.full((len(self.queries), self.k), -1), np.zeros((len(self.queries), self.k))
        for at, query in enumerate(self.queries["id"]):
            best = sorted(found[query].items(), key=lambda pair: -pair[1])
            rows[at, : len(best)] = [self.order[name] for name, _ in best]
            scores[at, : len(best)] = [score for _, score in best]
        return {"rows": rows, "scores": scores}
