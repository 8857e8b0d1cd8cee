"""The dataset ``pydocs``: docstrings of Python, NumPy, pandas and (where installed) PyTorch, made without a download.

A query is a docstring's first sentence; its one relevant document is the rest of the same docstring, without the name
of its object. PyTorch contributes `TORCH` only, a fixed part: the collection stays between 2,500 and 5,000 documents.
"""

from __future__ import annotations

import json
import platform
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from harness.registry.hookspecs import hookimpl
from harness.storage.atomic import write_file
from harness.types import DatasetSpec
from harness_plugins.pydocs import docstrings

RECIPE = 1
"""Raised when the way of making the collection changes, so that an older one is not taken for it."""
PACKAGES = ("python", "numpy", "pandas", "torch")
OFTEN_SPLIT_OFF = {"distutils", "ensurepip", "idlelib", "lib2to3", "tkinter", "turtle", "turtledemo"}
"""Parts of the standard library that some distributions ship separately: left out, so that the version says it all."""
WORD = re.compile(r"\w+")
TORCH = ("nn.functional", "nn.modules", "optim", "distributions")
CITATION = "Docstrings of CPython's standard library, NumPy, pandas and PyTorch, as installed."
LICENCE = "Python: PSF-2.0; NumPy, pandas and PyTorch: BSD-3-Clause. Built where it is used, not redistributed."


class Pair(NamedTuple):
    """A first sentence and the rest of its docstring."""

    id: str
    query: str
    document: str


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Installed version of each package; absent ones are left out, and so is a build's local part (``+cpu``)."""
    found = {}
    for name in packages:
        try:
            found[name] = platform.python_version() if name == "python" else version(name).partition("+")[0]
        except PackageNotFoundError:
            continue
    return found


def key(packages: Sequence[str] = PACKAGES) -> str:
    """Names everything that the content depends on: ``1-python3.11.7-numpy2.4.6-...``."""
    return "-".join([str(RECIPE), *(f"{name}{number}" for name, number in versions(packages).items())])


def pairs(packages: Iterable[str]) -> list[Pair]:
    """Every usable docstring of the packages; where two share their query or their document, the first one."""
    found: list[Pair] = []
    seen: set[str] = set()
    for docstring in (each for package in packages for each in _docstrings(package)):
        parts = docstrings.split(docstring)
        words = [" ".join([str(side), *WORD.findall(part.casefold())]) for side, part in enumerate(parts or ())]
        if parts and docstring.id not in seen and seen.isdisjoint(words):
            seen.update(words, [docstring.id])
            found.append(Pair(docstring.id, *parts))
    return found


def _docstrings(package: str) -> Iterator[docstrings.Docstring]:
    if package == "python":
        modules = sorted(sys.stdlib_module_names - OFTEN_SPLIT_OFF)
        yield from docstrings.read(Path(sysconfig.get_path("stdlib")), "", modules)
    elif (spec := find_spec(package)) and spec.origin:  # finds a top-level package without importing it
        yield from docstrings.read(Path(spec.origin).parent, package, TORCH if package == "torch" else ("",))


def build(folder: Path, packages: Sequence[str] = PACKAGES) -> None:
    """Writes the collection in BEIR format, with a dataset.toml that names the versions it was made from."""
    made = versions(packages)
    found = pairs(made)
    _write(folder / "corpus.jsonl", (_record(pair.id, pair.document, title="") for pair in found))
    _write(folder / "queries.jsonl", (_record(f"q:{pair.id}", pair.query) for pair in found))
    judgements = (f"q:{pair.id}\t{pair.id}\t1" for pair in found)
    _write(folder / "qrels" / "test.tsv", ["query-id\tcorpus-id\tscore", *judgements])
    stated = {"name": "pydocs", "split": "test", "citation": CITATION, "licence": LICENCE}
    lines = [f"{name} = {json.dumps(value)}" for name, value in stated.items()]
    _write(folder / "dataset.toml", [*lines, "", "[versions]", *(f'{name} = "{text}"' for name, text in made.items())])


def _record(identifier: str, text: str, **more: str) -> str:
    return json.dumps({"_id": identifier, **more, "text": text}, ensure_ascii=False)


def _write(path: Path, lines: Iterable[str]) -> None:
    write_file(path, lambda stream: stream.writelines(f"{line}\n".encode() for line in lines))


@hookimpl
def harness_datasets() -> Iterable[DatasetSpec]:
    """The one dataset that is always there."""
    yield DatasetSpec(
        name="pydocs",
        summary="docstrings of Python, NumPy, pandas (and PyTorch): find the rest from the first sentence; no download",
        build="harness_plugins.pydocs.dataset:build",
        key="harness_plugins.pydocs.dataset:key",
        citation=CITATION,
        licence=LICENCE,
    )
