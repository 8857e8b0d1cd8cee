"""Other people's runs as results: a TREC run, measured here, is a row like any other, marked as imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from harness.datasets.beir import Dataset, some
from harness.metrics.measures import MEASURES, Evaluator, Scores
from harness.metrics.ranking import Ranking, RunNotes, rank, read_run
from harness.metrics.run_writer import run_writer
from harness.results.dataset_identity import refuse_another
from harness.results.schema import SCHEMA, Result
from harness.results.store import PER_QUERY, RUN, ResultStore, Unreadable, read_result, write_per_query
from harness.storage.atomic import content_key, sha256_file
from harness.system.environment import environment
from harness.types import UserError

TAG = "imported"


def import_run(
    file: Path,
    model: str,
    dataset: Dataset,
    store: ResultStore,
    *,
    measures: Sequence[str] = MEASURES,
    trained_on: Sequence[str] = (),
    command: str = "",
) -> Result:
    """Measures a TREC run (plain or gzipped) and stores it as a cell, with per-query scores and the run itself.

    Documents that the dataset leaves out of rankings (a query's own) are removed first. If the cell holds this very
    run, its metrics are kept.

    Args:
        file: The run.
        model: Name of the row.
        dataset: What the run is of.
        store: The results folder.
        measures: Names as in ir_measures.
        trained_on: Datasets whose judgements the model was trained on.
        command: The command line, for the record.

    Raises:
        UserError: If the run and the dataset do not belong together, and if the cell holds a result that was computed
            here or one of another dataset.
    """
    refuse_measured(store, model, dataset.label)
    before = refuse_another(store, model, dataset, imported=True)
    source = {"file": file.name, "sha256": sha256_file(file) if file.is_file() else ""}
    if before and before["manifest"].get("key") == imported_key("run", source, dataset.fingerprint):
        measures = tuple(dict.fromkeys([*before["measures"], *measures]))
    evaluator, notes, read = Evaluator(dataset.qrels, measures), RunNotes(), _Read()
    with store.writing(model, dataset.label) as new:
        with run_writer(new.folder / RUN, TAG) as write:
            for found in read_run(file, known=dataset.qrels, notes=notes):
                exclude = found.query_id if dataset.exclude_self else None
                ranking = rank(found.query_id, found.doc_ids, found.scores, max(1, len(found.doc_ids)), exclude=exclude)
                if found.query_id in dataset.qrels:
                    read.add(ranking, dataset)
                    write(ranking)
                    evaluator.add(ranking)
        if not read.queries:
            raise UserError(
                f"{file} has no query that {dataset.label} judges (such as {some([q.id for q in dataset.queries])}); "
                f"name the dataset and split that the run was made for."
            )
        scores = evaluator.scores()
        write_per_query(new.folder / PER_QUERY, dataset.queries, dataset.qrels, scores, dataset.groups)
        notes_of_run = [*notes.sentences(file.name), *read.notes()]
        return new.finish(_result(model, dataset, scores, read.depth, notes_of_run, source, trained_on, command))


@dataclass(slots=True)
class _Read:
    """Counts over the rankings of a run."""

    queries: int = 0
    outside: int = 0
    """Documents that the corpus lacks."""
    depth: int = 0

    def add(self, ranking: Ranking, dataset: Dataset) -> None:
        self.queries += 1
        self.outside += int((dataset.corpus.rows(ranking.doc_ids) < 0).sum())
        self.depth = max(self.depth, len(ranking.doc_ids))

    def notes(self) -> list[str]:
        return [f"{self.outside} documents of the run are not in the corpus"] if self.outside else []


def _result(
    model: str,
    dataset: Dataset,
    scores: Scores,
    depth: int,
    notes: Sequence[str],
    source: dict[str, Any],
    trained_on: Sequence[str],
    command: str,
) -> Result:
    measures = {name: float(value) for name, value in scores.mean().items()}
    described = dataset.described() | {"notes": [*dataset.notes, *notes]}
    result = record(
        model,
        dataset.label,
        imported="run",
        command=command,
        split=dataset.split,
        measures=measures,
        source=source,
        dataset=described,
    )
    result["partial"] = dataset.limit is not None
    result["in_domain"] = not {dataset.name, dataset.name.partition("/")[0]}.isdisjoint(trained_on)
    result["counts"] = {
        "documents": len(dataset.corpus),
        "queries": len(dataset.queries),
        "missing": scores.missing,
        "judged": sum(map(len, dataset.qrels.values())),
    }
    result["manifest"] |= {"k": depth, "ties": "score descending, then document id descending"}
    result["manifest"]["model"]["trained_on"] = list(trained_on)
    return result


def record(
    model: str,
    label: str,
    *,
    imported: str,
    command: str,
    split: str,
    measures: dict[str, float],
    source: dict[str, Any],
    dataset: dict[str, Any],
) -> Result:
    """The content of an imported cell's result.json; ``imported`` says from what, ``source`` from which file."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    result = {
        "schema": SCHEMA,
        "model": model,
        "dataset": label,
        "split": split,
        "status": "ok",
        "partial": False,
        "in_domain": False,
        "imported": imported,
        "command": command,
        "measures": measures,
        "geometry": {},
        "seconds": {},
        "counts": {},
        "manifest": {
            "key": imported_key(imported, source, dataset.get("fingerprint")),
            "source": source,
            "model": {"name": model, "kind": "imported", "options": {}, "passed": {}, "trained_on": []},
            "dataset": dataset,
            "run": {"started": now, "finished": now, **environment()},
        },
    }
    return cast(Result, result)


def imported_key(imported: str, source: dict[str, Any], fingerprint: Any) -> str:
    """What an imported cell is recognised by; its metrics are not part of it."""
    return content_key([imported, source, fingerprint])


def refuse_measured(store: ResultStore, model: str, dataset: str) -> None:
    """UserError where the cell holds a result that was measured here: that is worth more than a copy."""
    found = read_result(store.folder(model, dataset))
    if not isinstance(found, Unreadable) and found["status"] == "ok" and not found.get("imported"):
        raise UserError(
            f"{store.folder(model, dataset)} holds {model} on {dataset} as measured here, which is kept; "
            f"give what is imported another name with --model, or other results with --results."
        )
