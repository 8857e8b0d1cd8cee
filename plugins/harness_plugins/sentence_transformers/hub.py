"""Any sentence-transformers model of the Hugging Face hub: ``-m st:organisation/name``, ``@commit`` to pin it.

The harness downloads the files (`harness.download.hub_models`) and loads them like any local folder: safetensors only,
and no code from the repository.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness import ModelFacts, ModelFiles, ModelSpec, Option, hookimpl
from harness.storage.atomic import sha256_file
from harness.types import Options
from harness_plugins.sentence_transformers.checkpoint import OF_FOLDER, folder_model
from harness_plugins.sentence_transformers.trained import BASES

NAME = Option(None, "its name on the hub, organisation/name, with @commit to pin it; stands after st:")


@hookimpl
def harness_models() -> Iterable[ModelSpec]:
    """Register the model that runs any model of the hub."""
    yield folder_model(
        "st",
        "any sentence-transformers model of the hub, dense, sparse or multi-vector: -m st:organisation/name",
        ModelFacts(by_options=f"{__name__}:facts", training=f"{__name__}:training"),
        {"name": NAME, "path": Option(None, "a local copy of it, used instead")},
        files=ModelFiles(repository=f"{__name__}:repository", argument="name", becomes=OF_FOLDER),
    )


def repository(options: Options) -> str:
    """The part after ``st:``."""
    return str(options["name"])


def facts(options: Options) -> dict[str, Any]:
    """As for a checkpoint, once it is downloaded."""
    from harness_plugins.model_folder.files import facts as of_folder

    return of_folder(options) if options["path"] else {}


def training(options: Options) -> dict[str, Any]:
    """Training data of models recognised by their weights; {} for others, since the hub does not state it."""
    file = Path(str(options["path"])) / "model.safetensors"
    digest = sha256_file(file) if options["path"] and file.is_file() else ""
    known = (seen for weights, seen in BASES.values() if weights.sha256["model.safetensors"] == digest)
    return next(({"trained_on": list(seen)} for seen in known), {})
