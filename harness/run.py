"""TREC runs and judgements: the one order of documents, and the files that carry it.

The order is trec_eval's: score descending, then document id descending (by code point, which is UTF-8's byte order).
Search, cut and measures all take it from `rank`.

Trade-off accepted: trec_eval 9 and pytrec_eval compare float32 scores, our searches give float64. Where two different
scores would round to one float32 (and be reordered by id), `rank` moves the later one down by as few float32 steps as
it takes. Such scores are off by some ulps; in return every reader of the file sees exactly the order the search found.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.atomic import write_file
from harness.bounded import limited, lines
from harness.regular import open_regular
from harness.spec import Qrels, UserError

INFINITY_KEY = 0x7F800000
"""Bit pattern of float32 infinity, the largest key in `strictly_ordered`."""


BLANK = re.compile(r"[ \t\n\r\v\f\0]")
"""What ends a column for C programs such as trec_eval; other Unicode spaces are ordinary characters."""
LARGEST = 2**31 - 1
"""Relevance that trec_eval's programs take at the most."""


class Ranking(NamedTuple):
    """One query's documents, best first. Sorting by (score, id), both descending, gives the same order back."""

    query_id: str
    doc_ids: list[str]
    scores: NDArray[np.float32]
    rows: NDArray[np.int64] | None = None
    """Of the documents in the corpus, where that is known: `harness.measure` counts faster with them."""


def rank(
    query_id: str,
    doc_ids: Sequence[str],
    scores: NDArray[Any],
    k: int,
    *,
    exclude: str | None = None,
    rows: NDArray[np.int64] | None = None,
) -> Ranking:
    """The k best of n distinct documents; ``scores`` [n] in any order, bigger is better; ``rows`` [n] in the corpus.

    ``exclude`` (the query's own document) is left out before the cut, so k others remain. ValueError on NaN.
    """
    order = best(query_id, doc_ids, scores, k, exclude=exclude)
    falling = strictly_ordered(np.asarray(scores, np.float64)[order])
    ids = list(map(doc_ids.__getitem__, order.tolist()))
    return Ranking(query_id, ids, falling, None if rows is None else rows[order])


def best(
    query_id: str, doc_ids: Sequence[str], scores: NDArray[Any], k: int, *, exclude: str | None = None
) -> NDArray[np.int64]:
    """Where among the n documents of `rank` the k best are, best first."""
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != (len(doc_ids),) or k < 1:
        raise ValueError(f"query {query_id}: {len(doc_ids)} documents, scores of shape {values.shape}, k={k}")
    if np.isnan(values).any():
        raise ValueError(f"query {query_id}: a score is NaN")
    order = np.argsort(-values)  # not stable, and several times as fast: ties are put in order below
    if exclude is not None:
        order = order[[doc_ids[row] != exclude for row in order.tolist()]]
    falling = values[order]
    if len(falling) > k:  # everything that ties with the k-th takes part until the ids have decided
        falling = falling[: np.searchsorted(-falling, -falling[k - 1], side="right")]
    edges = np.concatenate([[0], np.flatnonzero(falling[1:] != falling[:-1]) + 1, [len(falling)]])
    for tie in np.flatnonzero(np.diff(edges) > 1).tolist():
        tied = slice(edges[tie], edges[tie + 1])
        order[tied] = sorted(order[tied].tolist(), key=doc_ids.__getitem__, reverse=True)
    return order[: min(k, len(falling))]


