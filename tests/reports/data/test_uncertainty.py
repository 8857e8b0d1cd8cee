"""Intervals, ranks and marks of the table of scores, held against what is known of the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

import harness_reports.render.markdown
from harness.datasets.catalog import catalogue
from harness.metrics.significance import mean_interval, rank_intervals
from harness.types import UserError
from harness_reports.analysis.isotropy_vs_ndcg import points
from harness_reports.cli.report import render
from harness_reports.data.per_query import Evidence
from harness_reports.data.rows import content
from harness_reports.data.uncertainty import Uncertainty
from harness_reports.tables.sections import report
from tests.reports.factory import Results
from tests.reports.rendering import Table, rendered


def values(mean: float, seed: int, n: int = 80, spread: float = 0.1) -> NDArray[np.float64]:
    """Per-query scores around a mean."""
    return np.clip(np.random.default_rng(seed).normal(mean, spread, n), 0, 1)


def told(results: Results, baseline: str | None = None, **choice: Any) -> tuple[Table, str]:
    """The table of scores and the notes, as Markdown shows them."""
    tables, words = rendered(
        harness_reports.render.markdown.markdown(report(results.read(**choice), baseline=baseline))
    )
    return tables["nDCG@10"], words


def spread(text: str) -> tuple[float, float]:
    low, high = map(float, text.split(" to "))
    return low, high


def test_the_interval_of_a_single_dataset_is_that_of_its_queries(results: Results) -> None:
    scores = values(0.5, 1, n=400)
    results.add_queries("m", "own", scores.tolist())
    table, words = told(results)
    assert table.header == ["model", "own", "95% interval", "isotropy"]
    low, high = spread(table["m", "95% interval"])
    expected = stats.t.interval(0.95, len(scores) - 1, scores.mean(), stats.sem(scores))
    assert (low, high) == pytest.approx([100 * end for end in expected], abs=0.1)
    assert "by bootstrap over queries where there is one dataset" in words


def test_intervals_ranks_and_differences_of_a_suite(results: Results, trio: tuple[str, ...]) -> None:
    kept: dict[str, list[NDArray[np.float64]]] = {}
    for model, mean in (("low", 0.3), ("mid", 0.301), ("high", 0.6)):
        noise = [values(0, 10 + place, spread=0.02) for place, _ in enumerate(trio)]
        base = [values(0.1, place, spread=0.05) for place, _ in enumerate(trio)]
        kept[model] = [np.clip(mean + b + n * (model == "mid"), 0, 1) for b, n in zip(base, noise, strict=True)]
        for dataset, scores in zip(trio, kept[model], strict=True):
            results.add_queries(model, dataset, scores.tolist())
    results.add_queries("part", "scifact", kept["high"][0].tolist())
    table, words = told(results, baseline="low")
    average = "trio (3 of 3)"
    place = table.header.index(average)
    assert table.header[place : place + 5] == [average, "95% interval", "rank", "minus low", "its 95% interval"]
    for model, arrays in kept.items():
        mean = np.mean([array.mean() for array in arrays])
        assert table[model, average] == f"{100 * mean:.2f}"
        low, high = spread(table[model, "95% interval"])
        assert low < 100 * mean < high
        expected = mean_interval(arrays)
        assert (low, high) == pytest.approx((100 * expected.low, 100 * expected.high), abs=0.0051)
    ranks = rank_intervals(kept)
    assert ranks["high"] == (1, 1)
    for model, (first, last) in ranks.items():
        assert table[model, "rank"] == (f"{first} to {last}" if first < last else str(first))
    assert table["low", "minus low"] == "baseline"
    assert table["high", "minus low"] == "+30.00"
    assert spread(table["high", "its 95% interval"]) == pytest.approx((30, 30), abs=1e-9)
    assert (table["part", average], table["part", "95% interval"], table["part", "rank"]) == ("1 of 3", "-", "-")
    assert {table["high", dataset][-1] for dataset in trio} == {"†"}
    assert "† better, ‡ worse than low beyond chance" in words
    assert "all 7 comparisons with it in the table" in words


def test_marks_are_those_of_the_adjusted_tests(results: Results) -> None:
    """Against scipy's paired t-tests and Holm's correction by hand, whose verdicts are not near the threshold here."""
    base = {dataset: values(0.5, place, 200) for place, dataset in enumerate(("a", "b", "c"))}
    effects = {"up": (0.05, 0.002, 0.0), "down": (-0.05, 0.0, -0.04), "same": (0.0, 0.012, 0.0)}
    for dataset, scores in base.items():
        results.add_queries("base", dataset, scores.tolist())
    p: dict[tuple[str, str], float] = {}
    sign: dict[tuple[str, str], str] = {}
    for number, (model, moved) in enumerate(effects.items()):
        for dataset, effect in zip(base, moved, strict=True):
            scores = np.clip(base[dataset] + effect + values(0.5, 100 + number, 200) - 0.5, 0, 1)
            results.add_queries(model, dataset, scores.tolist())
            p[model, dataset] = stats.ttest_rel(scores, base[dataset]).pvalue
            sign[model, dataset] = "†" if scores.mean() > base[dataset].mean() else "‡"
    found: set[tuple[str, str]] = set()
    for place, key in enumerate(sorted(p, key=p.__getitem__)):
        if p[key] * (len(p) - place) > 0.05:
            break
        found.add(key)
    table, _ = told(results, baseline="base")
    assert {key for key in p if table[key][-1] in "†‡"} == found
    assert {table[key][-1] for key in found} == {"†", "‡"}
    assert all(table[key][-1] == sign[key] for key in found)
    assert not [column for column in "abc" if table["base", column][-1] in "†‡"]


class Null(Evidence):
    """Models that differ by chance alone."""

    turn = 0

    def paired(self, models: Any, dataset: str, measure: str = "") -> tuple[list[str], dict[str, NDArray[np.float64]]]:
        seeds = {model: [*map(ord, dataset + model), self.turn] for model in models}
        return ["q"] * 200, {model: np.random.default_rng(seed).beta(0.5, 0.7, 200) for model, seed in seeds.items()}


def test_a_whole_table_of_equals_has_a_mark_in_one_of_twenty_cases(results: Results) -> None:
    for model in ("base", "x", "y", "z"):
        for dataset in ("a", "b"):
            results.add(model, dataset, 0.5)
    board, marked = results.read(), 0
    for turn in range(1000):
        evidence = Null(board)
        evidence.turn = turn
        uncertainty = Uncertainty(board, evidence, "base")
        marked += bool(uncertainty.marks(board.datasets))
        assert uncertainty.tests == 6
    assert 15 <= marked <= 64  # 0.05 of 1,000 and two standard deviations; Holm is on the safe side


def test_a_group_counts_once(results: Results) -> None:
    forums = catalogue().groups["cqadupstack"]
    for place, dataset in enumerate((*forums, "quora", "fiqa")):
        for model, better in (("base", 0.0), ("m", 0.05)):
            n = 30 + 20 * place
            results.add_queries(model, dataset, (values(0.4, place, n) + better).tolist())
    table, words = told(results, baseline="base")
    assert table["m", "cqadupstack (12 of 12)"][-1] == "†"
    assert "all 3 comparisons" in words
    assert table["m", "minus base"] == "+5.00"
    low, high = spread(table["m", "95% interval"])
    assert low < float(table["m", "mean of 3"]) < high


def test_versions_of_a_dataset_have_no_ranks_and_no_marks(results: Results) -> None:
    results.add_queries("base", "a", values(0.2, 1).tolist())
    results.add_queries("m", "a", values(0.8, 2).tolist(), manifest={"dataset": {"fingerprint": {"corpus": "newer"}}})
    table, _ = told(results, baseline="base")
    assert "rank" not in table.header
    assert table["m", "a"] == f"{100 * values(0.8, 2).mean():.2f}¶"
    assert not [name for name in table.header if "minus" in name]


def test_no_queries_no_interval(results: Results) -> None:
    results.add("m", "a", 0.5)
    table, words = told(results, baseline="m")
    assert table.header == ["model", "a", "isotropy"]
    assert "95% interval" not in words
    assert "†" not in words


def test_an_unknown_baseline(results: Results) -> None:
    results.add("minilm", "a", 0.5)
    with pytest.raises(UserError, match=r"no model 'minlm' in these results; did you mean minilm\?"):
        told(results, baseline="minlm")


def test_damaged_queries_are_named(results: Results) -> None:
    results.add_queries("m", "a", [0.5, 0.25])
    (results.store.folder("m", "a") / "per_query.parquet").write_bytes(b"torn")
    board = results.read()
    evidence = Evidence(board)
    assert "it is damaged, or was edited" in render(board, "markdown", evidence)
    assert [one.path.name for one in evidence.skipped.values()] == ["per_query.parquet"]


def test_what_a_cell_lacks_is_said(results: Results) -> None:
    for dataset in ("nfcorpus", "fiqa"):
        results.add("m", dataset, 0.5)
    results.add("m", "arguana", reason="no")
    results.add("m", "scidocs:limit=5", 0.5)
    table, _ = told(results, suite="beir18")
    shown = {column: table["m", column] for column in table.header}
    assert (shown["nfcorpus"], shown["arguana"], shown["scidocs"]) == ("50.00", "failed", "partial")
    assert (shown["trec-news"], shown["quora"], shown["beir18 (2 of 18)"]) == ("needs licence", "missing", "2 of 18")
    assert not [text for text in shown.values() if not text.strip()]
    absences = {
        cell["text"]: cell["absence"]
        for cell in report(results.read("beir18")).content()["tables"][0]["rows"][0]
        if "absence" in cell
    }
    assert absences.items() >= {"needs licence": "needs licence", "partial": "partial", "2 of 18": "incomplete"}.items()


def add_run(
    results: Results, seed: int, dataset: str, scores: list[float], weight: float = 1.0, **changed: Any
) -> None:
    model = {
        "passed": {"run": f"isotropy_weight={weight:g}+seed{seed}"},
        "training": {
            "experiment": "isotropy",
            "run": f"isotropy_weight={weight:g},seed{seed}",
            "seed": seed,
            "settings": {"isotropy_weight": weight, "seed": seed},
        },
    }
    results.add_queries(f"isotropy:run={weight:g}+seed{seed}", dataset, scores, manifest={"model": model}, **changed)


def test_seeds_as_one_row(results: Results) -> None:
    arrays = {(seed, d): values(0.4 + 0.1 * seed, 10 * seed + n, 50) for seed in range(3) for n, d in enumerate("ab")}
    for (seed, dataset), scores in arrays.items():
        add_run(results, seed, dataset, scores.tolist())
    for seed in range(2):
        add_run(results, seed, "a", values(0.1, seed).tolist(), weight=0.5)
    results.add_queries("other", "a", values(0.3, 99, 50).tolist())
    assert len(results.read().models) == 6
    board = results.read(seeds=True)
    row, half = "isotropy:isotropy_weight=1 (mean of 3 seeds)", "isotropy:isotropy_weight=0.5 (mean of 2 seeds)"
    assert list(board.models) == [row, "other", half]
    table, words = told(results, seeds=True, baseline="other")
    means = [np.mean([arrays[seed, dataset].mean() for seed in range(3)]) for dataset in "ab"]
    assert [table[row, d].rstrip("†") for d in "ab"] == [f"{100 * mean:.2f}" for mean in means]
    assert table[row, "a"][-1] != "†", "the runs differ by more than they exceed the other by"
    assert table[row, "mean of 2"] == f"{100 * np.mean(means):.2f}"
    stacked = [np.stack([arrays[seed, dataset] for seed in range(3)]) for dataset in "ab"]
    expected = mean_interval(stacked)
    assert spread(table[row, "95% interval"]) == pytest.approx((100 * expected.low, 100 * expected.high), abs=0.0051)
    assert expected.high - expected.low > 0.1  # the seeds are in it
    assert f"{row}: the mean of isotropy:run=1+seed0, isotropy:run=1+seed1, isotropy:run=1+seed2." in words
    kept = content(board)
    assert len([one for one in kept["rows"] if one["model"].startswith("isotropy:run=1")]) == 6
    assert kept["seeds"][row] == [f"isotropy:run=1+seed{seed}" for seed in range(3)]
    geometry = rendered(harness_reports.render.markdown.markdown(report(board)))[0]["Geometry"]
    assert len(geometry.rows) == 9
    assert {point.unit for point in points(board)} <= {*board.models}, "a seed is no model beside its mean"


def test_a_seed_that_is_missing_leaves_no_mean(results: Results) -> None:
    for seed in range(2):
        add_run(results, seed, "a", [0.5, 0.25])
    add_run(results, 0, "b", [0.5, 0.25])
    table, _ = told(results, seeds=True)
    assert table.rows[0][1:3] == ["37.50", "1 of 2 seeds"]
    assert table.rows[0][3] == "1 of 2"


def test_energy_and_price_where_they_are_known(results: Results, tmp_path: Path) -> None:
    gpu = {"machine": {"processor": "Xeon", "gpus": ["NVIDIA H100 80GB HBM3"]}}
    results.add("m", "a", 0.5, manifest={"run": {**gpu, "energy_kwh": 0.125}})
    results.add("n", "a", 0.4)
    tables, _ = rendered(harness_reports.render.markdown.markdown(report(results.read())))
    seconds = 14.5 + 0.256 + 1.5 + 0.75
    assert (tables["Cost"]["m", "kWh"], tables["Cost"]["m", "USD"]) == ("0.1250", f"{seconds / 3600 * 3:.4f}")
    assert (tables["Cost"]["n", "kWh"], tables["Cost"]["n", "USD"]) == ("-", "-")
