"""The registration and the smallest effect that a study can show."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from harness.metrics.clusters import Clusters
from harness.registry.manager import load_registry
from harness.types import UserError
from harness_training.study.definition import Primary, StudyFolder
from harness_training.study.parser import find_study, read_study
from harness_training.study.registration import independent_queries, register, smallest_effect

SETS = [[300], [225], [93], [1553], [10_570]]


@pytest.mark.parametrize("over", ["datasets", "queries"])
def test_the_smallest_effect_is_found_with_80_percent_power(over: str) -> None:
    primary = Primary("a", "b", "", over=over, query_spread=15, run_spread=0.3, dataset_spread=1.0)
    effect = smallest_effect(primary, SETS, trained=2, seeds=3)
    variance = sum(225 / n for [n] in SETS) / 25 + 2 * 0.09 / 3 + (1 / 5 if over == "datasets" else 0)
    freedom = 4 if over == "datasets" else 12_740
    critical = stats.t.ppf(0.975, freedom)
    power = stats.nct.sf(critical, freedom, effect / np.sqrt(variance))
    assert power == pytest.approx(0.8, abs=1e-6)


def test_eighteen_sets_show_half_a_point_more_than_their_spread_allows() -> None:
    """With a spread of 1 over datasets alone: 0.7 points."""
    primary = Primary("a", "b", "", query_spread=0, run_spread=0)
    assert smallest_effect(primary, [[1000]] * 18, trained=2, seeds=1) == pytest.approx(0.7, abs=0.01)


def test_a_group_counts_once_and_its_members_are_averaged() -> None:
    primary = Primary("a", "b", "", over="queries", run_spread=0)
    whole = smallest_effect(primary, [[1200]], trained=0, seeds=1)
    assert smallest_effect(primary, [[100] * 12], trained=0, seeds=1) == pytest.approx(whole, rel=1e-3)


def test_clusters_are_worth_fewer_queries() -> None:
    """Kish's design effect: 100 clusters of five, correlation 0.3: 500 / (1 + 0.3 x 4)."""
    assert independent_queries(Clusters(np.repeat(np.arange(100), 5), "document", 5)) == pytest.approx(500 / 2.2)
    assert independent_queries(Clusters(np.arange(300), "document", 1)) == 300


def test_it_is_written_once_and_a_changed_study_is_refused(tmp_path: Path) -> None:
    registry, folder = load_registry(), StudyFolder(tmp_path)
    text = find_study("small").read_text()
    file = tmp_path / "mine.toml"
    file.write_text(text)
    first = register(read_study(file, registry), folder, {"pydocs": 3147})
    # one dataset, so that only queries and runs are drawn: 2.8 x sqrt(225/3147 + 2 x 0.09/2)
    assert first["smallest_effect"] == pytest.approx(2.803 * np.sqrt(225 / 3147 + 0.09), abs=0.002)
    before = folder.registration.read_bytes()
    file.write_text(text.replace("A small study", "Another title"))
    assert register(read_study(file, registry), folder, {"pydocs": 3147})["registered"] == first["registered"]
    file.write_text(text.replace('against = "baseline"', 'against = "frozen"').replace("seeds = 2", "seeds = 1"))
    with pytest.raises(UserError, match=r"no longer states what was registered on .* \(primary, seeds changed\)"):
        register(read_study(file, registry), folder, {})
    assert folder.registration.read_bytes() == before
    content = json.loads(before)
    content["smallest_effect"] = 0.01
    folder.registration.write_text(json.dumps(content))
    file.write_text(text)
    with pytest.raises(UserError, match="was changed or is damaged"):
        register(read_study(file, registry), folder, {})


def test_an_unknown_number_of_queries_gives_no_smallest_effect(tmp_path: Path) -> None:
    study = read_study(find_study("small"), load_registry())
    assert register(study, StudyFolder(tmp_path), {"pydocs": None})["smallest_effect"] is None
