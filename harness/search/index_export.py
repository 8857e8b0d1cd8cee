"""Export a built index as a folder that plain FAISS can serve without this project."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from harness.datasets.beir import Dataset
from harness.models.runner import Prepared, dataset_vectors
from harness.search.faiss_index import INDEX, build_index, metric_of, summarise
from harness.search.index_config import IndexConfig
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
    """Raise UserError if the folder exists and is not empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not empty; name another folder with -o.")


def export_index(model: Prepared, dataset: Dataset, config: IndexConfig, folder: Path) -> dict[str, Any]:
    """Write index.faiss, ids.json (the document ids in the order of the index rows) and about.json.

    The folder is created atomically. If the index is stored, the measured file itself is copied.

    Returns:
        The content of about.json.

    Raises:
        UserError: the folder exists and is not empty.
    """
    refuse_existing(folder)
    documents = dataset_vectors(model, dataset)["document"][0]
    summary = summarise(documents)
    built = build_index(config, documents, summary, model.similarity, model.home, model.progress)
    with disk_errors(folder), whole_folder(folder) as output:
        shutil.copyfile(built.folder / INDEX, output / INDEX)
        if sha256_file(output / INDEX) != built.record.sha256:
            raise UserError(f"{built.folder / INDEX} changed while it was copied; run the same command again.")
        _write_ids(dataset, output / IDS)
        about = {
            "model": model.label,
            "model_key": model.ref.key,
            "dataset": dataset.label,
            "dataset_fingerprint": dataset.fingerprint,
            "similarity": model.similarity,
            "query": QUERIES[model.similarity],
            "values": VALUES[model.similarity, metric_of(model.similarity, summary)],
            "search": config.search,
            "files": {INDEX: built.record.sha256, IDS: sha256_file(output / IDS)},
            "index": asdict(built.record),
        }
        write_json(output / ABOUT, about)
    return about


def _write_ids(dataset: Dataset, path: Path) -> None:
    """Write the ids as JSON, which escapes all line separators (U+0085, U+2028) in an id."""
    total = len(dataset.corpus)
    with path.open("w", encoding="ascii", newline="\n") as stream:
        for start in range(0, total, ID_ROWS):
            ids = dataset.corpus.ids(np.arange(start, min(total, start + ID_ROWS)))
            stream.writelines(f"{',' if start + row else '['}\n{json.dumps(each)}" for row, each in enumerate(ids))
        stream.write("\n]\n")
