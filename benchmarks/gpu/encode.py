"""Tokens a second of texts of one length: the harness's passes against sentence-transformers in bfloat16."""

from __future__ import annotations

import gc
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.gpu.models import SHAPES, model_folder, texts_of
from benchmarks.gpu.part import Record, Setup, use_gpu_pass
from benchmarks.runner.product_speed import product_speed

LENGTHS = (384, 256, 128, 64)
ROUNDS = 3
TOKENS = 800_000
"""Of a round: some half a second of a fast GPU with MPNet. The longest texts come first: they have the goal."""
PEERS = {"sentence-transformers": "", "sentence-transformers, flash attention": "flash_attention_2"}
"""Name -> attn_implementation; empty: sdpa, where transformers has it for the model (BERT; MPNet has eager attention
alone). With flash attention sentence-transformers does not pad."""


def run(setup: Setup, record: Record) -> None:
    """A row for each model, length and program."""
    use_gpu_pass(setup)
    speed = product_speed("bfloat16", setup.device)
    record.note(
        f"torch's product of two large bfloat16 matrices of random numbers reaches {speed / 1e12:,.2f} TFLOP/s here; "
        f"the share is the forward pass's operations divided by its seconds, of that"
    )
    record.note(
        f"texts of one length, random words, medians of {ROUNDS} alternating rounds; *from texts* includes tokenising, "
        "*tokenised* starts from token ids and ends with vectors in main memory; sentence-transformers' batch is the "
        "quickest of its list; *times ours* compares from texts with the harness's first row of the length"
    )
    record.note(
        "random weights are as fast, except that MPNet's real ones have about one text in a hundred encoded again in "
        "float32 (forward=packed)"
    )
    for name in SHAPES:
        folder, kind = model_folder(name, setup)
        _model(name, folder, kind, setup, speed, record)


def load(folder: Path, setup: Setup, dtype: str, forward: str, length: int = 0) -> Any:
    """The harness's encoder of a folder."""
    from harness_plugins.sentence_transformers import checkpoint

    options: dict[str, Any] = {name: option.default for name, option in checkpoint.OPTIONS.items()}
    options |= {"path": str(folder), "dtype": dtype, "device": setup.device, "forward": forward}
    return checkpoint.load({**options, "max_seq_length": length})


