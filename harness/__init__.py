"""Retrieval evaluation with plug-in models: dataset -> vectors -> index -> run -> measures -> results."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.adapters import beir_model, mteb_model
    from harness.registry.hookspecs import hookimpl
    from harness.registry.load_fallback import Otherwise, Refused
    from harness.registry.protocols import Affine, Fusion, Reranker, Scored, Transform
    from harness.results.frame import load_results
    from harness.types import (
        DatasetSpec,
        DenseModel,
        Document,
        Hits,
        LexicalModel,
        ModelError,
        ModelFacts,
        ModelFiles,
        ModelSpec,
        Option,
        Packages,
        PluginError,
        Query,
        Role,
        TokenModel,
        UserError,
        Weights,
    )

__version__ = "0.2.0"
__all__ = [
    "Affine",
    "DatasetSpec",
    "DenseModel",
    "Document",
    "Fusion",
    "Hits",
    "LexicalModel",
    "ModelError",
    "ModelFacts",
    "ModelFiles",
    "ModelSpec",
    "Option",
    "Otherwise",
    "Packages",
    "PluginError",
    "Query",
    "Refused",
    "Reranker",
    "Role",
    "Scored",
    "TokenModel",
    "Transform",
    "UserError",
    "Weights",
    "__version__",
    "beir_model",
    "hookimpl",
    "load_results",
    "mteb_model",
]
_SPEC = (
    *("DatasetSpec", "DenseModel", "Document", "Hits", "LexicalModel", "ModelSpec", "Option"),
    *("ModelFacts", "ModelFiles", "Packages"),
    *("ModelError", "PluginError", "Query", "Role", "TokenModel", "UserError", "Weights"),
)
LAZY = {
    **dict.fromkeys(("Affine", "Fusion", "Reranker", "Scored", "Transform"), "harness.registry.protocols"),
    **dict.fromkeys(_SPEC, "harness.types"),
    "Otherwise": "harness.registry.load_fallback",
    "Refused": "harness.registry.load_fallback",
    "beir_model": "harness.adapters",
    "hookimpl": "harness.registry.hookspecs",
    "load_results": "harness.results.frame",
    "mteb_model": "harness.adapters",
}
"""Name -> the module it is taken from when it is first asked for. This page itself imports nothing: the command line
has to be ready for signals before anything else is loaded."""


def __dir__() -> list[str]:
    """The names on offer, those included that are loaded when they are first asked for."""
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name in LAZY:
        globals()[name] = found = getattr(importlib.import_module(LAZY[name]), name)
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
