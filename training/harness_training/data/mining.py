"""Mines hard negatives for a training split in BEIR format: candidates from miners, filters and selection.

Queries are processed in parts, in an order that depends on the seed and their ids, so the rows are shuffled and the
first N are a sample; the selection within a row depends only on the seed and its ids. Finished parts are kept under
$HARNESS_HOME/mining/KEY, so an interrupted run resumes after them. Memory holds the judgements, one part and a cache of
documents.

Rows with fewer remaining candidates than requested negatives are dropped and counted, never padded with easy negatives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from harness.datasets.beir import Dataset
from harness.models.runner import Prepared
from harness.registry.model_ref import ModelRef
from harness.storage.atomic import content_key, sha256_file, write_file, write_json
from harness.storage.locks import exclusive
from harness.storage.records import read_sealed, seal
from harness.storage.safe_load import fields
from harness.storage.temporary_files import remove
from harness.types import Progress, Query, UserError
from harness_training.data.filters import CrossEncoding, PositiveAware
from harness_training.data.formats import Row, open_table
from harness_training.data.miners import open_miner
from harness_training.data.sampling import COUNTS, Choice, Filter, Selection, draw
from harness_training.data.triplets import TrainingSet, columns_of, made, refuse_occupied, write, write_rows

REVISION = 1
"""Increased when a change to the mining can change a row."""
PART, DENSE_PART = 1024, 4096
"""Queries per part; more for dense miners, which read all documents once per part."""


@dataclass(frozen=True, slots=True)
class MiningSettings:
    """Miners, filters and selection of the negatives."""

    miners: Sequence[ModelRef]
    depth: int = 100
    """Candidates per miner."""
    negatives: int = 1
    pick: Literal["random", "top"] = "random"
    seed: int = 42
    limit: int | None = None
    """Maximum number of rows; None for all."""
    score_model: ModelRef | None = None
    """The dense model of the positive-aware filter; None for no filter."""
    relative_margin: float = 0.05
    cross_encoder: Path | None = None
    cross_margin: float = 3.0


def mine(
    dataset: Dataset,
    settings: MiningSettings,
    folder: Path,
    home: Path,
    *,
    offline: bool = False,
    progress: Progress = lambda *_: None,
) -> TrainingSet:
    """Mine the training set into ``folder``, or find it finished there; UserError for other content there."""
    job = _Job(dataset, settings, home, lambda ref: Prepared(ref, home, offline=offline, progress=progress), progress)
    request = content_key({**job.record, "limit": settings.limit})
    dense = any(miner.spec.kind == "dense" for miner in settings.miners)
    size = min(DENSE_PART if dense else PART, settings.limit or DENSE_PART)
    work = home / "mining" / content_key({**job.record, "part": size})[:32]
    with exclusive(work, progress):
        if (found := made(folder, request)) is None:
            refuse_occupied(folder)
            counts, files = _gather(job, work, size)
            content = {"name": folder.resolve().name, **job.record, "counts": counts, "request": request}
            rows = (row for _, row in open_table(files).rows())
            found = write(folder, islice(rows, counts["rows"]), settings.negatives, lambda _: content)
            remove(work)
    return found


def _gather(job: _Job, work: Path, size: int) -> tuple[dict[str, int], list[Path]]:
    """Mine the missing parts; returns the counts of the queries used and the parts' files."""
    queries = sorted(job.dataset.queries, key=lambda query: draw(job.settings.seed, query.id))
    limit = job.settings.limit or len(queries) * len(job.dataset.corpus)
    counts = Counter[str]()
    files: list[Path] = []
    for start in range(0, len(queries), size):
        files.append(work / f"part-{start // size:05d}.parquet")
        for entry in _finished(files[-1]) or job.part(queries[start : start + size], files[-1], start):
            counts.update(entry)
            if counts["rows"] >= limit:
                counts["rows"] = limit
                return _ordered(counts), files
    return _ordered(counts), files


