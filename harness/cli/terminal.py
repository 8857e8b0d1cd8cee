"""What is printed is text alone: names, ids and texts of other people's files cannot move a terminal's cursor, hide
lines, set its title or turn the direction of what follows. Nor can they through a pipe or a file, which somebody may
look at later. JSON keeps such characters, as escapes."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

OBEYED = re.compile("[\0-\b\v\f\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]|\r(?!\n|$)")
"""Control characters but for tab and line ends, marks of direction, and halves of surrogate pairs."""


def printable(text: str) -> str:
    """One line with U+FFFD in place of whatever is not to be seen, line ends and tabs too."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


class Plain:
    """A stream that writes U+FFFD in place of what is `OBEYED`."""

    def __init__(self, bare: TextIO) -> None:
        self.bare = bare

    def write(self, text: str) -> int:
        """As the stream's own."""
        return self.bare.write(OBEYED.sub("\ufffd", text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bare, name)


@contextmanager
def plain_output() -> Iterator[None]:
    """Makes stdout and stderr `Plain`."""
    kept = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, Plain(each)) if each else each for each in kept)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = kept


def bare(stream: TextIO) -> TextIO:
    """The stream that may be given escape sequences: a progress bar's."""
    return stream.bare if isinstance(stream, Plain) else stream
