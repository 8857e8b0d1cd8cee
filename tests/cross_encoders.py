"""A cross-encoder small enough to be made in a test: random weights, words for tokens."""

from __future__ import annotations

from pathlib import Path

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def write_cross_encoder(folder: Path, words: set[str], *, labels: int = 1, length: int = 24, seed: int = 0) -> Path:
    """As CrossEncoder.save_pretrained() writes it."""
    import torch
    from sentence_transformers import CrossEncoder
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    plain = folder.with_name(f"{folder.name}-plain")
    plain.mkdir(parents=True)
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *sorted(words)])}
    BertTokenizerFast(vocab=vocabulary, model_max_length=length).save_pretrained(plain)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(
        vocab_size=len(vocabulary),
        max_position_embeddings=64,
        num_labels=labels,
        initializer_range=0.3,
        **sizes,
    )
    torch.manual_seed(seed)
    BertForSequenceClassification(config).save_pretrained(plain)
    CrossEncoder(str(plain), local_files_only=True).save_pretrained(str(folder))
    return folder
