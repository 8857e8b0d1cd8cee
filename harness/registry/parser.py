"""What stands after ``-m``: a name or a path, in parentheses the members it is made of, options after a colon.

    bm25:k1=1.2,b=0.75      rrf(bm25:k1=1.2,b=0.75,minilm):k=20      rerank(rrf(bm25,minilm)):model=path/to/folder

A comma outside inner parentheses ends a member, unless ``key=`` follows it: then the member's options go on. (A folder
whose name begins like an option, ``run=3/model``, is written ``./run=3/model`` there.) A value may be quoted, or the
content of a file: see `harness.registry.option_values`.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from harness.registry import option_values
from harness.registry.protocols import KINDS as COMPOSITES
from harness.types import ModelSpec, UserError

COMPOSITE = re.compile(r"\s*([\w.+-]+)\s*\(")
OPTIONS = re.compile(r":(?=\s*\w+\s*=)")
"""A colon without ``key=`` after it belongs to a path or, further on, to a value (``device=cuda:1``)."""
DEEPEST = 20
"""Models within models."""


class Expression(NamedTuple):
    """One model as typed, one level deep."""

    name: str
    members: list[str] | None
    """None where no parentheses follow the name."""
    options: dict[str, str]


def parse(text: str, *, files: bool = True) -> Expression:
    """Takes a model's text apart; UserError where parentheses or options are not as they must be.

    ``files`` is that of `harness.registry.option_values.read_option_values`.
    """
    if _like_path(text) and is_folder(text):  # one whose name looks like options
        return Expression(text, None, {})
    opened = COMPOSITE.match(text)
    if opened is None or is_folder(OPTIONS.split(text, maxsplit=1)[0]):
        name, options = split_options(text, files=files)
        return Expression(name, None, options)
    pieces, rest = _pieces(text, opened.end())
    if rest and not OPTIONS.match(rest):
        raise UserError(f"{rest!r} follows the members of {text!r}; options are written NAME(...):key=value,key=value.")
    return Expression(opened[1], _members(pieces, text), split_options(rest, files=files)[1])


def several(text: str) -> list[str]:
    """``bm25:k1=1,b=0,minilm`` -> ["bm25:k1=1,b=0", "minilm"]: a list read as members are; else the text alone."""
    try:
        pieces, rest = _pieces(f"{text})", 0)
        return [text] if rest else _members(pieces, text)
    except UserError:
        return [text]


def split_options(text: str, *, files: bool = True) -> tuple[str, dict[str, str]]:
    """``bm25:k1=0.9,b=0.4`` -> ("bm25", {"k1": "0.9", "b": "0.4"})."""
    shape = option_values.masked(text)
    colons = list(OPTIONS.finditer(shape))
    if not colons:
        return text, {}
    folders = [colon for colon in colons[1:] if _like_path(text) and is_folder(text[: colon.start()])]
    colon = folders[-1] if folders else colons[0]
    options: dict[str, str] = {}
    for item in _cut(text, shape, colon.end()):
        key, equals, value = item.partition("=")
        if not equals or not key.strip():
            where = "; a model made of others stands before the colon" if "(" in "".join(options.values()) else ""
            raise UserError(
                f"{item!r} in {text!r} is not an option; options are written NAME:key=value,key=value, and a value "
                f'with a comma in quotation marks: key="a, b"{where}.'
            )
        options[key.strip()] = option_values.read_option_values(value, item.strip(), files=files)
    return text[: colon.start()], options


def _like_path(text: str) -> bool:
    return "/" in text or text.startswith((".", "~"))


def _cut(text: str, shape: str, start: int) -> list[str]:
    """The text from ``start`` on, cut at the commas of its shape."""
    commas = [start - 1, *(place for place in range(start, len(shape)) if shape[place] == ","), len(text)]
    return [text[before + 1 : after] for before, after in pairwise(commas)]


def is_folder(name: str) -> bool:
    """Whether there is one of that name; a name that no disk takes is none."""
    with suppress(OSError, ValueError):  # longer than a name may be
        return Path(name).is_dir()
    return False


def _pieces(text: str, start: int) -> tuple[list[str], str]:
    """What stands between the commas of the parenthesis that opens before ``start``, and what follows it."""
    pieces, depth, shape = [], 1, option_values.masked(text)
    if shape.count("(") > DEEPEST:
        raise UserError(f"More than {DEEPEST} parentheses open in {text[:40]!r}...; combine fewer models.")
    for place in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(shape[place], 0)
        if depth == 0 or (depth == 1 and shape[place] == ","):
            pieces.append(text[start:place].lstrip())
            start = place + 1
        if depth == 0:
            return pieces, text[start:].strip()
    raise UserError(f"A parenthesis of {text!r} is not closed; models are combined as in rrf(bm25,minilm).")


def _members(pieces: list[str], text: str) -> list[str]:
    members: list[str] = []
    for piece in pieces:
        if not re.match(r"\w+\s*=", piece):
            members.append(piece if OPTIONS.search(piece) else piece.rstrip())  # a prompt may end with a space
        elif members and _has_options(members[-1]):
            members[-1] += f",{piece}"
        else:
            raise UserError(
                f"{piece!r} in {text!r} belongs to no member; a member's options are written as in "
                f"rrf(bm25:k1=0.9,minilm), those of the whole as in rrf(bm25,minilm):k=20."
            )
    if not all(members):
        raise UserError(f"A member is missing in {text!r}; models are combined as in rrf(bm25,minilm).")
    return members


def _has_options(member: str) -> bool:
    opened = COMPOSITE.match(member)
    return bool(OPTIONS.search(_pieces(member, opened.end())[1] if opened else member))


def check_members(spec: ModelSpec, members: list[str] | None, text: str) -> None:
    """UserError where a model of this kind cannot be made of so many members."""
    count = len(members or ())
    if spec.kind == "fusion" and count < 2:
        raise UserError(
            f"{text!r} fuses {count or 'no'} model{'s' * (count != 1)}; type {spec.name}(bm25,minilm), say."
        )
    if spec.kind == "reranker" and count != 1:
        more = (
            f", not {count}; to rerank several together, fuse them first: {spec.name}(rrf({','.join(members or ())}))"
        )
        raise UserError(f"{spec.name} reranks one model{more if count else f'; type {spec.name}(bm25), say'}.")
    if spec.kind in ("transform", "pooling") and count != 1:
        raise UserError(f"{spec.name} changes the vectors of one model, not of {count}; type {spec.name}(minilm), say.")
    if spec.kind not in COMPOSITES and members is not None:
        raise UserError(f"{spec.name} is a {spec.kind} model, which is not made of others; type {spec.name} alone.")


def typed(record: Mapping[str, Any]) -> str:
    """What a user types after ``-m`` for the model that a result's manifest describes; empty for no description."""
    if not re.fullmatch(r"[\w.+-]+", str(record.get("name", ""))):  # options do not come in by the name
        return ""
    members = ",".join(typed(member) for member in record.get("members", ()))
    options = ",".join(f"{key}={_option(value)}" for key, value in record.get("passed", {}).items())
    name = f"{record['name']}({members})" if members else str(record["name"])
    return f"{name}:{options}" if options else name


def _option(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else option_values.written(value)


def canonical(label: str, *, typed: bool = False) -> Hashable:
    """What all spellings of a model's label share, whatever the order of its options; ``typed`` by a user."""
    try:
        name, members, options = parse(label, files=typed)
    except UserError:
        return label
    made_of = tuple(canonical(member, typed=typed) for member in members or ())
    return name.strip(), made_of, frozenset((key, _comparable(value)) for key, value in options.items())


def _comparable(value: str) -> str | float:
    with suppress(ValueError):
        return float(value)
    return str(value)
