"""The order of documents, and run and qrels files."""

from __future__ import annotations

import gzip
import math
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import pytrec_eval
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.metrics.ranking import Ranking, RunNotes, rank, read_order, read_run, strictly_ordered
from harness.metrics.run_writer import run_writer, write_run
from harness.types import UserError

ULP = 1 + 2.0**-24
"""Factor that separates two float64 scores which round to one float32."""


def exact_order(ids: list[str], scores: list[float]) -> list[str]:
    """Brute force on the float64 scores, ids compared as strcmp compares their bytes."""
    by_id = sorted(zip(ids, scores, strict=True), key=lambda pair: pair[0].encode(), reverse=True)
    return [doc_id for doc_id, _ in sorted(by_id, key=lambda pair: -pair[1])]


def trec_eval_order(ranking: Ranking) -> list[str]:
    """The order trec_eval makes of a ranking's float32 scores: recip_rank of each document tells its place."""
    run = {"q": dict(zip(ranking.doc_ids, map(float, ranking.scores), strict=True))}
    place = {}
    for doc_id in ranking.doc_ids:
        evaluated = pytrec_eval.RelevanceEvaluator({"q": {doc_id: 1}}, {"recip_rank"}).evaluate(run)
        place[doc_id] = round(1 / evaluated["q"]["recip_rank"])
    return sorted(place, key=lambda doc_id: place[doc_id])


CLOSE = [0.0, -0.0, 1.0, ULP, ULP**2, 1 - 2.0**-26, -1.0, -ULP, 1e-46, 2e-46, -1e-46, 1e-40, 5e-324]
HUGE = [1e300, 2e300, -1e300, -2e300, math.inf, -math.inf, 3.4028234663852886e38, 3.4028235e38, -3.4028235e38, -3.5e38]
crowded = st.sampled_from([*CLOSE, *HUGE])
anything = st.floats(allow_nan=False)
IDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=4)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(IDS, crowded | anything, min_size=1, max_size=25))
@example({"a": math.inf, "b": 1e300, "c": 2e300, "d": 3.4e38})
@example({"a": -math.inf, "b": -1e300, "c": -2e300, "d": -3.5e38, "e": -3.4028235e38})
@example({"a": 0.0, "b": -0.0, "c": 1e-300, "d": -1e-300})
@example({f"d{i}": 1.0 + i * 1e-12 for i in range(25)})
@example({f"d{i}": 0.5 for i in range(25)})
def test_float32_scores_keep_the_float64_order(scored: dict[str, float]) -> None:
    ids, scores = list(scored), list(scored.values())
    ranking = rank("q", ids, np.array(scores), len(ids))
    expected = exact_order(ids, scores)
    assert ranking.doc_ids == expected
    assert exact_order(ranking.doc_ids[::-1], ranking.scores.tolist()[::-1]) == expected
    assert ranking.scores.dtype == np.float32
    for (one, next_one), (low, high) in zip(pairwise(expected), pairwise(ranking.scores.tolist()), strict=True):
        assert (scored[one] == scored[next_one]) == (low == high)


@pytest.mark.parametrize("seed", range(5))
def test_trec_eval_sees_the_same_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ids = [f"d{i}" for i in rng.permutation(60)]
    scores = rng.choice([1.0, ULP, ULP**2, 0.0, -0.0, -1.0, 1e-42, -ULP], 60) * rng.choice([1, 1 + 1e-12], 60)
    assert trec_eval_order(rank("q", ids, scores, 60)) == exact_order(ids, scores.tolist())


def test_without_the_steps_trec_eval_would_reorder() -> None:
    """The trap itself: two float64 scores, one float32."""
    assert np.float32(ULP) == np.float32(1.0)
    naive = Ranking("q", ["a", "b"], np.array([ULP, 1.0], dtype=np.float32))
    assert trec_eval_order(naive) == ["b", "a"]
    assert trec_eval_order(rank("q", ["b", "a"], np.array([1.0, ULP]), 2)) == ["a", "b"]


