"""Strings that are stored end to end and decoded only when they are read."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from harness.storage.arrow import arrow_numbers, arrow_strings

if TYPE_CHECKING:
    import pyarrow as pa

FEW, MORE = 64, 10_000
"""Strings from which Arrow decodes them faster than Python, and where pyarrow has yet to be imported (40 ms)."""


class StringColumn:
    """n strings in UTF-8, end to end in one buffer."""

    def __init__(self, data: Any, ends: NDArray[np.int64]) -> None:
        """``data`` is any buffer; ``ends[i]`` is the end of string i in it."""
        self.data, self.ends = data, ends

    def __len__(self) -> int:
        return len(self.ends)

    def string(self, row: int) -> str:
        """The string of a row."""
        raw: bytes = self.data[self.ends[row - 1] if row else 0 : self.ends[row]]
        return raw.decode()

    @cached_property
    def _after_first(self) -> pa.LargeStringArray:
        """All strings but the first, without a copy: Arrow's offsets start with that of the first string of all."""
        import pyarrow as pa

        return pa.LargeStringArray.from_buffers(len(self) - 1, pa.py_buffer(self.ends), pa.py_buffer(self.data))

    def take(self, rows: NDArray[np.int64]) -> pa.LargeStringArray:
        """The strings of these rows as an Arrow array."""
        if not len(rows):
            return arrow_strings([])
        first = rows == 0
        if not first.any():
            return self._after_first.take(arrow_numbers(rows - 1))
        fallback = arrow_strings([self.string(0)])[0]
        return self._after_first.take(arrow_numbers(rows - 1, missing=first)).fill_null(fallback)

    def release(self) -> None:
        """Release the buffer, so that it can be closed."""
        self.__dict__.pop("_after_first", None)


class Strings(Sequence[str]):
    """The strings of some rows of a column."""

    def __init__(self, column: StringColumn, rows: NDArray[np.int64]) -> None:
        self.column, self.rows = column, rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice | NDArray[np.int64]) -> Strings: ...

    def __getitem__(self, index: int | slice | NDArray[np.int64]) -> str | Strings:
        if isinstance(index, slice | np.ndarray):
            return Strings(self.column, self.rows[index])
        return self.column.string(int(self.rows[index]))

    def __iter__(self) -> Iterator[str]:
        if len(self.rows) < (FEW if "pyarrow" in sys.modules else MORE):
            return map(self.column.string, self.rows.tolist())
        return iter(self.arrow().to_pylist())

    def arrow(self) -> pa.LargeStringArray:
        """The strings as an Arrow array."""
        return self.column.take(self.rows)
