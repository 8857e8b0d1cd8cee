"""all-mpnet-base-v2 as published: 768 dimensions, at most 384 tokens, mean pooling, vectors of length one."""

from __future__ import annotations

from collections.abc import Iterable

from harness import ModelFacts, ModelSpec, hookimpl
from harness_plugins.model_folder.pinned import MPNET
from harness_plugins.sentence_transformers.checkpoint import pinned_model


@hookimpl
def harness_models() -> Iterable[ModelSpec]:
    """Register the model; the harness downloads and verifies its weights, then sets the option ``path``."""
    flops = 2 * 12 * (4 * 768**2 + 2 * 768 * 3072)  # layers x (attention + feed-forward)
    facts = ModelFacts(768, flops, parameters=109_486_464, max_tokens=384, licence="apache-2.0")
    yield pinned_model(MPNET, "sentence-transformers/all-mpnet-base-v2, untouched", facts)
