"""Reranking compared with sentence-transformers' predict(), resumed, and through the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from harness.datasets.corpus import open_corpus
from harness.metrics.measures import MEASURES
from harness.metrics.ranking import read_run
from harness.types import UserError
from tests.conftest import write_dataset
from tests.cross_encoders import write_cross_encoder

pytest.importorskip("sentence_transformers", reason="a cross-encoder needs the dense extra")
pytest.importorskip("bm25s", reason="the first stage needs the bm25 extra")

OPTIONS = {"depth": 100, "dtype": "float32", "device": "cpu", "max_length": 0}


def words_of(folder: Path) -> set[str]:
    text = (folder / "corpus.jsonl").read_text() + (folder / "queries.jsonl").read_text()
    return set(re.findall(r"[a-z]+", text.lower()))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A dataset whose queries find ten documents each, two of them equal, and a cross-encoder that knows its words."""
    place = tmp_path_factory.mktemp("made")
    chance = np.random.default_rng(3)
    words = ["heart", "lung", "river", "stone", "bread", "violin", "comet", "ledger", "moss", "cedar"]
    documents = {
        f"d{n:02}": " ".join([words[n % 10], *chance.choice(words, chance.integers(2, 40)).tolist()]) for n in range(60)
    }
    documents["twin1"] = documents["twin2"] = "heart river stone"
    queries = {f"q{n}": f"{words[n]} {words[(n * 3) % 10]}" for n in range(6)} | {"none": "zzz"}
    judged = [(query, f"d{n:02}", 1) for n, query in enumerate(queries)]
    dataset = write_dataset(place / "made", documents, queries, judged)
    folder = write_cross_encoder(place / "cross", words_of(dataset))
    assert len(set(predicted(folder, [("heart", text) for text in words]).round(3).tolist())) > 5
    return dataset, folder


def predicted(folder: Path, pairs: list[tuple[str, str]], **settings: object) -> np.ndarray:
    import torch
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(folder), local_files_only=True, device="cpu", **settings)
    return np.asarray(model.predict(pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False))


PAIRS = [("heart", "river stone"), ("lung", ""), ("", "moss"), ("violin " * 30, "comet " * 30), ("heart", "cedar " * 9)]


@pytest.mark.parametrize("length", [0, 9])
def test_scores_are_those_of_predict_before_the_activation(made: tuple[Path, Path], length: int) -> None:
    from harness_plugins.cross_encoder import load

    scored = load({**OPTIONS, "model": str(made[1]), "max_length": length}).score(PAIRS)
    expected = predicted(made[1], PAIRS, **({"max_length": length} if length else {}))
    assert scored.scores.dtype == np.float32
    np.testing.assert_allclose(scored.scores, expected, atol=1e-5)
    assert np.ptp(expected) > 1e-2
    assert scored.tokens == (sum(min(length or 24, n) for n in (6, 4, 4, 63, 13)))


def test_narrow_products_keep_the_order_and_make_no_ties(made: tuple[Path, Path]) -> None:
    from harness_plugins.cross_encoder import load

    pairs = [("heart river", f"{'comet ' * (n % 7)}{'stone ' * (n // 7)}moss") for n in range(49)]
    exact = load({**OPTIONS, "model": str(made[1])}).score(pairs).scores
    narrow = load({**OPTIONS, "model": str(made[1]), "dtype": "bfloat16"}).score(pairs).scores
    assert np.corrcoef(exact, narrow)[0, 1] > 0.99
    assert (exact != narrow).any()
    assert len(set(narrow.tolist())) >= len(set(exact.tolist())) - 1


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("two scores", "gives 2 scores, not one"),
        ("encoder", "holds a BertModel, not a sequence classifier"),
        ("pickled", "no .safetensors weights"),
        ("more modules", "modules after the classifier"),
        ("garbled", "has no config.json"),
    ],
)
def test_what_is_no_cross_encoder_is_told_before_any_work(
    harness, made: tuple[Path, Path], tmp_path: Path, fault: str, sentence: str
) -> None:
    folder = tmp_path / "cross"
    write_cross_encoder(folder, {"heart"}, labels=2 if fault == "two scores" else 1)
    config = folder / "config.json"
    if fault == "encoder":
        config.write_text(config.read_text().replace("BertForSequenceClassification", "BertModel"))
    elif fault == "pickled":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    elif fault == "more modules":
        modules = json.loads((folder / "modules.json").read_text())
        (folder / "modules.json").write_text(json.dumps(modules * 2))
    elif fault == "garbled":
        config.write_text("[")
    done = harness("benchmark", "-m", f"rerank(bm25):model={folder}", "-d", made[0])
    assert done.code == 2
    assert sentence in done.err.splitlines()[-1]
    assert "Traceback" not in done.err
    assert not list(Path().glob("results/*/*"))
    both = harness("benchmark", "-m", "bm25", "-m", f"rerank(bm25):model={folder}", "-d", made[0], "--json")
    assert both.code == 1
    assert [cell["cell"] for cell in json.loads(both.out)] == ["ok", "failed"]
    assert sentence in both.err.splitlines()[-1]


