"""Stored runs measured again with an overlay of judgements; the results stand beside those without it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, cast

from harness.datasets.overlay import Overlay
from harness.evaluation.recorded import find_qrels
from harness.metrics.measures import Scores, measure
from harness.metrics.ranking import read_run
from harness.results.schema import Result
from harness.results.store import PER_QUERY, RUN, ResultStore, write_per_query
from harness.storage.atomic import content_key
from harness.types import Progress, Qrels, Query, UserError
from harness_reports.data.cells import Cell
from harness_reports.data.per_query import Evidence

SHOWN = ("nDCG@10", "Judged@10")
"""Always measured, beside what the result holds."""


class Remeasured(NamedTuple):
    """One model's result with the overlay."""

    model: str
    dataset: str
    """Its label, which names the overlay."""
    before: Mapping[str, float]
    """The measures without the overlay, as far as they are stored."""
    after: Mapping[str, float]


def remeasure(
    evidence: Evidence,
    models: Sequence[str],
    dataset: str,
    overlay: Overlay,
    home: Path,
    *,
    command: str = "",
    progress: Progress = lambda *_: None,
) -> list[Remeasured]:
    """Stores a result with the overlay for every model, computed from its stored run.

    Args:
        evidence: The stored results.
        models: Labels of models with a result on the dataset.
        dataset: Label of the dataset.
        overlay: The further judgements.
        home: $HARNESS_HOME.
        command: The command line, for the record.
        progress: Called with a text and the work done and in total.

    Raises:
        UserError: Before anything is stored, where the judgements, the scores by query or the run of a model are not
            on this machine, and where the overlay does not fit the dataset.
    """
    cells = {model: _cell(evidence, model, dataset) for model in models}
    qrels = {model: _qrels(evidence, cell, overlay, home) for model, cell in cells.items()}
    found = []
    for number, (model, cell) in enumerate(cells.items()):
        progress(f"measuring runs on {dataset} with {overlay.name} (runs)", number, len(cells))
        names = tuple(dict.fromkeys([*cell.get("measures"), *SHOWN]))
        scores = measure(qrels[model], read_run(evidence.file(model, dataset, RUN), known=qrels[model]), names)
        result = _result(cell.result, overlay, qrels[model], scores, command)
        _store(evidence, model, dataset, result, qrels[model], scores)
        found.append(Remeasured(model, result["dataset"], cell.get("measures"), result["measures"]))
    return found


def _cell(evidence: Evidence, model: str, dataset: str) -> Cell:
    cell = evidence.cell(model, dataset)
    if cell is None or not cell.ok:
        raise UserError(
            f"There is no finished result of {model} on {dataset}; measure it with harness benchmark first."
        )
    if cell.get("index") or cell.members:
        raise UserError(f"{model} is searched with an index or is a mean over seeds; name the models it is made from.")
    if cell.get("manifest", "dataset", "overlay"):
        raise UserError(
            f"{dataset} has an overlay already; name the dataset without it, and all judgements in one file."
        )
    path = evidence.file(model, dataset, RUN)
    if not path.is_file() or not evidence.intact(model, dataset, RUN):
        raise UserError(f"{path} is missing or damaged; make it again with harness benchmark --force.")
    return cell


def _qrels(evidence: Evidence, cell: Cell, overlay: Overlay, home: Path) -> Qrels:
    scores = evidence.scores(cell.model, cell.dataset)
    qrels = find_qrels(cell.result, home, scores.ids) if scores else None
    if qrels is None:
        raise UserError(
            f"The judgements that {cell.model} on {cell.dataset} was measured with are not on this machine, or its "
            f"{PER_QUERY} is not; run harness benchmark for it again here."
        )
    return overlay.over(qrels, cell.dataset)


def _result(result: Result, overlay: Overlay, qrels: Qrels, scores: Scores, command: str) -> Result:
    """The stored result with the measures, label, dataset and key of the overlay."""
    manifest, label = result["manifest"], result["dataset"]
    record = manifest["dataset"]
    dataset = {
        **record,
        "unusual": [*record.get("unusual", ()), "overlay"],
        "overlay": overlay.described(),
        "fingerprint": {**(record.get("fingerprint") or {}), "qrels": content_key(qrels)},
    }
    run = manifest.get("run") or {}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    added = {"measures": list(scores.measures), "command": command, "finished": now}
    changed: dict[str, Any] = {
        **result,
        "dataset": f"{label}{',' if ':' in label else ':'}overlay={overlay.name}",
        "measures": scores.mean(),
        "counts": {**result["counts"], "judged": sum(map(len, qrels.values())), "missing": scores.missing},
        "manifest": {
            **manifest,
            "key": content_key({"key": manifest.get("key"), "overlay": overlay.judgements}),
            "dataset": dataset,
            "run": {**run, "measured": [*(run.get("measured") or ()), added]},
        },
    }
    return cast(Result, changed)


def _store(evidence: Evidence, model: str, dataset: str, result: Result, qrels: Qrels, scores: Scores) -> None:
    texts = evidence.texts(dataset)
    with ResultStore(evidence.board.root).writing(model, result["dataset"]) as new:
        shutil.copyfile(evidence.file(model, dataset, RUN), new.folder / RUN)
        queries = [Query(query, texts.get(query, "")) for query in scores.query_ids]
        write_per_query(new.folder / PER_QUERY, queries, qrels, scores)
        new.finish(result)
