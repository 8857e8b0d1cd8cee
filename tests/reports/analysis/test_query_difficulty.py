"""Difficulty of queries from stored runs, against the figures worked out by hand from the same files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from harness.metrics.ranking import read_run
from harness.metrics.run_writer import write_run
from harness.metrics.significance import holm
from harness.types import UserError
from harness_reports.analysis.query_difficulty import NORM, Difficulty, difficulties, run_scores
from harness_reports.data.leaderboard import read_leaderboard
from harness_reports.data.per_query import Evidence
from tests.plugins.test_transforms import Case


@pytest.fixture
def case(harness, tmp_path: Path) -> Case:
    case = Case(tmp_path, q=40)
    case.benchmark(harness, "table", "center(table)")
    return case


def found(home: Path, *models: str) -> dict[tuple[str, str], Difficulty]:
    evidence = Evidence(read_leaderboard(Path("results")))
    return {(one.model, one.predictor): one for one in difficulties(evidence, models, [], home)}


def test_predictors_are_held_against_each_querys_score(case: Case, home: Path) -> None:
    scores = Evidence(read_leaderboard(Path("results"))).scores("table", "table")
    assert scores is not None
    order = dict(zip(scores.ids, scores.values.tolist(), strict=True))
    rankings = read_run(Path("results/table/table/run.trec.gz"))
    runs = {ranking.query_id: ranking.scores.astype(np.float64) for ranking in rankings}
    y = np.array([order[query] for query in runs])
    expected = {
        "top score": [s[0] for s in runs.values()],
        "gap": [s[0] - s[1] for s in runs.values()],
        "spread of 10": [s[:10].std() for s in runs.values()],
        "spread of 100": [s[:100].std() for s in runs.values()],
        NORM: np.linalg.norm(case.queries.astype(np.float64), axis=1),
    }
    rows = found(home, "table")
    assert [name for _, name in rows] == list(expected)
    taus = [stats.kendalltau(x, y, method="asymptotic") for x in expected.values()]
    adjusted = holm([float(tau.pvalue) for tau in taus])
    for (name, x), tau, p in zip(expected.items(), taus, adjusted, strict=True):
        one = rows["table", name]
        assert one.queries == 40
        assert one.spearman == pytest.approx(stats.spearmanr(x, y).statistic)
        assert one.kendall == pytest.approx(tau.statistic)
        assert one.p == pytest.approx(p)
        assert one.interval.low < one.spearman < one.interval.high
        falling = 1 - y[np.argsort(-np.asarray(x), kind="stable")]
        assert one.area == pytest.approx(np.mean([falling[:n].mean() for n in range(1, 41)]))
        assert one.area_random == pytest.approx(1 - y.mean())
        assert one.area_best <= one.area
        assert one.curve[-1] == (1.0, pytest.approx(one.area_random))
        assert one.curve[9] == (0.5, pytest.approx(falling[:20].mean()))


def test_lengths_are_told_only_where_they_are_at_hand(case: Case, home: Path, tmp_path: Path) -> None:
    assert ("center(table)", NORM) not in found(home)
    assert ("table", NORM) not in found(tmp_path / "elsewhere")


def test_lengths_that_are_all_one_predict_nothing(harness, tmp_path: Path, home: Path) -> None:
    case = Case(tmp_path, q=40)
    units = case.queries / np.linalg.norm(case.queries, axis=1, keepdims=True)
    lines = [json.dumps({"_id": f"q{i:02}", "text": json.dumps(row.tolist())}) for i, row in enumerate(units)]
    (case.folder / "queries.jsonl").write_text("\n".join(lines))
    case.benchmark(harness, "table")
    rows = found(home, "table")
    assert ("table", "gap") in rows
    assert ("table", NORM) not in rows


def test_the_command(harness, case: Case) -> None:
    done = harness("difficulty", "-m", "table", "-d", "table")
    assert done.code == 0, done.err
    assert done.out.count("\n| table") == 5
    content = json.loads(harness("difficulty", "-m", "table", "--json").out)
    assert [one["predictor"] for one in content] == ["top score", "gap", "spread of 10", "spread of 100", NORM]
    assert len(content[0]["curve"]) == 20
    done = harness("difficulty", "-m", "nobody")
    assert done.code == 2
    assert "There are no results of the model nobody" in done.err


def test_a_damaged_run_is_named_and_skipped(harness, case: Case) -> None:
    run = Path("results/table/table/run.trec.gz")
    run.write_bytes(run.read_bytes()[:200])
    done = harness("difficulty")
    assert done.code == 1
    assert f"skipped: {run}: its checksum is not that of the result" in done.err
    assert "center(table)" in done.out


def test_few_queries_are_not_tried(harness, tmp_path: Path, home: Path) -> None:
    Case(tmp_path, q=9).benchmark(harness, "table")
    with pytest.raises(UserError, match="at least 10 judged queries"):
        found(home)


def test_runs_are_read_as_the_harness_reads_them(case: Case, tmp_path: Path) -> None:
    path = Path("results/table/table/run.trec.gz")
    rankings = list(read_run(path))
    fast = run_scores(path)
    assert list(fast) == [ranking.query_id for ranking in rankings]
    for ranking in rankings:
        np.testing.assert_allclose(fast[ranking.query_id], ranking.scores, rtol=1e-7)
    again = tmp_path / "run.trec"
    write_run(again, rankings[:3], "x")
    again.write_text(again.read_text() + again.read_text().splitlines()[0] + "\n")
    with pytest.raises(ValueError, match="stand together"):
        run_scores(again)
