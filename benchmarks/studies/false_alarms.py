"""``python -m benchmarks false_alarms [TABLES [CHECKOUT]]``: how often marks, ranks and intervals are wrong, simulated.

Every cell simulates ``TABLES`` tables (250 unless told otherwise; four times as many of 2 or 3 models) of models that
are equal in the population, with the functions that reports use. It counts the tables with a false mark, those with a
wrong rank, and the intervals that contain the truth. ``CHECKOUT`` is the folder of another version, whose functions are
counted on the same tables (columns "before"): a version up to 0.2.0, which knew no clusters and drew datasets and runs
by bootstrap.

``python -m benchmarks false_alarms null RESULTS DATASET MODEL MODEL``: the test of two stored results under a null
that flips the differences of whole clusters.

``python -m benchmarks false_alarms published FILE.csv``: ranks of published values (columns dataset, model, ndcg_at_10)
that are dealt to the models at random within each dataset.
"""

from __future__ import annotations

import csv
import importlib.util
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from harness.metrics.bootstrap import Values
from harness.metrics.clusters import Codes, cluster_sums, per_cluster
from harness.metrics.significance import (
    Interval,
    difference_interval,
    holm,
    randomisation_test,
    rank_intervals,
)
from harness_reports.data.leaderboard import read_leaderboard
from harness_reports.data.paired import p_value
from harness_reports.data.per_query import Evidence

SAMPLES = 10_000
"""Resamples of an interval, and random signs of a test where signs are drawn."""
FEW = 3
"""Models up to which four times as many tables are simulated."""


class Cell(NamedTuple):
    """What a table is like. Standard deviations are in points of nDCG@10."""

    models: int
    datasets: int
    runs: int = 1
    """Training runs of every model, or with ``fixed`` of all but the first."""
    queries: int = 300
    cluster: float = 1
    """Mean number of queries in a cluster; sizes are from 1 to twice that less 1."""
    correlation: float = 0.3
    """Of differences within a cluster."""
    by_dataset: float = 0.0
    """Standard deviation, over datasets, of a model's own effect."""
    by_run: float = 0.0
    """Standard deviation of training runs."""
    fixed: bool = False
    """Whether the first model has one run that never varies, such as BM25."""
    noise: float = 10.0
    """Standard deviation of a model's own part of a query."""

    @property
    def key(self) -> tuple[int, ...]:
        """What its random numbers begin with, so that cells have different tables."""
        return self.models, self.datasets, self.runs, self.queries, int(self.cluster), int(self.fixed)


CELLS = (
    Cell(2, 1, queries=50),
    Cell(2, 1),
    Cell(6, 1),
    Cell(20, 1),
    Cell(2, 1, queries=10_000),
    Cell(6, 5),
    Cell(20, 5),
    Cell(2, 1, cluster=5),
    Cell(6, 1, cluster=5),
    Cell(20, 1, cluster=5),
    Cell(6, 5, cluster=5),
    Cell(2, 1, queries=1500, cluster=5),
    Cell(2, 2, queries=60, by_dataset=2),
    Cell(3, 3, queries=60, by_dataset=2),
    Cell(3, 5, queries=60, by_dataset=2),
    Cell(6, 5, queries=60, by_dataset=2),
    Cell(10, 10, queries=60, by_dataset=2),
    Cell(20, 5, queries=60, by_dataset=2),
    Cell(6, 18, queries=60, by_dataset=2),
    Cell(20, 18, queries=60, by_dataset=2),
    Cell(2, 1, 2, queries=1500, by_run=0.4),
    Cell(2, 1, 3, queries=1500, by_run=0.4),
    Cell(2, 1, 5, queries=1500, by_run=0.4),
    Cell(2, 1, 2, queries=1500, by_run=1.0, fixed=True),
    Cell(2, 1, 3, queries=1500, by_run=1.0, fixed=True),
    Cell(2, 1, 3, queries=1500, by_run=0.4, cluster=5),
    Cell(6, 1, 5, by_run=0.4),
    Cell(3, 5, 3, queries=60, by_run=0.4, by_dataset=2),
    Cell(6, 18, 5, queries=60, by_run=0.4, by_dataset=2),
)


class Table(NamedTuple):
    """One simulated table."""

    models: list[list[Values]]
    """Per model and dataset [queries] or [runs, queries]."""
    codes: list[Codes | None]


class Methods(NamedTuple):
    """The functions under test."""

    p: Callable[[Values, Values, Codes | None], float]
    interval: Callable[[Table, int, int], Interval]
    """Of model i minus model j over datasets like these."""
    ranks: Callable[[Table], dict[str, tuple[int, int]]]


class Counts(NamedTuple):
    """Shares of tables, in percent."""

    marks: float | None
    """With a false mark; None where models truly differ on a dataset."""
    ranks: float
    """With a wrong rank."""
    covered: float
    """Intervals of a difference that contain 0."""


