"""The libraries of approximate indexes behind one interface: FAISS (dense), Seismic (sparse), PLAID (token vectors)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.datasets.beir import Dataset
from harness.embeddings.store import Vectors
from harness.embeddings.token_vectors import TokenVectors
from harness.models.runner import Cost, Prepared, dataset_sparse_vectors, dataset_token_vectors, dataset_vectors
from harness.search import faiss_index, plaid_index, seismic_index
from harness.search.exact import Limits, search
from harness.search.index_config import IndexConfig
from harness.search.index_record import StoredIndex
from harness.search.maxsim import search_multivector
from harness.search.sparse import search_sparse
from harness.types import Hits, Role


class BuildRecord(Protocol):
    """What is recorded of an index when it is built."""

    @property
    def bytes(self) -> int:
        """Size of the index."""
        ...

    @property
    def build_seconds(self) -> float:
        """Time of training and adding."""
        ...

    @property
    def threads(self) -> int:
        """Number of threads that built it."""
        ...

    @property
    def sha256(self) -> str:
        """Of the index."""
        ...

    @property
    def vectors(self) -> str:
        """SHA-256 of the vectors."""
        ...


class IndexOnDisk(Protocol):
    """An index on disk."""

    @property
    def folder(self) -> Path:
        """Where it is."""
        ...

    @property
    def record(self) -> BuildRecord:
        """Its record."""
        ...


class IndexEngine(Protocol):
    """Exact and approximate search of the vectors of one model on one dataset, with all its queries."""

    library: str
    """The field of the record with the version of the library."""

    @property
    def costs(self) -> Mapping[Role, Cost]:
        """The costs of the vectors."""
        ...

    @property
    def vectors_bytes(self) -> int:
        """Bytes of the vectors that exact search reads."""
        ...

    def exact(self, depth: int) -> list[Hits]:
        """The exact hits of every query."""
        ...

    def build(self, config: IndexConfig) -> IndexOnDisk:
        """The stored index if it is valid, else a new one."""
        ...

    def load(self, built: Any, config: IndexConfig) -> Any:
        """The index in memory."""
        ...

    def search(self, index: Any, depth: int, config: IndexConfig) -> Any:
        """The library's own result for all queries; this is what is timed."""
        ...

    def hits(self, result: Any, index: Any) -> list[Hits]:
        """The hits in a result of `search`."""
        ...


class _Engine:
    """The vectors of a model on a dataset, which are opened, or computed, on first use."""

    read: Callable[[Prepared, Dataset], Mapping[Role, tuple[Any, Cost]]]

    def __init__(self, model: Prepared, dataset: Dataset, limits: Limits) -> None:
        self._model, self._limits = model, limits
        self._both = lru_cache(lambda: self.read(model, dataset))

    @property
    def costs(self) -> Mapping[Role, Cost]:
        """As `IndexEngine.costs`."""
        return {role: cost for role, (_, cost) in self._both().items()}


class FaissEngine(_Engine):
    """FAISS's indexes of dense vectors."""

    library = "faiss"

    read = staticmethod(dataset_vectors)

    @property
    def vectors_bytes(self) -> int:
        """As `IndexEngine.vectors_bytes`."""
        documents, _ = self._both()["document"]
        return int(len(documents) * documents.dim * np.dtype(self._model.ref.storage).itemsize)

    @cached_property
    def _summary(self) -> faiss_index.VectorSummary:
        return faiss_index.summarise(self._both()["document"][0])

    @cached_property
    def _queries(self) -> NDArray[np.float32]:
        queries: Vectors = self._both()["query"][0]
        return queries.gather(np.arange(len(queries)))

    def exact(self, depth: int) -> list[Hits]:
        """As `IndexEngine.exact`."""
        documents, mean = self._both()["document"][0], self._summary.mean
        return list(search(self._queries, documents, mean, depth, self._model.similarity, limits=self._limits))

    def build(self, config: IndexConfig) -> StoredIndex[faiss_index.IndexRecord]:
        """As `IndexEngine.build`."""
        documents, _ = self._both()["document"]
        similarity, home, progress = self._model.similarity, self._model.home, self._model.progress
        return faiss_index.build_index(config, documents, self._summary, similarity, home, progress)

    def load(self, built: StoredIndex[faiss_index.IndexRecord], config: IndexConfig) -> Any:
        """As `IndexEngine.load`."""
        return faiss_index.load_index(built, config)

    def search(self, index: Any, depth: int, config: IndexConfig) -> faiss_index.SearchResult:
        """As `IndexEngine.search`; the index has its search parameters."""
        return faiss_index.search_index(index, self._queries, depth)

    def hits(self, result: faiss_index.SearchResult, index: Any) -> list[Hits]:
        """As `IndexEngine.hits`."""
        return faiss_index.hits(result, self._model.similarity, self._queries, index)


