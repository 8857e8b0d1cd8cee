"""The trainer's own checkpoints, ``steps/checkpoint-N``: valid, or treated as absent.

A checkpoint counts once its ``whole.json``, which lists every file with its size and SHA-256 and is written last, is
there and agrees. What a kill or a full disk left half-written is passed over, and removed with the next one that is
kept. Sizes tell that; a resumed run compares the checksums too, since a disk that loses a bit keeps the size.
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
"""The newest ones that are kept, beside the best."""


def mark_complete(folder: Path) -> None:
    """Flushes the checkpoint's files to the disk and lists them."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and file.name != MARK]
    for file in files:
        with file.open("rb+") as stream:
            os.fsync(stream.fileno())
    listed = {file.relative_to(folder).as_posix(): [file.stat().st_size, sha256_file(file)] for file in files}
    write_json(folder / MARK, seal(listed))


def is_complete(folder: Path) -> bool:
    """Whether every file is there in its size."""
    try:
        return all((folder / name).stat().st_size == size for name, (size, _) in _listed(folder).items())
    except (OSError, ValueError):
        return False


def damaged_file(folder: Path) -> str:
    """Which file of a checkpoint is missing or not what was written; empty where all are sound.

    Earlier versions listed sizes alone; their checkpoints are taken by these.
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
    """Every checkpoint's folder, whole or not, by step."""
    found = (path for path in steps.glob("checkpoint-*") if path.name.rpartition("-")[2].isdecimal())
    return sorted(found, key=step_of)


def newest(steps: Path, progress: Progress = lambda *_: None) -> Path | None:
    """The newest checkpoint that is undamaged, and whose best checkpoint so far is undamaged too; None without one.

    Damaged ones, and those that need a damaged one, are removed, with a note.
    """
    for path in reversed(all_in(steps)):
        if not (path / MARK).is_file():  # a kill or a full disk left it half-written
            continue
        place, fault = path, damaged_file(path)
        if not fault and (best := _best(path)) is not None:
            place, fault = best, damaged_file(best)
        if not fault:
            return path
        progress(f"{NOTE}{place / fault} is damaged or missing; the training resumes before {path.name}", 0, 0)
        remove(path)
    return None


def _best(checkpoint: Path) -> Path | None:
    """The best checkpoint, as the trainer knew it when it wrote this one."""
    try:
        step = fields(read_json(checkpoint / STATE)).get("best_global_step")
    except (OSError, ValueError):  # of an earlier version, which recorded no checksum of it
        return checkpoint.with_name("checkpoint-unknown")
    return checkpoint.with_name(f"checkpoint-{step}") if step else None


def rotate(steps: Path, best: Iterable[int]) -> None:
    """Keeps the newest whole ones and those of the steps in ``best``; what is older, or not whole, goes."""
    whole = [path for path in all_in(steps) if is_complete(path)]
    kept = {*whole[-KEPT:], *(path for path in whole if step_of(path) in set(best))}
    for path in all_in(steps):
        if path not in kept:
            remove(path)
