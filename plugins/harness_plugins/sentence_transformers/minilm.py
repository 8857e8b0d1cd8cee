"""all-MiniLM-L6-v2 as published: 384 dimensions, at most 256 tokens, mean pooling, vectors of length one."""

from __future__ import annotations

from collections.abc import Iterable

from harness import ModelSpec, hookimpl
from harness_plugins.model_folder.pinned import MINILM
from harness_plugins.sentence_transformers.checkpoint import pinned_model


@hookimpl
def harness_models() -> Iterable[ModelSpec]:
    """Register the model; the harness downloads and verifies its weights, then sets the option ``path``."""
    flops = 2 * 6 * (4 * 384**2 + 2 * 384 * 1536)  # layers x (attention + feed-forward)
    yield pinned_model(MINILM, "sentence-transformers/all-MiniLM-L6-v2, untouched", dim=384, flops_per_token=flops)
