"""Shards: keyed by their texts, whole or absent, and put together again in order."""

from __future__ import annotations

import json
import resource
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.embeddings import sharding as cutting
from harness.embeddings.sharding import BOUNDARY_INTERVAL, MIN_SHARD_ROWS, Chunk, chunks
from harness.embeddings.store import Shard, Vectors, VectorStore
from harness.types import UserError

TEXTS = st.lists(st.text(max_size=12), max_size=40)


@pytest.fixture
def store(tmp_path: Path) -> VectorStore:
    return VectorStore(tmp_path, "model", "document")


def reopened(store: VectorStore) -> VectorStore:
    """The same folder as another process finds it."""
    return VectorStore(store.folder.parents[2], "model", "document")


def put(store: VectorStore, number: int, rows: int = 5, dim: int = 3) -> Shard:
    array = np.random.default_rng(number).normal(size=(rows, dim)).astype(np.float32)
    return store.put(f"{number:064x}", array, 1.5, 7)


def small_chunks(texts: Iterable[str]) -> list[Chunk]:
    """As `chunks`, of four texts or twenty bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "SHARD_ROWS", 4)
        patch.setattr(cutting, "SHARD_BYTES", 20)
        return list(chunks(texts))


@given(texts=TEXTS)
def test_chunks_are_the_texts_and_close_as_soon_as_they_are_full(texts: list[str]) -> None:
    cut = small_chunks(iter(texts))
    assert [text for chunk in cut for text in chunk.texts] == texts

    def full(some: list[str]) -> bool:
        return len(some) >= 4 or len("".join(some).encode()) >= 20

    assert all(full(chunk.texts) for chunk in cut[:-1])
    assert all(chunk.texts and not full(chunk.texts[:-1]) for chunk in cut)


@given(texts=TEXTS, more=TEXTS)
def test_a_key_tells_its_texts_apart_and_depends_on_nothing_else(texts: list[str], more: list[str]) -> None:
    keys: dict[str, list[str]] = {}
    for chunk in [*small_chunks(texts), *small_chunks(more), *small_chunks(more + texts)]:
        assert keys.setdefault(chunk.key, chunk.texts) == chunk.texts
    assert len({tuple(texts) for texts in keys.values()}) == len(keys)
    full = small_chunks(texts)[:-1]  # another collection that begins alike has the same full shards
    assert small_chunks(texts + more)[: len(full)] == full


def test_collections_that_share_most_texts_share_most_shards() -> None:
    """As FEVER and Climate-FEVER do: some passages are dropped, some added, anywhere."""
    texts = [f"passage {number} " + "of some length " * (number % 40) for number in range(60_000)]
    other = [text for number, text in enumerate(texts) if number not in (0, 777, 30_001)]
    other[20_000:20_000] = ["a passage that the first one lacks", "and another"]
    ours, theirs = ({chunk.key: chunk for chunk in chunks(some)} for some in (texts, other))
    shared = sum(len(ours[key].texts) for key in ours.keys() & theirs.keys())
    assert shared > 0.85 * len(texts)
    assert len(ours) < 200  # and shards stay large


def test_texts_that_are_all_alike_do_not_end_a_shard_each() -> None:
    ending = next(str(n) for n in range(100_000) if zlib.crc32(str(n).encode()) % BOUNDARY_INTERVAL == 0)
    assert len(list(chunks([ending] * 10_000))) <= 10_000 / MIN_SHARD_ROWS + 1


def test_keys_do_not_confuse_where_one_text_ends_and_the_next_begins() -> None:
    cut = [["ab", "c"], ["a", "bc"], ["abc"], ["abc", ""], ["", "abc"], ["", "", "abc"], ["\ud800"], ["?"]]
    assert len({chunk.key for texts in cut for chunk in chunks(texts)}) == len(cut)
    assert list(chunks([])) == []


def test_the_published_sizes_of_a_shard() -> None:
    assert [len(chunk.texts) for chunk in chunks(["x"] * 10_000)] == [4096, 4096, 1808]
    assert [len(chunk.texts) for chunk in chunks(["é" * (1 << 15)] * 40)] == [16, 16, 8]  # 64 KiB each


def test_what_was_put_is_read_back_by_this_store_another_one_and_numpy(store: VectorStore) -> None:
    array = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    shard = store.put("a" * 64, array[:, ::-1], 1.25, 40)  # not contiguous: still stored as it is meant
    assert (shard.rows, shard.dim, shard.seconds, shard.tokens) == (6, 3, 1.25, 40)
    assert store.get("a" * 64) == reopened(store).get("a" * 64) == shard
    loaded = np.load(store.folder / f"{'a' * 64}.npy", allow_pickle=False)
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, array[:, ::-1])
    assert store.get("b" * 64) is None


def test_models_and_roles_have_folders_of_their_own(tmp_path: Path) -> None:
    folders = {VectorStore(tmp_path, model * 64, role).folder for model in "ab" for role in ("query", "document")}
    assert len(folders) == 4


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def change(path: Path, **fields: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


DAMAGE = {
    "a flipped bit": lambda npy, record: flip(npy, -1),
    "a flipped bit in the header": lambda npy, record: flip(npy, 20),
    "truncated": lambda npy, record: npy.write_bytes(npy.read_bytes()[:-1]),
    "empty": lambda npy, record: npy.write_bytes(b""),
    "longer": lambda npy, record: npy.write_bytes(npy.read_bytes() + b"\0"),
    "no array": lambda npy, record: npy.unlink(),
    "no record": lambda npy, record: record.unlink(),
    "an empty record": lambda npy, record: record.write_text(""),
    "half a record": lambda npy, record: record.write_text(record.read_text()[:40]),
    "a record that is a list": lambda npy, record: record.write_text("[1]"),
    "a record that lacks a field": lambda npy, record: record.write_text('{"key": "x"}'),
    "a record with another field": lambda npy, record: change(record, colour="red"),
    "a record of other texts": lambda npy, record: change(record, key="f" * 64),
    "a record of fewer rows": lambda npy, record: change(record, rows=4),
    "a record of another width": lambda npy, record: change(record, dim=4),
    "no text at all": lambda npy, record: record.write_bytes(b"\xff\xfe\x00"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_shard_is_as_good_as_absent(store: VectorStore, damage: str) -> None:
    shard, other = put(store, 1), put(store, 2)
    store.write_list("c", [shard, other], "cosine")
    assert reopened(store).read_list("c") == ([shard, other], "cosine")
    DAMAGE[damage](store.folder / f"{shard.key}.npy", store.folder / f"{shard.key}.json")
    again = reopened(store)
    assert again.get(shard.key) is None
    assert again.get(other.key) == other
    assert again.read_list("c") is None
    assert put(again, 1) == shard  # computed once more, it is whole
    assert reopened(store).read_list("c") == ([shard, other], "cosine")


def test_a_list_that_is_not_ours_is_as_good_as_absent(store: VectorStore) -> None:
    shard = put(store, 1)
    entry = [shard.key, shard.rows]
    path = store.folder / "list-c.json"
    assert store.read_list("c") is None
    for content in (
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"shards": []}',
        '{"similarity": "cosine"}',
        json.dumps({"similarity": "banana", "shards": [entry]}),
        json.dumps({"similarity": None, "shards": [entry]}),
        json.dumps({"similarity": "cosine", "shards": [shard.key]}),
        json.dumps({"similarity": "cosine", "shards": [[["x"], 5]]}),
        json.dumps({"similarity": "cosine", "shards": [entry, ["0" * 64, 5]]}),
        json.dumps({"similarity": "cosine", "shards": 7}),
        json.dumps({"similarity": "cosine", "shards": [entry]}),  # of an earlier version, which did not say whose it is
        json.dumps({"of": ["model/query", "c"], "similarity": "cosine", "shards": [entry]}),
        json.dumps({"of": ["model/document", "d"], "similarity": "cosine", "shards": [entry]}),
    ):
        path.write_text(content)
        assert store.read_list("c") is None, content
    path.write_bytes(b"\xff\xff")
    assert store.read_list("c") is None
    store.write_list("c", [shard], "dot")
    assert store.read_list("c") == ([shard], "dot")


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    rows=st.integers(1, 30),
    normalise=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=30, deadline=None)
def test_blocks_and_gather_are_the_shards_end_to_end(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], rows: int, normalise: bool, seed: int
) -> None:
    chance = np.random.default_rng(seed)
    arrays = [chance.normal(size=(size, 3)).astype(np.float32) for size in sizes]
    arrays[0][0] = 0
    whole = np.concatenate(arrays)
    if normalise:
        lengths = np.linalg.norm(whole.astype(np.float64), axis=1, keepdims=True)
        whole = np.divide(whole, lengths, where=lengths > 0, out=np.zeros_like(whole, np.float64)).astype(np.float32)
    store = VectorStore(tmp_path_factory.mktemp("store"), "model", "document")
    shards = [store.put(f"{number:064x}", array, 0, 0) for number, array in enumerate(arrays)]
    for collection in (Vectors.open(store, shards, normalise=normalise), Vectors.of(*arrays, normalise=normalise)):
        assert (len(collection), collection.dim) == whole.shape
        blocks = []
        for block in collection.blocks(rows):
            assert block.dtype == np.float32
            blocks.append(block.copy())
            block[:] = np.nan  # a copy: who works in place harms neither the file nor the next block
        np.testing.assert_array_equal(np.concatenate(blocks), whole)
        assert [len(block) for block in blocks[:-1]] == [rows] * (len(blocks) - 1)
        wanted = chance.integers(0, len(whole), size=25)
        pieces = list(collection.pieces(wanted, 4))
        assert sorted(place for places, _ in pieces for place in places.tolist()) == list(range(25))
        for places, piece in pieces:
            assert len(piece) <= 4
            np.testing.assert_array_equal(piece, whole[wanted[places]])
        np.testing.assert_array_equal(collection.gather(wanted), whole[wanted])
        np.testing.assert_array_equal(collection.gather(np.arange(len(whole))), whole)
        assert collection.gather(np.empty(0, np.int64)).shape == (0, 3)


def test_vectors_of_length_one_at_any_scale_and_a_zero_vector_stays_zero() -> None:
    array = np.array([[0, 0], [3, 4], [3e-30, 4e-30], [3e30, -4e30], [1e-45, 0], [-0.0, 0]], np.float32)
    made = Vectors.of(array, normalise=True).gather(np.arange(6))
    # 1e-45 is the smallest float32: its direction is all that is left of it
    expected = [[0, 0], [0.6, 0.8], [0.6, 0.8], [0.6, -0.8], [1, 0], [0, 0]]
    np.testing.assert_allclose(made, np.array(expected), rtol=1e-6)
    np.testing.assert_array_equal(Vectors.of(array).gather(np.arange(6)), array)


def test_an_empty_collection() -> None:
    empty = Vectors.open(VectorStore(Path("nowhere"), "model", "query"), [])
    assert len(empty) == 0
    assert list(empty.blocks()) == []


def test_more_shards_than_a_process_may_open_files(tmp_path: Path) -> None:
    np.save(tmp_path / "shard.npy", np.arange(6, dtype=np.float32).reshape(2, 3))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (350, hard))
    try:
        mapped = Vectors(lambda shard: np.load(tmp_path / "shard.npy", mmap_mode="r"), [2] * 400, 3)
        for made in (np.concatenate([block.copy() for block in mapped.blocks(7)]), mapped.gather(np.arange(800))):
            np.testing.assert_array_equal(made, np.tile([[0, 1, 2], [3, 4, 5]], (400, 1)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_float16_halves_the_disk_and_is_read_as_float32(tmp_path: Path) -> None:
    array = np.random.default_rng(3).normal(size=(500, 32)).astype(np.float32)
    half, full = (VectorStore(tmp_path, "model", "document", storage) for storage in ("float16", "float32"))
    shard = half.put("a" * 64, array, 2.0, 9)
    assert full.get(shard.key) is None  # neither is ever taken for the other
    full.put("a" * 64, array, 2.0, 9)
    sizes = [(store.folder / f"{shard.key}.npy").stat().st_size - 128 for store in (half, full)]
    assert sizes == [500 * 32 * 2, 500 * 32 * 4]
    read = Vectors.open(half, [shard]).gather(np.arange(500))
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, array.astype(np.float16))


def test_float16_shards_are_made_from_float32_ones(tmp_path: Path) -> None:
    shard = put(VectorStore(tmp_path, "model", "document"), 1)
    half = VectorStore(tmp_path, "model", "document", "float16")
    made = half.get(shard.key)
    assert made is not None
    assert (made.rows, made.seconds, made.tokens) == (shard.rows, shard.seconds, shard.tokens)
    assert half.get("b" * 64) is None


def test_what_float16_cannot_hold_is_refused(tmp_path: Path) -> None:
    half = VectorStore(tmp_path, "model", "document", "float16")
    with pytest.raises(UserError, match=r"7e\+04.*omit --storage"):
        half.put("a" * 64, np.full((2, 2), 7e4, np.float32), 0, 0)
    assert half.get("a" * 64) is None


def test_torch_widens_every_float16_as_numpy_does() -> None:
    pytest.importorskip("torch", reason="the faster way")
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16).reshape(256, 256)
    every = every[np.isfinite(every).all(axis=1)]
    (block,) = Vectors.of(every).blocks()
    np.testing.assert_array_equal(block.view(np.uint32), every.astype(np.float32).view(np.uint32))
