"""Finds and verifies weights on this machine. It opens no connection (`harness.download.pinned_models` does).

Trade-off: when a command starts, a file with the same size, inode, modification time and change time as before is not
hashed again. That detects replaced files, but not a failing disk; so a model's files are hashed when it is loaded.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from harness.storage.atomic import file_state, sha256_file, write_json
from harness.storage.records import read_sealed, seal
from harness.storage.safe_load import fields
from harness.types import UserError, Weights


class Fault(NamedTuple):
    """The first file of a folder that is missing (``found`` is then empty) or has another SHA-256."""

    file: Path
    expected: str
    found: str


def locate(weights: Weights, home: Path) -> Path | None:
    """The folder on this machine that holds the weights, with every file verified; None if there is none.

    Searches ``home/models``, the Hugging Face cache and installed packages that contain the files. A folder with a
    wrong file is skipped, except in ``home/models``.

    Raises:
        UserError: ``home/models`` holds a file with the wrong hash.
    """
    own = home / "models" / weights.name
    fault = find_fault(weights, own, home)
    if fault is None:
        return own
    if fault.found:
        raise UserError(
            f"{fault.file} is corrupt or was changed (SHA-256 {fault.found}, expected {fault.expected}); "
            f"delete {own} and type: harness fetch {weights.name}"
        )
    elsewhere = [*_hub_snapshots(weights), *_installed(weights)]
    return next((folder for folder in elsewhere if find_fault(weights, folder, home) is None), None)


def verify_again(weights: Weights, folder: Path) -> None:
    """Hashes every file, without the hash cache; UserError if one is missing or wrong."""
    if fault := find_fault(weights, folder):
        raise UserError(
            f"{fault.file} is corrupt or was changed (SHA-256 {fault.found or 'none'}, expected {fault.expected}); "
            f"delete {folder} and type: harness fetch {weights.name}"
        )


def verify(weights: Weights, folder: Path, home: Path | None = None) -> None:
    """Raises UserError unless ``folder`` holds every file of the weights unchanged; ``home`` as in `find_fault`."""
    fault = find_fault(weights, folder, home)
    if fault is not None:
        wrong = f"has SHA-256 {fault.found}, not {fault.expected}" if fault.found else "is missing"
        raise UserError(
            f"{folder} is not an unchanged copy of {weights.hub}: {fault.file} {wrong}; omit the option path "
            f"to use the published files, or evaluate this folder under its own name: -m {folder}"
        )


def find_fault(weights: Weights, folder: Path, home: Path | None = None) -> Fault | None:
    """The first missing or wrong file of the folder; None if it holds the weights.

    A missing file is reported before any file is hashed. With ``home``, hashes are cached in
    ``home/models/hashes.json``, so that 438 MB are not read at every start.
    """
    for name, expected in weights.sha256.items():
        if not (folder / name).is_file():
            return Fault(folder / name, expected, "")
    cache_file = home and home / "models" / "hashes.json"
    known = _read_hash_cache(cache_file) if cache_file else {}
    fresh: dict[str, object] = {}
    try:
        for name, expected in weights.sha256.items():
            found = _sha256((folder / name).absolute(), known, fresh)
            if found != expected:
                return Fault(folder / name, expected, found)
        return None
    finally:
        if cache_file and fresh:
            with suppress(UserError):  # a read-only home: hash again next time
                write_json(cache_file, seal(known | fresh))


def _read_hash_cache(file: Path) -> dict[str, object]:
    with suppress(OSError, ValueError):  # missing or unreadable
        return fields(read_sealed(file))
    return {}


def _sha256(
    file: Path,
    known: dict[str, object],
    fresh: dict[str, object],
    read: Callable[..., str] = lambda file, *stamp: sha256_file(file),
) -> str:
    stamp = list(file_state(file.stat()).values())
    match known.get(str(file)):
        case [*known_stamp, str(digest)] if known_stamp == stamp:
            return digest
    digest = read(file, *stamp)
    fresh[str(file)] = [*stamp, digest]
    return digest


@cache
def _hashed(file: Path, *_stamp: int) -> str:
    """SHA-256 of a file, cached for the state that the stamp describes."""
    return sha256_file(file)


def hashes(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """Relative path -> hex SHA-256 of these files of a model's folder.

    An unchanged file of ``home/models`` that `find_fault` has hashed is not read again.
    """
    known = _read_hash_cache(folder.absolute().parent / "hashes.json")
    return {file.relative_to(folder).as_posix(): _sha256(file.absolute(), known, {}, _hashed) for file in files}


def hub_cache_folder(repository: str) -> Path:
    """The folder of a repository in the Hugging Face cache, by the rules of huggingface_hub, without importing it."""
    environment = os.environ.get
    general = environment("XDG_CACHE_HOME") or "~/.cache"
    cache = environment("HF_HUB_CACHE") or f"{environment('HF_HOME') or f'{general}/huggingface'}/hub"
    name = "models--" + repository.partition("@")[0].replace("/", "--")
    return Path(os.path.expandvars(cache)).expanduser() / name


def _hub_snapshots(weights: Weights) -> list[Path]:
    return sorted((hub_cache_folder(weights.hub) / "snapshots").glob("*"))


def _installed(weights: Weights) -> list[Path]:
    """Folders of installed packages that contain the files; the packages are not imported."""
    if weights.archive or not weights.packages or not weights.root:
        return []
    package, *inside = PurePosixPath(weights.root).parts
    spec = importlib.util.find_spec(package)
    return [Path(place, *inside) for place in (spec and spec.submodule_search_locations) or ()]


def present(weights: Weights, home: Path) -> bool:
    """Whether some folder on this machine has every file of the weights; the files are not verified."""
    folders = [home / "models" / weights.name, *_hub_snapshots(weights), *_installed(weights)]
    return any(all((folder / name).is_file() for name in weights.sha256) for folder in folders)


def clear_hash_cache(home: Path) -> None:
    """Deletes the cached hashes, so that every file is hashed again."""
    with suppress(OSError):  # missing, or a read-only home
        (home / "models" / "hashes.json").unlink()
