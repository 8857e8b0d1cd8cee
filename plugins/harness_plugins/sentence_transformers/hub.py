"""Any sentence-transformers model of the Hugging Face hub: ``-m st:organisation/name``, ``@commit`` to pin it.

The harness downloads the files (`harness.download.hub_models`) and loads them like any local folder: safetensors only,
and no code from the repository.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness import ModelFacts, ModelFiles, ModelSpec, Option, Packages, hookimpl
from harness.storage.atomic import sha256_file
from harness.types import Options
from harness_plugins.sentence_transformers.checkpoint import OPTIONS
from harness_plugins.sentence_transformers.trained import BASES

NAME = Option(None, "its name on the hub, organisation/name, with @commit to pin it; stands after st:")


@hookimpl
def harness_models() -> Iterable[ModelSpec]:
    """Register the model that runs any model of the hub."""
    yield ModelSpec(
        name="st",
        kind="dense",
        load="harness_plugins.sentence_transformers.checkpoint:load",
        fingerprint="harness_plugins.sentence_transformers.checkpoint:fingerprint",
        facts=ModelFacts(
            may_fall_back="harness_plugins.sentence_transformers.checkpoint:trial",
            by_options="harness_plugins.sentence_transformers.hub:figures",
            training="harness_plugins.sentence_transformers.hub:training",
        ),
        files=ModelFiles(
            repository="harness_plugins.sentence_transformers.hub:repository",
            argument="name",
        ),
        summary="any sentence-transformers model of the hub: -m st:organisation/name",
        options={**OPTIONS, "name": NAME, "path": Option(None, "a local copy of it, used instead")},
        packages=Packages(
            modules=("torch", "sentence_transformers", "faiss"),
            extra="dense",
        ),
    )


def repository(options: Options) -> str:
    """The part after ``st:``."""
    return str(options["name"])


def figures(options: Options) -> dict[str, float]:
    """As for a checkpoint, once it is downloaded."""
    from harness_plugins.model_folder.files import figures as of_folder

    return of_folder(options) if options["path"] else {}


def training(options: Options) -> dict[str, Any]:
    """Training data of models recognised by their weights; {} for others, since the hub does not state it."""
    file = Path(str(options["path"])) / "model.safetensors"
    digest = sha256_file(file) if options["path"] and file.is_file() else ""
    known = (seen for weights, seen in BASES.values() if weights.sha256["model.safetensors"] == digest)
    return next(({"trained_on": list(seen)} for seen in known), {})
