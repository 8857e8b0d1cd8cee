"""Other people's runs as results: a TREC run, measured here, is a row like any other, marked as imported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.datasets.beir import Dataset, some
from harness.metrics.measures import MEASURES, measure
from harness.metrics.ranking import Ranking, RunNotes, rank, read_run, run_writer
from harness.results.dataset_identity import refuse_another
from harness.results.store import PER_QUERY, RUN, SCHEMA, Result, ResultStore, Unreadable, read_result, write_per_query
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

    What the dataset leaves out of rankings (a query's own document) is left out first. A cell that holds this very run
    keeps its metrics. UserError where the run and the dataset do not belong together, and where the cell holds a result
    that was measured here, or one of another dataset.
    """
    refuse_measured(store, model, dataset.label)
    found = refuse_another(store, model, dataset, imported=True)
    source = {"file": file.name, "sha256": sha256_file(file) if file.is_file() else ""}
    if found and found["manifest"].get("key") == imported_key("run", source, dataset.fingerprint):
        measures = tuple(dict.fromkeys([*found["measures"], *measures]))
    met, lost, depth = 0, 0, 0
    told = RunNotes()

    def rankings() -> Iterator[Ranking]:
        nonlocal met, lost, depth
        for found in read_run(file, known=dataset.qrels, notes=told):
            exclude = found.query_id if dataset.exclude_self else None
            ranking = rank(found.query_id, found.doc_ids, found.scores, max(1, len(found.doc_ids)), exclude=exclude)
            if found.query_id in dataset.qrels:
                met += 1
                lost += int((dataset.corpus.rows(ranking.doc_ids) < 0).sum())
                depth = max(depth, len(ranking.doc_ids))
                yield ranking

    def fill(folder: Path) -> Result:
        with run_writer(folder / RUN, TAG) as write:

            def written() -> Iterator[Ranking]:
                for ranking in rankings():
                    write(ranking)
                    yield ranking

            scores = measure(dataset.qrels, written(), measures)
        if not met:
            raise UserError(
                f"{file} has no query that {dataset.label} judges (such as {some([q.id for q in dataset.queries])}); "
                f"name the dataset and split that the run was made for."
            )
        outside = [f"{lost} documents of the run are not in the corpus"] if lost else []
        write_per_query(folder / PER_QUERY, dataset.queries, dataset.qrels, scores)
        result = record(
            model,
            dataset.label,
            imported="run",
            command=command,
            split=dataset.split,
            measures={name: float(value) for name, value in scores.mean().items()},
            source=source,
            dataset=dataset.described() | {"notes": [*dataset.notes, *told.sentences(file.name), *outside]},
        )
        counts = {"documents": len(dataset.corpus), "queries": len(dataset.queries), "missing": scores.missing}
        counts["judged"] = sum(map(len, dataset.qrels.values()))
        in_domain = not {dataset.name, dataset.name.partition("/")[0]}.isdisjoint(trained_on)
        result |= {"partial": dataset.limit is not None, "in_domain": in_domain, "counts": counts}
        result["manifest"] |= {"k": depth, "ties": "score descending, then document id descending"}
        result["manifest"]["model"]["trained_on"] = list(trained_on)
        return result

    return store.write(model, dataset.label, fill)


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
    return {
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
