"""``harness pool``: the order of the documents, the file for annotators, and the results under an overlay."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from harness.datasets.overlay import Overlay
from harness.metrics.measures import measure
from harness.metrics.ranking import Ranking
from harness.results.store import Unreadable, read_result
from harness.types import Qrels, UserError
from harness_reports.cli.pool import command
from harness_reports.pool.choose import choose
from tests.cli.test_kept import Run
from tests.reports.compare.test_unjudged import QRELS, RUNS, store, value
from tests.reports.factory import Results


def pool(results: Results, *arguments: str) -> Result:
    return CliRunner().invoke(command, [*arguments, "--results", str(results.store.root)])


def mean(qrels: Qrels, run: dict[str, list[str]], k: int) -> float:
    rankings = [Ranking(query, ids, np.arange(len(ids), 0, -1, dtype=np.float32)) for query, ids in run.items()]
    return float(measure(qrels, rankings, [f"nDCG@{k}"]).values.mean())


@pytest.mark.parametrize("seed", [0, 1, 2, 4])
def test_the_order_is_that_of_a_brute_force_choice(seed: int) -> None:
    """Each document made relevant in turn, all models measured again."""
    rng, k = np.random.default_rng(seed), 3
    qrels: Qrels = {
        f"q{n}": {
            f"d{doc}": int(grade) for doc, grade in zip(rng.choice(9, 4, replace=False), (1, 0, 2, 2), strict=True)
        }
        for n in range(4)
    }
    runs = {m: {q: [f"d{doc}" for doc in rng.permutation(9)[:5]] for q in qrels} for m in ("a", "b", "c")}
    before = {model: mean(qrels, run, k) for model, run in runs.items()}
    found = choose(qrels, runs, k)
    shares = []
    for each in found:
        filled = {**qrels, each.query_id: {**qrels[each.query_id], each.doc_id: 2}}
        after = {model: mean(filled, run, k) for model, run in runs.items()}
        pairs = [(before[y] - before[x], after[y] - after[x]) for x, y in combinations(runs, 2)]
        assert all(lead for lead, _ in pairs)
        shares.append(max(-np.sign(lead) * (changed - lead) / abs(lead) for lead, changed in pairs))
        assert each.share == pytest.approx(shares[-1])
        assert each.change == pytest.approx(max(abs(changed - lead) for lead, changed in pairs))
    assert len(found) == len(
        {(q, doc) for run in runs.values() for q, docs in run.items() for doc in docs[:k] if doc not in qrels[q]}
    )
    taking = sum(share > 1e-12 for share in shares)
    assert max(np.diff(shares[:taking])) < 1e-9
    assert max(shares[taking:], default=0) < 1e-9


def test_where_the_models_are_equal_any_change_comes_first() -> None:
    qrels: Qrels = {"q1": {"a": 1}, "q2": {"a": 1, "b": 1}}
    runs = {"one": {"q1": ["x", "a"], "q2": ["a", "b"]}, "two": {"q1": ["x", "a", "y"], "q2": ["a", "b", "z"]}}
    assert [(each.doc_id, each.places) for each in choose(qrels, runs, 3)] == [
        ("y", {"two": 3}),
        ("z", {"two": 3}),
        ("x", {"one": 1, "two": 1}),
    ]


def test_the_file_is_filled_in_and_read_back(results: Results, tmp_path: Path) -> None:
    store(results, tmp_path / "mine")
    file = tmp_path / "round1.txt"
    done = pool(results, "one", "two", "-o", str(file))
    assert done.exit_code == 0, (done.output, done.exception)
    lines = file.read_text().splitlines()
    assert {line for line in lines if not line.startswith("#")} == {"q1 0 x ?", "q1 0 y ?", "q2 0 x ?"}
    assert "# query q1: text of q1" in lines
    refused = pool(results, "one", "two", "--read", str(file))
    assert isinstance(refused.exception, UserError)
    file.write_text(file.read_text().replace("q1 0 x ?", "q1 0 x 1").replace("q2 0 x ?", "q2 0 x 0"))

    before = {path: path.read_bytes() for path in results.store.root.rglob("*") if path.is_file()}
    done = pool(results, "one", "two", "--read", str(file), "--json")
    assert done.exit_code == 0, (done.output, done.exception)
    filled = {"q1": QRELS["q1"] | {"x": 1}, "q2": QRELS["q2"] | {"x": 0}}
    for each in json.loads(done.stdout):
        assert each["after"]["nDCG@10"] == pytest.approx(np.mean(value(RUNS[each["model"]], filled)))
        assert each["dataset"] == "mine:overlay=round1"
    assert all(path.read_bytes() == content for path, content in before.items())
    one, plain = (read_result(results.store.folder("one", name)) for name in ("mine:overlay=round1", "mine"))
    assert not isinstance(one, Unreadable)
    assert not isinstance(plain, Unreadable)
    assert one["manifest"]["key"] != plain["manifest"].get("key")
    assert pool(results, "three", "--read", str(file)).exit_code == 0  # a model that is measured later
    board = results.read()
    assert (list(board.datasets), list(board.partial_datasets)) == (["mine"], ["mine:overlay=round1"])
    again = pool(results, "one", "two", "-d", "mine:overlay=round1", "--json")
    assert {(each["query_id"], each["doc_id"]) for each in json.loads(again.stdout)} == {("q1", "y")}


@pytest.mark.parametrize(
    ("judgements", "message"),
    [
        ("q1 0 a 0\n", "judges document a for query q1 0, but mine judges it 1"),
        ("q9 0 a 0\n", "judges documents for query q9, which mine has not"),
    ],
)
def test_an_overlay_adds_judgements_alone(results: Results, tmp_path: Path, judgements: str, message: str) -> None:
    store(results, tmp_path / "mine")
    (tmp_path / "more.qrels").write_text(judgements)
    refused = pool(results, "one", "two", "--read", str(tmp_path / "more.qrels"))
    assert isinstance(refused.exception, UserError)
    assert message in str(refused.exception)
    assert len(list(results.store.root.rglob("result.json"))) == len(RUNS)


def test_an_overlay_in_a_manifest_is_checked() -> None:
    overlay = Overlay("round1", {"q": {"d": 1}})
    assert Overlay.of(overlay.described()) == overlay
    for record in ([], {"name": "x"}, {"name": "x", "judgements": {"q": 3}}):
        with pytest.raises(UserError, match="not readable"):
            Overlay.of(record)


def test_results_with_an_overlay_are_verified_and_compared(harness: Run, toy: Path) -> None:
    assert harness("benchmark", "-m", "bm25", "-m", "bm25:b=0.1", "-d", toy).code == 0
    done = harness("pool", "bm25", "bm25:b=0.1", "--count", "1", "-o", "more.txt")
    assert done.code == 0, done.err
    Path("more.txt").write_text(Path("more.txt").read_text().replace(" ?\n", " 1\n"))
    assert harness("pool", "bm25", "bm25:b=0.1", "--read", "more.txt").code == 0
    verified = harness("verify", "results", "--json")
    assert verified.code == 0, verified.out + verified.err
    assert "toy:overlay=more" in verified.out
    shown = harness("compare", "bm25", "bm25:b=0.1", "-d", "toy:overlay=more")
    assert "## Unjudged documents" in shown.out, shown.out + shown.err
    assert "toy:overlay=more: 1 judgements named more were added" in harness("report").out
