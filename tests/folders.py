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


def write_multi_vector(folder: Path, *after: Any, **settings: Any) -> Path:
    """ColBERT: queries expanded to 12 tokens, documents of 20 at most without punctuation."""
    import torch
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Dense, Normalize
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    first = transformer(folder.with_name(f"{folder.name}-base"))
    first.document_length = 20
    first.query_expansion = {"strategy": "fixed", "attend": False, "length": 12}
    torch.manual_seed(3)
    identity = torch.nn.Identity()
    small = Dense(DIM, 16, bias=False, activation_function=identity, module_input_name="token_embeddings")
    skipped, unit = MultiVectorMask(skiplist_words=[".", ","]), Normalize(module_input_name="token_embeddings")
    stated = {"prompts": {"query": "query ", "document": "passage "}, **settings}
    MultiVectorEncoder(modules=[first, small, skipped, unit, *after], device="cpu", **stated).save(
        str(folder), create_model_card=False
    )
    return folder


def write_pooled(folder: Path) -> Path:
    """ColBERT whose document vectors are pooled, scored by the mean."""
    from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling

    return write_multi_vector(folder, HierarchicalTokenPooling(2.0), similarity_fn_name="meanmaxsim")


def write_pylate(folder: Path) -> Path:
    """ColBERT as PyLate writes it: two modules, its settings beside them."""
    write_multi_vector(folder)
    modules = json.loads((folder / "modules.json").read_text())[:2]
    modules[1]["type"] = "pylate.models.Dense.Dense"
    (folder / "modules.json").write_text(json.dumps(modules))
    dense = folder / modules[1]["path"] / "config.json"
    without(dense, "module_input_name", "module_output_name")
    without(folder / "sentence_bert_config.json", "query_expansion", "query_length", "document_length")
    fields = {"model_type": "ColBERT", "query_prefix": "[Q] ", "document_prefix": "[D] ", "query_length": 14}
    fields |= {"document_length": 18, "attend_to_expansion_tokens": True, "skiplist_words": ["!", "."]}
    change(folder / "config_sentence_transformers.json", **fields, prompts={}, similarity_fn_name="cosine")
    return folder


def write_stanford(folder: Path) -> Path:
    """ColBERT as its own code writes it: a BERT with one more matrix, without modules.json."""
    import torch
    from safetensors.torch import load_file, save_file

    transformer(folder)
    weights = {f"bert.{name}": value for name, value in load_file(folder / "model.safetensors").items()}
    torch.manual_seed(4)
    save_file({**weights, "linear.weight": torch.randn(16, DIM)}, folder / "model.safetensors", {"format": "pt"})
    change(folder / "config.json", architectures=["HF_ColBERT"])
    change(folder / "artifact.metadata", query_token_id="moon", doc_token_id="bread", query_maxlen=10, doc_maxlen=16)
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
