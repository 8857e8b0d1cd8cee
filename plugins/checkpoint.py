"""Any local sentence-transformers folder as a model: ``-m path/to/checkpoint``. Also what `mpnet` and `minilm` load."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from harness import ModelSpec, Option, UserError, hookimpl
from harness.manifest import multiplies_bfloat16
from harness.processor import physical_cores
from harness.regular import special_file
from harness.spec import Options
from harness.weights import hashes
from plugins import packed
from plugins.checkpoint_folder import files_of, folder_of, module_folders
from plugins.encoder import IMPLEMENTATIONS, Encoder, PackedEncoder, TokenEncoder

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
        "packed: BERT and MPNet without padding; stock: transformers' own; auto: packed on a CPU, where it applies",
        choices=("auto", "packed", "stock"),
    ),
    "max_seq_length": Option(0, "tokens kept of a text; 0: what the folder says", minimum=0),
    "query_prompt": Option(None, "put before every query; unset: what the folder says"),
    "document_prompt": Option(None, "put before every document; unset: what the folder says"),
}
M = TypeVar("M")


@hookimpl
def harness_models() -> Iterable[ModelSpec]:
    """The model that stands for any folder."""
    yield ModelSpec(
        name="checkpoint",
        kind="dense",
        load="plugins.checkpoint:load",
        fingerprint="plugins.trained:fingerprint",
        trial="plugins.checkpoint:trial",
        tokenizer="plugins.checkpoint_folder:tokenizer",
        figures="plugins.checkpoint_folder:figures",
        training="plugins.trained:training",
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
    """``packed`` or ``stock``; UserError where packed is asked for and does not apply."""
    asked, fits = str(options["forward"]), packed.applies(module_folders(folder)[0])
    if asked == "packed" and not fits:
        families = " or ".join(packed.FAMILIES)
        raise UserError(f"{folder} holds no plain {families} encoder, which forward=packed is for; leave it away.")
    cpu = resolve_device(str(options["device"])) == "cpu"
    chosen = "packed" if fits and (asked == "packed" or (asked == "auto" and cpu)) else "stock"
    if options["dtype"] == "int8" and not (chosen == "packed" and cpu):
        raise UserError(f"dtype=int8 is for BERT and MPNet packed on a CPU, and {folder} is not; leave the dtype away.")
    return chosen


def trial(options: Options) -> bool:
    """Whether loading may find that the folder's own forward pass is another than the packed one, which ``auto`` takes
    for it."""
    return options["forward"] == "auto" and resolve_forward(options, folder_of(options)) == "packed"


def require_device(device: str) -> None:
    """UserError where torch cannot use the device."""
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        cause = str(error).partition("\n")[0]
        raise UserError(f"The device {device} cannot be used ({cause}); type device=cpu, or leave it away.") from None


def limit_threads() -> None:
    """One thread for each core that this process may use, where torch would take more: it knows of no quota of a
    container's. Nothing is changed where OMP_NUM_THREADS or MKL_NUM_THREADS decides."""
    import torch

    decided = os.environ.get("OMP_NUM_THREADS") or os.environ.get("MKL_NUM_THREADS")
    if not decided and (cores := physical_cores()) < torch.get_num_threads():
        torch.set_num_threads(cores)


def fingerprint(options: Options) -> dict[str, Any]:
    """Everything that determines the vectors; reads and hashes files, loads nothing."""
    folder = folder_of(options)
    forward = resolve_forward(options, folder)
    return {
        "files": hashes(folder, files_of(folder)),
        "implementation": IMPLEMENTATIONS["int8" if options["dtype"] == "int8" else forward],
        "dtype": resolve_dtype(str(options["dtype"]), str(options["device"])),
        "max_seq_length": options["max_seq_length"],
        "query_prompt": options["query_prompt"],
        "document_prompt": options["document_prompt"],
    }


def load(options: Options) -> Encoder:
    """The folder's model: a `TokenModel` when its first module is a plain text transformer, else a `DenseModel`."""
    folder = folder_of(options)
    with spoilt(folder):
        return _load(folder, options)


@contextmanager
def spoilt(folder: Path) -> Iterator[None]:
    """Tells whatever the libraries raise for a spoilt folder, which has no common class, in one sentence."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        cause = " ".join(str(error).split())[:300]
        raise UserError(
            f"{folder} could not be loaded by sentence-transformers ({type(error).__name__}: {cause}); save it again."
        ) from error


def opened(kind: Callable[..., M], folder: Path, device: str) -> M:
    """The folder as a model of one of sentence-transformers' classes: local files, safetensors, and no code of its own.

    UserError where the device cannot be used, and where the folder holds a pipe or a device, which may never end.
    """
    import torch
    from transformers.utils import logging

    if special := special_file(folder):
        raise UserError(f"{special} is not a regular file, and reading it may never end; remove it.")
    require_device(device)
    limit_threads()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    # float32 is explicit: transformers 5 would otherwise take the dtype written in the folder's config.
    model: Any = kind(
        str(folder),
        device=device,
        model_kwargs={"dtype": torch.float32, "use_safetensors": True},
        local_files_only=True,
        trust_remote_code=False,
    )
    return model.eval()  # type: ignore[no-any-return]


def _load(folder: Path, options: Options) -> Encoder:
    from sentence_transformers import SentenceTransformer

    device, length = resolve_device(str(options["device"])), int(options["max_seq_length"] or 0)
    model = opened(SentenceTransformer, folder, device)
    if length:
        try:
            model.max_seq_length = length
            model.encode("a " * length, show_progress_bar=False)  # fails beyond the positions that the model knows
        except (AttributeError, IndexError, RuntimeError):
            raise UserError(
                f"{folder} cannot be held to {length} tokens; give a smaller max_seq_length, or leave it away."
            ) from None
    prompts = {role: options[f"{role}_prompt"] for role in ("query", "document")}
    dtype = resolve_dtype(str(options["dtype"]), str(options["device"]))
    kind = PackedEncoder if resolve_forward(options, folder) == "packed" else TokenEncoder
    encoder = kind(model, dtype, prompts)
    if encoder.agrees():
        return encoder
    if dtype == "int8":
        raise UserError(f"{folder} prepares texts in a way of its own, which dtype=int8 cannot; leave the dtype away.")
    return Encoder(model, dtype, prompts)
