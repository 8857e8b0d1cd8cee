"""A training set in memory: its distinct texts, and rows of indices into them.

The dev set holds out the queries with the smallest hashes, independent of the seed, the limit and the order of rows.
Every distinct text is in memory once (MS MARCO's 500,000 triplets: about 0.4 GB).
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
"""At most one query in this many is held out."""

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """Some rows of a training set."""

    columns: list[str]
    """query, positive, negative_1 ... negative_m."""
    texts: Any
    """pyarrow array of the distinct texts of the full set, in order of appearance."""
    ids: Ids
    """[rows, columns], indices into ``texts``."""

    def text(self, places: list[int]) -> list[str]:
        """The texts with these indices."""
        found: list[str] = self.texts.take(places).to_pylist()
        return found

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Split:
    """Training rows, held-out rows and the passages in hash order."""

    train: TrainingRows
    dev: TrainingRows
    """All rows of the held-out queries."""
    passages: Ids
    """Indices of the distinct passages, ordered by hash."""


def read_rows(data: TrainingSet) -> TrainingRows:
    """Read the full training set."""
    import pyarrow

    try:
        with open_parquet(data.file) as opened:
            table = opened.read(data.columns)
    except (pyarrow.ArrowException, OSError, LookupError, MemoryError) as error:
        raise UserError(f"{data.file} cannot be read ({brief(str(error))}); make the training set again.") from error
    chunks = [chunk for name in data.columns for chunk in table[name].chunks]
    coded = pyarrow.chunked_array(chunks).combine_chunks().dictionary_encode()
    ids = coded.indices.to_numpy().astype(np.int64).reshape(len(data.columns), table.num_rows)
    return TrainingRows(data.columns, coded.dictionary, np.ascontiguousarray(ids.T))


def split(rows: TrainingRows, settings: Settings, *, hold_out: bool = True) -> Split:
    """Hold out queries, then take the first ``limit`` remaining rows. UserError where no batch is left."""
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
    made = [TrainingRows(rows.columns, rows.texts, ids) for ids in (train, rows.ids[is_held])]
    return Split(made[0], made[1], passages)


def by_hash(rows: TrainingRows, places: Ids) -> Ids:
    """Sort indices by the hashes of their texts."""
    digests = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in rows.text(places.tolist())]
    return places[np.array(sorted(range(len(places)), key=digests.__getitem__), np.int64)]
