"""Where in a TOML file a value stands: line and column, which `tomllib` does not tell."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Any, NamedTuple

Keys = tuple[str | int, ...]
"""Keys and, in arrays of tables, numbers from 0, from the file's top to a value."""
KEY = r"""(?:"[^"]*"|'[^']*'|[\w-]+)"""
LEFT = re.compile(rf"\s*({KEY}(?:[ \t]*\.[ \t]*{KEY})*)[ \t]*=[ \t]*")
ESCAPE = re.compile(r"\\(?:U.{8}|u.{4}|.)")


class Position(NamedTuple):
    """Both from 1, the column in characters."""

    line: int
    column: int


class Positions:
    """Of every statement of a file that is TOML."""

    def __init__(self, text: str) -> None:
        self._found: dict[Keys, tuple[int, str]] = {}
        self._counts: dict[Keys, int] = {}
        here: Keys = ()
        for line, statement, content in _statements(text.replace("\r\n", "\n")):
            left = LEFT.match(statement)
            here, keys = (here, _keys(left[1])) if left else (self._table(content), ())
            self._found[here + keys] = (line, statement)

    def of(self, keys: Keys) -> Position:
        """Of a value: its statement's line, or that of its key in a statement of many; the file's start if nowhere."""
        for depth in range(len(keys), 0, -1):
            if keys[:depth] in self._found:
                line, statement = self._found[keys[:depth]]
                return _at(line, statement, _place(statement, keys[depth:]))
        return Position(1, 1)

    def within(self, keys: Keys, at: int) -> Position:
        """Of the character ``at`` (from 0) of a text that stands on one line."""
        line, statement = self._found[keys]
        left = LEFT.match(statement)
        place = left.end() if left else 0
        if statement[place : place + 3] in ('""' + '"', "''" + "'"):
            return _at(line, statement, place)
        literal = statement[place] == "'"
        place += 1
        for _ in range(at):
            escape = None if literal else ESCAPE.match(statement, place)
            place = escape.end() if escape else place + 1
        return _at(line, statement, place)

    def _table(self, header: dict[str, Any]) -> Keys:
        """The keys of a header's table; each of an array of tables is numbered, and what is inside joins the last."""
        keys: Keys = ()
        value: Any = header
        while isinstance(value, dict) and value:
            [(key, value)] = value.items()
            keys += (key,)
            if isinstance(value, list):
                self._counts[keys] = self._counts.get(keys, -1) + 1
                [value] = value
            if keys in self._counts:
                keys += (self._counts[keys],)
        return keys


def _statements(text: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Line number, text and content of each; lines are added to an unfinished one until it is TOML."""
    begun, first = "", 1
    for number, line in enumerate(text.split("\n"), 1):
        begun, first = (f"{begun}\n{line}", first) if begun else (line, number)
        try:
            content = tomllib.loads(begun)
        except tomllib.TOMLDecodeError:
            continue
        if content:
            yield first, begun, content
        begun = ""


def _keys(typed: str) -> Keys:
    keys: Keys = ()
    value: Any = tomllib.loads(f"{typed} = 0")
    while isinstance(value, dict):
        [(key, value)] = value.items()
        keys += (key,)
    return keys


def _place(statement: str, inner: Keys) -> int:
    """Where the keys of an inline table stand, one inside the other; the statement's first letter where they do not."""
    place = len(statement) - len(statement.lstrip())
    for key in inner:
        found = re.compile(rf"""(?<![\w-])["']?{re.escape(str(key))}["']?[ \t]*=""").search(statement, place)
        place = found.start() if found else place
    return place


def _at(line: int, statement: str, place: int) -> Position:
    before = statement[:place]
    return Position(line + before.count("\n"), len(before) - before.rfind("\n"))
