"""Datasets and suites by name: what a user types after ``-d`` and ``--suite``, and where it lies on disk."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.atomic import recover, whole_folder
from harness.dataset import Dataset, open_dataset
from harness.registry import Registry, unknown
from harness.spec import DatasetSpec, PluginError, Progress, UserError, resolve

SUITES: dict[str, tuple[str, ...]] = {"demo": ("pydocs",)}
"""Suite -> names of its datasets."""


def suite(name: str) -> tuple[str, ...]:
    """A suite's datasets; UserError with the nearest names."""
    if name not in SUITES:
        raise UserError(unknown("suite", name, SUITES))
    return SUITES[name]


def place(spec: DatasetSpec, home: Path) -> Path:
    """Where a named dataset lies once it is built: its name and everything its content depends on."""
    return home / "datasets" / f"{spec.name}-{_call(spec, spec.key)}"


def built(spec: DatasetSpec, home: Path, progress: Progress) -> Path:
    """The dataset's folder, built on first use."""
    folder = place(spec, home)
    recover(folder)
    if not folder.is_dir():
        progress(f"building {spec.name}", 0, 0)
        with whole_folder(folder) as temporary:
            _call(spec, spec.build, temporary)
    return folder


def _call(spec: DatasetSpec, target: str, *given: Path) -> Any:
    try:
        return resolve(target)(*given)
    except (UserError, PluginError):
        raise
    except Exception as error:  # the plug-in boundary: whatever its code raises is its fault, and is named
        raise PluginError(f"dataset {spec.name}: {target} failed ({type(error).__name__}: {error})") from error


def open_named(
    text: str,
    registry: Registry,
    home: Path,
    *,
    split: str | None = None,
    exclude_self: bool | None = None,
    limit: int | None = None,
    progress: Progress = lambda *_: None,
) -> Dataset:
    """Opens what ``-d`` names: a registered dataset, or a folder in BEIR format."""
    cache = home / "corpora"
    looks_like_path = "/" in text or os.sep in text or text.startswith((".", "~"))
    if text in registry.datasets and not looks_like_path:
        spec = registry.datasets[text]
        folder, name, split = built(spec, home, progress), spec.name, split or spec.split
        exclude_self = spec.exclude_self if exclude_self is None else exclude_self
    elif looks_like_path or Path(text).is_dir():
        folder, name = Path(text).expanduser(), None
    else:
        sentence = unknown("dataset", text, registry.datasets)
        raise UserError(f"{sentence} For a folder of your own, type its path (-d ./folder).")
    choice = {"name": name, "split": split, "exclude_self": exclude_self, "limit": limit}
    return open_dataset(folder, cache=cache, progress=progress, **choice)  # type: ignore[arg-type]


def open_all(
    names: Iterable[str],
    suites: Iterable[str],
    registry: Registry,
    home: Path,
    *,
    progress: Progress,
    **settings: object,
) -> list[Dataset]:
    """Every dataset that ``-d`` and ``--suite`` name, each once, in order; UserError where two share a label."""
    wanted = dict.fromkeys([*names, *(member for name in suites for member in suite(name))])
    if not wanted:
        raise UserError(
            "No dataset is named; add -d NAME, -d path/to/folder or --suite demo (`harness datasets` lists names)."
        )
    opened: dict[str, Dataset] = {}
    for name in wanted:
        dataset = open_named(name, registry, home, progress=progress, **settings)  # type: ignore[arg-type]
        twin = opened.setdefault(dataset.label, dataset)
        if twin.folder.resolve() != dataset.folder.resolve():
            raise UserError(
                f"{twin.folder} and {dataset.folder} are both called {dataset.label!r}, so that one's results would "
                f'replace the other\'s; put name = "..." into the dataset.toml of one of them.'
            )
    return list(opened.values())