def test_a_cross_encoder_that_is_not_there_ends_the_command(harness, made: tuple[Path, Path]) -> None:
    done = harness("benchmark", "-m", "bm25", "-m", "rerank(bm25):model=absent", "-d", made[0])
    assert (done.code, done.out) == (2, "")
    assert "There is no folder" in done.err
    assert "absent; give model= the folder of a cross-encoder." in done.err
    assert not list(Path().glob("results/*/*"))


def test_a_length_beyond_the_models_is_told(made: tuple[Path, Path]) -> None:
    from harness_plugins.cross_encoder import load

    with pytest.raises(UserError, match="24 tokens at most"):
        load({**OPTIONS, "model": str(made[1]), "max_length": 25})


def rankings(results: Path) -> dict[str, list[str]]:
    [run] = results.glob("*/*/run.trec.gz")
    return {ranking.query_id: ranking.doc_ids for ranking in read_run(run)}


@pytest.mark.parametrize("exclude", [False, True])
def test_the_best_are_reordered_and_the_rest_stay_below_in_their_order(
    harness, made: tuple[Path, Path], tmp_path: Path, exclude: bool
) -> None:
    dataset, folder = made
    if exclude:  # every query is a document of the same id, which the first stage puts first
        corpus = [json.loads(line) for line in (dataset / "corpus.jsonl").read_text().splitlines()]
        texts = {record["_id"]: record["text"] for record in corpus}
        own = {name: texts[name] for name in ("d00", "d07", "twin1")}
        dataset = write_dataset(tmp_path / "made", texts, own, [(name, "twin2", 1) for name in own])
    flag = "--exclude-self" if exclude else "--include-self"
    typed = f"rerank(bm25):model={folder},depth=5,dtype=float32"
    assert harness("benchmark", "-m", "bm25", "-d", dataset, flag, "--results", "first").code == 0
    done = harness("benchmark", "-m", typed, "-d", dataset, flag, "--results", "second", "--json")
    assert done.code == 0, done.err
    [cell] = json.loads(done.out)
    first, second = rankings(Path("first")), rankings(Path("second"))
    queries = {json.loads(line)["_id"]: json.loads(line)["text"] for line in (dataset / "queries.jsonl").open()}
    assert set(first) == set(second) == set(queries) - {"none"}
    with open_corpus(dataset / "corpus.jsonl", tmp_path / "cache") as corpus_:
        for query, was in first.items():
            assert not exclude or query not in was
            best = [corpus_[int(row)].content for row in corpus_.rows(was[:5])]
            scores = predicted(folder, [(queries[query], text) for text in best]).round(4).tolist()
            assert second[query] == [d for _, d in sorted(zip(scores, was[:5], strict=True), reverse=True)] + was[5:]
    assert cell["counts"]["pairs"] == sum(min(5, len(ids)) for ids in first.values())
    assert cell["counts"]["rerank_tokens"] > cell["counts"]["pairs"]
    assert cell["seconds"]["rerank"] > 0
    assert re.fullmatch(r"rerank\(bm25\):depth=5,dtype=float32,model=cross@[0-9a-f]{6}", cell["model"])
    assert set(cell["measures"]) == set(MEASURES)


SLOW = """
import os
from pathlib import Path

import numpy as np

from harness import ModelSpec, Option, Scored, hookimpl

LOG = Path(os.environ["HARNESS_HOME"]) / "scored.log"


class Slow:
    depth = 4

    def __init__(self, fails):
        self.fails, self.calls = fails, 0

    def score(self, pairs):
        self.calls += 1
        if self.calls == self.fails:
            raise KeyboardInterrupt
        with LOG.open("a") as log:
            log.writelines(f"{query}|{text}\\n" for query, text in pairs)
        return Scored(np.array([len(text) % 7 for _, text in pairs], np.float32), 10)


def load(options):
    return Slow(int(os.environ.get("SCORE_FAILS", 0)))


@hookimpl
def harness_models():
    yield ModelSpec("slow", "reranker", f"{__name__}:load", "length of the text")
"""


