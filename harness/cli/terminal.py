"""Strips control characters from output, so that names, ids and texts of untrusted files cannot control a terminal.

They are stripped from pipes and files too, which may be shown in a terminal later. JSON keeps them, as escapes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

OBEYED = re.compile("[\0-\b\v\f\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]|\r(?!\n|$)")
"""Control characters but for tab and line ends, marks of direction, and halves of surrogate pairs."""


def printable(text: str) -> str:
    """The text with U+FFFD in place of characters that are not printable, line ends and tabs too."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


class Plain:
    """A stream that writes U+FFFD in place of control characters."""

    def __init__(self, bare: TextIO) -> None:
        self.bare = bare

    def write(self, text: str) -> int:
        """Writes the text without control characters; returns the number of characters written."""
        return self.bare.write(OBEYED.sub("\ufffd", text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bare, name)


@contextmanager
def plain_output() -> Iterator[None]:
    """Strips control characters from stdout and stderr while the block runs."""
    kept = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, Plain(each)) if each else each for each in kept)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = kept


def bare(stream: TextIO) -> TextIO:
    """The underlying stream, for a progress bar's escape sequences."""
    return stream.bare if isinstance(stream, Plain) else stream
