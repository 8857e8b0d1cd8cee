"""``harness transform``: rows beside the model, each held against it query by query."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from harness.metrics.significance import difference_interval, holm, randomisation_test
from harness.results.store import ResultStore, read_per_query
from harness_reports.data.leaderboard import read_leaderboard
from tests.plugins.test_transforms import Case


@pytest.fixture
def words(harness, tmp_path) -> list[object]:
    case = Case(tmp_path, "cosine")
    return ["-m", "table", "-d", case.folder, "--plugin", case.plugin]


def rows(harness, *words: object) -> list[dict]:
    done = harness("transform", *words, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_rows_stand_beside_the_model_and_are_results_like_any_other(harness, words: list[object]) -> None:
    found = rows(harness, *words, "--with", "whiten", "--with", "pca:dim=4 + whiten:exponent=0.5,similarity=euclidean")
    labels = ["table", "whiten(table)", "whiten(pca(table):dim=4):exponent=0.5,similarity=euclidean"]
    assert [row["model"] for row in found] == labels
    board = read_leaderboard(Path("results"))
    assert {cell.model: cell.score for cell in board.rows()} == {row["model"]: row["nDCG@10"] for row in found}
    assert found[0]["p"] is None
    store = ResultStore(Path("results"))
    own, plain = (read_per_query(store.folder(label, "table"), "nDCG@10") for label in (labels[1], labels[0]))
    assert found[1]["difference"] == pytest.approx(np.mean(own - plain))
    interval = difference_interval([own], [plain])
    assert (found[1]["low"], found[1]["high"]) == (interval.low, interval.high)
    third = read_per_query(store.folder(labels[2], "table"), "nDCG@10")
    assert [row["p"] for row in found[1:]] == holm([randomisation_test(x - plain) for x in (own, third)])
    assert (found[2]["d"], found[0]["d"]) == (4, 12)


def test_without_steps_the_usual_ones(harness, words: list[object]) -> None:
    done = harness("transform", *words)
    assert done.code == 0, done.err
    for exponent in ("0.25", "0.5", "0.75", "1.0"):
        assert f"whiten(table):exponent={exponent}" in done.out
    isotropy = [float(line.split("|")[7]) for line in done.out.splitlines()[2:]]
    assert isotropy[2:] == sorted(isotropy[2:])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--with", "whitten"], "whiten"),
        (["--with", "rrf"], "transform"),
        (["-m", "bm25"], "bm25 is a lexical model, which has no vectors"),
    ],
)
def test_mistakes_are_one_sentence(harness, words: list[object], more: list[str], message: str) -> None:
    done = harness("transform", *words, *more)
    assert done.code == 2
    assert message in done.err.splitlines()[-1]


def test_a_step_that_does_not_fit_fails_its_cell_alone(harness, words: list[object]) -> None:
    done = harness("transform", *words, "--with", "pca:dim=13", "--with", "pca:dim=4", "--json")
    assert done.code == 1
    assert [row["status"] for row in json.loads(done.out)] == ["ok", "failed", "ok"]
    assert "failed: pca(table):dim=13 on table: pca cannot keep 13 of 12 dimensions" in done.err
