"""Lines and columns of what a TOML file holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.types import UserError
from harness_reports.claims.toml_positions import Positions, TomlFile

TEXT = '''# a comment
title = "x"   # = "y"
note = """
[models]
title = 1
"""
lists = [
  1,  # [claim]
  2,
]

[models]
"a b" = "l1"
c.d = 'l2'

[[claim]]
name = "one"
[claim.inner]
deep = true
[[claim]]
  name = "two"
values = { x = 1, "y z" = { w = 2 } }
criterion = "a \\u00e9\\t- b > 1"
'''


@pytest.mark.parametrize(
    ("keys", "sign"),
    [
        (("title",), "title = "),
        (("lists",), "lists = "),
        (("models", "a b"), '"a b" ='),
        (("models", "c", "d"), "c.d ="),
        (("claim", 0), "[[claim]]\nname = "),
        (("claim", 0, "name"), 'name = "one"'),
        (("claim", 0, "inner", "deep"), "deep = "),
        (("claim", 1), '[[claim]]\n  name = "two"'),
        (("claim", 1, "name"), 'name = "two"'),
        (("claim", 1, "values", "x"), "x = 1"),
        (("claim", 1, "values", "y z"), '"y z" ='),
        (("claim", 1, "values", "y z", "w"), "w = 2"),
        (("claim", 1, "lacking"), '[[claim]]\n  name = "two"'),
    ],
)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_positions(keys: tuple, sign: str, ending: str) -> None:
    before = TEXT[: TEXT.index(sign)]
    expected = (before.count("\n") + 1, len(before) - before.rfind("\n"))
    assert Positions(TEXT.replace("\n", ending)).of(keys) == expected


def test_places_within_a_text_count_escapes_as_one() -> None:
    line = next(line for line in TEXT.split("\n") if line.startswith("criterion"))
    decoded = "a é\t- b > 1"
    position = Positions(TEXT).within(("claim", 1, "criterion"), decoded.index("b"))
    assert position.column == line.index("b >") + 1
    assert TEXT.split("\n")[position.line - 1] == line


def test_wrong_toml_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_text('a = 1\nb = "\n')
    with pytest.raises(UserError, match=r"not TOML .*line 2, column"):
        TomlFile(tmp_path / "f.toml")
    (tmp_path / "f.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(UserError, match="not UTF-8"):
        TomlFile(tmp_path / "f.toml")
    with pytest.raises(UserError, match="cannot be read"):
        TomlFile(tmp_path)
