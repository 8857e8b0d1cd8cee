"""What has arrived from an endpoint, on disk until its shard is complete."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from harness import PluginError
from harness.embeddings.parts import ShardParts, digest, receive, remove_parts
from harness.registry.remote import Arrived

TEXTS = ["one", "two", "three", "two", ""]
DIGESTS = [digest(text) for text in TEXTS]
KEY = "a" * 64


def rows(count: int, start: float = 0.0) -> np.ndarray:
    return np.arange(3 * count, dtype=np.float32).reshape(count, 3) + np.float32(start)


def test_what_was_put_is_there_again(tmp_path: Path) -> None:
    parts = ShardParts(tmp_path, KEY, 3)
    assert parts.missing(DIGESTS) == [0, 1, 2, 4]
    parts.put(DIGESTS[:2], rows(2), 0.5, 7)
    parts.put([DIGESTS[4]], rows(1, 10), 0.25, 2)
    again = ShardParts(tmp_path, KEY, 3)
    assert again.missing(DIGESTS) == [2]
    assert (again.seconds, again.tokens) == (0.75, 9)
    assert np.array_equal(again.rows([DIGESTS[4], DIGESTS[3]]), [[10, 11, 12], [3, 4, 5]])
    assert ShardParts(tmp_path, "b" * 64, 3).missing(DIGESTS) == [0, 1, 2, 4]
    remove_parts(tmp_path, KEY)
    assert list(tmp_path.iterdir()) == []


def test_damaged_files_and_other_dimensions_count_as_missing(tmp_path: Path) -> None:
    ShardParts(tmp_path, KEY, 3).put(DIGESTS[:2], rows(2), 0.5, 7)
    assert ShardParts(tmp_path, KEY, 4).missing(DIGESTS) == [0, 1, 2, 4]
    [file] = tmp_path.rglob("*.npy")
    whole = file.read_bytes()
    for damaged in (whole[:-1], whole[:100], b"", whole[:-9] + b"\1" + whole[-8:], whole.replace(b"f4", b"f8")):
        file.write_bytes(damaged)
        assert ShardParts(tmp_path, KEY, 3).missing(DIGESTS) == [0, 1, 2, 4]
    file.write_bytes(whole)
    assert ShardParts(tmp_path, KEY, 3).missing(DIGESTS) == [2, 4]


def test_a_digest_of_a_pair_tells_where_it_is_divided() -> None:
    assert digest("a", "bc") != digest("ab", "c") != digest("abc")
    assert digest("\ud800") != digest("\ud801")


def test_answers_are_stored_before_the_next_one_is_asked_for(tmp_path: Path) -> None:
    asked: list[list[int]] = []

    def ask(missing: list[int]) -> Iterator[Arrived]:
        asked.append(missing)
        yield Arrived([2, 0], rows(2), 3)
        assert len(ShardParts(tmp_path, KEY, 3).missing(DIGESTS)) == 2
        raise PluginError("the second request failed")

    with pytest.raises(PluginError, match="the second request failed"):
        receive(ShardParts(tmp_path, KEY, 3), DIGESTS, ask, lambda values, count: "", "m", "")
    told: list[int] = []

    def rest(missing: list[int]) -> Iterator[Arrived]:
        asked.append(missing)
        yield Arrived([1, 0], rows(2, 100), 5)

    parts = receive(ShardParts(tmp_path, KEY, 3), DIGESTS, rest, lambda values, count: "", "m", "", told.append)
    assert asked == [[0, 1, 2, 4], [1, 4]]
    assert told == [3, 5]
    assert np.array_equal(parts.rows(DIGESTS)[:, 0], [3, 103, 0, 103, 100])
    assert parts.tokens == 8


def test_wrong_and_incomplete_answers_are_errors(tmp_path: Path) -> None:
    def one(missing: list[int]) -> Iterator[Arrived]:
        yield Arrived([0], rows(1))

    with pytest.raises(PluginError, match="m: 1 wrong"):
        receive(ShardParts(tmp_path, KEY, 3), DIGESTS, one, lambda values, count: f"{count} wrong", "m", "")
    with pytest.raises(PluginError, match="m: 3 of 5 texts got no answer"):
        receive(ShardParts(tmp_path, KEY, 3), DIGESTS, one, lambda values, count: "", "m", "")

    def broken(missing: list[int]) -> Iterator[Arrived]:
        raise ZeroDivisionError
        yield

    with pytest.raises(PluginError, match="m raised ZeroDivisionError"):
        receive(ShardParts(tmp_path, KEY, 3), DIGESTS, broken, lambda values, count: "", "m", "")
