"""Retrieval metrics of KILT (Petroni et al., NAACL 2021) on KILT files.

A file has one JSON object per question, with the Wikipedia pages that support each answer (gold) or that were
retrieved, best first (guess).

The provenance of an answer is an *evidence set*: all of its pages together are the evidence. R-precision considers the
first R pages, where R is the size of a set, and takes the best set. The other metrics are computed on a list of points:
a page outside all sets is one point; a set is one point, at the position of its last retrieved page, and is relevant if
all its pages were retrieved.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.metrics.measures import Scores
from harness.storage.regular_files import open_regular
from harness.storage.safe_load import lines, parse_json
from harness.types import UserError

MEASURES = ("Rprec", "precision@1", "recall@5", "success_rate@5")
KEYS = ("wikipedia_id",)
"""Keys that identify evidence: the page. KILT also evaluates paragraphs (start_paragraph_id)."""
Page = tuple[str, ...]
Pages = list[Page]


def evaluate_kilt(gold: Path, guess: Path, measures: Sequence[str] = MEASURES, *, keys: Sequence[str] = KEYS) -> Scores:
    """Evaluate all gold questions, matched by id. A question without a guess or without evidence scores 0.

    Args:
        gold: the gold file.
        guess: the file to evaluate.
        measures: names of metrics.
        keys: keys that identify evidence; entries that lack one of them and duplicates are ignored.

    Raises:
        UserError: unknown metric, or a line that is not in KILT's format.
    """
    parsed = [_parse(name) for name in dict.fromkeys(measures)]
    wanted = {id_: [_pages(output, keys) for output in outputs] for id_, outputs in _read(gold).items()}
    found = _read(guess)
    if (bad := next((id_ for id_, outputs in found.items() if len(outputs) != 1), None)) is not None:
        raise UserError(f"{guess}: the guess for {bad} has {len(found[bad])} outputs; KILT wants exactly one.")
    values = np.zeros((len(wanted), len(parsed)))
    for row, (id_, evidence) in enumerate(wanted.items()):
        pages = _pages(found[id_][0], keys) if id_ in found else []
        values[row] = [_value(kind, k, pages, [each for each in evidence if each]) for kind, k in parsed]
    missing, more = len(wanted.keys() - found.keys()), len(found.keys() - wanted.keys())
    if missing == len(wanted):
        raise UserError(f"{guess} and {gold} share no question id; name the guess and the gold file of one data set.")
    return Scores(list(wanted), tuple(dict.fromkeys(measures)), values, missing, more, 0)


def r_precision(pages: Pages, evidence: Sequence[Pages]) -> float:
    """The largest share of an evidence set's R pages among the first R pages; 0 without evidence."""
    return max((len({*pages[: len(one)]} & {*one}) / len(one) for one in evidence), default=0.0)


def evidence_points(pages: Pages, evidence: Sequence[Pages]) -> list[bool]:
    """Whether each point of the list is a complete evidence set."""
    places = {page: place for place, page in enumerate(pages)}
    sets = [frozenset(one) for one in evidence]
    found: list[tuple[int, int, bool]] = []
    for order, one in enumerate(dict.fromkeys(sets)):
        held = [places[page] for page in one if page in places]
        if held:
            found.append((max(held), order, len(held) == len(one)))
    inside = frozenset[Page]().union(*sets)
    found += [(place, 0, False) for page, place in places.items() if page not in inside]
    return [good for _, _, good in sorted(found)]


def _value(kind: str, k: int, pages: Pages, evidence: Sequence[Pages]) -> float:
    if kind == "Rprec":
        return r_precision(pages, evidence)
    good = sum(evidence_points(pages, evidence)[:k])
    sets = len({frozenset(one) for one in evidence})
    return {"precision": good / k, "recall": good / max(sets, 1), "success_rate": float(good > 0)}[kind]


def _parse(name: str) -> tuple[str, int]:
    found = re.fullmatch(r"(Rprec)|(precision|recall|success_rate)@([1-9][0-9]*)", name)
    if found is None:
        raise UserError(f"There is no measure {name!r} in KILT; type some of {' '.join(MEASURES)}, with any cutoff.")
    return found[1] or found[2], int(found[3] or 0)


def _pages(output: dict[str, Any], keys: Sequence[str]) -> Pages:
    """The distinct pages, in order."""
    entries = output.get("provenance") or ()
    return list(dict.fromkeys(tuple(str(e[key]).strip() for key in keys) for e in entries if {*keys} <= e.keys()))


def _read(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Question id -> its outputs."""
    if not path.is_file():
        raise UserError(f"There is no file {path}; name a file of KILT's, with a JSON object on each line.")
    found: dict[str, list[dict[str, Any]]] = {}
    with open_regular(path) as stream:
        for number, line in enumerate(lines(stream, path), 1):
            if line.strip():
                id_, outputs = _record(line, f"Line {number} of {path}")
                if id_ in found:
                    raise UserError(f"Line {number} of {path} has the id {id_} a second time; keep one of the two.")
                found[id_] = outputs
    if not found:
        raise UserError(f"{path} is empty; name a file of KILT's, with a JSON object on each line.")
    return found


def _record(line: bytes, where: str) -> tuple[str, list[dict[str, Any]]]:
    try:
        record = parse_json(line)
        outputs = record.get("output", [])
        sound = isinstance(outputs, list) and all(
            isinstance(e, dict) for output in outputs for e in output.get("provenance") or ()
        )
        if sound and isinstance(record["id"], str | int):
            return str(record["id"]).strip(), outputs
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise UserError(
        f'{where} is not a question in KILT\'s format ({{"id": "...", "output": [{{"provenance": '
        f'[{{"wikipedia_id": "..."}}]}}]}}); fix that line.'
    )
