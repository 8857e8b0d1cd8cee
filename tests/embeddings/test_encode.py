"""Texts to vectors: batches, order, what is computed and what is not, and whose fault it was."""

from __future__ import annotations

import json
import re
import sys
import threading
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness import ModelSpec
from harness.embeddings import sharding as cutting
from harness.embeddings import store as vector_store
from harness.embeddings.encode import TOKEN_BUDGET, batches, encode_collection, encode_texts
from harness.embeddings.formats import DENSE
from harness.embeddings.sharding import chunks
from harness.embeddings.store import Vectors, VectorStore
from harness.models.runner import Prepared
from harness.registry.model_ref import ModelRef
from harness.types import DenseModel, PluginError, Role, TokenModel, UserError
from tests.conftest import write_dataset

DIM = 5


def vector(text: str, role: str = "document") -> NDArray[np.float32]:
    """A vector that depends on the text and the role alone."""
    return np.random.default_rng(zlib.crc32(f"{role} {text}".encode())).normal(size=DIM).astype(np.float32)


class Plain:
    """A dense model that remembers every batch it saw."""

    dim = DIM

    def __init__(self) -> None:
        self.seen: list[list[str]] = []

    def encode(self, texts: Sequence[str], *, role: Role) -> NDArray[np.float32]:
        self.seen.append(list(texts))
        return np.stack([vector(text, role) for text in texts])

    @property
    def texts(self) -> list[str]:
        return [text for batch in self.seen for text in batch]


class Tokens(Plain):
    """The same vectors, tokens first (its tokens are code points)."""

    token_budget = 24

    def __init__(self) -> None:
        super().__init__()
        self.tokenized: list[str] = []
        self.threads: set[str] = set()

    def tokenize(self, texts: Sequence[str], *, role: Role) -> list[list[int]]:
        self.threads.add(threading.current_thread().name)
        self.tokenized += texts
        return [[ord(letter) for letter in text] for text in texts]

    def encode_tokens(self, tokens: Sequence[Sequence[int]], *, role: Role) -> NDArray[np.float32]:
        return self.encode(["".join(map(chr, ids)) for ids in tokens], role=role)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VectorStore:
    """A store whose shards close at four texts."""
    monkeypatch.setattr(cutting, "SHARD_ROWS", 4)
    return VectorStore(tmp_path, "model", "document")


def encoded(model: DenseModel, texts: Sequence[str], store: VectorStore) -> NDArray[np.float32]:
    """What the store gives for a collection, read as another process would."""
    shards = encode_collection(model, "it", iter(texts), len(texts), store, "document", lambda *_: None)
    fresh = VectorStore(store.folder.parents[2], "model", "document")
    assert [fresh.get(shard.key) for shard in shards] == shards
    return np.concatenate(list(Vectors.open(fresh, shards).blocks()))


def expected(texts: Sequence[str]) -> NDArray[np.float32]:
    return np.stack([vector(text) for text in texts])


def words(first: int, last: int) -> list[str]:
    return [f"text {number} " + "x" * (number * 7 % 11) for number in range(first, last)]


@given(
    lengths=st.lists(st.integers(0, 60), max_size=50),
    budget=st.integers(1, 100),
    most=st.integers(1, 9),
)
def test_batches_hold_every_index_once_longest_first_within_the_budget(
    lengths: list[int], budget: int, most: int
) -> None:
    made = list(batches(lengths, budget, most))
    order = [index for batch in made for index in batch]
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[index] for index in order] == sorted(lengths, reverse=True)
    for batch in made:
        assert len(batch) <= most
        assert len(batch) == 1 or max(lengths[index] for index in batch) * len(batch) <= budget
    for batch in made[:-1]:  # no batch ends while the next text would still have fitted
        assert len(batch) == most or lengths[batch[0]] * (len(batch) + 1) > budget


