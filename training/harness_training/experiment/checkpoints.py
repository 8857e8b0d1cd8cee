"""The trainer's checkpoints, ``steps/checkpoint-N``: invalid ones are treated as missing.

A checkpoint is complete when its ``whole.json``, which is written last, matches: it lists the size and SHA-256 of every
file. Incomplete checkpoints after a crash or a full disk are skipped and removed with the next rotation. Sizes suffice
for that; a resumed run also compares checksums, which detect bit rot.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.storage.atomic import sha256_file, write_json
from harness.storage.records import read_sealed, seal
from harness.storage.safe_load import fields, read_json
from harness.storage.temporary_files import remove
from harness.system.log import NOTE
from harness.types import Progress

MARK = "whole.json"
STATE = "trainer_state.json"
KEPT = 2
"""Number of newest checkpoints kept in addition to the best."""


def mark_complete(folder: Path) -> None:
    """Flush the checkpoint's files to disk and list them in ``whole.json``."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and file.name != MARK]
    for file in files:
        with file.open("rb+") as stream:
            os.fsync(stream.fileno())
    listed = {file.relative_to(folder).as_posix(): [file.stat().st_size, sha256_file(file)] for file in files}
    write_json(folder / MARK, seal(listed))


def is_complete(folder: Path) -> bool:
    """Whether every file exists with its recorded size."""
    try:
        return all((folder / name).stat().st_size == size for name, (size, _) in _listed(folder).items())
    except (OSError, ValueError):
        return False


def damaged_file(folder: Path) -> str:
    """The first missing or changed file of a checkpoint; empty where all are valid.

    Earlier versions recorded only sizes, which are then compared alone.
    """
    name = MARK
    try:
        for name, (size, sha256) in _listed(folder).items():
            if (folder / name).stat().st_size != size or sha256 not in ("", sha256_file(folder / name)):
                return name
    except (OSError, ValueError):
        return name
    return ""


def _listed(folder: Path) -> dict[str, tuple[int, str]]:
    """Name of each file -> its size and SHA-256 (empty: not recorded). Raises OSError and ValueError."""

    def entry(value: Any) -> tuple[int, str]:
        match value:
            case [int(size), str(sha256)]:
                return size, sha256
            case int(size):
                return size, ""
        raise ValueError(f"{value!r} is neither a size nor a size and a checksum")

    return {name: entry(value) for name, value in fields(read_sealed(folder / MARK)).items()}


def step_of(folder: Path) -> int:
    """N of ``checkpoint-N``."""
    return int(folder.name.rpartition("-")[2])


def all_in(steps: Path) -> list[Path]:
    """All checkpoint folders, complete or not, by step."""
    found = (path for path in steps.glob("checkpoint-*") if path.name.rpartition("-")[2].isdecimal())
    return sorted(found, key=step_of)


def newest(steps: Path, progress: Progress = lambda *_: None) -> Path | None:
    """The newest valid checkpoint whose best checkpoint so far is valid too; None where there is none.

    Damaged checkpoints, and those that depend on one, are removed with a note.
    """
    for path in reversed(all_in(steps)):
        if not (path / MARK).is_file():  # incomplete after a crash or a full disk
            continue
        folder, fault = path, damaged_file(path)
        if not fault and (best := _best(path)) is not None:
            folder, fault = best, damaged_file(best)
        if not fault:
            return path
        progress(f"{NOTE}{folder / fault} is damaged or missing; the training resumes before {path.name}", 0, 0)
        remove(path)
    return None


def _best(checkpoint: Path) -> Path | None:
    """The best checkpoint when this one was written, from the trainer's state."""
    try:
        step = fields(read_json(checkpoint / STATE)).get("best_global_step")
        return checkpoint.with_name(f"checkpoint-{step}") if step else None
    except (OSError, ValueError):  # of an earlier version, which recorded no checksum of it; or a step that is a path
        return checkpoint.with_name("checkpoint-unknown")


def rotate(steps: Path, best: Iterable[int]) -> None:
    """Keep the newest complete checkpoints and the ``best`` steps; remove all others."""
    complete = [path for path in all_in(steps) if is_complete(path)]
    kept = {*complete[-KEPT:], *(path for path in complete if step_of(path) in set(best))}
    for path in all_in(steps):
        if path not in kept:
            remove(path)
