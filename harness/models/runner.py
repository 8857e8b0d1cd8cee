"""Models at work: weights are found and verified at once; the model is loaded when something must be computed."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property, partial
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np

from harness.datasets.beir import Dataset
from harness.download import hub_models, local_weights, pinned_models
from harness.embeddings.batch_size import tune
from harness.embeddings.derived import Derived
from harness.embeddings.encode import Tally, encode_collection
from harness.embeddings.formats import DENSE, FORMATS, MULTIVECTOR
from harness.embeddings.multivector import MultiVectors
from harness.embeddings.pooling import pooled
from harness.embeddings.sparse import SparseVectors
from harness.embeddings.store import Shard, Vectors, VectorStore
from harness.embeddings.transform import fit, mean_and_covariance, transformed
from harness.errors import plugin_code, trace
from harness.models.canary import check_canaries
from harness.registry.load_fallback import settle
from harness.registry.model_ref import ModelRef
from harness.registry.protocols import Affine, Fusion, Pooling, Reranker, Transform
from harness.storage.atomic import content_key
from harness.storage.remote import RemoteCache
from harness.system.budget import Budget
from harness.system.heap import trim_heap
from harness.system.log import NOTE
from harness.types import (
    ROLES,
    SIMILARITIES,
    DenseModel,
    EncoderModel,
    Hits,
    LexicalModel,
    ModelError,
    PluginError,
    Progress,
    Role,
    Similarity,
    UserError,
)

V = TypeVar("V")


class Cost(NamedTuple):
    """The cost of computing vectors, now or in an earlier run."""

    seconds: float
    tokens: int


class Prepared:
    """One model of a benchmark, its members likewise. UserError when an extra or its weights are missing or altered."""

    def __init__(
        self,
        ref: ModelRef,
        home: Path,
        *,
        offline: bool = False,
        progress: Progress = lambda *_: None,
        shared: RemoteCache | None = None,
        tries: bool = True,
        budget: Budget | None = None,
    ) -> None:
        """Finds and verifies the weights.

        ``budget``: what models behind a server may send; None for no limit.
        ``tries``: whether a model whose options only loading can validate is loaded to learn its fallback (see
        `settle`).
        """
        ref.require()
        ref = _with_files(ref, home, offline, progress)
        common: dict[str, Any] = {"offline": offline, "progress": progress, "shared": shared, "budget": budget}
        common["tries"] = tries
        self.members = [Prepared(each, home, **common) for each in ref.members]
        self.ref: ModelRef = dataclasses.replace(ref, members=tuple(each.ref for each in self.members))
        if ref.spec.kind == "transform":
            _require_vectors(self.members[0])
        if ref.spec.kind == "pooling":
            _require_token_vectors(self.members[0])
        self.home, self.progress, self.label, self.shared = home, progress, self.ref.label, shared
        self.offline, self.budget = offline, budget or Budget()
        self._similarity: Similarity | None = None
        self._tuned = False
        self._failure: ModelError | PluginError | None = None
        self._vectors: dict[tuple[str, Role], tuple[Any, Cost]] = {}
        self.tallies: dict[Role, Tally] = {}
        """Counters of encoded texts, until `rates` reads and resets them."""
        seen: set[str] = set()
        while tries and self.ref.on_trial and self.ref.own_key not in seen:  # what it falls back to may fall back, too
            seen.add(self.ref.own_key)
            if (settled := settle(self.ref, home, lambda: self._loaded, progress)) is not self.ref:
                self.ref, self._failure = settled, None
        if ref.spec.kind == "fusion":  # options that do not fit the members are refused before any work
            nothing = [Hits(np.empty(0, np.int64), np.empty(0))] * len(self.members)
            with plugin_code(f"{self.label}: fuse() raised", type(self.fusion).__module__, passing=(UserError,)):
                self.fusion.fuse(nothing)
        if ref.spec.kind == "transform" and (dim := int(self.chain[0].ref.figures.get("dim", 0))):  # likewise
            fit(self.chain[1], np.zeros(dim), np.eye(dim))

    @cached_property
    def _loaded(self) -> Any:
        """The loaded model. A load that failed is not tried again: the same error is raised."""
        if self._failure is not None:
            raise self._failure
        try:
            return self._load()
        except (ModelError, PluginError) as error:
            kind = ModelError if isinstance(error, ModelError) else PluginError
            self._failure = kind(str(error))
            self._failure.trace = trace(error)  # the traceback itself would keep what was loaded in memory
            raise

    def _load(self) -> Any:
        self.progress(f"loading {self.label}", 0, 0)
        spec, folder = self.ref.spec, Path(str(self.ref.options.get("path")))
        if self.ref.endpoint:
            return self._connected()
        if spec.files.weights is None:
            return self.ref.load()
        with ThreadPoolExecutor(1) as checker:  # hash in the background: bit rot does not change the mtime
            check = checker.submit(local_weights.verify_again, spec.files.weights, folder)
            try:
                return self.ref.load()
            finally:
                try:
                    check.result()
                except UserError as error:
                    raise ModelError(str(error)) from error

    def _connected(self) -> Any:
        """The model behind a server, if it is the one whose vectors are stored."""
        address = self.ref.endpoint
        if self.offline:
            raise ModelError(
                f"{self.label} runs at {address}, and the network is switched off; what is stored can be used, the "
                f"rest needs a command without --offline (or HARNESS_OFFLINE)."
            )
        self.progress(f"{NOTE}{self.label}: texts are sent to {address}", 0, 0)
        model = self.ref.load()
        model.budget = self.budget
        if self.ref.spec.kind == "reranker":
            folders = {"pair": self.home / "reranked" / self.ref.own_key[:32]}
        else:  # each side's vectors may be shared with another prompt of the other side
            folders = {role: self.home / "vectors" / self.ref.side_key(role)[:32] for role in ROLES}
        files = {side: folder / f"canaries-{side}.json" for side, folder in folders.items()}
        check_canaries(model, self.label, files, self.progress)
        return model

    def unload(self) -> None:
        """Unloads the model and closes open files; called when the model has no work left in this process."""
        loaded = vars(self).pop("_loaded", None) is not None
        self._tuned = False  # the size is an attribute of the loaded model
        self._vectors.clear()
        for member in self.members:
            member.unload()
        if loaded and self.ref.spec.kind in (*FORMATS, "reranker"):  # those that may hold gigabytes of weights
            gc.collect()  # torch's modules hold reference cycles
            trim_heap()

    @property
    def encoder(self) -> EncoderModel:
        """The loaded model, whichever kind of vectors it gives; PluginError if it gives none."""
        if not isinstance(self._loaded, EncoderModel):
            raise PluginError(f"{self.label}: its load() gave no model with dim and encode(texts, *, role).")
        return self._loaded

    @property
    def dense(self) -> DenseModel:
        """The loaded model, of a dense descriptor; PluginError if it gives no vectors."""
        return cast(DenseModel, self.encoder)

    @property
    def lexical(self) -> LexicalModel:
        """The loaded model; PluginError if it is not a lexical model."""
        if not isinstance(self._loaded, LexicalModel):
            raise PluginError(
                f"{self.label}: its load() gave no model with build(documents, directory) "
                f"and search(directory, queries, k)."
            )
        return self._loaded

    @property
    def fusion(self) -> Fusion:
        """The loaded model; PluginError if it is not a fusion."""
        if not isinstance(self._loaded, Fusion):
            raise PluginError(f"{self.label}: its load() gave no model with depth and fuse(lists).")
        return self._loaded

    @property
    def reranker(self) -> Reranker:
        """The loaded model; PluginError if it is not a reranker."""
        if not isinstance(self._loaded, Reranker):
            raise PluginError(f"{self.label}: its load() gave no model with depth and score(pairs).")
        return self._loaded

    @property
    def transform(self) -> Transform:
        """The loaded model; PluginError if it is not a transform."""
        if not isinstance(self._loaded, Transform):
            raise PluginError(f"{self.label}: its load() gave no model with fit(mean, covariance).")
        return self._loaded

    @property
    def pooling(self) -> Pooling:
        """The loaded model; PluginError if it is not a pooling."""
        if not isinstance(self._loaded, Pooling):
            raise PluginError(f"{self.label}: its load() gave no model with pool(vectors).")
        return self._loaded

    @property
    def bases(self) -> list[Prepared]:
        """The models with vectors that it is made of, itself included."""
        if self.ref.spec.kind in FORMATS:
            return [self]
        return [base for member in self.members for base in member.bases]

    @cached_property
    def chain(self) -> tuple[Prepared, list[Prepared]]:
        """The dense model that transforms start from, and the transforms, the first applied first."""
        if self.ref.spec.kind != "transform":
            return self, []
        base, before = self.members[0].chain
        return base, [*before, self]

    @property
    def similarity(self) -> Similarity:
        """How the vectors are compared.

        The stored vectors say so, else the loaded model, else its descriptor (for a transform, its member).

        PluginError if it is none of the three.
        """
        if self.ref.spec.kind == "pooling":
            return self.members[0].similarity
        if self._similarity is None:
            changed = self.ref.spec.kind == "transform"
            known = SIMILARITIES["dense" if changed else self.ref.spec.kind]
            stated = getattr(self.transform if changed else self.encoder, "similarity", None)
            own = self.ref.spec.similarity
            stated = stated or (self.members[0].similarity if changed else own if own in known else known[0])
            if stated not in known:
                listed = ", ".join(known)
                raise PluginError(f"{self.label}: its similarity is {stated!r}, which is none of {listed}.")
            self._similarity = stated
        return self._similarity

    def _checked_similarity(self) -> Similarity:
        """How the vectors will be compared; PluginError, before a text is encoded, where that or ``dim`` is wrong."""
        self._require_dim(self._positive("dim", self.encoder.dim))
        return self.similarity

    @property
    def depth(self) -> int:
        """How many hits of each member a fusion or a reranker reads; PluginError if it is not a positive integer."""
        if self.ref.endpoint and (stated := self.ref.options.get("depth")):  # without a connection
            return self._positive("depth", stated)
        return self._positive("depth", (self.fusion if self.ref.spec.kind == "fusion" else self.reranker).depth)

    def _positive(self, what: str, value: Any) -> int:
        if not isinstance(value, Integral) or value < 1:
            raise PluginError(f"{self.label}: its {what} is {value!r}; it must be a positive integer.")
        return int(value)

    def store(self, role: Role) -> VectorStore:
        """Where its vectors are kept."""
        storage = self.ref.storage if role == "document" else "float32"
        form = FORMATS.get(self.ref.spec.kind, DENSE)
        shared = None if self.ref.endpoint else self.shared  # nobody knows which model others met behind that name
        return VectorStore(self.home, self.ref.side_key(role), role, storage, shared, form)

    def vectors(
        self, collection: str, texts: Callable[[], Iterator[str]], total: int, role: Role
    ) -> tuple[Vectors, Cost]:
        """Dense vectors of a collection, which is named by a hash of its content.

        The stored ones if they are complete, else computed now. Later calls return the same object.
        """
        return self._collection(collection, texts, total, role, self.opened)

    def opened(self, store: VectorStore, shards: Sequence[Shard], similarity: Similarity | None = None) -> Vectors:
        """The vectors of its shards as they are compared: truncated if so wished, then of unit length for cosine.

        Args:
            store: Of one side.
            shards: The shards.
            similarity: How the vectors are compared, if it is known without loading the model.
        """
        if shards:
            self._require_dim(shards[0].dim)
        normalise = (similarity or self.similarity) == "cosine"
        return Vectors.open(store, shards, normalise=normalise, dim=self.ref.truncate_dim)

    def _require_dim(self, dim: int) -> None:
        if self.ref.truncate_dim > dim:
            raise ModelError(
                f"{self.label}: its vectors have {dim} dimensions, which truncate_dim={self.ref.truncate_dim} exceeds; "
                f"give {dim} at most."
            )

    def sparse_vectors(
        self, collection: str, texts: Callable[[], Iterator[str]], total: int, role: Role
    ) -> tuple[SparseVectors, Cost]:
        """As `vectors`, of a sparse model."""
        return self._collection(collection, texts, total, role, SparseVectors.open)

    def token_vectors(
        self, collection: str, texts: Callable[[], Iterator[str]], total: int, role: Role
    ) -> tuple[MultiVectors, Cost]:
        """As `vectors`, of a multi-vector model."""
        return self._collection(collection, texts, total, role, MultiVectors.open)

    def _collection(
        self,
        collection: str,
        texts: Callable[[], Iterator[str]],
        total: int,
        role: Role,
        opened: Callable[[VectorStore, list[Shard]], V],
    ) -> tuple[V, Cost]:
        if (known := self._vectors.get((collection, role))) is not None:
            return known
        store = self.store(role)
        found = store.read_list(collection)
        if found is None or sum(shard.rows for shard in found[0]) != total:
            similarity = self._checked_similarity()
            tally = self.tallies.setdefault(role, Tally())
            if self.ref.spec.kind == "dense" and not self._tuned:
                self._tuned = tune(self.dense, self.label, self.ref.own_key, self.home, total, self.progress)
            shards = encode_collection(self.encoder, self.label, texts(), total, store, role, self.progress, tally)
            store.write_list(collection, shards, similarity)
        else:
            shards, self._similarity = found
        cost = Cost(sum(s.seconds for s in shards), sum(s.tokens for s in shards))
        both = opened(store, shards), cost
        self._vectors[collection, role] = both
        return both


def _with_files(ref: ModelRef, home: Path, offline: bool, progress: Progress) -> ModelRef:
    """The model with the folder of its weights, which are found, downloaded if need be, and verified."""
    weights = ref.spec.files.weights
    if weights is not None and (given := ref.options.get("path")):
        local_weights.verify(weights, Path(str(given)), home)
    elif weights is not None:
        ref = ref.replace(path=str(pinned_models.obtain(weights, home, offline=offline, progress=progress)))
    if ref.spec.files.repository and not ref.options.get("path"):
        ref = ref.replace(path=str(hub_models.obtain(ref.repository, home, offline=offline, progress=progress)))
    return ref.of_folder()


def _require_vectors(model: Prepared) -> None:
    """ModelError for a model without dense vectors. Of a model of the hub, this is known when it is there."""
    if not model.ref.has_vectors:
        raise ModelError(
            f"{model.label} is a {model.ref.spec.kind} model, which has no dense vectors; name a dense one."
        )


def _require_token_vectors(model: Prepared) -> None:
    """As `_require_vectors`, of a pooling's member."""
    if model.ref.vectors != "multivector":
        raise ModelError(f"{model.label} is a {model.ref.spec.kind} model; name a multi-vector one.")


