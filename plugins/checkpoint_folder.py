"""A sentence-transformers folder on disk: whether it is one, and which of its files decide the vectors."""

from __future__ import annotations

import json
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
        pickled = [m for m in _module_folders(folder) if any(m.glob("pytorch_model*.bin"))]
        bare = [m for m in pickled if not any(m.glob("*.safetensors"))]
    if bare:
        raise UserError(
            f"{bare[0]} holds no .safetensors weights (pickled weights are never opened); "
            "save it again with SentenceTransformer(...).save(folder)."
        )
    return folder


def _module_folders(folder: Path) -> list[Path]:
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
    inside = [p for module in _module_folders(folder) if module != folder for p in module.rglob("*")]
    root = root_files(folder)
    return sorted({p for p in [*inside, *root] if p.is_file() and p.name != "desktop.ini"})
