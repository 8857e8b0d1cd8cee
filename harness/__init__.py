"""Retrieval evaluation with plug-in models: dataset -> vectors -> index -> run -> measures -> results."""

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
    "Hits",
    "LexicalModel",
    "ModelSpec",
    "Option",
    "PluginError",
    "Query",
    "Role",
    "TokenModel",
    "UserError",
    "Weights",
    "__version__",
    "hookimpl",
]
