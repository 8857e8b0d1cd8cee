"""Geometry against the loss by compression: which cells count, and that it is Spearman's correlation with the loss."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from scipy import stats

from harness.evaluation.compression import FILE, LadderRow, Setting, write_rows
from harness.metrics.significance import holm
from harness_reports.analysis.compression_loss import FIGURES, LOSSES, losses, section, sentence
from tests.reports.analysis.test_isotropy_vs_ndcg import LABELS, add_transform, geometry
from tests.reports.factory import Results


def add_ladder(results: Results, model: str, dataset: str, full: float, shares: dict[str, float], dim: int) -> None:
    """A row for each kind of compression that loses this share of the full score."""
    rows = {}
    for by, share in shares.items():
        setting = LOSSES[by](dim)
        row = LadderRow(**asdict(setting), bytes=1, score=full * (1 - share), difference=-full * share, interval=None,
                  queries_per_second=1.0)  # fmt: skip
        rows[setting] = row
    write_rows(results.store.folder(model, dataset), "key", rows)


def test_it_is_spearmans_correlation_with_the_share_that_is_lost(results: Results) -> None:
    draw = np.random.default_rng(5)
    isotropy, loss = draw.random(8), draw.random((8, 2)) / 2
    for model in range(8):
        panel = geometry(isotropy[model]) | {}
        panel["documents"] |= {"d": 64 * (1 + model % 2), "effective_rank": 60 * isotropy[model]}
        results.add(f"m{model}", "scifact", 0.1 + 0.1 * model, geometry=panel)
        shares = {"binary": loss[model, 0], "half of the dimensions": loss[model, 1]}
        add_ladder(results, f"m{model}", "scifact", 0.1 + 0.1 * model, shares, 64 * (1 + model % 2))
    results.add("without", "scifact", 0.5, geometry=geometry(0.5))
    results.add("damaged", "scifact", 0.5, geometry=geometry(0.5))
    (results.store.folder("damaged", "scifact") / FILE).write_text('{"key": "k", "rows": [{}]}')
    found = losses(results.read())
    assert {(one.by, one.found.figure) for one in found} == {
        (by, figure) for by in ("binary", "half of the dimensions") for figure in FIGURES
    }
    by_figure = {(one.by, one.found.figure): one for one in found}
    for place, by in enumerate(("binary", "half of the dimensions")):
        one = by_figure[by, "isotropy"]
        expected = stats.spearmanr(isotropy, loss[:, place])
        assert (one.found.units, one.found.cells, one.found.scope) == (8, 8, "models")
        assert one.found.rho == pytest.approx(expected.statistic)
        dims = 64 * (1 + np.arange(8) % 2)
        share = by_figure[by, "effective_rank_share"].found.rho
        assert share == pytest.approx(stats.spearmanr(isotropy * 60 / dims, loss[:, place]).statistic)
    assert [one.holm for one in found if one.holm is not None] == holm([one.found.p for one in found if one.found.p])


def test_what_is_said_of_it(harness, results: Results) -> None:
    for place, step in enumerate(LABELS):
        score, isotropy, label = 0.5, 0.1 * place, "base"
        if step == "model":
            results.add("base", "a|b", score, geometry=geometry(isotropy))
        else:
            add_transform(results, "base", step, "a|b", score, isotropy)
            name, colon, options = step.partition(":")
            label = f"{name}(base){colon}{options}"
        add_ladder(results, label, "a|b", score, {"binary": 0.3 - 0.05 * place}, 384)
    found = losses(results.read())
    transforms = [one for one in found if one.found.scope == "transforms" and one.found.figure == "isotropy"]
    assert [(one.found.rho, one.found.units) for one in transforms] == [(pytest.approx(-1), 6)]
    said = sentence(found)
    assert "Across 1 model, nothing can be said: it takes five" in said
    assert "the higher isotropy, the less is lost by binary (rank correlation -1.00)." in said
    done = harness("correlate", "--results", results.store.root)
    assert done.code == 0, done.err
    assert done.out.endswith(section(found))
    printed = json.loads(harness("correlate", "--results", results.store.root, "--json").out)
    assert printed["compression"]["sentence"] == said
    assert len(printed["compression"]["losses"]) == len(found)


def test_without_ladders_nothing_is_said(harness, results: Results) -> None:
    results.add("m", "scifact", 0.5, geometry=geometry(0.5))
    assert losses(results.read()) == []
    assert "compression" not in harness("correlate", "--results", results.store.root).out
    assert LOSSES["int8"](10) == Setting(10, "int8", "")
