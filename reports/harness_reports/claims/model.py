"""The claims and expected values of a claims file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.datasets import catalog
from harness.types import UserError
from harness_reports.claims.criteria import ComparisonCriterion, Coverage, Relation
from harness_reports.claims.toml_positions import Position

SHIPPED = Path(__file__).parent / "shipped"
SECTIONS = ("geometry", "seconds", "counts", "index")
"""Sections of a result besides its measures; their values are named by keys joined with dots."""


@dataclass(frozen=True, slots=True)
class Expected:
    """One value that a source states."""

    model: str
    place: str
    """A dataset, group or suite."""
    measure: str
    value: float
    """Measures of rankings in points (x 100), other figures as stored; so is the tolerance."""
    tolerance: float
    relation: Relation
    """``=`` or ``>=``."""
    reproduction: bool
    """Whether it is of the very same queries and documents, so that no sampling stands between the two figures."""
    source: str
    note: str
    at: Position


@dataclass(frozen=True, slots=True)
class Claim:
    """One criterion, or a claim in words that no result decides."""

    name: str
    text: str
    typed: str
    """The criterion as written in the file; empty if there is none."""
    criterion: ComparisonCriterion | Coverage | None
    measure: str
    place: str
    over: Literal["datasets", "queries"]
    """What its interval takes for a sample: datasets and their queries, or the queries of these very datasets."""
    note: str
    at: Position


@dataclass(frozen=True, slots=True)
class Claims:
    """A claims file, read and checked."""

    title: str
    source: str
    models: Mapping[str, tuple[str, ...]]
    """Name -> labels of results; several are seeds of one model, averaged."""
    expected: Sequence[Expected]
    claims: Sequence[Claim]


def find_claims(text: str) -> Path:
    """The file of that path, or the shipped one of that name; UserError if there is neither."""
    path = Path(text).expanduser()
    shipped = {file.stem: file for file in SHIPPED.glob("*.toml")}
    if text in shipped:
        return shipped[text]
    if path.is_file():
        return path
    advice = f"those that come with the harness are {' and '.join(sorted(shipped))}; another is typed as its path."
    raise UserError(f"There is no claims file {text}; {advice}")


def entries(place: str) -> tuple[str, ...]:
    """The datasets and groups that a mean over the place is computed from; for a group, its datasets."""
    known = catalog.catalogue()
    if place in known.suites or place.endswith(".toml"):
        return catalog.suite(place).datasets
    return known.groups.get(place, (place,))


def scale(measure: str) -> float:
    """The factor for a stored value: 100 for measures of rankings, which claims state in points, else 1."""
    return 1.0 if measure.partition(".")[0] in SECTIONS else 100.0
