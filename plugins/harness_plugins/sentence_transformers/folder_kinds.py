"""Model folders of other kinds than bi-encoders: which descriptor runs one, and what determines its vectors.

``-m path/to/folder`` and ``-m st:organisation/name`` find out the kind from the folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

from harness import ModelFiles, ModelSpec, Option
from harness.types import ModelError, Options
from harness_plugins.model_folder.files import files_of, hashes_of, root_files
from harness_plugins.model_folder.kind import Kind, kind_of
from harness_plugins.model_folder.modules import Module, modules
from harness_plugins.model_folder.verify import require_valid
from harness_plugins.sentence_transformers import checkpoint, hub, prompts

DTYPES = ("auto", "float32", "bfloat16", "float16")
STANFORD = "artifact.metadata"
"""File of a folder that ColBERT's own code wrote, with its settings."""


class FolderKind(NamedTuple):
    """How folders of one kind are run."""

    kind: Literal["sparse", "multivector"]
    module: str
    """Has ``load`` and ``fingerprint``."""
    writer: str
    """The class of sentence-transformers that writes such folders."""
    plain: bool = False
    """Whether folders without modules.json can be run."""


HERE = "harness_plugins.sentence_transformers"
KINDS: Mapping[Kind, FolderKind] = {
    "sparse encoder": FolderKind("sparse", f"{HERE}.sparse", "SparseEncoder"),
    "multi-vector encoder": FolderKind("multivector", f"{HERE}.multivector", "MultiVectorEncoder", plain=True),
}
"""Kind of a folder -> how it is run. `harness_plugins.sentence_transformers.checkpoint` has bi-encoders."""


def of_folder(options: Options) -> ModelSpec | None:
    """The descriptor that runs the folder ``path``, of the hub if a ``name`` is given; None for a bi-encoder."""
    with suppress(ModelError, OSError):
        kind = kind_of(Path(str(options["path"])))[0]
        if kind in KINDS:
            return _of_hub(kind) if options.get("name") else _of_checkpoint(kind)
    return None


def _of_checkpoint(kind: Kind) -> ModelSpec:
    return _described("checkpoint", kind, f"a local {kind}", {}, ModelFiles(path_option="path"))


def _of_hub(kind: Kind) -> ModelSpec:
    files = ModelFiles(repository="harness_plugins.sentence_transformers.hub:repository", argument="name")
    return _described("st", kind, f"a {kind} of the hub", {"name": hub.NAME}, files)


def _described(name: str, kind: Kind, summary: str, options: Mapping[str, Option], files: ModelFiles) -> ModelSpec:
    shared = {key: option for key, option in checkpoint.OPTIONS.items() if key not in ("forward", "dtype")}
    dtype = Option("auto", checkpoint.OPTIONS["dtype"].help.partition("; int8")[0], choices=DTYPES)
    return ModelSpec(
        name,
        KINDS[kind].kind,
        load=f"{KINDS[kind].module}:load",
        fingerprint=f"{KINDS[kind].module}:fingerprint",
        summary=summary,
        options={**shared, "dtype": dtype, **options},
        packages=checkpoint.PACKAGES,
        files=files,
    )


def folder_of(options: Options, kind: Kind) -> Path:
    """The model's folder; UserError when it cannot be run here. Reads only JSON files and file names."""
    folder = Path(str(options["path"]))
    if kind_of(folder)[0] != kind:
        raise ModelError(f"{folder} is not a {kind}; run it with -m {folder}.")
    if not (folder / "modules.json").is_file() and not KINDS[kind].plain:
        raise ModelError(
            f"{folder} has no modules.json; give -m a folder that {KINDS[kind].writer}(...).save_pretrained() wrote."
        )
    require_valid(folder, _parts(folder))
    return folder


def fingerprint(options: Options, kind: Kind, implementation: str) -> dict[str, Any]:
    """Everything that determines the vectors; hashes files without loading the model."""
    folder = folder_of(options, kind)
    whole = (folder / "modules.json").is_file()
    files = files_of(folder) if whole else sorted([*root_files(folder), *folder.glob(STANFORD)])
    return {
        "files": hashes_of(folder, _parts(folder), files),
        "implementation": implementation,
        "dtype": checkpoint.resolve_dtype(str(options["dtype"]), str(options["device"])),
        "max_seq_length": options["max_seq_length"],
        **{f"{role}_prompt": prompt for role, prompt in prompts.chosen(options, folder).items()},
    }


def _parts(folder: Path) -> list[Module]:
    """The modules; of a folder without modules.json, its transformer."""
    if (folder / "modules.json").is_file():
        return modules(folder)
    if not (folder / "model.safetensors").is_file():  # sentence-transformers would open a pickled file instead
        raise ModelError(f"{folder} has no model.safetensors, and pickled weights are never opened; save it again.")
    return [Module(folder, "sentence_transformers.base.modules.Transformer")]