def _ordered(counts: Counter[str]) -> dict[str, int]:
    return {name: counts[name] for name in [*COUNTS, *sorted(counts.keys() - COUNTS.keys())]}


def _finished(file: Path) -> list[dict[str, int]] | None:
    """Counts per query of a part, if it is complete."""
    try:
        stated = fields(read_sealed(file.with_suffix(".json")), sha256=str, counts=list)
        counts = [fields(entry, **dict.fromkeys(entry, int)) for entry in stated["counts"]]
        return counts if sha256_file(file) == stated["sha256"] else None
    except (OSError, ValueError, TypeError):
        return None


class _Job:
    """One mining run. Resolves weights immediately; indexes, vectors and models on the first part."""

    def __init__(
        self,
        dataset: Dataset,
        settings: MiningSettings,
        home: Path,
        prepare: Callable[[ModelRef], Prepared],
        progress: Progress,
    ) -> None:
        self.dataset, self.settings, self._home, self._progress = dataset, settings, home, progress
        self._models = [prepare(ref) for ref in settings.miners]
        if (ref := settings.score_model) is not None and ref.spec.kind != "dense":
            raise UserError(f"{ref.label} has no vectors to filter by; name a dense model with --score-model.")
        self._score = prepare(ref) if ref is not None else None
        path = settings.cross_encoder
        self._cross = CrossEncoding(path, settings.cross_margin) if path is not None else None

    @cached_property
    def record(self) -> dict[str, Any]:
        """Everything that determines the rows except the limit, for training-set.json."""
        dataset, settings, filters = self.dataset, self.settings, []
        if self._score is not None:
            filters.append({"filter": "positive_aware", "margin": settings.relative_margin, **_named(self._score)})
        if self._cross is not None:
            files = self._cross.fingerprint()
            filters.append({"filter": "cross_encoder", "margin": settings.cross_margin, "files": files})
        return {
            "seed": settings.seed,
            "sources": [{"name": dataset.name, "split": dataset.split, "fingerprint": dataset.fingerprint}],
            "miners": [{**_named(model), "depth": settings.depth} for model in self._models],
            "pick": settings.pick,
            "negatives": settings.negatives,
            "filters": filters,
            "revision": REVISION,
        }

    @cached_property
    def _opened(self) -> tuple[dict[str, Any], list[Filter], Selection]:
        settings, dataset = self.settings, self.dataset
        miners = {model.label: open_miner(model, dataset, settings.depth, self._home) for model in self._models}
        filters: list[Filter] = []
        if self._score is not None:
            filters.append(PositiveAware(self._score, dataset.corpus, settings.relative_margin))
        if self._cross is not None:
            filters.append(self._cross)
        choice = Choice(settings.negatives, settings.pick, settings.seed)
        return miners, filters, Selection(dataset, choice, filters)

    def part(self, queries: Sequence[Query], file: Path, done: int) -> list[dict[str, int]]:
        """Mine these queries into a file and a file of counts; returns the counts per query."""
        miners, filters, selection = self._opened
        for each in filters:
            each.begin(queries)
        counts: list[dict[str, int]] = []

        def rows() -> Iterator[Row]:
            found = zip(*(miner.candidates(queries) for miner in miners.values()), strict=True)
            for number, (query, lists) in enumerate(zip(queries, found, strict=True), done + 1):
                made, counted = selection.rows(query, dict(zip(miners, lists, strict=True)))
                counts.append(counted)
                yield from made
                self._progress(f"mining {self.dataset.label} (queries)", number, len(self.dataset.queries))

        write_file(file, lambda stream: write_rows(stream, columns_of(self.settings.negatives), rows()))
        write_json(file.with_suffix(".json"), seal({"sha256": sha256_file(file), "counts": counts}))
        return counts


def _named(model: Prepared) -> dict[str, Any]:
    return {"model": model.label, "key": model.ref.key, "fingerprint": model.ref.fingerprint}
