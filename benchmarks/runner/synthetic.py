"""Synthetic vectors and judged runs, the same for every competitor: seeded, written once, removed at the end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.runner.contest import Plan

ROWS = 1 << 14


def vectors(plan: Plan, count: int, dim: int, seed: int = 0) -> Path:
    """A .npy file of float32 [count, dim]: normal around a common mean, roughly like real embeddings."""
    path = _folder(plan) / f"vectors-{count}-{dim}-{seed}.npy"
    if not path.exists():
        generator, partial = np.random.default_rng(seed), path.with_suffix(".partial.npy")
        out = np.lib.format.open_memmap(partial, "w+", np.float32, (count, dim))
        for start in range(0, count, ROWS):
            rows = min(ROWS, count - start)
            out[start : start + rows] = generator.standard_normal((rows, dim), np.float32) + np.float32(0.5)
        out.flush()
        del out
        partial.rename(path)
    return path


TERMS = 30_522
"""Terms of synthetic sparse vectors, as many as BERT's vocabulary has."""


def sparse_vectors(plan: Plan, count: int, active: int, seed: int = 0) -> Path:
    """A .npz file of CSR rows [count, TERMS]: some ``active`` terms each, drawn by Zipf's law, weights as SPLADE's."""
    path = _folder(plan) / f"sparse-{count}-{active}-{seed}.npz"
    if not path.exists():
        generator, partial = np.random.default_rng(seed), path.with_suffix(".partial.npz")
        edges = np.cumsum(1 / np.arange(10, TERMS + 10))
        rows = np.repeat(np.arange(count), active)
        terms = np.searchsorted(edges / edges[-1], generator.random(count * active)).clip(max=TERMS - 1)
        pairs = np.unique(rows * TERMS + terms)
        starts = np.searchsorted(pairs, np.arange(count + 1) * TERMS)
        weights = np.log1p(generator.exponential(1.0, len(pairs))).astype(np.float32)
        np.savez(partial, starts=starts.astype(np.int32), terms=(pairs % TERMS).astype(np.int32), weights=weights)
        partial.rename(path)
    return path


WORDS = 5_000
"""Different tokens of synthetic token vectors, drawn by Zipf's law."""


def token_vectors(plan: Plan, count: int, dim: int, seed: int = 0) -> Path:
    """A .npy file of float32 [count, dim] of length 1: vectors of tokens are near that of their word."""
    path = _folder(plan) / f"tokens-{count}-{dim}-{seed}.npy"
    if not path.exists():
        words = np.random.default_rng(7).standard_normal((WORDS, dim), np.float32)
        words /= np.linalg.norm(words, axis=1, keepdims=True)
        edges = np.cumsum(1 / np.arange(10, WORDS + 10))
        generator, partial = np.random.default_rng(seed), path.with_suffix(".partial.npy")
        out = np.lib.format.open_memmap(partial, "w+", np.float32, (count, dim))
        for start in range(0, count, ROWS):
            drawn = np.searchsorted(edges / edges[-1], generator.random(min(ROWS, count - start))).clip(max=WORDS - 1)
            rows = words[drawn] + generator.standard_normal((len(drawn), dim), np.float32) / np.float32(dim**0.5)
            out[start : start + ROWS] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        out.flush()
        del out
        partial.rename(path)
    return path


def judged_runs(plan: Plan, queries: int, documents: int, seed: int = 0) -> Path:
    """A .npz file: ``documents`` and ``scores`` [queries, documents], ``judged`` and ``grades`` [queries, 20].

    Documents are distinct numbers below 50,000 in random order. In a third of the queries scores have two
    decimals, so that many tie. Judged are 20 documents a query, of which 14 are in its ranking, above the others by
    one and a half standard deviations.
    """
    path = _folder(plan) / f"runs-{queries}-{documents}-{seed}.npz"
    if not path.exists():
        generator = np.random.default_rng(seed)
        found = np.stack([generator.choice(50_000, documents, replace=False) for _ in range(queries)])
        judged = np.stack([_judged(generator, row) for row in found])
        better = np.stack([np.isin(row, some) for row, some in zip(found, judged, strict=True)])
        scores = (generator.normal(0.5, 0.1, (queries, documents)) + 0.15 * better).astype(np.float32)
        scores[::3] = scores[::3].round(2)
        grades = generator.choice([0, 0, 1, 1, 2], judged.shape)
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, documents=found, scores=scores, judged=judged, grades=grades)
        partial.rename(path)
    return path


def _judged(generator: np.random.Generator, found: NDArray[np.int64]) -> NDArray[np.int64]:
    inside = generator.choice(found, 14, replace=False)
    outside = np.setdiff1d(generator.choice(50_000, 40, replace=False), found)
    filled: NDArray[np.int64] = np.concatenate([inside, outside])[:20]
    return filled


def _folder(plan: Plan) -> Path:
    folder = plan.work / "synthetic"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
