"""A flipped bit anywhere in a sealed object is noticed, or changes nothing that it says."""

from __future__ import annotations

import json

import pytest

from harness.storage.atomic import dump_json
from harness.storage.records import Damaged, opened, seal

CONTENT = {"key": "a", "figures": [0.25, 1e-07], "nested": {"text": "höhe", "none": None}}


def test_what_was_sealed_is_opened_again() -> None:
    assert json.loads(dump_json(seal(CONTENT)))["key"] == "a"
    assert opened(json.loads(dump_json(seal(CONTENT)))) == CONTENT
    assert opened(json.loads(json.dumps(seal(CONTENT)))) == CONTENT  # in whatever form it is written


@pytest.mark.parametrize("earlier", [CONTENT, {}, [1], None, {"sha256": "0" * 64, "rows": 1}])
def test_what_an_earlier_version_wrote_is_read_as_it_is(earlier: object) -> None:
    assert opened(earlier) == earlier


def test_every_bit_counts() -> None:
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


def test_an_edited_object_is_told_from_a_broken_one() -> None:
    with pytest.raises(Damaged, match="its checksum is not that of its content"):
        opened(seal(CONTENT) | {"key": "b"})
