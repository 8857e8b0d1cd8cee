"""Writing TREC runs: blocks of many lines are formatted by columns and compressed in threads.

Each block is a gzip member of its own; concatenated, members are one gzip file (RFC 1952, section 2.2).
"""

from __future__ import annotations

import gzip
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.metrics.ranking import Ranking
from harness.storage.arrow import arrow_numbers, arrow_strings
from harness.storage.atomic import write_file
from harness.storage.columns import BLANK
from harness.storage.strings import Strings
from harness.system.environment import cores
from harness.types import UserError

if TYPE_CHECKING:
    import pyarrow as pa

LINES = 1 << 16
"""Lines that are formatted at a time."""
LEVEL = 3
"""Of gzip."""
THREADS = 4
"""Most threads that format and compress."""
POSITIONAL = 1e-4, 1e6
"""Range in which NumPy and Arrow write the same decimals for a float32 that is not whole."""


def write_run(path: Path, rankings: Iterable[Ranking], tag: str) -> None:
    """Write a TREC run, gzipped if the path ends in .gz. Equal rankings give equal bytes; rankings are streamed."""

    def write(stream: IO[bytes]) -> None:
        with _writer(stream, tag, packed=path.suffix == ".gz") as add:
            for ranking in rankings:
                add(ranking)

    write_file(path, write)


@contextmanager
def run_writer(path: Path, tag: str) -> Iterator[Callable[[Ranking], object]]:
    """Like `write_run`, but rankings are written by calling the result; for files in a `whole_folder`.

    Raises:
        UserError: an id is empty or holds whitespace; at the latest when the block ends.
    """
    with path.open("wb") as stream, _writer(stream, tag, packed=path.suffix == ".gz") as add:
        yield add


@contextmanager
def _writer(stream: IO[bytes], tag: str, *, packed: bool) -> Iterator[Callable[[Ranking], object]]:
    if not tag or BLANK.search(tag):
        raise UserError(
            f"The run tag {tag!r} is empty or holds whitespace, which a TREC run cannot carry; use a-z, 0-9, -."
        )
    waiting: list[Ranking] = []
    running: deque[Future[Any]] = deque()
    lines = 0

    def block(rankings: list[Ranking]) -> Any:
        text = _formatted(rankings, tag)
        return gzip.compress(text, LEVEL, mtime=0) if packed else text

    def add(ranking: Ranking) -> None:
        nonlocal lines
        lines += len(ranking.doc_ids)
        waiting.append(ranking)
        if lines >= LINES:
            running.append(writers.submit(block, waiting.copy()))
            waiting.clear()
            lines = 0
            if len(running) > threads:
                stream.write(running.popleft().result())

    threads = min(THREADS, cores())
    with ThreadPoolExecutor(threads, "write-run") as writers:
        yield add
        for each in running:
            stream.write(each.result())
    if waiting:
        stream.write(block(waiting))
    elif packed and not stream.tell():
        stream.write(gzip.compress(b"", LEVEL, mtime=0))


def _formatted(rankings: Sequence[Ranking], tag: str) -> Any:
    """The lines of these rankings, as a buffer of UTF-8."""
    import pyarrow as pa
    import pyarrow.compute as pc

    sizes = np.array([len(each.doc_ids) for each in rankings])
    query_ids, doc_ids = arrow_strings([each.query_id for each in rankings]), _doc_ids(rankings)
    for kind, ids in (("Query", query_ids), ("Document", doc_ids)):
        _check(kind, ids)
    queries = query_ids.take(arrow_numbers(np.repeat(np.arange(len(rankings)), sizes)))
    ranks = arrow_numbers(np.concatenate([np.arange(1, size + 1) for size in sizes])).cast(pa.large_string())
    scores = _decimals(np.concatenate([each.scores for each in rankings]).astype(np.float32))
    zero, end, blank = arrow_strings(["Q0", f"{tag}\n", " "])
    lines = pc.binary_join_element_wise(queries, zero, doc_ids, ranks, scores, end, blank)
    return lines.buffers()[2] or b""


def _doc_ids(rankings: Sequence[Ranking]) -> pa.LargeStringArray:
    first = rankings[0].doc_ids
    if isinstance(first, Strings) and all(
        isinstance(each.doc_ids, Strings) and each.doc_ids.column is first.column for each in rankings
    ):
        return first.column.take(np.concatenate([each.doc_ids.rows for each in rankings]))  # type: ignore[attr-defined]
    return arrow_strings([doc_id for each in rankings for doc_id in each.doc_ids])


def _check(kind: str, ids: pa.LargeStringArray) -> None:
    """Raise UserError if an id is empty or holds whitespace."""
    import pyarrow.compute as pc

    text = ids.buffers()[2]
    if len(ids) == 0 or (pc.min(pc.binary_length(ids)).as_py() and not (text and BLANK.search(str(text, "utf-8")))):
        return
    bad = next(each for each in ids.to_pylist() if not each or BLANK.search(each))
    raise UserError(
        f"{kind} id {bad!r} is empty or holds whitespace, which a TREC run cannot carry; "
        f"rename it in the corpus, the queries and the qrels (an underscore will do)."
    )


def _decimals(scores: NDArray[np.float32]) -> pa.LargeStringArray:
    """The shortest decimals that round-trip, as NumPy writes them."""
    import pyarrow as pa

    size = np.abs(scores)
    other = (size < POSITIONAL[0]) | (size >= POSITIONAL[1]) | (scores == np.trunc(scores))
    texts = arrow_numbers(scores).cast(pa.large_string())
    if not other.any():
        return texts
    rows = np.arange(len(scores))
    rows[other] = len(scores) + np.arange(np.count_nonzero(other))
    return pa.concat_arrays([texts, arrow_strings(scores[other].astype(str).tolist())]).take(arrow_numbers(rows))
