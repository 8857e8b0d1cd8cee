"""Exact search of 5 million x 768 at k = 1000: the harness on a GPU against FAISS and torch with the vectors on it."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.part import Record, Setup

DIM, K, QUERIES = 768, 1000, 1000
CHECKED = 20
"""Queries whose distances are computed in float64 by brute force, on the device."""
ROUNDS = 2
BLOCK = 1 << 17
MEMORY = 8 * 10**9
"""Memory limit of the harness's search."""

Floats = NDArray[np.float32]


def run(setup: Setup, record: Record) -> None:
    """A row for each program."""
    from harness.embeddings.store import Vectors
    from harness.search.exact import Limits, search

    documents, queries, k = setup.pick(4000, 5_000_000), setup.pick(20, QUERIES), setup.pick(50, K)
    dim = setup.pick(16, DIM)
    corpus, centre = vectors(documents, dim, setup.device)
    asked = vectors(queries, dim, setup.device, seed=1)[0]
    nearest, distances = exact(corpus, asked[:CHECKED], k, setup.device)
    record.note(
        f"{documents:,} x {dim} normal vectors around a common mean, {queries:,} queries, k = {k:,}; best of {ROUNDS} "
        f"rounds. The harness reads float32 vectors from main memory, centres them, and rescores in float64; the "
        f"others have them on the device, and *prepare* is their copy"
    )
    record.note(
        f"same set: of {CHECKED} queries, those whose documents are float64's; error: the largest relative one of a "
        f"distance"
    )

    def ours() -> tuple[Any, Any]:
        limits = Limits(MEMORY, setup.device)
        hits = list(search(asked, Vectors.of(corpus), centre, k, "euclidean", limits=limits))
        return np.stack([hit.rows[:k] for hit in hits]), np.stack([-hit.scores[:k] for hit in hits])

    base = _row(record, "harness", 0.0, ours, nearest, distances, None)
    for name in ("faiss", "torch"):
        try:
            start = time.perf_counter()
            peer = _peer(name, corpus, setup.device)
            prepare = time.perf_counter() - start
            _row(record, peer.name, prepare, lambda peer=peer: peer.search(asked, k), nearest, distances, base)
        except ImportError as error:
            record.note(f"{name} did not take part: {error}")
        except Exception as error:  # out of memory, a kernel that is not built for this device
            record.fail(f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
        peer = None


def _row(
    record: Record, name: str, prepare: float, work: Any, nearest: Any, distances: Any, base: float | None
) -> float:
    spent, found = [], (np.empty(0), np.empty(0))
    for _ in range(ROUNDS):
        start = time.perf_counter()
        found = work()
        spent.append(time.perf_counter() - start)
    rows, values = found
    checked = len(nearest)
    same = sum({*a.tolist()} == {*b.tolist()} for a, b in zip(rows[:checked], nearest, strict=True))
    error = float(np.abs(np.sort(values[:checked], axis=1) / distances - 1).max())
    seconds = min(spent)
    record.add(
        program=name,
        **{
            "prepare s": prepare,
            "search s": seconds,
            "times ours": seconds / (base or seconds),
            "queries/s": len(rows) / seconds,
            "same set": f"{same} of {checked}",
            "error": error,
        },
    )
    if name == "harness" and (same < checked or error > 1e-12):
        record.fail(f"the harness's search differs from float64 ({same} of {checked} sets, error {error:.1g})")
    return seconds


def vectors(count: int, dim: int, device: str, seed: int = 0) -> tuple[Floats, NDArray[np.float64]]:
    """float32 [count, dim], made on the device, and their mean."""
    import torch

    chance = torch.Generator(device).manual_seed(seed)
    found, total = np.empty((count, dim), np.float32), torch.zeros(dim, dtype=torch.float64, device=device)
    for start in range(0, count, BLOCK):
        block = torch.randn(min(BLOCK, count - start), dim, generator=chance, device=device) + 0.5
        total += block.sum(dim=0, dtype=torch.float64)
        found[start : start + len(block)] = block.cpu().numpy()
    return found, total.cpu().numpy() / count


def exact(corpus: Floats, asked: Floats, k: int, device: str) -> tuple[Any, Any]:
    """Rows and distances [queries, k] of float64 brute force, nearest first."""
    import torch

    every = []
    wide = torch.from_numpy(asked).to(device, torch.float64)
    for start in range(0, len(corpus), BLOCK):
        block = torch.from_numpy(corpus[start : start + BLOCK]).to(device, torch.float64)
        every.append(torch.stack([(block - query).square().sum(dim=1).sqrt() for query in wide]))
    found = torch.cat(every, dim=1).topk(k, dim=1, largest=False)
    return found.indices.cpu().numpy(), found.values.cpu().numpy()


def _peer(name: str, corpus: Floats, device: str) -> Any:
    from benchmarks.peers import flat

    return flat.OnDevice(corpus, device) if name == "faiss" else flat.Torch(corpus, device)
