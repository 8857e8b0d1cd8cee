"""The trainer's own checkpoints, ``steps/checkpoint-N``: whole, or as good as absent.

A checkpoint counts once its ``whole.json``, which lists every file with its size and is written last, is there and
agrees. What a kill or a full disk left half-written is passed over, and dropped with the next one that is kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from harness.atomic import write_json
from harness.bounded import read_json
from harness.leftovers import remove

MARK = "whole.json"
KEPT = 2
"""The newest ones that are kept, beside the best."""


def mark_whole(folder: Path) -> None:
    """Flushes the checkpoint's files to the disk and lists them."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and file.name != MARK]
    for file in files:
        with file.open("rb+") as stream:
            os.fsync(stream.fileno())
    write_json(folder / MARK, {file.relative_to(folder).as_posix(): file.stat().st_size for file in files})


def is_whole(folder: Path) -> bool:
    """Whether every file is there in its size."""
    try:
        sizes = read_json(folder / MARK)
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def step_of(folder: Path) -> int:
    """N of ``checkpoint-N``."""
    return int(folder.name.rpartition("-")[2])


def all_in(steps: Path) -> list[Path]:
    """Every checkpoint's folder, whole or not, by step."""
    found = (path for path in steps.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit())
    return sorted(found, key=step_of)


def newest(steps: Path) -> Path | None:
    """The newest whole checkpoint."""
    return next((path for path in reversed(all_in(steps)) if is_whole(path)), None)


def rotate(steps: Path, best: Iterable[int]) -> None:
    """Keeps the newest whole ones and those of the steps in ``best``; what is older, or not whole, goes."""
    whole = [path for path in all_in(steps) if is_whole(path)]
    kept = {*whole[-KEPT:], *(path for path in whole if step_of(path) in set(best))}
    for path in all_in(steps):
        if path not in kept:
            remove(path)
