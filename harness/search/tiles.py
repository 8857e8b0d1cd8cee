"""Tiles of distances (queries x documents) on CPU or GPU, thresholded in place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


class Matches(NamedTuple):
    """The values of a tile up to a threshold, in query order."""

    query: Ints
    column: Ints
    value: Floats


BFLOAT16_ROUNDING = 2**-8 * 1.01
"""Relative error of rounding to bfloat16, with respect to the value before or after."""


class Tile(Protocol):
    """Values [q, m] of q queries and m documents, in the precision they are stored in."""

    rounding: ClassVar[float]
    """Relative error of rounding to that precision; 0 for float32, whose error is part of the product's error."""

    def __len__(self) -> int:
        """Number of documents, m."""
        ...

    def documents(self, start: int, stop: int) -> Tile:
        """The columns of these documents."""
        ...

    def queries(self, rows: slice) -> Tile:
        """The rows of these queries."""
        ...

    def up_to(self, limit: Floats, most: int) -> Matches | None:
        """All values up to the threshold [q] of their query; None if there are more than ``most``."""
        ...


@dataclass(frozen=True, slots=True)
class HostTile:
    """float32 [q, m]."""

    values: Floats
    rounding: ClassVar[float] = 0.0

    def __len__(self) -> int:
        return int(self.values.shape[1])

    def documents(self, start: int, stop: int) -> Tile:
        """See `Tile`."""
        return HostTile(self.values[:, start:stop])

    def queries(self, rows: slice) -> Tile:
        """See `Tile`."""
        return HostTile(self.values[rows])

    def up_to(self, limit: Floats, most: int) -> Matches | None:
        """See `Tile`."""
        places = _places(self.values <= limit[:, None], most)
        return None if places is None else Matches(*places, self.values[places])


@dataclass(frozen=True, slots=True)
class CoarseTile:
    """bfloat16 [q, m], stored as the upper halves of float32: numpy has no bfloat16, so the bits are compared."""

    bits: NDArray[np.uint16]
    rounding: ClassVar[float] = BFLOAT16_ROUNDING

    def __len__(self) -> int:
        return int(self.bits.shape[1])

    def documents(self, start: int, stop: int) -> Tile:
        """See `Tile`."""
        return CoarseTile(self.bits[:, start:stop])

    def queries(self, rows: slice) -> Tile:
        """See `Tile`."""
        return CoarseTile(self.bits[rows])

    def up_to(self, limit: Floats, most: int) -> Matches | None:
        """See `Tile`."""
        bound = _rounded_up(limit)[:, None]
        # The bits of negative numbers are greater than those of positive ones and grow as the number decreases.
        mask = self.bits >= np.where(bound & 0x8000, bound, 0x8000).astype(np.uint16)
        if not (bound & 0x8000).all():
            mask |= (self.bits <= bound) & (bound < 0x8000)
        places = _places(mask, most)
        return None if places is None else Matches(*places, _widened(self.bits[places]))


def _places(mask: NDArray[np.bool_], most: int) -> tuple[Ints, Ints] | None:
    if np.count_nonzero(mask) > most:
        return None
    found = np.flatnonzero(mask)
    query = found // mask.shape[1]  # several times as fast as np.divmod
    return query, found - query * mask.shape[1]


def _widened(bits: NDArray[np.uint16]) -> Floats:
    wide: Floats = (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return wide


def _rounded_up(values: Floats) -> NDArray[np.uint16]:
    """Bits of the values rounded up to bfloat16; -0 is treated as 0."""
    bits = (values + np.float32(0)).view(np.uint32)
    up = np.where(bits >> 31, bits, bits + np.uint32(0xFFFF))
    return (up >> np.uint32(16)).astype(np.uint16)


@dataclass(frozen=True, slots=True)
class DeviceTile:
    """float32 [q, m], a tensor on a torch device."""

    values: torch.Tensor
    rounding: ClassVar[float] = 0.0

    def __len__(self) -> int:
        return int(self.values.shape[1])

    def documents(self, start: int, stop: int) -> Tile:
        """See `Tile`."""
        return DeviceTile(self.values[:, start:stop])

    def queries(self, rows: slice) -> Tile:
        """See `Tile`."""
        return DeviceTile(self.values[rows])

    def up_to(self, limit: Floats, most: int) -> Matches | None:
        """See `Tile`."""
        import torch

        mask = self.values <= torch.from_numpy(limit).to(self.values.device)[:, None]
        if int(mask.sum()) > most:
            return None
        query, column = mask.nonzero(as_tuple=True)
        value = self.values[query, column]
        return Matches(query.cpu().numpy(), column.cpu().numpy(), value.cpu().numpy())
