"""Indexes of lexical models on disk, keyed by content, checked when reused, shared where there is a store."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from harness.atomic import whole_folder
from harness.corpus import Corpus
from harness.parcel import Owner, finish, intact
from harness.prepared import Prepared
from harness.replica import Replica


class _Absent(Exception):
    """The store has no such index, or none that is sound."""


def index_folder(model: Prepared, corpus: Corpus, home: Path) -> Path:
    """Where the model's index of the corpus lies, or will."""
    return home / "indexes" / model.ref.key[:32] / corpus.sha256[:32]


def index_owner(model: Prepared, corpus: Corpus) -> Owner:
    """What the index's record says that it belongs to."""
    return [model.ref.key, corpus.sha256]


def lexical_index(model: Prepared, corpus: Corpus, home: Path) -> tuple[Path, float]:
    """The folder that holds the model's index of the corpus, and the seconds that building it took whoever built it.

    Where it is not there intact, it is brought from the model's shared store, or built and published.
    """
    folder, of = index_folder(model, corpus, home), index_owner(model, corpus)
    replica = Replica(model.shared, folder.parent)
    if (seconds := intact(folder, of)) is not None:
        replica.offer(folder.name)
    else:
        seconds = _brought(replica, folder, of)
    if seconds is None:
        start = time.perf_counter()
        with (
            replica.publishing(folder.name),
            whole_folder(folder, keep=lambda: intact(folder, of) is not None) as directory,
        ):
            model.lexical.build(corpus.iter(), directory)
            seconds = round(time.perf_counter() - start, 4)
            finish(directory, seconds, of)
    return folder, seconds


def _brought(replica: Replica, folder: Path, of: Owner) -> float | None:
    if replica.shared is not None:
        with suppress(_Absent), whole_folder(folder, keep=lambda: intact(folder, of) is not None) as directory:
            if (seconds := replica.files(folder.name, directory, of)) is None:
                raise _Absent
            return seconds
    return None
