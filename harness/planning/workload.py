"""Datasets as work to be done: how much there is of each, from the catalogue or, where it is here, from itself.

Nothing is fetched and nothing is built. Approximate throughout: tokens are word pieces of all-mpnet-base-v2's
tokenizer, cut at 384 a text; for a dataset that is here they are estimated from the lengths of `SAMPLE` documents.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.datasets.acquire import expected_bytes
from harness.datasets.beir import Dataset, label
from harness.datasets.catalog import status, suite
from harness.evaluation.open_datasets import expand, open_named
from harness.registry.manager import Registry
from harness.types import DatasetSpec, Progress, UserError

TOKENS_PER_CHARACTER = 0.21
"""Between 0.19 and 0.23 on six collections in English."""
TOKENS_PER_TEXT = 2
"""The special tokens at its ends."""
LONGEST = 384
QUERY_TOKENS = 16
"""Of a query whose text is not here: questions and claims have 8 to 25."""
SAMPLE = 1000


@dataclass(frozen=True, slots=True)
class Workload:
    """One dataset. None: not known beforehand; ``note`` then says why."""

    label: str
    documents: int | None = None
    queries: int | None = None
    document_tokens: int | None = None
    query_tokens: int | None = None
    text_bytes: int = 0
    """Of the documents on disk; 0: not known."""
    download_bytes: int = 0
    """What is still to be fetched; an archive of several datasets counts for the first of them."""
    corpus: str = ""
    """Shared by datasets of nearly the same documents."""
    note: str = ""
    dataset: Dataset | None = None
    """The opened dataset, where it is here."""


def workloads(
    names: Iterable[str],
    suites: Iterable[str],
    registry: Registry,
    home: Path,
    *,
    progress: Progress = lambda *_: None,
    **choice: Any,
) -> list[Workload]:
    """What ``-d`` and ``--suite`` name, each once, in order, those under licence included.

    ``choice`` are split, exclude_self and limit. UserError for what `harness benchmark` would refuse at once.
    """
    entries = [*names, *(member for text in suites for member in suite(text).datasets)]
    if not entries:
        raise UserError(
            "No dataset is named; add -d NAME, -d path/to/folder or --suite beir18 (`harness datasets` lists names)."
        )
    found: dict[str, Workload] = {}
    archives: set[str] = set()
    for name in expand(entries, registry):
        spec = registry.datasets.get(name)
        if spec is None or (state := status(spec, home)) == "ready":
            work = of_dataset(open_named(name, registry, home, offline=True, progress=progress, **choice))
            work = replace(work, corpus=spec.corpus) if spec else work
        else:
            work = of_spec(spec, state, **choice)
            archive = spec.sources[0].place if spec.sources else ""
            work = replace(work, download_bytes=0) if archive in archives else work
            archives.add(archive)
        found.setdefault(work.label, work)
    return list(found.values())


def of_dataset(dataset: Dataset) -> Workload:
    """The work that an opened dataset is."""
    corpus, count = dataset.corpus, len(dataset.corpus)
    rows = range(0, count, max(1, count // SAMPLE))
    mean = sum(tokens(len(corpus[row].content)) for row in rows) / len(rows)
    return Workload(
        dataset.label,
        documents=count,
        queries=len(dataset.queries),
        document_tokens=round(mean * count),
        query_tokens=round(sum(tokens(len(query.text)) for query in dataset.queries)),
        text_bytes=corpus.path.stat().st_size,
        dataset=dataset,
    )


def of_spec(
    spec: DatasetSpec,
    state: str,
    *,
    split: str | None = None,
    exclude_self: bool | None = None,
    limit: int | None = None,
) -> Workload:
    """The work that a dataset will be that is not here; ``state`` is its `harness.datasets.catalog.status`."""
    unusual = split if split and split != spec.split else None
    name = label(spec.name, unusual, limit, exclude_self if exclude_self != spec.exclude_self else None)
    if spec.counts is None:
        return Workload(name, note=f"{state}, its size is not known before: harness fetch {spec.name}")
    source = spec.sources[0] if spec.sources else None
    size = expected_bytes(spec)
    work = Workload(
        name,
        documents=spec.counts.documents,
        document_tokens=spec.counts.documents * spec.tokens if spec.tokens else None,
        text_bytes=size,
        download_bytes=(source.bytes or size) if source else 0,
        corpus=spec.corpus,
        note=state if state == "needs licence" else "",
    )
    if unusual:
        return replace(work, note=f"how many queries the split {split} has is not known before it is here")
    queries = min(limit or spec.counts.queries, spec.counts.queries)
    each = spec.tokens if spec.exclude_self and spec.tokens else QUERY_TOKENS  # then a query is a document
    return replace(work, queries=queries, query_tokens=queries * each)


def tokens(characters: int) -> float:
    """Estimated word pieces of a text of so many characters."""
    return min(LONGEST, TOKENS_PER_TEXT + TOKENS_PER_CHARACTER * characters)
