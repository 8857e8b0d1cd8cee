"""Finds the model, the dataset and the settings of a stored result."""

from __future__ import annotations

import dataclasses
import glob
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from harness.datasets import catalog
from harness.datasets.beir import Dataset, with_overlay
from harness.datasets.overlay import Overlay
from harness.evaluation.open_datasets import open_named
from harness.metrics.qrels import read_qrels
from harness.registry.manager import Registry
from harness.registry.model_ref import ModelRef
from harness.registry.parser import typed
from harness.results.dataset_identity import command_folders
from harness.results.schema import Result
from harness.results.store import Unreadable, read_result
from harness.storage.atomic import content_key
from harness.types import Progress, Qrels, UserError


class Recorded(NamedTuple):
    """One result on disk."""

    folder: Path
    result: Result


def read_recorded(paths: Sequence[Path]) -> tuple[list[Recorded], list[Unreadable]]:
    """The results that files and folders hold, each once, and those that cannot be read; UserError for none."""
    folders: dict[Path, None] = {}
    for path in paths:
        if path.is_file() and path.name == "result.json":
            folders[path.parent.resolve()] = None
        elif path.is_dir():
            found = (file.parent.relative_to(path) for file in sorted(path.rglob("result.json")))
            folders |= {(path / f).resolve(): None for f in found if not any(part.startswith(".") for part in f.parts)}
        else:
            raise UserError(
                f"{path} is neither a result.json nor a folder with results; type harness verify results, say."
            )
    read = {folder: _complete(folder, read_result(folder, edited=True)) for folder in folders}
    unreadable = [result for result in read.values() if isinstance(result, Unreadable)]
    found_results = [Recorded(folder, result) for folder, result in read.items() if not isinstance(result, Unreadable)]
    if not read:
        raise UserError(f"There is no result.json below {', '.join(map(str, paths))}; name a folder with results.")
    return found_results, unreadable


def _complete(folder: Path, result: Result | Unreadable) -> Result | Unreadable:
    """The result, if its manifest says what it is of."""
    if isinstance(result, Unreadable):
        return result
    manifest = result["manifest"]
    if "k" in manifest and "name" in manifest.get("model", {}) and "name" in manifest.get("dataset", {}):
        return result
    reason = "its manifest does not say of which model, dataset and depth its figures are"
    return Unreadable(folder / "result.json", reason)


def find_model(result: Result, registry: Registry) -> ModelRef:
    """The model as it was asked for then, in the arithmetic that was used then; UserError when there is none now."""
    record = result["manifest"]["model"]
    return _pinned(registry.model(typed(record)).stored(_storage(record)), record)


def _storage(record: Mapping[str, Any]) -> Any:
    kept = [each.get("storage") for each in (record, *record.get("members", ()))]
    return "float16" if "float16" in kept else "float32"


def _pinned(ref: ModelRef, record: Mapping[str, Any]) -> ModelRef:
    """With the dtype that ``auto`` meant on the machine of the record."""
    dtype = record.get("fingerprint", {}).get("dtype")
    settled = ref.replace(dtype=dtype) if dtype and ref.options.get("dtype") == "auto" else ref
    pairs = zip(ref.members, record.get("members", ()), strict=True)
    return dataclasses.replace(settled, members=tuple(_pinned(member, of) for member, of in pairs))


def find_dataset(
    result: Result,
    registry: Registry,
    home: Path,
    given: Sequence[str] = (),
    *,
    offline: bool = False,
    progress: Progress = lambda *_: None,
) -> Dataset:
    """Opens the dataset of a result with the settings of that time.

    It is read from the first existing of: a given folder, the folder in the result, a folder in the recorded command;
    else by its name. UserError if it is not found.
    """
    record = result["manifest"]["dataset"]
    name = str(record["name"])
    source = str(record.get("source") or "")
    typed_then = [*([source] if Path(source).is_absolute() else []), *command_folders(result["command"])]
    folder = next((f for f in (*given, *typed_then) if Path(f).is_dir() and _named(f) == name), None)
    lost = next((f for f in typed_then if Path(f).name == name), None)
    spec = registry.datasets.get(name)
    if folder is None and (spec is None or (lost and catalog.status(spec, home) == "needs fetch")):
        was = f" (it was read from {lost})" if lost else ""
        fetch = f", or type harness fetch {name}" if spec else ""
        raise UserError(f"the dataset {name!r} is not here{was}; say where it is with -d path/to/{name}{fetch}.")
    where = f"./{folder}" if folder and not catalog.looks_like_path(folder) else folder or name
    dataset = open_named(
        where,
        registry,
        home,
        offline=offline,
        progress=progress,
        split=result["split"],
        exclude_self=record.get("exclude_self"),
        limit=record.get("limit"),
    )
    overlay = record.get("overlay")
    return with_overlay(dataset, Overlay.of(overlay)) if overlay else dataset


def find_qrels(result: Result, home: Path, queries: Collection[str]) -> Qrels | None:
    """The judgements that a result was measured with, if they are on this machine. Nothing is downloaded or built.

    Args:
        result: The result.
        home: $HARNESS_HOME.
        queries: Its judged queries, as in its per_query.parquet.
    """
    record = result["manifest"].get("dataset") or {}
    name, source, wanted = str(record.get("name")), str(record.get("source") or ""), record.get("fingerprint") or {}
    named = [home / "datasets" / name, *sorted((home / "datasets").glob(f"{glob.escape(name)}-*"))]
    typed_then = [source] if Path(source).is_absolute() else command_folders(result["command"])
    for folder in [*map(Path, typed_then), *named]:
        with suppress(OSError, UserError):
            stored = read_qrels(folder / "qrels" / f"{result['split']}.tsv")
            qrels = {query: stored[query] for query in queries if query in stored}
            if overlay := record.get("overlay"):
                qrels = Overlay.of(overlay).over(qrels, name)
            if content_key(qrels) == wanted.get("qrels"):
                return qrels
    return None


def _named(folder: str) -> str:
    return catalog.labels(str(Path(folder).absolute()))[0]
