"""Strings that are stored end to end."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest

from harness.storage.strings import FEW, StringColumn, Strings

TEXTS = ["first", "", "häuser", "数", "d" * 300, *(f"doc{number}" for number in range(2 * FEW))]


def column(texts: list[str]) -> StringColumn:
    raw = [text.encode() for text in texts]
    return StringColumn(b"".join(raw), np.cumsum([len(each) for each in raw]))


@pytest.mark.parametrize("rows", [[], [0], [3, 0, 0, 2], range(len(TEXTS)), [1] * FEW, [0] * (FEW + 1)])
def test_rows_are_those_of_a_list(rows: list[int]) -> None:
    strings, expected = Strings(column(TEXTS), np.array(rows, np.int64)), [TEXTS[row] for row in rows]
    assert list(strings) == strings.arrow().to_pylist() == [strings[at] for at in range(len(strings))] == expected
    assert list(strings[1:3]) == expected[1:3]
    order = np.arange(len(rows))[::-1]
    assert list(strings[order]) == expected[::-1]


def test_a_column_of_one_string_has_no_second() -> None:
    assert column(["only"]).take(np.array([0, 0])).to_pylist() == ["only", "only"]


def test_a_mapped_file_can_be_closed_after_use(tmp_path: Path) -> None:
    (tmp_path / "ids").write_bytes(b"abc")
    with (tmp_path / "ids").open("rb") as stream:
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        strings = StringColumn(mapped, np.array([1, 2, 3]))
        assert strings.take(np.array([2, 1])).to_pylist() == ["c", "b"]
        strings.release()
        mapped.close()
