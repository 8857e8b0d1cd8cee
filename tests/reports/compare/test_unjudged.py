"""What unjudged documents could change in a comparison, from stored runs and the judgements of the dataset."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from harness.metrics.measures import measure
from harness.metrics.qrels import HEADER, qrels_line
from harness.metrics.ranking import Ranking
from harness.storage.atomic import content_key
from harness.types import Qrels
from harness_reports.cli.compare import command
from tests.reports.factory import Results

QRELS: Qrels = {"q1": {"a": 1, "b": 0}, "q2": {"a": 1}}
RUNS = {
    "one": {"q1": ["a", "b"], "q2": ["x", "a"]},
    "two": {"q1": ["x", "y", "a"], "q2": ["a"]},
    "three": {"q1": ["b", "a"], "q2": ["z", "a"]},
}


def value(run: dict[str, list[str]], qrels: Qrels = QRELS, name: str = "nDCG@10") -> list[float]:
    rankings = [Ranking(query, ids, np.arange(len(ids), 0, -1, dtype=np.float32)) for query, ids in run.items()]
    return list(measure(qrels, rankings, [name]).values[:, 0])


def store(results: Results, folder: Path, qrels: Qrels = QRELS) -> None:
    """Results of `RUNS`, and the judgements of their dataset in the folder."""
    (folder / "qrels").mkdir(parents=True)
    lines = [qrels_line(query, doc, grade) for query, docs in qrels.items() for doc, grade in docs.items()]
    (folder / "qrels" / "test.tsv").write_text(HEADER + "\n" + "".join(lines))
    dataset = {"name": "mine", "source": str(folder), "fingerprint": {"qrels": content_key(qrels)}}
    for model, run in RUNS.items():
        queries = dict(zip(qrels, value(run, qrels), strict=True))
        results.add(model, "mine", queries=queries, run=run, manifest={"dataset": dataset})


def compared(results: Results, *arguments: str) -> dict[str, object]:
    ended = CliRunner().invoke(command, [*arguments, "--results", str(results.store.root), "--json"])
    assert ended.exit_code == 0, (ended.output, ended.exception)
    found: dict[str, object] = json.loads(ended.stdout)
    return found


def test_every_pair_has_the_bounds_of_its_unjudged_documents(results: Results, tmp_path: Path) -> None:
    store(results, tmp_path / "mine")
    found = compared(results, "one", "two", "three")["unjudged"]
    assert isinstance(found, list)
    assert [(each["model"], each["against"]) for each in found] == [("two", "one"), ("three", "one"), ("three", "two")]
    first = found[0]
    filled = {"q1": QRELS["q1"] | {"x": 1, "y": 1}, "q2": QRELS["q2"] | {"x": 1}}
    for name, expected in (
        ("difference", np.mean(value(RUNS["two"])) - np.mean(value(RUNS["one"]))),
        ("all_relevant", np.mean(value(RUNS["two"], filled)) - np.mean(value(RUNS["one"], filled))),
        ("judged_alone", 0.0),
        ("judged", (1 / 3 + 1) / 2),
        ("judged_against", (1 + 1 / 2) / 2),
    ):
        assert first[name] == pytest.approx(expected, abs=1e-12), name
    condensed = [np.mean(value(RUNS[model], name="nDCG(judged_only=True)@10")) for model in ("three", "two")]
    assert found[2]["judged_alone"] == pytest.approx(condensed[0] - condensed[1])
    assert found[2]["judged_alone"] < 0
    assert first["least"] < first["difference"] < first["most"]
    assert first["reversible"]


def test_a_difference_that_no_judgement_can_reverse(results: Results, tmp_path: Path) -> None:
    store(results, tmp_path / "mine", {"q1": {"a": 1, "b": 0}, "q2": {"a": 1, "x": 0, "z": 0}})
    found = compared(results, "one", "three")["unjudged"]
    assert isinstance(found, list)
    [each] = found
    assert (each["least"], each["most"]) == pytest.approx((each["difference"],) * 2)
    assert (each["reversible"], each["flips"], each["difference"] < 0) == (False, [], True)
    shown = CliRunner().invoke(command, ["one", "three", "--results", str(results.store.root)]).stdout
    assert "## Unjudged documents" in shown
    assert "| nothing " in shown


def test_without_the_judgements_the_rest_is_shown(results: Results, tmp_path: Path) -> None:
    store(results, tmp_path / "mine")
    (tmp_path / "mine" / "qrels" / "test.tsv").write_text(f"{HEADER}\nq1\ta\t1\n")  # of another version
    shown = CliRunner().invoke(command, ["one", "two", "--results", str(results.store.root)])
    assert shown.exit_code == 0
    assert "## Unjudged documents" not in shown.stdout
    assert "What unjudged documents could change is not shown for mine" in shown.stdout
