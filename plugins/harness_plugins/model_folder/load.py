"""Loads model folders with sentence-transformers: no network, pickles, folder-supplied code or random weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from harness import ModelError, UserError
from harness.registry.load_fallback import Refused
from harness.storage.regular_files import special_file
from harness.system.processor import physical_cores
from harness_plugins.model_folder.outside_files import with_local_bases

M = TypeVar("M")


@contextmanager
def load_errors(folder: Path) -> Iterator[None]:
    """Convert any exception of the libraries, which share no base class, to a ModelError of one sentence."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        cause = " ".join(str(error).split())
        if "trust_remote_code" in cause:
            raise ModelError(
                f"{folder} needs code of its own (auto_map in its JSON files), and the code that a model's folder "
                f"names is never run."
            ) from error
        missing = isinstance(error, ImportError)
        cure = "install what is named there" if missing else "check that its files are complete, or save it again"
        raise ModelError(
            f"{folder} could not be loaded by sentence-transformers ({type(error).__name__}: {cause[:400]}); {cure}."
        ) from error


def load_model(kind: Callable[..., M], folder: Path, device: str, *, unused: str = "", **settings: Any) -> M:
    """Load a folder with one of sentence-transformers' classes, from local safetensors and without running its code.

    Args:
        kind: The class.
        folder: Of the model.
        device: torch's name of the device.
        unused: As in `require_weights`.
        settings: Further arguments of the class.

    Raises:
        UserError: The device cannot be used, or weights are missing.
    """
    import torch
    from transformers.utils import logging

    if special := special_file(folder):
        raise ModelError(f"{special} is not a regular file, and reading it may never end; remove it.")
    require_device(device)
    limit_threads()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    with require_weights(folder, unused), with_local_bases(folder) as place:
        # float32 is explicit because transformers 5 would use the dtype in the folder's config; the path is absolute
        # because a relative one can be mistaken for the name of a model on the hub.
        model: Any = kind(
            str(place.absolute()),
            device=device,
            model_kwargs={"dtype": torch.float32, "use_safetensors": True},
            local_files_only=True,
            trust_remote_code=False,
            **settings,
        )
    return model.eval()  # type: ignore[no-any-return]


@contextmanager
def require_weights(folder: Path, unused: str) -> Iterator[None]:
    """Raise Refused when transformers, loading a model inside this context, initialises missing weights randomly.

    transformers only reports this in its log.

    Args:
        folder: Of the model.
        unused: Part of the names of weights that may be missing because nothing is computed with them.
    """
    from transformers import modeling_utils
    from transformers.integrations import peft

    places: list[Any] = [place for place in (modeling_utils, peft) if hasattr(place, "log_state_dict_report")]
    told, missing = [place.log_state_dict_report for place in places], set[str]()

    def noted(*arguments: Any, **named: Any) -> None:
        found = named["loading_info"].missing_keys
        missing.update(key for key in found if not unused or unused not in key)
        told[0](*arguments, **named)

    for place in places:
        place.log_state_dict_report = noted
    try:
        yield
    finally:
        for place, report in zip(places, told, strict=True):
            place.log_state_dict_report = report
    if missing:
        raise Refused(
            f"{folder} lacks {len(missing)} of its model's weights ({min(missing)} and others), which would get random "
            f"values; its config.json is of another model, or files are missing: save or download it again."
        )


def require_vocabulary(model: Any, folder: Path) -> None:
    """Raise Refused for a tokenizer with special tokens only, which transformers builds when its files are missing."""
    from sentence_transformers.base.modules import Transformer

    for module in model.modules():
        tokenizer = module.tokenizer if isinstance(module, Transformer) else None
        if tokenizer is not None and not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):
            raise Refused(
                f"The tokenizer of {folder}, a {type(tokenizer).__name__}, knows no word: its vocabulary is not among "
                f"the files there; copy those of the model that it was trained from into it."
            )


def require_device(device: str) -> None:
    """UserError where torch cannot use the device."""
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        cause = str(error).partition("\n")[0]
        raise UserError(f"The device {device} cannot be used ({cause}); type device=cpu, or omit it.") from None


def limit_threads() -> None:
    """Limit torch to one thread per core that this process may use, since torch ignores container quotas.

    OMP_NUM_THREADS and MKL_NUM_THREADS take precedence.
    """
    import torch

    decided = os.environ.get("OMP_NUM_THREADS") or os.environ.get("MKL_NUM_THREADS")
    if not decided and (cores := physical_cores()) < torch.get_num_threads():
        torch.set_num_threads(cores)
