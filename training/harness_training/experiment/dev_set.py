"""The development set, which selects the checkpoint and provides the learning curves.

It consists of held-out training queries or of a BEIR folder with a split ``dev``, never of one of BEIR's test sets.
Measures: nDCG@10 (exact Euclidean search, trec_eval's rules), and isotropy and related values of the passage vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets.beir import open_dataset
from harness.datasets.catalog import catalogue
from harness.evaluation.in_memory import measure_vectors
from harness.storage.atomic import content_key
from harness.types import Progress, Qrels, Role, UserError
from harness_training.data.memory import Split
from harness_training.experiment.settings import Settings

MEASURE = "nDCG@10"
GEOMETRY = ("isotropy", "isotropy_debiased", "one_minus_mean_cosine", "effective_rank", "norm_mean")
MOST = 200_000
"""Maximum passages of a dev folder, which are encoded at every evaluation."""

Encode = Callable[[list[str], Role], NDArray[np.float32]]
"""(texts, role) -> float32 [n, d]."""


@dataclass(frozen=True, slots=True)
class DevSet:
    """Queries, passages and relevance judgements, by index."""

    name: str
    queries: list[str]
    documents: list[str]
    qrels: Qrels
    """Indices as strings: ``{"0": {"17": 1}}``."""

    @property
    def key(self) -> str:
        """Hash of the content."""
        return content_key([self.queries, self.documents, self.qrels])

    def measure(self, encode: Encode) -> dict[str, float]:
        """nDCG@10 and the geometry values that are defined."""
        documents = encode(self.documents, "document")
        if not np.isfinite(documents).all():
            return {MEASURE: 0.0}  # diverged; the trainer reports it at the next step
        scores, geometry = measure_vectors(
            documents,
            encode(self.queries, "query"),
            document_ids=[str(number) for number in range(len(documents))],
            query_ids=[str(number) for number in range(len(self.queries))],
            qrels=self.qrels,
            metrics=(MEASURE,),
            depth=10,
        )
        return scores | {name: float(geometry[name]) for name in GEOMETRY if geometry[name] is not None}


def held_out(split: Split, settings: Settings) -> DevSet:
    """Held-out queries with their passages and, up to ``dev_documents``, others of the training set."""
    ids = split.dev.ids
    queries = np.unique(ids[:, 0])
    own = np.unique(ids[:, 1:])
    others = split.passages[~np.isin(split.passages, own)]
    documents = np.concatenate([own, others[: max(0, settings.dev_documents - len(own))]])
    place = {int(text): str(number) for number, text in enumerate(documents)}
    number = {int(text): str(number) for number, text in enumerate(queries)}
    qrels: Qrels = {}
    for query, positive in ids[:, :2].tolist():
        qrels.setdefault(number[query], {})[place[positive]] = 1
    return DevSet("held-out", split.dev.text(queries.tolist()), split.dev.text(documents.tolist()), qrels)


def from_folder(folder: Path, home: Path, progress: Progress = lambda *_: None) -> DevSet:
    """The split ``dev`` of a BEIR folder. UserError for BEIR's test sets and folders without that split."""
    known = catalogue()
    forbidden = {*known.datasets, *known.groups}
    if folder.resolve().name.lower() in forbidden:
        raise UserError(
            f"{folder} is one of BEIR's test sets, on which no checkpoint may be chosen; omit --dev to hold out "
            f"training queries, or name another folder."
        )
    with open_dataset(folder, cache=home / "corpora", split="dev", progress=progress) as dataset:
        if dataset.name in forbidden or len(dataset.corpus) > MOST:
            what = "is one of BEIR's test sets" if dataset.name in forbidden else f"has over {MOST:,} passages"
            raise UserError(f"{folder} {what}, so no checkpoint is chosen on it; name another dev folder.")
        place = {document.id: str(number) for number, document in enumerate(dataset.corpus.iter())}
        documents = [document.content for document in dataset.corpus.iter()]
        queries = list(dataset.queries)
        qrels = {
            str(number): {place[key]: grade for key, grade in dataset.qrels[query.id].items() if key in place}
            for number, query in enumerate(queries)
            if query.id in dataset.qrels
        }
        return DevSet(dataset.name, [query.text for query in queries], documents, qrels)


def record(dev: DevSet) -> dict[str, Any]:
    """Its entry in run.json."""
    return {"name": dev.name, "queries": len(dev.queries), "documents": len(dev.documents), "key": dev.key}
