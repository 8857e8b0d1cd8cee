"""A built index as a folder that plain FAISS can serve, without this project."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from harness.datasets.beir import Dataset
from harness.models.runner import Prepared, dataset_vectors
from harness.search.faiss_index import INDEX, build, contents, metric_of
from harness.search.index_config import Recipe
from harness.storage.atomic import disk_errors, sha256_file, whole_folder, write_json
from harness.types import Similarity, UserError

IDS, ABOUT = "ids.json", "about.json"
ID_ROWS = 65_536
QUERIES: dict[Similarity, str] = {
    "cosine": "encode the query as this model encodes queries, scale it to length 1, search",
    "euclidean": "encode the query as this model encodes queries, search",
    "dot": "encode the query as this model encodes queries, search",
}
VALUES: dict[tuple[Similarity, str], str] = {
    ("cosine", "L2"): "squared Euclidean distance of unit vectors, 2 - 2 cosine; smaller is better",
    ("cosine", "inner product"): "cosine, 0 for a zero vector; greater is better",
    ("euclidean", "L2"): "squared Euclidean distance; smaller is better",
    ("dot", "inner product"): "inner product; greater is better",
}


def refuse_existing(folder: Path) -> None:
    """UserError where something is already."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already and not empty; name another folder with -o.")


def export(model: Prepared, dataset: Dataset, recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Writes index.faiss, ids.json (a list of the document ids, in the order of the index's rows) and about.json.

    The folder appears whole or not at all. The index is the stored one where there is one: the very file that was
    measured. UserError where the folder holds something. Returns about.json.
    """
    refuse_existing(folder)
    documents = dataset_vectors(model, dataset)["document"][0]
    known = contents(documents)
    made = build(recipe, documents, known, model.similarity, model.home, model.progress)
    with disk_errors(folder), whole_folder(folder) as whole:
        shutil.copyfile(made.folder / INDEX, whole / INDEX)
        if sha256_file(whole / INDEX) != made.record.sha256:
            raise UserError(f"{made.folder / INDEX} changed while it was copied; run the same command again.")
        _write_ids(dataset, whole / IDS)
        about = {
            "model": model.label,
            "model_key": model.ref.key,
            "dataset": dataset.label,
            "dataset_fingerprint": dataset.fingerprint,
            "similarity": model.similarity,
            "query": QUERIES[model.similarity],
            "values": VALUES[model.similarity, metric_of(model.similarity, known)],
            "search": recipe.search,
            "files": {INDEX: made.record.sha256, IDS: sha256_file(whole / IDS)},
            "index": asdict(made.record),
        }
        write_json(whole / ABOUT, about)
    return about


def _write_ids(dataset: Dataset, path: Path) -> None:
    """As JSON: of an id's characters, U+0085 and U+2028 among them, none can be taken for the end of a line."""
    total = len(dataset.corpus)
    with path.open("w", encoding="ascii", newline="\n") as stream:
        for start in range(0, total, ID_ROWS):
            ids = dataset.corpus.ids(np.arange(start, min(total, start + ID_ROWS)))
            stream.writelines(f"{',' if start + row else '['}\n{json.dumps(each)}" for row, each in enumerate(ids))
        stream.write("\n]\n")
