"""Models of MTEB's registry: ``-m mteb:organisation/name``, with the registry's revision and prompts.

Only models that MTEB passes to sentence-transformers unchanged are supported: the harness downloads their files and
loads them like any folder. Other entries are code of MTEB that opens connections, pickles or repository code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness import ModelFacts, ModelFiles, ModelSpec, Option, Packages, UserError, hookimpl
from harness.datasets.catalog import unknown
from harness.types import Options, OptionValue
from harness_plugins.sentence_transformers import checkpoint, hub
from harness_plugins.sentence_transformers.checkpoint import OPTIONS

LOADER = "SentenceTransformerEncoderWrapper"
PROMPT_OPTIONS = {"query": "query_prompt", "document": "document_prompt"}


@hookimpl
def harness_models() -> Iterable[ModelSpec]:
    """Register the model that runs any model of the registry."""
    yield ModelSpec(
        name="mteb",
        kind="dense",
        load="harness_plugins.sentence_transformers.mteb_registry:load",
        fingerprint="harness_plugins.sentence_transformers.mteb_registry:fingerprint",
        facts=ModelFacts(
            may_fall_back="harness_plugins.sentence_transformers.checkpoint:trial",
            by_options="harness_plugins.sentence_transformers.mteb_registry:facts",
            training="harness_plugins.sentence_transformers.hub:training",
        ),
        files=ModelFiles(
            repository="harness_plugins.sentence_transformers.mteb_registry:repository",
            argument="name",
        ),
        summary="a sentence-transformers model of MTEB's registry: -m mteb:organisation/name",
        options={
            **OPTIONS,
            "name": Option(None, "its name in MTEB's registry; stands after mteb:"),
            "task": Option(None, "the MTEB task whose prompts are taken where the model has some of its own for it"),
            "path": Option(None, "a local copy of it, used instead"),
        },
        packages=Packages(
            modules=("mteb", "torch", "sentence_transformers", "faiss"),
            extra="mteb",
        ),
    )


def repository(options: Options) -> str:
    """``organisation/name@commit`` from the registry."""
    meta = _meta(str(options["name"]))
    return f"{meta.name}@{meta.revision}" if meta.revision else str(meta.name)


def load(options: Options) -> Any:
    """Load as a checkpoint with the registry's prompts."""
    return checkpoint.load(_prompted(options))


def fingerprint(options: Options) -> dict[str, Any]:
    """As for a checkpoint with these prompts: equal files and prompts give equal vectors."""
    return checkpoint.fingerprint(_prompted(options))


def facts(options: Options) -> dict[str, Any]:
    """As for a model of the hub, with the registry's licence where the files state none."""
    return {"licence": str(_meta(str(options["name"])).license or ""), **hub.facts(options)}


def prompt(prompts: Mapping[str, str], task: str, role: str) -> str | None:
    """The prompt that MTEB uses for a retrieval task, most specific first; None where there is none."""
    names = (f"{task}-{role}", task, f"Retrieval-{role}", "Retrieval", role)
    return next((prompts[name] for name in names if name in prompts), None)


def _prompted(options: Options) -> dict[str, OptionValue]:
    """The options, with the registry's prompts for those not given."""
    prompts = _meta(str(options["name"])).loader_kwargs.get("model_prompts") or {}
    found = {key: prompt(prompts, str(options["task"] or ""), role) for role, key in PROMPT_OPTIONS.items()}
    named = options.get("prompt_name") is not None  # a task of the folder's own
    free = [key for key in found if not named and options[key] is None and options.get(f"{key}_name") is None]
    return {**options, **{key: found[key] for key in free if found[key] is not None}}


def _meta(name: str) -> Any:
    """The registry's entry; UserError for unknown names and for models that MTEB loads with its own code."""
    from mteb.models.model_implementations import MODEL_REGISTRY

    meta = MODEL_REGISTRY.get(name)
    if meta is None:
        raise UserError(unknown("model of MTEB's registry", name, MODEL_REGISTRY))
    loader = getattr(getattr(meta.loader, "func", meta.loader), "__name__", "no loader")
    settings = {key: value for key, value in meta.loader_kwargs.items() if key != "model_prompts" and value}
    if loader != LOADER or settings:
        how = f"by {loader}" if loader != LOADER else f"with {', '.join(settings)}"
        raise UserError(
            f"MTEB loads {name} {how}, not as a plain sentence-transformers model, and that is not run here; "
            f"have mteb.evaluate run it, then type: harness import --mteb FOLDER"
        )
    return meta
