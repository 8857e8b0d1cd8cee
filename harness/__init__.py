"""Retrieval evaluation with plug-in models: dataset -> vectors -> index -> run -> measures -> results."""

from harness.composite import Fusion, Reranker, Scored
from harness.hookspecs import hookimpl
from harness.spec import (
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

__version__ = "0.1.0"
__all__ = [
    "DatasetSpec",
    "DenseModel",
    "Document",
    "Fusion",
    "Hits",
    "LexicalModel",
    "ModelSpec",
    "Option",
    "PluginError",
    "Query",
    "Reranker",
    "Role",
    "Scored",
    "TokenModel",
    "UserError",
    "Weights",
    "__version__",
    "hookimpl",
]
