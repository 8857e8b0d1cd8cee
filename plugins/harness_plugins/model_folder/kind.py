"""Detects the kind of model in a folder, so that each is run as what it is.

sentence-transformers also loads other kinds, replacing their modules by mean pooling and dropping their prompts with
only a log message.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from harness import ModelError
from harness_plugins.model_folder.modules import Module, configurations, listed

Kind = Literal["bi-encoder", "cross-encoder", "sparse encoder", "multi-vector encoder", "masked language model", ""]
TYPES: dict[str, Kind] = {
    "SentenceTransformer": "bi-encoder",
    "CrossEncoder": "cross-encoder",
    "SparseEncoder": "sparse encoder",
    "MultiVectorEncoder": "multi-vector encoder",
    "ColBERT": "multi-vector encoder",
}
"""model_type in config_sentence_transformers.json -> kind; ColBERT is PyLate's."""
TASKS: dict[str, Kind] = {
    "feature-extraction": "bi-encoder",
    "sequence-classification": "cross-encoder",
    "text-generation": "cross-encoder",
    "any-to-any": "cross-encoder",
    "fill-mask": "sparse encoder",
    "retrieval": "multi-vector encoder",
}
"""transformer_task in sentence_bert_config.json -> kind."""
PACKAGES: dict[str, Kind] = {
    "pylate.": "multi-vector encoder",
    "sentence_transformers.multi_vector_encoder.": "multi-vector encoder",
    "sentence_transformers.sparse_encoder.": "sparse encoder",
    "sentence_transformers.cross_encoder.": "cross-encoder",
}
"""First part of a module's class -> kind."""
HEADS: dict[str, Kind] = {
    "ForSequenceClassification": "cross-encoder",
    "ForMaskedLM": "masked language model",
    "HF_ColBERT": "multi-vector encoder",
}
"""Last part of an architecture in config.json -> kind, in a folder that sentence-transformers did not write."""

EXAMPLES: dict[Kind, str] = {"sparse encoder": "SPLADE", "multi-vector encoder": "ColBERT"}
"""Kinds that run by their folder, besides bi-encoders."""


def kind_of(folder: Path) -> tuple[Kind, str]:
    """The kind of a model folder (empty for an unknown model_type) and its model_type.

    Raises:
        ModelError: A file that states the kind cannot be read.
    """
    try:
        stated = _stated(folder)
        if not (folder / "modules.json").is_file():
            return TYPES.get(stated, _bare(folder)), stated
        kinds = [TYPES.get(stated or "SentenceTransformer", ""), *_kinds(listed(folder))]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"{folder} cannot be read ({type(error).__name__}: {error}); save the model again.") from None
    return next((kind for kind in kinds if kind != "bi-encoder"), "bi-encoder"), stated


def require_bi_encoder(folder: Path) -> None:
    """ModelError for any other kind of model."""
    kind, stated = kind_of(folder)
    if kind == "cross-encoder":
        raise ModelError(
            f"{folder} is a cross-encoder, which scores pairs of texts and gives no vectors; to rerank with it, type "
            f"-m 'rerank(bm25):model={folder}'."
        )
    if kind in EXAMPLES:
        raise ModelError(f"{folder} is a {kind} (such as {EXAMPLES[kind]}), not a bi-encoder; run it with -m {folder}.")
    if kind != "bi-encoder":
        raise _unsupported(folder, kind, stated)


def require_cross_encoder(folder: Path) -> None:
    """ModelError for a folder that states another kind of model."""
    kind, stated = kind_of(folder)
    pools = (folder / "modules.json").is_file() and any(module.name == "Pooling" for module in listed(folder))
    if kind == "bi-encoder" and (stated or pools):
        raise ModelError(
            f"{folder} is a bi-encoder, which gives each text a vector and scores no pairs; run it with -m {folder}."
        )
    if kind in EXAMPLES:
        raise ModelError(
            f"{folder} is a {kind} (such as {EXAMPLES[kind]}), which scores no pairs; run it with -m {folder}."
        )
    if kind not in ("bi-encoder", "cross-encoder"):
        raise _unsupported(folder, kind, stated)


def _unsupported(folder: Path, kind: Kind, stated: str) -> ModelError:
    if kind == "masked language model":
        return ModelError(
            f"{folder} is a masked language model without sentence-transformers modules (a SPLADE model, or a base "
            f"model), which gives a text no vector; if it is a SPLADE model, "
            f"SparseEncoder({str(folder)!r}).save_pretrained(other) writes a folder that can be run."
        )
    named = kind or (f"model of the unknown type {stated!r}" if stated not in TYPES else "model of an unknown task")
    return ModelError(
        f"{folder} is a {named}, which is not supported yet; bi-encoders, sparse encoders, multi-vector encoders and "
        f"cross-encoders are."
    )


def _stated(folder: Path) -> str:
    """The model_type; empty where none is stated, which sentence-transformers treats as a bi-encoder."""
    found = [content.get("model_type") for content in configurations(folder, "config_sentence_transformers.json")]
    return str(found[0]) if found and found[0] is not None else ""


def _bare(folder: Path) -> Kind:
    """Kind of a folder without modules.json, from its transformer's head."""
    if (folder / "artifact.metadata").is_file():  # written by ColBERT's own code
        return "multi-vector encoder"
    for content in configurations(folder, "config.json"):
        for architecture in content.get("architectures") or ():
            for ending, kind in HEADS.items():
                if str(architecture).endswith(ending):
                    return kind
    return "bi-encoder"


def _kinds(modules: list[Module]) -> list[Kind]:
    """Kinds of the modules, by class and transformer task."""
    found: list[Kind] = [
        kind for module in modules for start, kind in PACKAGES.items() if module.type.startswith(start)
    ]
    for module in modules:
        tasks = [content.get("transformer_task") for content in configurations(module.place, "sentence_*_config.json")]
        found += [TASKS.get(str(task), "") for task in tasks if task is not None]
    return found
