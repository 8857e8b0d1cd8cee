"""Gzipped parts of a dataset: unpacked once into the cache, under a name that is their content's.

Documents are read by position, which gzip does not allow, so an unpacked copy is kept at the price of its size. A
record beside it holds its checksum. The copy is hashed before its first use in every process (some 1 GB/s), and
unpacked again where it is damaged.
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
"""Copies that this process has hashed, and the state each was in."""


def part(folder: Path, name: str) -> Path | None:
    """The file ``name`` of a folder, else ``name.gz``, else None."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


@contextmanager
def unpacked(
    packed: Path, cache: Path, progress: Progress = lambda *_: None, *, rehash: bool = False
) -> Iterator[Path]:
    """The file to read for ``packed``: itself unless its name ends in .gz, else its unpacked copy below ``cache``.

    A UserError of the block that names the copy is raised again with ``packed`` named instead. With ``rehash`` the copy
    is hashed even if this process has done so before. UserError for a file that is not a whole gzip file.
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
        if not _intact(copy, source):
            progress(f"unpacking {packed}", 0, 0)
            _make(packed, copy, source)
    try:
        yield copy
    except UserError as error:
        raise UserError(str(error).replace(str(copy), str(packed))) from error


def _intact(copy: Path, source: str) -> bool:
    """Whether the copy is there as it was written, unpacked from the file with the checksum ``source``."""
    try:
        state = file_state(copy.stat())
        if _VERIFIED.get(copy) != state:
            stated = read_sealed(_record(copy))
            if stated["source"] != source or stated["sha256"] != sha256_file(copy):
                return False
            _VERIFIED[copy] = state
        return True
    except (OSError, ValueError, KeyError, TypeError):  # not there, or without a record (an earlier version made it)
        return False


def _make(packed: Path, copy: Path, source: str) -> None:
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
            f"{packed} is not a whole gzip file ({error}); copy it here again and run the same command again."
        ) from error
