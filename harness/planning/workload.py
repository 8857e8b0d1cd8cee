"""Dataset sizes for planning, from the catalogue or from the dataset itself if it is on this machine.

Nothing is downloaded or built. All sizes are approximate: tokens are word pieces of the tokenizer of all-mpnet-base-v2,
at most 384 per text; for a dataset on this machine they are estimated from the lengths of `SAMPLE` documents.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean as mean
from typing import Any

from harness.datasets.acquire import expected_bytes
from harness.datasets.beir import Dataset, label
from harness.datasets.catalog import status, suite
from harness.evaluation.open_datasets import expand, open_named
from harness.registry.manager import Registry
from harness.types import DatasetSpec, Progress, UserError

TOKENS_PER_CHARACTER = 0.21
"""Between 0.19 and 0.23 on six English collections."""
TOKENS_PER_TEXT = 2
"""Special tokens per text."""
LONGEST = 384
QUERY_TOKENS = 16
"""Tokens of a query with unknown text: questions and claims have 8 to 25."""
SAMPLE = 1000


@dataclass(frozen=True, slots=True)
class Workload:
    """The size of one dataset. None means unknown; ``note`` says why."""

    label: str
    documents: int | None = None
    queries: int | None = None
    document_tokens: int | None = None
    query_tokens: int | None = None
    text_bytes: int = 0
    """Size of the documents on disk; 0 if unknown."""
    download_bytes: int = 0
    """Bytes to download; an archive of several datasets is counted for the first of them."""
    corpus: str = ""
    """Name of the corpus; shared by datasets with nearly the same documents."""
    note: str = ""
    dataset: Dataset | None = None
    """The open dataset, if it is on this machine."""
    sampled: tuple[int, ...] = ()
    """Characters of the documents from which the tokens are estimated."""

    def uncut(self, max_chars: int) -> Workload:
        """The same for a model that reads whole texts, or so many characters of them; known only if it is here."""
        if not self.sampled or self.document_tokens is None:
            return self
        lengths = [min(length, max_chars or length) for length in self.sampled]
        whole = mean(tokens(length, length + TOKENS_PER_TEXT) for length in lengths)
        return replace(self, document_tokens=round(whole * (self.documents or 0)))

    def held_to(self, longest: int) -> Workload:
        """The same for a model that reads so many tokens of a text; 0: no limit of its own."""
        if not longest or longest >= LONGEST or self.document_tokens is None:
            return self
        documents = self.documents or 0
        cut = mean(tokens(length, longest) for length in self.sampled) if self.sampled else longest
        at_most = (self.queries or 0) * longest if self.query_tokens is not None else None
        return replace(
            self,
            document_tokens=min(self.document_tokens, round(cut * documents)),
            query_tokens=None if at_most is None else min(self.query_tokens or 0, at_most),
        )

    def pair_tokens(self, longest: int) -> float | None:
        """Mean tokens of a query and a document together, at most ``longest``; 0: no limit of their own."""
        if self.document_tokens is None or self.query_tokens is None or not self.documents or not self.queries:
            return None
        query, most = self.query_tokens / self.queries, longest or 2 * LONGEST
        if self.sampled:
            return mean(min(most, query + tokens(length, longest or LONGEST)) for length in self.sampled)
        return min(most, query + self.document_tokens / self.documents)


def workloads(
    names: Iterable[str],
    suites: Iterable[str],
    registry: Registry,
    home: Path,
    *,
    progress: Progress = lambda *_: None,
    **choice: Any,
) -> list[Workload]:
    """The sizes of all named datasets, each once and in order, including those that need a licence.

    Args:
        names: values of ``-d``.
        suites: values of ``--suite``.
        registry: the known datasets.
        home: where datasets are stored.
        progress: receives the progress.
        choice: split, exclude_self and limit.

    Raises:
        UserError: `harness benchmark` would reject the same arguments.
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
    """The size of an open dataset."""
    corpus, count = dataset.corpus, len(dataset.corpus)
    sampled = tuple(len(corpus[row].content) for row in range(0, count, max(1, count // SAMPLE)))
    return Workload(
        dataset.label,
        documents=count,
        queries=len(dataset.queries),
        document_tokens=round(mean(map(tokens, sampled)) * count),
        query_tokens=round(sum(tokens(len(query.text)) for query in dataset.queries)),
        text_bytes=corpus.path.stat().st_size,
        dataset=dataset,
        sampled=sampled,
    )


def of_spec(
    spec: DatasetSpec,
    state: str,
    *,
    split: str | None = None,
    exclude_self: bool | None = None,
    limit: int | None = None,
) -> Workload:
    """The size of a dataset that is not on this machine; ``state`` is its `harness.datasets.catalog.status`."""
    unusual = split if split and split != spec.split else None
    name = label(spec.name, unusual, limit, exclude_self if exclude_self != spec.exclude_self else None)
    if spec.counts is None:
        return Workload(name, note=f"{state}, size unknown until it is downloaded: harness fetch {spec.name}")
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
        return replace(work, note=f"the number of queries of the split {split} is unknown until it is downloaded")
    queries = min(limit or spec.counts.queries, spec.counts.queries)
    each = spec.tokens if spec.exclude_self and spec.tokens else QUERY_TOKENS  # the queries are documents
    return replace(work, queries=queries, query_tokens=queries * each)


def tokens(characters: int, longest: int = LONGEST) -> float:
    """Estimated number of word pieces of a text with this many characters, at most ``longest``."""
    return min(longest, TOKENS_PER_TEXT + TOKENS_PER_CHARACTER * characters)
