"""Reads untrusted Parquet files with bounded memory.

A few kilobytes of Parquet can expand to gigabytes in three ways: pages that unpack to gigabytes, one large value that
is repeated in every row, and row counts in the billions. So the footer and the header of every page are checked before
any page is read, rows come in batches of at most `BATCH_BYTES`, whatever is repeated, and all batches together hold at
most `most_unpacked` of the file's size.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
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
TRUE, FALSE, BYTE, DOUBLE, BINARY, LIST, SET, STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
"""Types of fields in Thrift's compact protocol; 4 to 6 are integers."""
MOST_IN_LIST, MOST_NESTED, MOST_BYTES = 1_000_000, 16, 1 << 31
SMALL = 1 << 22
"""A file of at most so many bytes is read at once: pyarrow takes three times as long with many small reads."""
WINDOW = 256
"""Bytes read for the header of a page."""
Struct = dict[int, Any]
"""Number of a field -> its value."""
ReadAt = Callable[[int, int], bytes]
"""(length, place) -> that part of a file, shorter at its end."""


class ParquetTable:
    """An open file. Its readers check the pages first; they raise what pyarrow raises, and `Corrupt`."""

    def __init__(self, file: Any, read: ReadAt, size: int) -> None:
        self.names = list(file.schema_arrow.names)
        self.size = size
        """Of the file in bytes."""
        self._file, self._read, self._most = file, read, most_unpacked(size)
        footer = _footer(read, size)
        self._groups = [_struct(group) for group in footer.get(4, [])]
        self.rows = max(_number(footer, 3), sum(_number(group, 3) for group in self._groups))

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
        for name, chunk in self._chunks(names):
            for size, repeats in self._page_sizes(chunk):
                pages, total = pages + 1, total + size
                if total > self._most or pages > PAGES + self.size // 1000:
                    raise _too_large("its pages hold")
                if repeats:
                    largest[name] = max(largest[name], size)
        return max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, sum(largest.values()))))

    def _chunks(self, names: Sequence[str]) -> Iterator[tuple[str, Struct]]:
        """Name -> what the footer says, of every part of these columns, which have the places that the schema gives."""
        paths = [self._file.schema.column(number).path for number in range(len(self._file.schema))]
        for group in self._groups:
            chunks = group.get(1, [])
            if len(chunks) != len(paths):
                raise Corrupt("a group of rows has not one part for each column")
            yield from ((path, _struct(chunk)) for path, chunk in zip(paths, chunks, strict=True) if path in names)

    def _page_sizes(self, chunk: Struct) -> Iterator[tuple[int, bool]]:
        """The unpacked size of every page of a column chunk, and whether a value in it may be repeated in many rows."""
        stated = _struct(chunk.get(3))
        starts = [_number(stated, 9), _number(stated, 11)]  # of data, and of the dictionary
        position = min((start for start in starts if start), default=-1)
        end = position + _number(stated, 7)
        if 1 in chunk or position < 0 or not position <= end <= self.size:
            raise Corrupt("a column lies outside of the file")
        if 8 in chunk or 9 in chunk:
            raise Corrupt("a column is encrypted")
        while position < end:
            reader = _Thrift(self._read, position, WINDOW)
            header = reader.struct()
            kind, size, packed = (_number(header, field, -1) for field in (1, 2, 3))
            if kind < 0 or packed < 0 or not 0 <= size <= PAGE_BYTES:
                raise Corrupt(f"it has a page of {size:,} bytes")
            encodings = [_number(_struct(header.get(form, {})), field, -1) for form, field in ((5, 2), (8, 4))]
            yield size, kind == DICTIONARY or REPEATING in encodings
            position = reader.end + packed


def _footer(read: ReadAt, size: int) -> Struct:
    """Reads the footer of a file.

    pyarrow's metadata objects are not used: where one cannot be made, as for an encrypted column, a C++ exception ends
    the process.
    """
    tail = read(8, max(0, size - 8))
    start = size - 8 - int.from_bytes(tail[:4], "little")
    if tail[4:] != b"PAR1" or start < 0:
        raise Corrupt("it has no footer")
    return _Thrift(read, start, min(size - start, SMALL)).struct()


def _struct(value: Any) -> Struct:
    if not isinstance(value, dict):
        raise Corrupt("its footer or the header of a page is incomplete")
    return value


def _number(struct: Struct, field: int, default: int = 0) -> int:
    if not isinstance(value := struct.get(field, default), int):
        raise Corrupt("its footer or the header of a page is not what it should be")
    return value


class _Thrift:
    """Reads Thrift's compact protocol at a place of a file; `Corrupt` for anything else. Texts are skipped."""

    def __init__(self, read: ReadAt, start: int, window: int) -> None:
        self._read, self._window = read, window
        self._start, self._data, self._place = start, b"", 0

    @property
    def end(self) -> int:
        """The place in the file after what was read."""
        return self._start + self._place

    def struct(self, depth: int = 0) -> Struct:
        """The fields of a structure. None may be there twice: readers differ in what they make of that."""
        found: Struct = {}
        field = 0
        while byte := self._byte():
            kind = byte & 15
            field = field + (byte >> 4) if byte >> 4 else self._signed()
            if field in found:
                raise Corrupt("it says something twice")
            if 4 <= kind <= 6:
                found[field] = self._signed()
            elif kind in (TRUE, FALSE):
                found[field] = kind == TRUE
            else:
                found[field] = self._value(kind, depth + 1)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if kind == STRUCT and depth < MOST_NESTED:
            return self.struct(depth)
        if kind in (LIST, SET) and depth < MOST_NESTED:
            return self._list(depth + 1)
        if 4 <= kind <= 6:
            return self._signed()
        if kind in (TRUE, FALSE, BYTE):
            return self._byte()
        if kind not in (BINARY, DOUBLE):
            raise Corrupt("it has a page with an unknown header")
        length = self._varint() if kind == BINARY else 8
        if length > MOST_BYTES:
            raise Corrupt(f"it has a text of {length:,} bytes")
        self._place += length
        return b""

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._varint()
        if count > MOST_IN_LIST:
            raise Corrupt(f"it has a list of {count:,} entries")
        return [self._value(head & 15, depth) for _ in range(count)]

    def _byte(self) -> int:
        try:
            byte = self._data[self._place]
        except IndexError:
            self._start, self._place = self.end, 0
            self._data = self._read(self._window, self._start)
            if not self._data:
                raise Corrupt("it has a page with a truncated header") from None
            byte = self._data[0]
        self._place += 1
        return byte

    def _varint(self) -> int:
        value = self._byte()
        if value < 128:  # most are
            return value
        value &= 127
        for shift in range(7, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise Corrupt("it has a page with an unknown header")

    def _signed(self) -> int:
        value = self._byte()
        if value >= 128:
            self._place -= 1
            value = self._varint()
        return value >> 1 ^ -(value & 1)


@contextmanager
def open_parquet(path: Path) -> Iterator[ParquetTable]:
    """Opens a Parquet file. Raises OSError and what pyarrow raises."""
    import pyarrow.parquet

    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        content = stream.read(SMALL + 1) if size <= SMALL else b""
        if len(content) == size:
            with pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content)) as file:
                yield ParquetTable(file, lambda length, place: content[place : place + length], size)
            return
        stream.seek(0)
        with pyarrow.parquet.ParquetFile(stream) as file:
            yield ParquetTable(file, partial(os.pread, stream.fileno()), size)


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
