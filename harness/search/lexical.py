"""Indexes of lexical models on disk, keyed by content, checked when reused, shared through the remote cache."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from harness.datasets.corpus import Corpus
from harness.errors import plugin_code
from harness.models.runner import Prepared
from harness.storage.atomic import whole_folder
from harness.storage.bundles import Owner, verify_folder, write_manifest
from harness.storage.mirror import Mirror
from harness.types import Document, Hits, ModelError, PluginError, Query


class _Absent(Exception):
    """The remote cache has no valid index."""


def index_folder(model: Prepared, corpus: Corpus, home: Path) -> Path:
    """Folder of the model's index of the corpus, whether or not it exists."""
    return home / "indexes" / model.ref.key[:32] / corpus.sha256[:32]


def index_owner(model: Prepared, corpus: Corpus) -> Owner:
    """The owner in the record of the index."""
    return [model.ref.key, corpus.sha256]


def lexical_index(model: Prepared, corpus: Corpus, home: Path, name: str) -> tuple[Path, float]:
    """Return the folder of the model's index of the corpus, and the seconds that building it took when it was built.

    An index that is missing or corrupt is pulled from the remote cache, or built and pushed.
    """
    folder, of = index_folder(model, corpus, home), index_owner(model, corpus)
    mirror = Mirror(model.shared, folder.parent)
    if (seconds := verify_folder(folder, of)) is not None:
        mirror.offer(folder.name)
    else:
        seconds = _pulled(mirror, folder, of)
    if seconds is None:
        model.progress(f"indexing {name} with {model.label}", 0, 0)
        start = time.perf_counter()
        with (
            mirror.pushing(folder.name),
            whole_folder(folder, keep=lambda: verify_folder(folder, of) is not None) as directory,
        ):
            _build(model, corpus, directory)
            seconds = round(time.perf_counter() - start, 4)
            write_manifest(directory, seconds, of)
    return folder, seconds


def _build(model: Prepared, corpus: Corpus, directory: Path) -> None:
    """Build the index. Errors of the disk and of reading the corpus are not blamed on the plug-in."""
    corpus_errors: list[BaseException] = []

    def documents() -> Iterator[Document]:
        try:
            yield from corpus.iter()
        except Exception as error:
            corpus_errors.append(error)
            raise

    try:
        with plugin_code(f"{model.label}: build() raised", type(model.lexical).__module__, passing=(OSError,)):
            model.lexical.build(documents(), directory)
    except (ModelError, PluginError):
        if corpus_errors:
            raise corpus_errors[0] from None
        raise


def lexical_hits(model: Prepared, folder: Path, queries: Sequence[Query], k: int) -> Iterator[Hits]:
    """Yield the hits of each query. PluginError if the model fails or returns anything else."""
    what, module = f"{model.label}: search() raised", type(model.lexical).__module__
    with plugin_code(what, module):
        found = iter(model.lexical.search(folder, queries, k))
    while True:
        with plugin_code(what, module):
            hits = next(found, None)
        if hits is None:
            return
        if not isinstance(hits, tuple) or len(hits) != 2:
            raise PluginError(f"{model.label}: search() returned a {type(hits).__name__}; yield Hits(rows, scores).")
        yield hits


def _pulled(mirror: Mirror, folder: Path, of: Owner) -> float | None:
    if mirror.remote is not None:
        with suppress(_Absent), whole_folder(folder, keep=lambda: verify_folder(folder, of) is not None) as directory:
            if (seconds := mirror.pull_files(folder.name, directory, of)) is None:
                raise _Absent
            return seconds
    return None
