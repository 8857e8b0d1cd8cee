"""Stored results as flat rows, one per cell, for pandas and for JSON: full precision, nothing formatted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.results.schema import Result
from harness.results.store import ResultStore, Unreadable
from harness.types import UserError

if TYPE_CHECKING:
    import pandas

IDENTITY = ("model", "dataset", "split", "status", "partial", "in_domain", "imported", "reason", "command")
SECTIONS = ("measures", "index", "geometry", "seconds", "counts")
MANIFEST = (
    ("k",),
    ("key",),
    ("model", "kind"),
    ("model", "similarity"),
    ("model", "fingerprint", "dtype"),
    ("dataset", "name"),
    ("dataset", "limit"),
    ("dataset", "exclude_self"),
    ("run", "started"),
    ("run", "finished"),
    ("run", "peak_memory_bytes"),
    ("run", "machine", "processor"),
)
"""What of the manifest becomes a column, as in ``manifest.model.fingerprint.dtype``."""


def load_results(folder: str | Path) -> pandas.DataFrame:
    """Every result below a results folder as a DataFrame, one row per cell, in the order of the folders' names.

    Columns are the names of keys joined by dots (``measures.nDCG@10``, ``geometry.documents.isotropy``). What could not
    be read is in ``attrs["skipped"]``, as (path, reason). UserError where there is no result at all.
    """
    import pandas

    found = list(ResultStore(Path(folder).expanduser()).scan())
    results = [one for one in found if not isinstance(one, Unreadable)]
    skipped = [(one.place, one.reason) for one in found if isinstance(one, Unreadable)]
    if not results:
        why = f"there are {len(skipped)} that cannot be read" if skipped else "harness benchmark makes some"
        raise UserError(f"There are no results in {folder} ({why}); name the folder that --results was given.")
    frame = pandas.DataFrame(flat_record(results))
    frame.attrs["skipped"] = skipped
    return frame


def unanswered(result: Result) -> str:
    """A sentence about judged queries that the run has no document for; empty where there is none."""
    missing, queries = result["counts"].get("missing"), result["counts"].get("queries")
    if not missing or not queries:
        return ""
    verb, count = ("has", "counts") if missing == 1 else ("have", "count")
    return f"{missing:,} of {queries:,} judged queries {verb} no document in the run and {count} as 0"


def flat_record(results: Iterable[Result]) -> list[dict[str, Any]]:
    """One row per result, all with the same columns: None where a result lacks one."""
    rows = [_row(result) for result in results]
    columns: dict[str, None] = dict.fromkeys(IDENTITY)
    for section in SECTIONS:
        columns |= {name: None for row in rows for name in row if name.startswith(f"{section}.")}
    return [columns | row for row in rows]


def _row(result: Result) -> dict[str, Any]:
    row = {name: result.get(name) for name in IDENTITY}
    for section in SECTIONS:
        row |= dict(_scalars(section, result.get(section) or {}))
    return row | {".".join(("manifest", *keys)): _found(result["manifest"], keys) for keys in MANIFEST}


def _found(content: Any, keys: Iterable[str]) -> Any:
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content


def _scalars(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Name and value of every number; lists (eigenvalues) and words about how a figure was taken are left out."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key != "definitions":
                yield from _scalars(f"{name}.{key}", inner)
    elif not isinstance(value, list):
        yield name, value
