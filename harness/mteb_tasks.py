"""What MTEB calls our datasets and measures, both ways. Facts only: mteb itself is not needed."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from harness import catalog
from harness.bounded import read_toml

FILE = Path(__file__).with_name("mteb_tasks.toml")
MEASURES = {"nDCG": "ndcg", "AP": "map", "R": "recall", "P": "precision", "RR": "mrr"}
"""Measure of ours -> of MTEB's, each with a cut: ``nDCG@10``, ``ndcg_at_10``."""


class Task(NamedTuple):
    """A task of MTEB's."""

    name: str
    dataset: str
    """Its repository on the hub."""
    split: str = ""
    """What it calls the usual split of ours; empty: the same."""


@cache
def tasks() -> dict[str, Task]:
    """Dataset of the catalogue -> its task."""
    entries = read_toml(FILE)
    return {name: Task(e["task"], e["dataset"], e.get("split", "")) for name, e in entries.items()}


@cache
def dataset_of() -> dict[str, str]:
    """Task -> dataset of the catalogue."""
    return {task.name: name for name, task in tasks().items()}


def usual_split(dataset: str) -> tuple[str, str]:
    """What we and MTEB call the split that a dataset's name alone means; ``test`` for one that we do not know."""
    spec = catalog.catalogue().datasets.get(dataset)
    ours = spec.split if spec else "test"
    return ours, tasks()[dataset].split or ours if dataset in tasks() else ours


def theirs(measure: str) -> str | None:
    """``nDCG@10`` -> ``ndcg_at_10``; None for a measure that MTEB has not."""
    name, _, cut = measure.partition("@")
    return f"{MEASURES[name]}_at_{cut}" if name in MEASURES and cut.isdigit() else None


def ours(measure: str) -> str | None:
    """``ndcg_at_10`` -> ``nDCG@10``; None for one that has no equal here."""
    found = re.fullmatch(r"([a-z]+)_at_([0-9]+)", measure)
    names = {their: our for our, their in MEASURES.items()}
    return f"{names[found[1]]}@{found[2]}" if found and found[1] in names else None
