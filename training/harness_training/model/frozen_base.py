"""Trains only the head, on base embeddings that are computed once per text."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness.types import Role
from harness_training.data.memory import TrainingRows
from harness_training.experiment.dev_set import DevSet, Encode
from harness_training.model.base_embeddings import BaseEmbeddings

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Embedded = Callable[[str, list[int]], torch.Tensor]
"""(column name, text indices) -> base embeddings [n, h]."""


def embed_rows(rows: TrainingRows, embeddings: BaseEmbeddings) -> Embedded:
    """Load base embeddings of all texts of the rows into memory (MS MARCO's 500,000 triplets: 4 GB)."""
    roles: dict[Role, NDArray[np.int64]] = {"query": np.unique(rows.ids[:, 0]), "document": np.unique(rows.ids[:, 1:])}
    vectors = {role: embeddings.of(rows.text(places.tolist()), role) for role, places in roles.items()}

    def look_up(column: str, places: list[int]) -> torch.Tensor:
        role: Role = "query" if column == rows.columns[0] else "document"
        return torch.from_numpy(vectors[role][np.searchsorted(roles[role], places)])

    return look_up


def head_encoder(model: SentenceTransformer, dev: DevSet, embeddings: BaseEmbeddings) -> Encode:
    """Encoder of the dev set's texts that applies the head to base embeddings computed once."""
    vectors: dict[Role, NDArray[np.float32]] = {
        "query": embeddings.of(dev.queries, "query"),
        "document": embeddings.of(dev.documents, "document"),
    }

    def encode(texts: list[str], role: Role) -> NDArray[np.float32]:
        model.eval()
        with torch.no_grad():
            features: dict[str, Any] = {"sentence_embedding": torch.from_numpy(vectors[role]).to(model.device)}
            out: NDArray[np.float32] = model(features)["sentence_embedding"].float().cpu().numpy()
        return out

    return encode
