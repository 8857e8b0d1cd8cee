"""Clusters of queries by hand, and what is computed from them against statsmodels, brute force and an exact law."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks.studies.false_alarms import Cell, cluster_flips, complete, count, dealt, now
from harness.metrics.clusters import cluster_sums, design_effect, per_cluster, query_clusters
from harness.metrics.qrels import read_qrels
from harness.metrics.significance import mean_interval, paired_t, randomisation_test

RNG = np.random.default_rng


def qrels(*relevant: str) -> dict[str, dict[str, int]]:
    """Query number i has the documents of the i-th text, one letter each, and one judged as not relevant."""
    return {f"q{i}": {**dict.fromkeys(documents, 1), "z": 0} for i, documents in enumerate(relevant)}


def test_queries_are_linked_by_shared_relevant_documents() -> None:
    judged = qrels("ab", "c", "bd", "", "d", "e", "")
    found = query_clusters(judged, [*judged])
    assert found.codes.tolist() == [0, 1, 0, 2, 0, 3, 4]
    assert found.record() == {"rule": "document", "clusters": 5, "largest": 3, "linked": 3}
    told = "the 7 queries are 5 clusters of queries that share a relevant document (the largest has 3)"
    assert found.sentence() == told
    alone = query_clusters(qrels("a", "b"), ["q0", "q1"])
    assert alone.trivial
    assert not alone.sentence()


def test_declared_groups_count_instead() -> None:
    judged = qrels("a", "a", "b")
    found = query_clusters(judged, [*judged], {"q0": "x", "q1": "y", "q2": "x"})
    assert (found.rule, found.codes.tolist()) == ("group", [0, 1, 0])


def test_a_cluster_that_swallows_the_set_is_split_by_a_finer_rule() -> None:
    """Every query has the hub; of their other documents queries 0 and 1 share two, 2 and 3 one of three."""
    others = ["abc", "abd", "eij", "ekl", *(chr(200 + 3 * i) + chr(201 + 3 * i) + chr(202 + 3 * i) for i in range(16))]
    judged = qrels(*("h" + each for each in others))
    found = query_clusters(judged, [*judged])
    assert (found.rule, found.linked) == ("half", 20)
    assert found.codes[:5].tolist() == [0, 0, 1, 2, 3]
    assert "20 of the 20 queries hang together" in found.sentence()
    assert "little can be said" in found.sentence()
    chain = [chr(200 + i) + chr(201 + i) + chr(202 + i) for i in range(30)]  # neighbours share two of four
    same = query_clusters(qrels(*chain, chain[7]), [f"q{i}" for i in range(31)])
    assert (same.rule, same.sizes.max(), same.codes[30]) == ("all", 2, 7)


def test_values_by_cluster_have_the_mean_and_the_cluster_robust_error() -> None:
    """Against statsmodels, whose covariance is that of Liang and Zeger with the factor G / (G - 1)."""
    api = pytest.importorskip("statsmodels.api", reason="statsmodels is not installed")
    rng = RNG(1)
    codes = np.sort(rng.integers(0, 40, 300))
    codes = np.unique(codes, return_inverse=True)[1]
    values = rng.normal(0.4, 0.2, 300) + rng.normal(0, 0.2, 40)[codes]
    theirs = api.OLS(values, np.ones(300)).fit(cov_type="cluster", cov_kwds={"groups": codes}, use_t=True)
    ours = per_cluster(values, codes)
    assert ours.mean() == pytest.approx(theirs.params[0])
    assert stats.sem(ours) == pytest.approx(theirs.bse[0], rel=1e-6)
    assert paired_t(ours) == pytest.approx((theirs.tvalues[0], theirs.pvalues[0]), rel=1e-6)
    simple = api.OLS(values, np.ones(300)).fit()
    assert design_effect(values, codes) == pytest.approx((theirs.bse[0] / simple.bse[0]) ** 2)


def test_the_error_by_hand() -> None:
    values, codes = np.array([1.0, 2.0, 6.0, 3.0]), np.array([0, 0, 1, 2])
    sums = np.array([-3.0, 3.0, 0.0])  # of deviations from 3
    assert per_cluster(values, codes).tolist() == (3 + sums * 3 / 4).tolist()
    assert stats.sem(per_cluster(values, codes)) ** 2 == pytest.approx(3 / 2 * (sums**2).sum() / 16)
    assert per_cluster(np.stack([values, 2 * values]), codes).mean(axis=1) == pytest.approx([3, 6])


def test_the_clustered_bootstrap_as_clusters_drawn_one_by_one() -> None:
    rng = RNG(2)
    codes = np.repeat(np.arange(80), rng.integers(1, 9, 80))
    values = rng.beta(0.3, 0.7, len(codes)) + 0.3 * rng.normal(0, 1, 80)[codes]
    groups = [values[codes == code] for code in range(80)]
    means = [np.concatenate([groups[place] for place in rng.integers(80, size=80)]).mean() for _ in range(8000)]
    tail = stats.norm.cdf(-np.sqrt(80 / 79) * stats.t.isf(0.025, 79))
    ours = mean_interval([per_cluster(values, codes)])
    error = np.std(means)
    assert (ours.low, ours.high) == pytest.approx(tuple(np.quantile(means, [tail, 1 - tail])), abs=0.12 * error)
    equal = np.repeat(np.arange(50), 4)
    draws = rng.normal(0, 1, 200)
    alike = mean_interval([draws.reshape(50, 4).mean(axis=1)])
    assert mean_interval([per_cluster(draws, equal)]).ends == pytest.approx(alike.ends)


def test_the_randomisation_test_flips_whole_clusters() -> None:
    """Against all choices of a sign per cluster."""
    rng = RNG(3)
    codes = np.repeat(np.arange(9), rng.integers(1, 5, 9))
    differences = rng.normal(0.3, 1, len(codes))
    flipped = [(np.array(signs)[codes] * differences).sum() for signs in product((-1, 1), repeat=9)]
    exact = np.mean(np.abs(flipped) >= abs(differences.sum()) - 1e-12)
    assert randomisation_test(cluster_sums(differences, codes)) == pytest.approx(exact)


def test_single_queries_cost_nothing() -> None:
    values = RNG(4).normal(0, 1, 50)
    assert per_cluster(values, None) is values
    assert cluster_sums(values, None) is values
    assert design_effect(values, None) == 1


def test_false_alarms_under_a_null_that_flips_clusters() -> None:
    rng = RNG(5)
    codes = np.repeat(np.arange(60), rng.integers(1, 10, 60))
    differences = rng.normal(0, 1, len(codes)) + rng.normal(0, 1, 60)[codes]
    clustered, independent = cluster_flips(differences, codes, 100)
    assert clustered <= stats.binom.ppf(0.999, 100, 0.05) / 100
    assert independent > 0.15


@pytest.mark.parametrize(
    "cell",
    [
        Cell(3, 2, queries=150, cluster=5),
        Cell(6, 5, queries=20, by_dataset=2),
        Cell(2, 1, 2, queries=300, by_run=1.0, fixed=True),
        Cell(3, 1, 3, queries=300, by_run=0.4, cluster=5),
        Cell(4, 5, 3, queries=20, by_run=0.4, by_dataset=2),
    ],
    ids=str,
)
def test_tables_of_equals_are_rarely_wrong(cell: Cell) -> None:
    """A small version of the study that docs/statistics.md prints."""
    found, tables = count(cell, now(), 100), 100
    most = 100 * stats.binom.ppf(0.999, tables, 0.05) / tables
    assert (found.marks or 0) <= most
    assert found.ranks <= most
    assert found.covered >= 100 - most


@pytest.mark.parametrize(("models", "datasets"), [(3, 3), (6, 5), (10, 14)])
def test_ranks_of_published_values_dealt_at_random(shared: Path, models: int, datasets: int) -> None:
    values = complete(shared / "reference" / "published_beir.csv")
    assert values.shape[0] >= 20
    assert dealt(values, models, datasets, 100) <= stats.binom.ppf(0.999, 100, 0.05) / 100


def test_clusters_of_real_collections(shared: Path) -> None:
    """SQuAD's questions have one paragraph each, which is the cluster; the others as docs/statistics.md has them."""
    found = {}
    for name in ("squad-dev", "scifact", "cranfield", "arguana"):
        judged = read_qrels(shared / "data" / name / "qrels" / "test.tsv")
        found[name] = query_clusters(judged, [*judged]).record()
        if name == "squad-dev":
            paragraphs = {next(doc for doc, grade in own.items() if grade > 0) for own in judged.values()}
    assert found["squad-dev"]["clusters"] == len(paragraphs) == 2067
    assert found["scifact"] == {"rule": "document", "clusters": 247, "largest": 4, "linked": 4}
    assert found["cranfield"] == {"rule": "half", "clusters": 188, "largest": 3, "linked": 161}
    assert found["arguana"]["largest"] == 1
