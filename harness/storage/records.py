"""JSON objects with a checksum of their own content, which shows that one was damaged or edited.

The checksum is of the content, not of the bytes: another indentation does not matter. Objects without one are of an
earlier version and are accepted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.storage.atomic import content_key
from harness.storage.safe_load import JSON_BYTES, content_of, parse_json, read_json

SEAL = "checksum"


class Damaged(ValueError):
    """An object's checksum does not match its content."""


def seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """The object with its checksum added as the last field."""
    return {**content, SEAL: content_key(dict(content))}


def unsealed(content: Any) -> Any:
    """The object without its checksum, which is not compared."""
    return {name: field for name, field in content.items() if name != SEAL} if isinstance(content, dict) else content


def opened(content: Any) -> Any:
    """The object without its checksum, which is verified; anything without a checksum is returned as it is.

    Raises:
        Damaged: If the checksum does not match the content.
    """
    if not isinstance(content, dict) or not content:
        return content
    last, value = next(reversed(content.items()))
    if SEAL not in content:
        if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value):  # the field's name is damaged
            raise Damaged(f"it has a checksum under the name {last!r}")
        return content
    rest = unsealed(content)
    if content[SEAL] != content_key(rest):
        raise Damaged("its checksum is not that of its content")
    return rest


def read_record(path: Path) -> Any:
    """As `read_sealed`, for records that had no checksum in earlier versions and may end with another hash."""
    content = read_json(path)
    return opened(content) if isinstance(content, dict) and SEAL in content else content


def read_sealed(path: Path) -> Any:
    """The content of a JSON file, its checksum verified. Raises OSError and ValueError."""
    data = content_of(path, JSON_BYTES)
    with suppress(ValueError):  # twice as fast, and no less strict: NaN and infinities have no checksum
        content = parse_json(data, nan=True)
        if isinstance(content, dict) and SEAL in content:
            return opened(content)
    return opened(parse_json(data))
