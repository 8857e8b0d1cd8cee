"""Results on disk: RESULTS/MODEL/DATASET/ holds result.json, per_query.parquet and run.trec.gz, or nothing at all."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.metrics.clusters import Clusters, query_clusters
from harness.metrics.measures import Scores
from harness.results.schema import Result, find_fault
from harness.storage.arrow import arrow_numbers, arrow_strings
from harness.storage.atomic import recover, sha256_file, whole_folder, write_json
from harness.storage.parquet import open_parquet
from harness.storage.records import Damaged, read_sealed, seal, unsealed
from harness.storage.safe_load import Corrupt, read_json
from harness.storage.temporary_files import sweep_tree
from harness.types import Qrels, Query, UserError

RUN, PER_QUERY = "run.trec.gz", "per_query.parquet"
CLUSTER = "cluster"
"""Column of per_query.parquet; only there if some cluster has several queries."""
"""Files beside result.json."""
FEW_ROWS, ROWS_PER_BYTE = 100_000, 2
"""So many queries any file of scores may have, and a larger one so many for each of its bytes."""
LONGEST = 200
"""Bytes of a label in a folder's name, which most file systems end at 255."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A result that is there but cannot be used, and why."""

    path: Path
    reason: str

    @property
    def place(self) -> str:
        """The path as text."""
        return as_text(self.path)


def as_text(path: Path | str) -> str:
    """A path that can be written anywhere: what is not UTF-8 in it is written as escapes."""
    return str(path).encode(errors="backslashreplace").decode()


def slug(label: str) -> str:
    """A label as a folder name: ``:`` becomes ``+``; an unusual or long one gets a hash."""
    safe = re.sub(r"^\.|[^\w.,=@:-]", "_", label).encode()[:LONGEST].decode(errors="ignore")
    name = safe.replace(":", "+")
    return (
        name
        if safe == label and label
        else f"{name}-{hashlib.sha256(label.encode(errors='surrogatepass')).hexdigest()[:6]}"
    )


@dataclass(frozen=True, slots=True)
class NewResult:
    """A cell that is being written."""

    folder: Path
    """For its files."""

    def finish(self, result: Result) -> Result:
        """Writes result.json, with the checksums of the files in the folder; returns the result with them."""
        if fault := find_fault(result):
            raise ValueError(f"the result of {result['model']} on {result['dataset']} is not valid: {fault}")
        result["manifest"]["files"] = {path.name: sha256_file(path) for path in sorted(self.folder.iterdir())}
        write_json(self.folder / "result.json", seal(result))
        return result


class ResultStore:
    """The results folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._swept = False

    def folder(self, model: str, dataset: str) -> Path:
        """Where one cell lives."""
        return self.root / slug(model) / slug(dataset)

    def finished(
        self, model: str, dataset: str, key: str, older: Callable[[Result], str] = lambda _: ""
    ) -> Result | None:
        """The cell's result if it is finished, was made under this very key, and its files are undamaged.

        ``older`` gives the key under which an earlier version would have stored a result.
        """
        if not self._swept:  # also what a killed process left of cells that are not run now
            sweep_tree(self.root, depth=1)
            self._swept = True
        folder = self.folder(model, dataset)
        recover(folder)
        found = read_result(folder)
        if isinstance(found, Unreadable) or found["status"] != "ok":
            return None
        if (stated := found["manifest"].get("key")) != key and (not stated or stated != older(found)):
            return None
        files = found["manifest"].get("files") or {}
        intact = all((folder / f).is_file() and sha256_file(folder / f) == digest for f, digest in files.items())
        return found if intact else None

    @contextmanager
    def writing(self, model: str, dataset: str) -> Iterator[NewResult]:
        """A folder for a cell's files, which replaces the stored one when the block ends.

        Nothing is stored if the block raises, or if it ends before `NewResult.finish`.

        Raises:
            UserError: If the folder's path leads out of the results folder by a link.
        """
        target = self.folder(model, dataset)
        if not target.resolve().is_relative_to(self.root.resolve()):
            raise UserError(f"{target} leads out of {self.root} by a link; remove the link, or name other results.")
        with whole_folder(target) as folder:
            new = NewResult(folder)
            yield new
            if not (folder / "result.json").exists():
                raise ValueError(f"no result was written for {model} on {dataset}")

    def write(self, model: str, dataset: str, result: Result) -> Result:
        """Stores a result without other files."""
        with self.writing(model, dataset) as new:
            return new.finish(result)

    def write_failure(self, result: Result) -> None:
        """Stores a failed cell unless a finished one is stored."""
        folder = self.folder(result["model"], result["dataset"])
        recover(folder)
        found = read_result(folder)
        if not (folder / "result.json").exists() or (not isinstance(found, Unreadable) and found["status"] != "ok"):
            self.write(result["model"], result["dataset"], result)

    def scan(self) -> Iterator[Result | Unreadable]:
        """Every result below the root, in name order."""
        return map(read_result, self.folders())

    def folders(self) -> Iterator[Path]:
        """Where there is a result, in name order."""
        for aside in self.root.glob("*/.*.old"):
            recover(aside.with_name(aside.name.removeprefix(".").removesuffix(".old")))
        for file in sorted(self.root.glob("*/*/result.json")):
            if not file.parent.name.startswith(".") and not file.parent.parent.name.startswith("."):
                yield file.parent


def read_result(folder: Path, *, edited: bool = False) -> Result | Unreadable:
    """One cell's result.json, or why it cannot be used; ``edited`` reads it even if its checksum is wrong."""
    path = folder / "result.json"
    try:
        content = unsealed(read_json(path)) if edited else read_sealed(path)
    except FileNotFoundError:
        return Unreadable(path, "there is no result")
    except (OSError, ValueError) as error:
        fault = "is damaged, or was edited" if isinstance(error, Damaged) else "is not readable JSON"
        return Unreadable(path, f"it {fault} ({error})")
    fault = find_fault(content)
    return Unreadable(path, fault) if fault else content


