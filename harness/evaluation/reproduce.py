"""Compares a stored result with the result of running it again: equal, within the noise floor, or different.

The noise floor is what arithmetic alone may do to a mean over queries. Where model, dataset and depth are the same by
their fingerprints, sums of products still depend on processor, libraries and batch. Noise of 1e-3 of a vector's length
(float32 has 1e-6), added to MiniLM's vectors of SciFact (300 queries), moved no measure by more than 7e-6; 3e-3, as in
16-bit arithmetic, moved nDCG@10 by up to 0.0016 and RR@10 by 0.0017. So a difference up to 0.0005 is noise, and up to
0.002 where anything is 16-bit. Where a fingerprint differs it is another experiment, and only equal figures will do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from harness.results.schema import Result
from harness.storage.atomic import sha256_file

FLOOR, FLOOR_16_BIT = 0.0005, 0.002
ROUNDING = 1e-9
"""What a sum of equal scores may differ by."""
RUN = "run.trec.gz"
DECIDING = (("model", "fingerprint"), ("model", "similarity"), ("dataset", "fingerprint"), ("dataset", "limit"), ("k",))
CIRCUMSTANCES = (("run", "versions"), ("run", "machine"), ("run", "git"), ("run", "search"))
HASH = re.compile("[0-9a-f]{40,}")
LONGEST = 40
"""Characters of a value that a sentence shows; hashes are cut to twelve."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a cell, as recorded and as it is now."""

    name: str
    old: float
    new: float | None
    """None if the new result lacks it."""

    @property
    def difference(self) -> float:
        """New minus old; infinite where there is no new one."""
        return float("inf") if self.new is None else self.new - self.old

    @property
    def shift(self) -> float:
        """Size of the difference, relative for figures beyond 1."""
        return abs(self.difference) / max(1.0, abs(self.old))


@dataclass(frozen=True, slots=True)
class Verification:
    """A cell's verdict."""

    model: str
    dataset: str
    verdict: Literal["OK", "OKish", "FAIL"]
    reason: str
    figures: list[Figure] = field(default_factory=list)
    floor: float = 0.0
    """The largest `Figure.shift` that counts as noise here; 0 where fingerprints differ."""
    differs: list[str] = field(default_factory=list)
    """What the two manifests do not agree on."""

    @property
    def widest(self) -> Figure | None:
        """The value with the largest difference; the first if none differs by more than rounding."""
        most = max(self.figures, key=lambda figure: figure.shift, default=None)
        return most if most and most.shift > ROUNDING else next(iter(self.figures), None)


def verify(folder: Path, old: Result, new: Result) -> Verification:
    """Compares a recorded cell, whose files are in ``folder``, with the result of running it again."""
    before, after = old["manifest"], new["manifest"]
    other = [*_differing(before, after, DECIDING)]
    differs = [*other, *_differing(before, after, CIRCUMSTANCES)]
    figures = [Figure(name, value, new["measures"].get(name)) for name, value in old["measures"].items()]
    isotropy = [(result["geometry"].get("documents") or {}).get("isotropy") for result in (old, new)]
    if isotropy[0] is not None:
        figures.append(Figure("isotropy", isotropy[0], isotropy[1]))
    floor = 0.0 if other else FLOOR_16_BIT if _is_16_bit(before["model"]) else FLOOR
    files = before.get("files", {})
    changed = [name for name, digest in files.items() if _digest(folder / name) not in (digest, "")]
    absent = [name for name in files if not (folder / name).is_file()]
    differs += [f"{name} is missing beside its result.json" for name in absent]
    same_run = RUN in files and files[RUN] == after.get("files", {}).get(RUN)

    def ended(verdict: Literal["OK", "OKish", "FAIL"], reason: str) -> Verification:
        return Verification(old["model"], old["dataset"], verdict, reason, figures, floor, differs)

    if changed:
        return ended("FAIL", f"{' and '.join(changed)} changed after it was written: its checksum is another")
    if all(figure.difference == 0 for figure in figures):
        return ended("OK", "run byte-identical" if same_run else "equal to the last digit")
    if same_run and all(figure.shift <= ROUNDING for figure in figures):
        return ended("OK", "run byte-identical")
    if same_run:
        return ended("FAIL", "the run is the same to the byte, but the recorded figures are not what it gives")
    if other:
        return ended("FAIL", f"another experiment: {other[0]}")
    if all(figure.shift <= floor for figure in figures):
        return ended("OKish", f"within the noise floor of {floor:g}")
    return ended("FAIL", f"beyond the noise floor of {floor:g}")


def failed(old: Result, reason: str) -> Verification:
    """The verdict on a cell that fails when it runs again."""
    return Verification(old["model"], old["dataset"], "FAIL", f"it fails now: {reason}")


def _is_16_bit(model: Mapping[str, Any]) -> bool:
    """Whether the model or a member computes, or keeps its vectors, in 16 bits."""
    own = model.get("fingerprint", {})
    narrow = {str(own.get("dtype")), str(own.get("storage"))} & {"bfloat16", "float16"}
    return bool(narrow) or any(_is_16_bit(member) for member in model.get("members", ()))


def _digest(path: Path) -> str:
    return sha256_file(path) if path.is_file() else ""


def _differing(before: Any, after: Any, places: tuple[tuple[str, ...], ...]) -> Iterator[str]:
    for keys in places:
        old, new = before, after
        for key in keys:
            old, new = (side.get(key) if isinstance(side, dict) else None for side in (old, new))
        yield from _unequal(".".join(keys), old, new)


def _unequal(name: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            yield from _unequal(f"{name}.{key}", old.get(key), new.get(key))
    elif old != new:
        yield f"{name}: {_shown(old)} -> {_shown(new)}"


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if HASH.fullmatch(text):
        return text[:12]
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 4]} ..."
