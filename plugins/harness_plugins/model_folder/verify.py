"""Checks that every module in a model's folder is complete and safe: weights, tokenizer and JSON files."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from harness import ModelError
from harness_plugins.model_folder.code import require_known_code
from harness_plugins.model_folder.modules import Module, configurations
from harness_plugins.model_folder.outside_files import outside

_VOCABULARIES = (
    *("tokenizer.json", "tokenizer.*.json", "vocab.*", "*vocab*.json", "*.model", "tokenizer.model.*", "*.spm"),
    *("bpe.codes", "byte_maps.json", "tekken.json", "*.tokenizer", "*.tiktoken"),
)
"""Vocabulary files of a tokenizer, of which one is enough."""
_WITHOUT_VOCABULARY = ("ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer", "canine", "perceiver")
"""Byte or character tokenizers and the model types that use them, which need no vocabulary file."""
_TRANSFORMERS = ("Transformer", "CLIPModel", "MLMTransformer")
_WEIGHTED = (
    *_TRANSFORMERS,
    *("Dense", "LayerNorm", "CNN", "LSTM", "StaticEmbedding", "WordEmbeddings", "WordWeights", "WeightedLayerPooling"),
    *("SparseStaticEmbedding", "SparseAutoEncoder"),
)
"""Modules that have weights."""


def require_valid(folder: Path, parts: list[Module]) -> None:
    """ModelError for missing weights or tokenizers, and for files that name disallowed code or outside files."""
    for module in parts:
        if there := _instead_of_weights(module):
            raise ModelError(
                f"{module.place} holds no .safetensors weights ({there}); save the model with "
                f"SentenceTransformer(...).save_pretrained(folder), which writes them."
            )
        if not _has_tokenizer(module):
            raise ModelError(
                f"{module.place} holds no tokenizer: neither tokenizer.json nor another file of a vocabulary "
                f"(vocab.txt, vocab.json, *.model), without which every word is unknown; copy those of the model that "
                f"it was trained from into it."
            )
    require_known_code(parts)
    for place in outside(parts, folder).values():
        require_known_code([Module(place, "Transformer")])


def _instead_of_weights(module: Module) -> str:
    """Describe what a module's folder holds instead of safetensors; empty where it has or needs none."""
    place, wanted = module.place, "model.safetensors"
    if module.name in _TRANSFORMERS:
        wanted = "adapter_model.safetensors" if (place / "adapter_config.json").is_file() else "*.safetensors"
    if module.name not in _WEIGHTED or any(place.glob(wanted)):
        return ""
    if pickled := sorted([*place.glob("pytorch_model*.bin"), *place.glob("adapter_model*.bin")]):
        return f"{pickled[0].name} is pickled, and pickled weights are never opened"
    for program in ("onnx", "openvino"):
        if (place / program).is_dir() or any(place.glob(f"*.{program}")):
            return f"only weights for {program.upper()}, which is not supported"
    return f"no {wanted} at all"


def _has_tokenizer(module: Module) -> bool:
    """False where the tokenizer of a module would have no vocabulary."""
    place = module.place
    if module.name == "StaticEmbedding":
        return (place / "tokenizer.json").is_file()
    if module.name not in (*_TRANSFORMERS, "SparseStaticEmbedding"):
        return True
    with suppress(OSError, ValueError):  # reported where the file is needed
        for content in configurations(place, "sentence_*_config.json", "tokenizer_config.json", "config.json"):
            kind = str(content.get("tokenizer_class") or content.get("model_type")).removesuffix("Fast")
            if content.get("tokenizer_name_or_path") or kind in _WITHOUT_VOCABULARY:
                return True
    return any(file.stat().st_size for pattern in _VOCABULARIES for file in place.glob(pattern) if file.is_file())
