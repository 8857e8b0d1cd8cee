"""Compiled parts of exact search's first pass in bfloat16; imported only for searches that are worth the compilation.

Bits of bfloat16 numbers are the upper halves of those of float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

CHUNK, STEP = np.uint64(32), np.uint64(1)
"""Products that are compared with the limit at once; step of an unsigned index."""
UPPER, HALF, ONE = np.uint32(16), np.uint32(0x7FFF), np.uint32(1)
MASK, NUMBER = np.uint32(0xFFFF0000), np.uint32(0x7FFFFFFF)
SHIFT, TWO, FULL = np.int32(16), np.float32(2), -1


def _round(
    block: Any, factor: Any, centre: Any, unit: Any, bits: Any, squares: Any, apart: Any
) -> None:  # pragma: no cover (compiled)
    """Move documents to the centre and round them to bfloat16.

    Args:
        block: float32 [n, d].
        factor: float32 by which they are multiplied first, a power of two.
        centre: float32 [d].
        unit: whether the squared distance of zero vectors is to grow by 1.
        bits: uint16 [n, d], receives bfloat16 numbers, the nearest ones (even ones of two).
        squares: float32 [n], receives squared lengths.
        apart: float32 [n], receives the squared lengths of what was rounded off.
    """
    count, dim = block.shape
    exact, rounded = np.empty(dim, np.float32), np.empty(dim, np.float32)
    own, cut = exact.view(np.uint32), rounded.view(np.uint32)
    for row in range(count):
        given, out, raw = block[row], bits[row], block[row].view(np.uint32)
        present = np.uint32(0)
        for column in range(dim):
            present |= raw[column] & NUMBER
            exact[column] = given[column] * factor - centre[column]
        for column in range(dim):
            kept = (own[column] + HALF + ((own[column] >> UPPER) & ONE)) & MASK
            cut[column] = kept
            out[column] = np.uint16(kept >> UPPER)
        square, rest = np.float32(0), np.float32(0)
        for column in range(dim):
            square += exact[column] * exact[column]
            off = exact[column] - rounded[column]
            rest += off * off
        squares[row] = square + np.float32(1) if unit and not present else square
        apart[row] = rest


def _smallest(values: Any, k: Any) -> Any:  # pragma: no cover (compiled)
    """The k-th smallest value; C. Hoare, Algorithm 65: Find (1961). NumPy's partition takes seconds to compile."""
    ranked, place = values.copy(), k - 1
    low, high = 0, len(values) - 1
    while low < high:
        pivot, left, right = ranked[place], low, high
        while left <= right:
            while ranked[left] < pivot:
                left += 1
            while pivot < ranked[right]:
                right -= 1
            if left <= right:
                ranked[left], ranked[right] = ranked[right], ranked[left]
                left, right = left + 1, right - 1
        if right < place:
            low = left
        if place < left:
            high = right
    return ranked[place]


def _pruned(lower: Any, upper: Any, rows: Any, count: Any, limit: Any, k: Any) -> Any:  # pragma: no cover (compiled)
    """Remove the candidates of a query that are certainly not among its k nearest; the number left and the limit."""
    if count < k:
        return count, limit
    limit = min(limit, _find(upper[:count], k))
    kept = 0
    for at in range(count):
        if lower[at] <= limit:
            lower[kept], upper[kept], rows[kept] = lower[at], upper[at], rows[at]
            kept += 1
    return kept, limit


_find = numba.njit(nogil=True, cache=True, error_model="numpy")(_smallest)
_prune = numba.njit(nogil=True, cache=True, error_model="numpy")(_pruned)


def _add(
    values: Any, errors: Any, first: Any, lower: Any, upper: Any, rows: Any, count: Any, limit: Any, k: Any
) -> Any:  # pragma: no cover (compiled)
    """Add the documents with values up to the limit to the candidates of a query; their number and the limit."""
    total, begin = np.uint64(len(values)), np.uint64(0)
    while begin < total and count != FULL:
        end, near = min(begin + CHUNK, total), np.int32(0)
        for at in range(begin, end):
            near += np.int32(values[at] <= limit)
        one = begin
        while near and one < end:
            if values[one] <= limit:
                if count == len(rows):
                    count, limit = _prune(lower, upper, rows, count, limit, k)
                    if 4 * count > 3 * len(rows):
                        count = FULL
                        break
                lower[count], upper[count], rows[count] = values[one], values[one] + TWO * errors[one], first + one
                count += 1
            one += STEP
        begin = end
    return count, limit


_insert = numba.njit(nogil=True, cache=True, error_model="numpy")(_add)


def _select(
    products: Any, squares: Any, lengths: Any, first: Any, factor: Any, unit: Any, slopes: Any, offsets: Any,
    lower: Any, upper: Any, rows: Any, counts: Any, limits: Any, k: Any,
) -> None:  # fmt: skip  # pragma: no cover (compiled)
    """Add the documents that may be among the k nearest of some queries to their candidates.

    A value is s - factor c for a document's square s and a product c; its error is at most
    factor (unit |c| + slope length) + offset.

    Args:
        products: uint16 [q, n], bfloat16 numbers.
        squares: float32 [n].
        lengths: float32 [n], of documents.
        first: number of the first document.
        factor: float32, as ``unit``.
        unit: see above.
        slopes: float32 [q], as ``offsets``.
        offsets: see above.
        lower: float32 [q, most], the least values of the candidates.
        upper: float32 [q, most], the greatest ones.
        rows: int64 [q, most], the candidates.
        counts: int64 [q], how many there are; `FULL` if they were too many.
        limits: float32 [q], no less than the k-th smallest value.
        k: at least 1.
    """
    total = np.uint64(products.shape[1])
    bits, values, errors = np.empty(total, np.int32), np.empty(total, np.float32), np.empty(total, np.float32)
    numbers = bits.view(np.float32)
    for query in range(len(products)):
        given, slope, offset = products[query], slopes[query], offsets[query]
        for at in range(total):
            bits[at] = np.int32(given[at]) << SHIFT
        for at in range(total):
            errors[at] = factor * (unit * abs(numbers[at]) + slope * lengths[at]) + offset
            values[at] = squares[at] - factor * numbers[at] - errors[at]
        own = lower[query], upper[query], rows[query]
        counts[query], limits[query] = _insert(values, errors, first, *own, counts[query], limits[query], k)


def _finish(lower: Any, upper: Any, rows: Any, counts: Any, limits: Any, k: Any) -> None:  # pragma: no cover (compiled)
    """Remove what is certainly not among the k nearest, for all queries that are not `FULL`."""
    for query in range(len(counts)):
        if counts[query] != FULL:
            counts[query], limits[query] = _prune(
                lower[query], upper[query], rows[query], counts[query], limits[query], k
            )


round_block: Callable[..., None] = numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})(_round)
select: Callable[..., None] = numba.njit(nogil=True, cache=True, error_model="numpy")(_select)
finish: Callable[..., None] = numba.njit(nogil=True, cache=True, error_model="numpy")(_finish)
