"""Records with an id that is already used: an identical record counts once, a different one is an error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets.jsonl import parse_record
from harness.storage.regular_files import open_regular
from harness.types import Document, UserError

SHOWN = 3
"""Number of ids in an error message."""


def repeated_rows(path: Path, offsets: NDArray[np.int64], rows: NDArray[np.integer[Any]]) -> set[int]:
    """Finds duplicates among some rows of a corpus.

    Returns:
        The rows whose document is identical to an earlier one.

    Raises:
        UserError: Two different documents have the same id; the message names the first such ids.
    """
    first: dict[str, int] = {}
    repeated: set[int] = set()
    different: dict[str, tuple[int, int]] = {}
    with open_regular(path) as stream:

        def document(row: int) -> Document:
            stream.seek(int(offsets[row]))
            return parse_record(stream.readline())

        for row in rows.tolist():
            found = document(row)
            if (earlier := first.setdefault(found.id, row)) == row:
                continue
            if document(earlier) == found:
                repeated.add(row)
            else:
                different.setdefault(found.id, (int(offsets[earlier]), int(offsets[row])))
    if different:
        raise conflicting_ids(path, list(zip(different, *_line_numbers(path, [*different.values()]), strict=True)))
    return repeated


def conflicting_ids(path: Path, places: Sequence[tuple[str, int, int]]) -> UserError:
    """The error for ids with different content on two lines; a place is an id and its two line numbers."""
    found = [f"{identifier!r} twice, on lines {one} and {other}" for identifier, one, other in places[:SHOWN]]
    more = " ..." if len(places) > SHOWN else ""
    several = f"{len(places)} ids on several lines ({'; '.join(found)}{more})"
    which = several if len(places) > 1 else f"the id {found[0]}"
    return UserError(
        f"{path} has {which}, with different content; remove or rename all but one and run the same command again."
    )


def _line_numbers(path: Path, offsets: list[tuple[int, int]]) -> list[list[int]]:
    """The line numbers of the first offsets of the pairs, and those of the second offsets."""
    ends, at = [np.empty(0, np.int64)], 0
    with open_regular(path) as stream:
        while block := stream.read(1 << 20):
            ends.append(np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")) + at)
            at += len(block)
    numbers: list[list[int]] = (1 + np.searchsorted(np.concatenate(ends), offsets)).T.tolist()
    return numbers
