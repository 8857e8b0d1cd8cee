"""Parts of a dataset that lie there gzipped: unpacked once into the cache, under a name that is their content's.

Documents are read by position, which gzip does not allow; so an unpacked copy is kept, at the price of its size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from harness.atomic import alone, sha256_file, write_file
from harness.bounded import Corrupt, open_gzip
from harness.records import open_to_read
from harness.spec import Progress, UserError


def part(folder: Path, name: str) -> Path | None:
    """The file ``name`` of a folder, else ``name.gz``, else None."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


@contextmanager
def unpacked(packed: Path, cache: Path, progress: Progress = lambda *_: None) -> Iterator[Path]:
    """The file to read for ``packed``: itself unless its name ends in .gz, else its unpacked copy below ``cache``.

    What a UserError of the block says of the copy, it says of ``packed``. UserError for what is not a whole gzip file.
    """
    if packed.suffix != ".gz":
        yield packed
        return
    open_to_read(packed).close()
    copy = cache.resolve() / "unpacked" / sha256_file(packed)[:32] / packed.stem
    with alone(copy, progress):
        if not copy.exists():
            progress(f"unpacking {packed}", 0, 0)
            write_file(copy, lambda stream: _unpack(packed, stream))
    try:
        yield copy
    except UserError as error:
        raise UserError(str(error).replace(str(copy), str(packed))) from error


def _unpack(packed: Path, stream: IO[bytes]) -> None:
    try:
        with open_gzip(packed) as source:
            while block := source.read(1 << 20):
                stream.write(block)
    except Corrupt as error:
        raise UserError(
            f"{packed} is not a whole gzip file ({error}); copy it here again and run the same command again."
        ) from error
