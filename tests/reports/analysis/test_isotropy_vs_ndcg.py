"""Isotropy against nDCG@10: which cells count, what is said of them, and what is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from harness_reports.analysis.isotropy_vs_ndcg import FIGURES, Association, associations, section, sentence
from tests.reports.factory import HUBNESS, PANEL, Results

LABELS = ["model", "center", "whiten:exponent=0.5", "whiten:exponent=0.75", "whiten", "pca:dim=64"]


def geometry(isotropy: float) -> dict[str, Any]:
    panel = PANEL | {"isotropy": isotropy, "isotropy_debiased": isotropy * 2, "isoscore": 1 / (9 - isotropy)}
    return {"documents": panel, "queries": {"isotropy": 0.5}, "hubness": HUBNESS}


def add_transform(results: Results, origin: str, step: str, dataset: str, score: float, isotropy: float) -> None:
    name, colon, options = step.partition(":")
    member = {"label": origin, "kind": "dense"}
    results.add(
        f"{name}({origin}){colon}{options}",
        dataset,
        score,
        geometry=geometry(isotropy),
        manifest={"model": {"kind": "transform", "members": [member]}},
    )


def one(found: list[Association], scope: str, figure: str = "isotropy", dataset: str | None = None) -> Association:
    [only] = [a for a in found if (a.scope, a.figure, a.dataset) == (scope, figure, dataset)]
    return only


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "results")


def test_across_models_it_is_spearmans_correlation(results: Results) -> None:
    draw = np.random.default_rng(3)
    isotropy, scores = draw.random((7, 2)), draw.random((7, 2))
    for model in range(7):
        for place, dataset in enumerate(("scifact", "nfcorpus")):
            results.add(f"m{model}", dataset, scores[model, place], geometry=geometry(isotropy[model, place]))
    results.add("bm25", "scifact", 0.9)
    results.add("m8+hnsw", "scifact", 0.9, geometry=geometry(0.9), index={"served": {}})
    results.add("m6|depth=9", "scifact", 0.9, geometry=geometry(0.9), manifest={"k": 9})
    results.add("m9", "scifact")
    results.add("m9", "scifact:limit=5", 0.4)
    found = associations(results.read())
    rho = [stats.spearmanr(isotropy[:, place], scores[:, place]).statistic for place in range(2)]
    for place, dataset in enumerate(("scifact", "nfcorpus")):
        own = one(found, "models", dataset=dataset)
        assert (own.units, own.cells) == (7, 7)
        assert own.rho == pytest.approx(rho[place])
    overall = one(found, "models")
    assert (overall.units, overall.cells) == (7, 14)
    assert overall.rho == pytest.approx(np.mean(rho))
    assert one(found, "models", "isoscore").rho == pytest.approx(overall.rho)
    assert {a.scope for a in found} == {"models"}
    assert len(found) == 3 * len(FIGURES)


def test_hard_datasets_make_no_association(results: Results) -> None:
    """Between datasets isotropy and scores rise together, within each they fall."""
    for place, dataset in enumerate(("scifact", "nfcorpus", "fiqa")):
        for model in range(6):
            score = 0.2 * (place + 1) + 0.01 * model
            results.add(f"m{model}", dataset, score, geometry=geometry(place - 0.1 * model))
    overall = one(associations(results.read()), "models")
    assert overall.rho == pytest.approx(-1)
    assert overall.p == pytest.approx(2 / 720)
    assert overall.interval.low == -1
    assert -0.9 < overall.interval.high < 0
    said = sentence(associations(results.read()))
    assert "6 models" in said
    assert "go against each other (rank correlation -1.00" in said


def test_few_models_say_nothing_however_many_datasets(results: Results) -> None:
    for dataset in ("scifact", "nfcorpus", "fiqa", "arguana"):
        for model in range(3):
            results.add(f"m{model}", dataset, 0.1 * model, geometry=geometry(0.1 * model))
    overall = one(associations(results.read()), "models")
    assert overall.rho == pytest.approx(1)
    assert overall.interval.ends is None
    assert overall.p is None
    assert "nothing can be said" in sentence(associations(results.read()))
    assert "too few" in section(associations(results.read()))


def test_models_apart_from_each_other_are_not_counted_together(results: Results) -> None:
    """Six models, but never more than two on one dataset."""
    for place, dataset in enumerate(("scifact", "nfcorpus", "fiqa")):
        for model in (2 * place, 2 * place + 1):
            results.add(f"m{model}", dataset, 0.1 * model, geometry=geometry(0.1 * model))
    overall = one(associations(results.read()), "models")
    assert (overall.units, overall.cells, overall.rho, overall.p) == (2, 6, None, None)


def test_transforms_are_held_against_the_model_they_change(results: Results) -> None:
    for base, level in (("a:dtype=float32", 0.2), ("b", 0.6)):
        for dataset in ("scifact", "nfcorpus"):
            for place, step in enumerate(LABELS):
                score, isotropy = level - 0.02 * place, 0.1 * place + level
                if step == "model":
                    results.add(base, dataset, score, geometry=geometry(isotropy))
                else:
                    add_transform(results, base, step, dataset, score, isotropy)
    found = associations(results.read())
    overall = one(found, "transforms")
    assert (overall.units, overall.cells) == (6, 24)
    assert overall.rho == pytest.approx(-1)
    assert overall.p == pytest.approx(2 / 720)
    models = one(found, "models")
    assert (models.units, models.cells, models.p) == (2, 4, None)
    assert "6 post-hoc transforms of a model's own vectors" in sentence(found)
    assert "bounds nothing" in sentence(found)


def test_names_are_escaped_and_the_command_prints_both(harness, results: Results) -> None:
    for model in range(5):
        results.add(f"m{model}", "a|b*c", 0.1 * model, geometry=geometry(0.1 * model))
        results.add(f"m{model}", "scifact", 0.1 * model, geometry=geometry(0.2 * model))
    done = harness("correlate", "--results", results.store.root)
    assert done.code == 0, done.err
    assert "a\\|b\\*c" in done.out
    assert "rise together" in done.out
    assert done.out == section(associations(results.read()))
    content = json.loads(harness("correlate", "--results", results.store.root, "--json").out)
    assert content["associations"][0]["rho"] == pytest.approx(1)
    assert content["associations"][0]["interval"] == pytest.approx([0.159, 1], abs=0.01)
    (results.store.root / "m0" / "scifact" / "result.json").write_text("{")
    done = harness("correlate", "--results", results.store.root)
    assert done.code == 1
    assert "skipped:" in done.err


def test_nothing_with_geometry_is_said_to_be_nothing(results: Results) -> None:
    results.add("bm25", "scifact", 0.6)
    assert associations(results.read()) == []
    assert "No finished cell" in section([])
