"""Tokens kept for the next model: the same again or none at all, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.embeddings.sharding import Chunk
from harness.embeddings.token_cache import TokenStore
from harness.storage.temporary_files import sweep

CHUNK = Chunk("c" * 64, ["one", "", "three"])
TOKENS = [[5, 0, 70_000], [], [255]]


class Tokenizer:
    """Gives the tokens above, and counts how often it had to."""

    dim = 1

    def __init__(self, key: str = "key", tokens: list[list[int]] = TOKENS) -> None:
        self.key, self.given, self.asked = key, tokens, 0

    def tokenize(self, texts: Sequence[str], *, role: str) -> list[list[int]]:
        self.asked += 1
        return self.given

    def tokens_key(self, role: str) -> str:
        return self.key

    def encode_tokens(self, tokens: Any, *, role: str) -> Any:
        raise AssertionError

    encode = encode_tokens


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TokenStore]:
    with TokenStore(tmp_path) as opened:
        yield opened


def tokens(store: TokenStore, model: Any, *, keep: bool, chunk: Chunk = CHUNK) -> list[list[int]]:
    made = store.tokenizer(model, "document", keep=keep)
    assert made is not None
    return made(chunk)


def files(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file()]


@pytest.mark.parametrize("given", [TOKENS, [[], [], []], [[0], [255], [7]], [[65_535], [], [-1]], [[2**40], [0], [1]]])
def test_tokens_come_back_as_they_were_until_the_last_model_has_them(
    store: TokenStore, tmp_path: Path, given: list[list[int]]
) -> None:
    first, second, last = (Tokenizer(tokens=given) for _ in range(3))
    assert [tokens(store, model, keep=model is not last) for model in (first, second, last)] == [given] * 3
    assert [first.asked, second.asked, last.asked] == [1, 0, 0]
    assert not files(tmp_path)


def test_they_take_two_bytes_each_where_two_are_enough(store: TokenStore, tmp_path: Path) -> None:
    tokens(store, Tokenizer(tokens=[[30_000] * 1000] * 3), keep=True)
    assert 6000 <= files(tmp_path)[0].stat().st_size < 6200


def test_another_key_and_other_texts_share_nothing(store: TokenStore) -> None:
    tokens(store, Tokenizer(), keep=True)
    other = Tokenizer("another key")
    tokens(store, other, keep=True)
    tokens(store, other, keep=True, chunk=Chunk("d" * 64, CHUNK.texts))
    assert other.asked == 2


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("harm", [_flip, lambda file: file.write_bytes(file.read_bytes()[:-1]), Path.unlink])
def test_a_damaged_file_is_not_believed(store: TokenStore, tmp_path: Path, harm: Callable[[Path], object]) -> None:
    tokens(store, Tokenizer(), keep=True)
    harm(files(tmp_path)[0])
    again, after = Tokenizer(), Tokenizer()
    assert tokens(store, again, keep=True) == TOKENS
    assert tokens(store, after, keep=False) == TOKENS
    assert (again.asked, after.asked) == (1, 0)
    assert not files(tmp_path)


def test_a_wrong_number_of_lists_is_not_kept(store: TokenStore, tmp_path: Path) -> None:
    assert tokens(store, Tokenizer(tokens=[[1]]), keep=True) == [[1]]
    assert not files(tmp_path)


def test_what_cannot_be_written_is_made_again(store: TokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    model = Tokenizer()
    assert tokens(store, model, keep=True) == tokens(store, model, keep=True) == TOKENS
    assert model.asked == 2


def test_models_that_cannot_tell_and_last_ones_do_without(store: TokenStore, tmp_path: Path) -> None:
    unstated = type("Unstated", (), {**vars(Tokenizer), "tokens_key": None})
    assert store.tokenizer(unstated(), "document", keep=True) is None
    assert store.tokenizer(Tokenizer(""), "document", keep=True) is None
    assert store.tokenizer(Tokenizer(), "document", keep=False) is None
    assert not list(tmp_path.iterdir())


def test_the_end_leaves_nothing_and_a_living_store_is_not_swept(tmp_path: Path) -> None:
    with TokenStore(tmp_path) as store:
        tokens(store, Tokenizer(), keep=True)
        sweep(tmp_path)
        model = Tokenizer()
        assert tokens(store, model, keep=True) == TOKENS
        assert not model.asked
    assert not list(tmp_path.iterdir())
