"""The FlexAttention pass against transformers: hidden states in float32 and bfloat16, vectors of the whole model."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.models import REAL, SHAPES, model_folder
from benchmarks.gpu.part import Record, Setup, use_gpu_pass
from benchmarks.runner.contest import ROOT, unit

LARGEST_DIFFERENCE = 1e-3
"""Of a float32 hidden state, whose size is about 1; rounding gives 1e-5, a wrong mask or bias more than 0.01."""
LEAST_MEAN, LEAST = 0.999, 0.995
"""Cosines of bfloat16 to float32: of hidden states on average, and of the worst vector."""


def run(setup: Setup, record: Record) -> None:
    """A row for each model and dtype."""
    use_gpu_pass(setup)
    for name in SHAPES:
        try:
            _check(name, setup, record)
        except Exception as error:  # one model must not stop the other
            record.fail(f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
    record.note(
        "hidden states of FlexAttentionModel, and vectors of the double-buffered encoder, compared with transformers' "
        "and sentence-transformers' in float32 (without TF32) on the same device; texts are paragraphs of docs/, from "
        "one word to the model's limit"
    )
    record.note(
        "real weights are needed here: random ones have no outlier tokens, on whose rounding the worst vector depends"
    )


def paragraphs(count: int) -> list[str]:
    """Texts of very different lengths, from the documentation."""
    found = [
        " ".join(part.split())
        for file in sorted((ROOT / "docs").glob("*.md"))
        for part in file.read_text(encoding="utf-8").split("\n\n")
    ]
    found = [text for text in found if text and not text.startswith(("|", "```", "#"))][:count]
    joined = [" ".join(found[at : at + 8]) for at in range(0, len(found), 8)]
    return ["a", "Two words, a comma.", *found, *joined, "word " * 40, "word " * 600]


def _check(name: str, setup: Setup, record: Record) -> None:
    import torch
    from sentence_transformers import SentenceTransformer

    from harness_plugins.forward import double_buffer
    from harness_plugins.forward.flex_attention import FlexAttentionModel

    torch.set_float32_matmul_precision("highest")
    folder, kind = model_folder(name, setup)
    model = SentenceTransformer(
        str(folder), device=setup.device, model_kwargs={"dtype": torch.float32}, local_files_only=True
    ).eval()
    texts = paragraphs(setup.pick(9, 400))
    tokens = model.tokenizer(texts, truncation=True, max_length=model.max_seq_length)["input_ids"]
    vectors = unit(model.encode(texts, batch_size=32, show_progress_bar=False))
    states = _states(model, tokens)
    for dtype in (torch.float32, torch.bfloat16):
        encoder = copy.deepcopy(model[0].model)
        flex = FlexAttentionModel(encoder, dtype, rows=double_buffer.ROWS, backend=double_buffer.BACKEND)
        with torch.inference_mode():
            found = flex(tokens)
        difference, cosine = _compared(found, states)
        own = unit(_packed(folder, setup, str(dtype).removeprefix("torch."), texts))
        least = float(np.einsum("ij,ij->i", own, vectors).min())
        exact = dtype == torch.float32
        passed = (difference < LARGEST_DIFFERENCE if exact else cosine > LEAST_MEAN) and least > LEAST
        record.add(
            model=name,
            weights=kind,
            dtype=str(dtype).removeprefix("torch."),
            texts=len(texts),
            tokens=sum(map(len, tokens)),
            **{
                "largest difference of a state": difference,
                "mean cosine of states": cosine,
                "least cosine of a vector": least,
                "passed": "yes" if passed else "no",
            },
        )
        if not passed:
            record.fail(
                f"{name} in {dtype}: states differ by {difference:.2g}, cosine {cosine:.5f}, vectors {least:.5f}"
            )
    if kind != REAL:
        record.note(f"{name} has random weights: its rows check the kernels alone")


def _states(model: Any, tokens: list[list[int]]) -> list[Any]:
    """Hidden states of each text by transformers, encoded alone."""
    import torch

    found = []
    with torch.inference_mode():
        for text in tokens:
            ids = torch.tensor([text], device=model.device)
            features = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            found.append(model[0](features)["token_embeddings"][0])
    return found


def _compared(found: Any, states: list[Any]) -> tuple[float, float]:
    """Largest difference and mean cosine."""
    import torch

    exact = torch.cat(states)
    return float((found - exact).abs().max()), float(torch.cosine_similarity(found.float(), exact).mean())


def _packed(folder: Path, setup: Setup, dtype: str, texts: list[str]) -> Any:
    """Vectors as `harness benchmark -m FOLDER:forward=packed` makes them."""
    from benchmarks.gpu.encode import load
    from harness.embeddings.encode import encode_texts

    return encode_texts(load(folder, setup, dtype, "packed"), "packed", texts, "document")
