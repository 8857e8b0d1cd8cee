"""`harness.measure` and `harness.isotropy`: values of other libraries and closed forms, and the command's sentences."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

import harness as api
from tests.conftest import Done

Command = Callable[..., Done]
RNG = np.random.default_rng(0)
QRELS = {f"q{q}": {f"d{d}": int(RNG.integers(0, 3)) for d in range(12)} for q in range(20)}
RUN = {f"q{q}": {f"d{d}": float(RNG.normal()) for d in range(2, 18)} for q in range(19)}


def test_means_are_those_of_pytrec_eval() -> None:
    pytrec_eval = pytest.importorskip("pytrec_eval")
    found = pytrec_eval.RelevanceEvaluator(QRELS, {"ndcg_cut_10", "recip_rank", "map"}).evaluate(RUN)
    theirs = [sum(values[name] for values in found.values()) / 20 for name in ("ndcg_cut_10", "recip_rank", "map")]
    assert list(api.measure(QRELS, RUN, "nDCG@10 RR AP").values()) == pytest.approx(theirs, abs=1e-12)


def files(folder: Path) -> tuple[Path, Path]:
    qrels, run = folder / "qrels.txt", folder / "run.trec"
    qrels.write_text("".join(f"{q} 0 {d} {g}\n" for q, judged in QRELS.items() for d, g in judged.items()))
    run.write_text("".join(f"{q} Q0 {d} 1 {s!r} t\n" for q, scores in RUN.items() for d, s in scores.items()))
    return qrels, run


def frames() -> tuple[pandas.DataFrame, pandas.DataFrame]:
    qrels = [(q, d, g) for q, judged in QRELS.items() for d, g in judged.items()]
    run = [(q, d, s) for q, scores in RUN.items() for d, s in scores.items()]
    return pandas.DataFrame(qrels, columns=["qid", "docno", "label"]), pandas.DataFrame(
        run, columns=["query_id", "doc_id", "score"]
    )


def test_files_and_frames_give_the_values_of_dicts(tmp_path: Path) -> None:
    expected = api.measure(QRELS, RUN)
    assert api.measure(*files(tmp_path)) == expected
    assert api.measure(*frames()) == expected
    table = api.measure(QRELS, RUN, ["nDCG@10"], per_query=True)
    assert table.columns.tolist() == ["query_id", "nDCG@10"]
    assert table["query_id"].tolist() == list(QRELS)
    assert table["nDCG@10"].mean() == pytest.approx(expected["nDCG@10"], abs=1e-15)
    assert table["nDCG@10"].iloc[-1] == 0  # not in the run


def test_ties_are_broken_by_id_descending() -> None:
    qrels, run = {"q": {"b": 1}}, {"q": {"a": 1.0, "b": 1.0}}
    assert api.measure(qrels, run, "RR@10") == {"RR@10": 1.0}


def test_a_mistake_is_the_sentence_of_the_command(harness: Command, tmp_path: Path) -> None:
    qrels, run = files(tmp_path)
    other = tmp_path / "other.txt"
    other.write_text("x1 0 d1 1\n")
    done = harness("evaluate", "--run", run, "--qrels", other)
    with pytest.raises(api.UserError) as error:
        api.measure(other, run)
    assert done.err == f"harness: {error.value}\n"
    assert "share no query id" in done.err
    done = harness("evaluate", "--run", run, "--qrels", qrels, "--measures", "nDGC@10")
    with pytest.raises(api.UserError) as error:
        api.measure(qrels, run, "nDGC@10")
    assert done.err == f"harness: {error.value}\n"


@pytest.mark.parametrize(
    ("qrels", "run", "said"),
    [
        ({}, RUN, "judge no document"),
        (QRELS, {}, "share no query id|holds no rankings"),
        (QRELS, {"z": {"d1": 1.0}}, "The run .queries z. and the qrels .* share no query id"),
        (QRELS, {"q1": {"d1": "high"}}, "The score 'high' of document d1 for query q1 is not a number"),
        (QRELS, {"q1": {"d1": float("nan")}}, "is not a number"),
        (QRELS, [("q1", "d1", 1.0)], "The run are a list; give a dict"),
        (QRELS, "none.trec", "There is no file none.trec for the run"),
        ({"q1": {"d1": True, "d2": 1.5}}, RUN, "The relevance 1.5"),
        (
            QRELS,
            pandas.DataFrame({"qid": ["q1"] * 2, "docno": ["d"] * 2, "score": [1.0] * 2}),
            "ranks document d twice",
        ),
    ],
)
def test_other_mistakes_are_one_sentence(qrels: Any, run: Any, said: str) -> None:
    with pytest.raises(api.UserError, match=said):
        api.measure(qrels, run)


def test_isotropy_of_arrays_tensors_and_files(harness: Command, tmp_path: Path) -> None:
    vectors = RNG.normal(size=(50, 4)).astype(np.float32) * [1, 2, 3, 4]
    eigenvalues = np.linalg.eigvalsh(np.cov(vectors.T))
    found = api.isotropy(vectors)
    assert found["isotropy"] == pytest.approx(1 - eigenvalues.std() / eigenvalues.mean(), abs=1e-5)
    np.save(tmp_path / "v.npy", vectors.astype(np.float32))
    assert api.isotropy(tmp_path / "v.npy") == api.isotropy(vectors.astype(np.float32))
    torch = pytest.importorskip("torch")
    assert api.isotropy(torch.tensor(vectors, requires_grad=True)) == found


@pytest.mark.parametrize("wrong", [[1.0, 2.0], [[1.0], [2.0, 3.0]], [[float("nan")]], "none.npy", object()])
def test_vectors_that_are_not_raise_one_sentence(wrong: Any) -> None:
    with pytest.raises(api.UserError):
        api.isotropy(wrong)
