"""The dataset ``pydocs``: docstrings of Python, NumPy, pandas and (where installed) PyTorch, made without a download.

A query is a docstring's first sentence; its one relevant document is the rest of that docstring without the object's
name. Only `TORCH`, a fixed part of PyTorch, is used, so that the collection has between 2,500 and 5,000 documents.
``pydocs-train`` is made in the same way of other packages, for training: it has the split ``train`` alone, and no query
or document of ``pydocs``.
"""

from __future__ import annotations

import json
import platform
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from harness.registry.hookspecs import hookimpl
from harness.storage.atomic import write_file
from harness.types import DatasetSpec
from harness_plugins.pydocs import docstrings

RECIPE = 1
"""Increased when the construction changes, so that older collections are not reused."""
PACKAGES = ("python", "numpy", "pandas", "torch")
TRAINING_PACKAGES = ("scipy", "sklearn")
"""Of ``pydocs-train``; scikit-learn is installed with sentence-transformers."""
DISTRIBUTIONS = {"sklearn": "scikit-learn"}
"""Package -> its distribution, where the names differ."""
OFTEN_SPLIT_OFF = {"distutils", "ensurepip", "idlelib", "lib2to3", "tkinter", "turtle", "turtledemo"}
"""Standard library packages that some distributions ship separately; excluded so that the version is sufficient."""
WORD = re.compile(r"\w+")
TORCH = ("nn.functional", "nn.modules", "optim", "distributions")
CITATION = "Docstrings of CPython's standard library, NumPy, pandas and PyTorch, as installed."
TRAINING_CITATION = "Docstrings of SciPy and scikit-learn, as installed."
LICENCE = "Python: PSF-2.0; NumPy, pandas and PyTorch: BSD-3-Clause. Built where it is used, not redistributed."
TRAINING_LICENCE = "SciPy and scikit-learn: BSD-3-Clause. Built where it is used, not redistributed."


class SplitDocstring(NamedTuple):
    """First sentence and rest of a docstring."""

    id: str
    query: str
    document: str


def package_versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Installed version of each package without its local part (``+cpu``); missing packages are omitted."""
    found = {}
    for name in packages:
        try:
            of = DISTRIBUTIONS.get(name, name)
            found[name] = platform.python_version() if name == "python" else version(of).partition("+")[0]
        except PackageNotFoundError:
            continue
    return found


def key(packages: Sequence[str] = PACKAGES) -> str:
    """Identifies the content: ``1-python3.11.7-numpy2.4.6-...``."""
    return "-".join([str(RECIPE), *(f"{name}{number}" for name, number in package_versions(packages).items())])


def training_key() -> str:
    """Identifies the content of ``pydocs-train``, which depends on that of ``pydocs`` too."""
    return key((*PACKAGES, *TRAINING_PACKAGES))


def pairs(packages: Iterable[str], *, without: Iterable[SplitDocstring] = ()) -> list[SplitDocstring]:
    """Every usable docstring of the packages; of duplicate queries or documents only the first.

    Those with a query or a document of ``without`` are omitted.
    """
    found: list[SplitDocstring] = []
    seen = {words for pair in without for words in _words(pair.query, pair.document)}
    for docstring in (each for package in packages for each in _docstrings(package)):
        parts = docstrings.split_docstring(docstring)
        words = _words(*parts or ())
        if parts and docstring.id not in seen and seen.isdisjoint(words):
            seen.update(words, [docstring.id])
            found.append(SplitDocstring(docstring.id, *parts))
    return found


def _words(*parts: str) -> list[str]:
    """Each part's words, without case and punctuation, marked as query or document."""
    return [" ".join([str(side), *WORD.findall(part.casefold())]) for side, part in enumerate(parts)]


def _docstrings(package: str) -> Iterator[docstrings.Docstring]:
    if package == "python":
        modules = sorted(sys.stdlib_module_names - OFTEN_SPLIT_OFF)
        yield from docstrings.read_docstrings(Path(sysconfig.get_path("stdlib")), "", modules)
    elif (spec := find_spec(package)) and spec.origin:  # locates a top-level package without importing it
        yield from docstrings.read_docstrings(Path(spec.origin).parent, package, TORCH if package == "torch" else ("",))


def build(folder: Path, packages: Sequence[str] = PACKAGES) -> None:
    """Write the collection in BEIR format, with a dataset.toml that states the package versions."""
    made = package_versions(packages)
    stated = {"name": "pydocs", "split": "test", "citation": CITATION, "licence": LICENCE}
    _write_collection(folder, stated, pairs(made), made)


def build_training(folder: Path) -> None:
    """Like `build`, for ``pydocs-train``."""
    made = package_versions(TRAINING_PACKAGES)
    stated = {"name": "pydocs-train", "split": "train", "citation": TRAINING_CITATION, "licence": TRAINING_LICENCE}
    _write_collection(folder, stated, pairs(made, without=pairs(package_versions())), made)


def _write_collection(
    folder: Path, stated: Mapping[str, str], found: Sequence[SplitDocstring], made: Mapping[str, str]
) -> None:
    _write(folder / "corpus.jsonl", (_record(pair.id, pair.document, title="") for pair in found))
    _write(folder / "queries.jsonl", (_record(f"q:{pair.id}", pair.query) for pair in found))
    judgements = (f"q:{pair.id}\t{pair.id}\t1" for pair in found)
    _write(folder / "qrels" / f"{stated['split']}.tsv", ["query-id\tcorpus-id\tscore", *judgements])
    lines = [f"{key} = {json.dumps(value)}" for key, value in stated.items()]
    _write(folder / "dataset.toml", [*lines, "", "[versions]", *(f'{each} = "{text}"' for each, text in made.items())])


def _record(identifier: str, text: str, **more: str) -> str:
    return json.dumps({"_id": identifier, **more, "text": text}, ensure_ascii=False)


def _write(path: Path, lines: Iterable[str]) -> None:
    write_file(path, lambda stream: stream.writelines(f"{line}\n".encode() for line in lines))


@hookimpl
def harness_datasets() -> Iterable[DatasetSpec]:
    """Register both datasets, which are always available."""
    yield DatasetSpec(
        name="pydocs",
        summary="docstrings of Python, NumPy, pandas (and PyTorch): find the rest from the first sentence; no download",
        build="harness_plugins.pydocs.dataset:build",
        key="harness_plugins.pydocs.dataset:key",
        citation=CITATION,
        licence=LICENCE,
    )
    yield DatasetSpec(
        name="pydocs-train",
        summary="docstrings of SciPy and scikit-learn, to train on: none of pydocs; no download",
        split="train",
        build="harness_plugins.pydocs.dataset:build_training",
        key="harness_plugins.pydocs.dataset:training_key",
        citation=TRAINING_CITATION,
        licence=TRAINING_LICENCE,
    )
