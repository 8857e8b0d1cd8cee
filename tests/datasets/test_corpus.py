"""The corpus against plain `json` and a dict, its mistakes one by one, and its index under attack."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from harness.datasets import corpus as corpus_module
from harness.datasets.corpus import Corpus, open_corpus
from harness.types import Document, UserError
from tests.forked import forks


def written(path: Path, records: list[dict[str, object]]) -> Path:
    path.write_bytes("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode())
    return path


def never(*_: object) -> None:
    raise AssertionError("the corpus was scanned again")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return written(
        tmp_path / "corpus.jsonl", [{"_id": f"d{n}", "title": f"T{n}", "text": f"text {n}"} for n in range(9)]
    )


def test_reads_what_json_reads(tmp_path: Path, small: Path) -> None:
    expected = [Document(r["_id"], r["title"], r["text"]) for r in map(json.loads, small.read_text().splitlines())]
    with open_corpus(small, tmp_path / "cache") as corpus:
        assert len(corpus) == 9
        assert [corpus[row] for row in range(9)] == expected
        assert list(corpus.iter()) == expected
        assert list(corpus.iter(2, 5)) == expected[2:5]
        assert list(corpus.iter(7, 99)) == expected[7:]
        assert list(corpus.iter(5, 5)) == list(corpus.iter(9)) == []
        assert corpus.ids(slice(None)) == [document.id for document in expected]
        assert corpus.ids(slice(1, 9, 3)) == ["d1", "d4", "d7"]
        assert corpus.ids([8, 0, 8]) == corpus.ids(np.array([8, 0, 8], np.int32)) == ["d8", "d0", "d8"]
        assert corpus.ids([]) == []
        assert corpus.rows(["d3", "nope", "", "d0", "d3"]).tolist() == [3, -1, -1, 0, 3]
        assert corpus.rows([]).tolist() == []
        assert corpus.sha256 == hashlib.sha256(small.read_bytes()).hexdigest()
        for row in (-1, 9):
            with pytest.raises(IndexError):
                corpus[row]
            with pytest.raises(IndexError):
                corpus.ids([row])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'\xef\xbb\xbf{"_id": "a", "text": "x"}\r\n{"_id": "b", "text": "y"}\r\n', [("a", "", "x"), ("b", "", "y")]),
        (
            b'\n\n{"_id": 7, "title": null, "text": ""}\n  \x0c\r\n{"_id": "b", "text": "y"}',
            [("7", "", ""), ("b", "", "y")],
        ),
        ('{"text": "Zürich\u2028日本", "_id": "é", "extra": [1]}\n'.encode(), [("é", "", "Zürich\u2028日本")]),
        (b'{"_id": "a", "text": "\\ud83d\\ude00 \\ud83d"}', [("a", "", "\U0001f600 \ufffd")]),
    ],
    ids=["bom-crlf", "blank-lines-integers-null-title", "unicode-further-keys", "half-a-surrogate-pair"],
)
def test_tolerates(tmp_path: Path, content: bytes, expected: list[tuple[str, str, str]]) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(content)
    with open_corpus(path, tmp_path / "cache") as corpus:
        assert list(corpus.iter()) == [corpus[row] for row in range(len(corpus))] == expected
        assert corpus.rows([document[0] for document in expected]).tolist() == list(range(len(expected)))


GOOD = b'{"_id": "a", "text": "x"}\n'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (GOOD + b'\n{"_id": "b", "text": \n', ["line 3", "is not JSON (Expecting value, column"]),
        (GOOD + b'{"_id": "b", "text": "cut of', ["line 2", "is not JSON (Unterminated string"]),
        (GOOD + b'["b", "y"]\n', ["line 2", "is not a JSON object"]),
        (GOOD + b'{"_id": "b", "text": "\xff"}\n', ["line 2", "is not UTF-8 (byte 23 is 0xff)"]),
        (b'{"id": "b", "text": "y"}\n', ["line 1", "has no '_id'"]),
        (b'{"_id": true, "text": "y"}\n', ["line 1", "has a '_id' that is not text (True)"]),
        (b'{"_id": 1.5, "text": "y"}\n', ["line 1", "has a '_id' that is not text (1.5)"]),
        (b'{"_id": "", "text": "y"}\n', ["line 1", "'_id' '', empty"]),
        (b'{"_id": "b c", "text": "y"}\n', ["line 1", "'_id' 'b c'", "a TREC run cannot carry"]),
        (b'{"_id": "b", "contents": "y"}\n', ["line 1", "has no 'text'"]),
        (b'{"_id": "b", "text": ["y"]}\n', ["line 1", "has a 'text' that is not text (['y'])"]),
        (b'{"_id": "b", "title": 3, "text": "y"}\n', ["line 1", "has a 'title' that is not text (3)"]),
        (GOOD + b'\n{"_id": "b", "text": "y"}\n{"_id": "a", "text": "z"}\n' + GOOD, ["'a' twice", "lines 1 and 4"]),
        (b'{"_id": "1", "text": "x"}\n{"_id": 1, "text": "X"}\n', ["the id '1' twice", "lines 1 and 2", "different"]),
        (
            b"".join(b'{"_id": "d%d", "text": "%d"}\n' % (n % 5, n) for n in range(15)),
            ["5 ids on several lines ('d0' twice, on lines 1 and 6; 'd1' twice, on lines 2 and 7; 'd2' twice", " ...)"],
        ),
        (b"", ["holds no documents"]),
        (b"\n\n", ["holds no documents"]),
    ],
)
def test_mistakes_are_one_sentence(tmp_path: Path, content: bytes, words: list[str]) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        open_corpus(path, tmp_path / "cache")
    assert all(word in str(caught.value) for word in ["corpus.jsonl", *words]), caught.value
    assert not list(tmp_path.glob("cache/*")), "nothing is kept of a corpus that was refused"


@pytest.mark.parametrize("places", [(2,), (9,), (1, 1, 1), (3, 5, 9), tuple(range(1, 10))])
def test_records_that_repeat_an_earlier_one_count_once(tmp_path: Path, places: tuple[int, ...]) -> None:
    """The same document as long as id, title and text are; wherever it stands, and with lines between."""
    records = [{"_id": f"d{n}", "title": f"T{n}", "text": f"text {n}", "more": n} for n in range(9)]
    lines = [json.dumps(record) for record in records]
    for nth, place in enumerate(sorted(places, reverse=True)):
        copy = {"text": f"text {place - 1}", "_id": f"d{place - 1}", "title": f"T{place - 1}", "more": nth}
        lines[place : min(place, 8) if nth % 2 else place] = ["", json.dumps(copy), "  "]
    path = tmp_path / "corpus.jsonl"
    path.write_text("\n".join(lines))
    expected = [Document(str(r["_id"]), str(r["title"]), str(r["text"])) for r in records]
    for _ in range(2):  # scanned, then from the stored index
        with open_corpus(path, tmp_path / "cache") as corpus:
            assert (len(corpus), corpus.repeated) == (9, len(places))
            assert list(corpus.iter()) == [corpus[row] for row in range(9)] == expected
            assert [list(corpus.iter(start, start + 3)) for start in range(9)] == [
                expected[n : n + 3] for n in range(9)
            ]
            assert corpus.ids(slice(None)) == [document.id for document in expected]
            assert corpus.rows([f"d{n}" for n in range(10)]).tolist() == [*range(9), -1]
            assert corpus.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    with open_corpus(path, tmp_path / "cache") as corpus:
        path.write_text(path.read_text().replace("text 8", "TEXT 8"))
        with pytest.raises(UserError, match="was changed"):
            list(corpus.iter())


def test_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing\.jsonl cannot be read \(No such file"):
        open_corpus(tmp_path / "missing.jsonl", tmp_path / "cache")
    with pytest.raises(UserError, match=r"cannot be read \(Is a directory"):
        open_corpus(tmp_path, tmp_path / "cache")


def test_200_000_documents_agree_with_a_dict_and_open_at_once_the_second_time(tmp_path: Path) -> None:
    path, cache = tmp_path / "corpus.jsonl", tmp_path / "cache"
    lines = (f'{{"_id": "doc-{n * 7919 % 200_003}", "text": "number {n}"}}\n' for n in range(200_000))
    path.write_bytes("".join(lines).encode())
    expected = {f"doc-{n * 7919 % 200_003}": n for n in range(200_000)}
    done: list[tuple[int, int]] = []
    open_corpus(path, cache, lambda _, *progress: done.append(progress)).close()
    assert done[-1] == (path.stat().st_size,) * 2
    assert [at for at, _ in done] == sorted({at for at, _ in done})
    with open_corpus(path, cache, never) as corpus:
        asked = [*random.Random(0).sample(list(expected), 20_000), "doc-200003", "doc-", "doc-01"]
        assert corpus.rows(asked).tolist() == [expected.get(each, -1) for each in asked]
        assert corpus.ids(slice(None)) == list(expected)
        assert corpus[123_456].text == "number 123456"


@pytest.mark.parametrize("seed", range(5))
def test_random_ids(tmp_path: Path, seed: int) -> None:
    """Long, similar, of every script and with colliding hashes (8 bits are left of each)."""
    rng = random.Random(seed)
    alphabet = "ab\u00e9\u0301\u65e5\U0001f600\u00a0\u2028'\"\\/"
    ids = list(dict.fromkeys("".join(rng.choices(alphabet, k=rng.choice([1, 2, 5, 300]))) for _ in range(600)))
    unknown = [f"{each}a" for each in ids if f"{each}a" not in ids]
    path = written(tmp_path / "corpus.jsonl", [{"_id": each, "text": "t"} for each in ids])
    whole = corpus_module._hash
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus_module, "_hash", lambda identifier: whole(identifier) & 0xFF)
        with open_corpus(path, tmp_path / "cache") as corpus:
            assert corpus.rows(ids).tolist() == list(range(len(ids)))
            assert corpus.rows(unknown).tolist() == [-1] * len(unknown)
            assert [corpus[row].id for row in range(len(ids))] == ids == corpus.ids(range(len(ids)))
        path.write_bytes(path.read_bytes() + json.dumps({"_id": ids[41], "text": "u"}).encode())
        with pytest.raises(UserError, match=f"lines 42 and {len(ids) + 1}, with"):
            open_corpus(path, tmp_path / "cache")


@pytest.mark.parametrize("file", ["index.json", *corpus_module.FILES])
@pytest.mark.parametrize("harm", ["removed", "emptied", "cut", "one bit"])
def test_a_damaged_index_is_made_again(tmp_path: Path, small: Path, file: str, harm: str) -> None:
    open_corpus(small, tmp_path / "cache").close()
    (victim,) = (tmp_path / "cache").glob(f"*/{file}")
    content = bytearray(victim.read_bytes())
    if harm == "removed":
        victim.unlink()
    elif harm == "one bit":
        content[-2] ^= 4
        victim.write_bytes(content)
    else:
        victim.write_bytes(content[: len(content) // 2 if harm == "cut" else 0])
    with open_corpus(small, tmp_path / "cache") as corpus:
        assert corpus.rows(["d8", "d1"]).tolist() == [8, 1]
        assert corpus[8].text == "text 8"
    open_corpus(small, tmp_path / "cache", never).close()


def test_a_changed_file_is_read_again_even_when_its_size_is_the_same(tmp_path: Path, small: Path) -> None:
    with open_corpus(small, tmp_path / "cache") as corpus:
        first = corpus.sha256
    small.write_bytes(small.read_bytes().replace(b"text 3", b"TEXT 4").replace(b'"d5"', b'"e5"'))
    with open_corpus(small, tmp_path / "cache") as corpus:
        assert corpus.sha256 != first
        assert corpus[3].text == "TEXT 4"
        assert corpus.rows(["d5", "e5"]).tolist() == [-1, 5]
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_file_replaced_while_in_use_is_noticed(tmp_path: Path, small: Path) -> None:
    with open_corpus(small, tmp_path / "cache") as corpus:
        shorter = written(
            tmp_path / "other.jsonl", [{"_id": f"d{n}", "title": f"T{n}", "text": f"text {n}"} for n in range(8)]
        )
        os.replace(shorter, small)  # noqa: PTH105
        with pytest.raises(UserError, match="changed while it was in use"):
            list(corpus.iter())
        os.replace(written(tmp_path / "other.jsonl", [{"_id": "e", "text": ""}]), small)  # noqa: PTH105
        with pytest.raises(UserError, match="changed while it was in use"):
            next(corpus.iter())


def test_a_file_that_grows_during_the_scan_is_refused(tmp_path: Path, small: Path) -> None:
    def grow(what: str, done: int, total: int) -> None:
        small.write_bytes(small.read_bytes() + b'{"_id": "late", "text": ""}\n')

    with pytest.raises(UserError, match="changed while it was read"):
        open_corpus(small, tmp_path / "cache", grow)


def _lookups(path: Path, cache: Path) -> tuple[str, int]:
    with open_corpus(path, cache) as corpus:
        return corpus.sha256, int(corpus.rows(["d4999"])[0])


def test_processes_that_open_at_once_agree(tmp_path: Path) -> None:
    path = written(tmp_path / "corpus.jsonl", [{"_id": f"d{n}", "text": "t"} for n in range(5000)])
    with forks().Pool(4) as pool:
        for _ in range(3):
            found = pool.starmap(_lookups, [(path, tmp_path / "cache")] * 8, chunksize=1)
            assert found == [(hashlib.sha256(path.read_bytes()).hexdigest(), 4999)] * 8
            path.write_bytes(path.read_bytes().replace(b'"t"', b'"u"'))
            found = pool.starmap(_lookups, [(path, tmp_path / "cache")] * 8, chunksize=1)
            assert found == [(hashlib.sha256(path.read_bytes()).hexdigest(), 4999)] * 8
            path.write_bytes(path.read_bytes().replace(b'"u"', b'"tt"'))
            path.write_bytes(path.read_bytes().replace(b'"tt"', b'"t"'))
    assert not list((tmp_path / "cache").glob(".*.tmp"))


def test_threads_share_a_corpus(tmp_path: Path) -> None:
    path = written(tmp_path / "corpus.jsonl", [{"_id": f"d{n}", "text": "t" * (n % 97)} for n in range(3000)])
    with open_corpus(path, tmp_path / "cache") as corpus, ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda row: corpus[row] == (f"d{row}", "", "t" * (row % 97)), range(3000)))


MEMORY = """
import resource, sys
from pathlib import Path
from harness.datasets.corpus import open_corpus
with open_corpus(Path(sys.argv[1]), Path(sys.argv[2])) as corpus:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert sum(len(corpus[row].text) for row in range(len(corpus))) == sum(len(each.text) for each in corpus.iter())
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts KiB on Linux")
def test_memory_does_not_grow_with_the_texts(tmp_path: Path) -> None:
    path = written(tmp_path / "corpus.jsonl", [{"_id": f"d{n}", "text": "t" * 20_000} for n in range(4000)])
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path), str(tmp_path / "cache")], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 8 * 1024, "KiB, for 80 MB of text"


