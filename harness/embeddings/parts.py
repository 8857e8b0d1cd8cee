"""What has arrived of a shard from an endpoint, kept on disk until the shard is complete.

FOLDER/parts/SHARDKEY/ holds one file for each answer, named by the hash of its content: the SHA-256 of every text, its
row, and the seconds and tokens of the request. A damaged file counts as missing.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import plugin_code
from harness.registry.remote import Arrived
from harness.storage.atomic import write_file
from harness.storage.regular_files import open_regular
from harness.storage.safe_load import parse_arrays
from harness.storage.temporary_files import remove
from harness.types import PluginError


def digest(*texts: str) -> bytes:
    """SHA-256 of a text, or of several together."""
    found = hashlib.sha256()
    for data in (text.encode("utf-8", "surrogatepass") for text in texts):
        found.update(len(data).to_bytes(8, "little") + data)
    return found.digest()


class ShardParts:
    """The rows of a shard that have arrived, by the digest of their text."""

    def __init__(self, folder: Path, key: str, dim: int) -> None:
        """Reads what is there.

        Args:
            folder: The folder of the store.
            key: Key of the shard.
            dim: Length of a row; others are ignored.
        """
        self.folder = folder / "parts" / key[:32]
        self.seconds, self.tokens = 0.0, 0
        self._rows: dict[bytes, NDArray[np.float32]] = {}
        for file in sorted(self.folder.glob("*.npy")):
            with suppress(OSError, ValueError, TypeError):
                with open_regular(file) as stream:
                    data = stream.read()
                digests, rows, spent = parse_arrays(data, 3)
                if hashlib.sha256(data).hexdigest()[:32] == file.stem and rows.shape == (len(digests), dim):
                    self._add([one.tobytes() for one in digests], rows, *spent.tolist())

    def _add(self, digests: Sequence[bytes], rows: NDArray[np.float32], seconds: float, tokens: float) -> None:
        self._rows.update(zip(digests, rows, strict=True))
        self.seconds, self.tokens = self.seconds + seconds, self.tokens + int(tokens)

    def missing(self, digests: Sequence[bytes]) -> list[int]:
        """Positions of the texts that have not arrived, of equal ones the first."""
        first = {one: place for place, one in reversed(list(enumerate(digests)))}
        return sorted(place for one, place in first.items() if one not in self._rows)

    def put(self, digests: Sequence[bytes], rows: NDArray[np.float32], seconds: float, tokens: int) -> None:
        """Stores rows that have arrived."""
        buffer = io.BytesIO()
        named = np.frombuffer(b"".join(digests), np.uint8).reshape(len(digests), -1)
        for array in (named, rows, np.array([seconds, tokens], np.float64)):
            np.save(buffer, array, allow_pickle=False)
        data = buffer.getvalue()
        name = f"{hashlib.sha256(data).hexdigest()[:32]}.npy"
        write_file(self.folder / name, lambda stream: stream.write(data))
        self._add(digests, rows, seconds, tokens)

    def rows(self, digests: Sequence[bytes]) -> NDArray[np.float32]:
        """The rows of these texts, all of which have arrived."""
        return np.stack([self._rows[one] for one in digests])


def remove_parts(folder: Path, key: str) -> None:
    """Removes the parts of a shard that is complete."""
    remove(folder / "parts" / key[:32])
    with suppress(OSError):  # the folder is not empty, or is missing
        (folder / "parts").rmdir()


def receive(
    parts: ShardParts,
    digests: Sequence[bytes],
    ask: Callable[[list[int]], Generator[Arrived, None, None]],
    fault: Callable[[Any, int], str],
    name: str,
    module: str,
    report: Callable[[int], object] = lambda count: None,
) -> ShardParts:
    """Asks an endpoint for the rows that have not arrived yet, and stores each answer.

    Args:
        parts: Of the shard.
        digests: Of all texts of the shard.
        ask: From the positions of the missing texts to the answers, whose rows are positions among these.
        fault: Describes what is wrong with the values of so many texts; empty if they are valid.
        name: What is asked, for messages; it begins the sentence.
        module: Module of the model, to tell its frames in messages.
        report: Called with the number of texts that are there.

    Returns:
        The parts, now complete.

    Raises:
        PluginError: The answers are not valid, or what the model raised.
    """
    missing = parts.missing(digests)
    report(len(digests) - len(missing))
    before, left = time.perf_counter(), len(missing)
    with closing(ask(missing)) as answers:
        while missing:
            with plugin_code(f"{name} raised", module):
                arrived = next(answers, None)
            if arrived is None:
                break
            if wrong := fault(arrived.values, len(arrived.rows)):
                raise PluginError(f"{name}: {wrong}")
            now = time.perf_counter()
            parts.put([digests[missing[row]] for row in arrived.rows], arrived.values, now - before, arrived.tokens)
            before, left = now, left - len(arrived.rows)
            report(len(digests) - left)
    if lost := len(parts.missing(digests)):
        raise PluginError(f"{name}: {lost} of {len(digests)} texts got no answer; fix the model.")
    return parts
