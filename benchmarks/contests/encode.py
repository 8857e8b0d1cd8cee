"""Encoding SciFact's documents with MPNet: the harness against sentence-transformers and its faster backends.

With a GPU, also texts of the maximum of 384 tokens in bfloat16. This has not been run yet.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.runner.contest import Answer, Competitor, Contest, Plan, Quality, figure, unit
from benchmarks.runner.product_speed import product_speed
from benchmarks.runner.texts import Texts, scifact, weights
from harness.distributed.process_pool import visible_gpus

MODEL = "mpnet"
PEER = "sentence-transformers, float32"
STACK = ("torch", "transformers", "sentence-transformers")
WARM = 4
"""Texts of the warm-up round."""
GPU_PEER = "sentence-transformers, bfloat16, GPU"
GPU_WARM = 512
"""Texts of the warm-up round on a GPU, which compiles kernels and allocates buffers."""
LONG = 3000
"""Texts of at least this many characters have 384 tokens."""


def contests(plan: Plan) -> list[Contest]:
    """A sample of the documents, or all; with a GPU also texts of maximum length."""
    first = _documents(plan)
    return [first, _on_gpu(plan)] if visible_gpus() else [first]


def _documents(plan: Plan) -> Contest:
    texts, notes = scifact(plan)
    whole = plan.size == "whole" and plan.sample is None
    drawn = texts.sample(len(texts.documents) if whole else plan.sample or plan.pick(6, 96, 0))
    file = plan.work / "encode.json"
    queries = [query.text for query in texts.queries] if whole else []
    file.write_text(json.dumps({"texts": drawn, "queries": queries}))
    tokens = _tokens(weights(MODEL), drawn)
    title = f"{texts.name} with {MODEL}: {len(drawn):,} documents of {tokens / len(drawn):.0f} tokens on average"
    drawn_how = "all of them" if whole else "drawn with seed 0; `--whole` takes all"
    absent = [] if visible_gpus() else ["this machine has no GPU, so encoding on one was not measured"]
    return Contest(
        title=f"Encoding {title}",
        competitors=_competitors(plan, file),
        quality=partial(quality, texts if whole else None),
        rate=("documents", len(drawn)),
        notes=[
            *notes,
            *absent,
            f"{tokens:,} tokens after truncation; the documents are {drawn_how}; the round that does not count "
            f"encodes {WARM} of them",
            f"cosines are with {PEER}, over every document encoded; batches of the other peers are the quickest of "
            f"1, 8 and 32 texts, found in the round that does not count",
        ],
    )


def _on_gpu(plan: Plan) -> Contest:
    """Documents concatenated to maximum length, enough for seconds of GPU time."""
    texts, notes = scifact(plan)
    drawn = joined([document.content for document in texts.documents], plan.pick(256, 16_384, 131_072))
    file = plan.work / "encode-gpu.json"
    file.write_text(json.dumps({"texts": drawn, "queries": []}))
    tokens = _tokens(weights(MODEL), drawn)
    given = {"texts": str(file), "weights": str(weights(MODEL)), "threads": plan.threads, "exported": ""}
    peer = {**given, "device": "cuda", "dtype": "bfloat16", "batch": 0}
    model = f"{MODEL}:device=cuda,dtype=bfloat16,forward="
    return Contest(
        title=f"Encoding on a GPU: {len(drawn):,} texts of {tokens / len(drawn):.0f} tokens with {MODEL}, bfloat16",
        competitors=[
            *(
                Competitor(
                    f"harness, forward={forward}",
                    "benchmarks.contests.encode:Encoder",
                    {"texts": str(file), "model": model + forward, "warm": GPU_WARM},
                )
                for forward in ("packed", "stock")
            ),
            Competitor(GPU_PEER, "benchmarks.peers.encoders:Encoder", peer, packages=STACK),
        ],
        quality=_gpu_quality,
        rate=("texts", len(drawn)),
        notes=[
            *notes,
            f"{tokens:,} tokens after truncation, of {texts.name}'s documents joined to {LONG:,} characters at least",
            f"the share is of bfloat16's speed in torch's product of two large matrices on the same GPU, for the "
            f"operations of the forward pass, in the first round; cosines are with {GPU_PEER}, whose batch is the "
            f"quickest of five, found in the round that does not count",
        ],
    )


def joined(documents: list[str], count: int) -> list[str]:
    """``count`` texts of at least `LONG` characters, each from documents drawn with seed 0."""
    chance, found = random.Random(0), list[str]()
    while len(found) < count:
        text = ""
        while len(text) < LONG:
            text += chance.choice(documents) + " "
        found.append(text)
    return found


def _competitors(plan: Plan, file: Path) -> list[Competitor]:
    ours = [
        Competitor(
            f"harness, {name}", "benchmarks.contests.encode:Encoder", {"texts": str(file), "model": f"{MODEL}:{option}"}
        )
        for name, option in (("bfloat16", "dtype=bfloat16"), ("int8", "dtype=int8"), ("float32", "dtype=float32"))
    ]
    given = {"texts": str(file), "weights": str(weights(MODEL)), "threads": plan.threads}
    given["exported"] = str(plan.work / "exported")
    target = "benchmarks.peers.encoders:Encoder"
    backends = ("backends", (*STACK, "optimum", "onnxruntime", "openvino"))
    return [
        *ours,
        Competitor(PEER, target, given, packages=STACK),
        Competitor(
            "sentence-transformers, bfloat16", target, {**given, "dtype": "bfloat16", "batch": 0}, packages=STACK
        ),
        Competitor("sentence-transformers, ONNX", target, {**given, "backend": "onnx", "batch": 0}, *backends),
        Competitor("sentence-transformers, OpenVINO", target, {**given, "backend": "openvino", "batch": 0}, *backends),
    ]


class Encoder:
    """The harness's encoder, loaded through its registry."""

    def __init__(self, texts: str, model: str, warm: int = WARM) -> None:
        from harness.cli.main import State
        from harness.models.runner import Prepared
        from harness.registry.manager import load_registry

        given = json.loads(Path(texts).read_text())
        self.texts, self.queries, self._warm = given["texts"], given["queries"], warm
        self.prepared = Prepared(load_registry().model(model), State().made_home, offline=True)
        assert self.prepared.dense.dim

    def _encode(self, texts: list[str], role: Any) -> NDArray[np.float32]:
        from harness.embeddings.encode import encode_texts

        return encode_texts(self.prepared.dense, self.prepared.label, texts, role)

    def warm(self) -> None:
        """Encode a few texts."""
        self._encode(self.texts[: self._warm], "document")

    def work(self) -> None:
        """Encode all texts."""
        start = time.perf_counter()
        self.vectors = self._encode(self.texts, "document")
        self.seconds = time.perf_counter() - start

    def answer(self) -> dict[str, Any]:
        """Vectors of documents and queries; on a GPU also its achieved and possible operations per second."""
        found: dict[str, Any] = {"vectors": self.vectors, "seconds": self.seconds}
        model: Any = self.prepared.dense
        if model.products[1] != "cpu":
            lengths = [len(text) for text in model.tokenize(self.texts, role="document")]
            found |= {"flops": model.flops(lengths), "most": product_speed(*model.products)}
        return {**found, "queries": self._encode(self.queries, "query")} if self.queries else found


