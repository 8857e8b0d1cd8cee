"""Transformers small enough for tests: random weights, and a tokenizer with a vocabulary of a few words."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

DIM, LONGEST = 32, 48
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {},
    "mpnet": {},
    "roberta": {"type_vocab_size": 1},
    "xlm-roberta": {"type_vocab_size": 1},
    "camembert": {"type_vocab_size": 1},
    "distilbert": {"hidden_dim": 64},
    "modernbert": {"local_attention": 16, "cls_token_id": 0, "sep_token_id": 2},
    "nomic_bert": {},
    "qwen3": {"num_key_value_heads": 1, "head_dim": 24},
    "gemma3_text": {
        **{"num_key_value_heads": 1, "head_dim": 24, "query_pre_attn_scalar": 20, "sliding_window": 16},
        **{"sliding_window_pattern": 2, "use_bidirectional_attention": True},
    },
}
"""model_type of config.json -> its own settings. Local attention is shorter than the longest text."""
ROBERTAS = ("mpnet", "roberta", "xlm-roberta", "camembert")


def tokenizer(marks: dict[str, str]) -> Any:
    """Word pieces: a few words, every ASCII letter, and the marks of BERT or MPNet."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    words = ["the", "heart", "pumps", "blood", "moon", "bread", "earth", "planet", "query", "passage", "word", "red"]
    vocabulary = dict.fromkeys([*marks.values(), *letters, *(f"##{letter}" for letter in letters), *words])
    made = Tokenizer(models.WordPiece({word: i for i, word in enumerate(vocabulary)}, unk_token=marks["unk"]))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [(marks[name], vocabulary_id) for name, vocabulary_id in (("cls", 0), ("sep", 2))]
    made.post_processor = processors.TemplateProcessing(single=f"{marks['cls']} $A {marks['sep']}", special_tokens=ends)
    named = {f"{name}_token": mark for name, mark in marks.items()}
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=512, **named)


def model(family: str, **settings: Any) -> Any:
    """A random model of a family, with biases, and weights of norms, that are not those of an untrained one."""
    import torch
    from transformers import AutoConfig, AutoModel

    numbers = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    made = AutoModel.from_config(AutoConfig.for_model(family, **numbers, **FAMILIES[family] | settings)).eval()
    with torch.no_grad():
        for each in made.parameters():
            if each.ndim == 1 and family not in ("bert", "mpnet"):
                each.add_(torch.randn_like(each) * 0.2)
    return made


def transformer(folder: Path, family: str = "bert", seed: int = 0) -> Any:
    """A module of sentence-transformers with two random layers, its files in ``folder``."""
    import torch
    from sentence_transformers.base.modules import Transformer

    torch.manual_seed(seed)
    marks = {"cls": "[CLS]", "pad": "[PAD]", "sep": "[SEP]", "unk": "[UNK]", "mask": "[MASK]"}
    if family in ROBERTAS:
        marks = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}
    words = tokenizer(marks)
    sizes = {"vocab_size": len(words), "hidden_size": DIM, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 64, "max_position_embeddings": 80, "initializer_range": 0.5}
    model(family, **sizes).save_pretrained(folder)
    words.save_pretrained(folder)
    return Transformer(str(folder), max_seq_length=LONGEST)
