"""The one story, and the only place that orders its steps:
dataset -> model -> vectors -> index -> run -> measures -> results."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from harness.atomic import alone, content_key
from harness.clock import Clock
from harness.dataset import Dataset
from harness.hubness import Hubness
from harness.manifest import environment
from harness.measure import MEASURES, measure
from harness.prepared import Prepared
from harness.registry import ModelRef
from harness.retrieve import Retrieval, retrieve
from harness.run import Ranking, rank, run_writer
from harness.spec import PluginError, Progress, UserError
from harness.store import SCHEMA, Result, ResultStore, write_per_query

K = 1000
"""Depth of every run."""
REVISION = 1
"""Part of every cell's key: raised when a change to the harness itself can change a number."""


@dataclass(slots=True)
class Settings:
    """What a benchmark needs to know besides models and datasets."""

    home: Path
    results: ResultStore
    measures: tuple[str, ...] = MEASURES
    k: int = K
    force: bool = False
    offline: bool = False
    command: str = ""
    progress: Progress = lambda *_: None


@dataclass(slots=True)
class Cell:
    """One model on one dataset: how it ended."""

    model: str
    dataset: str
    status: str
    """``ok``, ``cached`` or ``failed``."""
    result: Result | None = None
    reason: str = ""


def benchmark(models: Sequence[ModelRef], datasets: Sequence[Dataset], settings: Settings) -> Iterator[Cell]:
    """Evaluates every model on every dataset, yielding each cell as it ends.

    A user's mistake (UserError) ends it before any work starts where it can be known then; a fault in a plug-in fails
    its cell and the others go on. Finished cells whose keys match are reused unless ``force``.
    """
    ready = [Prepared(ref, settings.home, offline=settings.offline, progress=settings.progress) for ref in models]
    for model in ready:
        for dataset in datasets:
            yield _cell(model, dataset, settings)


def cell_key(model: Prepared, dataset: Dataset, settings: Settings) -> str:
    """What a finished cell is recognised by."""
    parts = {"model": model.ref.key, "dataset": dataset.fingerprint, "limit": dataset.limit}
    return content_key({**parts, "revision": REVISION, "k": settings.k, "measures": list(settings.measures)})


def _cell(model: Prepared, dataset: Dataset, settings: Settings) -> Cell:
    """The finished cell, or else the one made now. Of several processes that want it, one makes it; the others wait."""
    key = cell_key(model, dataset, settings)
    lock, deed = settings.home / "locks" / key[:32], f"computes {model.label} on {dataset.label}"
    if found := _finished(model, dataset, key, settings):
        return found
    with alone(lock, settings.progress, deed):
        return _finished(model, dataset, key, settings) or _made(model, dataset, key, settings)


def _finished(model: Prepared, dataset: Dataset, key: str, settings: Settings) -> Cell | None:
    found = None if settings.force else settings.results.finished(model.label, dataset.label, key)
    return Cell(model.label, dataset.label, "cached", found) if found else None


def _made(model: Prepared, dataset: Dataset, key: str, settings: Settings) -> Cell:
    work = _Work(model, dataset, key, settings)
    try:
        return Cell(model.label, dataset.label, "ok", settings.results.write(model.label, dataset.label, work.run))
    except UserError:
        raise
    except Exception as error:  # the cell boundary: recorded, and the other cells go on
        reason = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
        settings.results.write_failure(work.result("failed", {}) | {"reason": reason})
        return Cell(model.label, dataset.label, "failed", None, reason)
    finally:
        settings.progress("", 0, 0)


@dataclass(slots=True)
class _Work:
    """One cell under way."""

    model: Prepared
    dataset: Dataset
    key: str
    settings: Settings
    started: str = field(default_factory=lambda: _now())
    clock: Clock = field(default_factory=Clock)
    found: Retrieval = field(default_factory=Retrieval)

    def run(self, folder: Path) -> Result:
        """Does all the work of the cell, writing its files into the folder."""
        dataset, hubs = self.dataset, Hubness()
        self.found = retrieve(self.model, dataset, self.settings.k, self.clock)
        with self.clock.timed("measure"), run_writer(folder / "run.trec.gz", self.model.ref.spec.name) as write:

            def rankings() -> Iterator[Ranking]:
                paired = zip(dataset.queries, self.found.hits, strict=True)
                for number, (query, (rows, scores)) in enumerate(paired, 1):
                    exclude = query.id if dataset.exclude_self else None
                    ranking = rank(query.id, dataset.corpus.ids(rows), scores, self.settings.k, exclude=exclude)
                    hubs.add(ranking.doc_ids)
                    write(ranking)
                    self.settings.progress(f"searching {dataset.label}", number, len(dataset.queries))
                    yield ranking

            scores = measure(dataset.qrels, rankings(), self.settings.measures)
        write_per_query(folder / "per_query.parquet", dataset.queries, dataset.qrels, scores)
        self.found.geometry["hubness"] = hubs.summary(len(dataset.corpus), len(dataset.queries))
        self.found.counts["missing"] = scores.missing
        return self.result("ok", scores.mean())

    def result(self, status: str, measures: dict[str, float]) -> Result:
        """The content of result.json. What changes from run to run is in command, seconds and manifest.run alone."""
        ref, dataset = self.model.ref, self.dataset
        return {
            "schema": SCHEMA,
            "model": self.model.label,
            "dataset": dataset.label,
            "split": dataset.split,
            "status": status,
            "partial": dataset.limit is not None,
            "in_domain": not {dataset.name, dataset.name.partition("/")[0]}.isdisjoint(ref.trained_on),
            "command": self.settings.command,
            "measures": measures,
            "geometry": self.found.geometry,
            "seconds": {phase: round(spent, 4) for phase, spent in self.clock.seconds.items()},
            "counts": {
                "documents": len(dataset.corpus),
                "queries": len(dataset.queries),
                "judged": sum(map(len, dataset.qrels.values())),
                **self.found.counts,
            },
            "manifest": {
                "key": self.key,
                "model": {
                    "name": ref.spec.name,
                    "kind": ref.spec.kind,
                    "plugin": ref.plugin,
                    "summary": ref.spec.summary,
                    "options": {k: v for k, v in ref.options.items() if k != "path"},
                    "passed": dict(ref.passed),
                    "similarity": self.found.similarity,
                    "trained_on": list(ref.trained_on),
                    "training": ref.training,
                    "fingerprint": ref.fingerprint,
                },
                "dataset": {
                    "name": dataset.name,
                    "exclude_self": dataset.exclude_self,
                    "limit": dataset.limit,
                    "citation": dataset.citation,
                    "fingerprint": dataset.fingerprint,
                    "notes": dataset.notes,
                },
                "k": self.settings.k,
                "seeds": {},  # nothing here draws at random; models that do state theirs in their options
                "ties": "score descending, then document id descending",
                "run": {
                    "started": self.started,
                    "finished": _now(),
                    "peak_memory_bytes": _peak_memory(),
                    **environment(),
                },
            },
        }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _peak_memory() -> int:
    """Peak resident bytes of this process so far."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
