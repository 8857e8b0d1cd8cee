"""Registered models for other people's evaluations: what beir's EvaluateRetrieval and mteb.evaluate ask of a model.

Either is given a model of any kind, lexical and fused ones included: both also take a thing that searches, and
searching is done here, exactly and by our one rule for ties. The caller needs beir or mteb; this module does not.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets.beir import Dataset
from harness.datasets.corpus import open_corpus
from harness.datasets.jsonl import replace_surrogates
from harness.embeddings.encode import encode_texts
from harness.metrics.ranking import rank
from harness.models.runner import Prepared
from harness.registry.manager import load_registry
from harness.registry.model_ref import missing_extra
from harness.results.mteb_tasks import tasks
from harness.results.store import slug
from harness.search.exact import Limits
from harness.search.retrieve import retrieve
from harness.storage.atomic import content_key, write_file
from harness.storage.columns import BLANK
from harness.system.paths import make_home_folder
from harness.system.timer import Clock
from harness.types import Document, Query, Role, UserError

Found = dict[str, dict[str, float]]
"""query id -> document id -> score; greater is better, equal where documents tie."""


def beir_model(model: str, *, plugins: Iterable[Path] = ()) -> BeirModel:
    """What stands after ``-m``, for beir: ``EvaluateRetrieval(beir_model("mpnet")).retrieve(corpus, queries)``.

    Its weights are downloaded if they are missing, its vectors cached in $HARNESS_HOME. UserError as of `harness
    benchmark`.
    """
    return BeirModel(_prepared("beir_model", model, plugins))


def mteb_model(model: str, *, plugins: Iterable[Path] = ()) -> MtebModel:
    """What stands after ``-m``, for mteb: ``mteb.evaluate(mteb_model("mpnet"), tasks)``. Otherwise as `beir_model`."""
    _require_name("mteb_model", model)
    if find_spec("mteb") is None:
        raise UserError(missing_extra("harness.mteb_model", ["mteb"], "mteb"))
    return MtebModel(_prepared("mteb_model", model, plugins))


class BeirModel:
    """A retriever as beir's `BaseSearch`; a dense one also encodes, for beir's DenseRetrievalExactSearch."""

    def __init__(self, model: Prepared) -> None:
        self.model = model

    def search(
        self, corpus: Mapping[str, Mapping[str, str]], queries: Mapping[str, str], top_k: int, *_: Any, **__: Any
    ) -> Found:
        """The ``top_k`` best documents of every query, a document of the query's own id left out, as beir does.

        Vectors are compared as the model says; beir's ``score_function`` is not looked at.
        """
        ids, documents = [*corpus], (_content(d, f"Document {i!r}") for i, d in corpus.items())
        return _search(self.model, ids, documents, [*queries.items()], top_k, exclude_self=True)

    def encode_queries(self, queries: Sequence[str], batch_size: int = 0, **_: Any) -> NDArray[np.float32]:
        """float32 [n, dim]; batches are the harness's business. UserError where vectors compare by distance."""
        return self._encode(queries, "query")

    def encode_corpus(self, corpus: Sequence[Mapping[str, str]], batch_size: int = 0, **_: Any) -> NDArray[np.float32]:
        """As `encode_queries`."""
        documents = [Document("", *_content(d, f"Document {n} of the list")) for n, d in enumerate(corpus)]
        return self._encode([document.content for document in documents], "document")

    def _encode(self, texts: Sequence[str], role: Role) -> NDArray[np.float32]:
        if _dense(self.model).similarity == "euclidean":
            raise UserError(
                f"{self.model.label} compares vectors by distance, which DenseRetrievalExactSearch does not do; "
                f"hand the model itself to EvaluateRetrieval."
            )
        checked = [_text(text, f"Text {n} of the list") for n, text in enumerate(texts)]
        vectors: NDArray[np.float32] = encode_texts(self.model.dense, self.model.label, checked, role)
        return vectors


