"""Our batches against SentenceTransformer.encode: MiniLM, the same texts, the peer as it comes and in bfloat16."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import torch
from sentence_transformers import SentenceTransformer

from benchmarks.pydocs import pydocs
from harness.cli.main import State
from harness.encode import encode_texts
from harness.prepared import Prepared
from harness.registry import load_registry

DOCUMENTS = 300


def contest() -> dict[str, Callable[[], object]]:
    """Contestant -> work."""
    texts = [document.content for document in islice(pydocs().corpus.iter(), DOCUMENTS)]
    registry, home = load_registry(), State().home
    ours = {dtype: Prepared(registry.model(f"minilm:dtype={dtype}"), home) for dtype in ("bfloat16", "float32")}
    folder = str(ours["float32"].ref.options["path"])
    peer = SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": torch.float32}, local_files_only=True)
    half = SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": torch.bfloat16}, local_files_only=True)
    return {
        "harness, bfloat16": lambda: encode_texts(ours["bfloat16"].dense, "minilm", texts, "document"),
        "harness, float32": lambda: encode_texts(ours["float32"].dense, "minilm", texts, "document"),
        "sentence-transformers, float32": lambda: peer.encode(texts, show_progress_bar=False),
        "sentence-transformers, bfloat16": lambda: half.encode(texts, show_progress_bar=False),
    }