def now() -> Methods:
    """This version."""

    def clustered(table: Table, model: int) -> list[Values]:
        return [per_cluster(values, codes) for values, codes in zip(table.models[model], table.codes, strict=True)]

    return Methods(
        lambda a, b, codes: p_value([a], [b], [codes], samples=SAMPLES),
        lambda table, i, j: difference_interval(clustered(table, i), clustered(table, j), samples=SAMPLES),
        lambda table: rank_intervals({str(i): clustered(table, i) for i in range(len(table.models))}),
    )


def before(checkout: Path) -> Methods:
    """Version 0.2.0, whose two modules are loaded under other names."""
    ours = sys.modules["harness.metrics.bootstrap"]
    sys.modules["harness.metrics.bootstrap"] = _module("bootstrap_before", checkout)
    old = _module("significance_before", checkout)
    sys.modules["harness.metrics.bootstrap"] = ours

    def mean(values: Values) -> Values:
        return np.asarray(values.mean(axis=0)) if values.ndim > 1 else values

    return Methods(
        lambda a, b, codes: old.randomisation_test(mean(a) - mean(b), samples=SAMPLES),
        lambda table, i, j: old.difference_interval(table.models[i], table.models[j], samples=SAMPLES),
        lambda table: old.rank_intervals({str(i): each for i, each in enumerate(table.models)}, samples=SAMPLES),
    )


def _module(name: str, checkout: Path) -> ModuleType:
    file = checkout / "harness" / "metrics" / f"{name.partition('_')[0]}.py"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec
    assert spec.loader
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def simulate(cell: Cell, rng: np.random.Generator) -> Table:
    """A table of models that are equal in the population of datasets and of runs."""
    run_effects = rng.normal(0, cell.by_run, (cell.models, cell.runs)) if cell.by_run else np.zeros((cell.models, 1))
    models: list[list[Values]] = [[] for _ in range(cell.models)]
    codes: list[Codes | None] = []
    for _ in range(cell.datasets):
        own = _codes(cell, rng)
        n = cell.queries
        hard = rng.normal(0, 20, n)
        for model in range(cell.models):
            runs = 1 if cell.fixed and model == 0 else cell.runs
            effects = run_effects[model, :runs] * (not (cell.fixed and model == 0))
            noise = _noise(cell, own, rng)
            if runs > 1:  # half of the variance is of the run, half of the model
                noise = (noise + np.stack([_noise(cell, own, rng) for _ in range(runs)])) / np.sqrt(2)
            values = hard + rng.normal(0, cell.by_dataset) + noise + (effects[:, None] if runs > 1 else effects[:1])
            models[model].append(values)
        codes.append(own)
    return Table(models, codes)


def _codes(cell: Cell, rng: np.random.Generator) -> Codes | None:
    if cell.cluster <= 1:
        return None
    sizes = rng.integers(1, 2 * cell.cluster, cell.queries)
    found = np.repeat(np.arange(len(sizes)), sizes)[: cell.queries]
    return found.astype(np.int64)


def _noise(cell: Cell, codes: Codes | None, rng: np.random.Generator) -> Values:
    own = rng.normal(0, cell.noise, cell.queries)
    if codes is None:
        return own
    shared = rng.normal(0, cell.noise, codes.max() + 1)[codes]
    return np.asarray(np.sqrt(1 - cell.correlation) * own + np.sqrt(cell.correlation) * shared)


def count(cell: Cell, methods: Methods, tables: int, seed: int = 0) -> Counts:
    """How often a table of the cell is wrong; equal seeds give equal tables."""
    marked = ranked = covered = 0
    for turn in range(tables):
        table = simulate(cell, np.random.default_rng([seed, turn, *cell.key]))
        if not cell.by_dataset:
            p = [
                methods.p(table.models[model][place], table.models[0][place], table.codes[place])
                for model in range(1, cell.models)
                for place in range(cell.datasets)
            ]
            marked += min(holm(p)) <= 0.05
        ranked += any(rank != (1, cell.models) for rank in methods.ranks(table).values())
        intervals = [methods.interval(table, i + 1, i) for i in range(0, min(cell.models - 1, 6), 2)]
        covered += sum(each.low <= 0 <= each.high for each in intervals) / len(intervals)
    return Counts(None if cell.by_dataset else 100 * marked / tables, 100 * ranked / tables, 100 * covered / tables)


def described(cell: Cell) -> str:
    """The setting as a phrase for the table."""
    words = [f"{cell.models} models", f"{cell.datasets} {'dataset' if cell.datasets == 1 else 'datasets'}"]
    words += [f"{cell.runs} runs {'against 1 fixed' if cell.fixed else 'each'}"] if cell.runs > 1 else []
    words += [f"{cell.queries:,} queries"]
    words += [f"clusters of {cell.cluster:g}"] if cell.cluster > 1 else []
    words += ["differing by dataset"] if cell.by_dataset else []
    return ", ".join(words)


