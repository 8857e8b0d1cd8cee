"""The comparisons at small sizes: they run, and their quality values are correct."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import __main__ as program
from benchmarks.contests import bm25, encode, families, measures, moments, search, sparse, train
from benchmarks.peers import measures as peers
from benchmarks.peers import sparse as sparse_peers
from benchmarks.runner.command import Command
from benchmarks.runner.contest import ROOT, Plan
from benchmarks.runner.synthetic import judged_runs, vectors
from benchmarks.runner.texts import Texts
from harness.types import Document, Query
from tests.tiny import tokenizer
from tests.training.models import write_base


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan(work=tmp_path, size="small", data=tmp_path / "no-data")


def test_search_quality_tells_a_wrong_set_and_a_wrong_distance(plan: Plan) -> None:
    documents, queries = vectors(plan, 300, 8), vectors(plan, 20, 8, seed=1)
    ours = search.Search(str(documents), str(queries), 10).work()
    shifted = {"rows": (ours["rows"] + 1) % 300, "distances": ours["distances"]}
    longer = {"rows": ours["rows"], "distances": ours["distances"] * 1.01}
    found = search._quality(documents, queries, {"ours": ours, "shifted": shifted, "longer": longer})
    assert found["ours"]["same set"] == "20 of 20"
    assert float(found["ours"]["error"]) < 1e-12
    assert found["shifted"]["same set"] == "0 of 20"
    assert found["longer"] == {"same set": "20 of 20", "error": "0.01000000"}


def test_moments_and_their_quality(plan: Plan) -> None:
    from benchmarks.peers.product import Product

    path = str(vectors(plan, 500, 16))
    tasks: dict[str, Any] = {"harness": moments.Ours(path), moments.EXACT: Product(path, "float64")}
    for task in tasks.values():
        task.work()
    expected = np.cov(np.load(path).astype(np.float64), rowvar=False)
    for task in tasks.values():
        assert task.answer()["covariance"] == pytest.approx(expected, abs=1e-10)
    found = moments._quality({name: task.answer() for name, task in tasks.items()})
    assert abs(float(found["harness"]["difference"])) < 1e-10


def test_measures_equal_trec_evals_with_ties(plan: Plan) -> None:
    pytest.importorskip("pytrec_eval", reason="the peer")
    runs = judged_runs(plan, 9, 400)
    with np.load(runs) as found:
        assert len(np.unique(found["scores"][0])) < 400  # ties
        assert len(np.unique(found["scores"][1])) > 390
    ours, theirs = measures.Ours(str(runs), ranked=False), peers.PytrecEval(str(runs))
    theirs.work()
    answers = {"harness": ours.work(), measures.REFERENCE: theirs.answer()}
    assert measures._quality(answers)["harness"]["largest difference"] == "0"
    assert answers["harness"]["values"].mean() > 0.05


@pytest.mark.parametrize("pieces", [None, 2])
def test_training_changes_the_weights_and_every_round_begins_with_the_first_ones(
    tmp_path: Path, pieces: int | None
) -> None:
    for name in ("torch", "accelerate", "datasets"):
        pytest.importorskip(name, reason=f"training needs {name} (the train extra)")
    rows = [[f"word{n}", f"word{n} word{n + 1}", f"word{n + 2}"] for n in range(8)]
    file = tmp_path / "train.json"
    file.write_text(json.dumps({"train": rows, "held_out": rows[:3]}))
    task = train.Ours(str(file), str(write_base(tmp_path)), 4, "cosine", 1.0, pieces)
    first = task.answer()
    task.work()
    trained = task.answer()
    task.ready()
    again = task.answer()
    for column, values in first.items():
        assert not np.allclose(trained[column], values)
        np.testing.assert_array_equal(again[column], values)
    assert float(train._quality({"harness": first})["harness"]["held-out loss"]) > 0


def test_encoding_quality_is_the_cosine_to_the_peer() -> None:
    generator = np.random.default_rng(0)
    stock = generator.standard_normal((5, 4))
    turned = stock.copy()
    turned[2] = -turned[2]
    found = encode.quality(None, {encode.PEER: {"vectors": stock}, "ours": {"vectors": turned}})
    assert found[encode.PEER]["least cosine"] == "1.00000"
    assert found["ours"] == {"batches": "by tokens", "least cosine": "-1.00000", "mean cosine": "0.600000"}


def test_the_share_on_a_gpu_is_of_the_products_speed() -> None:
    vectors = np.eye(3)
    ours = {"vectors": vectors, "seconds": np.array(2.0), "flops": np.array(6e12), "most": np.array(1e13)}
    peer = {"vectors": vectors, "seconds": np.array(6.0), "batch": np.array(64)}
    found = encode._gpu_quality({"ours": ours, encode.GPU_PEER: peer})
    assert [found[name]["share of the products' speed"] for name in ("ours", encode.GPU_PEER)] == ["30.0%", "10.0%"]
    assert found[encode.GPU_PEER]["batches"] == "64 texts"
    assert encode._gpu_quality({encode.GPU_PEER: peer}) == {}


def test_without_a_gpu_the_page_says_so(monkeypatch: pytest.MonkeyPatch, plan: Plan, texts: Texts) -> None:
    monkeypatch.setattr(encode, "scifact", lambda plan: (texts, []))
    monkeypatch.setattr(encode, "weights", lambda model: Path("none"))
    monkeypatch.setattr(encode, "_tokens", lambda folder, drawn: 384 * len(drawn))
    for gpus, lines in ([], 1), (["0"], 0):
        monkeypatch.setattr(encode, "visible_gpus", lambda gpus=gpus: gpus)
        first, *others = encode.contests(plan)
        assert sum("no GPU" in note for note in first.notes) == lines
        assert len(others) == 1 - lines
    (contest,) = others
    assert contest.title == "Encoding on a GPU: 256 texts of 384 tokens with mpnet, bfloat16"
    assert str(contest.competitors[0].settings["model"]).endswith("forward=packed")
    assert contest.competitors[-1].settings["batch"] == 0


def test_texts_joined_for_a_gpu_reach_the_limit() -> None:
    found = encode.joined([f"document {n} " * 40 for n in range(7)], 20)
    assert len(found) == 20
    assert min(map(len, found)) >= encode.LONG
    assert len(set(found)) == 20


@pytest.fixture
def texts() -> Texts:
    documents = [Document(f"d{n}", "", f"word{n} common") for n in range(40)]
    queries = [Query(f"q{n}", f"word{n}") for n in range(10)]
    return Texts("made", documents, queries, {f"q{n}": {f"d{n}": 1} for n in range(10)})


def test_a_part_keeps_the_judged_documents(texts: Texts) -> None:
    part = texts.part(12, 4)
    assert (len(part.documents), len(part.queries)) == (12, 4)
    ids = {document.id for document in part.documents}
    assert all({*part.qrels[query.id]} <= ids for query in part.queries)
    assert part == texts.part(12, 4)


def test_bm25_quality_is_the_difference_from_lucene(texts: Texts) -> None:
    right = {"rows": np.arange(10)[:, None], "scores": np.ones((10, 1))}
    wrong = {"rows": np.full((10, 1), -1), "scores": np.ones((10, 1))}
    found = bm25._quality(texts, {bm25.REFERENCE: right, "harness": wrong})
    same, other = (
        {"difference": d, "ties alike": d, "same lists": f"{n} of 10"} for d, n in (("0", 10), ("-1.00000", 0))
    )
    assert found == {
        bm25.REFERENCE: {"nDCG@10": "1.00000", **same},
        "harness": {"nDCG@10": "0.00000", **other},
    }


def test_bm25_quality_tells_ties_from_other_differences(texts: Texts) -> None:
    pairs = np.array([sorted((n, n + 20), key=str) for n in range(10)])
    apart = {"rows": pairs, "scores": np.array([[2, 2 - 1e-6]] * 10)}
    tied = {"rows": pairs[:, ::-1], "scores": np.full((10, 2), 2.0)}
    other = {"rows": pairs[:, ::-1], "scores": np.array([[3.0, 2.0]] * 10)}
    found = bm25._quality(texts, {bm25.REFERENCE: apart, "tied": tied, "other": other})
    assert found["tied"] == {"nDCG@10": "0.88928", "difference": "0.14763", "ties alike": "0", "same lists": "10 of 10"}
    assert (found["other"]["ties alike"], found["other"]["same lists"]) == ("0.14763", "0 of 10")


def test_the_quality_of_sparse_rankings(texts: Texts) -> None:
    right = {"rows": np.stack([np.arange(10), np.arange(10) + 20], 1), "scores": np.array([[2.0, 1.0]] * 10)}
    turned = {"rows": right["rows"][:, ::-1], "scores": right["scores"]}
    short = {"rows": np.array([[n, -1] for n in range(10)]), "scores": right["scores"]}
    found = sparse._ranking_quality(texts, {sparse.REFERENCE: right, "turned": turned, "short": short})
    assert found[sparse.REFERENCE] == {"nDCG@10": "1.0000", "same top 10": "10 of 10"}
    assert found["turned"] == {"nDCG@10": "0.6309", "same top 10": "10 of 10"}  # 1 / log2(3)
    assert found["short"] == {"nDCG@10": "1.0000", "same top 10": "0 of 10"}


def test_sparse_rankings_from_texts_are_the_peers(texts: Texts, tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="it makes encoders")
    from tests.folders import write_sparse

    given = {"folder": str(texts.write(tmp_path / "texts")), "model": str(write_sparse(tmp_path / "model")), "k": 10}
    ours, theirs = sparse.TextSearch(**given).work(), sparse_peers.TextsEncoded(**given).work()
    assert ours["scores"] == pytest.approx(theirs["scores"], rel=1e-5)
    assert ours["rows"].shape == (10, 10)


def test_without_the_model_the_sparse_page_says_so(monkeypatch: pytest.MonkeyPatch, plan: Plan) -> None:
    monkeypatch.setattr(sparse, "sparse_vectors", lambda *_: Path("none"))
    (contest,) = sparse.contests(replace(plan, peers=plan.work / "none"))
    assert "`make bench-peers` installs the model" in contest.notes[-1]


def test_a_command_begins_afresh_and_says_why_it_failed(tmp_path: Path) -> None:
    stale, link = tmp_path / "stale", tmp_path / "home" / "models"
    words = [
        "{python}",
        "-c",
        f"import pathlib, sys; print('{{\"nDCG@10\": 0.5}}'); pathlib.Path({str(stale)!r}).mkdir()",
    ]
    command = Command(words, fresh=(str(stale),), links={str(link): str(tmp_path)}, first=True)
    command.ready()  # else mkdir would fail
    command.work()
    assert link.resolve() == tmp_path.resolve()
    assert command.answer() == {"ndcg": 0.5}
    with pytest.raises(RuntimeError, match="status 1: FileExistsError"):
        command.work()


def test_a_commands_memory_is_its_own_not_that_of_the_largest_before() -> None:
    program = (  # in its own process, as competitors are: a forked process starts with its parent's memory
        "from benchmarks.runner.command import Command\n"
        "large, small = (['{python}', '-c', f'bytearray({size} << 20)'] for size in (150, 1))\n"
        "command = Command(small, warm=large)\n"
        "command.warm(); print(command.peak >> 20); command.work(); print(command.peak >> 20)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    first, second = map(int, done.stdout.split())
    assert 150 <= first < 300
    assert second < 150


def test_a_command_may_warm_up_on_something_lighter() -> None:
    script = f"import json, sys; print(json.dumps(dict([('nDCG@10', float(sys.executable == {sys.executable!r}))])))"
    command = Command(["{python}", "-c", script], warm=["{python}", "-c", "print('warm')"])
    command.warm()
    assert command.answer() == {}
    command.work()
    assert command.answer() == {"ndcg": 1.0}  # the interpreter is the environment's own


@pytest.fixture
def run(tmp_path: Path, home: Path) -> Callable[..., Any]:
    def invoke(*words: str) -> Any:
        given = ["--small", "--work", str(tmp_path / "work"), "--output", str(tmp_path / "out")]
        return CliRunner().invoke(program.main, [*words, *given, "--rounds", "1", "--threads", "1"])

    return invoke


def test_the_command_writes_a_page_and_prints_it(run: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("pytrec_eval", reason="the peer")
    done = run("measures", "--peers", str(tmp_path / "none"))
    assert done.exit_code == 0, done.output
    page = (tmp_path / "out" / "measures.md").read_text()
    assert page in done.output
    assert "ranx did not finish: its environment none/mteb is not made" in page
    row = next(line for line in page.splitlines() if line.startswith("| harness"))
    assert [cell.strip() for cell in row.split("|")[-3:-1]] == ["0", "0"]  # no difference, in no query
    assert not (tmp_path / "work" / "synthetic").exists()


def test_of_the_peers_those_that_are_named_take_part(plan: Plan) -> None:
    (contest,) = measures.contests(plan)
    assert [one.name for one in contest.among(["pytrec", "ranx"]).competitors] == ["harness", "pytrec_eval", "ranx"]
    assert contest.among([]).competitors == contest.competitors


def test_families_have_random_models_that_run_without_padding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sentence_transformers", reason="it makes encoders")
    from harness_plugins.forward.architectures import family_in

    marks = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "bos": "<s>", "eos": "</s>"}
    tokenizer(marks).save_pretrained(tmp_path / "words")
    monkeypatch.setattr(families, "weights", lambda model: tmp_path / "words")
    for name in ("Qwen3-Embedding-0.6B", "ModernBERT-base"):
        families.random_model(families.SHAPES[name], tmp_path / name, small=True)
        assert family_in(tmp_path / name) is not None
        stated = json.loads((tmp_path / name / "config.json").read_text())
        assert (stated["model_type"], stated["num_hidden_layers"]) == (families.SHAPES[name].family, 2)
    pooling = json.loads((tmp_path / "Qwen3-Embedding-0.6B" / "1_Pooling" / "config.json").read_text())
    assert "lasttoken" in json.dumps(pooling)
    assert all(shape.settings["num_hidden_layers"] <= shape.layers for shape in families.SHAPES.values())


def test_an_unknown_contest_is_the_users_mistake(run: Callable[..., Any]) -> None:
    done = run("serach")
    assert done.exit_code == 2
    assert "There is no contest 'serach'; the contests are encode, families" in done.output


def test_maxsim_quality_tells_a_wrong_set_and_a_wrong_score(plan: Plan) -> None:
    pytest.importorskip("torch", reason="the search imports it")
    from benchmarks.contests import maxsim
    from benchmarks.peers.maxsim import DIM, SentenceTransformers
    from benchmarks.runner.synthetic import token_vectors

    files = [str(token_vectors(plan, 60 * maxsim.TOKENS, DIM)), str(token_vectors(plan, 3 * maxsim.ASKED, DIM, 1))]
    given = (*files, maxsim.TOKENS, maxsim.ASKED, 5)
    ours, theirs = maxsim.Search(*given).work(), SentenceTransformers(*given).work()
    wrong = {"rows": (ours["rows"] + 1) % 60, "scores": ours["scores"]}
    found = maxsim._quality(*files, {"ours": ours, "theirs": theirs, "wrong": wrong})
    assert found["ours"]["same set"] == found["theirs"]["same set"] == "3 of 3"
    assert float(found["ours"]["error"]) < 1e-13
    assert found["wrong"]["same set"] == "0 of 3"
    assert float(found["wrong"]["error"]) > 1e-4
