"""Lines of corpus.jsonl and queries.jsonl: one JSON object each, checked as they are read."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from harness.storage.columns import BLANK, BOM, GZIP
from harness.storage.regular_files import open_regular
from harness.storage.safe_load import lines
from harness.types import Document, UserError


def parse_record(line: bytes) -> Document:
    """The record on one line; ValueError says in words ("is not JSON ...") what is wrong with it.

    An integer ``_id`` becomes text, a missing or null ``title`` becomes empty. Half of a surrogate pair, which JSON can
    spell and UTF-8 cannot, becomes U+FFFD, so that whatever is read here can be encoded and written.
    """
    try:
        fields = json.loads(line.decode())  # not `parse_json`: other fields may hold what they like
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 (byte {error.start + 1} is {line[error.start]:#04x})") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON ({error.msg}, column {error.colno})") from None
    except ValueError:
        raise ValueError("is not a record (an integer of thousands of digits)") from None
    except RecursionError:
        raise ValueError("is not a record (brackets within brackets, thousands deep)") from None
    if not isinstance(fields, dict):
        raise ValueError("is not a JSON object")
    identifier, title, text = fields.get("_id"), fields.get("title"), fields.get("text")
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        identifier = str(identifier)
    record = Document(_text("_id", identifier), _text("title", "" if title is None else title), _text("text", text))
    if not record.id or BLANK.search(record.id):
        raise ValueError(
            f"has the '_id' {record.id!r}, empty or with white space or NUL, which a TREC run cannot carry"
        )
    return Document(*map(whole, record)) if b"\\ud" in line or b"\\uD" in line else record


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    raise ValueError(f"has no {name!r}" if value is None else f"has a {name!r} that is not text ({str(value)[:40]})")


def whole(text: str) -> str:
    """The text with half of a surrogate pair, which UTF-8 cannot encode, as U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def read_records(stream: IO[bytes], path: Path) -> Iterator[tuple[int, int, Document]]:
    """(line number from 1, byte offset of its object, record) of each line not blank; ``path`` is for errors."""
    offset = 0
    for number, line in enumerate(lines(stream, path), start=1):
        if number == 1 and line.startswith(GZIP):
            names = f"{shlex.quote(str(path))} {shlex.quote(f'{path}.gz')}"
            raise UserError(f"{path} is gzipped, which its name does not say; type: mv {names}")
        lead = len(BOM) if number == 1 and line.startswith(BOM) else 0
        if line[lead:].strip():
            try:
                yield number, offset + lead, parse_record(line[lead:])
            except ValueError as error:
                raise UserError(
                    f"{path} line {number} {error}; mend that line (an object such as "
                    f'{{"_id": "1", "text": "..."}}) and run the same command again.'
                ) from error
        offset += len(line)


def open_to_read(path: Path) -> IO[bytes]:
    """The opened file of a dataset; UserError where it cannot be opened."""
    try:
        return open_regular(path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); a dataset is a folder with corpus.jsonl, queries.jsonl and "
            f"qrels/SPLIT.tsv (type `harness datasets` for the names of those known)."
        ) from error


def hashed_lines(stream: IO[bytes], digest: hashlib._Hash) -> Iterator[bytes]:
    """The stream's lines; the digest gets them, many at a time, before they are given."""
    while lines := stream.readlines(1 << 16):
        digest.update(b"".join(lines))
        yield from lines
