"""Fusion compared with its formulas in exact arithmetic, and through the command line."""

from __future__ import annotations

import json
from collections import defaultdict
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.metrics.ranking import rank, read_run
from harness.types import Hits, UserError
from harness_plugins.fusion import TIE, Sum, load_linear, load_rrf
from tests.conftest import write_dataset


def hits(rows: list[int], scores: list[float] | None = None) -> Hits:
    falling = np.arange(len(rows), 0, -1) if scores is None else np.asarray(scores)
    return Hits(np.asarray(rows, np.int64), falling.astype(np.float64))


RANKINGS = st.lists(st.lists(st.integers(0, 12), unique=True, max_size=10), min_size=2, max_size=4)


def ordered(found: Hits) -> list[str]:
    return rank("q", [f"{row:03}" for row in found.rows], found.scores, 1000).doc_ids if len(found.rows) else []


@given(RANKINGS, st.sampled_from([0, 1, 60]))
def test_rrf_is_its_formula_in_exact_arithmetic_ties_included(lists: list[list[int]], k: int) -> None:
    exact: dict[int, Fraction] = defaultdict(Fraction)
    for ranking in lists:
        for place, row in enumerate(ranking, 1):
            exact[row] += Fraction(1, k + place)
    found = load_rrf({"k": float(k), "depth": 1000}).fuse([hits(ranking) for ranking in lists])
    assert ordered(found) == [f"{row:03}" for row in sorted(exact, key=lambda row: (exact[row], row), reverse=True)]
    for row, score in zip(found.rows.tolist(), found.scores.tolist(), strict=True):
        assert score == pytest.approx(float(exact[row]), abs=1e-14)


def test_sums_that_are_equal_only_on_paper_tie() -> None:
    """1/70 + 1/105 = 1/84 + 1/84 = 1/42, whatever floating point makes of it; and no other pair of ranks does."""
    one, other = list(range(100, 200)), list(range(300, 400))
    one[10 - 1], other[45 - 1] = 1, 1
    one[24 - 1], other[24 - 1] = 2, 2
    found = load_rrf({"k": 60.0, "depth": 1000}).fuse([hits(one), hits(other)])
    scores = dict(zip(found.rows.tolist(), found.scores.tolist(), strict=True))
    assert scores[1] == scores[2]


def test_all_pairs_of_ranks_tie_where_their_exact_sums_do() -> None:
    places = np.array([(a, b) for a in range(1, 130) for b in range(1, 130)])
    first, second = (hits(list(np.argsort(places[:, side], kind="stable"))) for side in (0, 1))
    assert len(first.rows) == len(places)
    found = Sum(1000, lambda member, hits: 1 / (60 + places[hits.rows, member])).fuse([first, second])
    exact = [Fraction(1, 60 + a) + Fraction(1, 60 + b) for a, b in places[found.rows].tolist()]
    assert exact == sorted(exact, reverse=True)
    for (score, sum_), (next_score, next_sum) in zip(
        pairs := list(zip(found.scores.tolist(), exact, strict=True)), pairs[1:], strict=False
    ):
        assert (score == next_score) == (sum_ == next_sum)


def test_the_order_of_the_members_decides_no_tie() -> None:
    places = np.random.default_rng(1).integers(1, 1000, (30_000, 4))
    turned = np.concatenate([places, places[:, [3, 1, 0, 2]]])
    every = hits(list(range(len(turned))))
    found = Sum(1000, lambda member, hits: 1 / (60 + turned[hits.rows, member])).fuse([every] * 4)
    scores = np.empty(len(turned))
    scores[found.rows] = found.scores
    assert (scores[: len(places)] == scores[len(places) :]).all()


@given(
    st.lists(st.dictionaries(st.integers(0, 9), st.floats(-9, 9), max_size=8), min_size=2, max_size=3),
    st.sampled_from([None, "1/0.5/0.25", "0/2/1"]),
)
@example([{0: 0.0, 1: 7.7e-14, 2: 8.0}, {0: 0.0, 1: 0.0, 2: 8.0, 3: -7.7e-14}], None)
def test_linear_is_its_formula(lists: list[dict[int, float]], weights: str | None) -> None:
    numbers = weights and "/".join(weights.split("/")[: len(lists)])
    given = [float(number) for number in numbers.split("/")] if numbers else [1.0] * len(lists)
    expected: dict[int, float] = defaultdict(float)
    for weight, scores in zip(given, lists, strict=True):
        low, high = min(scores.values(), default=0), max(scores.values(), default=0)
        for row, score in scores.items():
            expected[row] += weight * ((score - low) / (high - low) if high > low else 1)
    fusion = load_linear({"weights": numbers, "depth": 1000})
    found = fusion.fuse([hits(list(scores), list(scores.values())) for scores in lists])
    assert dict(zip(found.rows.tolist(), found.scores.tolist(), strict=True)) == pytest.approx(expected, abs=1.01e-14)


