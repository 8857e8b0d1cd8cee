"""Tables made to fit a terminal: no line too long, nothing lost, and nothing changed for a pipe."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tabulate import tabulate

from harness.cli.folding import folded

ROWS = [
    {"model": "bm25", "dataset": "toy", "nDCG@10": 0.9539, "R@100": 1.0, "AP@1000": 0.9375, "isotropy": None},
    {"model": 'ck@7e8a1c:query_prompt="Given a query, find it: "', "dataset": "toy", "nDCG@10": 0.1, "R@100": 0.5,
     "AP@1000": 0.25, "isotropy": -0.7779},
]  # fmt: skip


def parts(text: str) -> list[list[list[str]]]:
    """Tables as rows of cells, lines that continue a row joined to it."""
    tables = []
    for block in text.split("\n\n"):
        lines = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block.splitlines()]
        head, _, *rest = lines
        rows = [head]
        for cells in rest:
            if cells[1]:  # a second key: the row begins here
                rows.append(cells)
            else:
                rows[-1] = [f"{a} {b}".strip() for a, b in zip(rows[-1], cells, strict=True)]
        tables.append(rows)
    return tables


def test_a_table_is_cut_into_parts_that_fit() -> None:
    text = tabulate(ROWS, headers="keys", tablefmt="github", floatfmt=".4f", missingval="-")
    found = folded(text, 52)
    assert max(map(len, found.splitlines())) <= 52
    first, second = parts(found)
    assert first[0] == ["model", "dataset", "nDCG@10", "R@100"]
    assert second[0] == ["model", "dataset", "AP@1000", "isotropy"]
    assert first[1] == ["bm25", "toy", "0.9539", "1.0000"]
    assert second[2][1:] == ["toy", "0.2500", "-0.7779"]
    assert first[2][0].replace(" ", "") == ROWS[1]["model"].replace(" ", "")  # type: ignore[attr-defined]


def test_what_fits_stays_as_it_is() -> None:
    text = tabulate(ROWS, headers="keys", tablefmt="github")
    assert folded(text, 200) == text
    assert folded("", 80) == ""


def test_sentences_are_wrapped_and_tables_between_them_kept() -> None:
    text = "## Title\n\nA long sentence of many words.\n\n| a |\n|---|\n| b |\n\n- a note of many words here\n"
    assert folded(text, 18) == (
        "## Title\n\nA long sentence of\nmany words.\n\n| a |\n|---|\n| b |\n\n- a note of many\n  words here\n"
    )


CELLS = st.sampled_from(["", "-", "0.25", "a word", "several words of it", "x" * 50, r"a\|b"])


@given(st.lists(st.lists(CELLS, min_size=6, max_size=6), min_size=1, max_size=4), st.integers(60, 200))
def test_no_line_is_too_long_and_no_cell_is_lost(rows: list[list[str]], width: int) -> None:
    heads = ["model", "dataset", "one", "two", "three", "four"]
    text = tabulate([[f"m{n}", *row[1:]] for n, row in enumerate(rows)], heads, tablefmt="pipe", disable_numparse=True)
    found = folded(text, width)
    assert max(map(len, found.splitlines())) <= width
    letters = lambda written: sorted(re.sub(r"[\s|:-]", "", written))  # noqa: E731
    shown = "".join(letters(found))
    assert all(shown.count(letter) >= text.count(letter) for letter in "xw2")


@pytest.mark.parametrize("command", ["models", "datasets"])
def test_a_terminal_of_80_columns_holds_every_line(command: str, home: Path) -> None:
    words = [sys.executable, "-m", "harness", command]
    environment = {**os.environ, "COLUMNS": "80"}
    piped = subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout
    above, below = pty.openpty()
    shown = subprocess.Popen(words, env=environment, stdout=below, stderr=subprocess.DEVNULL)
    os.close(below)
    text = b""
    while True:
        try:
            data = os.read(above, 1 << 16)
        except OSError:  # how Linux ends it
            break
        if not data:
            break
        text += data
    os.close(above)
    assert shown.wait() == 0
    lines = text.decode().splitlines()
    assert max(map(len, piped.splitlines())) > 80
    assert max(map(len, lines)) <= 80
    assert {line.split("|")[1].strip() for line in piped.splitlines()} <= {
        line.split("|")[1].strip() for line in lines if line
    } | {""}
