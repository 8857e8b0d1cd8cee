"""Parses the criterion of a claim; nothing is ever executed.

The grammar::

    criterion  = comparison | coverage
    comparison = [ NAME "of" ] sum RELATION sum [ "on" NAME ]
    sum        = [ "-" ] item { ( "+" | "-" ) item }
    item       = NUMBER | NAME
    coverage   = ( "all" [ NUMBER ] | NAME { "," NAME } ) "measured" [ "on" NAME ]
    RELATION   = ">=" | ">" | "<=" | "<"

The NAME before "of" is a measure, that after "on" a dataset, group or suite, any other a model. A NAME is bare, or in
single quotes where it holds a blank, a comma, a relation, or is a word of the language. Names may hold ``-`` and ``+``,
so that a sign between two of them has blanks around it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Literal, NamedTuple, cast

Relation = Literal[">=", ">", "<=", "<", "="]
"""``=`` is for expected values alone."""
WORDS = ("of", "on", "all", "measured")
TOKEN = re.compile(
    r"\s*(?:(?P<quoted>'[^']*')|(?P<relation>>=|<=|>|<)|(?P<sign>[+,-])"
    r"|(?P<number>\d+(?:\.\d+)?(?=[\s,<>]|$))|(?P<bare>[^\s,'\"<>]+)|(?P<odd>\S))"
)
EXAMPLE = "isotropy - baseline on beir18 >= 1.0"


class Name(NamedTuple):
    """A name and where it stands, counted in characters from the criterion's start."""

    text: str
    at: int


@dataclass(frozen=True, slots=True)
class ComparisonCriterion:
    """The sum of ``factor`` x model, compared with a threshold."""

    factors: Mapping[str, float]
    """Model -> its factor, once everything but numbers stands on the left."""
    relation: Relation
    threshold: float
    models: tuple[Name, ...]
    measure: Name | None
    place: Name | None


@dataclass(frozen=True, slots=True)
class Coverage:
    """That models were measured on every dataset of a place."""

    models: tuple[Name, ...]
    """Empty: all that the file names."""
    count: Name | None
    """How many datasets the place is said to have."""
    place: Name | None


class SyntaxFault(Exception):
    """An invalid criterion: the reason, and at which character."""

    def __init__(self, reason: str, at: int) -> None:
        super().__init__(reason)
        self.at = at


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


def parse_criterion(text: str) -> ComparisonCriterion | Coverage:
    """Parses a criterion; SyntaxFault if it is invalid."""
    return _Reader(text).criterion()


class _Reader:
    def __init__(self, text: str) -> None:
        self.tokens = _tokens(text)
        self.place = 0

    def criterion(self) -> ComparisonCriterion | Coverage:
        measured = any(token == ("bare", "measured", token.at) for token in self.tokens)
        found = self._coverage() if measured else self._comparison()
        if self._next.kind != "end":
            raise self._unexpected("nothing more")
        return found

    @property
    def _next(self) -> _Token:
        return self.tokens[self.place]

    def _taken(self) -> _Token:
        self.place += 1
        return self.tokens[self.place - 1]

    def _word(self, word: str) -> bool:
        """Takes the word if it comes next."""
        found = self._next.kind == "bare" and self._next.text == word
        self.place += found
        return found

    def _name(self, what: str) -> Name:
        if self._next.kind not in ("bare", "quoted") or (self._next.kind == "bare" and self._next.text in WORDS):
            raise self._unexpected(what)
        token = self._taken()
        return Name(token.text, token.at)

    def _unexpected(self, wanted: str) -> SyntaxFault:
        token = self._next
        there = "it ends" if token.kind == "end" else f"there is {token.text!r}"
        return SyntaxFault(f"{there} where {wanted} should come, as in {EXAMPLE!r}", token.at)

    def _place(self) -> Name | None:
        return self._name("the name of a dataset or suite") if self._word("on") else None

    def _coverage(self) -> Coverage:
        models: list[Name] = []
        count: Name | None = None
        if self._word("all"):
            if self._next.kind == "number":
                token = self._taken()
                count = Name(token.text, token.at)
        else:
            models.append(self._name("a model"))
            while self._next.text == "," and self._next.kind == "sign":
                self._taken()
                models.append(self._name("a model"))
        if not self._word("measured"):
            raise self._unexpected("'measured'")
        return Coverage(tuple(models), count, self._place())

    def _comparison(self) -> ComparisonCriterion:
        measure = None
        if self.tokens[min(1, len(self.tokens) - 1)][:2] == ("bare", "of"):
            measure = self._name("a measure")
            self._taken()
        factors: dict[str, float] = {}
        models: list[Name] = []
        before = self._sum(1, factors, models)
        inner = self._place()
        if self._next.kind != "relation":
            raise self._unexpected("a sign or one of >=, >, <= and <")
        relation = cast(Relation, self._taken().text)
        threshold = -before - self._sum(-1, factors, models)
        if inner and self._next.text == "on":
            raise SyntaxFault("a criterion has one 'on', and this is its second", self._next.at)
        place = inner or self._place()
        if not models:
            raise SyntaxFault(f"it compares numbers alone; name a model, as in {EXAMPLE!r}", 0)
        if gone := [name for name in models if not factors[name.text]]:
            raise SyntaxFault(f"{gone[0].text!r} stands on both sides and cancels out", gone[-1].at)
        return ComparisonCriterion(factors, relation, threshold or 0.0, tuple(models), measure, place)

    def _sum(self, side: int, factors: dict[str, float], models: list[Name]) -> float:
        """Adds the models of one side; returns the sum of its numbers, times ``side``."""
        total = 0.0
        sign = side
        if self._next.kind == "sign" and self._next.text in "+-":
            sign = -side if self._taken().text == "-" else side
        while True:
            if self._next.kind == "number":
                token = self._taken()
                if not isfinite(float(token.text)):
                    raise SyntaxFault("that number is too large", token.at)
                total += sign * float(token.text)
            else:
                name = self._name("a model or a number")
                models.append(name)
                factors[name.text] = factors.get(name.text, 0.0) + sign
            if self._next.kind != "sign" or self._next.text not in "+-":
                return total
            sign = -side if self._taken().text == "-" else side


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    for match in TOKEN.finditer(text.rstrip()):
        kind = str(match.lastgroup)
        word, at = match[kind], match.start(kind)
        if kind == "odd" or word == "''":
            reason = "a quote is not closed" if word == "'" else f"{word} means nothing here"
            raise SyntaxFault(f"{reason}; names with blanks are written 'so'", at)
        found.append(_Token(kind, word.strip("'") if kind == "quoted" else word, at))
    return [*found, _Token("end", "", len(text.rstrip()))]
