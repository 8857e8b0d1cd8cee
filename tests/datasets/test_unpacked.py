"""Gzipped parts of a dataset: read as their plain twins are, unpacked once, and never served stale."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.datasets import unpacked
from harness.datasets.beir import open_dataset
from harness.types import UserError

PARTS = ("corpus.jsonl", "queries.jsonl")


def pack(folder: Path, change: Callable[[bytes], bytes] = lambda data: data) -> None:
    for name in PARTS:
        plain = folder / name
        (folder / f"{name}.gz").write_bytes(change(gzip.compress(plain.read_bytes())))
        plain.unlink()


def copies(cache: Path) -> list[str]:
    return sorted(file.name for file in cache.glob("unpacked/*/*.jsonl"))


def test_gzipped_parts_give_the_same_dataset(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_dataset(toy, cache=tmp_path / "cache") as dataset:
        plain, documents = dataset.fingerprint, list(dataset.corpus.iter())
    pack(toy)
    with open_dataset(toy, cache=tmp_path / "cache") as dataset:
        assert (dataset.fingerprint, dataset.name, dataset.notes) == (plain, "toy", [])
        assert list(dataset.corpus.iter()) == documents
        assert dataset.corpus[7] == documents[7]
    assert copies(tmp_path / "cache") == [*PARTS]
    monkeypatch.setattr(unpacked, "write_file", lambda *_: pytest.fail("unpacked a second time"))
    open_dataset(toy.rename(tmp_path / "moved"), cache=tmp_path / "cache").close()


def test_a_changed_archive_is_unpacked_again(toy: Path, tmp_path: Path) -> None:
    pack(toy)
    with open_dataset(toy, cache=tmp_path / "cache") as dataset:
        assert "oxygen" in dataset.corpus[1].text
    archive = toy / "corpus.jsonl.gz"
    archive.write_bytes(gzip.compress(gzip.decompress(archive.read_bytes()).replace(b"oxygen", b"helium")))
    with open_dataset(toy, cache=tmp_path / "cache") as dataset:
        assert "helium" in dataset.corpus[1].text
    (toy / "corpus.jsonl").write_text('{"_id": "heart", "text": "plain"}\n')
    with open_dataset(toy, cache=tmp_path / "cache") as dataset:
        assert [document.text for document in dataset.corpus.iter()] == ["plain"]  # the plain file counts


def test_concurrent_callers_wait(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(toy)
    written, real = [], unpacked.write_file
    monkeypatch.setattr(unpacked, "write_file", lambda path, write: (written.append(path.name), real(path, write)))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: open_dataset(toy, cache=tmp_path / "cache").close(), range(4)))
    assert sorted(written) == [*PARTS]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[: len(data) // 2], "Compressed file ended"),
        (lambda data: data[:-8] + bytes(8), "CRC check failed"),
        (lambda data: data[:10] + b"\xff" * 40, "Error -3 while decompressing"),
        (gzip.decompress, "Not a gzipped file"),
    ],
    ids=["cut", "altered", "garbled", "plain"],
)
def test_what_is_no_whole_gzip_file_is_refused(
    toy: Path, tmp_path: Path, change: Callable[[bytes], bytes], words: str
) -> None:
    pack(toy, change)
    with pytest.raises(
        UserError, match=rf"toy/queries\.jsonl\.gz is not a complete gzip file \({words}.*copy it here again"
    ):
        open_dataset(toy, cache=tmp_path / "cache")
    assert copies(tmp_path / "cache") == []
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_mistake_inside_is_told_of_the_users_own_file(toy: Path, tmp_path: Path) -> None:
    pack(toy)
    with gzip.open(toy / "corpus.jsonl.gz", "ab") as stream:
        stream.write(b"{oops\n")
    with pytest.raises(UserError, match=r"toy/corpus\.jsonl\.gz line 13 is not JSON") as caught:
        open_dataset(toy, cache=tmp_path / "cache")
    assert "unpacked" not in str(caught.value)


@pytest.mark.parametrize("name", PARTS)
def test_gzip_under_a_plain_name_is_refused_with_what_to_type(toy: Path, tmp_path: Path, name: str) -> None:
    plain = toy / name
    plain.write_bytes(gzip.compress(plain.read_bytes()))
    with pytest.raises(UserError, match=rf"gzipped, but its name does not end in .gz; type: mv {plain} {plain}\.gz$"):
        open_dataset(toy, cache=tmp_path / "cache")
    plain.rename(f"{plain}.gz")
    open_dataset(toy, cache=tmp_path / "cache").close()


def test_through_the_benchmark(harness, toy: Path) -> None:
    pack(toy)
    done = harness("benchmark", "-m", "bm25", "-d", toy, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)[0]["counts"]["documents"] == 12
    assert harness("doctor", toy).code == 0


def damaged(copy: Path) -> bytes:
    """One letter of its text is another; neither its size nor its modification time tell."""
    stamp, whole = copy.stat(), copy.read_bytes()
    copy.write_bytes(whole.replace(b"bread", b"break").replace(b"Bread", b"Break"))
    assert copy.read_bytes() != whole
    os.utime(copy, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    return whole


@pytest.mark.parametrize("name", PARTS)
def test_a_damaged_copy_is_unpacked_again(toy: Path, tmp_path: Path, name: str) -> None:
    pack(toy)
    with open_dataset(toy, cache=tmp_path / "cache") as dataset:
        expected = dataset.fingerprint
    [copy] = (tmp_path / "cache").glob(f"unpacked/*/{name}")
    whole = damaged(copy)
    with open_dataset(toy, cache=tmp_path / "cache") as dataset:
        assert dataset.fingerprint == expected
    assert copy.read_bytes() == whole


def test_a_copy_of_another_file_or_without_a_record_is_unpacked_again(toy: Path, tmp_path: Path) -> None:
    pack(toy)
    open_dataset(toy, cache=tmp_path / "cache").close()
    one, two = ((tmp_path / "cache").glob(f"unpacked/*/{name}").__next__() for name in PARTS)
    wanted = one.read_bytes()
    one.write_bytes(two.read_bytes())
    one.with_name(f"{one.name}.json").write_bytes(two.with_name(f"{two.name}.json").read_bytes())
    open_dataset(toy, cache=tmp_path / "cache").close()
    assert one.read_bytes() == wanted
    one.with_name(f"{one.name}.json").unlink()
    unpacked._VERIFIED.clear()
    one.write_bytes(wanted.replace(b"bread", b"break"))
    open_dataset(toy, cache=tmp_path / "cache").close()
    assert one.read_bytes() == wanted


def test_a_copy_is_hashed_once_in_a_process_unless_asked(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(toy)
    open_dataset(toy, cache=tmp_path / "cache").close()
    hashed: list[str] = []
    digest = unpacked.sha256_file
    monkeypatch.setattr(unpacked, "sha256_file", lambda path: (hashed.append(path.name), digest(path))[1])
    open_dataset(toy, cache=tmp_path / "cache").close()
    again = len(hashed)
    open_dataset(toy, cache=tmp_path / "cache").close()
    assert hashed[again:] == ["queries.jsonl.gz", "corpus.jsonl.gz"]
    again = len(hashed)
    open_dataset(toy, cache=tmp_path / "cache", rehash=True).close()
    assert sorted(hashed[again:]) == sorted([*PARTS, *(f"{name}.gz" for name in PARTS)])


def test_a_copy_that_is_damaged_in_use_is_not_the_users_to_fix(toy: Path, tmp_path: Path) -> None:
    pack(toy)
    with open_dataset(toy, cache=tmp_path / "cache") as dataset:
        [copy] = (tmp_path / "cache").glob("unpacked/*/corpus.jsonl")
        damaged(copy)
        with pytest.raises(
            UserError, match=r"unpacked copy of .*toy/corpus\.jsonl\.gz .* run the same command"
        ) as told:
            list(dataset.corpus.iter())
    assert str(copy) not in str(told.value)
    with open_dataset(toy, cache=tmp_path / "cache") as dataset:
        assert len(list(dataset.corpus.iter())) == 12
