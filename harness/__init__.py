"""Retrieval evaluation with plug-in models: dataset -> vectors -> index -> run -> measures -> results."""

from harness.composite import Affine, Fusion, Reranker, Scored, Transform
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
    "Affine",
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
    "Transform",
    "UserError",
    "Weights",
    "__version__",
    "hookimpl",
]
