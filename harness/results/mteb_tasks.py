"""What MTEB calls our datasets and measures, both ways. Facts only: mteb itself is not needed."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from harness.datasets import catalog
from harness.storage.safe_load import read_toml

FILE = Path(__file__).with_name("mteb_tasks.toml")
MEASURES = {"nDCG": "ndcg", "AP": "map", "R": "recall", "P": "precision", "RR": "mrr"}
"""Measure of ours -> of MTEB's, each with a cut: ``nDCG@10``, ``ndcg_at_10``."""
ROUNDING = 2e-5
"""What a mean may be off, where it and its parts were rounded to five decimals."""
TRANSLATED = {
    "CQADupstackRetrieval-Fa": "CQADupstack{}Retrieval-Fa",
    "CQADupstackRetrieval-PL": "CQADupstack-{}-PL",
    "CQADupstack-NL": "CQADupstack{}-NL",
}
"""Tasks that are means of 12 others, which are in no catalogue of ours -> how those are named."""


class Task(NamedTuple):
    """A task of MTEB's."""

    name: str
    dataset: str
    """Its repository on the hub; empty: it is the mean of other tasks."""
    split: str = ""
    """What it calls the usual split of ours; empty: the same."""


@cache
def tasks() -> dict[str, Task]:
    """Dataset or group of the catalogue -> its task."""
    entries = read_toml(FILE)
    return {name: Task(e["task"], e.get("dataset", ""), e.get("split", "")) for name, e in entries.items()}


@cache
def dataset_of() -> dict[str, str]:
    """Task -> dataset or group of the catalogue."""
    return {task.name: name for name, task in tasks().items()}


def data_of(task: str) -> frozenset[str]:
    """Tasks on the same data: itself, the group it is in, and the members of the group that it is."""
    name = dataset_of().get(task, "")
    group = name.partition("/")[0]
    named = (group, *catalog.catalogue().groups.get(name, ()))
    return frozenset({task, *(tasks()[each].name for each in named if each in tasks())})


def members(dataset: str) -> tuple[str, ...]:
    """The datasets that a group is the mean of, those of MTEB's translations of CQADupStack included; else none."""
    groups = catalog.catalogue().groups
    if dataset in TRANSLATED:
        return tuple(TRANSLATED[dataset].format(name.partition("/")[2].title()) for name in groups["cqadupstack"])
    return groups.get(dataset, ())


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
