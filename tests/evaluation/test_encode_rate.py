"""How fast texts were encoded: counted where it happens, and told once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from harness import ModelSpec
from harness.evaluation.encode_rate import rate_sentence, rates
from harness.models.runner import Prepared
from harness.registry.model_ref import ModelRef
from harness.types import Role
from tests.conftest import BYTE_COUNTS


class Counted:
    """A token per letter."""

    dim = 2

    def tokenize(self, texts: Sequence[str], *, role: Role) -> list[list[int]]:
        return [[ord(letter) for letter in text] for text in texts]

    def encode_tokens(self, tokens: Sequence[Sequence[int]], *, role: Role) -> NDArray[np.float32]:
        return np.array([[len(text), 1] for text in tokens], np.float32)

    def encode(self, texts: Sequence[str], *, role: Role) -> NDArray[np.float32]:
        return self.encode_tokens(self.tokenize(texts, role=role), role=role)


def load(options: object) -> Counted:
    return Counted()


def model(home: Path) -> Prepared:
    spec = ModelSpec("counted", "dense", f"{__name__}:load", "counts", fingerprint=f"{__name__}:fingerprint")
    return Prepared(ModelRef(spec, {}, {}, plugin="test"), home)


def fingerprint(options: object) -> dict[str, str]:
    return {}


def test_only_what_was_encoded_now_counts_and_is_told_once(tmp_path: Path) -> None:
    ours, texts = model(tmp_path), ["abc", "de", "f"]
    ours.vectors("first", lambda: iter(texts), 3, "document")
    [rate] = rates(ours)
    assert (rate["role"], rate["texts"], rate["tokens"]) == ("document", 3, 6)
    assert rate["tokens_per_second"] == pytest.approx(2 * rate["texts_per_second"])
    assert rate.keys() == {"model", "role", "texts", "tokens", "seconds", "texts_per_second", "tokens_per_second"}
    assert rates(ours) == []
    ours.vectors("first", lambda: iter(texts), 3, "document")
    ours.vectors("other", lambda: iter(texts), 3, "document")  # the same texts: found stored
    assert rates(ours) == []
    ours.vectors("asked", lambda: iter(["ghi"]), 1, "query")
    assert [(rate["role"], rate["tokens"]) for rate in rates(ours)] == [("query", 3)]


def test_a_rate_in_words() -> None:
    rate = {"model": "m", "role": "document", "texts": 5183, "texts_per_second": 11.04}
    assert rate_sentence(rate) == "m encoded 5,183 documents, 11.0 a second"
    rate |= {"role": "query", "tokens_per_second": 3334.4}
    assert rate_sentence(rate) == "m encoded 5,183 queries, 11.0 a second, 3,334 tokens a second"


def test_benchmark_tells_the_rate_of_what_it_encoded(harness, toy: Path) -> None:
    words = ["benchmark", "-m", "byte-counts", "--plugin", BYTE_COUNTS, "-d", toy]
    done = harness(*words)
    assert "note: toy: byte-counts encoded 12 documents, " in done.err
    assert "note: toy: byte-counts encoded 4 queries, " in done.err
    assert "matrix product" not in done.err
    result = json.loads(Path("results/byte-counts/toy/result.json").read_text())
    assert [rate["texts"] for rate in result["manifest"]["run"]["encoding"]] == [12, 4]
    for again in ((), ("--force",)):  # nothing is encoded then
        assert "encoded" not in harness(*words, *again).err
    result = json.loads(Path("results/byte-counts/toy/result.json").read_text())
    assert result["manifest"]["run"]["encoding"] == []