@given(texts=st.lists(st.text(max_size=30), max_size=30))
def test_rows_are_in_the_order_of_the_texts_by_either_path(texts: list[str]) -> None:
    plain, tokens = Plain(), Tokens()
    assert isinstance(tokens, TokenModel)
    assert not isinstance(plain, TokenModel)
    one, other = encode_texts(plain, "it", texts, "query"), encode_texts(tokens, "it", texts, "query")
    for made in (one, other):
        assert made.shape == (len(texts), DIM)
        assert made.dtype == np.float32
    np.testing.assert_array_equal(one, other)
    for row, text in zip(one, texts, strict=True):
        np.testing.assert_array_equal(row, vector(text, "query"))
    for batch in tokens.seen:
        assert len(batch) == 1 or max(map(len, batch)) * len(batch) <= tokens.token_budget


def test_a_model_that_states_no_budget_gets_the_harnesses() -> None:
    class Unstated(Tokens):
        token_budget = property()  # type: ignore[assignment]

    model = Unstated()
    encode_texts(model, "it", ["x" * 128] * 40, "document")
    assert [len(batch) for batch in model.seen] == [TOKEN_BUDGET // 128, TOKEN_BUDGET // 128, 8]
    plain = Plain()
    encode_texts(plain, "it", ["x" * 10_000] * 7 + ["y"] * 300 + ["z" * 100_000], "document")
    assert [len(batch) for batch in plain.seen] == [1, 6, 6, 256, 39]


@pytest.mark.parametrize("kind", [Plain, Tokens])
def test_a_collection_is_computed_once(store: VectorStore, kind: type[Plain]) -> None:
    texts, model = words(0, 11), kind()
    told: list[tuple[str, int, int]] = []
    shards = encode_collection(model, "it", iter(texts), 11, store, "document", lambda *progress: told.append(progress))
    assert [shard.rows for shard in shards] == [4, 4, 3]
    assert [shard.tokens for shard in shards] == (
        [0, 0, 0] if kind is Plain else [sum(map(len, part)) for part in (texts[:4], texts[4:8], texts[8:])]
    )
    assert all(shard.seconds >= 0 for shard in shards)
    assert [(done, total) for _, done, total in told] == [(4, 11), (8, 11), (11, 11)]
    assert all("it" in words and "document" in words for words, _, _ in told)
    np.testing.assert_array_equal(encoded(model, texts, store), expected(texts))
    assert sorted(model.texts) == sorted(texts)
    if isinstance(model, Tokens):
        assert sorted(model.tokenized) == sorted(texts)
        assert threading.current_thread().name not in model.threads  # in the background


def test_collections_that_begin_alike_share_what_they_share(store: VectorStore) -> None:
    model = Plain()
    one, other = words(0, 8) + words(20, 23), words(0, 8) + words(30, 37)
    np.testing.assert_array_equal(encoded(model, one, store), expected(one))
    np.testing.assert_array_equal(encoded(model, other, store), expected(other))
    assert sorted(model.texts) == sorted(words(0, 8) + words(20, 23) + words(30, 37))


@pytest.mark.parametrize("kind", [Plain, Tokens])
def test_a_stretch_that_occurs_again_is_computed_once(store: VectorStore, kind: type[Plain]) -> None:
    texts, model = words(0, 4) * 2 + words(4, 8) + words(0, 4) + words(8, 9), kind()
    np.testing.assert_array_equal(encoded(model, texts, store), expected(texts))
    assert sorted(model.texts) == words(0, 9)


@pytest.mark.parametrize("lost", ["npy", "json"])
def test_only_what_is_damaged_is_computed_again(store: VectorStore, lost: str) -> None:
    texts = words(0, 14)
    encoded(Plain(), texts, store)
    files = sorted(store.folder.iterdir())
    second = [chunk.key for chunk in chunks(texts)][1]
    before = {file: file.stat().st_mtime_ns for file in files if second not in file.name}
    damaged = store.folder / f"{second}.{lost}"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    model = Plain()
    fresh = VectorStore(store.folder.parents[2], "model", "document")
    np.testing.assert_array_equal(encoded(model, texts, fresh), expected(texts))
    assert sorted(model.texts) == sorted(texts[4:8])
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert sorted(store.folder.iterdir()) == files


def test_what_a_killed_process_left_is_cleared_away(store: VectorStore) -> None:
    store.folder.mkdir(parents=True)
    (store.folder / f".{'0' * 64}.npy.0123abcd.tmp").write_text("half")
    encoded(Plain(), words(0, 3), store)
    assert sorted(path.suffix for path in store.folder.iterdir()) == [".json", ".npy"]


def test_an_empty_collection(store: VectorStore) -> None:
    model = Tokens()
    assert encode_collection(model, "it", iter(()), 0, store, "document", lambda *_: None) == []
    assert encode_texts(model, "it", [], "query").shape == (0, DIM)
    assert model.seen == []


class Faulty(Tokens):
    """Fails at the texts that hold a word."""

    def __init__(self, fault: str, word: str = "text 6") -> None:
        super().__init__()
        self.fault, self.word = fault, word

    def encode(self, texts: Sequence[str], *, role: Role) -> NDArray[np.float32]:
        good = super().encode(texts, role=role)
        if any(self.word in text for text in texts):
            if self.fault == "raises":
                raise RuntimeError("out of luck")
            if self.fault == "nan":
                good[0, 1] = np.nan
        return good

    def tokenize(self, texts: Sequence[str], *, role: Role) -> list[list[int]]:
        found = super().tokenize(texts, role=role)
        if any(self.word in text for text in texts):
            if self.fault == "tokenize raises":
                raise RuntimeError("no such token")
            if self.fault == "tokenize":
                return found[1:]
        return found


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("raises", "out of luck"),
        ("nan", r"^it: batch 1 of document texts \(first text: 'text 6 xxxxxxxxx'\): 1 of 1 vectors hold NaN"),
        ("tokenize", r"^it: tokenize\(\) returned 3 lists for 4 texts"),
        ("tokenize raises", "no such token"),
    ],
)
def test_a_fault_is_named_and_what_was_finished_before_it_is_kept(store: VectorStore, fault: str, told: str) -> None:
    texts = words(0, 30)
    model = Faulty(fault)
    with pytest.raises((PluginError, RuntimeError), match=told):
        encoded(model, texts, store)
    assert len(list(store.folder.glob("*.json"))) == 1
    assert not list(store.folder.glob("*.tmp"))
    assert "text 12 " not in "".join(model.texts)  # it stopped there
    mended = Plain()
    np.testing.assert_array_equal(encoded(mended, texts, store), expected(texts))
    assert sorted(mended.texts) == sorted(texts[4:])


