"""Any local sentence-transformers folder as a model: ``-m path/to/checkpoint``. Also what `mpnet` and `minilm` load."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import ModelSpec, Option, Role, UserError, hookimpl
from harness.registry.load_fallback import Otherwise, Refused
from harness.system.environment import multiplies_bfloat16
from harness.types import Options
from harness_plugins.forward import unpadded
from harness_plugins.model_folder.files import files_of, folder_of, gives_token_types, hashes_of, module_folders, pools
from harness_plugins.model_folder.load import opened, require_words, spoilt
from harness_plugins.model_folder.modules import modules
from harness_plugins.sentence_transformers import prompts
from harness_plugins.sentence_transformers.agreement import require_agreement, samples
from harness_plugins.sentence_transformers.encoder import IMPLEMENTATIONS, Encoder, PackedEncoder, TokenEncoder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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
        "packed: BERT and MPNet without padding; stock: transformers' own, in batches of one length; encode: "
        "sentence-transformers' encode(); auto: packed on a CPU, else stock, where they give encode()'s vectors",
        choices=("auto", "packed", "stock", "encode"),
    ),
    "max_seq_length": Option(0, "tokens kept of a text; 0: what the folder says", minimum=0),
    "query_prompt": Option(None, "put before every query; unset: what the folder says"),
    "document_prompt": Option(None, "put before every document; unset: what the folder says"),
    "query_prompt_name": Option(None, "put before every query: the prompt that the folder stores under this name"),
    "document_prompt_name": Option(None, "put before every document: the folder's prompt of this name"),
}


@hookimpl
def harness_models() -> Iterable[ModelSpec]:
    """The model that stands for any folder."""
    yield ModelSpec(
        name="checkpoint",
        kind="dense",
        load="harness_plugins.sentence_transformers.checkpoint:load",
        fingerprint="harness_plugins.sentence_transformers.trained:fingerprint",
        trial="harness_plugins.sentence_transformers.checkpoint:trial",
        figures="harness_plugins.model_folder.files:figures",
        training="harness_plugins.sentence_transformers.trained:training",
        summary="any local sentence-transformers folder: -m path/to/folder",
        options=OPTIONS,
        requires=("torch", "sentence_transformers", "faiss"),
        extra="dense",
        path_option="path",
    )


def resolve_dtype(dtype: str, device: str) -> str:
    """What ``auto`` means on this machine. Imports torch only to ask the processor."""
    if dtype != "auto":
        return dtype
    if resolve_device(device) == "cpu":
        return "bfloat16" if multiplies_bfloat16() else "float32"
    return "bfloat16"


def resolve_device(device: str) -> str:
    """What ``auto`` means on this machine; without a driver's device file torch need not be asked."""
    if device != "auto":
        return device
    if not Path("/dev/nvidiactl").exists() and os.name == "posix" and os.uname().sysname == "Linux":
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def resolve_forward(options: Options, folder: Path) -> str:
    """``packed``, ``stock`` or ``encode``; UserError where packed is asked for and does not apply."""
    asked, fits = str(options["forward"]), unpadded.applies(module_folders(folder)[0])
    if asked == "packed" and not fits:
        families = " or ".join(unpadded.FAMILIES)
        raise UserError(f"{folder} holds no plain {families} encoder, which forward=packed is for; omit that option.")
    cpu = resolve_device(str(options["device"])) == "cpu"
    packs = fits and (asked == "packed" or (asked == "auto" and cpu))
    chosen = "packed" if packs else "encode" if asked == "encode" else "stock"
    if options["dtype"] == "int8" and not (chosen == "packed" and cpu):
        raise UserError(f"dtype=int8 is for BERT and MPNet packed on a CPU, and {folder} is not; omit that option.")
    return chosen


PLAIN = ("Pooling", "Dense", "Normalize", "LayerNorm", "Dropout")
"""Modules that need nothing of the ones before them but token states or vectors."""


def trial(options: Options) -> bool:
    """Whether loading may find that the chosen forward pass gives other vectors than encode()."""
    folder = folder_of(options)
    chosen = resolve_forward(options, folder)
    if chosen != "stock":
        return chosen == "packed"
    first, *others = modules(folder)
    return any(module.name not in PLAIN for module in others) or gives_token_types(first.place)


def fingerprint(options: Options) -> dict[str, Any]:
    """Everything that determines the vectors; reads and hashes files, loads nothing."""
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
    """The folder's model: a `TokenModel` when its first module is a plain text transformer, else a `DenseModel`."""
    folder = folder_of(options)
    with spoilt(folder):
        return _load(folder, options)


def _load(folder: Path, options: Options) -> Encoder:
    from sentence_transformers import SentenceTransformer

    device, length = resolve_device(str(options["device"])), int(options["max_seq_length"] or 0)
    model = opened(SentenceTransformer, folder, device, unused="" if pools(folder) else "pooler")
    require_words(model, folder)
    if length:
        try:
            model.max_seq_length = length
            model.encode("a " * length, show_progress_bar=False)  # fails beyond the positions that the model knows
        except (AttributeError, IndexError, RuntimeError):
            raise UserError(
                f"{folder} cannot be held to {length} tokens; give a smaller max_seq_length, or omit it."
            ) from None
    stated = prompts.chosen(options, folder)
    dtype = resolve_dtype(str(options["dtype"]), str(options["device"]))
    chosen = resolve_forward(options, folder)
    try:
        return _encoder(model, dtype, stated, folder, chosen, named=options["forward"] == chosen)
    except Otherwise as other:
        if dtype == "int8":
            raise UserError(f"{folder} cannot be run with dtype=int8: {other.reason}; omit the dtype.") from other
        if options["forward"] == "packed":
            raise Refused(str(other)) from other
        raise


def _encoder(model: Any, dtype: str, stated: dict[str, Any], folder: Path, chosen: str, *, named: bool) -> Encoder:
    """The model by the ``chosen`` forward pass, or, where its texts cannot be tokenised apart, by encode().

    Raises:
        Otherwise: That pass gives other vectors than encode(), or is the packed one, ``named`` by the user, and the
            texts cannot be tokenised apart.
    """
    encoder = Encoder(model, dtype, stated)
    if chosen != "encode":
        fast = (PackedEncoder if chosen == "packed" else TokenEncoder)(model, dtype, stated)
        if fast.agrees():
            require_agreement(fast, _samples(encoder, folder))
            encoder = fast
        elif dtype == "int8" or (named and chosen == "packed"):
            raise Otherwise("this model prepares texts in a way of its own", forward="stock")
    encoder.narrow()
    return encoder


def _samples(encoder: Encoder, folder: Path) -> dict[Role, NDArray[np.float32]]:
    try:
        return samples(encoder)
    except Exception as error:  # modules that do not fit together raise anything
        raise Refused(
            f"{folder} cannot be run by sentence-transformers itself: encode() raises {type(error).__name__}: {error}; "
            f"its modules do not fit together."
        ) from error