def test_scores_that_float32_tells_apart_are_left_alone() -> None:
    scores = -np.sort(-np.random.default_rng(0).standard_normal(1000).astype(np.float32))
    assert np.array_equal(strictly_ordered(scores.astype(np.float64)), scores)


def test_collapsing_scores_move_by_single_steps() -> None:
    falling = np.array([1 + 3e-12, 1 + 2e-12, 1 + 1e-12, 1.0])
    expected = [1.0]
    for _ in range(3):
        expected.append(float(np.nextafter(np.float32(expected[-1]), np.float32(-1))))
    assert strictly_ordered(falling).tolist() == expected


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 10])
def test_ties_across_the_cut_go_to_the_larger_id(k: int) -> None:
    ids, scores = ["a", "c", "e", "b", "d"], np.array([2.0, 1.0, 1.0, 1.0, 1.0])
    assert rank("q", ids, scores, k).doc_ids == ["a", "e", "d", "c", "b"][:k]
    assert len(rank("q", ids, scores, k).scores) == min(k, 5)


def test_a_query_is_excluded_before_the_cut() -> None:
    ids, scores = ["q", "a", "b", "c"], np.array([9.0, 1.0, 2.0, 2.0])
    assert rank("q", ids, scores, 2, exclude="q").doc_ids == ["c", "b"]
    assert rank("q", ["q"], np.array([1.0]), 2, exclude="q").doc_ids == []
    assert rank("x", ids, scores, 4, exclude="x").doc_ids == ["q", "c", "b", "a"]


def test_rank_refuses_what_has_no_order() -> None:
    with pytest.raises(ValueError, match="NaN"):
        rank("q", ["a", "b"], np.array([1.0, np.nan]), 2)
    with pytest.raises(ValueError, match="2 documents"):
        rank("q", ["a", "b"], np.array([1.0]), 2)
    with pytest.raises(ValueError, match="k=0"):
        rank("q", ["a"], np.array([1.0]), 0)
    assert rank("q", [], np.array([]), 5).doc_ids == []


def random_rankings(seed: int) -> list[Ranking]:
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.integers(-42, 38, (20, 1))
    scores = rng.standard_normal((20, 50)).round(1) * scale
    return [rank(f"q{i}", [f"d{j}é\u2028" for j in rng.permutation(50)], row, 40) for i, row in enumerate(scores)]


@pytest.mark.parametrize("name", ["run.trec", "run.trec.gz"])
def test_runs_come_back_exactly(tmp_path: Path, name: str) -> None:
    rankings = [*random_rankings(1), Ranking("inf", ["b", "a"], np.array([np.inf, -np.inf], dtype=np.float32))]
    write_run(tmp_path / name, iter(rankings), "tag")
    for wrote, read in zip(rankings, read_run(tmp_path / name), strict=True):
        assert (wrote.query_id, wrote.doc_ids) == (read.query_id, read.doc_ids)
        assert np.array_equal(wrote.scores, read.scores)


def test_equal_runs_give_equal_bytes(tmp_path: Path) -> None:
    write_run(tmp_path / "a.gz", random_rankings(2), "tag")
    write_run(tmp_path / "sub" / "b.gz", random_rankings(2), "tag")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "sub" / "b.gz").read_bytes()
    with run_writer(tmp_path / "c.gz", "tag") as write:
        for ranking in random_rankings(2):
            write(ranking)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "c.gz").read_bytes()
    assert (tmp_path / "a.gz").read_bytes()[3:8] == b"\0\0\0\0\0"  # no file name, no time


def test_a_written_run_is_what_trec_eval_reads(tmp_path: Path) -> None:
    (ranking,) = random_rankings(3)[:1]
    write_run(tmp_path / "run", [ranking], "tag")
    lines = (tmp_path / "run").read_text(encoding="utf-8").split("\n")[:-1]
    assert [line.split(" ")[3] for line in lines] == [str(place) for place in range(1, 41)]
    assert {(line.split(" ")[1], line.split(" ")[5]) for line in lines} == {("Q0", "tag")}
    assert [np.float32(line.split(" ")[4]) for line in lines] == ranking.scores.tolist()


