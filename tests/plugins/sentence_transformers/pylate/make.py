"""Writes the folder and the vectors beside this file with PyLate; README.md says how to run it."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

HERE = Path(__file__).parent
MARKS = {"cls": "[CLS]", "pad": "[PAD]", "sep": "[SEP]", "unk": "[UNK]", "mask": "[MASK]"}
PLAIN = {"query_length": 8, "document_length": 14}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "attend": {"attend_to_expansion_tokens": True, "query_length": 6},
    "unexpanded": {"do_query_expansion": False, "skiplist_words": []},
    "unprefixed": {"query_prefix": "", "document_prefix": "", "document_length": 9},
    "unknown": {"skiplist_words": ["!", "...", "moon"]},
    "residual": {"skiplist_words": ["the"]},
}
"""What PyLate is told when it loads the folder again. "..." is not a word of the vocabulary."""
QUERIES = ["The heart, pumps blood!", "", "red planet earth bread " * 3, " [Q] word ", "\u4e2d heart\n"]
DOCUMENTS = [
    *("The heart, pumps blood.", "", "bread, bread; moon. " * 5, "\u4e2d\u4e2d moon \u4e2d", "..."),
    *("[D] the earth [D] ", " about the earth\n"),
]


def base(folder: Path) -> str:
    """A BERT with random weights, and a vocabulary of a few words and all ASCII letters."""
    import torch
    from transformers import BertConfig, BertModel

    from tests.tiny import tokenizer

    torch.manual_seed(0)
    words = tokenizer(MARKS)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    settings = {"max_position_embeddings": 24, "initializer_range": 0.2, "pad_token_id": 1}
    config = BertConfig(vocab_size=len(words), **sizes, **settings)
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    words.save_pretrained(folder)
    return str(folder)


def made(root: Path) -> None:
    """The folder; for every variant, the files in which it differs, its vectors and its scores."""
    import torch
    from pylate.models import ColBERT, Dense
    from pylate.scores import colbert_scores

    def save(model: Any, name: str) -> Any:
        model.save(str(root / name), create_model_card=False)
        return ColBERT(str(root / name), device="cpu")

    torch.manual_seed(1)
    first = ColBERT(base(root / "base"), embedding_size=16, device="cpu", **PLAIN)
    save(save(first, "first"), "folder")
    for name, settings in VARIANTS.items():
        model = ColBERT(str(root / "folder"), device="cpu", **PLAIN | settings)
        if name == "residual":
            model[1] = Dense(32, 16, bias=True, use_residual=True)
        model = save(model, name)
        queries = [model.encode([text], is_query=True)[0] for text in QUERIES]
        documents = [model.encode([text], is_query=False)[0] for text in DOCUMENTS]
        pairs = [[(query, each) for each in documents] for query in queries]
        scores = [[float(colbert_scores(*(torch.from_numpy(s)[None] for s in pair))) for pair in row] for row in pairs]
        np.savez_compressed(
            root / name / "expected.npz",
            **{"scores": np.array(scores, np.float32), "queries": np.concatenate(queries)},
            **{"documents": np.concatenate(documents)},
            **{"query_counts": np.array([*map(len, queries)]), "document_counts": np.array([*map(len, documents)])},
        )
        for file in [file for file in (root / name).rglob("*") if file.is_file()]:
            plain = root / "folder" / file.relative_to(root / name)
            if plain.is_file() and plain.read_bytes() == file.read_bytes():
                file.unlink()
    packages = ("pylate", "sentence-transformers", "transformers", "tokenizers", "torch")
    texts = {"queries": QUERIES, "documents": DOCUMENTS, "versions": {name: version(name) for name in packages}}
    (root / "texts.json").write_text(json.dumps(texts, indent=1) + "\n")


if __name__ == "__main__":
    with TemporaryDirectory() as place:
        made(Path(place))
        for name in ("folder", *VARIANTS, "texts.json"):
            target = HERE / name
            shutil.rmtree(target, ignore_errors=True)
            target.unlink(missing_ok=True)
            shutil.move(Path(place) / name, target)
