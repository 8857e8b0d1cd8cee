"""JSON, TOML, arrays and lines that others wrote, read within bounds: any bytes give a value or an expected error.

Python's own readers take whatever size is there, raise RecursionError for brackets thousands deep, let NaN, infinities
and numbers that no float holds through, and halves of surrogate pairs, which can neither be written nor printed. Of a
key that stands twice in an object, the last counts.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import os
import re
import tomllib
import warnings
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from math import isinf
from pathlib import Path
from threading import Lock
from tokenize import TokenError
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.storage.regular_files import open_regular, regular
from harness.types import UserError

JSON_BYTES = 1 << 28
TOML_BYTES = 1 << 18
LINE_BYTES = 1 << 26
RATIO, LEAST = 100, 1 << 28
"""How many times its size on disk a compressed file may hold, and a number of bytes that any may hold."""
DIGITS = 300
"""Of an integer: more than these are beyond any float."""
DEEPEST = 100
"""Brackets within brackets. Python 3.13 reads some ten thousand, which no code that follows them can."""
LONG_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){64}""")
"""Keys of so many parts, for which `tomllib` takes quadratic time."""


def read_json(path: Path, most: int = JSON_BYTES, *, nan: bool = False) -> Any:
    """The value in a UTF-8 file of at most so many bytes; ``nan`` lets NaN and infinities in, which are no JSON."""
    return parse_json(content_of(path, most), nan=nan)


def fields(content: Any, **shape: type) -> dict[str, Any]:
    """The content, if it is a JSON object with these fields of these types; ValueError for any other.

    An integer is a float too; true and false are not integers.
    """
    if not isinstance(content, dict):
        raise ValueError("it is not a JSON object")
    for name, kind in shape.items():
        allowed = (float, int) if kind is float else (kind,)
        if type(content.get(name)) not in allowed:
            raise ValueError(f"its {name} is not what it should be")
    return content


def parse_json(data: bytes | str, *, nan: bool = False) -> Any:
    """The value; half of a surrogate pair in it becomes U+FFFD."""
    text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
    decoder = _LENIENT if nan else _JSON
    try:
        value = decoder.decode(text)
        if isinstance(value, dict | list) and text.count("[") + text.count("{") > DEEPEST:
            _require_shallow(value)
        if "\\ud" in text or "\\uD" in text:
            plain = json.dumps(value, ensure_ascii=False).encode("utf-16-le", "surrogatepass")
            value = decoder.decode(plain.decode("utf-16-le", "replace"))
    except RecursionError:
        raise ValueError("brackets within brackets, thousands deep") from None
    return value


def _require_shallow(value: dict[str, Any] | list[Any]) -> None:
    """ValueError for a value of more than `DEEPEST` levels."""
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        inner = (one.values() if isinstance(one, dict) else one for one in level)
        level = [each for content in inner for each in content if isinstance(each, dict | list)]
    if level:
        raise ValueError(f"brackets within brackets, more than {DEEPEST} deep")


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a UTF-8 file of at most `TOML_BYTES`."""
    return parse_toml(read_text(path))


def read_text(path: Path, most: int = TOML_BYTES) -> str:
    """The text of a UTF-8 file of at most so many bytes, a byte order mark apart, its line ends as they are."""
    return content_of(path, most).decode("utf-8-sig")


def parse_toml(text: str) -> dict[str, Any]:
    """The tables; the ValueError of a fault is a `tomllib.TOMLDecodeError`, which says where it stands."""
    if LONG_KEY.search(text):
        raise tomllib.TOMLDecodeError("a key of more than 64 parts")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise tomllib.TOMLDecodeError("brackets within brackets, hundreds deep") from None
    except ValueError as error:  # an integer of thousands of digits, a date that is none
        raise tomllib.TOMLDecodeError(str(error)) from None


def parse_array(data: bytes) -> NDArray[Any]:
    """The array in a .npy file's bytes; no pickle is opened, and no archive of arrays."""
    return _array(lambda: np.lib.format.read_array(io.BytesIO(data), allow_pickle=False))


def map_array(path: Path, mode: Literal["r", "c"] = "r") -> NDArray[Any]:
    """The array in a .npy file, mapped to be read, or (c) to be written to in memory alone."""
    return _array(lambda: np.lib.format.open_memmap(regular(path), mode=mode))


_ONE_AT_A_TIME = Lock()
"""numpy reads headers by way of Python's parser, which in some releases (3.11.7 is one) fails now and then when two
threads use it at once: SystemError, AST constructor recursion depth mismatch. Nor is `catch_warnings` for threads."""


def _array(read: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    try:
        with _ONE_AT_A_TIME, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of headers as Python 2 wrote them
            return read()
    except (
        EOFError,
        LookupError,
        MemoryError,
        OverflowError,
        RecursionError,
        SyntaxError,
        TokenError,
        TypeError,
    ) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def lines(stream: IO[bytes], path: Path) -> Iterator[bytes]:
    """Its lines, as iterating over it gives them; UserError for one of more than `LINE_BYTES`."""
    for number, line in enumerate(iter(partial(stream.readline, LINE_BYTES + 1), b""), 1):
        if len(line) > LINE_BYTES:
            raise UserError(f"{path} line {number} is longer than {LINE_BYTES:,} bytes; mend that line.")
        yield line


class Corrupt(OSError):
    """A compressed file that cannot be unpacked, or not within `most_unpacked`; the message says why."""


def most_unpacked(size: int) -> int:
    """The most bytes that a compressed file of this size may hold; text never compresses that well."""
    return max(LEAST, RATIO * size)


def open_gzip(path: Path) -> io.BufferedReader:
    """The content of a gzipped regular file. Reading it raises `Corrupt` where that is damaged or too much."""
    return limited(gzip.GzipFile(fileobj=(raw := open_regular(path))), raw)


def limited(stream: gzip.GzipFile | bz2.BZ2File, raw: IO[bytes]) -> io.BufferedReader:
    """A stream that unpacks the file ``raw``, within `most_unpacked`; both are closed with it."""
    return io.BufferedReader(_Limited(stream, raw), 1 << 20)


class _Limited(io.RawIOBase):
    """The bytes of a stream that unpacks a file; `Corrupt` where it fails or gives more than `most_unpacked`."""

    def __init__(self, stream: gzip.GzipFile | bz2.BZ2File, raw: IO[bytes]) -> None:
        self._stream, self._raw = stream, raw
        self._left = most_unpacked(os.fstat(raw.fileno()).st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            block = self._stream.read(len(buffer))
        except (OSError, EOFError, zlib.error) as error:
            if isinstance(error, OSError) and error.errno is not None:  # the disk's own; gzip's and bzip2's have none
                raise
            raise Corrupt(str(error)) from error
        self._left -= len(block)
        if self._left < 0:
            raise Corrupt(f"it unpacks to more than {RATIO} times its size, which no text does")
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self._stream.close()
        self._raw.close()
        super().close()


def content_of(path: Path, most: int) -> bytes:
    """Of a regular file, a link followed; ValueError where it holds more bytes."""
    with open_regular(path) as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise ValueError(f"it holds more than {most:,} bytes")
    return data


def _integer(text: str) -> int:
    if len(text) > DIGITS:
        raise ValueError(f"an integer of {len(text):,} digits")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if isinf(value):
        raise ValueError(f"{text[:40]} is beyond any float")
    return value


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


_JSON = json.JSONDecoder(parse_int=_integer, parse_float=_float, parse_constant=_constant)
_LENIENT = json.JSONDecoder(parse_int=_integer)