@given(st.lists(st.integers(0, 60), min_size=1, max_size=30))
def test_a_tie_reaches_no_further_than_its_greatest_sum(steps: list[int]) -> None:
    """Neighbouring sums are 0 to 5e-14 apart."""
    sums = 1.0 - np.cumsum(steps) * 2.0**-50
    every = hits(list(range(len(sums))))
    found = Sum(1000, lambda member, hits: sums[hits.rows]).fuse([every])
    scores, leader = np.empty(len(sums)), np.inf
    scores[found.rows] = found.scores
    for own, score in zip(sums.tolist(), scores.tolist(), strict=True):
        leader = leader if leader - own <= TIE else own
        assert score == leader


@pytest.mark.parametrize("weights", ["a/b", "1", "1/2/3", "-1/2", "0/0", "nan/1", "1,2"])
def test_weights_that_do_not_fit_are_told(weights: str) -> None:
    with pytest.raises(UserError, match="weights"):
        load_linear({"weights": weights, "depth": 1000}).fuse([hits([]), hits([])])


TIED = """
import json

import numpy as np

from harness import Hits, ModelSpec, Option, hookimpl


class Tied:
    def __init__(self, turned):
        self.turned = turned

    def build(self, documents, directory):
        (directory / "n").write_text(str(sum(1 for _ in documents)))

    def search(self, directory, queries, k):
        n = int((directory / "n").read_text())
        for query in queries:
            rows = np.arange(n)[:: -1 if self.turned else 1]
            yield Hits(rows, np.where(rows < 2, 2.0, 1.0))


def load(options):
    return Tied(options["turned"])


@hookimpl
def harness_models():
    yield ModelSpec(
        "tied", "lexical", f"{__name__}:load", "two above the rest", options={"turned": Option(False, "order")}
    )
"""


@pytest.fixture
def tied(tmp_path: Path) -> Path:
    (file := tmp_path / "tied_for_fusion.py").write_text(TIED)
    return file


def run_of(results: Path) -> dict[str, list[tuple[str, float]]]:
    [run] = results.glob("*/*/run.trec.gz")
    return {
        ranking.query_id: list(zip(ranking.doc_ids, ranking.scores.tolist(), strict=True)) for ranking in read_run(run)
    }


def test_ranks_are_counted_by_the_tie_rule_and_without_the_querys_own_document(
    harness, tied: Path, tmp_path: Path
) -> None:
    names = ["a", "b", "c", "d"]
    folder = write_dataset(
        tmp_path / "d", {name: name for name in names}, {"a": "a", "d": "d"}, [("a", "b", 1), ("d", "c", 1)]
    )
    words = ["benchmark", "-m", "rrf(tied,tied:turned=true):k=0", "--plugin", tied, "-d", folder, "--exclude-self"]
    assert harness(*words, "--results", "r").code == 0
    # Ties by id, descending: b, a | d, c. Both members rank alike whatever order their rows came in.
    assert run_of(Path("r")) == {
        "a": [("b", 2.0), ("d", 1.0), ("c", pytest.approx(2 / 3))],
        "d": [("b", 2.0), ("a", 1.0), ("c", pytest.approx(2 / 3))],
    }
    assert harness(*words[:-1], "--include-self", "--results", "s").code == 0
    assert run_of(Path("s"))["a"] == [("b", 2.0), ("a", 1.0), ("d", pytest.approx(2 / 3)), ("c", 0.5)]


def test_depth_bounds_what_takes_part(harness, tied: Path, toy: Path) -> None:
    words = ["benchmark", "-m", "rrf(tied,tied:turned=true):depth=3", "--plugin", tied, "-d", toy, "--exclude-self"]
    assert harness(*words, "--results", "r").code == 0
    assert {len(ranking) for ranking in run_of(Path("r")).values()} == {3}


