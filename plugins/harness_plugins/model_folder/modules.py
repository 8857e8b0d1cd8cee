"""The modules of a sentence-transformers folder, from modules.json and router files. Loads nothing."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from harness import ModelError
from harness.storage.safe_load import read_json

MOST = 100
"""Maximum number of modules of a model."""
CLASSES = (
    *("Transformer", "CLIPModel", "Pooling", "Dense", "Normalize", "LayerNorm", "Dropout", "Router", "Asym"),
    *("CNN", "LSTM", "BoW", "WordEmbeddings", "WordWeights", "WeightedLayerPooling", "StaticEmbedding"),
)
"""The module classes of sentence-transformers' bi-encoders. Only these, `SPARSE_CLASSES` and `MULTI_VECTOR_CLASSES` are
ever imported for a folder."""
TYPE = re.compile(
    rf"sentence_transformers\.(?:models|base\.modules|sentence_transformer\.(?:models|modules))(?:\.\w+)?"
    rf"\.(?:{'|'.join(CLASSES)})"
)
"""Class name of a module in modules.json or router_config.json, in the form of any release."""
SPARSE_CLASSES = ("MLMTransformer", "SpladePooling", "SparseStaticEmbedding", "SparseAutoEncoder")
"""The further module classes of sparse encoders."""
SPARSE_TYPE = re.compile(
    rf"sentence_transformers\.sparse_encoder\.(?:models|modules)(?:\.\w+)?\.(?:{'|'.join(SPARSE_CLASSES)})"
)
MULTI_VECTOR_CLASSES = ("MultiVectorMask", "HierarchicalTokenPooling")
"""The further module classes of multi-vector encoders."""
MULTI_VECTOR_TYPE = re.compile(
    rf"sentence_transformers\.multi_vector_encoder\.modules(?:\.\w+)?\.(?:{'|'.join(MULTI_VECTOR_CLASSES)})"
    rf"|pylate\.models\.Dense\.Dense"
)
"""PyLate's Dense is a name by which sentence-transformers loads its own."""

ROUTERS = ("Router", "Asym")


class Module(NamedTuple):
    """One module."""

    place: Path
    """Its folder."""
    type: str
    """Dotted name of its class."""

    @property
    def name(self) -> str:
        """Class name without its package."""
        return self.type.rpartition(".")[2]


def listed(folder: Path) -> list[Module]:
    """Every module in order, including those of routers; ModelError when modules.json cannot be read."""
    try:
        found = [_inside(folder, entry["path"], entry["type"]) for entry in read_json(folder / "modules.json")]
        for module in found:  # grows during the loop
            if len(found) > MOST:
                raise ValueError(f"it leads to more than {MOST} modules")
            found += [_inside(module.place, name, kind) for name, kind in _routed(module).items()]
        if not found:
            raise ValueError("it is empty")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(
            f"{folder / 'modules.json'} is not a list of modules ({type(error).__name__}: {error}); "
            f"save the model again."
        ) from None
    return found


def modules(folder: Path) -> list[Module]:
    """As `listed`; ModelError for a class that is not among sentence-transformers' own."""
    found = listed(folder)
    for module in found:
        if not any(known.fullmatch(module.type) for known in (TYPE, SPARSE_TYPE, MULTI_VECTOR_TYPE)):
            raise ModelError(
                f"{folder} has a module of the class {module.type!r}, which is not one of sentence-transformers' own; "
                f"the code that a model's folder names is never run."
            )
    return found


def configurations(place: Path, *patterns: str) -> list[dict[str, Any]]:
    """The JSON objects in the files of a module that these patterns match. ValueError where one cannot be read."""
    files = sorted({file for pattern in patterns for file in place.glob(pattern) if file.is_file()})
    return [content for content in map(read_json, files) if isinstance(content, dict)]


def pools_prompt(folder: Path) -> bool:
    """Whether the tokens of a prompt are pooled like those of a text; ModelError where modules.json is unreadable."""
    with suppress(OSError, ValueError):
        pooling = (module for module in listed(folder) if module.name == "Pooling")
        stated = [content for module in pooling for content in configurations(module.place, "config.json")]
        return all(content.get("include_prompt") is not False for content in stated)
    return True


def _routed(module: Module) -> dict[str, Any]:
    """Folder -> class of a router's modules; {} for other modules."""
    files = ("router_config.json", "config.json") if module.name in ROUTERS else ("router_config.json",)
    found: dict[str, Any] = {}
    for content in configurations(module.place, *files):
        found |= content.get("types") or {}
    return found


def _inside(folder: Path, name: str, kind: Any) -> Module:
    """The module; ValueError where it lies outside the folder."""
    if PurePath(name).is_absolute() or ".." in PurePath(name).parts or "\0" in name:
        raise ValueError(f"{name!r} leads out of the folder")
    if not isinstance(kind, str):
        raise ValueError(f"{kind!r} is not the name of a class")
    return Module(folder / name, kind)
