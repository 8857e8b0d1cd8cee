"""Gzipped files of a dataset, unpacked once into the cache under a name derived from their content.

Documents are read by their offset, which gzip does not support, so an unpacked copy is kept. A record beside it holds
its checksum. Every process hashes the copy before its first use (about 1 GB/s) and unpacks it again if it is corrupt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from harness.datasets.jsonl import open_to_read
from harness.storage.atomic import file_state, sha256_file, write_file, write_json
from harness.storage.locks import exclusive
from harness.storage.records import read_sealed, seal
from harness.storage.safe_load import Corrupt, open_gzip
from harness.types import Progress, UserError

_VERIFIED: dict[Path, dict[str, int]] = {}
"""Copies that this process has hashed -> their state at that time."""


def part(folder: Path, name: str) -> Path | None:
    """The file ``name`` of a folder, or ``name.gz``, or None."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


@contextmanager
def unpacked(
    packed: Path, cache: Path, progress: Progress = lambda *_: None, *, rehash: bool = False
) -> Iterator[Path]:
    """Yields the file to read for ``packed``: its unpacked copy if its name ends in .gz, otherwise the file itself.

    In a UserError that the block raises, the name of the copy is replaced by that of ``packed``.

    Args:
        packed: A file of a dataset.
        cache: Folder for the copy.
        progress: Called when the file is unpacked.
        rehash: Hash the copy even if this process has already done so.

    Raises:
        UserError: The file is not a complete gzip file.
    """
    if packed.suffix != ".gz":
        yield packed
        return
    open_to_read(packed).close()
    source = sha256_file(packed)
    copy = cache.resolve() / "unpacked" / source[:32] / packed.stem
    with exclusive(copy, progress):
        if rehash:
            _VERIFIED.pop(copy, None)
        if not _is_valid(copy, source):
            progress(f"unpacking {packed}", 0, 0)
            _write_copy(packed, copy, source)
    try:
        yield copy
    except UserError as error:
        raise UserError(str(error).replace(str(copy), str(packed))) from error


def _is_valid(copy: Path, source: str) -> bool:
    """Whether the copy exists unchanged and was unpacked from the file with the checksum ``source``."""
    try:
        state = file_state(copy.stat())
        if _VERIFIED.get(copy) != state:
            stated = read_sealed(_record(copy))
            if stated["source"] != source or stated["sha256"] != sha256_file(copy):
                return False
            _VERIFIED[copy] = state
        return True
    except (OSError, ValueError, KeyError, TypeError):  # missing, or from an earlier version, without a record
        return False


def _write_copy(packed: Path, copy: Path, source: str) -> None:
    """Writes the copy, then its record."""
    digest = hashlib.sha256()
    write_file(copy, lambda stream: _unpack(packed, stream, digest))
    write_json(_record(copy), seal({"source": source, "sha256": digest.hexdigest()}))


def _record(copy: Path) -> Path:
    return copy.with_name(f"{copy.name}.json")


def _unpack(packed: Path, stream: IO[bytes], digest: Any) -> None:
    try:
        with open_gzip(packed) as source:
            while block := source.read(1 << 20):
                digest.update(block)
                stream.write(block)
    except Corrupt as error:
        raise UserError(
            f"{packed} is not a complete gzip file ({error}); copy it here again and run the same command again."
        ) from error
