"""Datasets opened by what a user types after ``-d`` and ``--suite``: a name, a group, a folder, a suite."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from harness.datasets.acquire import missing_offline, obtain
from harness.datasets.beir import Dataset, open_dataset
from harness.datasets.catalog import as_path, from_ir_datasets, looks_like_path, status, suite, unknown
from harness.datasets.checksums import verify_checksums
from harness.registry.manager import Registry
from harness.registry.parser import is_folder
from harness.types import Progress, UserError


def open_named(
    text: str,
    registry: Registry,
    home: Path,
    *,
    split: str | None = None,
    exclude_self: bool | None = None,
    limit: int | None = None,
    offline: bool = False,
    rehash: bool = False,
    progress: Progress = lambda *_: None,
) -> Dataset:
    """Opens one dataset: a registered one, fetched if need be, or a folder in BEIR format.

    ``rehash`` as in `open_dataset`; the rest as ``-d`` and its options.
    """
    cache = home / "corpora"
    choice: dict[str, Any] = {"split": split, "exclude_self": exclude_self, "limit": limit, "rehash": rehash}
    if spec := registry.datasets.get(text) or from_ir_datasets(text):
        folder = obtain(spec, home, offline=offline, known=registry.datasets.values(), progress=progress)
        choice |= {"name": spec.name, "source": spec.name}
        choice |= {"usual_split": spec.split, "usual_exclude_self": spec.exclude_self}
    elif text in registry.groups:
        members = registry.groups[text]
        raise UserError(f"{text} stands for {len(members)} datasets; name one of them: {', '.join(members)}.")
    elif looks_like_path(text) or is_folder(text):
        folder = as_path(text)
    else:
        sentence = unknown("dataset", text, [*registry.datasets, *registry.groups])
        raise UserError(f"{sentence} For a folder of your own, type its path (-d ./folder).")
    dataset = open_dataset(folder, cache=cache, progress=progress, **choice)
    if spec:
        verify_checksums(folder, text, dataset.corpus.sha256, described=not spec.build)
    return dataset


def expand(entries: Iterable[str], registry: Registry) -> list[str]:
    """Names and folders with lists (``a,b``) and groups replaced by their datasets, each once, in order."""
    names = (name for entry in entries for name in _listed(entry))
    return list(dict.fromkeys(member for name in names for member in registry.groups.get(name, (name,))))


def _listed(entry: str) -> list[str]:
    names = [name.strip() for name in entry.split(",")]
    return [entry] if is_folder(entry) or not all(names) else names


def open_all(
    names: Iterable[str],
    suites: Iterable[str],
    registry: Registry,
    home: Path,
    *,
    offline: bool = False,
    progress: Progress = lambda *_: None,
    note: Callable[[str], object] = lambda _: None,
    **choice: object,
) -> list[Dataset]:
    """Every dataset that ``-d`` and ``--suite`` name, each once, in order; missing ones are downloaded first.

    A suite's datasets that need a licence and are missing are left out, and ``note`` gets a sentence about it.
    UserError where two datasets share a label.
    """
    named = expand(names, registry)
    listed = expand((member for text in suites for member in suite(text).datasets), registry)
    states = {n: status(registry.datasets[n], home) for n in [*named, *listed] if n in registry.datasets}
    gated = [name for name in listed if states.get(name) == "needs licence" and name not in named]
    wanted = list(dict.fromkeys([*named, *(name for name in listed if name not in gated)]))
    if gated:
        note(f"{', '.join(gated)} left out: a licence is needed (`harness fetch {gated[0]}` says how to get it)")
    if not wanted:
        raise UserError(
            "No dataset is named; add -d NAME, -d path/to/folder or --suite demo (`harness datasets` lists names)."
        )
    if offline and (missing := [name for name in wanted if states.get(name) == "needs fetch"]):
        raise UserError(missing_offline(missing))
    settings = {"offline": offline, "progress": progress, **choice}
    opened: dict[str, Dataset] = {}
    for name in wanted:
        dataset = open_named(name, registry, home, **settings)  # type: ignore[arg-type]
        twin = opened.setdefault(dataset.label, dataset)
        if twin.folder.resolve() != dataset.folder.resolve():
            raise UserError(
                f"{twin.folder} and {dataset.folder} are both called {dataset.label!r}, so that one's results would "
                f'replace the other\'s; put name = "..." into the dataset.toml of one of them.'
            )
    return list(opened.values())
