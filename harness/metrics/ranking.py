"""TREC runs: the ranking order, and reading run files.

The order is that of trec_eval 10.0: score descending, compared as doubles, then document id descending (by code point,
which is UTF-8's byte order). Search, cutoffs and metrics all use `rank`.

Trade-off: trec_eval 9 and pytrec_eval compare float32 scores, but our searches return float64. If two different scores
would round to the same float32 (and be reordered by id), `rank` lowers the later one by as few float32 steps as needed.
Such scores are off by a few ulps; in return, every reader of the file sees the order of the search. External runs are
read as doubles; `RunNotes` counts the queries whose order float32 would change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.storage.columns import decoded, is_number, line_blocks, numbered_lines, numbers
from harness.storage.strings import Strings
from harness.types import UserError

INFINITY_KEY = 0x7F800000
"""Bit pattern of float32 infinity, the largest key in `strictly_ordered`."""
COLUMNS = 6
"""Columns of a run: query Q0 document rank score tag. Further columns are ignored, as by trec_eval."""


class Ranking(NamedTuple):
    """The documents of a query, best first: sorted by score, then id, both descending."""

    query_id: str
    doc_ids: Sequence[str]
    scores: NDArray[np.float32]
    rows: NDArray[np.int64] | None = None
    """Rows of the documents in the corpus, if known: `harness.metrics.measures` is faster with them."""


def rank(
    query_id: str,
    doc_ids: Sequence[str],
    scores: NDArray[Any],
    k: int,
    *,
    exclude: str | None = None,
    rows: NDArray[np.int64] | None = None,
) -> Ranking:
    """Rank n distinct documents and keep the k best.

    Args:
        query_id: the query.
        doc_ids: the n documents, in any order.
        scores: [n], greater is better.
        k: depth of the ranking.
        exclude: a document (the query's own) that is removed before the cut.
        rows: [n], the rows of the documents in the corpus.

    Raises:
        ValueError: a score is NaN.
    """
    order = best(query_id, doc_ids, scores, k, exclude=exclude)
    falling = strictly_ordered(np.asarray(scores, np.float64)[order])
    return Ranking(query_id, _chosen(doc_ids, order), falling, None if rows is None else rows[order])


def best(
    query_id: str, doc_ids: Sequence[str], scores: NDArray[Any], k: int, *, exclude: str | None = None
) -> NDArray[np.int64]:
    """Indices of the k best documents, best first; arguments as for `rank`."""
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != (len(doc_ids),) or k < 1:
        raise ValueError(f"query {query_id}: {len(doc_ids)} documents, scores of shape {values.shape}, k={k}")
    if np.isnan(values).any():
        raise ValueError(f"query {query_id}: a score is NaN")
    order = np.argsort(-values)  # not stable, but several times as fast; ties are sorted below
    if exclude is not None:
        order = order[np.array([doc_id != exclude for doc_id in doc_ids], bool)[order]]
    falling = values[order]
    if len(falling) > k:  # keep all that tie with the k-th until they are sorted by id
        falling = falling[: np.searchsorted(-falling, -falling[k - 1], side="right")]
    equal = falling[1:] == falling[:-1]
    if equal.any():
        edges = np.concatenate([[0], np.flatnonzero(~equal) + 1, [len(falling)]])
        tied = order[: len(falling)][np.append(equal, False) | np.insert(equal, 0, False)]
        ids = dict(zip(tied.tolist(), _chosen(doc_ids, tied), strict=True))
        for tie in np.flatnonzero(np.diff(edges) > 1).tolist():
            part = slice(edges[tie], edges[tie + 1])
            order[part] = sorted(order[part].tolist(), key=ids.__getitem__, reverse=True)
    return order[: min(k, len(falling))]


def _chosen(doc_ids: Sequence[str], places: NDArray[np.int64]) -> Sequence[str]:
    """Some of the ids; those of a corpus are decoded together."""
    return doc_ids[places] if isinstance(doc_ids, Strings) else list(map(doc_ids.__getitem__, places.tolist()))


def strictly_ordered(falling: NDArray[np.float64]) -> NDArray[np.float32]:
    """Convert float64 scores [n] to float32 scores with the same order and ties. The input is descending, without NaN.

    Rounding is usually enough. Otherwise float32 numbers are mapped to integers in the same order (adjacent numbers to
    adjacent integers, both zeros to 0). Adding to each the count of distinct scores before it turns "strictly
    falling" into "not rising", which a running minimum enforces; a floor keeps values from falling below -inf.
    """
    if not len(falling):
        return np.empty(0, dtype=np.float32)
    with np.errstate(over="ignore", under="ignore"):
        nearest = falling.astype(np.float32) + np.float32(0)  # no minus zero
    apart = falling[1:] != falling[:-1]
    if np.array_equal(nearest[1:] != nearest[:-1], apart):
        return nearest
    bits = nearest.view(np.int32).astype(np.int64)
    keys = np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
    steps = np.concatenate([[0], np.cumsum(apart)])
    keys = np.minimum.accumulate(keys + steps) - steps
    keys = np.maximum(keys, steps[-1] - steps - INFINITY_KEY)
    ordered: NDArray[np.float32] = np.where(keys < 0, 0x80000000 - keys, keys).astype(np.uint32).view(np.float32)
    return ordered


@dataclass(slots=True)
class RunNotes:
    """Peculiarities of a run that `read_run` reports to the user."""

    comments: int = 0
    """Lines that begin with "#" but are otherwise valid."""
    reordered: int = 0
    """Queries whose order would change if scores were rounded to float32."""

    def sentences(self, name: str) -> list[str]:
        """One sentence per count that is not 0; ``name`` is the file."""
        found = []
        if self.comments:
            found.append(f"{name}: {self.comments} of its lines begin with # and are comments, as for trec_eval 10.0")
        if self.reordered:
            found.append(
                f"{name}: in {self.reordered} of its queries the order depends on digits that float32 drops; scores "
                f"are compared as doubles, as by trec_eval 10.0, while trec_eval 9 and pytrec_eval round to float32"
            )
        return found


def read_run(
    path: Path, *, known: Collection[str] = (), only: Collection[str] | None = None, notes: RunNotes | None = None
) -> Iterator[Ranking]:
    """Read a TREC run (plain or gzipped). Rankings are sorted by score and id; the rank column is ignored.

    A file in which the lines of each query are contiguous (checked in a first pass) is streamed; any other is sorted by
    query id in memory.

    Args:
        path: a regular file.
        known: ids of queries. A line that begins with "#" is a comment unless its query is one of them.
        only: ids of the queries to read; all others are skipped unchecked.
        notes: receives peculiarities of the run.

    Raises:
        UserError: with the line number, for less than 6 columns, a score that is not a number, and a document listed
            twice for one query.
    """
    notes = RunNotes() if notes is None else notes
    marked = {query.encode() for query in known if query.startswith("#")}
    streamed = only is None and _grouped(path, marked)
    gathered: dict[bytes, dict[bytes, bytes]] = {}
    query, scores = b"", dict[bytes, bytes]()
    for start, block in line_blocks(path) if only is None else _of_queries(path, only):
        for place, line in enumerate(block, start):
            columns = line.split(None, COLUMNS)
            if not columns:
                continue
            if columns[0] != query:
                if columns[0].startswith(b"#") and columns[0] not in marked:
                    notes.comments += len(columns) >= COLUMNS and is_number(columns[4])
                    continue
                if streamed and query:
                    yield _ranking(path, query, gathered.pop(query), notes)
                query = columns[0]
                scores = gathered.setdefault(query, {})
            if len(columns) < COLUMNS:
                raise UserError(
                    f"Line {place} of {path} has {len(columns)} columns, but a TREC run has 6 "
                    f"(query Q0 document rank score tag); fix or remove that line."
                )
            if columns[2] in scores:
                raise UserError(
                    f"Line {place} of {path} lists document {decoded(columns[2], path, place)} a second time for query "
                    f"{decoded(query, path, place)}; keep one of the two lines."
                )
            scores[columns[2]] = columns[4]
    for query in sorted(gathered):
        yield _ranking(path, query, gathered[query], notes)


def read_order(path: Path) -> Iterator[tuple[str, list[bytes]]]:
    """Queries of a run that `run_writer` wrote, each with its document ids, best first.

    The lines are taken in the order in which they are, and scores are not read: that takes a third of the time of
    `read_run`.

    Raises:
        UserError: If the file is not such a run.
    """
    query, found = b"", list[bytes]()
    for _, lines in line_blocks(path):
        words = b"\n".join(lines).split()
        if len(words) % COLUMNS:
            raise UserError(
                f"{path} is not a run that the harness wrote; make it again with harness benchmark --force."
            )
        documents, place = words[2::COLUMNS], 0
        for own, group in groupby(words[::COLUMNS]):
            if own != query and found:
                yield decoded(query, path, 1), found
                found = []
            count = len([*group])
            query, found, place = own, found + documents[place : place + count], place + count
    if found:
        yield decoded(query, path, 1), found


def _of_queries(path: Path, only: Collection[str]) -> Iterator[tuple[int, list[bytes]]]:
    """The lines of these queries, each with its number."""
    wanted = {query.encode() for query in only}
    for start, block in line_blocks(path):
        for place, line in enumerate(block, start):
            words = line.split(None, 1)
            if words and words[0] in wanted:
                yield place, [line]


def _ranking(path: Path, query: bytes, scores: dict[bytes, bytes], notes: RunNotes) -> Ranking:
    try:
        values = numbers(scores.values())
        query_id, ids = query.decode(), list(map(bytes.decode, scores))
    except ValueError:  # UnicodeDecodeError included
        raise _fault(path, query) from None
    order = best(query_id, ids, values, len(ids))
    falling, ids = values[order], list(map(ids.__getitem__, order.tolist()))
    with np.errstate(over="ignore", under="ignore"):
        rounded = falling.astype(np.float32)
    if ((rounded[1:] == rounded[:-1]) & (falling[1:] != falling[:-1])).any():
        notes.reordered += rank(query_id, ids, rounded, len(ids)).doc_ids != ids
    return Ranking(query_id, ids, strictly_ordered(falling))


def _fault(path: Path, query: bytes) -> UserError:
    """The error about the first line of a query that holds something else than UTF-8 and a number."""
    for place, line in numbered_lines(path):
        columns = line.split(None, COLUMNS)
        if columns[0] != query:
            continue
        decoded(columns[0], path, place)
        decoded(columns[2], path, place)
        if not is_number(columns[4]):
            score = columns[4][:40].decode(errors="replace")
            return UserError(
                f"Line {place} of {path}: the score {score!r} (column 5) is not a number; fix or remove that line."
            )
    return UserError(f"{path} changed while it was read; run the same command again.")


def _grouped(path: Path, marked: Collection[bytes]) -> bool:
    """Whether the lines of every query stand together."""
    seen: set[bytes] = set()
    query = b""
    for _, block in line_blocks(path):
        for line in block:
            first = line.split(None, 1)[:1]
            if not first or first[0] == query or (first[0].startswith(b"#") and first[0] not in marked):
                continue
            if first[0] in seen:
                return False
            query = first[0]
            seen.add(query)
    return True
