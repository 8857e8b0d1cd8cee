"""MTEB's result folders as results: ``MODEL/REVISION/TASK.json`` -> a row per retrieval task, marked as imported.

Such a file has means alone: no per-query scores, so nothing is said about chance; no run; no geometry; and no word on
the data's content, which may differ from ours under the same name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import fsum, isfinite
from pathlib import Path
from typing import Any, NamedTuple

from harness.datasets.beir import label
from harness.results.import_ import record, refuse_measured
from harness.results.mteb_tasks import ROUNDING, data_of, dataset_of, members, ours, usual_split
from harness.results.schema import Result
from harness.results.store import ResultStore, Unreadable
from harness.storage.atomic import sha256_file
from harness.storage.safe_load import fields, read_json
from harness.types import UserError

META = "model_meta.json"
MAIN, OURS = "ndcg_at_10", "nDCG@10"
NUMBERS = {"parameters": "n_parameters", "dim": "embed_dim", "max_tokens": "max_tokens"}
"""Fact of a model -> its name in MTEB's file."""


@dataclass(slots=True)
class Imported:
    """What came of a folder."""

    results: list[Result] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    """Tasks other than retrieval."""
    skipped: list[Unreadable] = field(default_factory=list)
    places: dict[tuple[str, str], Path] = field(default_factory=dict)
    """(model, dataset) -> the file that its result is from."""


class _File(NamedTuple):
    path: Path
    model: str
    revision: str
    seen: frozenset[str]
    """Tasks that the model was trained on, as far as MTEB says."""
    facts: dict[str, Any]
    """What MTEB states of the model: ``parameters``, ``dim``, ``max_tokens``, ``licence``."""
    content: dict[str, Any]


