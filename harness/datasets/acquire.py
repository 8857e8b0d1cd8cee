"""Builds or downloads named datasets; a download comes from the first source that has a complete copy.

A copy is complete when its numbers of documents, judged queries and judgements are those of the catalogue. Until then
it has a temporary name.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.datasets import hub_datasets
from harness.datasets.catalog import call, place
from harness.datasets.checksums import write_checksums
from harness.download import archive
from harness.download.http import SourceFailed, brief, download
from harness.metrics.qrels import HEADER, qrels_line, read_qrels
from harness.storage.atomic import recover, whole_folder
from harness.storage.locks import exclusive
from harness.storage.regular_files import open_regular
from harness.storage.temporary_files import remove
from harness.types import Counts, DatasetSpec, Progress, Source, UserError

UNPACKED = 10
"""An archive may unpack to at most this many times its size; text usually compresses to a third or a quarter."""
BYTES_PER_TOKEN, BYTES_PER_DOCUMENT = 6, 150
"""Upper estimates of the size of a document on disk, for the check before the download."""
UNKNOWN_SIZE = 1 << 38
"""Size limit when the catalogue states no size."""


def obtain(
    spec: DatasetSpec,
    home: Path,
    *,
    offline: bool = False,
    known: Iterable[DatasetSpec] = (),
    progress: Progress = lambda *_: None,
) -> Path:
    """Returns the folder of a dataset, building or downloading it if it is not on this machine.

    When several processes call this at once, one downloads and the others wait.

    Args:
        spec: The dataset.
        home: $HARNESS_HOME.
        offline: Open no connection.
        known: Datasets that may be in the same archive; all that are get unpacked with it.
        progress: Called with a text and the work done and in total.

    Raises:
        UserError: Every source failed, the dataset needs a licence, or it is missing and ``offline`` is set.
    """
    folder = place(spec, home)
    recover(folder)
    if folder.is_dir():
        return folder
    if spec.build:
        progress(f"building {spec.name}", 0, 0)
        with whole_folder(folder, keep=folder.is_dir) as temporary:
            call(spec, spec.build, temporary)
            write_checksums(temporary)
        return folder
    if not spec.sources:
        raise UserError(
            f"{spec.name} needs a licence of its own, so it cannot be fetched; `harness fetch {spec.name}` says who "
            f"grants it, and where to put the files."
        )
    if offline:
        raise UserError(missing_offline([spec.name]))
    siblings = [
        each for each in known if each.sources and each.sources[0].place == spec.sources[0].place and each != spec
    ]
    with exclusive(home / "datasets" / spec.name.partition("/")[0], progress):
        return folder if folder.is_dir() else _fetch(spec, siblings, home, progress)


def missing_offline(names: list[str]) -> str:
    """The error message for datasets that are missing while no connection may be opened."""
    verb = "is" if len(names) == 1 else "are"
    listed = " ".join(names)
    return (
        f"{', '.join(names)} {verb} not on this machine and the network is switched off; type, without --offline: "
        + (f"harness fetch {listed}")
    )


def _fetch(spec: DatasetSpec, siblings: list[DatasetSpec], home: Path, progress: Progress) -> Path:
    reasons = []
    for source in spec.sources:
        try:
            if source.kind == "zip":
                _from_zip(spec, source, siblings, home, progress)
            else:
                _from_repository(spec, source, home, progress)
            return place(spec, home)
        except SourceFailed as error:
            reasons.append(f"{NAMES[source.kind]} ({error})")
    raise UserError(
        f"{spec.name} could not be downloaded from {' nor from '.join(reasons)}; fix one of these and type: "
        f"harness fetch {spec.name}"
    )


NAMES = {"zip": "BEIR's archive", "hub": "the Hugging Face hub", "ir_datasets": "ir_datasets"}


def _from_zip(spec: DatasetSpec, source: Source, siblings: list[DatasetSpec], home: Path, progress: Progress) -> None:
    """Downloads the archive, unpacks the dataset and its siblings, and deletes the archive."""
    target = home / "downloads" / source.place.rpartition("/")[2]
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        part = target.with_name(f"{target.name}.part")
        remaining = source.bytes - (part.stat().st_size if part.exists() else 0)
        _check_disk_space(spec, target.parent, remaining + sum(expected_bytes(each) for each in [spec, *siblings]))
        checksum = ("md5", source.md5) if source.md5 else None
        limit = source.bytes * 2 or UNKNOWN_SIZE
        download(source.place, target, checksum=checksum, limit=limit, progress=progress)
    bound = source.bytes * UNPACKED or UNKNOWN_SIZE
    try:
        for each in [spec, *(member for member in siblings if not place(member, home).is_dir())]:
            own = next(s for s in each.sources if s.place == source.place)
            with whole_folder(place(each, home)) as folder:
                archive.extract_dataset(target, own.root, folder, limit=bound, progress=progress)
                _finish(each, own, folder, progress)
    except SourceFailed:
        target.unlink(missing_ok=True)  # the next attempt downloads it again
        raise
    target.unlink(missing_ok=True)


def _from_repository(spec: DatasetSpec, source: Source, home: Path, progress: Progress) -> None:
    scratch = home / "downloads" / spec.name
    scratch.mkdir(parents=True, exist_ok=True)
    with whole_folder(place(spec, home)) as folder:
        if source.kind == "hub":
            hub_datasets.convert_hub_dataset(source, spec.split, folder, scratch, progress)
        else:
            _from_ir_datasets(source.place, spec.split, folder, progress)
        _finish(spec, source, folder, progress)
    remove(scratch)


def _from_ir_datasets(identifier: str, split: str, folder: Path, progress: Progress) -> None:
    """Copies a dataset from the package ir_datasets, if that is installed; the package does the download."""
    try:
        import ir_datasets
    except ImportError as error:
        raise SourceFailed("the Python package ir_datasets is not installed: pip install ir_datasets") from error
    progress(f"{identifier} from ir_datasets", 0, 0)
    try:
        found = ir_datasets.load(identifier)
        (folder / "qrels").mkdir()
        with (folder / "corpus.jsonl").open("w", encoding="utf-8") as stream:
            for document in found.docs_iter():
                title = getattr(document, "title", "") if hasattr(document, "text") else ""
                record = {"_id": document.doc_id, "title": title, "text": _text_of(document)}
                stream.write(json.dumps(record, ensure_ascii=False) + "\n")
        with (folder / "queries.jsonl").open("w", encoding="utf-8") as stream:
            for query in found.queries_iter():
                stream.write(json.dumps({"_id": query.query_id, "text": _text_of(query)}, ensure_ascii=False) + "\n")
        with (folder / "qrels" / f"{split}.tsv").open("w", encoding="utf-8") as stream:
            stream.write(f"{HEADER}\n")
            stream.writelines(qrels_line(one.query_id, one.doc_id, one.relevance) for one in found.qrels_iter())
    except Exception as error:  # foreign code may raise anything
        raise SourceFailed(brief(f"{type(error).__name__}: {error}")) from error


def _text_of(record: Any) -> str:
    """The text of a document or a query of ir_datasets; where it has several, the one that is searched by default."""
    return str(record.text if hasattr(record, "text") else record.default_text())


def _finish(spec: DatasetSpec, source: Source, folder: Path, progress: Progress) -> None:
    progress(f"counting {spec.name}", 0, 0)
    if spec.counts is not None:
        check_counts(folder, spec.split, spec.counts)
    describe(spec, folder, {"source": source.place, **({"md5": source.md5} if source.md5 else {})})
    write_checksums(folder)


def check_counts(folder: Path, split: str, expected: Counts) -> None:
    """Raises SourceFailed unless the folder holds exactly the expected numbers of documents, queries and judgements."""
    judgements = folder / "qrels" / f"{split}.tsv"
    if not judgements.is_file():
        raise SourceFailed(f"it has no judgements of the split {split}")
    try:
        qrels = read_qrels(judgements)
    except UserError as error:
        raise SourceFailed(brief(str(error))) from error
    with open_regular(folder / "corpus.jsonl") as stream:
        documents = sum(1 for line in stream if not line.isspace())
    found = Counts(documents, len(qrels), sum(map(len, qrels.values())))
    for what in ("documents", "queries", "judgements"):
        held, wanted = getattr(found, what), getattr(expected, what)
        if held != wanted:
            raise SourceFailed(f"it holds {held:,} {what}, not {wanted:,}")


def describe(spec: DatasetSpec, folder: Path, origin: dict[str, str]) -> None:
    """Writes dataset.toml: the properties that BEIR format does not have, and the source of the copy."""
    stated = {"name": spec.name, "split": spec.split, "exclude_self": spec.exclude_self}
    stated |= {"citation": spec.citation, "licence": spec.licence}
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in stated.items()]
    lines += ["", "[versions]", *(f"{key} = {json.dumps(text)}" for key, text in origin.items())]
    (folder / "dataset.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def expected_bytes(spec: DatasetSpec) -> int:
    """Estimated size of a dataset on disk; 0 if unknown."""
    return spec.counts.documents * (BYTES_PER_TOKEN * spec.tokens + BYTES_PER_DOCUMENT) if spec.counts else 0


def _check_disk_space(spec: DatasetSpec, folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"Fetching {spec.name} needs about {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB is free at {folder}; free "
            f"some space, or set HARNESS_HOME to a larger disk, and type: harness fetch {spec.name}"
        )
