"""A TOML file whose errors are reported with line and column, which `tomllib` does not give for values."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from harness.datasets.catalog import unknown
from harness.storage.safe_load import parse_toml, read_text
from harness.types import UserError

Keys = tuple[str | int, ...]
"""Keys and, in arrays of tables, numbers from 0, from the file's top to a value."""
KEY = r"""(?:"[^"]*"|'[^']*'|[\w-]+)"""
LEFT = re.compile(rf"\s*({KEY}(?:[ \t]*\.[ \t]*{KEY})*)[ \t]*=[ \t]*")
ESCAPE = re.compile(r"\\(?:U.{8}|u.{4}|.)")
PATIENCE = 1 << 20
"""Characters that are read to find statements: one over thousands of lines is read again with each."""
KINDS = {str: 'text ("...")', dict: "a table", bool: "true or false"}


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


class TomlFile:
    """Its content, asked for by keys and type; whatever is not as it must be is a UserError with its place."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            text = read_text(path).replace("\r\n", "\n").replace("\r", "\n")
            self.content = parse_toml(text)
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}); check the path.") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not UTF-8 text; save the file as UTF-8.") from error
        except tomllib.TOMLDecodeError as error:
            said = str(error).replace("at end of document", f"at line {text.rstrip().count(chr(10)) + 1}, its last one")
            raise UserError(f"{path} is not TOML ({said}); fix that line.") from error
        except ValueError as error:
            raise UserError(f"{path} cannot be read ({error}); check the path.") from error
        self._text = text

    @cached_property
    def positions(self) -> Positions:
        """The positions of its statements, computed for the first error."""
        return Positions(self._text)

    def fault(self, keys: Keys, reason: str, at: int | None = None) -> UserError:
        """The sentence for what is wrong with a value, or with a text from its character ``at`` on."""
        line, column = self.positions.of(keys) if at is None else self.positions.within(keys, at)
        return UserError(f"{self.path}, line {line}, column {column}: {reason.rstrip('.?')}.")

    def at(self, keys: Keys) -> Any:
        """The value under these keys; None if there is none."""
        value: Any = self.content
        for key in keys:
            value = value[key] if isinstance(key, int) else value.get(key) if isinstance(value, dict) else None
        return value

    def get(self, keys: Keys, kind: type, default: Any) -> Any:
        """A value of that kind, or the default."""
        value = self.at(keys)
        if value is not None and not isinstance(value, kind):
            raise self.fault(keys, f"{keys[-1]} is {value!r}, but it must be {KINDS[kind]}")
        return default if value is None else value

    def number(self, keys: Keys, default: float | None = None) -> float:
        """A finite number."""
        value = default if self.at(keys) is None else self.at(keys)
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise self.fault(keys, f"{keys[-1]} is {value!r}, but it must be a finite number")
        return float(value)

    def texts(self, keys: Keys) -> tuple[str, ...]:
        """A text or a list of texts; empty if there is none."""
        value = self.at(keys)
        listed = [] if value is None else [value] if isinstance(value, str) else value
        if not isinstance(listed, list) or not all(isinstance(each, str) and each for each in listed):
            raise self.fault(keys, f"{keys[-1]} is {value!r}, but it must be text or a list of texts")
        return tuple(listed)

    def table(self, keys: Keys, allowed: Sequence[str]) -> None:
        """Checks that a table has no other keys."""
        for key in self.at(keys):
            if key not in allowed:
                raise self.fault((*keys, key), unknown("key", key, allowed))

    def tables(self, key: str) -> list[Keys]:
        """The keys of every table of an array."""
        tables = self.content.get(key, [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise self.fault((key,), f"{key} must be tables, each under [[{key}]]")
        return [(key, number) for number in range(len(tables))]


def _statements(text: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Line number, text and content of each; lines are added to an unfinished one until it is TOML."""
    begun, first, left = "", 1, PATIENCE
    for number, line in enumerate(text.split("\n"), 1):
        begun, first = (f"{begun}\n{line}", first) if begun else (line, number)
        if (left := left - len(begun)) < 0:
            return
        try:
            content = parse_toml(begun)
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