def test_an_interrupted_rerank_goes_on_where_it_was(
    harness, home: Path, made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (plugin := tmp_path / "slow_reranker.py").write_text(SLOW)
    monkeypatch.setattr("harness.search.rerank.PAIRS", 8)  # parts of two queries
    monkeypatch.setenv("SCORE_FAILS", "3")
    words = ["benchmark", "-m", "slow(bm25)", "--plugin", plugin, "-d", made[0], "--json"]
    assert harness(*words).code == 130
    log = home / "scored.log"
    before = log.read_text().splitlines()
    assert len(list(home.glob("reranked/*/*.json"))) == 2
    assert not list(Path().glob("results/*/*"))
    monkeypatch.delenv("SCORE_FAILS")
    done = harness(*words)
    assert done.code == 0, done.err
    after = log.read_text().splitlines()
    assert after[: len(before)] == before
    assert len(set(after)) == len(after)
    [cell] = json.loads(done.out)
    assert cell["counts"]["pairs"] == 24
    assert cell["counts"]["rerank_tokens"] == 10 * 3
    # Nothing is scored again, the order is as it was, and the stored parts' cost is told again.
    run = rankings(Path("results"))
    [again] = json.loads(harness(*words, "--force").out)
    assert log.read_text().splitlines() == after
    assert rankings(Path("results")) == run
    assert again["counts"] == cell["counts"]
    # A damaged part is scored again.
    next(iter(home.glob("reranked/*/*.npy"))).write_bytes(b"")
    assert harness(*words, "--force").code == 0
    assert len(log.read_text().splitlines()) > len(after)
    assert rankings(Path("results")) == run


def test_equal_documents_tie_and_are_scored_once(harness, home: Path, made: tuple[Path, Path], tmp_path: Path) -> None:
    (plugin := tmp_path / "slow_reranker2.py").write_text(SLOW.replace("depth = 4", "depth = 50"))
    dataset = write_dataset(
        tmp_path / "twins", {"a": "heart one", "b": "heart of two", "c": "heart one"}, {"q": "heart"}, [("q", "a", 1)]
    )
    done = harness("benchmark", "-m", "slow(bm25)", "--plugin", plugin, "-d", dataset, "--json")
    assert done.code == 0, done.err
    assert len((home / "scored.log").read_text().splitlines()) == 2
    assert json.loads(done.out)[0]["counts"]["pairs"] == 3
    [run] = Path("results").glob("*/*/run.trec.gz")
    [ranking] = read_run(run)
    assert ranking.doc_ids == ["b", "c", "a"]
    assert ranking.scores.tolist() == [5, 2, 2]


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("return Scored(np.zeros(len(pairs)))", "float64"),
        ("return Scored(np.zeros(len(pairs) + 1, np.float32))", "pairs; return float32"),
        ("return np.zeros(len(pairs), np.float32)", "returned no Scored"),
        ("return Scored(np.full(len(pairs), np.nan, np.float32))", "NaN"),
        ("raise RuntimeError('out of paper')", "score() raised RuntimeError: out of paper"),
    ],
)
def test_a_broken_reranker_fails_its_cell_and_its_check(
    harness, made: tuple[Path, Path], tmp_path: Path, body: str, fault: str
) -> None:
    (plugin := tmp_path / "broken_reranker.py").write_text(
        re.sub(r"(def score\(self, pairs\):\n).*?(?=\n\n)", rf"\1        {body}", SLOW, flags=re.DOTALL)
    )
    done = harness("benchmark", "-m", "slow(bm25)", "-m", "bm25", "--plugin", plugin, "-d", made[0])
    assert done.code == 1
    assert fault in done.err
    assert Path("results/bm25").is_dir()
    checked = harness("check", "slow(bm25)", "--plugin", plugin, "--json")
    assert checked.code == 1
    assert any(fault.partition(" raised")[2] in row["fault"] for row in json.loads(checked.out) if not row["passed"])


def test_a_cross_encoder_passes_the_check(harness, made: tuple[Path, Path]) -> None:
    done = harness("check", f"rerank(bm25):model={made[1]}", "--json")
    assert done.code == 0, done.out
    assert "float32, one finite score per pair" in [row["check"] for row in json.loads(done.out)]


def test_reranking_a_fusion_counts_every_part_of_it(harness, made: tuple[Path, Path]) -> None:
    fused = "rrf(bm25,bm25:k1=2.0)"
    done = harness("benchmark", "-m", f"rrf(bm25,rerank({fused}):model={made[1]},depth=3)", "-d", made[0], "--json")
    assert done.code == 0, done.err
    [cell] = json.loads(done.out)
    inner = cell["manifest"]["model"]["members"][1]["label"]
    assert cell["counts"]["pairs"] == cell["counts"][f"{inner}/pairs"] == 18
    assert {"rerank", f"{inner}/rerank", f"{inner}/{fused}/fuse", f"{inner}/{fused}/bm25/search"} <= set(
        cell["seconds"]
    )
