"""Checksums of JSON objects: a flipped bit is detected, or does not change the content."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.storage.atomic import dump_json
from harness.storage.records import Damaged, opened, read_sealed, seal

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


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999", "9" * 301])
@pytest.mark.parametrize("sealed", [True, False])
def test_numbers_that_are_not_json_are_refused(tmp_path: Path, number: str, sealed: bool) -> None:
    """The quick reader takes them, so the checksum must not."""
    file, content = tmp_path / "record.json", seal(CONTENT) if sealed else CONTENT
    file.write_bytes(dump_json(content))
    assert read_sealed(file) == CONTENT
    file.write_bytes(dump_json(content).replace(b"0.25", number.encode()))
    with pytest.raises(ValueError, match=r"is not JSON|beyond any float|an integer of 301 digits"):
        read_sealed(file)
