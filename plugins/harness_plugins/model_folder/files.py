"""A sentence-transformers folder on disk: whether it can be run, and which files determine the vectors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

from harness.download.local_weights import hashes
from harness.storage.regular_files import open_regular
from harness.storage.safe_load import parse_json, read_json
from harness.types import ModelError, Options, UserError
from harness_plugins.model_folder.kind import require_bi_encoder
from harness_plugins.model_folder.modules import Module, configurations, modules
from harness_plugins.model_folder.outside_files import BASE, outside
from harness_plugins.model_folder.verify import require_valid

_ROOT_FILES = (
    "modules.json",
    "config.json",
    "config.*.json",
    "config_sentence_transformers.json",
    "adapter_config.json",
    "router_config.json",
    "sentence_*_config.json",
    "cnn_config.json",
    "lstm_config.json",
    "wordembedding_config.json",
    "*token*.json",
    "vocab.*",
    "*vocab*.json",
    "merges.txt",
    "bpe.codes",
    "dict.txt",
    "normalizer.json",
    "byte_maps.json",
    "word_*.json",
    "emoji.json",
    "tekken.json",
    "*.tokenizer",
    "*.tiktoken",
    "*.spm",
    "*.model",
    "tokenizer.model.*",
    "*.safetensors*",
    "chat_template*",
    "additional_chat_templates/*.jinja",
    "*processor_config.json",
)
"""Files that the libraries read for a module in the folder's root."""
_NEEDED = {
    "Transformer": ("config.json", "*.safetensors"),
    "Pooling": ("config.json",),
    "Dense": ("config.json", "*.safetensors"),
}
"""Module class -> files that its folder must have."""
HEADER_BYTES = 100_000_000
"""Largest header of a safetensors file; the library refuses longer ones."""
CARD_BYTES = 20_000
"""How much of a model card is read."""


def folder_of(options: Options) -> Path:
    """The model's folder, from JSON files and file names alone.

    Raises:
        UserError: It does not hold a sentence-transformers bi-encoder that can be run here.
    """
    folder = Path(str(options["path"]))
    require_bi_encoder(folder)
    if not (folder / "modules.json").is_file():
        raise ModelError(
            f"{folder} is not a sentence-transformers folder (it has no modules.json); "
            "give -m a folder that SentenceTransformer.save() wrote."
        )
    require_valid(folder, modules(folder))
    if truncated(folder) == 0:
        raise ModelError(
            f"{folder / 'config_sentence_transformers.json'} sets truncate_dim to something other than a positive "
            f"integer; remove that key."
        )
    return folder


def truncated(folder: Path) -> int | None:
    """The folder's truncate_dim: None where it is not set, 0 where it is invalid."""
    with suppress(OSError, ValueError):
        for content in configurations(folder, "config_sentence_transformers.json"):
            stated = content.get("truncate_dim")
            sound = isinstance(stated, int) and not isinstance(stated, bool) and stated > 0
            return None if stated is None else int(stated) if sound else 0
    return None


def module_folders(folder: Path) -> list[Path]:
    """Folders of the modules, including those behind a router; UserError as in `modules`."""
    return [module.place for module in modules(folder)]


def root_files(folder: Path) -> list[Path]:
    """Files in the root that determine the model's outputs, sorted by name."""
    return sorted({p for pattern in _ROOT_FILES for p in folder.glob(pattern) if p.is_file()})


def files_of(folder: Path) -> list[Path]:
    """Files that sentence-transformers reads, sorted by name; without model cards, logs and exports."""
    places = [place for place in module_folders(folder) if place != folder]
    inside = [p for place in places for p in (*place.rglob("*"), *place.glob("additional_chat_templates/*.jinja"))]
    root = root_files(folder)
    return sorted({p for p in [*inside, *root] if p.is_file() and p.name != "desktop.ini"})


def hashes_of(folder: Path, parts: list[Module], files: list[Path]) -> dict[str, str]:
    """Name -> hex SHA-256 of ``files`` and of files outside the folder that its modules read."""
    found = hashes(folder, files)
    for prefix, place in outside(parts, folder).items():
        there = [file for file in root_files(place) if BASE in prefix or ".safetensors" not in file.name]
        found |= {f"{prefix}/{name}": digest for name, digest in hashes(place, there).items()}
    return found


def incomplete(folder: Path) -> str:
    """Describe what a checkpoint lacks; empty where every module is complete. Reads only headers."""
    try:
        folder_of({"path": str(folder)})
        for module in modules(folder):
            for pattern in _NEEDED.get(module.name, ()):
                if not any(file.stat().st_size for file in module.place.glob(pattern)):
                    return f"{module.place / pattern} is missing or empty"
    except UserError as error:
        return str(error).partition(";")[0]
    except OSError as error:
        return f"{folder} cannot be read ({error})"
    for file in files_of(folder):
        if file.suffix == ".safetensors" and not _whole(file):
            return f"{file} is cut short"
    return ""