def main(*given: str) -> None:
    """Print a Markdown table of the cells, or what a subcommand finds."""
    if given[:1] == ("null",):
        return null(Path(given[1]), *given[2:5])
    if given[:1] == ("published",):
        return published(Path(given[1]))
    tables, checkout = int(given[0]) if given else 250, Path(given[1]) if len(given) > 1 else None
    methods = [*([before(checkout)] if checkout else []), now()]
    rows = []
    for cell in CELLS:
        found = [count(cell, each, tables * (4 if cell.models <= FEW else 1)) for each in methods]
        figures = zip(*found, strict=True)
        rows.append([described(cell), *(_arrow(figure) for figure in figures)])
        print(rows[-1], file=sys.stderr, flush=True)
    heads = ["tables of equal models", "with a false mark", "with a wrong rank", "intervals that cover"]
    print(f"{tables} tables a row, {4 * tables} of 2 or 3 models{', before -> now' if checkout else ''}\n")
    print(tabulate(rows, heads, tablefmt="pipe", disable_numparse=True))


def _arrow(figures: Sequence[float | None]) -> str:
    return " -> ".join("-" if figure is None else f"{figure:.1f}%" for figure in figures)


def null(results: Path, dataset: str, model: str, against: str, *, turns: int = 1000) -> None:
    """Print how often the test finds a difference where the clusters' differences have random signs."""
    evidence = Evidence(read_leaderboard(results))
    models = [evidence.board.label(each) for each in (model, against)]
    ids, values = evidence.paired(models, dataset)
    codes = evidence.clusters.codes(dataset, ids)
    found = cluster_flips(values[models[0]] - values[models[1]], codes, turns)
    print(f"{dataset}, {models[0]} minus {models[1]}: {len(ids):,} queries, false alarms at 5% of {turns:,}:")
    print(f"clusters {100 * found[0]:.1f}%, queries taken as independent {100 * found[1]:.1f}%")


def cluster_flips(differences: Values, codes: Codes | None, turns: int, seed: int = 0) -> tuple[float, float]:
    """Shares of p <= 0.05 with clusters and without, of differences whose clusters have random signs."""
    rng, centred = np.random.default_rng(seed), differences - differences.mean()
    own = np.arange(len(differences)) if codes is None else codes
    flipped = [rng.choice([-1.0, 1.0], int(own.max()) + 1)[own] * centred for _ in range(turns)]
    clustered = np.mean([randomisation_test(cluster_sums(each, codes)) <= 0.05 for each in flipped])
    return float(clustered), float(np.mean([randomisation_test(each) <= 0.05 for each in flipped]))


def published(file: Path, *, tables: int = 400) -> None:
    """Print the share of tables with a wrong rank, for models and datasets drawn from the file."""
    values = complete(file)
    rows = []
    for models in (3, 6, 10):
        for datasets in (3, 5, 10, 14):
            wrong = 100 * dealt(values, models, datasets, tables)
            rows.append([str(models), str(datasets), f"{wrong:.1f}%"])
    print(f"{tables} tables a row, of {values.shape[0]} models and {values.shape[1]} datasets\n")
    print(tabulate(rows, ["models", "datasets", "with a wrong rank"], tablefmt="pipe", disable_numparse=True))


def complete(file: Path) -> NDArray[np.float64]:
    """Published values [models, datasets] x 100 of the models that have the datasets which most models have."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    with file.open(newline="") as stream:
        for row in csv.DictReader(stream):
            found[row["model"]][row["dataset"]] = 100 * float(row["ndcg_at_10"])
    held = defaultdict(int)
    for own in found.values():
        for dataset in own:
            held[dataset] += 1
    common = sorted(held, key=lambda dataset: (-held[dataset], dataset))[:14]
    return np.array([[own[dataset] for dataset in common] for own in found.values() if {*common} <= {*own}])


def dealt(values: Values, models: int, datasets: int, tables: int, seed: int = 0) -> float:
    """Share of tables with a wrong rank, where each dataset's values are dealt to the models at random."""
    rng, wrong = np.random.default_rng(seed), 0
    for _ in range(tables):
        rows = rng.choice(len(values), models, replace=False)
        columns = rng.choice(values.shape[1], datasets, replace=False)
        table = rng.permuted(values[np.ix_(rows, columns)], axis=0)
        ranks = rank_intervals({str(i): [np.array([value]) for value in row] for i, row in enumerate(table)})
        wrong += any(rank != (1, models) for rank in ranks.values())
    return wrong / tables


if __name__ == "__main__":
    main(*sys.argv[1:])
