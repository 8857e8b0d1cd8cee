"""Converts the four licensed datasets of BEIR from their original files to BEIR format.

A converter is a module with ``ABOUT``, ``files(folder)`` (the files it reads, by part) and ``convert(source, target,
progress=...)``. To add one, add it to `CONVERTERS` and state in catalog.toml who grants the licence.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.storage.atomic import content_key, disk_errors, file_state, recover, whole_folder
from harness.storage.locks import exclusive
from harness.storage.safe_load import read_toml
from harness.types import Progress, resolve

CONVERTERS: dict[str, str] = {
    "bioasq": "harness.datasets.converters.bioasq:convert",
    "signal1m": "harness.datasets.converters.signal1m:convert",
    "trec-news": "harness.datasets.converters.trec_news:convert",
    "robust04": "harness.datasets.converters.robust04:convert",
}
"""Dataset -> function that fills an empty folder: ``(source, target, *, progress) -> Report``."""
VERSION = 1
"""Part of the key of a converted folder; increased when a conversion changes."""


def convert(name: str, source: Path, home: Path, progress: Progress) -> Path:
    """Converts a dataset, unless the same files have been converted before.

    From now on the dataset's name means this folder (`harness.datasets.catalog.place` takes the one with the newest
    dataset.toml).

    Args:
        name: Name of the dataset.
        source: Folder with the original files.
        home: $HARNESS_HOME.
        progress: Called with a text and the work done and in total.

    Returns:
        The folder in BEIR format.

    Raises:
        UserError: The source lacks a file, or a file is corrupt.
    """
    target = CONVERTERS[name]
    found: dict[str, list[Path]] = resolve(target.replace(":convert", ":files"))(source)
    folder = home / "datasets" / f"{name}-{_key(name, source, found)}"
    recover(folder)
    if not folder.is_dir():
        with exclusive(folder, progress):
            if not folder.is_dir():
                with whole_folder(folder) as temporary:
                    resolve(target)(source, temporary, progress=progress)
    with disk_errors(folder):
        (folder / "dataset.toml").touch()
    return folder


def summary(folder: Path) -> list[str]:
    """Messages about a converted folder: its counts beside those of BEIR, and what the source lacked."""
    versions: dict[str, Any] = read_toml(folder / "dataset.toml")["versions"]
    counts = [
        f"{number:,} {what} ({'as BEIR' if number == published else f'BEIR: {published:,}'})"
        for (what, number), published in zip(versions["counts"].items(), versions["published"].values(), strict=True)
    ]
    sentences = [", ".join(counts)]
    if missing := versions["missing"]:
        examples, unanswered = ", ".join(missing["first"][:3]), missing["queries_without_relevant"]
        sentences.append(
            f"judged documents that the source lacks: {missing['judged_documents']:,} (such as {examples}), which "
            f"count as never retrieved; queries left without any relevant one: {unanswered}"
        )
    return [*sentences, *(f"left out, {reason}: {number:,}" for reason, number in versions["left_out"].items())]


def _key(name: str, source: Path, parts: dict[str, list[Path]]) -> str:
    """A key of the names and states of the files; their content is not hashed, as it may be 100 GB."""
    stats = {part: [(path, path.stat()) for path in paths] for part, paths in parts.items()}
    facts = {
        part: [[path.relative_to(source).as_posix(), *file_state(stat).values()] for path, stat in found]
        for part, found in stats.items()
    }
    return content_key([VERSION, name, facts])[:12]