class SeismicEngine(_Engine):
    """Seismic's index of sparse vectors."""

    library = "seismic"

    read = staticmethod(dataset_sparse_vectors)

    @cached_property
    def vectors_bytes(self) -> int:
        """As `IndexEngine.vectors_bytes`."""
        documents, _ = self._both()["document"]
        return sum(8 * shard.nnz + 4 * shard.shape[0] for shard in documents.shards())

    @cached_property
    def _digest(self) -> str:
        return seismic_index.digest_of(self._both()["document"][0])

    @cached_property
    def _queries(self) -> Any:
        return self._both()["query"][0].whole()

    @cached_property
    def _asked(self) -> tuple[Any, list[Any], list[Any]]:
        return seismic_index.queries_for_seismic(self._queries)

    def exact(self, depth: int) -> list[Hits]:
        """As `IndexEngine.exact`."""
        return list(search_sparse(self._queries, self._both()["document"][0], depth, limits=self._limits))

    def build(self, config: IndexConfig) -> StoredIndex[seismic_index.SeismicRecord]:
        """As `IndexEngine.build`."""
        documents, _ = self._both()["document"]
        return seismic_index.build_seismic(config, documents, self._digest, self._model.home, self._model.progress)

    def load(self, built: StoredIndex[seismic_index.SeismicRecord], config: IndexConfig) -> Any:
        """As `IndexEngine.load`."""
        return seismic_index.load_seismic(built)

    def search(self, index: Any, depth: int, config: IndexConfig) -> list[Any]:
        """As `IndexEngine.search`."""
        return seismic_index.search_seismic(index, self._asked, depth, config.search)

    def hits(self, result: list[Any], index: Any) -> list[Hits]:
        """As `IndexEngine.hits`."""
        return seismic_index.seismic_hits(result, self._queries.shape[0])


class PlaidEngine(_Engine):
    """fast-plaid's index of token vectors."""

    library = "fast_plaid"

    read = staticmethod(dataset_token_vectors)

    @property
    def vectors_bytes(self) -> int:
        """As `IndexEngine.vectors_bytes`."""
        documents, _ = self._both()["document"]
        return int(documents.stored_bytes(int(self._summary.counts.sum()), self._model.bases[0].ref.storage))

    @cached_property
    def _summary(self) -> plaid_index.TokenSummary:
        return plaid_index.summarise(self._both()["document"][0])

    @cached_property
    def _queries(self) -> TokenVectors:
        queries: TokenVectors = self._both()["query"][0].whole()
        return queries

    @cached_property
    def _asked(self) -> list[Any]:
        return plaid_index.queries_for_plaid(self._queries)

    def exact(self, depth: int) -> list[Hits]:
        """As `IndexEngine.exact`."""
        documents, similarity = self._both()["document"][0], self._model.similarity
        return list(search_multivector(self._queries, documents, depth, similarity, limits=self._limits))

    def build(self, config: IndexConfig) -> StoredIndex[plaid_index.PlaidRecord]:
        """As `IndexEngine.build`."""
        documents, _ = self._both()["document"]
        return plaid_index.build_plaid(config, documents, self._summary, self._model.home, self._model.progress)

    def load(self, built: StoredIndex[plaid_index.PlaidRecord], config: IndexConfig) -> plaid_index.LoadedPlaid:
        """As `IndexEngine.load`."""
        return plaid_index.load_plaid(built)

    def search(self, index: plaid_index.LoadedPlaid, depth: int, config: IndexConfig) -> list[Any]:
        """As `IndexEngine.search`."""
        return plaid_index.search_plaid(index, self._asked, depth, config.search)

    def hits(self, result: list[Any], index: Any) -> list[Hits]:
        """As `IndexEngine.hits`."""
        mean = self._model.similarity == "meanmaxsim"
        return plaid_index.plaid_hits(result, self._summary.counts, self._queries.counts, mean=mean)


ENGINES: Mapping[str, Callable[[Prepared, Dataset, Limits], IndexEngine]] = {
    "dense": FaissEngine,
    "sparse": SeismicEngine,
    "multivector": PlaidEngine,
}
"""Kind of vectors -> the library that indexes them."""
