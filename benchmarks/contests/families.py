"""Encoding SciFact's documents with encoders of every family of the unpadded pass, against sentence-transformers.

Weights are random, in the shapes of published models: speed does not depend on their values. The tokenizer is MPNet's.
"""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.contests.encode import PEER, STACK, WARM, quality
from benchmarks.runner.contest import Competitor, Contest, Plan
from benchmarks.runner.texts import scifact, weights

LONGEST = 512
"""Tokens kept of a document."""
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
TINY |= {"hidden_dim": 64, "num_key_value_heads": 1, "head_dim": 16}
BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
DECODER = {"hidden_size": 1024, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128}
GEMMA = {"hidden_size": 768, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 256}


class ModelShape(NamedTuple):
    """A model's shape."""

    family: str
    """model_type of its config.json."""
    settings: dict[str, Any]
    layers: int
    """Of the published model."""
    last_token: bool = False
    """Whether the last token's state is the vector; the mean otherwise."""


SHAPES: dict[str, ModelShape] = {
    "distilbert-base": ModelShape("distilbert", {**BASE, "hidden_dim": 3072, "num_hidden_layers": 6}, 6),
    "xlm-roberta-base": ModelShape("xlm-roberta", {**BASE, "max_position_embeddings": 514, "type_vocab_size": 1}, 12),
    "ModernBERT-base": ModelShape("modernbert", {**BASE, "num_hidden_layers": 22, "intermediate_size": 1152}, 22),
    "nomic-embed-text-v1.5": ModelShape("nomic_bert", BASE, 12),
    "Qwen3-Embedding-0.6B": ModelShape(
        "qwen3", {**DECODER, "num_hidden_layers": 7, "intermediate_size": 3072}, 28, True
    ),
    "EmbeddingGemma-300m": ModelShape(
        "gemma3_text",
        {
            **{**GEMMA, "num_hidden_layers": 12, "intermediate_size": 1152, "use_bidirectional_attention": True},
            **{"query_pre_attn_scalar": 256, "sliding_window": 512},
        },
        24,
    ),
}
"""Name of the published model -> its shape."""


def contests(plan: Plan) -> list[Contest]:
    """One for each family, on the same documents."""
    texts, notes = scifact(plan)
    drawn = texts.sample(plan.sample or plan.pick(2, 32, 256))
    file = plan.work / "families.json"
    file.write_text(json.dumps({"texts": drawn, "queries": []}))
    return [_contest(plan, name, file, texts.name, notes) for name in SHAPES]


def _contest(plan: Plan, name: str, file: Path, collection: str, notes: list[str]) -> Contest:
    shape = SHAPES[name]
    folder = plan.work / "synthetic" / f"random-{name}-{plan.size}"
    layers = TINY["num_hidden_layers"] if plan.size == "small" else shape.settings["num_hidden_layers"]
    if not (folder / "modules.json").exists():
        random_model(shape, folder, small=plan.size == "small")
    drawn = json.loads(file.read_text())["texts"]
    total = _tokens(folder, drawn)
    target = "benchmarks.peers.encoders:Encoder"
    given = {"texts": str(file), "weights": str(folder), "threads": plan.threads, "exported": ""}
    return Contest(
        title=f"{name}, random weights, {layers} of {shape.layers} layers: {len(drawn):,} documents of {collection}",
        competitors=[
            Competitor(
                "harness, bfloat16",
                "benchmarks.contests.encode:Encoder",
                {"texts": str(file), "model": f"{folder}:device=cpu,forward=packed,dtype=bfloat16"},
            ),
            Competitor(PEER, target, given, packages=STACK),
            Competitor(
                "sentence-transformers, bfloat16", target, {**given, "dtype": "bfloat16", "batch": 0}, packages=STACK
            ),
        ],
        quality=partial(quality, None),
        rate=("documents", len(drawn)),
        notes=[
            *notes,
            f"{total:,} tokens after truncation to {LONGEST}; drawn with seed 0; the round that does not count encodes "
            f"{WARM} of them; MPNet's tokenizer and vocabulary",
            f"cosines are with {PEER}; the batch of its bfloat16 is the quickest of 1, 8 and 32 texts, found in the "
            f"round that does not count",
        ],
    )


def random_model(shape: ModelShape, folder: Path, *, small: bool) -> None:
    """Save a model of this shape (``small``: tiny) with random weights."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    side = {"padding_side": "left"} if shape.last_token else {}
    words = AutoTokenizer.from_pretrained(weights("mpnet"), model_max_length=LONGEST, **side)
    numbers = {f"{name}_token_id": getattr(words, f"{name}_token_id") for name in ("pad", "bos", "eos", "cls", "sep")}
    settings = {**shape.settings, **numbers, "vocab_size": len(words)}
    settings |= {name: value for name, value in TINY.items() if small and name in settings}
    torch.manual_seed(0)
    base = folder.with_name(f"{folder.name}-base")
    AutoModel.from_config(AutoConfig.for_model(shape.family, **settings)).eval().save_pretrained(base)
    words.save_pretrained(base)
    pooled = Pooling(settings["hidden_size"], "lasttoken" if shape.last_token else "mean")
    modules = [Transformer(str(base), max_seq_length=LONGEST), pooled, Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder), create_model_card=False)
    shutil.rmtree(base)


def _tokens(folder: Path, texts: list[str]) -> int:
    """Total number of tokens after truncation."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(LONGEST)
    tokenizer.no_padding()
    return sum(len(encoding.ids) for encoding in tokenizer.encode_batch(texts))
