"""FAISS's IndexFlatL2."""

from __future__ import annotations

from typing import Any

import numpy as np

ROWS = 1 << 16


class Flat:
    """An index with its vectors in memory."""

    def __init__(self, documents: str, queries: str, k: int) -> None:
        import faiss

        mapped = np.load(documents, mmap_mode="r", allow_pickle=False)
        self.index = faiss.IndexFlatL2(mapped.shape[1])
        for start in range(0, len(mapped), ROWS):
            self.index.add(np.ascontiguousarray(mapped[start : start + ROWS]))
        self.queries, self.k = np.load(queries, allow_pickle=False), k

    def work(self) -> dict[str, Any]:
        """Rows and distances [queries, k]; FAISS's are squared."""
        squares, rows = self.index.search(self.queries, self.k)
        return {"rows": rows, "distances": np.sqrt(np.maximum(squares.astype(np.float64), 0))}


class OnDevice:
    """IndexFlatL2 on a GPU, or on the CPU."""

    def __init__(self, documents: Any, device: str) -> None:
        import faiss

        if device == "cpu":
            self.name, self.index = "IndexFlatL2", faiss.IndexFlatL2(documents.shape[1])
        elif hasattr(faiss, "StandardGpuResources"):
            self.name, self._resources = "GpuIndexFlatL2", faiss.StandardGpuResources()
            self.index = faiss.GpuIndexFlatL2(self._resources, documents.shape[1])
        else:
            raise ImportError("this faiss has no GPU indexes; install faiss-gpu")
        for start in range(0, len(documents), ROWS):
            self.index.add(documents[start : start + ROWS])

    def search(self, queries: Any, k: int) -> tuple[Any, Any]:
        """Rows and distances [queries, k]."""
        squares, rows = self.index.search(queries, k)
        return rows, np.sqrt(np.maximum(squares.astype(np.float64), 0))


class Torch:
    """torch's matrix product and topk, block by block, with the vectors on the device."""

    name = "torch, float32"

    def __init__(self, documents: Any, device: str) -> None:
        import torch

        torch.set_float32_matmul_precision("highest")
        self.documents, self.device = torch.from_numpy(documents).to(device), device
        self.squares = torch.cat([part.square().sum(dim=1) for part in self.documents.split(ROWS)])

    def search(self, queries: Any, k: int) -> tuple[Any, Any]:
        """Rows and distances [queries, k]."""
        import torch

        asked, values, rows = torch.from_numpy(queries).to(self.device), [], []
        for start in range(0, len(self.documents), ROWS):
            part = slice(start, start + ROWS)
            distances = torch.addmm(self.squares[part], asked, self.documents[part].T, alpha=-2)
            found = distances.topk(min(k, distances.shape[1]), dim=1, largest=False)
            values.append(found.values)
            rows.append(found.indices + start)
        best = torch.cat(values, dim=1).topk(k, dim=1, largest=False)
        squares = best.values.double() + asked.double().square().sum(dim=1, keepdim=True)
        chosen = torch.cat(rows, dim=1).gather(1, best.indices)
        return chosen.cpu().numpy(), squares.clamp(min=0).sqrt().cpu().numpy()
