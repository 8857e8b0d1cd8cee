"""Multi-vector models that are no folders: objects, plug-ins, workers and mining, compared with brute force."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.datasets.beir import open_dataset
from harness.metrics.ranking import read_run
from harness.models.runner import Prepared
from harness.registry.manager import load_registry

PLUGIN = """
import numpy as np
from harness import ModelSpec, TokenVectors, hookimpl

class Words:
    kind = "multivector"
    dim = 64
    similarity = "{similarity}"

    def encode(self, texts, *, role):
        each = [np.array([self.word(word) for word in text.lower().split()[:9] or [" "]]) for text in texts]
        return TokenVectors.of(each, [len(text.split()) > 9 for text in texts]) if {told} else each

    def word(self, word):
        counts = np.bincount(np.frombuffer(word.encode(), np.uint8) % 64, minlength=64)
        return (counts / np.linalg.norm(counts)).astype(np.float32)

def load(options):
    return Words()

@hookimpl
def harness_models():
    yield ModelSpec("words", "multivector", load=f"{{__name__}}:load", summary="letters of words")
"""


def written(folder: Path, *, similarity: str = "maxsim", told: bool = True) -> Path:
    file = folder / "words.py"
    file.write_text(PLUGIN.format(similarity=similarity, told=told))
    return file


def model(similarity: str = "maxsim") -> Any:
    space: dict[str, Any] = {"__name__": "words"}
    exec(PLUGIN.format(similarity=similarity, told=True), space)
    return space["Words"]()


def scores(query: str, texts: Sequence[str], *, mean: bool = False) -> np.ndarray[Any, Any]:
    """MaxSim in float64, text by text."""
    words = model()
    [asked] = [part.astype(np.float64) for part in [words.encode([query], role="query").vectors]]
    each = [words.encode([text], role="document").vectors.astype(np.float64) for text in texts]
    return np.array([(asked @ one.T).max(axis=1).sum() for one in each]) / (len(asked) if mean else 1)


def corpus(toy: Path) -> dict[str, str]:
    records = map(json.loads, (toy / "corpus.jsonl").read_text().splitlines())
    return {record["_id"]: f"{record['title']} {record['text']}".strip() for record in records}


@pytest.mark.parametrize("similarity", ["maxsim", "meanmaxsim"])
def test_a_plugin_is_ranked_as_brute_force_ranks(harness, toy: Path, tmp_path: Path, similarity: str) -> None:
    file, texts = written(tmp_path, similarity=similarity), corpus(toy)
    done = harness("benchmark", "-m", "words", "--plugin", file, "-d", toy, "--json")
    assert done.code == 0, done.err
    [result] = json.loads(done.out)
    queries = {q["_id"]: q["text"] for q in map(json.loads, (toy / "queries.jsonl").read_text().splitlines())}
    for ranking in read_run(next(Path("results").glob("words/toy/run.trec.gz"))):
        found = scores(queries[ranking.query_id], list(texts.values()), mean=similarity == "meanmaxsim")
        expected = sorted(zip(found.round(9), texts, strict=True), reverse=True)
        assert list(ranking.doc_ids) == [doc_id for _, doc_id in expected]
        assert ranking.scores == pytest.approx([score for score, _ in expected], rel=1e-6)
    assert result["counts"]["truncated_documents"] == sum(len(text.split()) > 9 for text in texts.values())
    assert result["counts"]["document_vectors"] == sum(min(9, len(text.split())) for text in texts.values())
    assert result["geometry"].keys() == {"hubness"}


def test_what_an_encoder_does_not_tell_is_not_recorded(harness, toy: Path, tmp_path: Path) -> None:
    done = harness("benchmark", "-m", "words", "--plugin", written(tmp_path, told=False), "-d", toy, "--json")
    [result] = json.loads(done.out)
    assert "truncated_documents" not in result["counts"]


def test_workers_give_the_same_result(harness, toy: Path, tmp_path: Path, home: Path) -> None:
    file = written(tmp_path)
    one = json.loads(harness("benchmark", "-m", "words", "--plugin", file, "-d", toy, "--json").out)[0]
    shared = ("--executor", "processes", "--workers", "2")
    done = harness("benchmark", "-m", "words", "--plugin", file, "-d", toy, "--json", "--force", *shared)
    assert done.code == 0, done.err
    assert json.loads(done.out)[0]["measures"] == one["measures"]


def test_an_object_is_a_model(toy: Path, home: Path) -> None:
    import harness

    harness.evaluate(models={"mine": model()}, datasets=[str(toy)], results=home / "found")
    [file] = (home / "found").rglob("result.json")
    counts = json.loads(file.read_text())["counts"]
    assert counts["document_vectors"] == sum(min(9, len(text.split())) for text in corpus(toy).values())


def test_another_similarity_is_refused(harness, toy: Path, tmp_path: Path) -> None:
    done = harness("check", "words", "--plugin", written(tmp_path, similarity="cosine"))
    assert done.code == 1
    assert "its similarity is 'cosine', which is none of maxsim, meanmaxsim" in done.out


def test_a_miner_takes_the_best_by_maxsim(toy: Path, tmp_path: Path, home: Path) -> None:
    pytest.importorskip("harness_training", reason="mining is a part of training")
    from harness_training.data.miners import open_miner

    dataset = open_dataset(toy, cache=tmp_path / "cache")
    prepared = Prepared(load_registry([written(tmp_path)]).model("words"), home)
    queries, texts = dataset.queries[:2], list(corpus(toy).values())
    for query, rows in zip(queries, open_miner(prepared, dataset, 3, home).candidates(queries), strict=True):
        found = scores(query.text, texts)
        assert min(found[rows]) >= np.sort(found)[-3] - 1e-9
        assert len(rows) == 3