def quality(texts: Texts | None, answers: Mapping[str, Answer]) -> Quality:
    """Cosines with the peer's vectors; for a full collection also nDCG@10 and differences."""
    if PEER not in answers:
        return {}
    reference = unit(answers[PEER]["vectors"])
    found: dict[str, dict[str, str]] = {}
    for name, answer in answers.items():
        cosines = np.einsum("ij,ij->i", unit(answer["vectors"]), reference)
        batch = f"{int(answer['batch'])} texts" if "batch" in answer else "by tokens"
        found[name] = {"batches": batch, "least cosine": f"{cosines.min():.5f}", "mean cosine": f"{cosines.mean():.6f}"}
    if texts is not None:
        ndcg = {name: texts.ndcg(_nearest(answer)) for name, answer in answers.items()}
        for name, value in ndcg.items():
            found[name] |= {"nDCG@10": f"{value:.5f}", "difference": figure(value - ndcg[PEER], 5)}
    return found


def _gpu_quality(answers: Mapping[str, Answer]) -> Quality:
    """Cosines with the peer's vectors, and the achieved share of the matrix product's speed."""
    ours = next((answer for answer in answers.values() if "most" in answer), None)
    if GPU_PEER not in answers or ours is None:
        return {}
    reference, whole = unit(answers[GPU_PEER]["vectors"]), float(ours["flops"] / ours["most"])
    found: dict[str, dict[str, str]] = {}
    for name, answer in answers.items():
        cosines = np.einsum("ij,ij->i", unit(answer["vectors"]), reference)
        found[name] = {
            "batches": f"{int(answer['batch'])} texts" if "batch" in answer else "by tokens",
            "least cosine": f"{cosines.min():.5f}",
            "share of the products' speed": f"{whole / float(answer['seconds']):.1%}",
        }
    return found


def _nearest(answer: Answer) -> dict[str, NDArray[Any]]:
    """The 100 nearest documents per query by cosine, by brute force."""
    scores = unit(answer["queries"]) @ unit(answer["vectors"]).T
    rows = np.argpartition(-scores, min(100, scores.shape[1] - 1), axis=1)[:, :100]
    return {"rows": rows, "scores": np.take_along_axis(scores, rows, axis=1)}


def _tokens(folder: Path, texts: list[str]) -> int:
    """Total number of tokens after truncation."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    most = json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"]
    tokenizer.enable_truncation(most)
    tokenizer.no_padding()
    return sum(len(encoding.ids) for encoding in tokenizer.encode_batch(texts))
