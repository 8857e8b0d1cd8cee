"""A trainable model for these tests, and texts made of the words its tokenizer knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.tiny import DIM, transformer

WORDS = ["the", "heart", "pumps", "blood", "moon", "bread", "earth", "planet", "query", "passage", "word", "red"]


def texts(count: int, seed: int = 0) -> list[str]:
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(WORDS, size=draw.integers(2, 14))) for _ in range(count)]


def write_base(folder: Path, normalise: bool = True, calm: float = 1.0) -> Path:
    """A folder as all-mpnet-base-v2 is one: MPNet, mean pooling, Normalize.

    With ``calm`` below 1 the random layers and positions are scaled down, so that what is left is nearly the mean of
    the words' embeddings, from which there is something to learn.
    """
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize
    from sentence_transformers.sentence_transformer.modules import Pooling

    modules = [transformer(folder / "transformer", "mpnet"), Pooling(DIM, "mean"), *([Normalize()] * normalise)]
    with torch.no_grad():
        for name, parameter in modules[0].named_parameters():
            if "word_embeddings" not in name and "LayerNorm" not in name:
                parameter *= calm
    SentenceTransformer(modules=modules).save_pretrained(str(folder / "base"), create_model_card=False)
    return folder / "base"


def build_model(
    base: Path, sample: list[str], *, dim: int = 512, init: Any = "pca", seed: int = 0, max_seq_length: int = 0
) -> Any:
    """The base with a head set from its embeddings of the sample, as training starts."""
    from harness_training.model.head import add_head, check_sizes, head, load_base, projection

    encoder = load_base(base, max_seq_length=max_seq_length)
    check_sizes(encoder, base, dim, len(sample))
    vectors = encoder.encode_document(sample, batch_size=64, convert_to_tensor=True, show_progress_bar=False)
    return add_head(encoder, head(*projection(vectors.cpu(), dim, init, seed)))


def columns_of(model: Any, rows: slice, count: int = 4) -> list[dict[str, Any]]:
    """Tokenised columns (queries, positives, negatives...) of some of the batch's rows."""
    return [model.preprocess(texts(40, seed)[rows]) for seed in range(count)]


def write_pairs(file: Path, rows: int = 200, seed: int = 0) -> Path:
    """Triplets that can be learnt: a query and its passage share three letters; the words between are noise."""
    draw = np.random.default_rng(seed)

    def with_noise(letters: Any) -> str:
        return " ".join(draw.permutation([*letters, *draw.choice(WORDS, 4)]))

    marks = [draw.choice(list("abcdefghijklmnopqrstuvwxyz"), 3, replace=False) for _ in range(2 * rows)]
    lines = [
        {"query": with_noise(own), "positive": with_noise(own), "negative": with_noise(other)}
        for own, other in zip(marks[:rows], marks[rows:], strict=True)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file
