"""Indexes of lexical models on disk, keyed by content, checked when reused."""

from __future__ import annotations

import time
from pathlib import Path

from harness.atomic import sha256_file, whole_folder, write_json
from harness.corpus import Corpus
from harness.prepared import Prepared
from harness.sealed import read_sealed, seal

RECORD = "harness-index.json"


def index_folder(model: Prepared, corpus: Corpus, home: Path) -> Path:
    """Where the model's index of the corpus lies, or will."""
    return home / "indexes" / model.ref.key[:32] / corpus.sha256[:32]


def lexical_index(model: Prepared, corpus: Corpus, home: Path) -> tuple[Path, float]:
    """The folder that holds the model's index of the corpus, built if it is not there intact, and the seconds that
    building it took whoever built it."""
    folder = index_folder(model, corpus, home)
    seconds = _intact(folder)
    if seconds is None:
        start = time.perf_counter()
        with whole_folder(folder, keep=lambda: _intact(folder) is not None) as directory:
            model.lexical.build(corpus.iter(), directory)
            seconds = round(time.perf_counter() - start, 4)
            files = {
                p.relative_to(directory).as_posix(): sha256_file(p) for p in sorted(directory.rglob("*")) if p.is_file()
            }
            write_json(directory / RECORD, seal({"seconds": seconds, "files": files}))
    return folder, seconds


def _intact(folder: Path) -> float | None:
    try:
        record = read_sealed(folder / RECORD)
        if all(sha256_file(folder / name) == digest for name, digest in record["files"].items()):
            return float(record["seconds"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return None
