"""The four datasets of BEIR that only their owners give: converted from the original files into BEIR form.

Each converter is a module with ``ABOUT``, ``files(folder)`` (what it would read, by part) and ``convert(source, target,
progress=...)``. To add one: write it, name it in `CONVERTERS`, and say in catalog.toml whom to ask.
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
"""Dataset -> what fills an empty folder from its original files: ``(source, target, *, progress) -> Report``."""
RECIPE = 1
"""Raised when a conversion changes, so that an older folder is not taken for the same."""


def convert(name: str, source: Path, home: Path, progress: Progress) -> Path:
    """The dataset in BEIR form under ``home``, made from the folder ``source`` unless these very files made it before.

    Its name means this folder from now on (`harness.datasets.catalog.place` takes the one whose dataset.toml is
    newest). Raises UserError, in one sentence, for a source that lacks a part or is damaged.
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


def account(folder: Path) -> list[str]:
    """Sentences about a converted folder: what it holds beside what BEIR published, and what the source lacked."""
    versions: dict[str, Any] = read_toml(folder / "dataset.toml")["versions"]
    counts = [
        f"{number:,} {what} ({'as BEIR' if number == published else f'BEIR: {published:,}'})"
        for (what, number), published in zip(versions["counts"].items(), versions["published"].values(), strict=True)
    ]
    sentences = [", ".join(counts)]
    if missing := versions["missing"]:
        such, bereft = ", ".join(missing["first"][:3]), missing["queries_without_relevant"]
        sentences.append(
            f"judged documents that the source lacks: {missing['judged_documents']:,} (such as {such}), which count as "
            f"never retrieved; queries left without any relevant one: {bereft}"
        )
    return [*sentences, *(f"left out, {reason}: {number:,}" for reason, number in versions["left_out"].items())]


def _key(name: str, source: Path, parts: dict[str, list[Path]]) -> str:
    """Names and states of the files: hashing 100 GB would take longer than most uses of the answer."""
    stats = {part: [(path, path.stat()) for path in paths] for part, paths in parts.items()}
    facts = {
        part: [[path.relative_to(source).as_posix(), *file_state(stat).values()] for path, stat in found]
        for part, found in stats.items()
    }
    return content_key([RECIPE, name, facts])[:12]