@pytest.mark.parametrize(
    ("ranking", "tag", "said"),
    [
        (Ranking("q 1", ["d"], np.ones(1, np.float32)), "t", "Query id 'q 1'"),
        (Ranking("q", ["d", "a\tb"], np.ones(2, np.float32)), "t", r"Document id 'a\\tb'"),
        (Ranking("q", ["d", ""], np.ones(2, np.float32)), "t", "Document id ''"),
        (Ranking("q", ["d"], np.ones(1, np.float32)), "my run", "tag 'my run'"),
    ],
)
def test_what_a_trec_run_cannot_carry(tmp_path: Path, ranking: Ranking, tag: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        write_run(tmp_path / "run", [ranking], tag)
    assert list(tmp_path.iterdir()) == []


def test_other_peoples_runs(tmp_path: Path) -> None:
    """Tabs, rank 0, queries and lines in any order, blank lines, a byte-order mark, Windows line ends."""
    text = "\ufeffq2 Q0 a 0 1.5 x\r\n\nq1\tQ0\tb\t0\t1e-3\tx\nq2 Q0 c 0 2 x\nq1 0  a  7 0.001 x\nq1 Q0 z 1 -3 x"
    (tmp_path / "run").write_bytes(text.encode())
    assert {r.query_id: r.doc_ids for r in read_run(tmp_path / "run")} == {"q1": ["b", "a", "z"], "q2": ["c", "a"]}


def test_foreign_scores_are_compared_as_doubles(tmp_path: Path) -> None:
    """As trec_eval 10.0 does; pytrec_eval (trec_eval 9) rounds them to float32 and finds the other order."""
    path, notes = tmp_path / "run", RunNotes()
    path.write_text(f"q Q0 a 1 {ULP!r} x\nq Q0 b 2 1.0 x\nr Q0 b 1 {ULP!r} x\nr Q0 a 2 1.0 x\n# a log\n")
    run = {"q": {"a": ULP, "b": 1.0}}
    reciprocal = pytrec_eval.RelevanceEvaluator({"q": {"a": 1}}, {"recip_rank"}).evaluate(run)["q"]["recip_rank"]
    q, r = read_run(path, notes=notes)
    assert (reciprocal, q.doc_ids, r.doc_ids) == (0.5, ["a", "b"], ["b", "a"])
    assert notes == RunNotes(comments=0, reordered=1)  # in r the ids order them alike
    assert "run: in 1 of its queries the order depends on digits that float32 drops" in notes.sentences("run")[0]


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.from_regex(r"[a-c#]{1,3}", fullmatch=True), crowded | anything, min_size=1, max_size=20))
def test_any_doubles_are_read_in_their_order(scored: dict[str, float]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        path.write_text("".join(f"q Q0 {doc_id} 1 {score!r} t\n" for doc_id, score in scored.items()))
        (ranking,) = read_run(path)
    assert ranking.doc_ids == exact_order(list(scored), list(scored.values()))


def test_comments_and_further_columns(tmp_path: Path) -> None:
    """As in trec_eval 10.0; a query whose id begins with # is known from the judgements."""
    path, notes = tmp_path / "run", RunNotes()
    path.write_text("# made by x\nq Q0 a#1 1 2 my run, v2\n#q Q0 b 1 9 t\n  # more\nq Q0 c 2 1 t\n#q Q0 d 2 8 t\n")
    assert [(r.query_id, r.doc_ids) for r in read_run(path, notes=notes)] == [("q", ["a#1", "c"])]
    assert notes.comments == 2
    assert "run: 2 of its lines begin with # and are comments" in notes.sentences("run")[0]
    found = {r.query_id: r.doc_ids for r in read_run(path, known=["q", "#q"])}
    assert found == {"q": ["a#1", "c"], "#q": ["b", "d"]}


@pytest.mark.parametrize("doc_id", ["a\u00a0b", "a\u2028b", "a\x1cb", "a\x85b", "\u3000", "é\u2029"])
def test_only_some_queries(tmp_path: Path, doc_id: str) -> None:
    """Ids keep the characters that Python takes for white space and C does not."""
    rankings = [Ranking(f"q{n}", ["x", doc_id], np.array([2, 1], np.float32)) for n in range(3)]
    write_run(tmp_path / "run.gz", rankings, "t")
    assert [r.query_id for r in read_run(tmp_path / "run.gz")] == ["q0", "q1", "q2"]
    assert [(r.query_id, r.doc_ids) for r in read_run(tmp_path / "run.gz", only={"q1"})] == [("q1", ["x", doc_id])]


def test_long_files_are_read_block_by_block(tmp_path: Path) -> None:
    """Lines that end in the middle of a block, and line numbers beyond the first."""
    lines = [f"q{n // 100} Q0 d{n % 100:0{1 + n % 90}} 1 {100 - n % 100} t" for n in range(40_000)]
    path = tmp_path / "run"
    path.write_text("\n".join(lines))
    assert path.stat().st_size > 2 << 20
    expected = [f"d{n:0{1 + n % 90}}" for n in range(100)]
    found = list(read_run(path))
    assert len(found) == 400
    assert {ranking.query_id for ranking in found} == {f"q{n}" for n in range(400)}
    assert found[0].doc_ids == expected
    for place, (odd, said) in {31_111: ("x", "5 columns"), 39_999: ("nan", "not a number")}.items():
        words = lines[place].split()
        words[4:5] = [] if odd == "x" else [odd]
        path.write_text("\n".join([*lines[:place], " ".join(words), *lines[place + 1 :]]))
        with pytest.raises(UserError, match=rf"Line {place + 1} .*{said}"):
            list(read_run(path))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"q Q0 a 1 1.0 x\nq Q0 b 1.0 x\n", "Line 2 .* has 5 columns"),
        (b"\nq Q0 a 1 one x\n", "Line 2 .*'one'.* not a number"),
        (b"q Q0 a 1 nan x\n", "Line 1 .*'nan'.* not a number"),
        (b"q Q0 a 1 2 x\nq Q0 b 2 1_0 x\n", "Line 2 .*'1_0'.* not a number"),  # Python's grammar
        ("q Q0 a 1 \u0661 x\n".encode(), "Line 1 .*'\u0661'.* not a number"),
        (b"q Q0 a 1 0x1p3 x\n", "Line 1 .*'0x1p3'.* not a number"),
        (b"q Q0 a 1 1 x\nr Q0 \xff 1 2 x\n", "Line 2 .* not UTF-8"),
        (b"q Q0 a 1 2 x\nr Q0 a 1 2 x\nq Q0 a 2 1 x\n", "Line 3 .* document a a second time for query q"),
        (b"q Q0 \xff 1 2 x\n", "Line 1 .* not UTF-8"),
        (gzip.compress(b"q Q0 a 1 2 x\n" * 100, mtime=0)[:-9], "cannot be read to its end"),
    ],
)
def test_mistakes_in_a_run_name_the_line(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "run").write_bytes(content)
    with pytest.raises(UserError, match=said):
        list(read_run(tmp_path / "run"))


def test_a_missing_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no file"):
        list(read_run(tmp_path / "run"))


@pytest.mark.parametrize("name", ["run.trec", "run.trec.gz"])
def test_the_order_of_a_stored_run_is_that_of_its_scores(tmp_path: Path, name: str) -> None:
    """More than a block of text, so that queries go across its ends; tied scores and ids with unusual characters."""
    rng = np.random.default_rng(1)
    ids = [f"d\u00a0{number}\u2028" for number in range(400)]
    written = [rank(f"q{n}", ids, rng.integers(0, 50, len(ids)), 300) for n in range(200)]
    write_run(tmp_path / name, written, "test")
    found = [(query, [doc.decode() for doc in docs]) for query, docs in read_order(tmp_path / name)]
    assert found == [(ranking.query_id, ranking.doc_ids) for ranking in read_run(tmp_path / name)]
    (tmp_path / "damaged").write_text("q 0 d\n")
    with pytest.raises(UserError, match="is not a run that the harness wrote"):
        list(read_order(tmp_path / "damaged"))
