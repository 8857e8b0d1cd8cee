"""Values of options as text: plain, quoted as a JSON string, or ``@file`` for the content of a file.

query_prompt=search      query_prompt="Given a query, find it: "      query_prompt=@prompt.txt
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable
from itertools import accumulate
from os import fsdecode, fsencode
from pathlib import Path

from harness.storage.safe_load import content_of
from harness.types import UserError

QUOTED = re.compile(r'((?:^|[:,(])\s*\w+\s*=\s*)("(?:[^"\\]|\\.)*")', re.DOTALL)
"""A quoted value, after the option's name."""
LARGEST = 1_000_000
"""Bytes of a file that is a value."""
LONGEST = 1 << 18
"""Characters of a command line that is taken apart, for which `shlex` takes quadratic time."""
_SHELL_WORD = re.compile(r"(?:^|(?<=\s))\$'((?:[^'\\]|\\.)*)'(?=\s|$)", re.DOTALL)
_SHELL_ESCAPES = {"\n": r"\n", "\t": r"\t", "\r": r"\r", "\\": r"\\", "'": r"\'"}


class Exact(str):
    """A value that keeps its blanks: it was quoted, or read from a file."""


def masked(text: str) -> str:
    """The text with underscores in place of quoted values, so that commas and parentheses in them are not found."""
    return QUOTED.sub(lambda found: found[1] + "_" * len(found[2]), text)


def read_option_values(text: str, option: str, *, files: bool = True) -> str:
    """The value that is written as ``text``; UserError where a quotation or a file cannot be read.

    Args:
        text: what follows ``key=``.
        option: the option as typed, for messages.
        files: whether ``@file`` is read; not for text that no user has typed.
    """
    bare = text.strip()
    if bare.startswith('"'):
        return Exact(_unquoted(bare, option))
    return Exact(_content(bare[1:], option)) if files and bare.startswith("@") else text


def text_or_file(text: str, option: str) -> str:
    """The text itself, or of ``@file`` the content: the value of a command's own option, which takes no quotation."""
    return _content(text[1:], option) if text.startswith("@") else text


def written(value: object) -> str:
    """Text that `read_option_values` turns into the value again, on one line; quoted only where that is needed."""
    text = str(value)
    plain = text == text.strip() and text.isprintable() and not text.startswith("@") and not {*text} & {",", '"'}
    return text if plain and _balanced(text) else f'"{printed(json.dumps(text, ensure_ascii=False)[1:-1])}"'


def printed(text: str) -> str:
    """The text with JSON's escapes in place of characters that a terminal does not show."""
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def command_line(words: Iterable[str]) -> str:
    """Words as a shell takes them, on one line: those with line breaks and the like as ``$'...'``."""
    return " ".join(shlex.quote(word) if word.isprintable() else f"$'{_escaped(word)}'" for word in words)


def command_words(line: str) -> list[str]:
    """The words of a `command_line`; ValueError where a quotation is not closed or the line exceeds `LONGEST`."""
    if len(line) > LONGEST:
        raise ValueError(f"a command line of {len(line):,} characters")
    return shlex.split(_SHELL_WORD.sub(lambda found: shlex.quote(_plain_word(found[1])), line))


def _unquoted(text: str, option: str) -> str:
    try:
        value, end = json.JSONDecoder(strict=False).raw_decode(text)
    except ValueError:
        closed = re.fullmatch(r'"(?:[^"\\]|\\.)*"', text, re.DOTALL)
        fault = "has an escape that JSON does not know" if closed else "has a quotation mark that is not closed"
        raise UserError(
            f'The option {option} {fault}; a value in quotation marks is a JSON string: \\" and \\\\ stand for " and '
            f"\\, \\n for a line break."
        ) from None
    if end < len(text):
        raise UserError(f"{text[end:]!r} follows the closing quotation mark of {option}; a comma ends an option.")
    return str(value)


def _content(name: str, option: str) -> str:
    try:
        text = content_of(Path(name).expanduser(), LARGEST).decode()
    except (OSError, RuntimeError, ValueError) as error:
        why = "it is not UTF-8" if isinstance(error, UnicodeError) else getattr(error, "strerror", None) or error
        raise UserError(
            f"The file {name!r} of the option {option} cannot be read ({why}); name a text file in UTF-8, or quote a "
            f'value that begins with @: "@{name}".'
        ) from None
    return text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text


def _balanced(text: str) -> bool:
    depths = [*accumulate({"(": 1, ")": -1}.get(c, 0) for c in text)]
    return not depths or (min(depths) >= 0 and depths[-1] == 0)


def _escaped(word: str) -> str:
    return "".join(
        _SHELL_ESCAPES.get(c) or (c if c.isprintable() else "".join(f"\\x{byte:02x}" for byte in fsencode(c)))
        for c in word
    )


def _plain_word(escaped: str) -> str:
    known = {shown.encode(): plain.encode() for plain, shown in _SHELL_ESCAPES.items()}
    return fsdecode(
        re.sub(
            rb"\\(?:x[0-9a-f]{2}|.)",
            lambda found: known.get(found[0]) or bytes.fromhex(found[0][2:].decode()),
            fsencode(escaped),
            flags=re.DOTALL,
        )
    )