def test_a_fused_benchmark_states_members_cost_and_reuse(harness, toy: Path) -> None:
    pytest.importorskip("bm25s")
    name = "rrf(bm25,linear(bm25:k1=2,bm25:fields=multifield):weights=1/2):k=5"
    done = harness("benchmark", "-m", name, "-d", toy, "--json")
    assert done.code == 0, done.err
    [cell] = json.loads(done.out)
    assert cell["model"] == "rrf(bm25,linear(bm25:k1=2.0,bm25:fields=multifield):weights=1/2):k=5.0"
    assert cell["measures"]["nDCG@10"] > 0.5
    inner = "linear(bm25:k1=2.0,bm25:fields=multifield):weights=1/2"
    seconds, manifest = cell["seconds"], cell["manifest"]["model"]
    assert {"index", "search", "fuse", "measure", "bm25/search", f"{inner}/fuse"} <= set(seconds)
    assert f"{inner}/bm25:k1=2.0/index" in seconds
    for phase in ("index", "search"):
        shares = [spent for key, spent in seconds.items() if key in (f"bm25/{phase}", f"{inner}/{phase}")]
        assert seconds[phase] == pytest.approx(sum(shares), abs=2e-4)
    assert [member["label"] for member in manifest["members"]] == ["bm25", inner]
    assert [len(member["key"]) for member in manifest["members"]] == [64, 64]
    assert manifest["fingerprint"]["members"] == [member["key"] for member in manifest["members"]]
    assert manifest["members"][1]["members"][0]["options"]["k1"] == 2.0
    assert json.loads(harness("benchmark", "-m", name, "-d", toy, "--json").out)[0]["cell"] == "cached"
    report = harness("report")
    assert report.code == 0
    assert "fuse s" in report.out
    assert "bm25/search" not in report.out


def test_a_benchmark_is_in_domain_when_a_member_is(harness, tied: Path, toy: Path) -> None:
    text = tied.read_text()
    tied.write_text(text.replace('options={"turned"', 'trained_on=("toy",), options={"turned"'))
    for model, expected in (("rrf(tied,rrf(bm25,bm25:k1=2))", True), ("rrf(bm25,bm25:k1=2)", False)):
        done = harness("benchmark", "-m", model, "--plugin", tied, "-d", toy, "--json")
        assert json.loads(done.out)[0]["in_domain"] is expected


def test_mistakes_end_with_one_sentence_before_any_work(harness, toy: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="the models need the dense extra")
    for words, sentence in (
        (["benchmark", "-m", "bm25", "-m", "linear(bm25,bm25:k1=2):weights=1", "-d", toy], "1 weights for 2 models"),
        (["benchmark", "-m", "bm25", "-m", "rrf(bm25,minilm)", "-d", toy, "--offline"], "harness fetch minilm"),
        (["isotropy", "-m", "rrf(bm25,minilm)", "-d", toy], "rrf(bm25,minilm) is a fusion model, which has no vectors"),
    ):
        done = harness(*words)
        assert done.code == 2
        assert sentence in done.err.splitlines()[-1]
        assert "Traceback" not in done.err
        assert not list(Path().glob("results/*/*"))


def test_fusions_are_listed_with_how_they_are_typed_and_checked_with_their_members(harness) -> None:
    rows = {row["name"]: row for row in json.loads(harness("models", "--json").out)}
    assert {name: rows[name]["kind"] for name in ("rrf", "linear", "rerank")} == {
        "rrf": "fusion",
        "linear": "fusion",
        "rerank": "reranker",
    }
    for name, member in (("rrf", "minilm"), ("linear", "minilm"), ("rerank", "bm25")):
        assert f"{name}(bm25" in rows[name]["summary"]
        assert member in rows[name]["summary"]
    done = harness("check", "linear(bm25,bm25:k1=2):weights=0.3/0.7", "--json")
    assert done.code == 0, done.out
    names = [row["check"] for row in json.loads(done.out)]
    assert "bm25:k1=2.0: a document's own text finds it" in names
    assert "what every member puts first comes first" in names


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("return Hits(np.r_[lists[0].rows, 99], np.r_[lists[0].scores, 1.0])", "come from no member"),
        ("return Hits(np.r_[lists[0].rows, lists[0].rows], np.r_[lists[0].scores, lists[0].scores])", "rows repeat"),
        ("return Hits(lists[0].rows, np.full(len(lists[0].rows), np.nan))", "finite score"),
        ("return Hits(lists[0].rows, -lists[0].scores)", "every member has row 7 first"),
        ("return Hits(lists[0].rows, lists[0].scores + np.random.default_rng().random())", "changes the hits"),
        ("return Hits(lists[0].rows[:1], lists[0].scores[:1]) if len(lists[9].rows) else lists[0]", "IndexError"),
    ],
)
def test_check_tells_what_is_wrong_with_a_fusion(harness, tmp_path: Path, body: str, fault: str) -> None:
    (file := tmp_path / "unsound_fusion.py").write_text(f"""
import numpy as np
from harness import Hits, ModelSpec, hookimpl

class First:
    depth = 10
    def fuse(self, lists):
        if not len(lists[0].rows):
            return lists[0]
        {body}

def load(options):
    return First()

@hookimpl
def harness_models():
    yield ModelSpec("first", "fusion", f"{{__name__}}:load", "the first member")
""")
    done = harness("check", "first(bm25,bm25:k1=2)", "--plugin", file, "--json")
    assert done.code == 1
    faults = [row["fault"] for row in json.loads(done.out) if not row["passed"]]
    assert any(fault in told for told in faults), faults