def _model(name: str, folder: Path, kind: str, setup: Setup, speed: float, record: Record) -> None:
    lengths = (16, 64) if setup.small else LENGTHS
    rivals: dict[str, Rival] = {}
    for title, make in _makers(folder, setup, max(lengths)).items():
        try:
            start = time.perf_counter()
            rivals[title] = make()
            record.note(f"{name}, {title}: loaded and compiled in {time.perf_counter() - start:.1f} s")
        except Exception as error:  # a pass that does not compile here, attention that the model lacks
            reason = f"{name}, {title}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            (record.note if title in PEERS else record.fail)(reason)
    for length in lengths:
        texts = texts_of(next(iter(rivals.values())).tokenizer, length, max(8, setup.pick(256, TOKENS) // length))
        _length(name, kind, length, texts, rivals, speed, record)
    rivals.clear()
    gc.collect()


def _length(
    name: str, kind: str, length: int, texts: list[str], rivals: dict[str, Rival], speed: float, record: Record
) -> None:
    seconds: dict[str, list[tuple[float, float]]] = {}
    failed: set[str] = set()
    for number in range(ROUNDS + 1):
        for title, rival in rivals.items():
            if title in failed:
                continue
            try:
                found = rival.warm(texts) if number == 0 else (_timed(rival.texts), _timed(rival.tokens))
            except Exception as error:
                failed.add(title)
                record.fail(f"{name}, {length} tokens, {title}: {type(error).__name__}: {str(error)[:200]}")
            else:
                seconds.setdefault(title, []).extend([found] if found else [])
    ours = None
    for title, spent in seconds.items():
        if not spent or title in failed:
            continue
        whole, inner = (statistics.median(column) for column in zip(*spent, strict=True))
        ours = ours or whole
        record.add(
            model=name,
            weights=kind,
            tokens=length,
            program=title,
            **{
                "tokens/s from texts": length * len(texts) / whole,
                "times ours": whole / ours,
                "tokens/s tokenised": length * len(texts) / inner,
                "share of product speed": rivals[title].flops([length] * len(texts)) / inner / speed,
                "batch": rivals[title].batch,
            },
        )


def _timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _makers(folder: Path, setup: Setup, longest: int) -> dict[str, Callable[[], Rival]]:
    ours = {
        f"harness, {forward}": lambda forward=forward: Ours(load(folder, setup, "bfloat16", forward, longest))
        for forward in ("packed", "stock")
    }
    theirs = {title: lambda how=how: Theirs(folder, setup, how, longest) for title, how in PEERS.items()}
    return {**ours, **theirs}  # type: ignore[dict-item]


class Rival:
    """One program with a model loaded."""

    batch: Any = ""
    tokenizer: Any

    def warm(self, texts: list[str]) -> None:
        """Take the texts of a length, and encode some or all without being timed."""

    def texts(self) -> Any:
        """Encode the texts."""

    def tokens(self) -> Any:
        """Encode their token ids."""

    def flops(self, lengths: list[int]) -> float:
        """Operations of the forward pass."""
        raise NotImplementedError


class Ours(Rival):
    """An encoder of the harness."""

    batch = "by tokens"

    def __init__(self, encoder: Any) -> None:
        self.encoder, self.tokenizer = encoder, encoder.model.tokenizer

    def warm(self, texts: list[str]) -> None:
        """As `Rival`."""
        self._texts = texts
        self._ids = self.encoder.tokenize(texts, role="document")
        self.tokens()

    def texts(self) -> Any:
        """As `Rival`."""
        from harness.embeddings.encode import encode_texts

        return encode_texts(self.encoder, "harness", self._texts, "document")

    def tokens(self) -> Any:
        """As `Rival`."""
        from harness.embeddings.encode import encode_texts

        return encode_texts(self.encoder, "harness", self._texts, "document", self._ids)

    def flops(self, lengths: list[int]) -> float:
        """As `Rival`."""
        return float(self.encoder.flops(lengths))


class Theirs(Rival):
    """sentence-transformers."""

    def __init__(self, folder: Path, setup: Setup, attention: str, longest: int) -> None:
        from benchmarks.peers.encoders import Encoder

        empty = Path(setup.scratch) / "texts.json"
        empty.write_text(json.dumps({"texts": [], "queries": []}))
        self._peer = Encoder(
            str(empty),
            str(folder),
            len(os.sched_getaffinity(0)),
            "",
            "bfloat16",
            batch=0,
            device=setup.device,
            attention=attention,
        )
        self._peer.model.max_seq_length = longest
        self.tokenizer = self._peer.model.tokenizer
        self._peer.model.encode(["a word"], show_progress_bar=False)

    def warm(self, texts: list[str]) -> None:
        """As `Rival`."""
        self._peer.texts, self._peer.batch = texts, 0
        self._peer.warm()
        self.batch = self._peer.batch
        model = self._peer.model
        self._features = [
            model.preprocess(texts[at : at + self.batch], task=None) for at in range(0, len(texts), self.batch)
        ]

    def texts(self) -> Any:
        """As `Rival`."""
        return self._peer.work()

    def tokens(self) -> Any:
        """As `Rival`."""
        import torch

        model, found = self._peer.model, []
        with torch.inference_mode():
            for features in self._features:
                there = {name: _on(value, model.device) for name, value in features.items()}
                found.append(model(there)["sentence_embedding"].float())
            return torch.cat(found).cpu()

    def flops(self, lengths: list[int]) -> float:
        """As `Rival`."""
        from harness_plugins.sentence_transformers.encoder import TokenEncoder

        return TokenEncoder(self._peer.model, "bfloat16", {}).flops(lengths)


def _on(value: Any, device: Any) -> Any:
    return value.to(device) if hasattr(value, "to") else value