def test_real_collection(tmp_path: Path, shared: Path) -> None:
    path = shared / "data" / "scifact" / "corpus.jsonl"
    records = [json.loads(line) for line in path.open(encoding="utf-8")]
    with open_corpus(path, tmp_path) as corpus:
        assert isinstance(corpus, Corpus)
        assert len(corpus) == 5183
        assert list(corpus.iter()) == [(r["_id"], r["title"], r["text"]) for r in records]
        assert corpus.rows([r["_id"] for r in reversed(records)]).tolist() == list(range(5183))[::-1]


def test_bit_rot_is_detected_when_every_document_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a bad disk leaves every time stamp as it was, which no program can do to the ctime
    monkeypatch.setattr(corpus_module, "file_state", lambda status: {"size": status.st_size, "ctime_ns": 0})
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"_id": str(n), "text": "some words"}) + "\n" for n in range(5)))
    with open_corpus(path, tmp_path / "cache") as corpus:
        assert len([*corpus.iter()]) == 5
    stamp, data = path.stat(), path.read_bytes()
    path.write_bytes(data[:-5] + bytes([data[-5] ^ 1]) + data[-4:])
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    with open_corpus(path, tmp_path / "cache") as corpus:
        assert len([*corpus.iter(0, 4)]) == 4
        with pytest.raises(UserError, match="the disk has corrupted it; replace it by a good copy"):
            list(corpus.iter())


