"""Docstrings read from source files, without importing the modules they document.

Reading sources avoids import side effects, and memory addresses from an object's ``repr``.
"""

from __future__ import annotations

import ast
import inspect
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

QUERY_WORDS = (5, 40)
DOCUMENT_WORDS = 25
DOCUMENT_CHARACTERS = 450
SKIPPED_FOLDERS = {"conftest", "distutils", "test", "tests", "_vendor"}
SENTENCE = re.compile(r".+?[.!?](?<!e\.g\.)(?<!i\.e\.)(?<!vs\.)(?<!etc\.)(?=\s+[^a-z\s]|$)")
SIGNATURE = re.compile(r"(?:\w+\.)*(\w+)\(")
RULE_OR_PLACEHOLDER = re.compile(r"[-=~*^\s]*|\$?\{\w+\}|%\(\w+\)s")


class Docstring(NamedTuple):
    """Docstring of one object."""

    id: str
    """Module and qualified name, ``numpy.linalg._linalg.norm``."""
    text: str

    @property
    def name(self) -> str:
        """Last component of the id."""
        return self.id.rpartition(".")[2]


def read_docstrings(folder: Path, package: str, within: Sequence[str] = ("",)) -> Iterator[Docstring]:
    """Docstrings of public classes, functions and methods of the package in ``folder``, by path and line.

    ``within`` keeps files whose dotted name (without the package) starts with one of these prefixes; with an empty
    package name ``folder`` contains top-level modules.
    """
    for file in sorted(folder.rglob("*.py"), key=lambda path: path.relative_to(folder).parts):
        parts = file.relative_to(folder).with_suffix("").parts
        if SKIPPED_FOLDERS.intersection(parts) or not all(part.isidentifier() for part in parts):
            continue
        inside = ".".join(parts).removesuffix("__init__").removesuffix(".")
        if not any(not prefix or f"{inside}.".startswith(f"{prefix}.") for prefix in within):
            continue
        with warnings.catch_warnings():  # ignore warnings about invalid escapes in third-party docstrings
            warnings.simplefilter("ignore")
            tree = ast.parse(file.read_bytes())
        yield from _definitions(tree, f"{package}.{inside}".strip("."))


def _definitions(node: ast.AST, prefix: str) -> Iterator[Docstring]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if not child.name.startswith("_"):
                if text := ast.get_docstring(child):
                    yield Docstring(f"{prefix}.{child.name}", text)
                if isinstance(child, ast.ClassDef):
                    yield from _definitions(child, f"{prefix}.{child.name}")
        elif isinstance(child, ast.Expr) and isinstance(child.value, ast.Call):
            yield from _added(child.value, prefix.partition(".")[0])
        elif not isinstance(child, ast.expr):  # definitions inside if, try and with are public too
            yield from _definitions(child, prefix)


def _added(call: ast.Call, package: str) -> Iterator[Docstring]:
    """Docstrings of NumPy's compiled objects: ``add_newdoc(place, object, text | (attribute, text) | [...])``."""
    if not isinstance(call.func, ast.Name) or call.func.id != "add_newdoc":
        return
    try:
        place, name, added = (ast.literal_eval(argument) for argument in call.args[:3])
    except ValueError:  # built at run time
        return
    if place.partition(".")[0] != package:
        return
    for attribute, text in [("", added)] if isinstance(added, str) else [added] if isinstance(added, tuple) else added:
        yield Docstring(f"{place}.{name}.{attribute}".rstrip("."), inspect.cleandoc(text))


def split_docstring(docstring: Docstring) -> tuple[str, str] | None:
    """Split into the first sentence and the rest without the object's name; None where either length is unsuitable.

    The signature line and heading underlines are removed. The rest is cut at the last full paragraph (else sentence,
    else word) within `DOCUMENT_CHARACTERS`.
    """
    blocks = [_plain(block) for block in re.split(r"\n\s*\n", _without_signature(docstring))]
    first, *others = [block for block in blocks if block] or [""]
    found = SENTENCE.match(first)
    query = found.group() if found else first
    name = re.compile(rf"(?<!\w){re.escape(docstring.name)}(?!\w)", re.IGNORECASE)
    document = _shortened([_plain(name.sub("", block)) for block in (first[len(query) :], *others)])
    long_enough = QUERY_WORDS[0] <= len(query.split()) <= QUERY_WORDS[1] and len(document.split()) >= DOCUMENT_WORDS
    return (query, document) if long_enough and query.casefold() not in document.casefold() else None


def _without_signature(docstring: Docstring) -> str:
    """Remove leading ``name(arguments) -> result`` lines."""
    text = docstring.text.strip()
    while (match := SIGNATURE.match(text)) and match.group(1) == docstring.name:
        depth, end = 1, match.end()
        while depth and end < len(text):
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        text = re.sub(r"^[ \t]*->.*", "", text[end:]).lstrip(" \t\n:-")
    return text


def _plain(block: str) -> str:
    """Join lines, without underlines and placeholder lines; the result is valid UTF-8."""
    lines = (line for line in block.splitlines() if not RULE_OR_PLACEHOLDER.fullmatch(line.strip()))
    return " ".join(" ".join(lines).split()).encode("utf-8", "replace").decode()


def _shortened(blocks: list[str]) -> str:
    kept = ""
    for block in blocks:
        longer = f"{kept} {block}".strip()
        if len(longer) > DOCUMENT_CHARACTERS:
            break
        kept = longer
    if kept:
        return kept
    start = next(filter(None, blocks), "")[:DOCUMENT_CHARACTERS]
    return start[: start.rfind(". ") + 1] or start.rpartition(" ")[0]
