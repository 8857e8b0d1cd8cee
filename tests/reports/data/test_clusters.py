"""Queries that are not independent, and rows over seeds, in reports, comparisons and claims."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from scipy import stats

import harness_reports.cli.compare
import harness_reports.render.markdown
from harness.metrics.clusters import cluster_sums, per_cluster
from harness.metrics.significance import mean_interval, randomisation_test
from harness.storage.atomic import content_key
from harness_reports.data.per_query import Evidence
from harness_reports.tables.sections import report
from tests.reports.data.test_uncertainty import add_run, spread, values
from tests.reports.factory import Results
from tests.reports.rendering import Table, rendered

N = 120
GROUPS = {f"q{number}": str(number // 4) for number in range(N)}
CODES = np.arange(N) // 4


def told(results: Results, baseline: str | None = None, **choice: Any) -> tuple[Table, str]:
    board = results.read(**choice)
    tables, words = rendered(harness_reports.render.markdown.markdown(report(board, Evidence(board), baseline)))
    return tables["nDCG@10"], words


def compared(results: Results, *arguments: str) -> tuple[dict[str, Any], str]:
    words = [*arguments, "--results", str(results.store.root)]
    ended = CliRunner().invoke(harness_reports.cli.compare.command, [*words, "--json"])
    assert ended.exit_code == 0, (ended.output, ended.exception)
    shown = CliRunner().invoke(harness_reports.cli.compare.command, words)
    return json.loads(ended.stdout), shown.stdout


def clustered(seed: int, shift: float = 0.0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    shared = rng.normal(0, 0.1, N // 4)[CODES]
    return np.clip(values(0.5 + shift, seed, N) + shared, 0, 1)


@pytest.fixture
def pair(results: Results) -> dict[str, NDArray[np.float64]]:
    """Two models on a dataset whose queries come in groups of four."""
    own = {"base": clustered(1), "better": clustered(2, 0.05)}
    for model, scores in own.items():
        queries = dict(zip(GROUPS, scores.tolist(), strict=True))
        results.add(model, "own", queries=queries, groups=GROUPS)
    return own


def test_a_report_of_clusters(results: Results, pair: dict[str, NDArray[np.float64]]) -> None:
    table, words = told(results, baseline="base")
    for model, scores in pair.items():
        expected = mean_interval([per_cluster(scores, CODES)])
        assert spread(table[model, "95% interval"]) == pytest.approx(
            (100 * expected.low, 100 * expected.high), abs=0.0051
        )
        ratio = stats.sem(per_cluster(scores, CODES)) ** 2 / stats.sem(scores) ** 2
        assert float(table[model, "design effect"]) == pytest.approx(ratio, abs=0.0051)
        assert ratio > 1.5
    gap = pair["better"] - pair["base"]
    ratio = stats.sem(per_cluster(gap, CODES)) ** 2 / stats.sem(gap) ** 2
    assert float(table["better", "its design effect"]) == pytest.approx(ratio, abs=0.0051)
    assert "own: the 120 queries are 30 clusters of queries that are of one group" in words


def test_a_comparison_of_clusters(results: Results, pair: dict[str, NDArray[np.float64]]) -> None:
    content, shown = compared(results, "base", "better")
    (found,) = content["contrasts"]
    gap = pair["better"] - pair["base"]
    by_cluster = per_cluster(gap, CODES)
    theirs = stats.ttest_1samp(by_cluster, 0)
    assert (found["t"], found["p_t"]) == pytest.approx((theirs.statistic, theirs.pvalue))
    assert found["p_randomisation"] == pytest.approx(randomisation_test(cluster_sums(gap, CODES)))
    assert found["p_randomisation"] > 1.5 * randomisation_test(gap)
    assert found["interval"] == pytest.approx(mean_interval([by_cluster]).ends)
    assert found["design_effect"] == pytest.approx(stats.sem(by_cluster) ** 2 / stats.sem(gap) ** 2)
    (parts,) = content["variance"]
    assert parts["error"] == pytest.approx(stats.sem(by_cluster))
    assert parts["shares"]["queries"] == pytest.approx(1 / found["design_effect"])
    assert sum(parts["shares"].values()) == pytest.approx(1)
    assert parts["smallest_effect"] == pytest.approx(found["smallest_effect"])
    assert "design effect" in rendered(shown)[0]["Dataset by dataset"].header
    assert "own: the 120 queries are 30 clusters" in shown


def test_results_that_do_not_say_their_clusters(results: Results, tmp_path: Path) -> None:
    """Computed from the dataset if its judgements are the very same, else a note; the file has no column either way."""
    queries = dict(zip(GROUPS, clustered(1).tolist(), strict=True))
    qrels = {query: {group: 1} for query, group in GROUPS.items()}
    record = {"clusters": {}, "source": str(tmp_path / "data"), "fingerprint": {"qrels": content_key(qrels)}}
    results.add("base", "own", queries=queries, manifest={"dataset": record})
    table, words = told(results)
    assert "design effect" not in table.header
    assert "own: the results do not say which queries share relevant documents" in words
    (tmp_path / "data" / "qrels").mkdir(parents=True)
    lines = ["query-id\tcorpus-id\tscore", *(f"{query}\t{group}\t1" for query, group in GROUPS.items())]
    (tmp_path / "data" / "qrels" / "test.tsv").write_text("\n".join(lines) + "\n")
    table, words = told(results)
    assert "design effect" in table.header
    assert "the 120 queries are 30 clusters of queries that share a relevant document (the largest has 4)" in words
    assert "do not say" not in words
    (tmp_path / "data" / "qrels" / "test.tsv").write_text("\n".join(lines[:-1]) + "\n")
    assert "do not say" in told(results)[1], "other judgements"


def test_little_is_said_of_a_dataset_in_one_piece(results: Results) -> None:
    record = {"rule": "half", "clusters": 60, "largest": 1, "linked": 57}
    for model in ("base", "better"):
        results.add_queries(model, "own", values(0.5, 3, 60).tolist(), manifest={"dataset": {"clusters": record}})
    content, _ = compared(results, "base", "better")
    assert "57 of the 60 queries hang together" in content["warnings"][0]
    assert "little can be said of differences on this dataset" in told(results)[1]


def test_a_comparison_of_runs(results: Results) -> None:
    """Against Banerjee's interval by hand; the mean of the runs alone would be far beyond chance."""
    base = values(0.5, 7, 400)
    runs = [base + shift + values(0, 20 + seed, 400, 0.02) for seed, shift in enumerate((0.01, 0.03, 0.05))]
    results.add_queries("base", "a", base.tolist())
    for seed, scores in enumerate(runs):
        add_run(results, seed, "a", scores.tolist())
    content, shown = compared(results, "base", "isotropy:isotropy_weight=1", "--seeds")
    (found,) = content["contrasts"]
    assert (found["model"], found["runs"]) == ("isotropy:isotropy_weight=1 (mean of 3 seeds)", [3, 1])
    gap, own = np.mean(runs, axis=0) - base, np.mean(runs, axis=1)
    half = np.hypot(stats.t.ppf(0.975, 399) * stats.sem(gap), stats.t.ppf(0.975, 2) * stats.sem(own))
    assert found["interval"] == pytest.approx([gap.mean() - half, gap.mean() + half])
    assert found["p_t"] == found["p_randomisation"] > 0.05
    assert randomisation_test(gap) < 0.001
    assert not found["real"]
    (parts,) = content["variance"]
    assert parts["shares"]["runs"] > 0.9
    assert parts["remedy"] == "3 more seeds of each model that has several"
    assert parts["smallest_then"] < 0.7 * parts["smallest_effect"]
    assert "the t-test over queries and runs" in shown
    results_of_two = Results(results.store.root.with_name("two"))
    results_of_two.add_queries("base", "a", base.tolist())
    for seed in range(2):
        add_run(results_of_two, seed, "a", runs[seed].tolist())
    assert "two runs say little" in compared(results_of_two, "base", "isotropy:isotropy_weight=1", "--seeds")[1]


