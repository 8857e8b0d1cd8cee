"""Stored records state what they belong to, so that one in another's place is not used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.storage.records import SEAL, seal
from tests.conftest import BYTE_COUNTS, Done, write_dataset

pytest.importorskip("faiss", reason="dense models need faiss (the dense extra)")

TEXTS = (
    "bread and salt",
    "the red planet",
    "blood in the heart",
    "a violin and a piano",
    "rust and python",
    "the moon",
)
Run = Callable[..., Done]


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two datasets of the same shape: equally many documents and queries, other texts."""

    def write(name: str, shift: int) -> Path:
        documents = {f"d{n}": f"{TEXTS[(n + shift) % 6]} {'abcdef'[n] * (shift + 1)}" for n in range(6)}
        queries = {f"q{n}": f"{TEXTS[(n + shift) % 6].split()[-1]} {name}" for n in range(3)}
        return write_dataset(tmp_path / name, documents, queries, [(f"q{n}", f"d{n}", 1) for n in range(3)])

    return write("first", 0), write("second", 1)


def exchange(one: Path, two: Path) -> None:
    """Each of two files or folders in the other's place."""
    aside = one.with_name("aside")
    for source, target in ((one, aside), (two, one), (aside, two)):
        source.rename(target)


def figures(harness: Run, *words: object) -> dict[tuple[str, str], dict[str, float]]:
    done = harness("benchmark", *words, "--json")
    assert done.code == 0, done.err
    return {(cell["model"], cell["dataset"]): cell["measures"] for cell in json.loads(done.out)}


@pytest.mark.parametrize("role", ["query", "document"])
def test_lists_of_vectors(harness: Run, home: Path, pair: tuple[Path, Path], role: str) -> None:
    words = ("--plugin", BYTE_COUNTS, "-m", "byte-counts", "-d", pair[0], "-d", pair[1])
    expected = figures(harness, *words)
    assert expected["byte-counts", "first"] != expected["byte-counts", "second"]
    exchange(*sorted(home.glob(f"vectors/*/{role}/list-*.json")))
    assert figures(harness, *words, "--force") == expected


def test_lists_and_shards_of_two_models(harness: Run, home: Path, pair: tuple[Path, Path]) -> None:
    """Two models with the same texts have shards of the same names."""
    words = ("--plugin", BYTE_COUNTS, "-m", "center(byte-counts)", "-m", "whiten(byte-counts)", "-d", pair[0])
    expected = figures(harness, *words)
    by_shards: dict[frozenset[str], list[Path]] = {}
    for folder in (home / "vectors").iterdir():
        by_shards.setdefault(frozenset(path.name for path in folder.rglob("*.npy")), []).append(folder)
    [transformed] = [folders for folders in by_shards.values() if len(folders) == 2]
    exchange(*transformed)
    assert figures(harness, *words, "--force") == expected


def test_lexical_indexes(harness: Run, home: Path, pair: tuple[Path, Path]) -> None:
    words = ("-m", "bm25", "-d", pair[0], "-d", pair[1])
    expected = figures(harness, *words)
    exchange(*sorted(home.glob("indexes/*/*")))
    assert figures(harness, *words, "--force") == expected


def test_faiss_indexes(harness: Run, home: Path, pair: tuple[Path, Path]) -> None:
    words = ("--plugin", BYTE_COUNTS, "-m", "byte-counts", "--index", "Flat", "-d", pair[0], "-d", pair[1])
    expected = figures(harness, *words)
    exchange(*sorted(home.glob("faiss/*")))
    assert figures(harness, *words, "--force") == expected


def test_the_vectors_of_an_earlier_version_are_used_and_its_lists_made_again(
    harness: Run, home: Path, pair: tuple[Path, Path]
) -> None:
    words = ("--plugin", BYTE_COUNTS, "-m", "byte-counts", "-d", pair[0])
    expected = figures(harness, *words)
    records = {path: path.read_bytes() for path in home.glob("vectors/*/*/*.json")}
    for path in records:
        stated = json.loads(path.read_text())
        del stated[SEAL]
        path.write_text(json.dumps(seal({key: value for key, value in stated.items() if key not in ("of", "owner")})))
    done = harness("benchmark", *words, "--force", "--json")
    assert "encoded" not in done.err
    assert {(c["model"], c["dataset"]): c["measures"] for c in json.loads(done.out)} == expected
    lists = [path for path in records if path.name.startswith("list-")]
    assert len(lists) == 2
    assert all(path.read_bytes() == records[path] for path in lists)