def dataset_vectors(model: Prepared, dataset: Dataset) -> dict[Role, tuple[Vectors, Cost]]:
    """A dataset's document and query vectors, from the store or computed now."""
    _require_vectors(model)
    if model.ref.spec.kind == "transform":
        return _transformed_vectors(model, dataset)
    return _both(model.vectors, dataset)


def dataset_sparse_vectors(model: Prepared, dataset: Dataset) -> dict[Role, tuple[SparseVectors, Cost]]:
    """As `dataset_vectors`, of a sparse model."""
    return _both(model.sparse_vectors, dataset)


def dataset_token_vectors(model: Prepared, dataset: Dataset) -> dict[Role, tuple[MultiVectors, Cost]]:
    """As `dataset_vectors`, of a multi-vector model, or of a pooling of one."""
    if model.ref.spec.kind != "pooling":
        return _both(model.token_vectors, dataset)
    both = dataset_token_vectors(model.members[0], dataset)
    documents, cost = both["document"]
    collection = dataset.corpus.sha256
    store = pooling_store(model)
    report = partial(model.progress, f"pooling token vectors with {model.label} (documents)")
    derived = Derived(store, collection, model.similarity, report)
    shards = pooled(documents, lambda: model.pooling, model.label, derived)
    own = Cost(cost.seconds + sum(shard.seconds for shard in shards), cost.tokens)
    return {**both, "document": (MultiVectors.open(store, shards), own)}


