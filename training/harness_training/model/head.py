"""The trained model: a base encoder with a Gaussian projection head, unnormalised, compared by Euclidean distance.

    Transformer -> mean Pooling -> Dense(h, h, GELU, residual) -> Dense(h, d)

All modules are sentence-transformers' own, so `SentenceTransformer(folder)` loads a checkpoint without this package or
trust_remote_code. For h = 768 and d = 512 the head has 984,320 parameters.

The first layer computes x + GELU(Wx + b) and starts at W = 0, b = 0, where it is the identity with a non-zero gradient
(GELU'(0) = 1/2). The head thus starts as a linear map set from principal components and can become nonlinear. Two
linear layers could never become nonlinear, and a nonlinear layer without the residual could not start as the identity.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from harness.download.http import brief
from harness.storage.atomic import sha256_file, whole_folder
from harness.types import UserError
from harness_plugins.model_folder.files import folder_of
from harness_plugins.model_folder.load import load_errors, require_weights

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Init = Literal["pca-rotation", "pca", "random"]
INITS: tuple[Init, ...] = ("pca-rotation", "pca", "random")


def check_sizes(encoder: SentenceTransformer, base: Path | str, dim: int, texts: int) -> None:
    """UserError where a head of that size does not fit, or there are too few texts to initialise it."""
    width = int(encoder.get_embedding_dimension() or 0)
    if not 1 <= dim <= width:
        raise UserError(f"A head of {dim} dimensions does not fit on {base}, which has {width}; choose 1 to {width}.")
    if texts <= width:
        raise UserError(
            f"The head is initialised from {width}-dimensional embeddings, for which {texts} texts are too "
            f"few; give at least {width + 1}, better {10 * width}."
        )


def add_head(encoder: SentenceTransformer, layers: Sequence[nn.Module]) -> SentenceTransformer:
    """Append these layers to the encoder and compare its embeddings by Euclidean distance."""
    for layer in layers:
        encoder.append(layer.to(encoder.device))
    encoder.similarity_fn_name = "euclidean"
    return encoder


def load_base(base: Path | str, device: str | None = None, max_seq_length: int | None = None) -> SentenceTransformer:
    """Load the base in float32 without Normalize, keeping its prompts. UserError where a head does not fit."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    folder = folder_of({"path": str(base)})
    wanted = {"dtype": torch.float32, "use_safetensors": True}
    with load_errors(folder), require_weights(folder, "pooler"):
        loaded = SentenceTransformer(
            str(folder), device=device, local_files_only=True, trust_remote_code=False, model_kwargs=wanted
        )
    if isinstance(loaded[-1], Normalize):
        del loaded[-1]
    kinds = [type(module) for module in loaded]
    if kinds != [Transformer, Pooling] or loaded[1].pooling_mode != "mean":
        names = ", ".join(kind.__name__ for kind in kinds)
        raise UserError(
            f"A head goes on a Transformer with mean Pooling, not on {base} ({names}); choose another base."
        )
    if max_seq_length:
        loaded.max_seq_length = max_seq_length
    return loaded


def projection(sample: Tensor, dim: int, init: Init = "pca-rotation", seed: int = 0) -> tuple[Tensor, Tensor]:
    """Compute the initial linear map of the head from the base's embeddings of sample texts.

    Every ``init`` maps the sample mean to 0 and the mean squared norm to ``dim``, which the losses' scales assume.
    ``pca-rotation`` keeps the first ``dim`` principal components with one common scale: distances within them, and so
    the base's ranking, stay. ``pca`` scales each of them to variance 1, which is full whitening: it starts at the
    regulariser's target but lowers the base's scores (all-mpnet-base-v2 by 9.4 points of nDCG@10 on Python's
    documentation, against 0.1). ``random`` uses Gaussian directions, each output scaled to variance 1. Variances are
    divided by n - 1. Signs are chosen so that each component's largest coefficient is positive, which makes the result
    deterministic.

    Args:
        sample: [n, h], at least ten texts per dimension: ``pca`` overfits its last components. With 900 claims for
            512 components of all-mpnet-base-v2 the squared norm of unseen claims was 2.7 d instead of d (0.98 d for
            ``pca-rotation``).
        dim: Dimensions of the output.
        init: See above.
        seed: Of ``random``.

    Returns:
        Weight [dim, h] and bias [dim], float32.

    Raises:
        UserError: The sample does not vary in ``dim`` directions. ``dim`` must be below h for a base with a final
            layer norm, which leaves one direction without variance.
    """
    if init not in INITS:
        raise UserError(f"A head starts as {', '.join(INITS)}, not {init}.")
    rows = sample.double()
    mean = rows.mean(0)
    covariance = torch.cov(rows.T)
    if init == "random":
        generator = torch.Generator().manual_seed(seed)
        directions = torch.randn(dim, rows.shape[1], generator=generator, dtype=torch.float64)
        variances = (directions @ covariance * directions).sum(1)
    else:
        values, vectors = torch.linalg.eigh(covariance)
        variances, directions = values.flip(0)[:dim], vectors.T.flip(0)[:dim]
        largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
        directions = directions * largest.sign()
    if not float(variances.min()) > 1e-9 * float(covariance.trace()):
        raise UserError(
            f"The base's embeddings of the sample do not spread over {dim} dimensions; "
            "give more, and more different, texts, or choose fewer dimensions."
        )
    if init == "pca-rotation":
        variances = variances.mean().expand(dim)
    weight = directions / variances.sqrt()[:, None]
    return weight.float(), (-weight @ mean).float()


def head(weight: Tensor, bias: Tensor) -> list[nn.Module]:
    """The two layers of the head, which initially compute x -> weight x + bias."""
    from sentence_transformers.base.modules import Dense

    dim, width = weight.shape
    zeros = torch.zeros(width, width)
    residual = Dense(
        width, width, activation_function=nn.GELU(), init_weight=zeros, init_bias=zeros[0].clone(), use_residual=True
    )
    return [residual, Dense(width, dim, activation_function=None, init_weight=weight, init_bias=bias)]


def head_pattern(model: SentenceTransformer) -> str:
    """Regular expression for the head's parameter names: ``learning_rate_mapping={pattern: 5e-4}``."""
    return rf"^(model\.)?({'|'.join(_head_names(model))})\."


def _head_names(model: SentenceTransformer) -> list[str]:
    from sentence_transformers.base.modules import Dense

    return [name for name, module in model.named_children() if isinstance(module, Dense)]


def save_model(model: SentenceTransformer, folder: Path) -> None:
    """Write a checkpoint atomically; `SentenceTransformer(folder)` loads it.

    Raises:
        UserError: The disk is full, which safetensors reports as an error of its own.
    """
    try:
        with whole_folder(folder) as temporary:
            model.save_pretrained(str(temporary), create_model_card=False)
    except SafetensorError as error:
        raise UserError(
            f"The model could not be written to {folder} ({brief(str(error)).rstrip('.')}); free some space and run "
            f"the same command again, which resumes from the last checkpoint."
        ) from error


def share_weights(folder: Path, others: Iterable[Path]) -> None:
    """Replace weights that one of the ``others`` has too by hard links, where the file system has them."""
    for other in others:
        for file in folder.rglob("*.safetensors"):
            twin = other / file.relative_to(folder)
            with suppress(OSError):
                same = twin.stat().st_size == file.stat().st_size and not twin.samefile(file)
                if same and sha256_file(twin) == sha256_file(file):
                    link = file.with_name(f".{file.name}")
                    os.link(twin, link)
                    link.replace(file)
