"""all-MiniLM-L6-v2 as published: 384 dimensions, at most 256 tokens, mean pooling, vectors of length one."""

from __future__ import annotations

from collections.abc import Iterable

from harness import ModelFacts, ModelSpec, hookimpl
from harness_plugins.model_folder.pinned import MINILM
from harness_plugins.sentence_transformers.checkpoint import pinned_model


@hookimpl
def harness_models() -> Iterable[ModelSpec]:
    """Register the model; the harness downloads and verifies its weights, then sets the option ``path``."""
    flops = 2 * 6 * (4 * 384**2 + 2 * 384 * 1536)  # layers x (attention + feed-forward)
    facts = ModelFacts(384, flops, parameters=22_713_216, max_tokens=256, licence="apache-2.0")
    yield pinned_model(MINILM, "sentence-transformers/all-MiniLM-L6-v2, untouched", facts)
