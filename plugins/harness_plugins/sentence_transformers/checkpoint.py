"""Any local sentence-transformers folder as a model: ``-m path/to/checkpoint``. Also what `mpnet` and `minilm` load."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import ModelFacts, ModelFiles, ModelSpec, Option, Packages, Role, UserError, Weights, hookimpl
from harness.registry.load_fallback import Otherwise, Refused
from harness.storage.atomic import content_key
from harness.system.environment import multiplies_bfloat16
from harness.types import Options
from harness_plugins.forward import architectures
from harness_plugins.model_folder.files import files_of, folder_of, gives_token_types, hashes_of, module_folders, pools
from harness_plugins.model_folder.load import load_errors, load_model, require_vocabulary
from harness_plugins.model_folder.modules import modules, pools_prompt
from harness_plugins.model_folder.pinned import TRAINED_ON
from harness_plugins.sentence_transformers import prompts
from harness_plugins.sentence_transformers.agreement import require_agreement, samples
from harness_plugins.sentence_transformers.limits import limit_length

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness_plugins.sentence_transformers.encoder import Encoder

IMPLEMENTATIONS = {
    "stock": "sentence-transformers padded batches, bf16/fp16 linear layers under autocast, fp32 pooling; 1",
    "stock with CNN": "sentence-transformers padded batches, bf16/fp16 linear layers under autocast, fp32 pooling; 2",
    "packed": "texts end to end, bf16/fp16 matrix products, fp32 LayerNorm, residuals, pooling, undecided texts; 2",
    "int8": "as packed, feed-forward layers in int8 but for one neuron in 24, ranges of fixed texts; 1",
    "encode": "SentenceTransformer.encode of 8 texts, bf16/fp16 linear layers under autocast; 1",
}
"""Part of the fingerprint, so that vectors of different forward passes never share a key."""
TRAINED = "harness_plugins.sentence_transformers.trained"
OF_FOLDER = "harness_plugins.sentence_transformers.folder_kinds:of_folder"
"""Describes a folder or a model of the hub that turns out to be of another kind than a bi-encoder."""
PACKAGES = Packages(modules=("torch", "sentence_transformers", "faiss"), extra="dense")
OPTIONS: dict[str, Option] = {
    "path": Option(None, "a local sentence-transformers folder"),
    "dtype": Option(
        "auto",
        "of the matrix products; auto: bfloat16 where the processor has it, else float32; int8: faster, less exact",
        choices=("auto", "float32", "bfloat16", "float16", "int8"),
    ),
    "device": Option("auto", "auto: the first GPU, else the CPU; or cpu, cuda, cuda:1, mps"),
    "forward": Option(
        "auto",
        "packed: without padding, for the families in docs/model-folders.md; stock: transformers' own, in batches of "
        "one length; encode: sentence-transformers' encode(); auto: packed on a CPU, else stock, where they give "
        "encode()'s vectors",
        choices=("auto", "packed", "stock", "encode"),
    ),
    "max_seq_length": Option(0, "tokens kept of a text; 0: what the folder says", minimum=0),
    "query_prompt": Option(None, "put before every query; unset: what the folder says", role="query"),
    "document_prompt": Option(None, "put before every document; unset: what the folder says", role="document"),
    "query_prompt_name": Option(None, "put before every query: the prompt that the folder stores under this name"),
    "document_prompt_name": Option(None, "put before every document: the folder's prompt of this name"),
    "prompt_name": Option(None, "a task whose prompts the folder stores: NAME-query or NAME, and NAME-document"),
}


@hookimpl
def harness_models() -> Iterable[ModelSpec]:
    """Register the model that runs any folder."""
    yield folder_model(
        "checkpoint",
        "any local sentence-transformers folder, dense, sparse or multi-vector: -m path/to/folder",
        ModelFacts(by_options="harness_plugins.model_folder.files:facts", training=f"{TRAINED}:training"),
        load=f"{TRAINED}:load",
        fingerprint=f"{TRAINED}:fingerprint",
        files=ModelFiles(path_option="path", becomes=OF_FOLDER),
    )


def folder_model(
    name: str, summary: str, facts: ModelFacts, options: Mapping[str, Option] | None = None, **fields: Any
) -> ModelSpec:
    """The descriptor of a model that is loaded from a folder as this module does it.

    Args:
        name: The model's.
        summary: The model's.
        facts: The model's; that it may fall back is added.
        options: Options besides `OPTIONS`, or in place of them.
        **fields: Further fields of `ModelSpec`.
    """
    shared = {"load": f"{__name__}:load", "fingerprint": f"{__name__}:fingerprint", "packages": PACKAGES, **fields}
    facts = replace(facts, may_fall_back=f"{__name__}:trial")
    own = {**OPTIONS, **(options or {})}
    return ModelSpec(name, "dense", summary=summary, options=own, facts=facts, **shared)


def pinned_model(weights: Weights, summary: str, facts: ModelFacts) -> ModelSpec:
    """The descriptor of a published model with pinned weights."""
    return folder_model(
        weights.name,
        summary,
        facts,
        {"path": Option(None, "a local copy of the model, used instead of the fetched one")},
        similarity="cosine",
        files=ModelFiles(weights=weights),
        trained_on=TRAINED_ON,
    )


def resolve_dtype(dtype: str, device: str) -> str:
    """Resolve ``auto`` for this machine. Imports torch only to query the processor."""
    if dtype != "auto":
        return dtype
    if resolve_device(device) == "cpu":
        return "bfloat16" if multiplies_bfloat16() else "float32"
    return "bfloat16"


def resolve_device(device: str) -> str:
    """Resolve ``auto`` for this machine; torch is not imported when there is no NVIDIA driver on Linux."""
    if device != "auto":
        return device
    if not Path("/dev/nvidiactl").exists() and os.name == "posix" and os.uname().sysname == "Linux":
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def resolve_forward(options: Options, folder: Path) -> str:
    """Resolve ``auto`` to ``packed``, ``stock`` or ``encode``; UserError for an unsupported ``packed`` or int8."""
    asked, device = str(options["forward"]), resolve_device(str(options["device"]))
    family, cpu = architectures.family_in(module_folders(folder)[0]), device == "cpu"
    fits = family is not None and architectures.runs_on(family, device)
    if asked == "packed" and not fits:
        raise UserError(architectures.unsupported(folder, device))
    pooled = pools_prompt(folder)
    packs = fits and (asked == "packed" or (asked == "auto" and cpu and pooled))
    # Texts with and without a prompt go one way, so that documents do not depend on the queries' prompt.
    chosen = "packed" if packs else "stock" if pooled and asked != "encode" else "encode"
    if options["dtype"] == "int8" and not (chosen == "packed" and cpu and family is not None and family.absolute):
        raise UserError(
            f"dtype=int8 is for encoders like BERT, RoBERTa and MPNet packed on a CPU, and {folder} is not; omit that "
            f"option."
        )
    return chosen


PLAIN = ("Pooling", "Dense", "Normalize", "LayerNorm", "Dropout")
"""Modules whose only input is token embeddings or vectors."""


def trial(options: Options) -> bool:
    """Whether loading may reveal that the chosen forward pass gives other vectors than encode()."""
    folder = folder_of(options)
    chosen = resolve_forward(options, folder)
    if chosen != "stock":
        return chosen == "packed"
    first, *others = modules(folder)
    return any(module.name not in PLAIN for module in others) or gives_token_types(first.place)


def fingerprint(options: Options) -> dict[str, Any]:
    """Everything that determines the vectors; hashes files without loading the model."""
    folder = folder_of(options)
    found, implementation = modules(folder), resolve_forward(options, folder)
    if options["dtype"] == "int8":
        implementation = "int8"
    elif implementation == "stock" and any(module.name == "CNN" for module in found):
        implementation = "stock with CNN"
    return {
        "files": hashes_of(folder, found, files_of(folder)),
        "implementation": IMPLEMENTATIONS[implementation],
        "dtype": resolve_dtype(str(options["dtype"]), str(options["device"])),
        "max_seq_length": options["max_seq_length"],
        **{f"{role}_prompt": prompt for role, prompt in prompts.chosen(options, folder).items()},
    }


def load(options: Options) -> Encoder:
    """Load the folder: a `TokenModel` when its first module is a plain text transformer, else a `DenseModel`.

    A model whose last module normalises pooled embeddings takes those that heads on it have stored.
    """
    from harness_plugins.sentence_transformers.encoder import TokenEncoder

    folder = folder_of(options)
    with load_errors(folder):
        encoder = _load(folder, options)
    if isinstance(encoder, TokenEncoder) and [module.name for module in modules(folder)][1:] == [
        "Pooling",
        "Normalize",
    ]:
        encoder.share_base(base_key(options, encoder), keeps=False)
    return encoder


def base_key(options: Options, encoder: Encoder, files: str = "") -> str:
    """Key of a base's embeddings before its head.

    Args:
        options: Of the model that is loaded.
        encoder: That model.
        files: Hash of the base's files; empty: the model is the base itself.
    """
    stated = fingerprint(options)
    own = content_key(stated.pop("files"))
    del stated["max_seq_length"]  # 0 where the folder states the length that is used
    texts = {"max_seq_length": encoder.model.max_seq_length, "prompts": encoder.prompts}
    return content_key({"base": files or own, "what": "embeddings before the head", **stated, **texts})


def _load(folder: Path, options: Options) -> Encoder:
    from sentence_transformers import SentenceTransformer

    device = resolve_device(str(options["device"]))
    model = load_model(SentenceTransformer, folder, device, unused="" if pools(folder) else "pooler")
    require_vocabulary(model, folder)
    limit_length(model, folder, int(options["max_seq_length"] or 0))
    stated = prompts.chosen(options, folder)
    dtype = resolve_dtype(str(options["dtype"]), str(options["device"]))
    chosen = resolve_forward(options, folder)
    try:
        return make_encoder(model, dtype, stated, folder, chosen, named=options["forward"] == chosen)
    except Otherwise as other:
        if dtype == "int8":
            raise UserError(f"{folder} cannot be run with dtype=int8: {other.reason}; omit the dtype.") from other
        if options["forward"] == "packed":
            raise Refused(str(other)) from other
        raise


def make_encoder(
    model: Any, dtype: str, stated: Mapping[str, Any], folder: Path | str, chosen: str, *, named: bool
) -> Encoder:
    """The model with the ``chosen`` forward pass, or with encode() where texts cannot be tokenised separately.

    Raises:
        Otherwise: The pass gives other vectors than encode(), or the user ``named`` the unpadded pass and texts cannot
            be tokenised separately.
    """
    from harness_plugins.sentence_transformers.encoder import Encoder, TokenEncoder, UnpaddedEncoder

    encoder = Encoder(model, dtype, stated)
    if chosen != "encode":
        fast = (UnpaddedEncoder if chosen == "packed" else TokenEncoder)(model, dtype, stated)
        if fast.agrees():
            require_agreement(fast, _samples(encoder, folder))
            encoder = fast
        elif dtype == "int8" or (named and chosen == "packed"):
            raise Otherwise("this model prepares texts in a way of its own", forward="stock")
    encoder.narrow()
    return encoder


def _samples(encoder: Encoder, folder: Path | str) -> dict[Role, NDArray[np.float32]]:
    try:
        return samples(encoder)
    except Exception as error:  # incompatible modules may raise any exception
        raise Refused(
            f"{folder} cannot be run by sentence-transformers itself: encode() raises {type(error).__name__}: {error}; "
            f"its modules do not fit together."
        ) from error