def swapped(path: Path, content: bytes) -> None:
    """Another file of the same size and modification time in its place."""
    stamp, other = path.stat(), path.with_name("other")
    other.write_bytes(content)
    assert len(content) == stamp.st_size
    os.utime(other, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("way", ["replaced", "in place"])
def test_another_corpus_of_the_same_size_and_time_is_another_corpus(tmp_path: Path, small: Path, way: str) -> None:
    with open_corpus(small, tmp_path / "cache") as corpus:
        before = corpus.sha256
    content, stamp = small.read_bytes().replace(b"text 1", b"text X"), small.stat()
    if way == "replaced":
        swapped(small, content)
    else:
        small.write_bytes(content)
        os.utime(small, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    with open_corpus(small, tmp_path / "cache") as corpus:
        assert corpus.sha256 == hashlib.sha256(content).hexdigest() != before
        assert corpus[1].text == "text X"


def test_a_file_with_other_time_stamps_alone_is_hashed_and_not_scanned(tmp_path: Path, small: Path) -> None:
    open_corpus(small, tmp_path / "cache").close()
    os.utime(small, (1, 1))
    told: list[str] = []
    with open_corpus(small, tmp_path / "cache", lambda what, *_: told.append(what)) as corpus:
        assert corpus.rows(["d8"]).tolist() == [8]
    assert told == [f"hashing {small}"]
    open_corpus(small, tmp_path / "cache", never).close()  # its new state is recorded


def test_asked_to_the_file_is_hashed_whatever_its_state(
    tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus_module, "file_state", lambda status: {"size": status.st_size, "ctime_ns": 0})
    open_corpus(small, tmp_path / "cache").close()
    small.write_bytes(small.read_bytes().replace(b"text 1", b"text X"))
    with open_corpus(small, tmp_path / "cache", rehash=True) as corpus:
        assert corpus[1].text == "text X"
        assert corpus.sha256 == hashlib.sha256(small.read_bytes()).hexdigest()


def test_the_index_of_another_file_is_not_taken(tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_module, "file_state", lambda status: {"size": status.st_size, "ctime_ns": 0})
    other = tmp_path / "other.jsonl"
    other.write_bytes(small.read_bytes().replace(b"text 1", b"text X"))
    digests = {}
    for path in (small, other):
        with open_corpus(path, tmp_path / "cache") as corpus:
            digests[path] = corpus.sha256
    first, second = (tmp_path / "cache").iterdir()
    for source, target in ((first, tmp_path / "aside"), (second, first), (tmp_path / "aside", second)):
        source.rename(target)
    for path, digest in digests.items():
        with open_corpus(path, tmp_path / "cache") as corpus:
            assert corpus.sha256 == digest