def _whole(file: Path) -> bool:
    with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        length, header = _header(file)
        ends = [entry["data_offsets"][1] for entry in header.values()]
        return bool(file.stat().st_size == 8 + length + max(ends, default=0))
    return False


def _header(file: Path) -> tuple[int, dict[str, Any]]:
    """Length in bytes and content of a safetensors header; ValueError for an invalid file."""
    with open_regular(file) as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > HEADER_BYTES:
            raise ValueError(f"a header of {length:,} bytes")
        header = parse_json(stream.read(length))
    if not isinstance(header, dict):
        raise ValueError("a header that is not a JSON object")
    return length, {name: entry for name, entry in header.items() if name != "__metadata__"}


def facts(options: Options) -> dict[str, Any]:
    """``dim`` and the `sizes`, as far as the files state them."""
    folder = folder_of(options)
    folders = module_folders(folder)
    stated = sizes(folder, folders)
    for module in folders:
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
            config = read_json(module / "config.json")
            for key in ("hidden_size", "embedding_dimension", "word_embedding_dimension", "out_features"):
                stated["dim"] = int(config.get(key, stated.get("dim", 0)))  # the last module decides
            if isinstance(modes := config.get("pooling_mode"), list):
                stated["dim"] *= len(modes)
    if stated.get("dim") and (most := truncated(folder)):
        stated["dim"] = min(stated["dim"], most)
    return {name: value for name, value in stated.items() if value}


def sizes(folder: Path, folders: Sequence[Path]) -> dict[str, Any]:
    """``flops_per_token``, ``parameters``, ``max_tokens`` and ``licence`` of modules, as far as the files state them.

    Reads only headers. A token costs two operations per parameter of the first module's matrices, without embeddings
    and the unused pooler. What is not stated is 0 or empty.
    """
    shapes = {place: [shape for file in place.glob("*.safetensors") for shape in _tensors(file)] for place in folders}
    return {
        "flops_per_token": 2.0 * sum(prod(shape) for name, shape in shapes[folders[0]] if _every_token(name, shape)),
        "parameters": sum(prod(shape) for place in {*folders} for name, shape in shapes[place] if "_ids" not in name),
        "max_tokens": _max_tokens(folders[0]),
        "licence": _licence(folder),
    }


def _max_tokens(module: Path) -> int:
    with suppress(OSError, ValueError):
        found = [content.get("max_seq_length") for content in configurations(module, "sentence_*_config.json")]
        return next((number for number in found if isinstance(number, int) and number > 0), 0)
    return 0


def _licence(folder: Path) -> str:
    """``license`` in the header of the model card; empty if it is not stated."""
    with suppress(OSError):
        with open_regular(folder / "README.md") as stream:
            card = stream.read(CARD_BYTES).decode(errors="replace")
        header = card.partition("---\n")[2].partition("\n---")[0] if card.startswith("---\n") else ""
        found = re.search(r"^license: *[\"']?([\w.+-]{1,40})[\"']?\s*$", header, re.MULTILINE)
        return found[1] if found else ""
    return ""


def gives_token_types(place: Path) -> bool:
    """Whether the tokenizer in a transformer's folder may assign tokens to a second segment."""
    try:
        processing = read_json(place / "tokenizer.json")["post_processor"]
    except (OSError, ValueError, LookupError, TypeError):
        return True
    return any(number != 0 for number in _values(processing, "type_id", skip="pair"))


def pools(folder: Path) -> bool:
    """Whether the vectors come from the transformer's own pooler instead of a sentence-transformers module."""
    with suppress(OSError, ValueError, UserError):
        contents = [configurations(place, "sentence_*_config.json") for place in module_folders(folder)]
        return any("pooler" in str(name) for name in _values(contents, "method_output_name"))
    return False


def _values(content: object, key: str, skip: str = "") -> Iterator[object]:
    """Values of a key in a JSON value, at any depth except below the key ``skip``."""
    if isinstance(content, list):
        for each in content:
            yield from _values(each, key, skip)
    elif isinstance(content, dict):
        for name, each in content.items():
            if name == key:
                yield each
            elif name != skip:
                yield from _values(each, key, skip)


def _tensors(file: Path) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the tensors in a safetensors file."""
    try:
        return [(name, tuple(map(int, entry["shape"]))) for name, entry in _header(file)[1].items()]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ModelError(f"{file} is not a safetensors file ({error}); save the model again.") from None


def _every_token(name: str, shape: tuple[int, ...]) -> bool:
    """Whether it is a matrix that is applied to every token."""
    return len(shape) == 2 and not any(word in name for word in ("embed", "pooler", "bias", "lm_head"))
