"""Compiled loops of the index and of the search; imported only for corpora and queries that are worth the compilation.

They give what the NumPy code of `inverted_index` and `scoring` gives, to the last bit: the same numbers of terms, and
float32 scores summed in float64 in the order of the query's terms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

BLOCK = 1 << 15
"""Documents whose totals are in the CPU cache at a time."""
ROOM = 2 * BLOCK
"""Hits that are kept before the best of them are chosen."""
EMPTY = np.int32(-1)
_PRIME, _BASIS = np.uint64(1099511628211), np.uint64(14695981039346656037)
_SHIFT = np.uint64(29)


def _numbers(
    letters: Any, edges: Any, slots: Any, hashes: Any, starts: Any, held: Any, known: int, found: Any, fresh: Any
) -> int:  # pragma: no cover (compiled)
    """Number the words of a batch by a hash table that lives as long as the index is built.

    Args:
        letters: uint8, the text in lower case.
        edges: int64 [2 x words], starts and ends of words.
        slots: int32 [power of two], number of a known word or `EMPTY`.
        hashes: uint64 [known words or more].
        starts: int64 [known words + 1 or more], where a word starts in ``held``.
        held: uint8, the letters of the known words.
        known: number of known words.
        found: int32 [words], receives the numbers.
        fresh: int64 [words], receives the places in ``edges`` of words that were not known.

    Returns:
        The number of known words now.
    """
    mask = len(slots) - 1
    before = known
    for word in range(len(found)):
        first, last = edges[2 * word], edges[2 * word + 1]
        code = _BASIS
        for place in range(first, last):
            code = (code ^ np.uint64(letters[place])) * _PRIME
        code ^= code >> _SHIFT
        slot = np.int64(code) & mask
        while True:
            number = slots[slot]
            if number == EMPTY:
                slots[slot], hashes[known], found[word] = known, code, known
                start = starts[known]
                for place in range(first, last):
                    held[start + place - first] = letters[place]
                starts[known + 1] = start + last - first
                fresh[known - before] = word
                known += 1
                break
            if hashes[number] == code and starts[number + 1] - starts[number] == last - first:
                start = starts[number] - first
                place = first
                while place < last and held[start + place] == letters[place]:
                    place += 1
                if place == last:
                    found[word] = number
                    break
            slot = (slot + 1) & mask
    return known


def _rehash(slots: Any, hashes: Any, known: int) -> None:  # pragma: no cover (compiled)
    """Fill an empty table with the known words."""
    mask = len(slots) - 1
    for number in range(known):
        slot = np.int64(hashes[number]) & mask
        while slots[slot] != EMPTY:
            slot = (slot + 1) & mask
        slots[slot] = number


def _postings(terms: Any, rows: Any, count: int, first: int, piece: Any) -> int:  # pragma: no cover (compiled)
    """Sort words into postings by term, then document.

    Args:
        terms: int32 [words], the words' terms.
        rows: int32 [words], their documents, each batch's in ascending order.
        count: number of terms.
        first: added to every document.
        piece: int32 [3, words], receives term, document and count of each posting.

    Returns:
        The number of postings.
    """
    ends = np.zeros(count + 1, np.int64)
    for word in range(len(terms)):
        ends[terms[word] + 1] += 1
    for term in range(count):
        ends[term + 1] += ends[term]
    order = np.empty(len(terms), np.int32)
    for word in range(len(terms)):
        order[ends[terms[word]]] = rows[word]
        ends[terms[word]] += 1
    size = 0
    start = 0
    for term in range(count):
        previous = -1
        for place in range(start, ends[term]):
            row = order[place]
            if row == previous:
                piece[2, size - 1] += 1
            else:
                piece[0, size], piece[1, size], piece[2, size] = term, row + first, 1
                previous = row
                size += 1
        start = ends[term]
    return size


def _merge(piece: Any, base: int, places: Any, merged: Any) -> None:  # pragma: no cover (compiled)
    """Put postings of a piece behind those of the pieces before it.

    Args:
        piece: int32 [3, postings], sorted by term.
        base: the first term of ``places``.
        places: int64 [terms], where the next posting of a term goes; moved on.
        merged: int32 [postings, 2], receives document and count.
    """
    for posting in range(piece.shape[1]):
        place = places[piece[0, posting] - base]
        merged[place, 0], merged[place, 1] = piece[1, posting], piece[2, posting]
        places[piece[0, posting] - base] = place + 1


def _best(
    postings: Any, norms: Any, fields: Any, heads: Any, ends: Any, weights: Any, first: int, least: Any, memory: Any
) -> Any:  # pragma: no cover (compiled)
    """Documents whose totals are ``least`` or more, in no order, until there is no room for those of another block.

    Args:
        postings: per field int32 [postings, 2], document and count, ascending within a term.
        norms: per field float32 [documents].
        fields: int64 [terms], the field of each term of the query.
        heads: int64 [terms], the first posting of each from document ``first`` on; moved on.
        ends: int64 [terms], the end of its postings.
        weights: float32 [terms].
        first: the document to begin with.
        least: float32.
        memory: from `memory`; the last two receive rows and scores.

    Returns:
        The document to go on with, how many were found, and whether a score vanishes in float32 (they are of no use
        then).
    """
    one, documents = np.float32(1), len(norms[0])
    totals, touched, parts, rows, scores = memory
    size = 0
    while first < documents and size + BLOCK <= ROOM:
        count = 0
        for term in range(len(fields)):
            own, lengths, weight = postings[fields[term]], norms[fields[term]], weights[term]
            start, stop, after = heads[term], heads[term], ends[term]
            while stop < after:
                middle = (stop + after) // 2
                if own[middle, 0] < first + BLOCK:
                    stop = middle + 1
                else:
                    after = middle
            heads[term] = stop
            vanishing = False
            for place in range(np.uint64(stop - start)):  # unsigned, so that the compiler uses vector instructions
                posting = np.uint64(start) + place
                length = lengths[np.uint64(own[posting, 0])]
                parts[place] = weight - weight / (one + np.float32(own[posting, 1]) * length)
                vanishing |= parts[place] == 0
            if vanishing:
                return first, 0, True
            for place in range(np.uint64(stop - start)):
                row = np.uint64(own[np.uint64(start) + place, 0] - first)
                total = totals[row]
                touched[count] = row
                count += total == 0
                totals[row] = total + np.float64(parts[place])
        for place in range(count):
            score = np.float32(totals[touched[place]])
            totals[touched[place]] = 0
            if score >= least:
                rows[size], scores[size] = touched[place] + first, score
                size += 1
        first += BLOCK
    return first, size, False


def memory() -> tuple[Any, ...]:
    """What `best` needs to work with; one for each thread."""
    found = np.empty(ROOM, np.int32), np.empty(ROOM, np.float32)
    return np.zeros(BLOCK), np.empty(BLOCK + 1, np.int32), np.empty(BLOCK, np.float32), *found


_compiled: Callable[[Any], Callable[..., Any]] = numba.njit(nogil=True, cache=True, error_model="numpy")
numbers = _compiled(_numbers)
rehash = _compiled(_rehash)
postings = _compiled(_postings)
merge = _compiled(_merge)
best = _compiled(_best)