def import_mteb(folder: Path, store: ResultStore, *, model: str | None = None, command: str = "") -> Imported:
    """Stores every retrieval score below the folder; ``model`` is the row's name instead of what the folder says.

    A model of several revisions is a row for each, ``name@revision``. The mean that MTEB keeps of a group of datasets
    is a result of the group where not all of its datasets are there. UserError where the folder holds no result of
    MTEB's, where ``model`` is to stand for several, and where a cell holds a result that was measured here.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}; name one with MTEB's results (MODEL/REVISION/TASK.json).")
    done = Imported()
    files = list(_files(folder, done.skipped))
    if not files and not done.skipped:
        raise UserError(f"{folder} holds no results of MTEB's (MODEL/REVISION/TASK.json); name the folder above them.")
    sources = sorted({(file.model, file.revision) for file in files})
    if model and len(sources) > 1:
        found = ", ".join("@".join(source) for source in sources[:5])
        raise UserError(
            f"{folder} holds {len(sources)} models ({found}); omit --model, or name the folder of one of them."
        )
    cells: dict[tuple[str, str], Result] = {}
    for file in files:
        for cell in _cells(file, model or _label(file, sources), command, done):
            key = (cell["model"], cell["dataset"])
            done.places.setdefault(key, file.path)
            if cells.setdefault(key, cell) is not cell:
                done.skipped.append(Unreadable(file.path, f"it is a second result of {key[0]} on {key[1]}"))
    _drop_means(cells, done)
    for key in cells:
        refuse_measured(store, *key)
    done.results = [store.write(*key, cell) for key, cell in cells.items()]
    return done


def _drop_means(cells: dict[tuple[str, str], Result], done: Imported) -> None:
    """Leaves out means of groups whose datasets are all there, and reports one that differs from their mean."""
    for model, group in list(cells):
        parts = [cells.get((model, member)) for member in members(group)]
        scores = [cell["measures"][OURS] for cell in parts if cell]
        if not scores or len(scores) < len(parts):
            continue
        stated, mean = cells.pop((model, group))["measures"][OURS], fsum(scores) / len(scores)
        if abs(stated - mean) > ROUNDING:
            reason = f"its {OURS} is {stated}, but the mean of its {len(parts)} parts, which counts, is {mean:.6f}"
            done.skipped.append(Unreadable(done.places[model, group], reason))


def _files(folder: Path, skipped: list[Unreadable]) -> Iterator[_File]:
    for path in sorted(folder.resolve().rglob("*.json")):
        if path.name == META:
            continue
        try:
            content = read_json(path, nan=True)
        except (OSError, ValueError) as error:
            skipped.append(Unreadable(path, f"it is not readable JSON ({error})"))
            continue
        whole = isinstance(content, dict) and isinstance(content.get("scores"), dict)
        if whole and isinstance(content.get("task_name"), str):
            meta = _meta(path.parent)
            name = str(meta.get("name") or path.parent.parent.name.replace("__", "/"))
            name += f" ({path.parent.name})" if path.parent.parent.name == "experiments" else ""
            seen = frozenset(map(str, meta.get("training_datasets", ())))
            yield _File(path, name, str(meta.get("revision") or path.parent.name), seen, _facts(meta), content)
        else:
            skipped.append(Unreadable(path, "it is not a result of MTEB 1.11 or later (task_name and scores)"))


def _meta(folder: Path) -> dict[str, Any]:
    try:
        found = fields(read_json(folder / META, nan=True))
    except (OSError, ValueError):
        return {}
    seen = found.get("training_datasets")
    return {**found, "training_datasets": seen if isinstance(seen, list) else []}


def _facts(meta: dict[str, Any]) -> dict[str, Any]:
    numbers = {name: meta.get(key) for name, key in NUMBERS.items()}
    known = {name: int(n) for name, n in numbers.items() if isinstance(n, int | float) and isfinite(n) and n >= 1}
    licence = meta.get("license")
    return known | ({"licence": licence} if isinstance(licence, str) and licence else {})


def _label(file: _File, sources: list[tuple[str, str]]) -> str:
    several = sum(name == file.model for name, _ in sources) > 1
    return f"{file.model}@{file.revision[:8]}" if several else file.model


def _cells(file: _File, model: str, command: str, done: Imported) -> Iterator[Result]:
    for split, entries in file.content["scores"].items():
        for entry in entries if isinstance(entries, list) else ():
            if not isinstance(entry, dict) or MAIN not in entry:
                done.others.append(file.path)
                continue
            found = {ours(name): value for name, value in entry.items()}
            measures = {name: value for name, value in found.items() if name and value is not None}
            odd = {n: v for n, v in measures.items() if not isinstance(v, int | float) or not isfinite(v)}
            if odd or not 0 <= measures.get("nDCG@10", -1) <= 1:
                name, value = next(iter(odd.items()), ("nDCG@10", measures.get("nDCG@10")))
                done.skipped.append(Unreadable(file.path, f"its {name} is {value!r}, no share from 0 to 1"))
                continue
            yield _cell(file, model, command, split, str(entry.get("hf_subset", "default")), measures)


def _cell(file: _File, model: str, command: str, split: str, subset: str, measures: dict[str, float]) -> Result:
    task = file.content["task_name"]
    name = dataset_of().get(task, task) + (f"/{subset}" if subset != "default" else "")
    ours_called, usual = usual_split(name)
    stated = {key: file.content.get(key) for key in ("task_name", "dataset_revision", "mteb_version")}
    source = {key: None if value is None else str(value) for key, value in stated.items()}
    source |= {"file": file.path.name, "sha256": sha256_file(file.path), "revision": file.revision}
    result = record(
        model,
        label(name, "" if split == usual else split, None),
        imported="mteb",
        command=command,
        split=ours_called if split == usual else split,
        measures=dict(sorted(measures.items(), key=lambda item: item[0] != "nDCG@10")),
        source=source,
        dataset={"name": name, "exclude_self": None, "limit": None, "citation": "", "fingerprint": None, "notes": []},
    )
    result["in_domain"] = not data_of(task).isdisjoint(file.seen)
    result["manifest"]["model"]["trained_on"] = sorted(dataset_of()[t] for t in file.seen if t in dataset_of())
    result["manifest"]["model"]["facts"] = file.facts
    spent = file.content.get("evaluation_time")
    if isinstance(spent, int | float) and isfinite(spent):
        result["seconds"] = {"evaluation": spent}
    return result
