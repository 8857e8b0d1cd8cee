"""Retrieval evaluation with plug-in models: dataset -> vectors -> index -> run -> measures -> results."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from harness.composite import Affine, Fusion, Reranker, Scored, Transform
from harness.hookspecs import hookimpl
from harness.spec import (
    CountedModel,
    DatasetSpec,
    DenseModel,
    Document,
    Hits,
    LexicalModel,
    ModelSpec,
    Option,
    PluginError,
    Query,
    Role,
    TokenModel,
    UserError,
    Weights,
)

if TYPE_CHECKING:
    from harness.adapters import beir_model, mteb_model
    from harness.results import load_results
    from harness.trial import Otherwise, Refused

__version__ = "0.1.0"
__all__ = [
    "Affine",
    "CountedModel",
    "DatasetSpec",
    "DenseModel",
    "Document",
    "Fusion",
    "Hits",
    "LexicalModel",
    "ModelSpec",
    "Option",
    "Otherwise",
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
LAZY = {
    "Otherwise": "harness.trial",
    "Refused": "harness.trial",
    "beir_model": "harness.adapters",
    "load_results": "harness.results",
    "mteb_model": "harness.adapters",
}
"""Name -> the module it is taken from when it is first asked for: plug-ins import this page at start-up."""


def __getattr__(name: str) -> Any:
    if name in LAZY:
        return getattr(importlib.import_module(LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
