"""Joins training sets, interleaving rows in proportion to their sizes."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.storage.atomic import content_key
from harness.storage.locks import exclusive
from harness.types import Progress, UserError
from harness_training.data.formats import Row
from harness_training.data.triplets import GROUP, TrainingSet, made, write


def join(sets: Sequence[TrainingSet], home: Path, progress: Progress = lambda *_: None) -> TrainingSet:
    """Join the sets under ``home``; a single set is returned unchanged.

    Row i of n is placed at (i + 1/2) / n, so the first N rows contain every set in proportion and in its own order.

    Raises:
        UserError: A set is given twice, or the sets differ in the number of negatives.
    """
    if len(sets) == 1:
        return sets[0]
    if len({one.key for one in sets}) < len(sets):
        raise UserError(f"{_names(sets, ' and ')} are not all different training sets; name each once with --data.")
    if len({one.negatives for one in sets}) > 1:
        counts = ", ".join(f"{one.name} has {one.negatives}" for one in sets)
        raise UserError(f"The training sets differ in negatives per row ({counts}); mine them with equal --negatives.")
    request = content_key({"joined": [one.key for one in sets], "names": [one.name for one in sets]})
    folder = home / "triplets" / request[:32]
    with exclusive(folder, progress, "joins these training sets"):
        if found := made(folder, request):
            return found
        sources = [source for one in sets for source in one.sources]
        record: dict[str, Any] = {"name": _names(sets, "+"), "seed": None, "sources": sources, "request": request}
        return write(folder, _interleaved(sets, progress), sets[0].negatives, lambda _: record)


def _names(sets: Sequence[TrainingSet], joint: str) -> str:
    return joint.join(one.name for one in sets)


def _interleaved(sets: Sequence[TrainingSet], progress: Progress) -> Iterator[Row]:
    total = sum(one.rows for one in sets)
    merged = heapq.merge(*(_placed(number, one) for number, one in enumerate(sets)))
    for count, (_, _, row) in enumerate(merged):
        if count % GROUP == 0:
            progress("joining training sets (rows)", count, total)
        yield row


def _placed(number: int, one: TrainingSet) -> Iterator[tuple[float, int, Row]]:
    for place, row in enumerate(one.iter()):
        yield (place + 0.5) / one.rows, number, row
