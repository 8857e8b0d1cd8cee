"""A folder of finished files with a manifest (the checksums of all), and its form in the remote cache: chunks of files.

The manifest says what the folder belongs to, so that a folder in another's place is not used. A remote record says
{"of": owner, "seconds": s, "files": {name: [[sha256 of a chunk, bytes], ...]}}. It is not trusted: names cannot lead
out of the folder, and a file must hold plain data: an array without objects, JSON, text, what Lucene writes, or
nothing. Folders with other files are not pushed.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from harness.storage.atomic import sha256_file, write_json
from harness.storage.records import read_sealed, seal
from harness.storage.regular_files import open_regular
from harness.storage.safe_load import fields, map_array, read_json

MANIFEST = "harness-index.json"
CHUNK = 32 << 20
"""Bytes at most."""
NAME = re.compile(r"\w[\w.-]{0,99}(/\w[\w.-]{0,99}){0,7}", re.ASCII)
LUCENE = b"\x3f\xd7\x6c\x17"
"""What each of its files begins with (CodecUtil.CODEC_MAGIC); no pickle does."""

Owner = list[str]
"""The keys of all that something stored was made from."""


def write_manifest(folder: Path, seconds: float, owner: Owner) -> None:
    """Writes the manifest of all files in the folder: whose it is, and what making it took."""
    files = {p.relative_to(folder).as_posix(): sha256_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}
    write_json(folder / MANIFEST, seal({"of": owner, "seconds": seconds, "files": files}))


def belongs(folder: Path, owner: Owner) -> bool:
    """Whether the folder is ``owner``'s according to its manifest; its files are not read."""
    try:
        return bool(read_sealed(folder / MANIFEST)["of"] == owner)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def verify_folder(folder: Path, owner: Owner) -> float | None:
    """The seconds that making the folder took; None if it is not ``owner``'s, or a file is missing or corrupt."""
    try:
        manifest = read_sealed(folder / MANIFEST)
        if manifest["of"] == owner and all(sha256_file(folder / n) == sha for n, sha in manifest["files"].items()):
            return float(manifest["seconds"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return None


def split_folder(folder: Path, name: str) -> Generator[tuple[str, bytes], None, dict[str, Any]]:
    """Yields the chunks of a folder's files as objects below ``name``; returns the remote record of them.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If a file is corrupt or does not hold plain data.
    """
    manifest = read_sealed(folder / MANIFEST)
    if not all(NAME.fullmatch(file) and _is_data(folder / file) for file in manifest["files"]):
        raise ValueError(f"{folder} holds files of other kinds")
    files: dict[str, list[tuple[str, int]]] = {}
    for file, digest in manifest["files"].items():
        whole, files[file] = hashlib.sha256(), []
        with open_regular(folder / file) as stream:
            while data := stream.read(CHUNK):
                whole.update(data)
                files[file].append((hashlib.sha256(data).hexdigest(), len(data)))
                yield f"{name}/{files[file][-1][0]}", data
        if whole.hexdigest() != digest:
            raise ValueError(f"{folder / file} is corrupt")
    return {"of": manifest["of"], "seconds": manifest["seconds"], "files": files}


def assemble(
    content: dict[str, Any], chunk: Callable[[str, int], bytes | None], folder: Path, owner: Owner
) -> float | None:
    """Writes the files that a remote record lists, and a manifest, into an empty folder.

    Args:
        content: The remote record.
        chunk: Returns the bytes that have a SHA-256 and a size, or None if there are none.
        folder: The empty folder.
        owner: Whose the record must be.

    Returns:
        The seconds that making the files took; None if a chunk is missing.

    Raises:
        ValueError: If the record or a file is not valid.
    """
    seconds, files = _validated(content, owner)
    for file, chunks in files.items():
        path = folder / file
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as stream:
                for digest, size in chunks:
                    if (data := chunk(digest, size)) is None:
                        return None
                    stream.write(data)
        except (FileExistsError, NotADirectoryError):
            raise ValueError(f"{file} stands in another file's place") from None
        if not _is_data(path):
            raise ValueError(f"{file} does not hold plain data")
    write_manifest(folder, seconds, owner)
    return seconds


def _validated(content: dict[str, Any], owner: Owner) -> tuple[float, dict[str, list[tuple[str, int]]]]:
    """The seconds and the files in a remote record. Raises ValueError if it is not a valid one of the owner."""
    stated = fields(content, of=list, seconds=float, files=dict)
    try:
        files = {name: [(digest, size) for digest, size in chunks] for name, chunks in stated["files"].items()}
        valid = stated["of"] == owner and stated["seconds"] >= 0
        valid = valid and all(NAME.fullmatch(name) and name != MANIFEST for name in files)
        for digest, size in (each for chunks in files.values() for each in chunks):
            valid = valid and re.fullmatch("[0-9a-f]{64}", digest) and type(size) is int and 0 < size <= CHUNK
    except TypeError:
        valid = False
    if not valid:
        raise ValueError("it is not the record of such a folder")
    return stated["seconds"], files


def _is_data(path: Path) -> bool:
    """Whether a file holds plain data, so that opening it runs nothing."""
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
