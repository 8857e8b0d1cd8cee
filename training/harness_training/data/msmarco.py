"""MS MARCO's training triplets: a seeded sample of the hub's dataset or of local files.

Two passes over the rows: the first draws a number per valid row and keeps the indices of the N smallest, the second
collects them. Memory grows with N, not with the 40 or 400 million rows of MS MARCO's files.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from harness.download.http import SourceFailed
from harness.download.hub import Repository
from harness.storage.atomic import content_key, sha256_file
from harness.storage.locks import exclusive
from harness.storage.temporary_files import remove
from harness.types import Progress, UserError
from harness_training.data.formats import Row, open_table
from harness_training.data.triplets import TrainingSet, fault, made, refuse_occupied, write

NAME, SPLIT = "msmarco", "train"
TRIPLETS = 500_000
HUB = "sentence-transformers/msmarco-bm25@d215805a20e56917e6763b25b059238b7cbfd864"
"""Its card states for ``triplet``: 502,931 rows of query, positive and negative, 329 MB of Parquet.

The card was read at this commit; the file names under triplet/ and the download are not verified.
"""
PATTERNS = ("triplet/*.parquet",)
STEP = 100_000
BY_HAND = "harness data msmarco --from FOLDER (MS MARCO's own files, or BEIR's msmarco)"


class Origin(NamedTuple):
    """A repeatable source of rows."""

    rows: Callable[[], Iterator[Row]]
    """Rows of texts, or of ids that ``texts`` resolves."""
    negatives: int
    fingerprint: dict[str, Any]
    """Identifies the rows."""
    texts: Callable[[Row], Row] = lambda row: row


def sample(
    origin: Origin, folder: Path, rows: int, seed: int, home: Path, request: str, progress: Progress
) -> TrainingSet:
    """Sample ``rows`` of the origin's valid rows (all, where there are fewer) by seed, in the origin's order.

    ``request`` is the key by which a finished set is recognised. Invalid rows (an empty text, a negative equal to the
    positive) are dropped and counted.
    """
    with exclusive(home / "mining" / request[:32], progress):
        if (found := made(folder, request)) is not None:
            return found
        refuse_occupied(folder)
        counts = {"read": 0, "faulty": 0}
        places = _draw(origin, rows, seed, counts, progress)
        source = {"name": NAME, "split": SPLIT, "fingerprint": origin.fingerprint}
        record = {"name": folder.resolve().name, "seed": seed, "sources": [source], "miners": [], "filters": []}
        return write(
            folder,
            _taken(origin, places, counts, progress),
            origin.negatives,
            lambda count: {**record, "counts": {**counts, "rows": count}, "request": request},
        )


def _draw(origin: Origin, rows: int, seed: int, counts: dict[str, int], progress: Progress) -> list[int]:
    """Indices of the sampled rows, ascending."""
    source = random.Random(seed)

    def numbers() -> Iterator[tuple[float, int]]:
        for place, row in enumerate(origin.rows()):
            if place % STEP == 0:
                progress("reading triplets (rows)", place, 0)
            counts["read"], number = place + 1, source.random()
            if fault(row):
                counts["faulty"] += 1
            else:
                yield number, place

    return sorted(place for _, place in heapq.nsmallest(rows, numbers()))


def _taken(origin: Origin, places: list[int], counts: dict[str, int], progress: Progress) -> Iterator[Row]:
    wanted = iter(places)
    next_one, number = next(wanted, None), 0
    for place, row in enumerate(origin.rows()):
        if place == next_one:
            row, next_one, number = origin.texts(row), next(wanted, None), number + 1
            if number % 10_000 == 0:
                progress("writing triplets (rows)", number, len(places))
            if fault(row):  # for rows of ids this is only known now
                counts["faulty"] += 1
            else:
                yield row
        if next_one is None:
            return


def from_hub(
    folder: Path, rows: int, seed: int, home: Path, *, offline: bool = False, progress: Progress = lambda *_: None
) -> TrainingSet:
    """Triplets of the hub's dataset with BM25 negatives; downloads resume. UserError where it is unavailable."""
    request = content_key({"hub": HUB, "rows": rows, "seed": seed})
    if (found := made(folder, request)) is not None:
        return found
    refuse_occupied(folder)
    if offline:
        raise UserError(f"MS MARCO's triplets are on the hub and the network is switched off; type {BY_HAND}.")
    scratch = home / "downloads" / "msmarco-triplets"
    scratch.mkdir(parents=True, exist_ok=True)
    with exclusive(scratch, progress):
        try:
            files = Repository(HUB, scratch, progress).fetch_matching("triplets", PATTERNS)
        except SourceFailed as error:
            raise UserError(
                f"MS MARCO's triplets could not be downloaded ({error}); fix that, or type {BY_HAND}."
            ) from error
        table = open_table(files)
        fingerprint = {"hub": HUB, "files": {file.name: sha256_file(file) for file in files}}
        origin = Origin(lambda: (row for _, row in table.rows()), table.negatives, fingerprint)
        found = sample(origin, folder, rows, seed, home, request, progress)
        remove(scratch)
    return found
