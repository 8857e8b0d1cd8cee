"""Reads untrusted Parquet files with bounded memory.

A few kilobytes of Parquet can expand to gigabytes in three ways: pages that unpack to gigabytes, one large value that
is repeated in every row, and row counts in the billions. So the footer and the header of every page are checked before
any page is read, rows come in batches of at most `BATCH_BYTES`, whatever is repeated, and all batches together hold at
most `most_unpacked` of the file's size.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.storage.regular_files import open_regular
from harness.storage.safe_load import RATIO, Corrupt, most_unpacked

BATCH_ROWS, BATCH_BYTES = 10_000, 1 << 26
PAGE_BYTES = 1 << 30
"""Of one page, unpacked."""
PAGES = 10_000
"""Pages that any file may have; more are allowed if they have a thousand bytes on average."""
DICTIONARY = 2
"""Type of a page."""
REPEATING = 7
"""The encoding DELTA_BYTE_ARRAY, in which a value may repeat the one before it."""
BINARY, STRUCT = 8, 12
"""Types of fields in Thrift's compact protocol."""


class Table:
    """An open file. Its readers check the pages first; they raise what pyarrow raises, and `Corrupt`."""

    def __init__(self, file: Any, descriptor: int) -> None:
        self.names = list(file.schema_arrow.names)
        groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
        self.rows = max(file.metadata.num_rows, sum(group.num_rows for group in groups))
        self.size = os.fstat(descriptor).st_size
        """Of the file in bytes."""
        self._file, self._descriptor, self._most = file, descriptor, most_unpacked(self.size)

    def type(self, name: str) -> Any:
        """The Arrow type of a column."""
        return self._file.schema_arrow.field(name).type

    def batches(self, names: Sequence[str]) -> Iterator[Any]:
        """Record batches of these columns of text or numbers, with dictionaries decoded."""
        import pyarrow

        left, most_rows = self._most, self._examined(names)
        for batch in self._file.iter_batches(most_rows, columns=list(names), use_threads=False):
            columns = [_plain(batch.column(name)) for name in names]
            found = pyarrow.RecordBatch.from_arrays(columns, list(names))
            if (left := left - found.nbytes) < 0:
                raise _too_large(f"the columns {', '.join(names)} hold")
            yield found

    def read(self, names: Sequence[str]) -> Any:
        """These columns as one Arrow table."""
        import pyarrow

        fields = [(name, _value_type(self.type(name))) for name in names]
        return pyarrow.Table.from_batches(self.batches(names), pyarrow.schema(fields))

    def _examined(self, names: Sequence[str]) -> int:
        """How many rows a batch may have; `Corrupt` if the footer or a page header states too much."""
        import pyarrow

        widths = 0
        for name in names:
            kind = _value_type(self.type(name))
            is_number = pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind)
            if not (is_number or is_text(kind) or pyarrow.types.is_null(kind)):
                raise Corrupt(f"the column {name} holds {kind}, neither text nor numbers")
            widths += kind.bit_width // 8 if is_number else 4
        if self.rows * widths > self._most:
            raise _too_large(f"{self.rows:,} rows need")
        pages, total, largest = 0, 0, dict.fromkeys(names, 0)
        for chunk in self._chunks(names):
            for size, repeats in self._page_sizes(chunk):
                pages, total = pages + 1, total + size
                if total > self._most or pages > PAGES + self.size // 1000:
                    raise _too_large("its pages hold")
                if repeats:
                    largest[chunk.path_in_schema] = max(largest[chunk.path_in_schema], size)
        return max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, sum(largest.values()))))

    def _chunks(self, names: Sequence[str]) -> Iterator[Any]:
        """The footer's metadata of every chunk of these columns."""
        for number in range(self._file.metadata.num_row_groups):
            group = self._file.metadata.row_group(number)
            columns = map(group.column, range(group.num_columns))
            yield from (column for column in columns if column.path_in_schema in names)

    def _page_sizes(self, chunk: Any) -> Iterator[tuple[int, bool]]:
        """The unpacked size of every page of a column chunk, and whether a value in it may be repeated in many rows."""
        starts = [chunk.data_page_offset, chunk.dictionary_page_offset if chunk.has_dictionary_page else None]
        position = min(start for start in starts if start)
        end = position + chunk.total_compressed_size
        if chunk.file_path or position < 0 or not position <= end <= self.size:
            raise Corrupt("a column lies outside of the file")
        while position < end:
            header = _Header(self._descriptor, position)
            kind, size, packed = (header.number(field) for field in (1, 2, 3))
            if kind < 0 or packed < 0 or not 0 <= size <= PAGE_BYTES:
                raise Corrupt(f"it has a page of {size:,} bytes")
            yield size, kind == DICTIONARY or REPEATING in (header.number(5, 2), header.number(8, 4))
            position = header.end + packed


class _Header:
    """The header of a page, a struct in Thrift's compact protocol; only its integers are kept."""

    def __init__(self, descriptor: int, start: int) -> None:
        self._descriptor, self._start, self._data = descriptor, start, b""
        self._numbers: dict[tuple[int, ...], int] = {}
        self.end = start
        self._struct(())

    def number(self, *path: int) -> int:
        """The integer in a field, or in a field of a field; -1 if it is missing."""
        return self._numbers.get(path, -1)

    def _struct(self, above: tuple[int, ...]) -> None:
        field = 0
        while byte := self._byte():
            kind = byte & 15
            field = field + (byte >> 4) if byte >> 4 else self._signed()
            if kind == STRUCT and len(above) < 4:
                self._struct((*above, field))
            elif kind == BINARY:
                length = self._varint()
                self.end += length
            elif 4 <= kind <= 6:  # integers
                self._numbers[*above, field] = self._signed()
            elif kind not in (1, 2):  # true and false, which have no content
                raise Corrupt("it has a page with an unknown header")

    def _byte(self) -> int:
        place = self.end - self._start
        if not 0 <= place < len(self._data):
            self._start, self._data, place = self.end, os.pread(self._descriptor, 256, self.end), 0
            if not self._data:
                raise Corrupt("it has a page with a truncated header")
        self.end += 1
        return self._data[place]

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise Corrupt("it has a page with an unknown header")

    def _signed(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)


@contextmanager
def open_parquet(path: Path) -> Iterator[Table]:
    """Opens a Parquet file. Raises OSError and what pyarrow raises."""
    import pyarrow.parquet

    with open_regular(path) as stream, pyarrow.parquet.ParquetFile(stream) as file:
        yield Table(file, stream.fileno())


def _too_large(what: str) -> Corrupt:
    return Corrupt(f"{what} more than {RATIO} times the file's size, which no text and no scores do")


def _value_type(kind: Any) -> Any:
    import pyarrow

    return kind.value_type if pyarrow.types.is_dictionary(kind) else kind


def is_text(kind: Any) -> bool:
    """Whether a column of this Arrow type holds text."""
    import pyarrow

    return bool(pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind))


def _plain(column: Any) -> Any:
    import pyarrow

    return column.dictionary_decode() if pyarrow.types.is_dictionary(column.type) else column