def test_differences_over_datasets_hold_simultaneously(results: Results) -> None:
    shifts = {"m": (0.02, 0.05, 0.03, 0.06), "n": (-0.01, 0.02, 0.0, 0.01)}
    for place, dataset in enumerate("abcd"):
        base = values(0.4, place, 60)
        results.add_queries("base", dataset, base.tolist())
        for model, own in shifts.items():
            results.add_queries(model, dataset, (base + own[place]).tolist())
    content, shown = compared(results, "base", "m", "n")
    found = {(each["model"], each["against"]): each for each in content["overall"]}
    for (model, against), each in found.items():
        gaps = np.array(shifts[model]) - np.array(shifts.get(against, (0,) * 4))
        expected = stats.t.interval(1 - 0.05 / 3, 3, gaps.mean(), stats.sem(gaps))
        assert each["elsewhere"] == pytest.approx(expected)
        assert each["real"] == (expected[0] > 0 or expected[1] < 0)
    assert found["n", "m"]["real"]
    assert "nothing can be told apart" not in shown
    table, words = told(results, baseline="base")
    gaps = np.array(shifts["m"])
    expected = stats.t.interval(1 - 0.05 / 2, 3, gaps.mean(), stats.sem(gaps))
    assert spread(table["m", "its 95% interval"]) == pytest.approx([100 * end for end in expected], abs=0.0051)
    assert "Intervals of differences over several datasets hold simultaneously" in words
    assert "nothing can be told apart" in compared(results, "base", "n")[1]
