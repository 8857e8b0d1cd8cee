"""JSON objects that carry the checksum of their own content: one that was damaged, or edited, is known as such.

The checksum is of what the object says, not of its bytes: another indentation does not matter. An object without one is
an earlier version's, and read as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.storage.atomic import content_key
from harness.storage.safe_load import read_json

SEAL = "checksum"


class Damaged(ValueError):
    """A checksum is not that of the content."""


def seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """The object with its checksum as its last field."""
    return {**content, SEAL: content_key(dict(content))}


def unsealed(content: Any) -> Any:
    """The object without its checksum, right or wrong."""
    return {name: field for name, field in content.items() if name != SEAL} if isinstance(content, dict) else content


def opened(content: Any) -> Any:
    """What was sealed, without the checksum; what is no object, or was never sealed, as it is.

    Raises Damaged when the checksum is not that of the content.
    """
    if not isinstance(content, dict) or not content:
        return content
    last, value = next(reversed(content.items()))
    if SEAL not in content:
        if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value):  # it is the field's name that is damaged
            raise Damaged(f"it has a checksum under the name {last!r}")
        return content
    rest = unsealed(content)
    if content[SEAL] != content_key(rest):
        raise Damaged("its checksum is not that of its content")
    return rest


def read_record(path: Path) -> Any:
    """As `read_sealed`, for records that were not sealed once and may end with a hash of their own."""
    content = read_json(path)
    return opened(content) if isinstance(content, dict) and SEAL in content else content


def read_sealed(path: Path) -> Any:
    """What a file of JSON holds, `opened`. Raises OSError and ValueError."""
    return opened(read_json(path))
