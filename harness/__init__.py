"""Retrieval evaluation with plug-in models: dataset -> vectors -> index -> run -> measures -> results."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.adapters import beir_model, mteb_model
    from harness.api.evaluate import evaluate, load_dataset
    from harness.api.metrics import isotropy, measure
    from harness.api.reports import compare
    from harness.api.results import Results
    from harness.api.training import training_evaluator
    from harness.embeddings.token_vectors import TokenVectors
    from harness.registry.hookspecs import hookimpl
    from harness.registry.load_fallback import Otherwise, Refused
    from harness.registry.protocols import Affine, Fusion, Pooling, Reranker, Scored, Transform
    from harness.registry.remote import Arrived, RemoteEncoder, RemoteReranker
    from harness.results.frame import load_results
    from harness.system.budget import Budget
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
        MultiVectorModel,
        Option,
        Packages,
        PluginError,
        Query,
        Role,
        Similarity,
        SparseModel,
        TokenModel,
        UserError,
        Weights,
    )

__version__ = "0.2.0"
__all__ = [
    "Affine",
    "Arrived",
    "Budget",
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
    "MultiVectorModel",
    "Option",
    "Otherwise",
    "Packages",
    "PluginError",
    "Pooling",
    "Query",
    "Refused",
    "RemoteEncoder",
    "RemoteReranker",
    "Reranker",
    "Results",
    "Role",
    "Scored",
    "Similarity",
    "SparseModel",
    "TokenModel",
    "TokenVectors",
    "Transform",
    "UserError",
    "Weights",
    "__version__",
    "beir_model",
    "compare",
    "evaluate",
    "hookimpl",
    "isotropy",
    "load_dataset",
    "load_results",
    "measure",
    "mteb_model",
    "training_evaluator",
]
_SPEC = (
    *("DatasetSpec", "DenseModel", "Document", "Hits", "LexicalModel", "ModelSpec", "Option"),
    *("ModelFacts", "ModelFiles", "MultiVectorModel", "Packages"),
    *("ModelError", "PluginError", "Query", "Role", "Similarity", "SparseModel", "TokenModel", "UserError", "Weights"),
)
LAZY = {
    **dict.fromkeys(("Affine", "Fusion", "Pooling", "Reranker", "Scored", "Transform"), "harness.registry.protocols"),
    **dict.fromkeys(("Arrived", "RemoteEncoder", "RemoteReranker"), "harness.registry.remote"),
    **dict.fromkeys(_SPEC, "harness.types"),
    "Budget": "harness.system.budget",
    "Otherwise": "harness.registry.load_fallback",
    "Refused": "harness.registry.load_fallback",
    "Results": "harness.api.results",
    "beir_model": "harness.adapters",
    "compare": "harness.api.reports",
    "evaluate": "harness.api.evaluate",
    "isotropy": "harness.api.metrics",
    "load_dataset": "harness.api.evaluate",
    "measure": "harness.api.metrics",
    "TokenVectors": "harness.embeddings.token_vectors",
    "training_evaluator": "harness.api.training",
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