def write_per_query(
    path: Path,
    queries: Sequence[Query],
    qrels: Qrels,
    scores: Scores,
    groups: Mapping[str, str] | None = None,
    clusters: Clusters | None = None,
) -> None:
    """One row per judged query: query_id, query (text), relevant (judgements above 0), every measure (float64).

    Where queries are not independent, the column ``cluster`` numbers the clusters of `query_clusters`; ``groups`` as
    there. ``clusters``: those of the queries of the judgements, if they are known.
    """
    import pyarrow
    import pyarrow.parquet

    texts = {query.id: query.text for query in queries}
    relevant = [sum(grade > 0 for grade in qrels[query].values()) for query in scores.query_ids]
    columns: dict[str, Any] = {
        "query_id": _texts(scores.query_ids),
        "query": _texts([texts.get(query, "") for query in scores.query_ids]),
        "relevant": arrow_numbers(np.array(relevant, np.int64)),
    }
    if clusters is None or len(clusters.codes) != len(scores.query_ids) or scores.query_ids != [*qrels]:
        clusters = query_clusters(qrels, scores.query_ids, groups)
    columns |= {} if clusters.trivial else {CLUSTER: arrow_numbers(clusters.codes)}
    columns |= {name: arrow_numbers(scores.values[:, place]) for place, name in enumerate(scores.measures)}
    # No writer version in the file: equal scores give equal bytes. Dictionaries and statistics make it larger, and
    # slower to read.
    plain: dict[str, Any] = {"use_dictionary": False, "write_statistics": False, "store_schema": False}
    pyarrow.parquet.write_table(pyarrow.table(columns), path, compression="zstd", **plain)


def _texts(texts: Sequence[str]) -> Any:
    import pyarrow

    return arrow_strings(texts).cast(pyarrow.string())


def with_stored(scores: Scores, path: Path) -> Scores:
    """The scores and the further measures of another cell's file, which is known to be undamaged.

    ValueError where it is of other queries than the scores.
    """
    with open_parquet(path) as file:
        table = file.read(file.names)
    if table["query_id"].to_pylist() != scores.query_ids:
        raise ValueError(f"{path} is of other queries")
    known = ("query_id", "query", "relevant", CLUSTER, *scores.measures)
    held = [name for name in table.column_names if name not in known]
    values = np.column_stack([*(np.from_dlpack(table[name].combine_chunks()) for name in held), scores.values])
    return replace(scores, measures=(*held, *scores.measures), values=values)


def read_columns(path: Path, names: Sequence[str]) -> Any:
    """Columns of a per_query.parquet as a table of Arrow. Raises what pyarrow raises, and OSError."""
    with open_parquet(path) as table:
        if table.rows > max(FEW_ROWS, ROWS_PER_BYTE * table.size):  # ids that differ take at least half a byte each
            raise Corrupt(f"{table.rows:,} rows in {table.size:,} bytes cannot be the scores of as many queries")
        return table.read(names)


def read_per_query(folder: Path, measure: str) -> NDArray[np.float64]:
    """One measure of one finished cell, [judged queries], in the order of the judgements."""
    import pyarrow

    path = folder / PER_QUERY
    try:
        return read_columns(path, [measure])[measure].to_numpy().astype(np.float64)  # type: ignore[no-any-return]
    except (pyarrow.ArrowException, OSError, ValueError, LookupError, TypeError, MemoryError) as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(f"{path} cannot be read ({why}); make it again with harness benchmark --force.") from None


def read_clusters(folder: Path) -> NDArray[np.int64] | None:
    """The cluster of each judged query of a finished cell; None if every query is its own."""
    with open_parquet(folder / PER_QUERY) as file:
        if CLUSTER not in file.names:
            return None
        return file.read([CLUSTER])[CLUSTER].to_numpy().astype(np.int64)  # type: ignore[no-any-return]
