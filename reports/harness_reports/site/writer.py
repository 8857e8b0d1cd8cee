"""Writes a site into a folder, and removes what an earlier run wrote there and nothing else.

A folder that does not exist appears complete or not at all. Otherwise it must be empty, or have the list that an
earlier run left in it. Files that are not on the list, and those that were changed since, are neither replaced nor
removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path, PurePosixPath

from harness.storage.atomic import dump_json, sha256_file, whole_folder, write_file
from harness.storage.safe_load import read_json
from harness.types import UserError

LIST = ".harness-site.json"
"""What was written: file -> the SHA-256 it may have (two while it is being replaced)."""
Listed = dict[str, list[str]]


def write_site(files: Mapping[str, bytes], folder: Path) -> None:
    """Writes the files, by path relative to the folder.

    Raises:
        UserError: If the folder has other files and no list, or if a file of ours is one of somebody else's there.
    """
    own: Listed = {name: [sha256(content).hexdigest()] for name, content in files.items()}
    if not folder.exists() and not folder.is_symlink():
        with whole_folder(folder) as temporary:
            for name, content in {**files, LIST: _text(own)}.items():
                (temporary / name).parent.mkdir(parents=True, exist_ok=True)
                (temporary / name).write_bytes(content)
        return
    before = _listed(folder)
    for name in files:
        _check(folder, name, [*before.get(name, []), *own[name]])
    both = {name: [*dict.fromkeys(before.get(name, []) + own.get(name, []))] for name in {**before, **own}}
    _write(folder / LIST, _text(both))
    for name, content in files.items():
        _write(folder / name, content)
    for name in before.keys() - own.keys():
        _remove(folder, name, before[name])
    _write(folder / LIST, _text(own))


def check_folder(folder: Path) -> None:
    """UserError if the folder is there, and neither empty nor one that a run of this command wrote."""
    if folder.exists() or folder.is_symlink():
        _listed(folder)


def _listed(folder: Path) -> Listed:
    """What an earlier run wrote; {} for an empty folder."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; name another with --output.")
    if not any(folder.iterdir()):
        return {}
    with suppress(OSError, ValueError, TypeError, AttributeError):
        found = read_json(folder / LIST)["files"]
        if all(_inside(name) and isinstance(each, list) for name, each in found.items()):
            return dict(found)
    raise UserError(
        f"{folder} is not empty, and harness site did not write it; name an empty or a new folder with --output."
    )


def _inside(name: object) -> bool:
    path = PurePosixPath(name) if isinstance(name, str) else PurePosixPath("/")
    return not path.is_absolute() and ".." not in path.parts


def _check(folder: Path, name: str, known: list[str]) -> None:
    """UserError if the file is there and is not what a run of this command wrote."""
    path = folder / name
    linked = not path.resolve().is_relative_to(folder.resolve()) or path.is_symlink()
    if linked or (path.exists() and not (path.is_file() and sha256_file(path) in known)):
        raise UserError(
            f"{path} would be replaced, but harness site did not write it, or it was changed since; move it, or name "
            f"another folder with --output."
        )


def _remove(folder: Path, name: str, known: list[str]) -> None:
    """Removes a page of an earlier run that is as it was written, and its folder if nothing else is in it."""
    path = folder / name
    if path.is_file() and not path.is_symlink() and path.resolve().is_relative_to(folder.resolve()):
        if sha256_file(path) in known:
            path.unlink()
        with suppress(OSError):  # something is in it
            path.parent.rmdir() if path.parent != folder else None


def _write(path: Path, content: bytes) -> None:
    write_file(path, lambda stream: stream.write(content))


def _text(files: Listed) -> bytes:
    return dump_json({"written_by": "harness site", "files": dict(sorted(files.items()))})
