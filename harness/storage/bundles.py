"""A folder of finished files and the checksums of all: as it lies at home, and cut in parts for a store.

The record of it says whose it is, so that a folder in another's place is not taken for it. A store's record says
{"of": owner, "seconds": s, "files": {name: [[sha256 of a part, bytes], ...]}}. It may be anybody's,
so names cannot lead out of the folder, and no file is taken that could hold more than data: it is an array without
objects, JSON, text, what Lucene wrote, or empty. Folders with other files stay at home.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from harness.storage.atomic import sha256_file, write_json
from harness.storage.records import read_sealed, seal
from harness.storage.regular_files import open_regular
from harness.storage.safe_load import map_array, read_json

RECORD = "harness-index.json"
PART = 32 << 20
"""Bytes in one object of a store, at most."""
NAME = re.compile(r"\w[\w.-]{0,99}(/\w[\w.-]{0,99}){0,7}", re.ASCII)
LUCENE = b"\x3f\xd7\x6c\x17"
"""What each of its files begins with (CodecUtil.CODEC_MAGIC); no pickle does."""


Owner = list[str]
"""The keys of all that something stored was made from."""


def finish(folder: Path, seconds: float, of: Owner) -> None:
    """Writes the record of all that the folder holds by now, whose it is, and what making it took."""
    files = {p.relative_to(folder).as_posix(): sha256_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}
    write_json(folder / RECORD, seal({"of": of, "seconds": seconds, "files": files}))


def belongs(folder: Path, of: Owner) -> bool:
    """Whether the folder's record says that it is ``of``; its files are not looked at."""
    try:
        return bool(read_sealed(folder / RECORD)["of"] == of)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def intact(folder: Path, of: Owner) -> float | None:
    """The seconds that making it took; None where it is not ``of``, or a file is missing or is not what it was."""
    try:
        record = read_sealed(folder / RECORD)
        if record["of"] == of and all(sha256_file(folder / name) == sha for name, sha in record["files"].items()):
            return float(record["seconds"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return None


def cut(folder: Path, name: str) -> Generator[tuple[str, bytes], None, dict[str, Any]]:
    """The parts of a folder's files as objects below ``name``; returns the store's record of them.

    Raises OSError and ValueError where a file is not what it was or nothing for a store.
    """
    record = read_sealed(folder / RECORD)
    if not all(NAME.fullmatch(file) and _plain(folder / file) for file in record["files"]):
        raise ValueError(f"{folder} holds files of other kinds")
    files: dict[str, list[tuple[str, int]]] = {}
    for file, digest in record["files"].items():
        whole, files[file] = hashlib.sha256(), []
        with open_regular(folder / file) as stream:
            while data := stream.read(PART):
                whole.update(data)
                files[file].append((hashlib.sha256(data).hexdigest(), len(data)))
                yield f"{name}/{files[file][-1][0]}", data
        if whole.hexdigest() != digest:
            raise ValueError(f"{folder / file} is damaged")
    return {"of": record["of"], "seconds": record["seconds"], "files": files}


def put_together(
    content: dict[str, Any], part: Callable[[str, int], bytes | None], folder: Path, of: Owner
) -> float | None:
    """Writes the files that a store's record lists, and a record of ours, into an empty folder; returns the seconds.

    ``part`` gives the bytes of a checksum and a size; where it gives None, so does this. Raises ValueError where the
    record or a file is not valid, or the record is not ``of`` what was asked for.
    """
    seconds, files = _stated(content, of)
    for file, parts in files.items():
        path = folder / file
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as stream:
                for digest, size in parts:
                    if (data := part(digest, size)) is None:
                        return None
                    stream.write(data)
        except (FileExistsError, NotADirectoryError):
            raise ValueError(f"{file} stands in another file's place") from None
        if not _plain(path):
            raise ValueError(f"{file} is of another kind")
    finish(folder, seconds, of)
    return seconds


def _stated(content: dict[str, Any], of: Owner) -> tuple[float, dict[str, list[tuple[str, int]]]]:
    """The seconds and the files in a store's record. Raises ValueError where it is not a record of such a folder."""
    try:
        seconds = content["seconds"]
        files = {name: [(digest, size) for digest, size in parts] for name, parts in content["files"].items()}
        listed = [each for parts in files.values() for each in parts]
        sound = content["of"] == of and type(seconds) in (int, float) and 0 <= seconds < math.inf
        sound = sound and all(NAME.fullmatch(name) and name != RECORD for name in files)
        sound = sound and all(re.fullmatch("[0-9a-f]{64}", digest) for digest, _ in listed)
        sound = sound and all(type(size) is int and 0 < size <= PART for _, size in listed)
    except (KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise ValueError("no record of a folder")
    return seconds, files


def _plain(path: Path) -> bool:
    """Whether a file is of a kind that nothing is run from when it is opened."""
    try:
        with open_regular(path) as stream:
            if stream.read(len(LUCENE)) in (LUCENE, b""):
                return True
        if path.suffix == ".npy":
            map_array(path)
        elif path.suffix == ".json":
            read_json(path)
        else:
            return path.suffix == ".txt" and _is_text(path)
    except (OSError, ValueError):
        return False
    return True


def _is_text(path: Path) -> bool:
    with io.TextIOWrapper(open_regular(path), encoding="utf-8") as stream:
        while stream.read(1 << 20):
            pass
    return True
