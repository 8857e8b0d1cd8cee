"""Wraps text with Markdown tables to the width of a terminal; output to a pipe or a file is not changed."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

KEYS = ("model", "dataset", "name")
"""Leading columns that are repeated in every part of a table that is split."""
LEAST, LONGEST = 12, 30
"""Minimum width of a column of text, and its maximum if the table has other columns."""


class _Column(NamedTuple):
    """One column of a table, heading first."""

    cells: list[str]
    rule: str
    """The line below its heading."""

    @property
    def width(self) -> int:
        """The width of its longest cell."""
        return max(map(len, self.cells))

    @property
    def right(self) -> bool:
        """Whether it is right-aligned, as numbers are; its cells are then not wrapped."""
        numbers = [cell for cell in self.cells[1:] if cell not in ("", "-")]
        stated = self.rule.endswith(":") and not self.rule.startswith(":")
        return stated or (":" not in self.rule and bool(numbers) and all(map(_is_number, numbers)))


def shown(text: str) -> str:
    """The text for stdout, folded if stdout is a terminal."""
    return folded(text, shutil.get_terminal_size().columns) if sys.stdout.isatty() else text


def folded(text: str, width: int) -> str:
    """The text in lines of at most so many characters: tables cut into parts side by side, sentences wrapped."""
    lines: list[str] = []
    for table, block in groupby(text.splitlines(), key=lambda line: line.startswith("|")):
        block_lines = list(block)
        if max(map(len, block_lines)) <= width:
            lines += block_lines
        elif table:
            lines += _folded_table(block_lines, width)
        else:
            lines += [part for line in block_lines for part in _wrapped(line, width)]
    return "\n".join(lines) + ("\n" if text.endswith("\n") else "")


def _wrapped(line: str, width: int) -> list[str]:
    indent = "  " if line.startswith("- ") else ""
    return textwrap.wrap(line, width, subsequent_indent=indent, break_on_hyphens=False) or [line]


def _folded_table(lines: Sequence[str], width: int) -> Iterator[str]:
    head, rule, *rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]] for line in lines]
    columns = [
        _Column([name, *(row[place] if place < len(row) else "" for row in rows)], rule[place])
        for place, name in enumerate(head)
    ]
    count = next((place for place, column in enumerate(columns) if column.cells[0] not in KEYS), len(columns)) or 1
    keys, others = columns[:count], columns[count:]
    widths = _shared([column.width for column in keys], width // 2 - 3 * count)
    room = width - 1 - sum(each + 3 for each in widths)
    for number, part in enumerate(_parts(others, room)):
        if number:
            yield ""
        yield from _rendered([*keys, *part], [*widths, *_widths(part, room)])


def _shared(wanted: Sequence[int], room: int) -> list[int]:
    """Widths that add up to at most ``room``: narrow columns get their width, wide ones share the rest."""
    widths = list(wanted)
    for left, place in zip(range(len(wanted), 0, -1), sorted(range(len(wanted)), key=wanted.__getitem__), strict=True):
        widths[place] = min(wanted[place], max(LEAST, room // left))
        room -= widths[place]
    return widths


def _parts(columns: Sequence[_Column], room: int) -> list[list[_Column]]:
    """The columns in order, split into parts that fit."""
    parts: list[list[_Column]] = [[]]
    for column in columns:
        needed = sum(_least(each) + 3 for each in [*parts[-1], column])
        if parts[-1] and needed > room:
            parts.append([])
        parts[-1].append(column)
    return parts


def _least(column: _Column) -> int:
    return column.width if column.right else min(column.width, LONGEST)


def _widths(columns: Sequence[_Column], room: int) -> list[int]:
    """A width for each column; columns of text share the remaining space."""
    widths = [max(1, min(_least(column), room - 3)) for column in columns]
    spare = room - sum(each + 3 for each in widths)
    for place, column in enumerate(columns):
        more = max(0, min(spare, column.width - widths[place]))
        widths[place] += more
        spare -= more
    return widths


def _rendered(columns: Sequence[_Column], widths: Sequence[int]) -> Iterator[str]:
    for place in range(len(columns[0].cells)):
        cells = [textwrap.wrap(c.cells[place], w, break_on_hyphens=False) for c, w in zip(columns, widths, strict=True)]
        for line in range(max(map(len, cells)) or 1):
            texts = [cell[line] if line < len(cell) else "" for cell in cells]
            sides = [str.rjust if column.right else str.ljust for column in columns]
            padded = [side(text, w) for side, text, w in zip(sides, texts, widths, strict=True)]
            yield f"| {' | '.join(padded)} |"
        if place == 0:
            yield f"|{'|'.join(_rule(c.rule, w + 2) for c, w in zip(columns, widths, strict=True))}|"


def _rule(stated: str, width: int) -> str:
    left, right = stated.startswith(":"), stated.endswith(":")
    return f"{':' if left else '-'}{'-' * (width - 2)}{':' if right else '-'}"


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"[-+]?[\d,]*\.?\d+(?:e[-+]?\d+)?", text))
