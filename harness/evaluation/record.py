"""The result of a computation: what result.json holds."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, cast

from harness.evaluation.cells import ZERO_VECTORS, CellTask
from harness.evaluation.encode_rate import rates
from harness.registry.model_ref import ModelRef
from harness.results.schema import SCHEMA, Manifest, ModelRecord, Result, RunRecord
from harness.search.ann_eval import index_costs
from harness.search.retrieve import Retrieval
from harness.system.environment import environment, peak_memory
from harness.system.timer import Clock
from harness.types import ModelError


def now() -> str:
    """The time, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(slots=True)
class Computation:
    """What the computation of a cell has found and spent so far."""

    started: str = field(default_factory=now)
    clock: Clock = field(default_factory=Clock)
    found: Retrieval = field(default_factory=Retrieval)


def make_result(
    task: CellTask,
    done: Computation,
    status: Literal["ok", "failed"],
    measures: dict[str, float],
    exact: dict[str, float],
) -> Result:
    """The content of result.json. Only command, seconds and manifest.run change from run to run.

    Args:
        task: The cell.
        done: Hits, geometry, counts and seconds.
        status: How it ended.
        measures: Metric -> mean.
        exact: The metrics of exact search that an index is compared with.
    """
    ref, dataset, index = task.model.ref, task.dataset, done.found.index
    judged = sum(map(len, dataset.qrels.values()))
    figures = {"index": index_costs(index["figures"], measures, exact)} if index and measures else {}
    record = {
        "schema": SCHEMA,
        "model": task.label,
        "dataset": dataset.label,
        "split": dataset.split,
        "status": status,
        "partial": dataset.limit is not None,
        "in_domain": not {dataset.name, dataset.name.partition("/")[0]}.isdisjoint(ref.trained_on),
        "command": task.settings.command,
        "measures": measures,
        "geometry": done.found.geometry,
        **figures,
        "seconds": {phase: round(spent, 4) for phase, spent in done.clock.seconds.items()},
        "counts": {
            "documents": len(dataset.corpus),
            "queries": len(dataset.queries),
            "judged": judged,
            **done.found.cost(),
        },
        "manifest": _manifest(task, done),
    }
    return cast(Result, record)


def _manifest(task: CellTask, done: Computation) -> Manifest:
    index = done.found.index
    config = {"index": index["manifest"]} if index else {}
    record = {
        "key": task.key,
        "model": {**model_record(task.model.ref), "similarity": done.found.similarity},
        "dataset": task.dataset.described(),
        "k": task.settings.k,
        **config,
        # models that draw at random state their seeds in their options
        "seeds": {"index": index["manifest"]["seed"]} if "seed" in config.get("index", {}) else {},
        "ties": "score descending, then document id descending",
        "zero_vectors": ZERO_VECTORS,
        "run": _run_record(task, done),
    }
    return cast(Manifest, record)


def _run_record(task: CellTask, done: Computation) -> RunRecord:
    fallbacks = task.model.ref.fallbacks
    options = {"fallbacks": fallbacks} if fallbacks else {}
    surroundings = environment()
    record = {
        "started": done.started,
        "finished": now(),
        "peak_memory_bytes": peak_memory(),
        "search": task.settings.limits._asdict(),
        "encoding": rates(task.model),
        **options,
        "versions": surroundings["versions"],
        "git": surroundings["git"],
        "machine": surroundings["machine"],
    }
    return cast(RunRecord, record)


def model_record(ref: ModelRef) -> ModelRecord:
    """What a manifest says of a model and of its members."""
    record: ModelRecord = {
        "name": ref.spec.name,
        "kind": ref.spec.kind,
        "plugin": ref.plugin,
        "summary": ref.spec.summary,
        "options": {name: value for name, value in ref.options.items() if name not in ("path", "object")},
        "passed": dict(ref.passed),
        "storage": ref.storage,
        "facts": _facts(ref),
        "trained_on": list(ref.trained_on),
        "training": ref.training,
        "fingerprint": ref.fingerprint,
    }
    if ref.members:
        record["members"] = [{"label": each.label, "key": each.key, **model_record(each)} for each in ref.members]
    return record


def _facts(ref: ModelRef) -> dict[str, Any]:
    """What is stated of the model, without what is for plans alone; {} where its files do not tell."""
    with suppress(ModelError):
        return {name: value for name, value in ref.facts.items() if name != "flops_per_token"}
    return {}
