"""Approximate indexes against exact search: recall, nDCG@10, size and speed, with the harness's own command."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tabulate import tabulate

from harness.cli.main import State
from harness.evaluation.open_datasets import open_named
from harness.evaluation.pipeline import Settings, benchmark
from harness.registry.manager import load_registry
from harness.results.store import ResultStore
from harness.search.index_config import parse_index_config
from harness.system.environment import machine

INDEXES = (
    ("Flat", ""),
    ("IVF64,Flat", "nprobe=8"),
    ("IVF64,Flat", "nprobe=32"),
    ("HNSW32", "efSearch=64"),
    ("HNSW32", "efSearch=256"),
    ("SQ8", ""),
    ("PQ48np", ""),
    ("OPQ48,PQ48x4fs,RFlat", "k_factor_rf=10"),
    ("IVF64,PQ48np", "nprobe=8"),
    ("RaBitQ", ""),
)
HEADERS = (
    *("dataset", "index", "recall@10", "nDCG@10", "cost", "recall@100", "bytes a vector"),
    *("train s", "build s", "queries/s", "exact queries/s"),
)


def rows(model: str, dataset: str, results: Path) -> list[list[str]]:
    """One row per index."""
    registry, home = load_registry(), State().home
    opened = open_named(dataset, registry, home)
    recipes = tuple(parse_index_config(*index) for index in INDEXES)
    settings = Settings(home, ResultStore(results), indexes=recipes)
    found = []
    for cell in benchmark([registry.model(model)], [opened], settings):
        if cell.result is None:
            raise SystemExit(f"{cell.model} on {cell.dataset}: {cell.reason}")
        if "index" in cell.result:
            index = cell.result["index"]
            found.append(_row(opened.label, index, cell.result["counts"]["documents"]))
    return found


def _row(dataset: str, index: dict, documents: int) -> list[str]:
    served = index["served"]
    return [
        dataset,
        " ".join(filter(None, (index["factory"], index["search"]))),
        f"{served['recall@10']:.4f}",
        f"{served['nDCG@10']:.4f}",
        f"{served['cost']['nDCG@10']:+.4f}",
        f"{index['recall@100']:.4f}",
        f"{index['bytes'] / documents:.0f}",
        f"{index['train_seconds']:.2f}",
        f"{index['build_seconds']:.2f}",
        f"{served['queries_per_second']['approximate']:.0f}",
        f"{served['queries_per_second']['exact']:.0f}",
    ]


def main(model: str = "minilm", *datasets: str) -> None:
    """Print the table; for the embedded dataset by default."""
    table = []
    for dataset in datasets or ("pydocs",):
        with tempfile.TemporaryDirectory() as results:
            table += rows(model, dataset, Path(results))
    about = machine()
    print(f"{model}; {about['processor']}, {about['cores']} cores, {', '.join(about['features'])}\n")
    sides = ["left", "left", *("right" for _ in HEADERS[2:])]
    print(tabulate(table, HEADERS, tablefmt="pipe", disable_numparse=True, colalign=sides))
