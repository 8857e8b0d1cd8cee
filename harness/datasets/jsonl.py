"""Reads and validates corpus.jsonl and queries.jsonl, which have one JSON object per line."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any

from harness.storage.columns import BLANK, BOM, GZIP
from harness.storage.regular_files import open_regular
from harness.storage.safe_load import lines
from harness.types import Document, UserError


def parse_record(line: bytes) -> Document:
    """Parses one line.

    An integer ``_id`` becomes text, and a missing or null ``title`` becomes empty. An unpaired surrogate, which JSON
    can express and UTF-8 cannot, becomes U+FFFD, so that all text can be encoded.

    Raises:
        ValueError: The line is not valid; the message is a clause such as "is not JSON (...)".
    """
    try:
        fields = json.loads(line.decode())  # not `parse_json`: other fields are not checked
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 (byte {error.start + 1} is {line[error.start]:#04x})") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON ({error.msg}, column {error.colno})") from None
    except ValueError:
        raise ValueError("is not a record (an integer of thousands of digits)") from None
    except RecursionError:
        raise ValueError("is not a record (nested thousands of levels deep)") from None
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
    return Document(*map(replace_surrogates, record)) if b"\\ud" in line or b"\\uD" in line else record


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    raise ValueError(f"has no {name!r}" if value is None else f"has a {name!r} that is not text ({str(value)[:40]})")


def replace_surrogates(text: str) -> str:
    """Replaces unpaired surrogates, which UTF-8 cannot encode, by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def read_records(stream: IO[bytes], path: Path) -> Iterator[tuple[int, int, Document]]:
    """Yields line number (from 1), byte offset and record of each non-blank line; ``path`` is for error messages."""
    offset = 0
    for number, line in enumerate(lines(stream, path), start=1):
        if number == 1 and line.startswith(GZIP):
            names = f"{shlex.quote(str(path))} {shlex.quote(f'{path}.gz')}"
            raise UserError(f"{path} is gzipped, but its name does not end in .gz; type: mv {names}")
        lead = len(BOM) if number == 1 and line.startswith(BOM) else 0
        if line[lead:].strip():
            try:
                yield number, offset + lead, parse_record(line[lead:])
            except ValueError as error:
                raise UserError(
                    f"{path} line {number} {error}; fix that line (an object such as "
                    f'{{"_id": "1", "text": "..."}}) and run the same command again.'
                ) from error
        offset += len(line)


def read_groups(path: Path, field: str, wanted: Collection[str]) -> dict[str, str]:
    """Query id -> the text or number in this field of its ``metadata``, of the queries wanted.

    The records are known to be valid. UserError for a query without the field.
    """
    groups: dict[str, str] = {}
    with open_to_read(path) as stream:
        for number, line in enumerate(lines(stream, path), start=1):
            line = line.removeprefix(BOM)
            if not line.strip() or (query := parse_record(line).id) not in wanted:
                continue
            metadata = json.loads(line).get("metadata")
            group = metadata.get(field) if isinstance(metadata, dict) else None
            if not isinstance(group, str | int) or isinstance(group, bool):
                raise UserError(
                    f"{path} line {number} has no text or whole number {field!r} in its metadata, which dataset.toml "
                    f'names as query_group; add it ({{"_id": ..., "metadata": {{"{field}": "..."}}}}), or remove that '
                    f"line of dataset.toml."
                )
            groups.setdefault(query, str(group))
    return groups


def open_to_read(path: Path) -> IO[bytes]:
    """Opens a file of a dataset; raises UserError if that fails."""
    try:
        return open_regular(path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); a dataset is a folder with corpus.jsonl, queries.jsonl and "
            f"qrels/SPLIT.tsv (type `harness datasets` for the names of those known)."
        ) from error


def hashed_lines(stream: IO[bytes], digest: hashlib._Hash) -> Iterator[bytes]:
    """Yields the stream's lines and updates the digest with them, in batches."""
    while lines := stream.readlines(1 << 16):
        digest.update(b"".join(lines))
        yield from lines
