"""What the vectors of each kind of model are, and the arrays in which a shard keeps them.

This is the place to add a kind of vectors. A model of any kind in `FORMATS` has ``dim`` and ``encode(texts, *, role)``;
its format checks what ``encode`` returns, joins the rows of batches, and turns them into arrays for a shard and back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.embeddings.token_vectors import TokenVectors, joined, no_tokens
from harness.types import Storage, UserError

MOST_TERMS = 1 << 24
"""Largest dimension of sparse vectors: a search has some integers for each."""


class Format(Protocol):
    """One kind of vectors. ``rows`` are those of several texts, one for each, with a ``shape`` [texts, dim]."""

    def fault(self, given: object, count: int, dim: int) -> str:
        """Describe what is wrong with the output of a model; empty if it is valid."""
        ...

    def joined(self, parts: Sequence[Any], order: Sequence[int], dim: int) -> Any:
        """The rows [len(order), dim] of all parts; row i of them is put at ``order[i]``."""
        ...

    def values(self, rows: Any) -> NDArray[np.floating[Any]]:
        """All numbers that are stored."""
        ...

    def changes(self, one: Any, other: Any) -> NDArray[np.float64]:
        """Of every row, the length of the difference of both as a share of its length in ``one``."""
        ...

    def arrays(self, rows: Any, storage: Storage) -> list[NDArray[Any]]:
        """The arrays of a shard, `count` in number. UserError where the storage cannot hold a value."""
        ...

    def rows(self, arrays: Sequence[NDArray[Any]], dim: int, storage: Storage) -> Any:
        """The rows in the arrays of a shard; ValueError where they are not what `arrays` gives."""
        ...

    @property
    def count(self) -> int:
        """Number of arrays of a shard."""
        ...


def _shape_fault(given: Any, count: int, dim: int, name: str = "vectors") -> str:
    """What is wrong with the shape or the dtype of encoded rows; empty if nothing is."""
    if given.shape != (count, dim):
        return f"encode() returned shape {given.shape} for {count} texts of dimension {dim}; return one row per text."
    if given.dtype != np.float32:
        return f"encode() returned {given.dtype}; return float32 ({name}.astype(np.float32))."
    return ""


def _share(apart: NDArray[np.float64], length: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = apart / np.maximum(length, 1e-12)
    return found


class DenseFormat:
    """float32 [n, dim]."""

    count = 1

    def fault(self, given: object, count: int, dim: int) -> str:
        """As `Format.fault`."""
        if not isinstance(given, np.ndarray):
            return f"encode() returned a {type(given).__name__}, not a numpy array; return np.asarray(..., np.float32)."
        if fault := _shape_fault(given, count, dim):
            return fault
        bad = ~np.isfinite(given).all(axis=1)
        return f"{int(bad.sum())} of {count} vectors hold NaN or infinity; fix the encoder." if bad.any() else ""

    def joined(self, parts: Sequence[NDArray[np.float32]], order: Sequence[int], dim: int) -> NDArray[np.float32]:
        """As `Format.joined`."""
        out = np.empty((len(order), dim), np.float32)
        start = 0
        for part in parts:
            out[order[start : start + len(part)]] = part
            start += len(part)
        return out

    def values(self, rows: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """As `Format.values`."""
        return rows

    def changes(self, one: NDArray[np.floating[Any]], other: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """As `Format.changes`."""
        apart, length = (np.linalg.norm(rows.astype(np.float64), axis=1) for rows in (one - other, one))
        return _share(apart, length)

    def arrays(self, rows: NDArray[np.float32], storage: Storage) -> list[NDArray[Any]]:
        """As `Format.arrays`."""
        with np.errstate(over="ignore"):
            kept = np.ascontiguousarray(rows, storage)
        if storage == "float16" and not np.isfinite(kept).all():
            raise UserError(
                f"A vector holds {np.abs(rows).max():.3g}, which float16 cannot (65,504 at most); "
                f"omit --storage to keep float32."
            )
        return [kept]

    def rows(self, arrays: Sequence[NDArray[Any]], dim: int, storage: Storage) -> NDArray[np.floating[Any]]:
        """As `Format.rows`."""
        [rows] = arrays
        if rows.ndim != 2 or rows.dtype != storage:
            raise ValueError(f"an array of shape {rows.shape} and type {rows.dtype}")
        return rows


class SparseFormat:
    """A scipy.sparse CSR array float32 [n, dim]: in every row the indices of the terms rise, and no weight is 0."""

    count = 3

    def fault(self, given: object, count: int, dim: int) -> str:
        """As `Format.fault`."""
        import scipy.sparse

        if not scipy.sparse.issparse(given) or getattr(given, "format", "") != "csr":
            return (
                f"encode() returned a {type(given).__name__}, not a CSR array of scipy; return "
                f"scipy.sparse.csr_array((weights, indices, indptr), shape)."
            )
        rows: Any = given
        if not 0 < dim <= MOST_TERMS:
            return f"its dim is {dim:,}; sparse vectors have 1 to {MOST_TERMS:,} dimensions."
        if fault := _shape_fault(rows, count, dim, "rows"):
            return fault
        try:
            rows.check_format(full_check=True)
        except ValueError as error:
            return f"encode() returned an invalid CSR array ({error}); fix the encoder."
        if not np.isfinite(rows.data).all():
            bad = len(np.unique(np.repeat(np.arange(count), np.diff(rows.indptr))[~np.isfinite(rows.data)]))
            return f"{bad} of {count} vectors hold NaN or infinity; fix the encoder."
        return ""

    def joined(self, parts: Sequence[Any], order: Sequence[int], dim: int) -> Any:
        """As `Format.joined`; duplicates are added up and zeros dropped."""
        import scipy.sparse

        each = [scipy.sparse.csr_array(part) for part in parts]
        rows = scipy.sparse.vstack([scipy.sparse.csr_array((0, dim), dtype=np.float32), *each], format="csr")
        rows = rows[np.argsort(np.asarray(order, np.int64))]
        rows.sum_duplicates()
        rows.eliminate_zeros()
        return rows

    def values(self, rows: Any) -> NDArray[np.floating[Any]]:
        """As `Format.values`."""
        return rows.data  # type: ignore[no-any-return]

    def changes(self, one: Any, other: Any) -> NDArray[np.float64]:
        """As `Format.changes`."""
        apart, length = (np.sqrt(rows.astype(np.float64).power(2).sum(axis=1)) for rows in (one - other, one))
        return _share(apart, length)

    def arrays(self, rows: Any, storage: Storage) -> list[NDArray[Any]]:
        """As `Format.arrays`: where each row begins, the terms, their weights."""
        return [rows.indptr.astype(np.int32), rows.indices.astype(np.int32), rows.data.astype(np.float32)]

    def rows(self, arrays: Sequence[NDArray[Any]], dim: int, storage: Storage) -> Any:
        """As `Format.rows`."""
        import scipy.sparse

        starts, terms, weights = arrays
        if [array.dtype for array in arrays] != [np.int32, np.int32, np.float32] or {a.ndim for a in arrays} != {1}:
            raise ValueError("arrays of other types than int32, int32, float32")
        whole = len(starts) and not starts[0] and starts[-1] == len(terms) == len(weights) and dim <= MOST_TERMS
        if (
            not whole
            or (np.diff(starts.astype(np.int64)) < 0).any()
            or (terms.size and not 0 <= terms.min() <= terms.max() < dim)
        ):
            raise ValueError("arrays that are no sparse rows")
        falls = np.flatnonzero(np.diff(terms) <= 0) + 1
        if not np.isin(falls, starts).all():
            raise ValueError("rows whose terms do not rise")
        rows = scipy.sparse.csr_array((weights, terms, starts), shape=(len(starts) - 1, dim))
        rows.has_sorted_indices = rows.has_canonical_format = True
        return rows


class MultiVectorFormat:
    """`TokenVectors` float32; a model may also return a list with an array [tokens, dim] for each text."""

    count = 3

    def fault(self, given: object, count: int, dim: int) -> str:
        """As `Format.fault`."""
        if isinstance(given, list | tuple) and all(isinstance(each, np.ndarray) for each in given):
            if (number := len(given)) != count:
                return f"encode() returned {number} arrays for {count} texts; return one array per text."
            if odd := [each.shape for each in given if each.ndim != 2 or each.shape[1] != dim]:
                return f"encode() returned an array of shape {odd[0]} for a text; return [tokens, dim], dim = {dim}."
            given = _as_rows(given, dim)
        if not isinstance(given, TokenVectors):
            kind = type(given).__name__
            return f"encode() returned a {kind}, not a list of arrays; return one array [tokens, dim] for each text."
        if fault := _shape_fault(SimpleNamespace(shape=given.shape, dtype=given.vectors.dtype), count, dim):
            return fault
        if not _whole(given):
            return "encode() returned offsets that do not rise from 0 to the number of vectors; fix the encoder."
        bad = ~np.isfinite(given.vectors).all(axis=1)
        if bad.any():
            texts = len(np.unique(np.searchsorted(given.offsets, np.flatnonzero(bad), side="right")))
            return f"the vectors of {texts} of {count} texts hold NaN or infinity; fix the encoder."
        return ""

    def joined(self, parts: Sequence[Any], order: Sequence[int], dim: int) -> TokenVectors:
        """As `Format.joined`."""
        rows = joined([no_tokens(dim), *(_as_rows(part, dim) for part in parts)])
        return rows[np.argsort(np.asarray(order, np.int64))]

    def values(self, rows: TokenVectors) -> NDArray[np.floating[Any]]:
        """As `Format.values`."""
        return rows.vectors

    def changes(self, one: TokenVectors, other: TokenVectors) -> NDArray[np.float64]:
        """As `Format.changes`, of all vectors of a text; infinite where their number differs."""
        found = np.full(len(one), np.inf)
        for row in np.flatnonzero(one.counts == other.counts).tolist():
            mine, theirs = (rows[row : row + 1].vectors.astype(np.float64) for rows in (one, other))
            found[row] = float(np.linalg.norm(mine - theirs)) / max(float(np.linalg.norm(mine)), 1e-12)
        return found

    def arrays(self, rows: TokenVectors, storage: Storage) -> list[NDArray[Any]]:
        """As `Format.arrays`: where each text begins, whether it was truncated, the vectors."""
        [vectors] = DENSE.arrays(rows.vectors, storage)
        return [rows.offsets.astype(np.int64), rows.truncated.astype(np.int32), vectors]

    def rows(self, arrays: Sequence[NDArray[Any]], dim: int, storage: Storage) -> TokenVectors:
        """As `Format.rows`."""
        offsets, truncated, vectors = arrays
        if [array.dtype for array in arrays] != [np.int64, np.int32, np.dtype(storage)]:
            raise ValueError(f"arrays of other types than int64, int32, {storage}")
        rows = TokenVectors(DENSE.rows([vectors], dim, storage), offsets, truncated)
        if offsets.ndim != 1 or truncated.ndim != 1 or not _whole(rows) or not np.isin(truncated, (0, 1, -1)).all():
            raise ValueError("arrays that are no token vectors")
        return rows


def _as_rows(part: Any, dim: int) -> TokenVectors:
    return part if isinstance(part, TokenVectors) else TokenVectors.of(part) if part else no_tokens(dim)


def _whole(rows: TokenVectors) -> bool:
    """Whether the offsets fit the vectors."""
    ends = len(rows.offsets) and rows.offsets[0] == 0 and rows.offsets[-1] == len(rows.vectors)
    return bool(ends and len(rows.truncated) == len(rows) and (rows.counts >= 0).all())


DENSE, SPARSE, MULTIVECTOR = DenseFormat(), SparseFormat(), MultiVectorFormat()
FORMATS: Mapping[str, Format] = {"dense": DENSE, "sparse": SPARSE, "multivector": MULTIVECTOR}
"""Kind of a model that gives vectors -> their format."""