def test_texts_that_cannot_be_read_to_the_end_keep_what_came_before(store: VectorStore) -> None:
    def torn():
        yield from words(0, 10)
        raise UserError("the corpus was changed")

    with pytest.raises(UserError, match="was changed"):
        encode_collection(Tokens(), "it", torn(), 20, store, "document", lambda *_: None)
    assert len(list(store.folder.glob("*.json"))) == 1  # the second shard was still to be handed on
    model = Plain()
    encoded(model, words(0, 10), store)
    assert sorted(model.texts) == sorted(words(4, 10))


def test_a_disk_that_refuses_the_second_shard_stops_the_work(
    store: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, model = words(0, 80), Plain()
    keys = [chunk.key for chunk in chunks(texts)]
    write = vector_store.write_file

    def refuse(path: Path, fill) -> None:
        if keys[1] in path.name:
            raise UserError("The disk is full")
        write(path, fill)

    monkeypatch.setattr(vector_store, "write_file", refuse)
    with pytest.raises(UserError, match="The disk is full"):
        encoded(model, texts, store)
    assert len(model.texts) <= 12
    assert store.get(keys[0]) is not None


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ([[1.0, 2.0]], "a list, not a numpy array"),
        (np.ones((1, 3), np.float32), r"shape \(1, 3\) for 1 texts of dimension 2"),
        (np.ones(2, np.float32), r"shape \(2,\)"),
        (np.ones((1, 2)), "float64; return float32"),
        (np.ones((1, 2), np.float16), "float16"),
        (np.array([[1, np.inf]], np.float32), "1 of 1 vectors hold NaN or infinity"),
        (np.ones((1, 2), np.float32), "^$"),
    ],
)
def test_what_is_wrong_with_an_answer_is_said_in_words(answer: object, told: str) -> None:
    assert re.search(told, DENSE.fault(answer, 1, 2))


