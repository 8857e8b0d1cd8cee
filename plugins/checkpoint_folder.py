"""A sentence-transformers folder on disk: whether it is one, and which of its files decide the vectors."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from harness import UserError
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
        folders = [folder / module["path"] for module in json.loads((folder / "modules.json").read_bytes())]
        for place in folders:  # grows meanwhile
            if (router := place / "router_config.json").is_file():
                folders += [place / name for name in json.loads(router.read_bytes())["types"]]
        if not folders:
            raise ValueError("it is empty")
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{folder / 'modules.json'} is no list of modules ({type(error).__name__}: {error}); save the model again."
        ) from None
    return folders


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
        modules = json.loads((folder / "modules.json").read_bytes())
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
    with suppress(OSError, ValueError, KeyError, TypeError), file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length < file.stat().st_size:
            header = json.loads(stream.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            return file.stat().st_size == 8 + length + max(ends, default=0)
    return False


def figures(options: Options) -> dict[str, float]:
    """``dim`` and ``flops_per_token`` as the folder's files state them; what they do not state is left out.

    A token's forward pass costs two operations per parameter of every matrix of the first module, embeddings and the
    pooler (which sentence-transformers does not use) apart. Only headers are read.
    """
    folders = module_folders(folder_of(options))
    shapes = [shape for file in folders[0].glob("*.safetensors") for shape in _matrices(file)]
    stated = {"flops_per_token": 2.0 * sum(rows * columns for rows, columns in shapes)}
    for module in folders:
        with suppress(OSError, ValueError, KeyError, TypeError):
            config = json.loads((module / "config.json").read_bytes())
            for key in ("hidden_size", "embedding_dimension", "word_embedding_dimension", "out_features"):
                stated["dim"] = int(config.get(key, stated.get("dim", 0)))  # the last module has the last word
            if isinstance(modes := config.get("pooling_mode"), list):
                stated["dim"] *= len(modes)
    return {name: value for name, value in stated.items() if value}


def _matrices(file: Path) -> list[tuple[int, int]]:
    """Shapes of the matrices in a safetensors file that every token is multiplied by."""
    with file.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    named = {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
    apart = ("embed", "pooler", "bias", "lm_head")
    return [(s[0], s[1]) for name, s in named.items() if len(s) == 2 and not any(word in name for word in apart)]
