"""Robust readers for untrusted JSON, TOML, arrays and lines: any bytes give a value or ValueError.

Python's own readers accept any size, raise RecursionError for deeply nested brackets, and accept NaN, infinities,
numbers beyond any float, and half surrogate pairs, which can neither be written nor printed. Of a key that occurs twice
in an object, the last counts.
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
"""How many times its size a compressed file may unpack to, and the number of bytes that any may unpack to."""
DIGITS = 300
"""Most digits of an integer; more are beyond any float."""
DEEPEST = 100
"""Most levels of nesting. Python 3.13 parses some ten thousand, which recursive code cannot follow."""
LONG_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){64}""")
"""A key of 64 parts or more, for which `tomllib` takes quadratic time."""


def read_json(path: Path, most: int = JSON_BYTES, *, nan: bool = False) -> Any:
    """The value in a UTF-8 file of at most ``most`` bytes; ``nan`` accepts NaN and infinities, which are not JSON."""
    return parse_json(content_of(path, most), nan=nan)


def fields(content: Any, **shape: type) -> dict[str, Any]:
    """The content, which must be a JSON object with these fields of these types.

    An integer is accepted as a float; true and false are not integers.

    Raises:
        ValueError: If it is not such an object.
    """
    if not isinstance(content, dict):
        raise ValueError("it is not a JSON object")
    for name, kind in shape.items():
        allowed = (float, int) if kind is float else (kind,)
        if type(content.get(name)) not in allowed:
            raise ValueError(f"its {name} has the wrong type")
    return content


def parse_json(data: bytes | str, *, nan: bool = False) -> Any:
    """The value in a JSON text; half surrogate pairs become U+FFFD. Raises ValueError."""
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
    """The tables of a UTF-8 file of at most `TOML_BYTES`. Raises OSError and ValueError."""
    return parse_toml(read_text(path))


def read_text(path: Path, most: int = TOML_BYTES) -> str:
    """The text of a UTF-8 file of at most ``most`` bytes, without a byte order mark."""
    return content_of(path, most).decode("utf-8-sig")


def parse_toml(text: str) -> dict[str, Any]:
    """The tables in a TOML text. Raises `tomllib.TOMLDecodeError`, a ValueError, which says where the fault is."""
    if LONG_KEY.search(text):
        raise tomllib.TOMLDecodeError("a key of more than 64 parts")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise tomllib.TOMLDecodeError("brackets within brackets, hundreds deep") from None
    except ValueError as error:  # an integer of thousands of digits, or an impossible date
        raise tomllib.TOMLDecodeError(str(error)) from None


def parse_array(data: bytes) -> NDArray[Any]:
    """The array in a .npy file's bytes. Raises ValueError, also for pickles and archives of arrays."""
    return _array(lambda: np.lib.format.read_array(io.BytesIO(data), allow_pickle=False))


def parse_arrays(data: bytes, count: int) -> list[NDArray[Any]]:
    """The arrays in the bytes of so many .npy files, one after the other. Raises ValueError, as `parse_array`."""
    stream = io.BytesIO(data)
    found = [_array(lambda: np.lib.format.read_array(stream, allow_pickle=False)) for _ in range(count)]
    if stream.read(1):
        raise ValueError("more than its arrays")
    return found


def map_array(path: Path, mode: Literal["r", "c"] = "r") -> NDArray[Any]:
    """The array in a .npy file, memory-mapped read-only ("r") or copy-on-write ("c"). Raises OSError and ValueError."""
    return _array(lambda: np.lib.format.open_memmap(regular(path), mode=mode))


def map_arrays(path: Path, count: int) -> list[NDArray[Any]]:
    """The arrays in a file of so many .npy files; the last one memory-mapped copy-on-write. Raises as `map_array`."""
    with open_regular(path) as stream:

        def mapped() -> NDArray[Any]:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(stream)
            if fortran or dtype.hasobject:
                raise ValueError("an array in another order, or of objects")
            if 0 in shape:
                return np.empty(shape, dtype)
            return np.memmap(stream, dtype, "c", stream.tell(), shape)

        found = [_array(lambda: np.lib.format.read_array(stream, allow_pickle=False)) for _ in range(count - 1)]
        return [*found, _array(mapped)]


_ONE_AT_A_TIME = Lock()
"""numpy reads headers with Python's parser, which in some releases (3.11.7 is one) fails occasionally when two threads
use it at once (SystemError: AST constructor recursion depth mismatch). `catch_warnings` is not thread-safe either."""


def _array(read: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    try:
        with _ONE_AT_A_TIME, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # headers written by Python 2
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
    """Yields the lines of a stream. Raises UserError for one longer than `LINE_BYTES`."""
    for number, line in enumerate(iter(partial(stream.readline, LINE_BYTES + 1), b""), 1):
        if len(line) > LINE_BYTES:
            raise UserError(f"{path} line {number} is longer than {LINE_BYTES:,} bytes; fix that line.")
        yield line


class Corrupt(OSError):
    """A compressed file cannot be unpacked, or exceeds `most_unpacked`; the message says why."""


def most_unpacked(size: int) -> int:
    """The most bytes that a compressed file of this size may unpack to; text never compresses that well."""
    return max(LEAST, RATIO * size)


def open_gzip(path: Path) -> io.BufferedReader:
    """Opens a gzipped regular file. Reading raises `Corrupt` if it is damaged or unpacks to too much."""
    return limited(gzip.GzipFile(fileobj=(raw := open_regular(path))), raw)


def limited(stream: gzip.GzipFile | bz2.BZ2File, raw: IO[bytes]) -> io.BufferedReader:
    """Limits ``stream``, which unpacks the file ``raw``, to `most_unpacked`; closing the result closes both."""
    return io.BufferedReader(_Limited(stream, raw), 1 << 20)


class _Limited(io.RawIOBase):
    """The bytes of a stream that unpacks a file; `Corrupt` if it fails or gives more than `most_unpacked`."""

    def __init__(self, stream: gzip.GzipFile | bz2.BZ2File, raw: IO[bytes]) -> None:
        self._stream, self._raw = stream, raw
        self._left = most_unpacked(os.fstat(raw.fileno()).st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            block = self._stream.read(len(buffer))
        except (OSError, EOFError, zlib.error) as error:
            if isinstance(error, OSError) and error.errno is not None:  # the disk's; gzip and bzip2 set no number
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
    """The bytes of a regular file. Raises OSError, and ValueError if there are more than ``most``."""
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
    raise ValueError(f"{name} is not JSON")


_JSON = json.JSONDecoder(parse_int=_integer, parse_float=_float, parse_constant=_constant)
_LENIENT = json.JSONDecoder(parse_int=_integer)
