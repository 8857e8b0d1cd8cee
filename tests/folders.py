"""Model folders of every kind that sentence-transformers writes, small and with random weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.cross_encoders import write_cross_encoder
from tests.tiny import DIM, LONGEST, tokenizer, transformer

MARKS = {"cls": "[CLS]", "pad": "[PAD]", "sep": "[SEP]", "unk": "[UNK]", "mask": "[MASK]"}


def write_bi_encoder(
    folder: Path, *, between: Sequence[Any] = (), after: Sequence[Any] = (), width: int = DIM, **settings: Any
) -> Path:
    """BERT and mean pooling, with more modules ``between`` and ``after``; ``settings`` are SentenceTransformer's."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    base = transformer(folder.with_name(f"{folder.name}-base"))
    modules = [base, *between, Pooling(width, "mean"), *after]
    SentenceTransformer(modules=modules, **settings).save(str(folder), create_model_card=False)
    return folder


def write_masked(folder: Path) -> Path:
    """BERT with its masked language model's head, as transformers writes it."""
    from transformers import BertConfig, BertForMaskedLM

    words = tokenizer(MARKS)
    sizes = {"hidden_size": DIM, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertForMaskedLM(BertConfig(vocab_size=len(words), max_position_embeddings=80, **sizes)).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def write_sparse(folder: Path) -> Path:
    """SPLADE."""
    from sentence_transformers import SparseEncoder
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    plain = str(write_masked(folder.with_name(f"{folder.name}-base")))
    modules = [Transformer(plain, transformer_task="fill-mask", max_seq_length=LONGEST), SpladePooling("max")]
    SparseEncoder(modules=modules, device="cpu").save(str(folder), create_model_card=False)
    return folder


def write_multi_vector(folder: Path) -> Path:
    """ColBERT."""
    from sentence_transformers import MultiVectorEncoder

    base = folder.with_name(f"{folder.name}-base")
    transformer(base)
    MultiVectorEncoder(str(base), device="cpu").save(str(folder), create_model_card=False)
    return folder


def write_cross(folder: Path) -> Path:
    """A cross-encoder of one score."""
    return write_cross_encoder(folder, {"heart", "moon", "bread"})


def write_plain_cross(folder: Path) -> Path:
    """As transformers writes a classifier, without sentence-transformers."""
    write_cross(folder)
    return folder.with_name(f"{folder.name}-plain")


def write_inference_free(folder: Path) -> Path:
    """A SPLADE whose queries are looked up in a table: the sparse modules lie behind a router."""
    import torch
    from sentence_transformers import SparseEncoder
    from sentence_transformers.base.modules import Router, Transformer
    from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling

    plain = str(write_masked(folder.with_name(f"{folder.name}-base")))
    documents = [Transformer(plain, transformer_task="fill-mask", max_seq_length=LONGEST), SpladePooling("max")]
    weights = torch.rand(len(documents[0].tokenizer), generator=torch.Generator().manual_seed(2))
    router = Router.for_query_document([SparseStaticEmbedding(documents[0].tokenizer, weights)], documents)
    SparseEncoder(modules=[router], device="cpu").save(str(folder), create_model_card=False)
    return folder


def write_auto_encoder(folder: Path) -> Path:
    """CSR: mean pooling, then the largest of many more dimensions."""
    import torch
    from sentence_transformers import SparseEncoder
    from sentence_transformers.sentence_transformer.modules import Pooling
    from sentence_transformers.sparse_encoder.modules import SparseAutoEncoder

    base = transformer(folder.with_name(f"{folder.name}-base"))
    torch.manual_seed(1)
    wide = SparseAutoEncoder(input_dim=DIM, hidden_dim=4 * DIM, k=9)
    SparseEncoder(modules=[base, Pooling(DIM, "mean"), wide], device="cpu").save(str(folder), create_model_card=False)
    return folder


def change(file: Path, **fields: object) -> None:
    """Sets keys of a JSON object in a file; makes the file where there is none."""
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(content | fields))


def without(file: Path, *keys: str) -> None:
    """Removes keys of a JSON object in a file."""
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k not in keys}))
