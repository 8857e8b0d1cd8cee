"""Stored results as MTEB keeps them: ``results/MODEL/REVISION/TASK.json``, which ``mteb.ResultCache(folder)`` loads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from math import fsum
from pathlib import Path
from typing import Any

from harness.datasets.catalog import catalogue
from harness.results.mteb_tasks import tasks, theirs, usual_split
from harness.results.store import slug
from harness.storage.atomic import content_key, write_json
from harness_reports.data.leaderboard import MEASURE, Cell

ORGANISATION = "retrieval-harness"
"""MTEB wants a model's name in two parts; ours have one, unless they come from the hub."""
NOBODY = (
    *("loader", "release_date", "languages", "n_parameters", "memory_usage_mb", "max_tokens", "embed_dim", "license"),
    *("open_weights", "public_training_code", "public_training_data", "similarity_fn_name", "use_instructions"),
)
"""What model_meta.json must say and a result does not know."""
AGGREGATE = "1"
"""What MTEB states as the dataset revision of every aggregate task."""


def write_mteb(cells: Sequence[Cell], folder: Path) -> list[Path]:
    """Writes one file for every finished, whole cell; returns them. Splits of one dataset share a file, as there.

    Where a model has every dataset of a group (CQADupStack), its mean is a file, too, as MTEB keeps it.
    """
    files: dict[Path, dict[str, Any]] = {}
    metas: dict[Path, dict[str, Any]] = {}
    owned: dict[Path, dict[str, Cell]] = {}
    for cell in cells:
        name, revision = model_name(cell), model_revision(cell)
        place = folder / "results" / re.sub(r"[^\w.+@:,=()-]", "_", name.replace("/", "__"))[:200] / revision
        metas[place / "model_meta.json"] = _meta(cell, name, revision)
        owned.setdefault(place, {})[cell.dataset] = cell
        task = task_name(cell).replace("/", "__")
        content = files.setdefault(
            place / f"{task if task.isprintable() and len(task) < 100 else slug(task)}.json", _content(cell)
        )
        content["scores"] |= {split(cell): [_scores(cell)]}
    for place, own in owned.items():
        for group, members in catalogue().groups.items():
            if {*members} <= {*own}:
                files[place / f"{tasks()[group].name}.json"] = _mean(group, [own[member] for member in members])
    for path, content in (files | metas).items():
        write_json(path, content)
    return list(files)


def model_name(cell: Cell) -> str:
    """``organisation/name``: the hub's for ``st:`` and ``mteb:`` models without other options, else ours."""
    passed = dict(cell.get("manifest", "model", "passed") or {})
    hub = str(passed.pop("name", "")).partition("@")[0]
    plain = not passed and not cell.searched_otherwise
    if cell.get("manifest", "model", "name") in ("st", "mteb") and "/" in hub and plain:
        return hub
    label = cell.model.partition("@")[0]
    return label if cell.imported == "mteb" and label.count("/") == 1 else f"{ORGANISATION}/{slug(cell.model)}"


def model_revision(cell: Cell) -> str:
    """What the model's output depends on, in 12 digits, the same on every dataset; of an imported one, what it says."""
    stated = cell.get("manifest", "source", "revision")
    found = cell.get("manifest", "model", "fingerprint")
    return slug(str(stated)) if stated else content_key(found if found is not None else cell.model)[:12]


def base(cell: Cell) -> str:
    """The dataset's name, without the split."""
    return str(cell.get("manifest", "dataset", "name") or cell.dataset.partition(":")[0])


def task_name(cell: Cell) -> str:
    """MTEB's name of the dataset; ours for one that is no task there."""
    name = base(cell)
    return tasks()[name].name if name in tasks() else name


def split(cell: Cell) -> str:
    """The split as MTEB calls it."""
    ours, usual = usual_split(base(cell))
    stated = str(cell.get("split"))
    return usual if stated == ours else stated


def _content(cell: Cell) -> dict[str, Any]:
    found = cell.get("manifest", "dataset", "fingerprint")
    finished = cell.get("manifest", "run", "finished")
    stated = cell.get("manifest", "source", "dataset_revision")
    return {
        # The hash of what was read: nothing shows that it is the content of a commit of MTEB's copy.
        "dataset_revision": str(stated) if stated else f"sha256:{content_key(found)[:16]}",
        "task_name": task_name(cell),
        "mteb_version": cell.get("manifest", "source", "mteb_version"),
        "scores": {},
        "evaluation_time": sum(v for k, v in (cell.get("seconds") or {}).items() if "/" not in k),
        "kg_co2_emissions": None,
        "date": datetime.fromisoformat(finished).timestamp() if finished else None,
    }


def _mean(group: str, cells: Sequence[Cell]) -> dict[str, Any]:
    """The result of MTEB's aggregate task, which has the main score alone."""
    contents = [_content(cell) for cell in cells]
    versions = {content["mteb_version"] for content in contents}
    mean = fsum(cell.get("measures", MEASURE) for cell in cells) / len(cells)
    scores = {"ndcg_at_10": mean, "main_score": mean, "hf_subset": "default", "languages": ["eng-Latn"]}
    return {
        **contents[0],
        "dataset_revision": AGGREGATE,
        "task_name": tasks()[group].name,
        "mteb_version": versions.pop() if len(versions) == 1 else None,
        "scores": {split(cells[0]): [scores]},
        "evaluation_time": sum(content["evaluation_time"] for content in contents),
        "date": max((content["date"] for content in contents if content["date"]), default=None),
    }


def _scores(cell: Cell) -> dict[str, Any]:
    measures = {their: value for name, value in cell.get("measures").items() if (their := theirs(name))}
    return {**measures, "main_score": cell.get("measures", MEASURE), "hf_subset": "default", "languages": ["eng-Latn"]}


def _meta(cell: Cell, name: str, revision: str) -> dict[str, Any]:
    seen = [tasks()[d].name for d in cell.get("manifest", "model", "trained_on") or () if d in tasks()]
    stated = {"name": name, "revision": revision, "framework": [], "training_datasets": seen or None}
    return {**stated, **dict.fromkeys(NOBODY), "harness": {"label": cell.model, "key": cell.get("manifest", "key")}}
