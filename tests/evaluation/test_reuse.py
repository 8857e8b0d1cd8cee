"""No work twice: what a grid of models and datasets reads, loads, tokenises, encodes, hashes and measures, counted."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
import pytest

from harness.datasets import corpus
from harness.datasets.beir import Dataset, open_dataset
from harness.download import local_weights
from harness.embeddings import store
from harness.evaluation.pipeline import Cell, Settings, benchmark
from harness.registry.model_ref import ModelRef
from harness.results.store import ResultStore
from harness.search import retrieve
from harness.types import Document, Hits, ModelSpec, Query
from tests.conftest import write_dataset

pytest.importorskip("faiss", reason="dense models need faiss (the dense extra)")

COUNTS: Counter[str] = Counter()
"""What the models below were asked to do since the test began."""
LOADED: WeakSet[Dense] = WeakSet()
"""Those that nobody let go of yet."""


class Dense:
    """Counts of letters, by way of tokens."""

    dim = 16

    def __init__(self) -> None:
        self.itself = self  # as torch's modules come to refer to themselves
        LOADED.add(self)
        COUNTS["at once"] = max(COUNTS["at once"], len(LOADED))

    def tokenize(self, texts: Sequence[str], *, role: str) -> list[list[int]]:
        COUNTS[f"tokenised {role}"] += len(texts)
        return [list(text.encode()) for text in texts]

    def encode_tokens(self, tokens: Sequence[Sequence[int]], *, role: str) -> Any:
        COUNTS[f"encoded {role}"] += len(tokens)
        rows = [np.bincount(np.asarray(line, np.int64) % self.dim, minlength=self.dim) for line in tokens]
        return np.asarray(rows, np.float32)

    def encode(self, texts: Sequence[str], *, role: str) -> Any:
        raise AssertionError("the tokens are there")


class Lexical:
    """Finds nothing, but reads everything."""

    def build(self, documents: Iterable[Document], directory: Path) -> None:
        COUNTS["indexed"] += sum(1 for _ in documents)
        (directory / "index").write_text("x")

    def search(self, directory: Path, queries: Sequence[Query], k: int) -> Iterator[Hits]:
        for _ in queries:
            yield Hits(np.arange(2), np.array([2.0, 1.0]))


def load_dense(options: Mapping[str, Any]) -> Dense:
    COUNTS["loaded"] += 1
    return Dense()


def load_lexical(options: Mapping[str, Any]) -> Lexical:
    COUNTS["loaded"] += 1
    return Lexical()


def model(name: str, kind: Any = "dense") -> ModelRef:
    spec = ModelSpec(name, kind, f"{__name__}:load_{kind}", "a stand-in", fingerprint=f"{__name__}:fingerprint_{name}")
    return ModelRef(spec, {}, {})


def fingerprint_one(options: Mapping[str, Any]) -> dict[str, Any]:
    return {"which": "one"}


def fingerprint_two(options: Mapping[str, Any]) -> dict[str, Any]:
    return {"which": "two"}


def fingerprint_words(options: Mapping[str, Any]) -> dict[str, Any]:
    return {"which": "words"}


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Dataset]]:
    """Two splits of one corpus of 12 documents, then another of 5; 2, 1 and 1 judged queries."""
    COUNTS.clear()
    documents = {f"d{n}": f"text number {n} of many" for n in range(12)}
    queries = {"a": "number 1", "b": "number 2", "c": "number 3"}
    first = write_dataset(tmp_path / "first", documents, queries, [("a", "d1", 1), ("b", "d2", 1)])
    write_dataset(first, documents, queries, [("c", "d3", 1)], split="dev")
    others = {f"e{n}": f"other text {n}" for n in range(5)}
    second = write_dataset(tmp_path / "second", others, {"x": "text 4"}, [("x", "e4", 1)])
    parse, collect = corpus.parse_record, retrieve.collect

    def counted_parse(line: bytes) -> Any:
        COUNTS["parsed"] += 1
        return parse(line)

    def counted_collect(*args: Any) -> Any:
        COUNTS["geometries"] += 1
        return collect(*args)

    opened = [open_dataset(first, cache=tmp_path / "cache", split=split) for split in ("test", "dev")]
    opened.append(open_dataset(second, cache=tmp_path / "cache"))
    monkeypatch.setattr(corpus, "parse_record", counted_parse)
    monkeypatch.setattr(retrieve, "collect", counted_collect)
    yield opened
    for each in opened:
        each.close()


def run(grid: list[Dataset], place: Path, *models: ModelRef, results: str = "results") -> list[Cell]:
    COUNTS.clear()
    settings = Settings(home=place / "home", results=ResultStore(place / results))
    cells = list(benchmark(models, grid, settings))
    assert {cell.status for cell in cells} <= {"ok", "cached"}, cells
    return cells


def test_every_text_is_read_tokenised_and_encoded_once_for_a_model(grid: list[Dataset], tmp_path: Path) -> None:
    run(grid, tmp_path, model("one"), model("two"))
    models, documents, queries = 2, 12 + 5, 2 + 1 + 1
    assert COUNTS["loaded"] == models
    assert COUNTS["at once"] == 1
    assert not LOADED
    assert COUNTS["parsed"] == models * documents
    assert COUNTS["tokenised document"] == COUNTS["encoded document"] == models * documents
    assert COUNTS["tokenised query"] == COUNTS["encoded query"] == models * queries
    assert COUNTS["geometries"] == models * (2 + 3)  # two corpora, three sets of queries


def test_a_corpus_is_indexed_once_for_all_its_splits(grid: list[Dataset], tmp_path: Path) -> None:
    run(grid, tmp_path, model("words", "lexical"))
    assert COUNTS == {"loaded": 1, "indexed": 17, "parsed": 17}


def test_stored_vectors_need_neither_model_nor_texts(grid: list[Dataset], tmp_path: Path) -> None:
    run(grid, tmp_path, model("one"))
    run(grid, tmp_path, model("one"), results="elsewhere")
    assert COUNTS == {"geometries": 2 + 3}


def test_vectors_of_one_corpus_are_verified_once(
    grid: list[Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(grid, tmp_path, model("one"))
    verified: list[str] = []
    read = store.VectorStore.read_list
    monkeypatch.setattr(
        store.VectorStore, "read_list", lambda store, name: (verified.append(name), read(store, name))[1]
    )
    run(grid, tmp_path, model("one"), results="elsewhere")
    assert len(verified) == len(set(verified)) == 2 + 3


def test_finished_cells_need_nothing(grid: list[Dataset], tmp_path: Path) -> None:
    models = model("one"), model("words", "lexical")
    run(grid, tmp_path, *models)
    assert {cell.status for cell in run(grid, tmp_path, *models)} == {"cached"}
    assert not COUNTS


def test_a_corpus_is_scanned_once_for_all_its_splits_and_runs(grid: list[Dataset], tmp_path: Path) -> None:
    COUNTS.clear()
    for split in ("test", "dev"):
        open_dataset(tmp_path / "first", cache=tmp_path / "cache", split=split).close()
    assert not COUNTS["parsed"]


def test_a_file_of_a_model_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    digest = local_weights.sha256_file
    monkeypatch.setattr(local_weights, "sha256_file", lambda path: (hashed.append(path.name), digest(path))[1])
    file = tmp_path / "checkpoint" / "model.safetensors"
    file.parent.mkdir()
    file.write_bytes(b"one")
    before = local_weights.hashes(file.parent, [file])
    assert local_weights.hashes(file.parent, [file]) == before
    assert hashed == ["model.safetensors"]
    file.write_bytes(b"other")
    assert local_weights.hashes(file.parent, [file]) != before


def test_reused_cells_import_nothing_heavy(tmp_path: Path, toy: Path) -> None:
    pytest.importorskip("bm25s", reason="bm25 needs the bm25 extra")
    script = (
        "import sys; from harness.cli.main import cli; cli(sys.argv[1:], standalone_mode=False);"
        "print({'torch', 'pandas', 'pyarrow', 'scipy', 'faiss', 'bm25s', 'ir_measures'} & sys.modules.keys())"
    )
    words = ["benchmark", "-m", "bm25", "-d", str(toy), "--results", str(tmp_path / "results")]
    environment = {"HARNESS_HOME": str(tmp_path / "home"), "PYTHONPATH": ":".join(sys.path)}
    imported = []
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", script, *words], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        imported.append(done.stdout.splitlines()[-1])
    assert "pandas" not in imported[0]
    assert "torch" not in imported[0]
    assert imported[1] == "set()"
