"""How much of a test set is in a training set: the records of ``harness overlap`` in a results folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.results.store import Unreadable, slug
from harness.storage.atomic import write_json
from harness.storage.records import read_sealed, seal
from harness.storage.safe_load import fields

FORMAT = 1
FOLDER = "overlap"
"""In a results folder; no model's folder, which holds one folder for each dataset."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """The texts of a test set that are, or nearly are, in a training set."""

    training: str
    """Name of the training set."""
    training_key: str
    """Hash of its texts."""
    trained_on: list[str]
    """Datasets whose judgements it was made from."""
    dataset: str
    """Name of the test set."""
    split: str
    corpus: str
    """SHA-256 of the test set's corpus."""
    threshold: float
    """Jaccard similarity from which a text is a near duplicate."""
    queries: dict[str, int]
    """Number of queries: ``total``, ``exact`` and ``near``."""
    documents: dict[str, int]
    """Number of relevant documents, in the same way."""
    seen: dict[str, str]
    """Query -> ``exact`` or ``near`` if the training set has it, ``document`` if it has a relevant document of it."""
    examples: list[dict[str, Any]]
    """Some duplicates with both texts."""

    @property
    def query_share(self) -> float:
        """Share of the queries that have a duplicate."""
        return (self.queries["exact"] + self.queries["near"]) / max(self.queries["total"], 1)

    @property
    def document_share(self) -> float:
        """Share of the relevant documents that have a duplicate."""
        return (self.documents["exact"] + self.documents["near"]) / max(self.documents["total"], 1)

    def concerns(self, result: Mapping[str, Any]) -> bool:
        """Whether the result is on this test set and its model was trained on this training set.

        The model's record names the training set by its key, or a dataset that it was made from.
        """
        manifest = result.get("manifest") or {}
        model, dataset = manifest.get("model") or {}, manifest.get("dataset") or {}
        fingerprint = dataset.get("fingerprint") or {}
        if (dataset.get("name"), result.get("split"), fingerprint.get("corpus")) != (
            self.dataset,
            self.split,
            self.corpus,
        ):
            return False
        trained = (model.get("training") or {}).get("training_set") or {}
        return trained.get("key") == self.training_key or not {*self.trained_on}.isdisjoint(
            model.get("trained_on") or ()
        )


def write_overlap(results: Path, overlap: Overlap) -> Path:
    """Stores the record in the results folder, in place of one of the same names; returns its path."""
    place = results / FOLDER / f"{slug(overlap.dataset)}+{slug(overlap.training)}.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    write_json(place, seal({"format": FORMAT, **asdict(overlap)}))
    return place


def read_overlaps(results: Path) -> tuple[list[Overlap], list[Unreadable]]:
    """The records of a results folder, and those that cannot be read."""
    found, unreadable = list[Overlap](), list[Unreadable]()
    for path in sorted((results / FOLDER).glob("*.json")):
        try:
            found.append(_checked(read_sealed(path)))
        except (OSError, ValueError) as error:
            unreadable.append(Unreadable(path, f"it is not a record of harness overlap, or is damaged ({error})"))
    return found, unreadable


def seen(overlaps: Sequence[Overlap], results: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Query -> how the training set of one of the results' models has it."""
    of = [overlap for overlap in overlaps if any(overlap.concerns(result) for result in results)]
    return {query: how for overlap in of for query, how in overlap.seen.items()}


def _checked(content: Any) -> Overlap:
    """The record; ValueError if a field is missing or of a wrong type."""
    texts = dict.fromkeys(("training", "training_key", "dataset", "split", "corpus"), str)
    lists, objects = (
        dict.fromkeys(("trained_on", "examples"), list),
        dict.fromkeys(("queries", "documents", "seen"), dict),
    )
    checked = fields(content, format=int, threshold=float, **texts, **lists, **objects)
    if checked["format"] != FORMAT:
        raise ValueError(f"format {checked['format']}")
    counts = [
        side.get(name) for side in (checked["queries"], checked["documents"]) for name in ("total", "exact", "near")
    ]
    if not all(isinstance(count, int) for count in counts):
        raise ValueError("its counts are not numbers")
    return Overlap(**{name: checked[name] for name in Overlap.__slots__})
