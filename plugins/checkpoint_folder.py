"""A sentence-transformers folder on disk: whether it is one, and which of its files decide the vectors."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any

from harness import UserError
from harness.bounded import parse_json, read_json
from harness.regular import open_regular
from harness.spec import Options

_ROOT_FILES = (
    "modules.json",
    "config.json",
    "config_sentence_transformers.json",
    "adapter_config.json",
    "router_config.json",
    "sentence_*_config.json",
    "*token*.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "*.safetensors*",
    "chat_template*",
    "*processor_config.json",
)
_NEEDED = {
    "Transformer": ("config.json", "*.safetensors", "*token*.json"),
    "Pooling": ("config.json",),
    "Dense": ("config.json", "*.safetensors"),
}
"""Module of sentence-transformers -> what its folder cannot do without."""
MOST = 100
"""Modules of one model."""
HEADER_BYTES = 100_000_000
"""Of a safetensors file; the library refuses longer ones."""


def folder_of(options: Options) -> Path:
    """The model's folder; UserError when it is not a sentence-transformers folder."""
    folder = Path(str(options["path"]))
    if not (folder / "modules.json").is_file():
        raise UserError(
            f"{folder} is not a sentence-transformers folder (it has no modules.json); "
            "give -m a folder that SentenceTransformer.save() wrote."
        )
    bare = [folder]
    if any(folder.rglob("*.safetensors")):
        pickled = [m for m in module_folders(folder) if any(m.glob("pytorch_model*.bin"))]
        bare = [m for m in pickled if not any(m.glob("*.safetensors"))]
    if bare:
        raise UserError(
            f"{bare[0]} holds no .safetensors weights (pickled weights are never opened); "
            "save it again with SentenceTransformer(...).save(folder)."
        )
    return folder


def module_folders(folder: Path) -> list[Path]:
    """Where the modules lie, those that a router leads to included; UserError when modules.json does not tell."""
    try:
        folders = [_inside(folder, m["path"], m["type"]) for m in read_json(folder / "modules.json")]
        for place in folders:  # grows meanwhile
            if len(folders) > MOST:
                raise ValueError(f"it leads to more than {MOST} modules")
            if (router := place / "router_config.json").is_file():
                folders += [_inside(place, name, kind) for name, kind in read_json(router)["types"].items()]
        if not folders:
            raise ValueError("it is empty")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{folder / 'modules.json'} is no list of modules ({type(error).__name__}: {error}); save the model again."
        ) from None
    return folders


def _inside(folder: Path, name: str, kind: str) -> Path:
    """A module's folder; ValueError for one elsewhere, and for a class that is not sentence-transformers' own."""
    if PurePath(name).is_absolute() or ".." in PurePath(name).parts or "\0" in name:
        raise ValueError(f"{name!r} leads out of the folder")
    if not kind.startswith("sentence_transformers."):
        raise ValueError(f"{kind!r} is no module of sentence-transformers, and other code is never run")
    return folder / name


def root_files(folder: Path) -> list[Path]:
    """What decides the outputs of the model that lies in the folder itself, in name order."""
    return sorted({p for pattern in _ROOT_FILES for p in folder.glob(pattern) if p.is_file()})


def files_of(folder: Path) -> list[Path]:
    """The files that sentence-transformers reads, in name order; not the cards, logs and exports beside them."""
    inside = [p for module in module_folders(folder) if module != folder for p in module.rglob("*")]
    root = root_files(folder)
    return sorted({p for p in [*inside, *root] if p.is_file() and p.name != "desktop.ini"})


def incomplete(folder: Path) -> str:
    """What a checkpoint lacks, in words; nothing where each of its modules is whole. Only headers are read."""
    try:
        folder_of({"path": str(folder)})
        module_folders(folder)
        modules = read_json(folder / "modules.json")
        for place, kind in ((folder / m["path"], str(m["type"]).rpartition(".")[2]) for m in modules):
            for pattern in _NEEDED.get(kind, ()):
                if not any(file.stat().st_size for file in place.glob(pattern)):
                    return f"{place / pattern} is missing or empty"
    except UserError as error:
        return str(error).partition(";")[0]
    except (OSError, ValueError, TypeError, KeyError) as error:
        return f"{folder / 'modules.json'} cannot be read ({type(error).__name__}: {error})"
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
    """The length in bytes of a safetensors file's header, and what it says of each tensor; ValueError for none."""
    with open_regular(file) as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > HEADER_BYTES:
            raise ValueError(f"a header of {length:,} bytes")
        header = parse_json(stream.read(length))
    if not isinstance(header, dict):
        raise ValueError("a header that is no JSON object")
    return length, {name: entry for name, entry in header.items() if name != "__metadata__"}


def figures(options: Options) -> dict[str, float]:
    """``dim`` and ``flops_per_token`` as the folder's files state them; what they do not state is left out.

    A token's forward pass costs two operations per parameter of every matrix of the first module, embeddings and the
    pooler (which sentence-transformers does not use) apart. Only headers are read.
    """
    folders = module_folders(folder_of(options))
    shapes = [shape for file in folders[0].glob("*.safetensors") for shape in _matrices(file)]
    stated = {"flops_per_token": 2.0 * sum(rows * columns for rows, columns in shapes)}
    for module in folders:
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
            config = read_json(module / "config.json")
            for key in ("hidden_size", "embedding_dimension", "word_embedding_dimension", "out_features"):
                stated["dim"] = int(config.get(key, stated.get("dim", 0)))  # the last module has the last word
            if isinstance(modes := config.get("pooling_mode"), list):
                stated["dim"] *= len(modes)
    return {name: value for name, value in stated.items() if value}


UNSTATED = ("truncation", "padding")
"""What tokenizer.json says of the last call before it was saved; every call states them anew."""


def tokenizer(options: Options) -> dict[str, Any]:
    """Role -> what decides its tokens, as far as files and options tell; {} where there is no tokenizer.json.

    A checkpoint's tokenizer.json differs in bytes from its base's, not in what it does. Prompts that the folder states
    are left out: the loaded model knows which of them counts.
    """
    folder = module_folders(folder_of(options))[0]
    length = options["max_seq_length"]
    try:
        plain = {key: part for key, part in read_json(folder / "tokenizer.json").items() if key not in UNSTATED}
        configs = [*sorted(folder.glob("sentence_*_config.json")), folder / "tokenizer_config.json"]
        for config in (read_json(file) for file in configs if file.is_file()):
            length = length or config.get("max_seq_length") or config.get("model_max_length")
    except (OSError, ValueError, AttributeError):
        return {}
    return {role: [plain, length, options[f"{role}_prompt"]] for role in ("query", "document")}


def _matrices(file: Path) -> list[tuple[int, int]]:
    """Shapes of the matrices in a safetensors file that every token is multiplied by."""
    apart = ("embed", "pooler", "bias", "lm_head")
    try:
        named = {name: entry["shape"] for name, entry in _header(file)[1].items()}
        shapes = [s for name, s in named.items() if len(s) == 2 and not any(word in name for word in apart)]
        return [(int(rows), int(columns)) for rows, columns in shapes]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{file} is no safetensors file ({error}); save the model again.") from None
