"""Tiles of values, query by document, looked at where they were computed: on the processor or on a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

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


GRAIN = 2**-8 * 1.01
"""How far rounding to bfloat16 moves a value, in proportion to it or to what it becomes."""


class Tile(Protocol):
    """Values [q, m] of q queries and m documents, rounded to the grain they are kept in."""

    grain: ClassVar[float]
    """How far that rounding moves a value, in proportion; 0 where there is none beyond the product's own error."""

    def __len__(self) -> int:
        """Its documents, m."""
        ...

    def part(self, start: int, stop: int) -> Tile:
        """Those documents alone."""
        ...

    def of(self, queries: slice) -> Tile:
        """These queries alone."""
        ...

    def near(self, limit: Floats, most: int) -> Near | None:
        """Every value up to its query's limit [q]; None where there are more than ``most`` of them."""
        ...


@dataclass(frozen=True, slots=True)
class HostTile:
    """float32 [q, m]."""

    values: Floats
    grain: ClassVar[float] = 0.0

    def __len__(self) -> int:
        return int(self.values.shape[1])

    def part(self, start: int, stop: int) -> Tile:
        """See `Tile`."""
        return HostTile(self.values[:, start:stop])

    def of(self, queries: slice) -> Tile:
        """See `Tile`."""
        return HostTile(self.values[queries])

    def near(self, limit: Floats, most: int) -> Near | None:
        """See `Tile`."""
        places = _places(self.values <= limit[:, None], most)
        return None if places is None else Near(*places, self.values[places])


@dataclass(frozen=True, slots=True)
class CoarseTile:
    """bfloat16 [q, m], as the upper halves of float32 numbers: numpy knows no such type, but compares their bits."""

    bits: NDArray[np.uint16]
    grain: ClassVar[float] = GRAIN

    def __len__(self) -> int:
        return int(self.bits.shape[1])

    def part(self, start: int, stop: int) -> Tile:
        """See `Tile`."""
        return CoarseTile(self.bits[:, start:stop])

    def of(self, queries: slice) -> Tile:
        """See `Tile`."""
        return CoarseTile(self.bits[queries])

    def near(self, limit: Floats, most: int) -> Near | None:
        """See `Tile`."""
        bound = _rounded_up(limit)[:, None]
        # Of two negative numbers the smaller one has the greater bits, and all have greater ones than positives.
        mask = self.bits >= np.where(bound & 0x8000, bound, 0x8000).astype(np.uint16)
        if not (bound & 0x8000).all():
            mask |= (self.bits <= bound) & (bound < 0x8000)
        places = _places(mask, most)
        return None if places is None else Near(*places, _widened(self.bits[places]))


def _places(mask: NDArray[np.bool_], most: int) -> tuple[Ints, Ints] | None:
    if np.count_nonzero(mask) > most:
        return None
    found = np.flatnonzero(mask)
    query = found // mask.shape[1]  # which numpy computes several times as fast as divmod
    return query, found - query * mask.shape[1]


def _widened(bits: NDArray[np.uint16]) -> Floats:
    wide: Floats = (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return wide


def _rounded_up(values: Floats) -> NDArray[np.uint16]:
    """Bits of the smallest bfloat16 that is no smaller; minus zero counts as zero."""
    bits = (values + np.float32(0)).view(np.uint32)
    up = np.where(bits >> 31, bits, bits + np.uint32(0xFFFF))
    return (up >> np.uint32(16)).astype(np.uint16)


@dataclass(frozen=True, slots=True)
class DeviceTile:
    """float32 [q, m], a tensor on a device of torch's."""

    values: torch.Tensor
    grain: ClassVar[float] = 0.0

    def __len__(self) -> int:
        return int(self.values.shape[1])

    def part(self, start: int, stop: int) -> Tile:
        """See `Tile`."""
        return DeviceTile(self.values[:, start:stop])

    def of(self, queries: slice) -> Tile:
        """See `Tile`."""
        return DeviceTile(self.values[queries])

    def near(self, limit: Floats, most: int) -> Near | None:
        """See `Tile`."""
        import torch

        mask = self.values <= torch.from_numpy(limit).to(self.values.device)[:, None]
        if int(mask.sum()) > most:
            return None
        query, column = mask.nonzero(as_tuple=True)
        value = self.values[query, column]
        return Near(query.cpu().numpy(), column.cpu().numpy(), value.cpu().numpy())
