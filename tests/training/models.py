"""A trainable model for these tests, and texts made of the words its tokenizer knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.tiny import DIM, transformer

WORDS = ["the", "heart", "pumps", "blood", "moon", "bread", "earth", "planet", "query", "passage", "word", "red"]


def texts(count: int, seed: int = 0) -> list[str]:
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(WORDS, size=draw.integers(2, 14))) for _ in range(count)]


def write_base(folder: Path, normalise: bool = True) -> Path:
    """A folder as all-mpnet-base-v2 is one: MPNet, mean pooling, Normalize."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize
    from sentence_transformers.sentence_transformer.modules import Pooling

    modules = [transformer(folder / "transformer", "mpnet"), Pooling(DIM, "mean"), *([Normalize()] * normalise)]
    SentenceTransformer(modules=modules).save_pretrained(str(folder / "base"), create_model_card=False)
    return folder / "base"


def columns_of(model: Any, rows: slice, count: int = 4) -> list[dict[str, Any]]:
    """Tokenised columns (queries, positives, negatives...) of some of the batch's rows."""
    return [model.preprocess(texts(40, seed)[rows]) for seed in range(count)]
