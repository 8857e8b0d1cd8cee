"""What is known of each model, from its stored results: type, size, licence, training data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any

from harness_reports.data.cells import Cell
from harness_reports.data.leaderboard import Leaderboard

WEIGHTED = ("dense", "sparse", "multivector", "reranker", "imported")
"""Kinds of models that have parameters of their own."""


def facts(board: Leaderboard) -> dict[str, dict[str, Any]]:
    """Model -> its facts, only those that are known; of a mean over seeds, those of its first run."""
    cells: dict[str, list[Cell]] = {}
    for cell in board.rows():
        cells.setdefault(cell.model, []).append(cell)
    found = {model: _facts(own) for model, own in cells.items()}
    return found | {row: found[models[0]] for row, models in board.seeds.items() if models[0] in found}


def _facts(cells: list[Cell]) -> dict[str, Any]:
    cell = next((one for one in cells if one.ok), cells[0])
    model = cell.get("manifest", "model")
    if not isinstance(model, Mapping):
        return {}
    parts = [part for part in _with_members(model) if part.get("kind") in WEIGHTED]
    dims = (one.get("geometry", "documents", "d") for one in cells)
    stated = {
        "kind": model.get("kind"),
        "summary": model.get("summary"),
        "parameters": _sum([_number(_stated(part).get("parameters")) for part in parts]),
        "dim": next(filter(None, map(_number, dims)), None) or _number(_stated(model).get("dim")),
        "max_tokens": min(filter(None, map(_max_tokens, parts)), default=None),
        "dtype": _joined(_under(part, "fingerprint").get("dtype") for part in parts),
        "licence": _joined(_stated(part).get("licence") for part in parts),
        "trained_on": [str(name) for name in model.get("trained_on") or ()],
    }
    return {name: value for name, value in stated.items() if value}


def _with_members(model: Mapping[str, Any], depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """A model and the models that it is made of, each once."""
    seen = set()
    members = model.get("members") if depth < 9 else None
    for part in (
        model,
        *(inner for one in members or () if isinstance(one, Mapping) for inner in _with_members(one, depth + 1)),
    ):
        key = part.get("key") or id(part)
        if key not in seen:
            seen.add(key)
            yield part


def _under(model: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = model.get(name)
    return found if isinstance(found, Mapping) else {}


def _stated(model: Mapping[str, Any]) -> Mapping[str, Any]:
    return _under(model, "facts")


def _number(value: Any) -> int | None:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value) and value > 0
    return int(value) if fits else None


def _sum(numbers: list[int | None]) -> int | None:
    known = [number for number in numbers if number]
    return sum(known) if known and len(known) == len(numbers) else None


def _max_tokens(model: Mapping[str, Any]) -> int | None:
    """The option where the user set it, else what is stated."""
    return _number(_under(model, "options").get("max_seq_length")) or _number(_stated(model).get("max_tokens"))


def _joined(texts: Iterator[Any]) -> str:
    return ", ".join(dict.fromkeys(str(text) for text in texts if text))
