"""Weights on a machine without a network: folders, folders in parts, or random weights of the same shape.

``python -m benchmarks.gpu.models split MODEL TARGET [MEGABYTES]`` writes a sentence-transformers folder with float16
weights in parts of at most so many megabytes (50), which can be copied one at a time. Everything else is in ``rest``.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.part import Setup

SHAPES: dict[str, dict[str, int]] = {
    "mpnet": {"hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 3072, "max_position_embeddings": 514},
    "minilm": {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536, "max_position_embeddings": 512},
}
"""Model -> shape of all-mpnet-base-v2 and all-MiniLM-L6-v2; both have 12 heads and 30,5xx tokens."""
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64, "max_position_embeddings": 130}
WEIGHTS, LISTED = "model.safetensors", "parts.json"
REAL, RANDOM = "real", "random"


def model_folder(name: str, setup: Setup) -> tuple[Path, str]:
    """The folder of a model, and whether its weights are `REAL` or `RANDOM`.

    Raises:
        ValueError: Parts are missing or damaged.
    """
    given, made = Path(setup.weights) / name, Path(setup.scratch) / name
    if setup.weights and (given / WEIGHTS).is_file():
        return given, REAL
    if (made / WEIGHTS).is_file():
        return made, (made / "kind").read_text()
    kind = REAL if setup.weights and (given / LISTED).is_file() else RANDOM
    if kind == REAL:
        join(given, made)
    else:
        random_model(name, made, setup.small)
    (made / "kind").write_text(kind)
    return made, kind


def split(source: Path, target: Path, megabytes: float = 50) -> list[Path]:
    """Write a folder in parts; returns these."""
    from safetensors.numpy import load_file, save_file

    rest = target / "rest"
    if target.exists():
        raise ValueError(f"{target} exists; name a folder that does not.")
    shutil.copytree(source, rest, ignore=shutil.ignore_patterns("*.safetensors", "*.bin", "onnx", "openvino", ".*"))
    narrow = {
        name: value.astype(np.float16) if value.dtype == np.float32 else value
        for name, value in load_file(source / WEIGHTS).items()
    }
    save_file(narrow, target / WEIGHTS, {"format": "pt"})
    data, step, parts = (target / WEIGHTS).read_bytes(), int(megabytes * 10**6), []
    (target / WEIGHTS).unlink()
    for start in range(0, len(data), step):
        parts.append(target / f"{WEIGHTS}.{len(parts):03}")
        parts[-1].write_bytes(data[start : start + step])
    listed = {"parts": [part.name for part in parts], "sha256": hashlib.sha256(data).hexdigest()}
    (target / LISTED).write_text(json.dumps(listed))
    return parts


def join(given: Path, made: Path) -> None:
    """Join the parts of a model to a folder that sentence-transformers loads."""
    listed = json.loads((given / LISTED).read_text())
    if missing := [name for name in listed["parts"] if not (given / name).is_file()]:
        raise ValueError(f"{given} lacks {', '.join(missing)} of its {len(listed['parts'])} parts; copy them, too.")
    shutil.rmtree(made, ignore_errors=True)
    shutil.copytree(given / "rest", made)
    data = b"".join((given / name).read_bytes() for name in listed["parts"])
    if hashlib.sha256(data).hexdigest() != listed["sha256"]:
        raise ValueError(f"The parts in {given} are damaged; split and copy the model again.")
    (made / WEIGHTS).write_bytes(data)


def random_model(name: str, folder: Path, small: bool) -> None:
    """Save a model of the same shape with random weights, and a tokenizer of one token a word."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import BertConfig, BertModel, MPNetConfig, MPNetModel

    shape, vocabulary = (TINY, 200) if small else (SHAPES[name], 30_527)
    words = _tokenizer(vocabulary)
    sizes = {**shape, "num_attention_heads": 2 if small else 12, "vocab_size": len(words), "pad_token_id": 1}
    config: Any = (MPNetConfig if name == "mpnet" else BertConfig)(**sizes)
    torch.manual_seed(0)
    base = folder.with_name(f"{name}-base")
    (MPNetModel if name == "mpnet" else BertModel)(config).eval().save_pretrained(base)
    words.save_pretrained(base)
    first = Transformer(str(base), max_seq_length=min(384, shape["max_position_embeddings"] - 2))
    pooled = Pooling(shape["hidden_size"], "mean")
    SentenceTransformer(modules=[first, pooled, Normalize()], device="cpu").save(str(folder))


def _tokenizer(size: int) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    marks = {"cls": "[CLS]", "pad": "[PAD]", "sep": "[SEP]", "unk": "[UNK]", "mask": "[MASK]"}
    words = [*marks.values(), *(_word(number) for number in range(size - len(marks)))]
    made = Tokenizer(models.WordPiece({word: at for at, word in enumerate(words)}, unk_token=marks["unk"]))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, model_max_length=512, **{f"{name}_token": mark for name, mark in marks.items()}
    )


def _word(number: int) -> str:
    """A word of four letters or more."""
    letters = ""
    while number or len(letters) < 4:
        number, letter = divmod(number, 26)
        letters += chr(ord("a") + letter)
    return letters


def texts_of(tokenizer: Any, length: int, count: int, seed: int = 0) -> list[str]:
    """Texts of exactly ``length`` tokens each: random words of the vocabulary that are one token."""
    words = [word for word in sorted(tokenizer.get_vocab()) if len(word) > 3 and word.isascii() and word.isalpha()]
    chance = np.random.default_rng(seed)
    drawn = chance.integers(len(words), size=(count, length - 2))
    return [" ".join(words[at] for at in row) for row in drawn.tolist()]


if __name__ == "__main__":
    if sys.argv[1:2] != ["split"] or len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    for file in split(Path(sys.argv[2]), Path(sys.argv[3]), *map(float, sys.argv[4:])):
        print(file)
