"""The remote cache: entries are pulled whole or not at all, corrupt ones replaced, and its failures stop no run."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.embeddings.store import Shard, VectorStore
from harness.storage.atomic import content_key
from harness.storage.remote import RemoteCache, RemoteRecord
from harness.types import UserError
from tests.forked import fork
from tests.storage.bucket import COLLECTION, GOOD, KEYS, REGISTRY, Bomb, Bucket, Home, failing, flip, saved, vectors

pytestmark = pytest.mark.usefixtures("bucket")


fsspec = pytest.importorskip("fsspec", reason="URLs need fsspec (the store extra)")


@pytest.fixture(params=["folder", "file", "memory", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    kinds = {"folder": str(tmp_path / "store"), "file": f"file://{tmp_path}/store"}
    return kinds.get(request.param, f"{request.param}://bucket/some/prefix")


def test_a_second_home_pulls_everything_byte_for_byte(url: str, tmp_path: Path) -> None:
    one = Home(tmp_path / "one", url)
    one.fill()
    two = Home(tmp_path / "two", url)
    found = two.store().read_list(COLLECTION)
    assert found is not None
    assert [shard.key for shard in found[0]] == KEYS
    assert found[1] == "cosine"
    assert one.files() == two.files() != {}
    assert (one.pushed, two.pulled, two.pushed) == (4, 3, 0)
    assert one.notes == two.notes == []
    for key in KEYS:
        np.testing.assert_array_equal(np.load(two.store().folder / f"{key}.npy"), vectors(key))


def test_float16_comes_from_the_shared_float32(tmp_path: Path) -> None:
    url = str(tmp_path / "store")
    Home(tmp_path / "one", url).fill()
    two, three = Home(tmp_path / "two", url), Home(tmp_path / "three", url)
    assert two.store(storage="float16").get(KEYS[0]) is not None
    assert three.store(storage="float16").get(KEYS[0]) is not None
    assert three.pulled == 1  # the narrow one alone
    narrow = np.load(three.store(storage="float16").folder / f"{KEYS[0]}.npy")
    np.testing.assert_array_equal(narrow, vectors(KEYS[0]).astype(np.float16))


def test_earlier_local_entries_are_pushed_when_used(tmp_path: Path) -> None:
    url = str(tmp_path / "store")
    alone = VectorStore(tmp_path / "one", "model", "document")
    alone.write_list(COLLECTION, [alone.put(key, vectors(key), 1.5, 7) for key in KEYS], "dot")
    one = Home(tmp_path / "one", url)
    for _ in range(2):  # once is enough
        assert one.store().read_list(COLLECTION) is not None
        assert one.pushed == 4
    two = Home(tmp_path / "two", url)
    assert two.store().read_list(COLLECTION) is not None
    assert two.files() == one.files()


@pytest.mark.parametrize("suffix", [".json", ".npy"])
def test_flipped_bits_and_truncated_objects_are_never_used(suffix: str, tmp_path: Path) -> None:
    one = Home(tmp_path / "one", str(tmp_path / "store"))
    one.fill()
    two = Home(tmp_path / "two", str(tmp_path / "store"))
    [path] = (tmp_path / "store" / "vectors" / "model" / "document").glob(f"{KEYS[0]}*{suffix}")
    whole = path.read_bytes()
    corrupted = [flip(whole, at) for at in range(len(whole))] + [whole[:at] for at in range(0, len(whole), 7)]
    for bad in [*corrupted, whole + b" x"]:
        path.write_bytes(bad)
        assert two.store().get(KEYS[0]) is None
    assert len(two.notes) == 1
    assert "is corrupt; it is made again and replaced" in two.notes[0]
    two.store().put(KEYS[0], vectors(KEYS[0]), 1.5, 7)
    assert Home(tmp_path / "three", str(tmp_path / "store")).store().get(KEYS[0]) is not None


def test_a_corrupt_list_or_marker_is_replaced(tmp_path: Path) -> None:
    url = str(tmp_path / "store")
    Home(tmp_path / "one", url).fill()
    for path in (tmp_path / "store").rglob("*.json"):
        path.write_bytes(flip(path.read_bytes(), 20))
    two = Home(tmp_path / "two", url)
    assert two.store().read_list(COLLECTION) is None
    two.fill()
    assert Home(tmp_path / "three", url).store().read_list(COLLECTION) is not None


def test_a_damaged_transfer_is_repeated(bucket: type[Bucket], tmp_path: Path) -> None:
    Home(tmp_path / "one", "s3://bucket/p").fill()
    two = Home(tmp_path / "two", "s3://bucket/p")
    reads = iter(range(100))
    bucket.alter = staticmethod(lambda data: data if next(reads) % 2 else data[: len(data) // 2])  # type: ignore[assignment]
    assert two.store().get(KEYS[0]) is not None
    assert two.notes == []


def test_transient_errors_are_retried(bucket: type[Bucket], tmp_path: Path) -> None:
    calls: Counter[tuple[str, str]] = Counter()

    def before(operation: str, path: str) -> None:
        calls[operation, path] += 1
        if calls[operation, path] % 4:  # three of four are turned away
            raise OSError("503 Slow Down")

    bucket.before = staticmethod(before)  # type: ignore[assignment]
    one, two = Home(tmp_path / "one", "s3://bucket/p"), Home(tmp_path / "two", "s3://bucket/p")
    one.fill()
    assert two.store().read_list(COLLECTION) is not None
    assert one.notes == two.notes == []


@pytest.mark.parametrize("first", range(8))
def test_a_later_failure_costs_nothing(first: int, bucket: type[Bucket], tmp_path: Path) -> None:
    """All writes from the n-th on fail: the run continues, readers see whole shards, a later run pushes the rest."""
    one, two = (Home(tmp_path / name, "s3://bucket/p") for name in ("one", "two"))
    bucket.before = failing("write", first=first)
    one.fill()
    published = first // 2 if first < 7 else 4
    assert (one.pushed, one.pending) == (published, 4 - published)
    assert len(one.notes) == (first < 7)
    assert all("the cable is cut" in note and "the run continues without it" in note for note in one.notes)
    bucket.before = staticmethod(lambda *_: None)  # type: ignore[assignment]
    assert [two.store().get(key) is not None for key in KEYS] == [number < first // 2 for number in range(3)]
    assert two.notes == []
    assert VectorStore(one.folder, "model", "document").read_list(COLLECTION) is not None
    again = Home(one.folder, "s3://bucket/p")
    assert (again.pending, again.notes) == (0, [])
    three = Home(tmp_path / "three", "s3://bucket/p")
    assert three.store().read_list(COLLECTION) is not None
    assert three.files() == again.files()


def test_without_reads_the_local_cache_is_used(bucket: type[Bucket], tmp_path: Path) -> None:
    Home(tmp_path / "one", "s3://bucket/p").fill()
    two = Home(tmp_path / "two", "s3://bucket/p")
    bucket.before = failing("read", "write")
    assert two.store().read_list(COLLECTION) is None
    two.fill()
    assert VectorStore(two.folder, "model", "document").read_list(COLLECTION) is not None
    assert two.pending == 4
    two.shared.flush()
    assert len(two.notes) == 2  # that it fails, and what is left
    assert "4 entries are kept" in two.notes[1]


def test_it_is_used_again_after_the_back_off(
    bucket: type[Bucket], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Home(tmp_path / "one", "s3://bucket/p").fill()
    monkeypatch.setattr("harness.storage.remote.BACK_OFF_SECONDS", 0.0)
    two = Home(tmp_path / "two", "s3://bucket/p")
    bucket.before = failing("read")
    assert two.store().get(KEYS[0]) is None
    bucket.before = staticmethod(lambda *_: None)  # type: ignore[assignment]
    assert two.store().get(KEYS[0]) is not None


def test_a_read_only_cache_is_read(bucket: type[Bucket], tmp_path: Path) -> None:
    one = Home(tmp_path / "one", "s3://bucket/p")
    one.fill()
    bucket.before = failing("write", error=PermissionError("Access Denied"))
    two = Home(tmp_path / "two", "s3://bucket/p")
    assert two.store().get(KEYS[0]) is not None
    for name in ("more", "still more"):
        two.store().put(content_key(name), vectors(KEYS[0]), 1.0, 1)
    assert len(two.notes) == 1
    assert "is read-only (Access Denied)" in two.notes[0]


@pytest.mark.parametrize(
    ("operation", "error", "expected"),
    [
        ("read", OSError("no route to host"), "cannot be read (no route to host)"),
        ("read", PermissionError("Forbidden"), "cannot be read (Forbidden)"),
        ("write", PermissionError("Forbidden"), "cannot be written (Forbidden)"),
        ("write", FileNotFoundError("no such bucket"), "cannot be written (no such bucket)"),
        ("read", RuntimeError("Unable to\nlocate credentials"), "cannot be read (Unable to locate credentials)"),
    ],
)
def test_a_failure_at_the_start_is_one_sentence(
    operation: str, error: Exception, expected: str, bucket: type[Bucket], tmp_path: Path
) -> None:
    bucket.before = failing(operation, error=error)
    with pytest.raises(UserError) as raised:
        Home(tmp_path / "one", "s3://bucket/p")
    assert expected in str(raised.value)
    assert "or omit --store" in str(raised.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://host/x", "plain http"),
        ("ftp://host/x", "ftp://host/x is not a remote cache"),
        ("ssh://me:secret@host/x", "ssh://host/x is not a remote cache"),
        ("simplecache::s3://b/x", "is not a remote cache"),
        ("s3://b/x::memory://y", "holds more than a location"),
        ("https://host/x?sig=secret", "https://host/x holds more than a location"),
        ("s3://id:secret@b/x", "s3://b/x holds more than a location"),
        ("file://host/x", "names a machine"),
        ("/nowhere/at/all", "cannot be created"),
    ],
)
def test_other_urls_are_refused(url: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        Home(tmp_path / "one", url)
    assert expected in str(raised.value)
    assert "secret" not in str(raised.value)


def test_other_formats_and_no_network_are_refused(bucket: type[Bucket], tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "harness-store.json").write_bytes(RemoteRecord({"format": 2}).encode())
    with pytest.raises(UserError, match="has format 2, this version knows 1"):
        Home(tmp_path / "one", str(tmp_path / "store"))
    with pytest.raises(UserError, match="needs the network, which is off"):
        Home(tmp_path / "one", "s3://bucket/p", offline=True)
    Home(tmp_path / "one", f"file://{tmp_path}/other", offline=True).fill()


def test_https_is_read_and_never_written(bucket: type[Bucket], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRY, "https", Bucket)
    with pytest.raises(UserError, match="There is no remote cache at https://bucket/p"):
        Home(tmp_path / "zero", "https://bucket/p")
    Home(tmp_path / "one", "s3://bucket/p").fill()
    bucket.before = failing("write")
    two = Home(tmp_path / "two", "https://bucket/p")
    assert two.store().get(KEYS[0]) is not None
    two.fill()
    assert (two.notes, two.pending) == ([], 0)


def _published(folder: Path, key: str, data: bytes, /, **altered: Any) -> None:
    """Writes a shard with a correct checksum, whatever it says."""
    digest = hashlib.sha256(data).hexdigest()
    content = {"key": key, "rows": 5, "dim": 3, "sha256": digest, "seconds": 1.0, "tokens": 1, **altered}
    place = folder / "vectors" / "model" / "document"
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{key}.{digest}.npy").write_bytes(data)
    (place / f"{key}.json").write_bytes(RemoteRecord(content, digest, len(data)).encode())


HUGE = GOOD.replace(b"(5, 3), }" + b" " * 9, b"(9999999999, 3), }")


@pytest.mark.parametrize(
    ("data", "altered"),
    [
        (saved(np.array([[Bomb()] * 3] * 5), allow_pickle=True), {}),
        (pickle.dumps(Bomb()), {}),
        (saved(np.full((5, 3), np.nan, np.float32)), {}),
        (saved(np.ones((5, 3))), {}),
        (saved(np.ones((4, 3), np.float32)), {}),
        (HUGE, {"rows": 9999999999}),
        (GOOD, {"key": KEYS[1]}),
        (GOOD, {"seconds": "1"}),
        (GOOD, {"seconds": -1}),
        (GOOD, {"tokens": None}),
        (GOOD, {"more": 1}),
        (b"", {}),
    ],
)
def test_shards_of_untrusted_authors_are_validated(
    data: bytes, altered: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one = Home(tmp_path / "one", str(tmp_path / "store"))
    _published(tmp_path / "store", KEYS[0], data, **altered)
    assert one.store().get(KEYS[0]) is None
    assert len(one.notes) == 1
    assert "is corrupt" in one.notes[0]
    assert not Path("exploded").exists()
    assert one.files() == {}
    _published(tmp_path / "store", KEYS[0], GOOD)
    assert one.store().get(KEYS[0]) is not None


@pytest.mark.parametrize("key", ["../../../../outside", "/outside", "a/b", 7, None])
def test_a_list_cannot_lead_outside(key: Any, tmp_path: Path) -> None:
    (tmp_path / "deep" / "down").mkdir(parents=True)
    root = tmp_path / "deep" / "down" / "store"
    one = Home(tmp_path / "one", str(root))
    _published(root, KEYS[0], GOOD)
    place = root / "vectors" / "model" / "document"
    listed = {"similarity": "dot", "shards": [[key, 5]]}
    (place / f"list-{COLLECTION}.json").write_bytes(RemoteRecord(listed).encode())
    if key == "../../../../outside":  # where it leads from there is another place than where it leads from here
        _published(root, KEYS[0], GOOD, key=key)
        for path in place.glob(f"{KEYS[0]}*"):
            path.rename(root.parent / path.name.replace(KEYS[0], "outside"))
    assert one.store().read_list(COLLECTION) is None
    assert all(name.startswith("vectors/model/document/list-") for name in one.files())
    assert not list(tmp_path.glob("outside*"))


def put_often(folder: Path, url: str, value: int) -> None:
    home = Home(folder, url)
    for key in KEYS * 20:
        home.store().put(key, np.full((5, 3), value, np.float32), 1.0, 1)
    assert home.notes == []


def test_two_writers_of_a_key_with_other_bytes_leave_a_valid_shard(tmp_path: Path) -> None:
    """Records may come in another order than data: whichever is last, it points at its own."""
    url = str(tmp_path / "store")
    running = [fork(put_often, tmp_path / str(value), url, value) for value in (1, 2)]
    reader = Home(tmp_path / "reader", url)
    while any(process.exitcode is None for process in running):
        fresh = VectorStore(reader.folder, "model", "document", shared=reader.shared)
        for key in KEYS:
            if fresh.get(key) is not None:
                assert len(np.unique(np.load(fresh.folder / f"{key}.npy"))) == 1
                (fresh.folder / f"{key}.json").unlink()
    assert [process.exitcode for process in running] == [0, 0]
    assert all(Home(tmp_path / "last", url).store().get(key) for key in KEYS)
    assert reader.notes == []
    assert not list((tmp_path / "store").rglob("*.tmp"))


def test_uploads_that_a_kill_prevented_are_done_by_the_next_run(tmp_path: Path) -> None:
    url = str(tmp_path / "store")
    one = Home(tmp_path / "one", url)
    one.shared.push = lambda name: None  # type: ignore[method-assign]
    one.fill()
    assert one.pending == 4
    assert Home(one.folder, url).pending == 0
    assert Home(tmp_path / "two", url).store().read_list(COLLECTION) is not None


def test_another_process_opens_it_for_itself(tmp_path: Path) -> None:
    one = Home(tmp_path / "one", f"file://{tmp_path}/store")
    copy = pickle.loads(pickle.dumps(one.shared))
    assert isinstance(copy, RemoteCache)
    VectorStore(one.folder, "model", "document", shared=copy).put(KEYS[0], vectors(KEYS[0]), 1.0, 1)
    two = Home(tmp_path / "two", f"file://{tmp_path}/store")
    assert isinstance(two.store().get(KEYS[0]), Shard)


COUNTING = """
from pathlib import Path

