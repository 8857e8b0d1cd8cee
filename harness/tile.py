"""Tiles of values, query by document, computed where they are looked at: on the processor or on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


class Near(NamedTuple):
    """Values of a tile within a limit, by query."""

    query: Ints
    column: Ints
    value: Floats


class Tile(Protocol):
    """Values float32 [q, m] of q queries and m documents."""

    def __len__(self) -> int:
        """Its documents, m."""
        ...

    def part(self, start: int, stop: int) -> Tile:
        """Those documents alone."""
        ...

    def near(self, limit: Floats, most: int) -> Near | None:
        """Every value up to its query's limit [q]; None where there are more than ``most`` of them."""
        ...


Product = Callable[[Floats, Floats | None], Tile]
"""Documents [m, d] and what to add to each one's values [m] -> queries [q, d] times documents, plus that."""


def make_product(queries: Floats, most: int, device: str) -> Product:
    """Multiplies by these queries; ``most`` documents come at once at the most."""
    return _on_host(queries, most) if device == "cpu" else _on_device(queries, device)


@dataclass(frozen=True, slots=True)
class _HostTile:
    values: Floats

    def __len__(self) -> int:
        return int(self.values.shape[1])

    def part(self, start: int, stop: int) -> Tile:
        return _HostTile(self.values[:, start:stop])

    def near(self, limit: Floats, most: int) -> Near | None:
        mask = self.values <= limit[:, None]
        if np.count_nonzero(mask) > most:
            return None
        query, column = np.divmod(np.flatnonzero(mask), len(self))
        return Near(query, column, self.values[query, column])


def _on_host(queries: Floats, most: int) -> Product:
    memory = np.empty(len(queries) * most, np.float32)

    def product(documents: Floats, added: Floats | None) -> Tile:
        values = memory[: len(queries) * len(documents)].reshape(len(queries), len(documents))
        np.matmul(queries, documents.T, out=values)
        if added is not None:
            values += added
        return _HostTile(values)

    return product


@dataclass(frozen=True, slots=True)
class _DeviceTile:
    values: torch.Tensor

    def __len__(self) -> int:
        return int(self.values.shape[1])

    def part(self, start: int, stop: int) -> Tile:
        return _DeviceTile(self.values[:, start:stop])

    def near(self, limit: Floats, most: int) -> Near | None:
        import torch

        mask = self.values <= torch.from_numpy(limit).to(self.values.device)[:, None]
        if int(mask.sum()) > most:
            return None
        query, column = mask.nonzero(as_tuple=True)
        value = self.values[query, column]
        return Near(query.cpu().numpy(), column.cpu().numpy(), value.cpu().numpy())


def _on_device(queries: Floats, device: str) -> Product:
    import torch

    # TF32 keeps 10 bits of the fraction, far beyond the error that the search reckons with.
    torch.set_float32_matmul_precision("highest")
    asked = torch.from_numpy(queries).to(device)

    def product(documents: Floats, added: Floats | None) -> Tile:
        values = asked @ torch.from_numpy(documents).to(device).T
        if added is not None:
            values += torch.from_numpy(added).to(device)
        return _DeviceTile(values)

    return product