def strictly_ordered(falling: NDArray[np.float64]) -> NDArray[np.float32]:
    """float32 scores [n] that compare exactly as the float64 scores [n], which must not rise and hold no NaN.

    Mostly the nearest ones do. Else this works on the integers whose order is that of the float32 numbers (adjacent
    numbers, adjacent integers; both zeros are 0). Adding to each the count of distinct scores before it turns "strictly
    falling" into "not rising", which a running minimum enforces; a floor keeps what was pushed below -inf in range.
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


def write_run(path: Path, rankings: Iterable[Ranking], tag: str) -> None:
    """Writes a TREC run, gzipped when the path ends in .gz; equal rankings give equal bytes. Streams."""

    def write(stream: IO[bytes]) -> None:
        with _writer(stream, tag, packed=path.suffix == ".gz") as add:
            for ranking in rankings:
                add(ranking)

    write_file(path, write)


@contextmanager
def run_writer(path: Path, tag: str) -> Iterator[Callable[[Ranking], object]]:
    """`write_run` for rankings that come by call, into a file of a `whole_folder` (which is what makes it whole)."""
    with path.open("wb") as stream, _writer(stream, tag, packed=path.suffix == ".gz") as add:
        yield add


@contextmanager
def _writer(stream: IO[bytes], tag: str, *, packed: bool) -> Iterator[Callable[[Ranking], object]]:
    if not tag or BLANK.search(tag):
        raise UserError(
            f"The run tag {tag!r} is empty or holds whitespace, which a TREC run cannot carry; use a-z, 0-9, -."
        )
    if not packed:
        yield lambda ranking: stream.write(_format(ranking, tag))
        return
    with (
        gzip.GzipFile(filename="", mode="wb", compresslevel=3, fileobj=stream, mtime=0) as out,
        ThreadPoolExecutor(1, "compress") as crew,
    ):
        ahead = [crew.submit(int)]

        def add(ranking: Ranking) -> None:
            text = _format(ranking, tag)
            ahead.pop().result()  # one ranking is compressed while the next is made
            ahead.append(crew.submit(out.write, text))

        yield add
        ahead.pop().result()


def _format(ranking: Ranking, tag: str) -> bytes:
    query_id, doc_ids, scores, _ = ranking
    for kind, ids in (("Query", [query_id]), ("Document", doc_ids)):
        if not all(ids) or BLANK.search("".join(ids)):
            bad = next(text for text in ids if not text or BLANK.search(text))
            raise UserError(
                f"{kind} id {bad!r} is empty or holds whitespace, which a TREC run cannot carry; "
                f"rename it in the corpus, the queries and the qrels (an underscore will do)."
            )
    texts = scores.astype(np.float32).astype(str).tolist()  # the shortest decimals that give the float32 back
    numbered = enumerate(zip(doc_ids, texts, strict=True), 1)
    return "".join(f"{query_id} Q0 {doc_id} {place} {score} {tag}\n" for place, (doc_id, score) in numbered).encode()


def read_run(path: Path) -> Iterator[Ranking]:
    """Rankings of a TREC run (plain or gzipped), each sorted by the rule; the rank column is not looked at.

    Scores are rounded to float32 before they are compared, as pytrec_eval does. A file whose queries stand together is
    streamed (a first pass finds out), any other is sorted by query id in memory. UserError with the line number on a
    wrong column count, a score that is no number, and a document listed twice for one query.
    """
    entries = _run_entries(path)
    if not _grouped(path):
        entries = iter(sorted(entries, key=itemgetter(0)))
    for query_id, group in groupby(entries, key=itemgetter(0)):
        scores: dict[str, float] = {}
        for _, doc_id, score, number in group:
            if doc_id in scores:
                raise UserError(
                    f"Line {number} of {path} lists document {doc_id} a second time for query {query_id}; "
                    f"keep one of the two lines."
                )
            scores[doc_id] = score
        with np.errstate(over="ignore"):
            values = np.array(list(scores.values())).astype(np.float32)
        yield rank(query_id, list(scores), values, len(scores))


def _run_entries(path: Path) -> Iterator[tuple[str, str, float, int]]:
    for number, columns in _rows(path):
        if len(columns) != 6:
            raise UserError(
                f"Line {number} of {path} has {len(columns)} columns, but a TREC run has 6 "
                f"(query Q0 document rank score tag); mend or drop that line."
            )
        try:
            score = float(columns[4])
        except ValueError:
            score = float("nan")
        if score != score:
            raise UserError(
                f"Line {number} of {path}: the score {columns[4][:40]!r} (column 5) is not a number; mend or drop it."
            )
        yield columns[0], columns[2], score, number


def _grouped(path: Path) -> bool:
    """Whether the lines of every query stand together."""
    seen: set[str] = set()
    for query_id, _ in groupby(_rows(path), key=lambda row: row[1][0]):
        if query_id in seen:
            return False
        seen.add(query_id)
    return True


def read_qrels(path: Path) -> Qrels:
    """Judgements, queries in the order of their first line: TREC's four columns, or BEIR's three with tabs between.

    Which of the two is told by the first line, and BEIR's header by its third column being no number. UserError with
    the line number on a wrong column count, a relevance that is no integer, and contradicting lines.
    """
    qrels: Qrels = {}
    first = next(_rows(path, b"\t"), (0, []))[1]
    beir = len(first) == 3
    for position, (number, columns) in enumerate(_rows(path, b"\t" if beir else None)):
        if len(columns) != (3 if beir else 4):
            wanted = "3 (query, document, relevance, tabs between)" if beir else "4 (query 0 document relevance)"
            raise UserError(
                f"Line {number} of {path} has {len(columns)} columns where qrels have {wanted}; mend that line."
            )
        query_id, doc_id = columns[0], columns[-2]
        try:
            relevance = int(columns[-1])
            if abs(relevance) > LARGEST:
                raise ValueError
        except ValueError:
            if beir and position == 0:
                continue
            raise UserError(
                f"Line {number} of {path}: the relevance {columns[-1][:40]!r} is not an integer of 32 bits; mend it."
            ) from None
        if qrels.setdefault(query_id, {}).setdefault(doc_id, relevance) != relevance:
            raise UserError(
                f"Line {number} of {path} judges document {doc_id} for query {query_id} {relevance}, an earlier line "
                f"{qrels[query_id][doc_id]}; keep one of them."
            )
    if not qrels:
        raise UserError(f"{path} holds no judgements; name a qrels file (query 0 document relevance, or BEIR's .tsv).")
    return qrels


def _rows(path: Path, separator: bytes | None = None) -> Iterator[tuple[int, list[str]]]:
    """Line number (from 1) and columns of every line that is not blank; splits at ASCII whitespace as C programs do."""
    if not path.is_file():
        raise UserError(f"There is no file {path}; check the path (a pipe will not do: the file may be read twice).")
    try:
        with open_regular(path) as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            stream = limited(gzip.GzipFile(fileobj=raw), raw) if packed else raw
            for number, line in enumerate(lines(stream, path), 1):
                text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if b"\0" in text:
                    raise UserError(f"Line {number} of {path} holds a NUL byte, where C programs end; mend or drop it.")
                if text.strip():
                    yield number, [column.decode() for column in text.rstrip(b"\r\n").split(separator)]
    except UnicodeDecodeError:
        raise UserError(f"Line {number} of {path} is not UTF-8 text; save the file as UTF-8.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read to its end ({error}); copy or make it again.") from error