class MtebModel:
    """mteb's SearchProtocol for any model; a dense one also meets its EncoderProtocol, for other tasks."""

    def __init__(self, model: Prepared) -> None:
        self.model = model
        self._corpus: Any = None

    @cached_property
    def mteb_model_meta(self) -> Any:
        """Name, revision (the model's key) and the tasks it was trained on, as far as known; nothing is loaded."""
        from mteb.models import ModelMeta

        seen = {tasks()[name].name for name in self.model.ref.trained_on if name in tasks()}
        stated = {"name": f"retrieval-harness/{slug(self.model.label)}", "revision": self.model.ref.key[:12]}
        return ModelMeta.create_empty(stated | {"training_datasets": seen or None})

    def index(self, corpus: Any, **_: Any) -> None:
        """Remembers the corpus (a `datasets.Dataset` with id, text and maybe title) for the searches that follow."""
        self._corpus = corpus

    def search(self, queries: Any, *, top_k: int, top_ranked: Any = None, **_: Any) -> Found:
        """The ``top_k`` best documents of every query, of those in ``top_ranked`` where a reranking task names some."""
        ids, documents = self._corpus["id"], (_content(row, f"Document {row['id']!r}") for row in self._corpus)
        depth = len(self._corpus) if top_ranked is not None else top_k
        found = _search(self.model, [*ids], documents, [_query(row) for row in queries], depth, exclude_self=False)
        if top_ranked is None:
            return found
        among = {query: {*top_ranked.get(query, ())} for query in found}
        return {q: {d: score for d, score in scores.items() if d in among[q]} for q, scores in found.items()}

    def encode(self, inputs: Any, *, prompt_type: Any = None, **_: Any) -> NDArray[np.float32]:
        """float32 [n, dim]; texts of no role (clustering, similarity) are encoded as documents."""
        texts = [text for batch in inputs for text in batch["text"]]
        role: Role = "query" if getattr(prompt_type, "value", prompt_type) == "query" else "document"
        vectors: NDArray[np.float32] = encode_texts(_dense(self.model).dense, self.model.label, texts, role)
        return vectors

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """[n1, n2]; greater is nearer."""
        from sentence_transformers import SimilarityFunction

        return SimilarityFunction.to_similarity_fn(_dense(self.model).similarity)(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """[n]; greater is nearer."""
        from sentence_transformers import SimilarityFunction

        return SimilarityFunction.to_similarity_pairwise_fn(_dense(self.model).similarity)(embeddings1, embeddings2)


def _require_name(function: str, model: object) -> None:
    if not isinstance(model, str):
        raise TypeError(
            f"{function}() takes a model's name, as after -m on the command line, such as 'minilm' or a folder's path; "
            f"got {type(model).__name__}"
        )


def _prepared(function: str, text: str, plugins: Iterable[Path]) -> Prepared:
    _require_name(function, text)
    return Prepared(load_registry(plugins).model(text), make_home_folder(), offline=offline_here())


def offline_here() -> bool:
    """Whether the environment says that no connection may be opened."""
    return any(os.environ.get(name, "").lower() in ("1", "true", "yes", "on") for name in OFFLINE)


OFFLINE = ("HARNESS_OFFLINE", "HF_HUB_OFFLINE")


def _dense(model: Prepared) -> Prepared:
    if model.ref.spec.kind != "dense":
        raise UserError(f"{model.label} makes no vectors, which this evaluation asks for; name a dense model.")
    return model


def _query(row: Mapping[str, Any]) -> tuple[str, str]:
    """Mteb puts an instruction after the query's text."""
    if not isinstance(row["text"], str):
        raise UserError(f"Query {row['id']} is a conversation; only queries of one text can be searched for.")
    return row["id"], f"{row['text']} {row['instruction']}" if row.get("instruction") else row["text"]


def _content(fields: Mapping[str, Any], what: str) -> tuple[str, str]:
    """Title and text of a document; either may be missing."""
    title, text = (_text("" if fields.get(key) is None else fields[key], what) for key in ("title", "text"))
    return title, text


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{what} is {str(value)[:40]!r}, not a text; give each document and query as one string.")
    return replace_surrogates(value)


def _internal(ids: Sequence[Any], asked: Sequence[Any]) -> tuple[list[str], list[str]]:
    """Ids of documents and queries as a corpus and a run may have them, which beir's and mteb's need not be.

    Where any cannot be kept, documents are numbered in the order of their ids, which decides ties. A query has its
    document's id where that is its own.
    """
    texts, queries = [str(each) for each in ids], [str(each) for each in asked]
    if all(text and not UNFIT.search(text) for text in texts) and len({*texts}) == len(texts):
        return texts, queries
    width = len(str(len(texts)))
    number = {place: f"{n:0{width}}" for n, place in enumerate(sorted(range(len(texts)), key=texts.__getitem__))}
    numbers = [number[place] for place in range(len(texts))]
    own = dict(zip(texts, numbers, strict=True))
    return numbers, [own.get(text, f"q{place}") for place, text in enumerate(queries)]


UNFIT = re.compile(BLANK.pattern + "|[\\ud800-\\udfff]")


def _search(
    model: Prepared,
    ids: Sequence[Any],
    contents: Iterable[tuple[str, str]],
    asked: Sequence[tuple[Any, Any]],
    k: int,
    *,
    exclude_self: bool,
) -> Found:
    """Rankings as a benchmark makes them; scores are those of the run file, which compare as float32."""
    doc_ids, query_ids = _internal(ids, [key for key, _ in asked])
    queries = [Query(i, _text(text, f"Query {key!r}")) for i, (key, text) in zip(query_ids, asked, strict=True)]
    if not ids or not queries:
        return {key: {} for key, _ in asked}
    documents = (Document(i, *content) for i, content in zip(doc_ids, contents, strict=True))
    given = dict(zip(doc_ids, ids, strict=True))
    with _dataset(documents, queries, exclude_self) as dataset:
        hits = retrieve(model, dataset, k, Clock(), Limits()).hits
        found = {}
        for (key, _), query, (rows, scores) in zip(asked, queries, hits, strict=True):
            exclude = query.id if exclude_self else None
            ranking = rank(query.id, dataset.corpus.ids(rows), scores, k, exclude=exclude)
            values = ranking.scores.astype(float).tolist()
            found[key] = {given[doc_id]: value for doc_id, value in zip(ranking.doc_ids, values, strict=True)}
        return found


@contextmanager
def _dataset(documents: Iterable[Document], queries: list[Query], exclude_self: bool) -> Iterator[Dataset]:
    """The documents as a corpus on disk, for as long as it is searched; without judgements."""

    def lines() -> Iterator[bytes]:
        for document in documents:
            yield f"{json.dumps({'_id': document.id, 'title': document.title, 'text': document.text})}\n".encode()

    with tempfile.TemporaryDirectory(prefix="harness-") as place:
        folder = Path(place)
        write_file(folder / "corpus.jsonl", lambda stream: stream.writelines(lines()))
        corpus = open_corpus(folder / "corpus.jsonl", folder / "cache", None)
        fingerprint = {"corpus": corpus.sha256, "queries": content_key([list(query) for query in queries])}
        with Dataset("texts", folder, "test", exclude_self, "", corpus, queries, {}, fingerprint, []) as dataset:
            yield dataset
