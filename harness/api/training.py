"""`training_evaluator`: nDCG@10 and isotropy during training, for sentence-transformers' and transformers' trainers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.api.evaluate import load_dataset
from harness.datasets.beir import Dataset
from harness.evaluation.in_memory import measure_vectors
from harness.metrics.depth import DEPTH
from harness.metrics.measures import measure_names
from harness.registry.model_ref import missing_extra
from harness.registry.objects import ObjectEncoder
from harness.types import UserError

if TYPE_CHECKING:
    from harness.api.trainer_evaluator import TrainingEvaluator

GEOMETRY = ("isotropy",)


@dataclass(frozen=True, slots=True)
class DevSet:
    """A dataset in memory, for evaluations of a model whose weights change."""

    name: str
    documents: list[str]
    document_ids: list[str]
    dataset: Dataset
    """Its queries and judgements."""
    metrics: tuple[str, ...]

    def measure(self, model: Any) -> dict[str, float]:
        """The metrics of a model with ``encode``, and the isotropy of its document vectors.

        The search is exact, and the rules are those of `harness.evaluate`. Vectors are not stored.
        """
        encoder = ObjectEncoder(model)
        documents = encoder.encode(self.documents, role="document")
        queries = encoder.encode([query.text for query in self.dataset.queries], role="query")
        if not (np.isfinite(documents).all() and np.isfinite(queries).all()):
            return dict.fromkeys(self.metrics, 0.0)  # diverged
        scores, geometry = measure_vectors(
            documents,
            queries,
            document_ids=self.document_ids,
            query_ids=[query.id for query in self.dataset.queries],
            qrels=self.dataset.qrels,
            metrics=self.metrics,
            similarity=encoder.similarity,
            depth=DEPTH,
            exclude_self=self.dataset.exclude_self,
        )
        return scores | {name: float(geometry[name]) for name in GEOMETRY if geometry[name] is not None}


def training_evaluator(
    dataset: Any,
    *,
    metrics: str | Iterable[str] = ("nDCG@10",),
    split: str | None = None,
    limit: int | None = None,
    name: str = "",
    offline: bool | None = None,
) -> TrainingEvaluator:
    """An evaluator for training loops: nDCG@10 by exact search, and the isotropy of the document vectors.

    It is an evaluator of sentence-transformers (``SentenceTransformerTrainer(evaluator=...)``) and a callback of
    transformers (``Trainer(callbacks=[...])``, whose model must have ``encode``): then its values are among the metrics
    of each evaluation, as ``eval_NAME_nDCG@10``. The documents are encoded at each evaluation and kept in memory, so
    choose a small dataset, and not the test set that results are reported on.

    Args:
        dataset: As for `harness.evaluate`.
        metrics: Names as in ir_measures; the first selects the best checkpoint.
        split: Which judgements (default: what the dataset says, else test).
        limit: Only this many judged queries.
        name: Before the names of the values; default: the dataset's.
        offline: Open no connection.

    Returns:
        The evaluator.

    Raises:
        UserError: There is no such dataset or metric, or sentence-transformers is not installed.
    """
    try:
        from harness.api.trainer_evaluator import TrainingEvaluator
    except ImportError as error:
        lacking = [str(error.name or "sentence_transformers").partition(".")[0]]
        raise UserError(missing_extra("harness.training_evaluator()", lacking, "dense")) from None
    names = measure_names(metrics if isinstance(metrics, str) else " ".join(metrics))
    with load_dataset(dataset, split=split, limit=limit, offline=offline) as opened:
        documents = [document.content for document in opened.corpus.iter()]
        ids = opened.corpus.ids(slice(None))
    return TrainingEvaluator(DevSet(name or opened.label, documents, ids, opened, names))
