"""Our run files in other programs: the same documents in the same order, and the same measures."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.metrics.measures import measure
from harness.metrics.ranking import Ranking, rank, read_run
from harness.metrics.run_writer import write_run


@pytest.fixture(params=["theirs.trec", "theirs.trec.gz"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, list[Ranking], dict[str, dict[str, int]]]:
    """Forty rankings, and judgements."""
    return make(tmp_path / request.param, decimals=6)


def make(path: Path, decimals: int) -> tuple[Path, list[Ranking], dict[str, dict[str, int]]]:
    draw = np.random.default_rng(0)
    rankings, qrels = [], {}
    for number in range(40):
        ids = [f"d{i}" for i in draw.permutation(60)]
        rankings.append(rank(f"q{number}", ids, np.round(draw.normal(size=60), decimals), 50))
        qrels[f"q{number}"] = {f"d{i}": int(draw.integers(0, 3)) for i in draw.choice(60, 8, replace=False)}
    write_run(path, rankings, "ours")
    return path, rankings, qrels


def plain(path: Path, folder: Path) -> Path:
    if path.suffix != ".gz":
        return path
    unpacked = folder / "unpacked.trec"
    unpacked.write_bytes(gzip.decompress(path.read_bytes()))
    return unpacked


def test_ir_measures_reads_them(written: Any, tmp_path: Path) -> None:
    import ir_measures
    from ir_measures import AP, RR, R, nDCG

    path, rankings, qrels = written
    run = list(ir_measures.read_trec_run(str(plain(path, tmp_path))))
    assert [(one.query_id, one.doc_id) for one in run] == [(r.query_id, d) for r in rankings for d in r.doc_ids]
    judged = [ir_measures.Qrel(q, d, grade) for q, found in qrels.items() for d, grade in found.items()]
    theirs = ir_measures.calc_aggregate([nDCG @ 10, R @ 50, AP, RR @ 10], judged, run)
    ours = measure(qrels, read_run(path), ("nDCG@10", "R@50", "AP", "RR@10")).mean()
    assert {str(name): value for name, value in theirs.items()} == pytest.approx(ours, abs=1e-12)


def test_ties_are_ordered_as_trec_eval_does(tmp_path: Path) -> None:
    """A run file keeps ties as ties. (RR@k of ir_measures and all of ranx order them in other ways.)"""
    import ir_measures
    from ir_measures import AP, R, nDCG

    path, rankings, qrels = make(tmp_path / "tied.trec", decimals=1)
    assert any((np.diff(ranking.scores) == 0).any() for ranking in rankings)
    judged = [ir_measures.Qrel(q, d, grade) for q, found in qrels.items() for d, grade in found.items()]
    theirs = ir_measures.calc_aggregate([nDCG @ 10, R @ 50, AP], judged, ir_measures.read_trec_run(str(path)))
    ours = measure(qrels, read_run(path), ("nDCG@10", "R@50", "AP")).mean()
    assert {str(name): value for name, value in theirs.items()} == pytest.approx(ours, abs=1e-12)


def test_ranx_reads_them(written: Any, tmp_path: Path) -> None:
    ranx = pytest.importorskip("ranx", reason="ranx is not installed: pip install ranx")
    path, rankings, qrels = written
    run = ranx.Run.from_file(str(plain(path, tmp_path)), kind="trec")
    assert {query: len(found) for query, found in run.to_dict().items()} == {r.query_id: 50 for r in rankings}
    found = ranx.evaluate(ranx.Qrels(qrels), run, ["ndcg@10", "recall@50", "mrr@10"])
    ours = measure(qrels, read_run(path), ("nDCG@10", "R@50", "RR@10")).mean()
    assert found["ndcg@10"] == pytest.approx(ours["nDCG@10"], abs=1e-9)
    assert found["recall@50"] == pytest.approx(ours["R@50"], abs=1e-9)
    assert found["mrr@10"] == pytest.approx(ours["RR@10"], abs=1e-9)
