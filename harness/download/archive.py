"""Unpacks a dataset from a BEIR zip archive safely.

Only members with known names are written. `zipfile` returns no more bytes than a member declares and checks its CRC, so
the sum of the declared sizes limits what is written.
"""

from __future__ import annotations

import lzma
import re
import shutil
import stat
import struct
import zlib
from collections import Counter
from pathlib import Path
from zipfile import BadZipFile, ZipFile, ZipInfo

from harness.download.http import SourceFailed, brief
from harness.storage.atomic import disk_errors
from harness.storage.regular_files import regular
from harness.types import Progress, UserError

FILES = re.compile(r"corpus\.jsonl|queries\.jsonl|qrels/[\w-][\w.-]*\.tsv")
"""The files of a dataset; other members (notes, files of an operating system) are skipped."""
UNSAFE = re.compile(r"^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)|\0")
"""A name that could lead out of the target folder."""
SAMPLE = 5


def extract_dataset(
    archive: Path, root: str, folder: Path, *, limit: int, progress: Progress = lambda *_: None
) -> None:
    """Writes corpus.jsonl, queries.jsonl and qrels/ of the archive's folder ``root`` into ``folder``.

    Args:
        archive: The zip file.
        root: Folder inside the archive.
        folder: Folder to write to.
        limit: Maximum number of bytes to write.
        progress: Called with a text and the files done and in total.

    Raises:
        SourceFailed: The archive is corrupt or incomplete, holds links or unsafe names, or exceeds ``limit``.
        UserError: The disk has too little free space.
    """
    try:
        with ZipFile(regular(archive)) as opened:
            members = _members(opened, root)
            total = sum(member.file_size for member in members.values())
            if total > limit:
                raise SourceFailed(f"it would unpack to {total:,} bytes, more than the {limit:,} allowed")
            free = shutil.disk_usage(folder).free
            if total > free:
                raise UserError(
                    f"Unpacking {root} needs {total / 1e9:.2f} GB and {free / 1e9:.2f} GB is free at {folder.parent}; "
                    f"free some space, or set HARNESS_HOME to a larger disk, and run the same command again."
                )
            for done, (name, member) in enumerate(members.items()):
                progress(f"unpacking {root} (files)", done, len(members))
                _write(opened, member, folder / name)
    except (BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, RuntimeError, ValueError) as error:
        raise SourceFailed(f"its archive is corrupt: {brief(str(error))}") from error


def _members(opened: ZipFile, root: str) -> dict[str, ZipInfo]:
    """Name inside the dataset's folder -> member; an archive with any unsafe member is refused."""
    infos = opened.infolist()
    for info in infos:
        if UNSAFE.search(info.filename):
            raise SourceFailed(f"its archive holds {brief(info.filename)!r}, which leads out of its folder")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise SourceFailed(f"its archive holds {brief(info.filename)!r}, which is a link or a device")
    duplicates = [name for name, count in Counter(info.filename for info in infos).items() if count > 1]
    if duplicates:
        raise SourceFailed(f"its archive holds {brief(duplicates[0])!r} twice")
    within = {i.filename.removeprefix(f"{root}/"): i for i in infos if i.filename.startswith(f"{root}/")}
    found = {name: info for name, info in within.items() if FILES.fullmatch(name)}
    missing = [f"{root}/{name}" for name in ("corpus.jsonl", "queries.jsonl") if name not in found]
    missing += [] if any(name.startswith("qrels/") for name in found) else [f"{root}/qrels/"]
    if missing:
        held = ", ".join(info.filename for info in infos[:SAMPLE]) or "nothing"
        raise SourceFailed(f"its archive lacks {' and '.join(missing)} (it holds {brief(held)})")
    if encrypted := next((name for name, info in found.items() if info.flag_bits & 1), None):
        raise SourceFailed(f"its archive needs a password ({root}/{encrypted})")
    return found


def _write(opened: ZipFile, member: ZipInfo, target: Path) -> None:
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with opened.open(member) as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
