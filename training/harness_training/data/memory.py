"""A training set in memory as numbers: its distinct texts, and per row the places of its texts among them.

Queries held out for the dev set are the ones with the smallest hashes, so that they are the same whatever the seed, the
limit and the order of rows. Memory holds every distinct text once (MS MARCO's 500,000 triplets: about 0.4 GB).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.download.http import brief
from harness.storage.parquet import open_parquet
from harness.types import UserError
from harness_training.data.triplets import TrainingSet
from harness_training.experiment.settings import Settings

DEV_SHARE = 10
"""At most one query in so many is held out."""

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of a training set."""

    columns: list[str]
    """query, positive, negative_1 ... negative_m."""
    texts: Any
    """pyarrow array of the distinct texts of the whole set, in the order in which they come."""
    ids: Ids
    """[rows, columns], places in ``texts``."""

    def text(self, places: list[int]) -> list[str]:
        """The texts at these places."""
        found: list[str] = self.texts.take(places).to_pylist()
        return found

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Split:
    """What is trained on, what is held out, and passages by the hash of their texts."""

    train: Rows
    dev: Rows
    """Every row of the queries held out."""
    passages: Ids
    """Places of the set's distinct passages, in an order that their hashes decide."""


def read_rows(data: TrainingSet) -> Rows:
    """The whole training set."""
    import pyarrow

    try:
        with open_parquet(data.file) as opened:
            table = opened.read(data.columns)
    except (pyarrow.ArrowException, OSError, LookupError, MemoryError) as error:
        raise UserError(f"{data.file} cannot be read ({brief(str(error))}); make the training set again.") from error
    chunks = [chunk for name in data.columns for chunk in table[name].chunks]
    coded = pyarrow.chunked_array(chunks).combine_chunks().dictionary_encode()
    ids = coded.indices.to_numpy().astype(np.int64).reshape(len(data.columns), table.num_rows)
    return Rows(data.columns, coded.dictionary, np.ascontiguousarray(ids.T))


def split(rows: Rows, settings: Settings, *, hold_out: bool = True) -> Split:
    """Holds queries out, then takes the first ``limit`` rows of the rest. UserError where no batch is left."""
    queries = np.unique(rows.ids[:, 0])
    count = min(settings.dev_queries, len(queries) // DEV_SHARE) if hold_out else 0
    if hold_out and not count:
        raise UserError(
            f"The training set has {len(queries)} queries, too few to hold some out for choosing the checkpoint; "
            f"give a dev set with --dev FOLDER, or at least {DEV_SHARE} queries."
        )
    held = by_hash(rows, queries)[:count]
    is_held = np.isin(rows.ids[:, 0], held)
    train = rows.ids[~is_held][: settings.limit or None]
    if len(train) < settings.batch_size:
        raise UserError(
            f"{len(train)} rows are left for training, fewer than the batch of {settings.batch_size}; "
            f"give more rows or a smaller batch_size."
        )
    passages = by_hash(rows, np.unique(rows.ids[:, 1:]))
    made = [Rows(rows.columns, rows.texts, ids) for ids in (train, rows.ids[is_held])]
    return Split(made[0], made[1], passages)


def by_hash(rows: Rows, places: Ids) -> Ids:
    """The places in the order of their texts' hashes."""
    digests = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in rows.text(places.tolist())]
    return places[np.array(sorted(range(len(places)), key=digests.__getitem__), np.int64)]
