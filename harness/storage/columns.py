"""Reads text files in columns, such as runs and qrels: lines, columns and numbers.

Columns are split as C programs split them: at ASCII white space. Python's `str.split`, `str.strip` and `str.splitlines`
also split at U+0085, U+00A0, U+2028 and other characters, all of which may occur in a document id. So lines and columns
are split as bytes and decoded afterwards.
"""

from __future__ import annotations

import gzip
import re
import shutil
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from harness.storage.atomic import disk_errors
from harness.storage.regular_files import open_regular
from harness.storage.safe_load import LINE_BYTES, limited
from harness.types import UserError

BLANK = re.compile(r"[ \t\n\r\v\f\0]")
"""What ends a column for C programs such as trec_eval; other Unicode spaces are ordinary characters."""
BOM, GZIP = b"\xef\xbb\xbf", b"\x1f\x8b"
INTEGER = re.compile(rb"[ \t\r\v\f]*([+-]?[0-9]+)(?:\.0*)?[ \t\r\v\f]*")
BUFFER = 1 << 20


def line_blocks(path: Path) -> Iterator[tuple[int, list[bytes]]]:
    """Yields the lines of a plain or gzipped file in blocks, each with the number (from 1) of its first line.

    Line feeds and a byte order mark are removed.

    Raises:
        UserError: If the file cannot be read to its end, a line is longer than `LINE_BYTES`, or there is a NUL byte, at
            which C programs stop reading.
    """
    if not path.is_file():
        raise UserError(f"There is no file {path}; check the path.")
    number, rest = 1, b""
    try:
        with open_regular(path) as raw:
            packed = raw.read(2) == GZIP
            raw.seek(0)
            stream = limited(gzip.GzipFile(fileobj=raw), raw) if packed else raw
            while block := stream.read(BUFFER):
                if b"\0" in block:
                    line = number + (rest + block)[: len(rest) + block.index(b"\0")].count(b"\n")
                    raise UserError(f"Line {line} of {path} holds a NUL byte, at which C programs stop; remove it.")
                lines = (rest + block).split(b"\n")
                if number == 1:
                    lines[0] = lines[0].removeprefix(BOM)
                if len(max(lines, key=len)) > LINE_BYTES:
                    long = next(place for place, line in enumerate(lines, number) if len(line) > LINE_BYTES)
                    raise UserError(f"{path} line {long} is longer than {LINE_BYTES:,} bytes; fix that line.")
                rest = lines.pop()
                yield number, lines
                number += len(lines)
            yield number, [rest]
    except OSError as error:
        raise UserError(f"{path} cannot be read to its end ({error}); copy or create it again.") from error


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each line of `line_blocks` that is not blank."""
    for start, block in line_blocks(path):
        for place, line in enumerate(block, start):
            if line and not line.isspace():
                yield place, line


def decoded(column: bytes, path: Path, number: int) -> str:
    """The text of a column; UserError with the line number where it is not UTF-8."""
    try:
        return column.decode()
    except UnicodeDecodeError:
        raise UserError(f"Line {number} of {path} is not UTF-8 text; save the file as UTF-8.") from None


def integer(column: bytes) -> int:
    """The integer that a column holds: digits, with a sign or an empty fraction ("1.0"); ValueError for anything else.

    C's strtol reads the same from it. Python's `int` also takes "1_0" and the digits of other scripts.
    """
    if (found := INTEGER.fullmatch(column)) is None:
        raise ValueError("not an integer")
    return int(found[1])


def numbers(columns: Collection[bytes]) -> NDArray[np.float64]:
    """The numbers that columns hold, as C's strtod reads them; ValueError for anything else, NaN included.

    Python's `float` also takes "1_0"; C's hexadecimal numbers are refused.
    """
    values = np.fromiter(map(float, columns), np.float64, len(columns))
    if np.isnan(values).any() or b"_" in b"".join(columns):
        raise ValueError("not a number")
    return values


def is_number(column: bytes) -> bool:
    """Whether `numbers` accepts the column."""
    try:
        return bool(numbers([column]).size)
    except ValueError:
        return False


@contextmanager
def regular_file(path: Path) -> Iterator[Path]:
    """The file to read for ``path``: itself, or a temporary copy of standard input ("-") or of a pipe.

    Files are read twice, which a pipe does not allow. Messages of the block name the original.
    """
    if str(path) != "-" and not path.is_fifo():
        yield path
        return
    name = "standard input" if str(path) == "-" else str(path)
    with TemporaryDirectory(prefix="harness-") as folder:
        copy = Path(folder) / name.rpartition("/")[2]
        opened = nullcontext(sys.stdin.buffer) if str(path) == "-" else path.open("rb")
        with opened as source, disk_errors(copy), copy.open("wb") as target:
            shutil.copyfileobj(source, target, BUFFER)
        try:
            yield copy
        except UserError as error:
            raise UserError(str(error).replace(str(copy), name)) from error