import numpy as np

from harness import ModelSpec, hookimpl


class Counting:
    dim = 8

    def encode(self, texts, *, role):
        with Path("encoded").open("a") as log:
            log.write("x" * len(texts))
        letters = [np.frombuffer(text.encode(), np.uint8) % self.dim for text in texts]
        return np.asarray([np.bincount(row, minlength=self.dim) for row in letters], np.float32)


def load(options):
    return Counting()


@hookimpl
def harness_models():
    yield ModelSpec("counting", "dense", f"{__name__}:load", "counts of letters")
"""


def stated(path: Path) -> dict[str, Any]:
    """A result without what every run states for itself."""
    found = json.loads(path.read_text())
    del found["checksum"], found["command"], found["manifest"]["run"]
    for phase in ("search", "measure", "geometry"):
        found["seconds"].pop(phase, None)
    return dict(found)


@pytest.mark.parametrize("given", ["option", "variable"])
def test_two_homes_and_one_remote_cache_encode_and_index_once(
    given: str, harness: Any, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "counting.py").write_text(COUNTING)
    words = ["--plugin", "counting.py", "-m", "bm25,counting,center(counting)", "-d", toy, "--storage", "float16"]
    if given == "variable":
        monkeypatch.setenv("HARNESS_STORE", "store")
    for name in ("one", "two"):
        monkeypatch.setenv("HARNESS_HOME", str(tmp_path / name))
        if name == "two":
            monkeypatch.setattr("harness_plugins.bm25.scoring.LuceneBM25.build", None)
        more = ["--store", "store"] if given == "option" else []
        done = harness("benchmark", *words, *more, "--results", f"results-{name}", "--json")
        assert done.code == 0, done.err
        assert [cell["cell"] for cell in json.loads(done.out)] == ["ok"] * 3
    assert (tmp_path / "encoded").read_text() == "x" * 16  # twelve documents and four queries, once
    one, two = (sorted((tmp_path / f"results-{name}").rglob("*.*")) for name in ("one", "two"))
    assert [path.name for path in one if path.is_file()] == ["per_query.parquet", "result.json", "run.trec.gz"] * 3
    for first, second in zip(one, two, strict=True):
        if first.name == "result.json":
            assert stated(first) == stated(second)
        elif first.is_file():
            assert first.read_bytes() == second.read_bytes()


def test_a_refused_url_ends_the_command(harness: Any, toy: Path) -> None:
    done = harness("benchmark", "-m", "bm25", "-d", toy, "--store", "http://host/x")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "plain http" in done.err


def test_objects_that_changed_places_are_not_used(tmp_path: Path) -> None:
    one = Home(tmp_path / "one", str(tmp_path / "store"))
    one.fill()
    other = VectorStore(one.folder, "other", "document", shared=one.shared)
    other.write_list(COLLECTION, [other.put(key, vectors(key) * 2, 1.5, 7) for key in KEYS], "dot")
    first, second = sorted((tmp_path / "store" / "vectors").iterdir())
    for source, target in ((first, tmp_path / "aside"), (second, first), (tmp_path / "aside", second)):
        source.rename(target)
    two = Home(tmp_path / "two", str(tmp_path / "store"))
    assert two.store().read_list(COLLECTION) is None
    assert two.store().get(KEYS[0]) is None
    assert [note for note in two.notes if "is corrupt" in note]
