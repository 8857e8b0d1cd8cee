"""Joined training sets: every row once, in proportion, with the sources recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.types import UserError
from harness_training.data.mixture import join
from harness_training.data.triplets import TrainingSet, write


def made(folder: Path, name: str, count: int, negatives: int = 1) -> TrainingSet:
    source = {"name": name, "split": "train", "fingerprint": {}}
    rows = [(f"{name} {n}", "p", *(f"n{k}" for k in range(negatives))) for n in range(count)]
    return write(folder / name, rows, negatives, lambda _: {"name": name, "seed": 1, "sources": [source]})


def test_rows_are_mixed_in_proportion_and_none_is_lost(tmp_path: Path) -> None:
    sets = [made(tmp_path, "large", 900), made(tmp_path, "small", 100)]
    joined = join(sets, tmp_path / "home")
    rows = list(joined.iter())
    for one in sets:
        assert [row for row in rows if row[0].startswith(one.name)] == list(one.iter())
    for first in (10, 50, 333, 1000):
        assert abs(sum(row[0].startswith("small") for row in rows[:first]) - first / 10) <= 1
    assert (joined.name, joined.rows, joined.trained_on) == ("large+small", 1000, ("large", "small"))


def test_a_joined_set_is_found_again(tmp_path: Path) -> None:
    sets = [made(tmp_path, "a", 3), made(tmp_path, "b", 2)]
    first = join(sets, tmp_path / "home")
    before = first.file.stat().st_mtime_ns
    assert join(sets, tmp_path / "home").file.stat().st_mtime_ns == before
    assert join(sets[:1], tmp_path / "home") is sets[0]


def test_sets_that_do_not_go_together(tmp_path: Path) -> None:
    one = made(tmp_path, "a", 3)
    with pytest.raises(UserError, match="a and a are not all different"):
        join([one, one], tmp_path / "home")
    with pytest.raises(UserError, match=r"a has 1, b has 2.*--negatives"):
        join([one, made(tmp_path, "b", 2, negatives=2)], tmp_path / "home")
    assert not (tmp_path / "home").exists()
