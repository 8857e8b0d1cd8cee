"""Finds a model's weights on this machine and checks them; opens no connection (`harness.download.pinned_weights`
does).

Trade-off accepted: a file that keeps its size, inode, modification time and change time is not hashed again when a
command starts (it is when the model is loaded). That notices accidents and replaced files, not a bad disk.
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
    """The first file of a folder that is missing (``found`` is empty) or is not what it should be."""

    file: Path
    expected: str
    found: str


def locate(weights: Weights, home: Path) -> Path | None:
    """The folder on this machine that holds the weights, every file verified, or None.

    Looks in ``home/models``, then the Hugging Face cache, then installed packages that carry the files unpacked.
    Raises UserError when ``home/models`` holds a file with the wrong hash; elsewhere such a folder is passed over.
    """
    own = home / "models" / weights.name
    fault = find_fault(weights, own, home)
    if fault is None:
        return own
    if fault.found:
        raise UserError(
            f"{fault.file} is damaged or was altered (SHA-256 {fault.found}, expected {fault.expected}); "
            f"delete {own} and type: harness fetch {weights.name}"
        )
    elsewhere = [*_hub_snapshots(weights), *_installed(weights)]
    return next((folder for folder in elsewhere if find_fault(weights, folder, home) is None), None)


def still(weights: Weights, folder: Path) -> None:
    """Hashes every file, remembered or not; UserError when one is no longer what it was."""
    if fault := find_fault(weights, folder):
        raise UserError(
            f"{fault.file} is damaged or was altered (SHA-256 {fault.found or 'none'}, expected {fault.expected}); "
            f"delete {folder} and type: harness fetch {weights.name}"
        )


def verify(weights: Weights, folder: Path, home: Path | None = None) -> None:
    """Raises UserError unless ``folder`` holds every file of the weights, unaltered; ``home`` as in `find_fault`."""
    fault = find_fault(weights, folder, home)
    if fault is not None:
        wrong = f"has SHA-256 {fault.found}, not {fault.expected}" if fault.found else "is missing"
        raise UserError(
            f"{folder} is not an unaltered copy of {weights.hub}: {fault.file} {wrong}; leave the option path out "
            f"to use the published files, or evaluate this folder under its own name: -m {folder}"
        )


def find_fault(weights: Weights, folder: Path, home: Path | None = None) -> Fault | None:
    """What keeps the folder from being these weights; a missing file is found before anything is hashed.

    With ``home``, hashes are remembered in ``home/models/hashes.json``: 438 MB are not read at every start.
    """
    for name, expected in weights.sha256.items():
        if not (folder / name).is_file():
            return Fault(folder / name, expected, "")
    memory = home and home / "models" / "hashes.json"
    known = _read_memory(memory) if memory else {}
    fresh: dict[str, object] = {}
    try:
        for name, expected in weights.sha256.items():
            found = _sha256((folder / name).absolute(), known, fresh)
            if found != expected:
                return Fault(folder / name, expected, found)
        return None
    finally:
        if memory and fresh:
            with suppress(UserError):  # a read-only home costs time, not correctness
                write_json(memory, seal(known | fresh))


def _read_memory(memory: Path) -> dict[str, object]:
    with suppress(OSError, ValueError):  # none yet, or unreadable: it is only a memory
        return fields(read_sealed(memory))
    return {}


def _sha256(
    file: Path,
    known: dict[str, object],
    fresh: dict[str, object],
    read: Callable[..., str] = lambda file, *stamp: sha256_file(file),
) -> str:
    stamp = list(file_state(file.stat()).values())
    match known.get(str(file)):
        case [*remembered, str(digest)] if remembered == stamp:
            return digest
    digest = read(file, *stamp)
    fresh[str(file)] = [*stamp, digest]
    return digest


@cache
def _hashed(file: Path, *_stamp: int) -> str:
    """Of a file in the state that the stamp tells of."""
    return sha256_file(file)


def hashes(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """Name -> hex SHA-256 of these files of a model's folder; one of ``home/models`` that `find_fault` has hashed and
    that is unchanged since is not read again."""
    known = _read_memory(folder.absolute().parent / "hashes.json")
    return {file.relative_to(folder).as_posix(): _sha256(file.absolute(), known, {}, _hashed) for file in files}


def hub_cache(repository: str) -> Path:
    """Where the Hugging Face cache keeps a repository, found as its client finds it, without importing it."""
    environment = os.environ.get
    general = environment("XDG_CACHE_HOME") or "~/.cache"
    cache = environment("HF_HUB_CACHE") or f"{environment('HF_HOME') or f'{general}/huggingface'}/hub"
    name = "models--" + repository.partition("@")[0].replace("/", "--")
    return Path(os.path.expandvars(cache)).expanduser() / name


def _hub_snapshots(weights: Weights) -> list[Path]:
    return sorted((hub_cache(weights.hub) / "snapshots").glob("*"))


def _installed(weights: Weights) -> list[Path]:
    """Folders of installed packages that carry the files unpacked; the packages are not imported."""
    if weights.archive or not weights.packages or not weights.root:
        return []
    package, *inside = PurePosixPath(weights.root).parts
    spec = importlib.util.find_spec(package)
    return [Path(place, *inside) for place in (spec and spec.submodule_search_locations) or ()]


def present(weights: Weights, home: Path) -> bool:
    """Whether some folder on this machine has every file of the weights; nothing is hashed, so nothing is proven."""
    folders = [home / "models" / weights.name, *_hub_snapshots(weights), *_installed(weights)]
    return any(all((folder / name).is_file() for name in weights.sha256) for folder in folders)


def forget(home: Path) -> None:
    """Drops the remembered hashes, so that every file is hashed when it is next asked for."""
    with suppress(OSError):  # there are none, or the home may only be read
        (home / "models" / "hashes.json").unlink()
