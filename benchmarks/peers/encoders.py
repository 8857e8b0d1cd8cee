"""SentenceTransformer.encode: default, in bfloat16, and with its ONNX and OpenVINO backends."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

BATCHES = {"cpu": (1, 8, 32), "cuda": (32, 64, 128, 256, 512)}
"""Batch sizes tried in the warm-up round on `TRIED` texts; the fastest is used."""
TRIED = {"cpu": 16, "cuda": 1024}
WARM = 4
"""Texts of the warm-up round for a fixed batch size."""


class Encoder:
    """``batch`` 0 selects the fastest of `BATCHES`; ``exported`` is the folder of converted models.

    ``attention`` is transformers' attn_implementation.
    """

    def __init__(
        self,
        texts: str,
        weights: str,
        threads: int,
        exported: str,
        dtype: str = "",
        backend: str = "",
        batch: int = 32,
        device: str = "cpu",
        attention: str = "",
    ) -> None:
        import torch

        torch.set_num_threads(threads)
        given = json.loads(Path(texts).read_text())
        self.texts, self.queries = given["texts"], given["queries"]
        self.note, self.device, self.attention = "", device, attention
        self.model = self._opened(weights, dtype, backend, threads, Path(exported))
        self.batch = batch

    def _opened(self, weights: str, dtype: str, backend: Any, threads: int, exported: Path) -> Any:
        import torch
        from sentence_transformers import SentenceTransformer

        settings: dict[str, Any] = {"device": self.device, "local_files_only": True}
        if not backend:
            chosen = {"attn_implementation": self.attention} if self.attention else {}
            given = {"dtype": getattr(torch, dtype or "float32"), **chosen}
            return SentenceTransformer(weights, model_kwargs=given, **settings)
        kept = exported / f"{backend}-{_digest(Path(weights))}"
        if not (kept / "modules.json").exists():
            SentenceTransformer(weights, backend=backend, model_kwargs={"export": True}, **settings).save_pretrained(
                str(kept)
            )
        if backend == "onnx":
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            kwargs = {"session_options": options, "provider": "CPUExecutionProvider"}
            return SentenceTransformer(str(kept), backend=backend, model_kwargs=kwargs, **settings)
        kwargs = {"ov_config": {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}}
        model = SentenceTransformer(str(kept), backend=backend, model_kwargs=kwargs, **settings)
        self.note = f"precision {_precision(model)}"
        return model

    def _quickest(self) -> int:
        tried = TRIED[self.device]
        step = max(1, len(self.texts) // tried)
        some = self.texts[::step][:tried]
        taken = {}
        for batch in BATCHES[self.device]:
            self._encode(some[:batch], batch)  # the first batch of a size allocates GPU memory and compiles kernels
            start = time.perf_counter()
            self._encode(some, batch)
            taken[batch] = time.perf_counter() - start
        return min(taken, key=taken.__getitem__)

    def _encode(self, texts: list[str], batch: int) -> Any:
        return self.model.encode(texts, batch_size=batch, show_progress_bar=False)

    def warm(self) -> None:
        """Encode a few texts, or find the best batch size."""
        self.batch = self.batch or self._quickest()
        self._encode(self.texts[:WARM], self.batch)

    def work(self) -> None:
        """Encode all texts."""
        start = time.perf_counter()
        self.vectors = self._encode(self.texts, self.batch)
        self.seconds = time.perf_counter() - start

    def answer(self) -> dict[str, Any]:
        """Vectors of documents and queries."""
        found = {"vectors": self.vectors, "batch": self.batch, "seconds": self.seconds}
        return {**found, "queries": self._encode(self.queries, self.batch)} if self.queries else found


def _digest(weights: Path) -> str:
    """Hash of the files that determine the vectors."""
    found = hashlib.sha256()
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        found.update((weights / name).read_bytes())
    return found.hexdigest()[:12]


def _precision(model: Any) -> str:
    """Precision of the compiled OpenVINO model."""
    inner = model[0].auto_model if hasattr(model[0], "auto_model") else model[0].model
    if inner.request is None:
        inner.compile()
    compiled = inner.request.get_compiled_model() if hasattr(inner.request, "get_compiled_model") else inner.request
    return str(compiled.get_property("INFERENCE_PRECISION_HINT")).strip("<>").replace("Type: ", "").strip("'")