def prepared(home: Path, model: object, similarity: str = "euclidean") -> Prepared:
    """A model as the pipeline meets it; without a model, loading fails."""

    def load(options: object) -> object:
        assert model is not None, "it is not to be loaded"
        return model

    sys.modules["model_under_test"] = SimpleNamespace(load=load, fingerprint=lambda options: {"weights": "1"})  # type: ignore[assignment]
    spec = ModelSpec(
        "it", "dense", "model_under_test:load", "", similarity=similarity, fingerprint="model_under_test:fingerprint"
    )
    return Prepared(ModelRef(spec, {}, {}), home)


def test_stored_vectors_need_neither_the_model_nor_the_texts(tmp_path: Path) -> None:
    def unread():
        raise AssertionError("the texts are not to be read")

    texts = words(0, 9)
    made, cost = prepared(tmp_path, Tokens(), "cosine").vectors("name", lambda: iter(texts), 9, "document")
    again = prepared(tmp_path, None)
    stored, same_cost = again.vectors("name", unread, 9, "document")
    assert again.similarity == "cosine"  # as it was when they were made
    assert cost == same_cost
    assert cost.tokens == sum(map(len, texts))
    unit = expected(texts) / np.linalg.norm(expected(texts).astype(np.float64), axis=1, keepdims=True)
    for collection in (made, stored):
        np.testing.assert_allclose(collection.gather(np.arange(9)), unit, rtol=1e-6)


def test_the_models_own_similarity_wins_over_its_descriptors(tmp_path: Path) -> None:
    model = Plain()
    model.similarity = "dot"  # type: ignore[attr-defined]
    made = prepared(tmp_path, model, "cosine")
    vectors, _ = made.vectors("name", lambda: iter(["a"]), 1, "document")
    assert made.similarity == "dot"
    np.testing.assert_array_equal(vectors.gather(np.arange(1)), expected(["a"]))


def test_a_list_of_another_collection_under_this_name_is_not_believed(tmp_path: Path) -> None:
    texts = words(0, 9)
    made = prepared(tmp_path, Plain())
    made.vectors("other", lambda: iter(words(20, 25)), 5, "document")
    folder = VectorStore(tmp_path, made.ref.key, "document").folder
    (folder / "list-name.json").write_bytes((folder / "list-other.json").read_bytes())
    collection, _ = made.vectors("name", lambda: iter(texts), 9, "document")
    np.testing.assert_array_equal(collection.gather(np.arange(9)), expected(texts))
    assert sum(rows for _, rows in json.loads((folder / "list-name.json").read_text())["shards"]) == 9


def test_two_datasets_share_the_vectors_of_the_documents_they_share(harness, toy: Path, home: Path) -> None:
    pytest.importorskip("faiss", reason="dense models need faiss (the dense extra)")
    plugin = home / "remembering.py"
    plugin.write_text(
        "import json\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from harness import ModelSpec, hookimpl\n"
        "class Model:\n"
        "    dim = 4\n"
        "    def encode(self, texts, *, role):\n"
        f"        with Path({str(home / 'seen.jsonl')!r}).open('a') as seen:\n"
        "            seen.writelines(json.dumps([role, text[:9]]) + '\\n' for text in texts)\n"
        "        return np.array([[len(t), t.count('a'), t.count('e'), 1] for t in texts], np.float32)\n"
        "def load(options):\n"
        "    return Model()\n"
        "@hookimpl\n"
        "def harness_models():\n"
        "    yield ModelSpec('remembering', 'dense', f'{__name__}:load', '')\n"
    )
    large = {f"shared{number}": f"shared {number} " + "filler " * 9000 for number in range(18)}
    for name in ("first", "second"):
        documents = large | {f"own{number}": f"{name} own {number}" for number in range(3)}
        queries = {"q": "the same query", f"q-{name}": f"{name} query"}
        folder = write_dataset(home / name, documents, queries, [("q", "own1", 1), (f"q-{name}", "own2", 1)])
        done = harness("benchmark", "--plugin", plugin, "-m", "remembering", "-d", folder)
        assert done.code == 0, done.err
    seen = [json.loads(line) for line in (home / "seen.jsonl").read_text().splitlines()]
    assert sum(text.startswith("shared ") for _, text in seen) == 17 + 2 * 1  # a full shard once, the 18th twice
    assert sum(text.startswith(("first own", "second ow")) for _, text in seen) == 6
    assert sorted(role for role, _ in seen) == ["document"] * 25 + ["query"] * 4
