"""Checksums of JSON objects: a flipped bit is detected, or does not change the content."""

from __future__ import annotations

import json

import pytest

from harness.storage.atomic import dump_json
from harness.storage.records import Damaged, opened, seal

CONTENT = {"key": "a", "figures": [0.25, 1e-07], "nested": {"text": "höhe", "none": None}}


def test_round_trip() -> None:
    assert json.loads(dump_json(seal(CONTENT)))["key"] == "a"
    assert opened(json.loads(dump_json(seal(CONTENT)))) == CONTENT
    assert opened(json.loads(json.dumps(seal(CONTENT)))) == CONTENT  # in whatever form it is written


@pytest.mark.parametrize("earlier", [CONTENT, {}, [1], None, {"sha256": "0" * 64, "rows": 1}])
def test_objects_without_a_checksum_are_accepted(earlier: object) -> None:
    assert opened(earlier) == earlier


def test_flipped_bits_are_detected() -> None:
    whole = dump_json(seal(CONTENT))
    noticed = 0
    for at in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[at // 8] ^= 1 << at % 8
        try:
            assert opened(json.loads(bytes(flipped))) == CONTENT
        except ValueError:
            noticed += 1
    assert noticed >= 8 * len(whole) - 2  # 1E-07 is 1e-07


def test_an_edited_object_is_detected() -> None:
    with pytest.raises(Damaged, match="its checksum is not that of its content"):
        opened(seal(CONTENT) | {"key": "b"})
