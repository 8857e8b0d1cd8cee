"""The values that claims need from the results: means of models, what is missing, and scores per query."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from math import fsum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets import catalog
from harness.metrics.clusters import per_cluster
from harness.metrics.measures import MEASURES
from harness.metrics.significance import Interval, as_one, interval_of_sum
from harness.registry.parser import typed
from harness.storage.atomic import content_key
from harness_reports.claims.model import SECTIONS, entries, scale
from harness_reports.data.leaderboard import MEASURE, Leaderboard
from harness_reports.data.paired import squared_error
from harness_reports.data.per_query import Evidence

Values = NDArray[np.float64]
Missing = dict[str, list[str]]
"""Label of a model -> datasets on which a figure is missing."""


class ClaimEvidence:
    """Access to the results by the names of a claims file."""

    def __init__(self, board: Leaderboard, models: Mapping[str, tuple[str, ...]], home: Path | None = None) -> None:
        self.board = board
        self.evidence = Evidence(board, home)
        self.models = models
        self._records: dict[str, dict[str, Any]] = {}
        self._variants = {cell.model for cell in board.rows() if cell.searched_otherwise}
        for cell in board.rows():
            record = cell.get("manifest", "model")
            self._records.setdefault(cell.model, record if isinstance(record, dict) else {})

    def labels(self, name: str) -> tuple[str, ...]:
        """The results of a model: those it is mapped to, else its own and those of its runs (``NAME:run=...``)."""
        mapped = self.models.get(name, (name,))
        if mapped != (name,):
            return mapped
        runs: dict[str, str] = {}
        for label in self.board.models:
            record = self._record(label)
            usual = label not in self._variants  # not searched with an index, or to an unusual depth
            if usual and record.get("name") == name and {*record.get("passed", {})} == {"run"}:
                runs[content_key(record.get("fingerprint"))] = label
        own = self._record(name)
        alone = bool(own) and content_key(own.get("fingerprint")) not in runs  # NAME is its newest run
        return (*((name,) if alone or not runs else ()), *sorted(runs.values()))

    def value(self, label: str, dataset: str, measure: str) -> float | None:
        """The value of one cell, in the units of claims; None if there is none."""
        cell = self.board.cells.get((label, dataset))
        keys = measure.split(".") if measure.partition(".")[0] in SECTIONS else ("measures", measure)
        value = cell.get(*keys) if cell and cell.ok else None
        return scale(measure) * value if isinstance(value, int | float) else None

    def seeds(self, name: str, datasets: Sequence[str], measure: str) -> tuple[tuple[str, ...], Missing]:
        """The model's results that have every figure; where none has, what the most complete one lacks."""
        lacking = {
            label: [dataset for dataset in datasets if self.value(label, dataset, measure) is None]
            for label in self.labels(name)
        }
        whole = tuple(label for label, missing in lacking.items() if not missing)
        best = min(lacking, key=lambda label: len(lacking[label]))
        return whole, {} if whole else {best: lacking[best]}

    def mean(self, seeds: Sequence[str], place: str, measure: str) -> float:
        """Over the seeds and the place's entries, of which a group counts once."""
        means = []
        for entry in entries(place):
            labels = catalog.labels(entry)
            known = [self.value(seed, dataset, measure) for seed in seeds for dataset in labels]
            means.append(fsum(value for value in known if value is not None) / len(known))
        return fsum(means) / len(means)

    def apart(self, labels: Sequence[str], datasets: Sequence[str]) -> list[str]:
        """Datasets of which the results saw different contents, so that they cannot be compared there."""
        return [dataset for dataset in datasets if len({self._content(label, dataset) for label in labels}) > 1]

    def in_domain(self, labels: Sequence[str], datasets: Sequence[str]) -> list[str]:
        """Datasets whose judgements one of the models was trained on."""
        cells = {dataset: [self.board.cells.get((label, dataset)) for label in labels] for dataset in datasets}
        return [dataset for dataset, found in cells.items() if any(cell and cell.in_domain for cell in found)]

    def trained(self, labels: Sequence[str]) -> bool:
        """Whether how one of the models was trained is on record."""
        return any(self._record(label).get("training") for label in labels)

    def queries(
        self, seeds: Sequence[Sequence[str]], place: str, measure: str, *, clustered: bool = True
    ) -> list[list[Values]] | None:
        """Per model and entry of the place its values on the queries that all have, [clusters] or [runs, clusters].

        A group is one entry, and queries that are not independent are one cluster (without ``clustered`` each
        query counts). None where some result keeps no value per query, as with figures that are no measures.
        """
        found: list[list[Values]] = [[] for _ in seeds]
        for entry in entries(place):
            parts: list[list[Values]] = [[] for _ in seeds]
            for dataset in catalog.labels(entry):
                every = list(dict.fromkeys(label for group in seeds for label in group))
                ids, values = self.evidence.paired(every, dataset, measure)
                if len(values) < len(every) or not ids:
                    return None
                for part, group in zip(parts, seeds, strict=True):
                    stacked = scale(measure) * np.stack([values[label] for label in group])
                    codes = self.evidence.clusters.codes(dataset, ids) if clustered else None
                    part.append(per_cluster(stacked, codes))
            for place_of, part in zip(found, parts, strict=True):
                joined = as_one(part)
                place_of.append(joined if len(joined) > 1 else joined[0])
        return found

    def design_effect(
        self, factors: Sequence[float], seeds: Sequence[Sequence[str]], place: str, measure: str
    ) -> float | None:
        """Of the noise of the queries in a sum of factor x model; None if all queries are independent."""
        if not any(self.evidence.clusters.known(dataset) for dataset in flat(place)):
            return None
        samples = [self.queries(seeds, place, measure, clustered=clustered) for clustered in (True, False)]
        first, second = (sum(map(squared_error, combined(factors, models or []))) for models in samples)
        return first / second if second else None

    def commands(self, missing: Missing, measure: str = MEASURE) -> list[str]:
        """The commands that measure what is missing, one for all models that lack the same datasets."""
        together: dict[tuple[str, ...], list[str]] = {}
        for label, datasets in missing.items():
            together.setdefault(tuple(datasets), []).append(label)
        return [self._command(labels, datasets, measure) for datasets, labels in together.items()]

    def _command(self, labels: Sequence[str], datasets: Sequence[str], measure: str) -> str:
        suites = catalog.catalogue().suites
        whole = [name for name in suites if {*flat(name)} == {*datasets} and len(datasets) > 1]
        words = ["harness", "benchmark"]
        for label in labels:
            words += ["-m", typed(self._record(label)) or label]
        words += ["--suite", whole[0]] if whole else [word for name in folded(datasets) for word in ("-d", name)]
        if scale(measure) > 1 and measure not in MEASURES:
            words += ["--measures", " ".join([*MEASURES, measure])]
        return shlex.join([*words, "--results", str(self.board.root)])

    def _content(self, label: str, dataset: str) -> str:
        return content_key(self.board.cells[label, dataset].get("manifest", "dataset", "fingerprint"))

    def _record(self, label: str) -> dict[str, Any]:
        """What the manifest of one of its results says of a model; empty where it has no result."""
        return self._records.get(label, {})


def folded(datasets: Sequence[str]) -> list[str]:
    """The datasets, a whole group of them replaced by its name."""
    names = list(datasets)
    for group, members in catalog.catalogue().groups.items():
        if {*members} <= {*names}:
            names = list(dict.fromkeys(group if name in members else name for name in names))
    return names


def flat(place: str) -> tuple[str, ...]:
    """The datasets of a place, those of groups one by one."""
    return tuple(dict.fromkeys(label for entry in entries(place) for label in catalog.labels(entry)))


def interval(factors: Sequence[float], models: Sequence[Sequence[Values]], *, new_datasets: bool) -> Interval:
    """Of the sum of factor x model, paired by query, with the spread of a model's runs if it has several."""
    weighted = [[factor * values for values in own] for factor, own in zip(factors, models, strict=True)]
    return interval_of_sum(weighted, new_datasets=new_datasets)


def combined(factors: Sequence[float], models: Sequence[Sequence[Values]]) -> list[Values]:
    """Per entry the sum of factor x model on every cluster of queries, [clusters], runs averaged."""
    return [
        np.sum([f * np.atleast_2d(v).mean(axis=0) for f, v in zip(factors, values, strict=True)], axis=0)
        for values in zip(*models, strict=True)
    ]