def pooling_store(model: Prepared) -> VectorStore:
    """Where the pooled vectors of documents are kept."""
    key = content_key({"pooling": model.ref.own_key, "of": model.members[0].ref.key})
    return VectorStore(model.home, key, "document", model.bases[0].ref.storage, model.shared, MULTIVECTOR)


def transform_store(model: Prepared, fitted_on: str, role: Role, *, normalised: bool) -> VectorStore:
    """Where the transformed vectors of one side are kept.

    Args:
        model: The transform, the last one of its chain.
        fitted_on: The hash of the corpus.
        role: The side.
        normalised: Whether the vectors that it starts from have unit length.
    """
    base, steps = model.chain
    parts = {"steps": [step.ref.own_key for step in steps], "of": base.ref.key, "fitted_on": fitted_on}
    key = content_key({**parts, "normalised": normalised})
    return VectorStore(model.home, key, role, shared=None if base.ref.endpoint else model.shared)


def _both(vectors: Callable[[str, Callable[[], Iterator[str]], int, Role], V], dataset: Dataset) -> dict[Role, V]:
    corpus, queries = dataset.corpus, dataset.queries
    documents = vectors(corpus.sha256, lambda: (d.content for d in corpus.iter()), len(corpus), "document")
    asked = vectors(dataset.fingerprint["queries"], lambda: (q.text for q in queries), len(queries), "query")
    return {"document": documents, "query": asked}


