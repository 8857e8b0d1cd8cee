"""KILT's measures: by hand, and against KILT's own scorer as Pyserini ships it."""

from __future__ import annotations

import importlib.util
import json
import random
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from harness.metrics.kilt import MEASURES, evaluate_kilt, evidence_points, r_precision
from harness.types import UserError

ALL = ("Rprec", "precision@1", "precision@3", "precision@5", "recall@3", "recall@5", "success_rate@5", "recall@20")


def pages(text: str) -> list[tuple[str, ...]]:
    return [(letter,) for letter in text]


def record(id_: str, *sets: str | None) -> dict[str, Any]:
    """A question; each set is the letters of its pages, None an answer without provenance."""
    outputs: list[dict[str, Any]] = []
    for one in sets:
        provenance = [{"wikipedia_id": page, "title": page.upper()} for page in one or ""]
        outputs.append({"answer": "x"} if one is None else {"answer": "x", "provenance": provenance})
    return {"id": id_, "input": "?", "output": outputs}


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return path


@pytest.mark.parametrize(
    ("found", "evidence", "expected"),
    [
        ("ab", ["a"], 1.0),  # R = 1: the first page
        ("ba", ["a"], 0.0),
        ("ba", ["ab"], 1.0),  # R = 2: both, in any order
        ("axb", ["ab"], 0.5),
        ("axb", ["ab", "x", "ax"], 1.0),  # the best set
        ("", ["a"], 0.0),
        ("a", [], 0.0),
    ],
)
def test_r_precision_by_hand(found: str, evidence: list[str], expected: float) -> None:
    assert r_precision(pages(found), [pages(one) for one in evidence]) == expected


@pytest.mark.parametrize(
    ("found", "evidence", "expected"),
    [
        ("abc", ["a", "c"], [True, False, True]),
        ("axb", ["ab"], [False, True]),  # a moves down to b: two points, not three
        ("axbc", ["abc"], [False, True]),
        ("axb", ["abc"], [False, False]),  # never whole: one point, not good
        ("ab", ["ab", "a"], [True, True]),  # a is whole where it stands, ab where b does
        ("ab", ["ab", "ba"], [True]),  # the same set twice is one
        ("xyz", ["a"], [False] * 3),
    ],
)
def test_points_by_hand(found: str, evidence: list[str], expected: list[bool]) -> None:
    assert evidence_points(pages(found), [pages(one) for one in evidence]) == expected


def test_scores_by_hand(tmp_path: Path) -> None:
    gold = write(
        tmp_path / "gold", [record("1", "ab", "c", None), record("2", "d"), record("3", "e"), record("4", None)]
    )
    guess = write(tmp_path / "guess", [record("2", "xdd"), record("1", "caxb"), record("4", "a"), record("9", "a")])
    scores = evaluate_kilt(gold, guess, ["Rprec", "precision@1", "precision@3", "recall@3", "success_rate@1"])
    assert scores.query_ids == ["1", "2", "3", "4"]
    # 1: points c, x, ab; 2: x, d (its second d is dropped); 3: no guess; 4: no evidence
    assert scores.values.tolist() == [[1, 1, 2 / 3, 1, 1], [0, 0, 1 / 3, 1, 0], [0] * 5, [0] * 5]
    assert (scores.missing, scores.unjudged) == (1, 1)
    assert scores.mean()["recall@3"] == 0.5


def reference(monkeypatch: pytest.MonkeyPatch) -> Any:
    """KILT's scorer, alone: the package around it would start a Java machine."""
    found = importlib.util.find_spec("pyserini")
    file = Path(found.origin).parent / "eval" / "evaluate_kilt_retrieval.py" if found and found.origin else Path("-")
    if not file.is_file():
        pytest.skip("KILT's scorer comes with pyserini (the pyserini extra)")
    stand_in = types.ModuleType("pyserini.query_iterator")
    stand_in.KiltQueryIterator = None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyserini", types.ModuleType("pyserini"))
    monkeypatch.setitem(sys.modules, "pyserini.query_iterator", stand_in)
    spec = importlib.util.spec_from_file_location("kilt_reference", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("keys", [("wikipedia_id",), ("wikipedia_id", "start_paragraph_id")])
def test_every_question_scores_as_by_kilt_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: tuple[str, ...]
) -> None:
    theirs = reference(monkeypatch)
    draw = random.Random(7)

    def some(count: int) -> list[dict[str, Any]]:
        return [
            {"wikipedia_id": draw.choice("abcdefgh"), "start_paragraph_id": draw.randint(0, 1)} for _ in range(count)
        ]

    gold, guess = [], []
    for number in range(400):
        sets = [{"provenance": some(draw.randint(1, 4))} for _ in range(draw.randint(1, 4))]
        extra: list[dict[str, Any]] = [{"answer": "no provenance"}] if draw.random() < 0.3 else []
        gold.append({"id": number, "output": [*sets, *extra]})
        guess.append({"id": number, "output": [{"provenance": some(draw.randint(0, 12))}]})
    scores = evaluate_kilt(write(tmp_path / "gold", gold), write(tmp_path / "guess", guess[::-1]), ALL, keys=keys)
    for row, question in enumerate(gold):
        expected = theirs.get_ranking_metrics(guess[row], question, [1, 3, 5, 20], list(keys))
        for place, name in enumerate(ALL):
            assert scores.values[row, place] == pytest.approx(expected[name]), (name, question, guess[row])


def test_the_command(harness, tmp_path: Path) -> None:
    gold = write(tmp_path / "gold", [record("1", "ab"), record("2", "d")])
    guess = write(tmp_path / "guess", [record("1", "ab"), record("2", "xd")])
    done = harness("evaluate", "--kilt", gold, "--run", guess, "--json")
    assert json.loads(done.out)["measures"] == dict(zip(MEASURES, [0.5, 0.5, 1.0, 1.0], strict=True))
    done = harness("evaluate", "--kilt", gold, "--run", guess, "--measures", "recall@1", "--per-query")
    assert done.out.split()[:8] == ["query", "recall@1", "1", "1.0000", "2", "0.0000", "mean", "0.5000"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "Line 2 of"),
        ("[1]", "Line 2 of"),
        ('{"output": []}', "is not a question in KILT's format"),
        ('{"id": "2", "output": [{"provenance": ["a"]}]}', "is not a question"),
        ('{"id": "1", "output": []}', "a second time"),
        ('{"id": "2", "output": []}', "has 0 outputs"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path: Path, line: str, message: str) -> None:
    gold = write(tmp_path / "gold", [record("1", "a")])
    guess = tmp_path / "guess"
    guess.write_text(json.dumps(record("1", "a")) + "\n" + line + "\n")
    with pytest.raises(UserError, match=message):
        evaluate_kilt(gold, guess)


def test_files_that_do_not_belong_together(harness, tmp_path: Path) -> None:
    gold, guess = write(tmp_path / "gold", [record("1", "a")]), write(tmp_path / "guess", [record("2", "a")])
    for words, message in (
        (["--kilt", gold, "--run", guess], "share no question id"),
        (["--kilt", gold, "--run", tmp_path / "no"], "There is no file"),
        (["--kilt", gold, "--run", guess, "--measures", "nDCG@10"], "There is no measure 'nDCG@10' in KILT"),
        (["--run", guess], "Give either --qrels"),
    ):
        done = harness("evaluate", *words)
        assert done.code == 2
        assert message in done.err
