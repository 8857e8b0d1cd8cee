"""Fixed texts that show whether the model behind an endpoint is still the one that its stored vectors are of.

They are encoded (or, by a reranker, scored) before a model is used for the first time, and again before each later use
that sends anything. Each time they are sent twice, in requests of different sizes: the difference between the two is
the endpoint's own noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import plugin_code
from harness.storage.atomic import write_json
from harness.storage.locks import exclusive
from harness.storage.records import read_sealed, seal
from harness.storage.safe_load import fields
from harness.system.log import NOTE
from harness.types import ROLES, ModelError, Progress

TEXTS = (
    "The canary is a small songbird of the finch family.",
    "How do miners notice carbon monoxide?",
    "Vectors of unit length are compared by their inner product.",
)
PAIRS = tuple((query, text) for query in TEXTS[1:] for text in TEXTS)
FLOOR, TIMES_NOISE = 5e-3, 4.0
"""A vector may move by this share of its length, or by so many times the endpoint's own noise, whichever is more. The
same weights in 16 bits differ by about as much from one kind of GPU to another; other weights differ by far more."""
NOISY = 1e-2
"""Share of a vector's length from which the noise itself is worth a note."""


def check_canaries(model: Any, label: str, files: Mapping[str, Path], progress: Progress) -> None:
    """Records the canaries of a model, or compares them with those that are on record.

    Args:
        model: A loaded encoder or reranker.
        label: Name of the model.
        files: ``document`` and ``query``, or of a reranker ``pair`` -> the record.
        progress: Receives a note if the endpoint's answers differ much by themselves.

    Raises:
        ModelError: The model has changed, or a record is damaged.
        PluginError: The model raised something else.
    """
    progress(f"checking that {label} is the model it was", 0, 0)
    with plugin_code(f"{label} raised", type(model).__module__):
        answers = _answers(model)
    noise = max(_distance(first, second) for first, second in answers.values())
    if noise > NOISY:
        progress(f"{NOTE}{label}: one text gives vectors that differ by {noise:.1%} from request to request", 0, 0)
    for side, file in files.items():
        with exclusive(file, progress):
            _compare(label, file, answers[side][0], noise)


def _compare(label: str, file: Path, found: NDArray[np.float64], noise: float) -> None:
    """Writes the record if it is missing; ModelError if the vectors are not those on record."""
    record = _recorded(file, label)
    if record is None:
        day = datetime.now(UTC).date().isoformat()
        write_json(file, seal({"recorded": day, "noise": noise, "vectors": found.tolist()}))
        return
    known, before, day = record
    moved, allowed = _distance(known, found), max(FLOOR, TIMES_NOISE * max(noise, before))
    if moved > allowed:
        raise ModelError(
            f"{label}: the model behind this name has changed: vectors of fixed test texts moved by {moved:.1%} of "
            f"their length since {day} (the endpoint's own noise is {max(noise, before):.2%}); its stored vectors are "
            f"kept and none are added to them; to use the model as it is now, give it a version of its own, as in "
            f"version={datetime.now(UTC).date().isoformat()}."
        )


def _answers(model: Any) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Side -> the same vectors (of a reranker, one row of scores) from one request and from two smaller ones."""
    if hasattr(model, "score"):
        parts = [model.score(pairs).scores for pairs in (PAIRS[:1], PAIRS[1:])]
        whole = model.score(PAIRS).scores
        return {"pair": (whole.astype(np.float64)[None], np.concatenate(parts).astype(np.float64)[None])}
    found: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    for role in ROLES:
        parts = [model.encode(texts, role=role) for texts in (TEXTS[:1], TEXTS[1:])]
        whole = model.encode(TEXTS, role=role)
        found[role] = whole.astype(np.float64), np.concatenate(parts).astype(np.float64)
    return found


def _distance(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The largest distance of two vectors of a text, as a share of the first one's length; 1 for other dimensions."""
    if one.shape != other.shape:
        return 1.0
    lengths = np.maximum(np.linalg.norm(one, axis=1), 1e-12)
    return float((np.linalg.norm(one - other, axis=1) / lengths).max())


def _recorded(file: Path, label: str) -> tuple[NDArray[np.float64], float, str] | None:
    """Vectors, noise and day of the record; None if it is missing."""
    with suppress(FileNotFoundError):
        try:
            found = fields(read_sealed(file), recorded=str, noise=float, vectors=list)
            return np.array(found["vectors"], np.float64), float(found["noise"]), found["recorded"]
        except (ValueError, TypeError) as error:
            raise ModelError(
                f"{label}: {file} is damaged, so that nobody can tell whether its stored vectors are of the model as "
                f"it is now; remove the folder {file.parent} to encode again, or only that file to trust them."
            ) from error
    return None