def _transformed_vectors(model: Prepared, dataset: Dataset) -> dict[Role, tuple[Vectors, Cost]]:
    """Those of the member it starts from, as they are compared (of unit length for cosine), mapped.

    The map is fitted on this dataset's documents: queries and judgements play no part, but another corpus gives
    another map, so the corpus is part of the vectors' key.
    """
    base, steps = model.chain
    both = dataset_vectors(base, dataset)
    documents, similarity = both["document"][0], model.similarity

    def fitted() -> Affine:
        with plugin_code(f"{model.label} raised"):
            return fit(steps, *mean_and_covariance(documents))

    affine = cache(fitted)
    found: dict[Role, tuple[Vectors, Cost]] = {}
    collections: dict[Role, str] = {"document": dataset.corpus.sha256, "query": dataset.fingerprint["queries"]}
    for role, (source, cost) in both.items():
        store = transform_store(model, dataset.corpus.sha256, role, normalised=documents.normalise)
        report = partial(model.progress, f"transforming {role} vectors with {model.label} (vectors)")
        shards = transformed(source, affine, Derived(store, collections[role], similarity, report))
        vectors = Vectors.open(store, shards, normalise=similarity == "cosine")
        found[role] = vectors, Cost(cost.seconds + sum(shard.seconds for shard in shards), cost.tokens)
    return found
