"""``harness compress``: rows from stored vectors, equal to brute force, compared with the stored cell, and reused."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from harness.evaluation import compression
from harness.evaluation.compression import LadderRow, Setting, default_dims, read_rows, settings
from harness.evaluation.compression_plot import drawing
from harness.metrics.measures import measure
from harness.metrics.ranking import rank
from harness.metrics.significance import difference_interval
from harness.results.store import ResultStore, read_per_query
from harness.search.compressed import binary_codes, int8_codes
from tests.plugins.test_transforms import Case

pytest.importorskip("faiss", reason="dense models need faiss (the dense extra)")


@pytest.fixture(autouse=True)
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "LEAST_SECONDS", 0.0)


def compressed(harness, case: Case, *more: object) -> list[dict]:
    done = harness("compress", "table", case.folder, "--plugin", case.plugin, *more, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)["rows"]


def unit(vectors: np.ndarray) -> np.ndarray:
    wide = vectors.astype(np.float64)
    return (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)


def expected(case: Case, dim: int, precision: str, rescored: str) -> np.ndarray:
    """nDCG@10 by query, from whole matrices of scores under cosine."""
    documents, queries = (unit(side[:, :dim]) for side in (case.documents, case.queries))
    scores = queries.astype(np.float64) @ documents.astype(np.float64).T
    if precision == "float16":
        scores = queries.astype(np.float64) @ unit(documents.astype(np.float16)).astype(np.float64).T
    elif precision == "int8":
        ranges = np.vstack([documents.min(axis=0), documents.max(axis=0)])
        scores = int8_codes(queries, ranges).astype(np.int64) @ int8_codes(documents, ranges).astype(np.int64).T
    elif precision == "binary":
        bits = [np.unpackbits(binary_codes(side), axis=1).astype(np.int64) for side in (queries, documents)]
        scores = -(bits[0][:, None] != bits[1]).sum(axis=2)
    ids = [f"d{row:03}" for row in range(len(documents))]
    if rescored:
        full = unit(case.queries).astype(np.float64) @ unit(case.documents).astype(np.float64).T
        if rescored == "asymmetric":
            full = queries.astype(np.float64) @ (documents > 0).T
        for line, exact in zip(scores.astype(object), full, strict=True):  # pairs compare as the tie rule does
            order = sorted(range(len(ids)), key=lambda row: (line[row], ids[row]), reverse=True)[:40]
            exact[[row for row in range(len(ids)) if row not in order]] = -np.inf
        scores = full
    qrels = {f"q{i:02}": {f"d{(7 * i + j) % 150:03}": 1 for j in range(3)} for i in range(len(queries))}
    runs = [rank(query, ids, line, 10) for query, line in zip(qrels, scores, strict=True)]
    return measure(qrels, runs, ["nDCG@10"]).values[:, 0]


def test_rows_are_brute_force_over_what_is_kept(harness, tmp_path: Path) -> None:
    case = Case(tmp_path, "cosine")
    rows = compressed(harness, case, "--dims", "9,4")
    calls = case.calls
    assert calls <= 4  # batches of documents and queries, once
    assert [(row["dim"], row["precision"], row["rescoring"]) for row in rows[:8]] == [
        *((12, "float32", ""), (12, "float16", ""), (12, "float16", "full"), (12, "int8", ""), (12, "int8", "full")),
        *((12, "binary", ""), (12, "binary", "full"), (9, "float32", "")),
    ]
    assert len(rows) == 7 + 2 * 8
    store = ResultStore(Path("results"))
    plain = read_per_query(store.folder("table", "table"), "nDCG@10")
    assert rows[0]["score"] == plain.mean()
    for row in rows:
        values = expected(case, row["dim"], row["precision"], row["rescoring"])
        assert row["score"] == pytest.approx(values.mean(), abs=1e-12), row
        assert row["difference"] == pytest.approx((values - plain).mean(), abs=1e-12)
        interval = difference_interval([values], [plain])
        assert row["interval"] == pytest.approx([interval.low, interval.high])
        assert row["queries_per_second"] > 0
    assert len({row["score"] for row in rows}) > 10
    assert [row["bytes"] for row in rows[:8]] == [48, 24, 24, 12, 12, 2, 2, 36]
    assert case.calls == calls


def test_stored_rows_are_reused_and_others_added(harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(tmp_path, "cosine")
    first = compressed(harness, case, "--dims", "6")
    computed = []
    values = compression.Ladder.values

    def counted(self, setting, made):
        computed.append(setting)
        return values(self, setting, made)

    monkeypatch.setattr(compression.Ladder, "values", counted)
    assert compressed(harness, case, "--dims", "6") == first
    assert computed == []
    more = compressed(harness, case, "--dims", "6,4", "--rescore", "asymmetric")
    wanted = {(s.dim, s.precision, s.rescoring) for s in computed}
    assert wanted >= {(4, "binary", "asymmetric"), (12, "int8", "asymmetric"), (4, "float32", "")}
    assert not wanted & {(6, "int8", ""), (12, "int8", ""), (6, "float32", "asymmetric")}
    [row] = [row for row in more if (row["dim"], row["precision"], row["rescoring"]) == (12, "binary", "asymmetric")]
    assert row["score"] == pytest.approx(expected(case, 12, "binary", "asymmetric").mean(), abs=1e-12)
    file = ResultStore(Path("results")).folder("table", "table") / "compression.json"
    assert len(read_rows(file.parent)) == len(first) + len(wanted) - 1 + ((12, "float32", "") not in wanted)
    file.write_text(file.read_text().replace("binary", "bits"))
    assert read_rows(file.parent) == {}
    computed.clear()
    assert [row["score"] for row in compressed(harness, case, "--dims", "6")] == [row["score"] for row in first]
    assert len(computed) == len(first)


def test_a_transform_and_a_limit_have_ladders_too(harness, tmp_path: Path) -> None:
    case = Case(tmp_path)
    where = [case.folder, "--plugin", case.plugin, "--limit", "7", "--dims", "5", "--plot", "ladder.svg"]
    done = harness("compress", "table,center(table)", *where)
    assert done.code == 0, done.err
    lines = [line for line in done.out.splitlines() if line.startswith("| ") and "dims" not in line]
    assert len(lines) == 2 * 15
    assert "measured on this machine" in done.out
    root = ElementTree.fromstring(Path("ladder.svg").read_text())
    texts = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert {"table:limit=7", "table: nDCG@10", "center(table): nDCG@10", "bytes of a vector", "rescored (full)"} <= {
        *texts
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["table", "--dims", "13"], "The vectors have 12 dimensions, which 13 exceeds; give 12 at most."),
        (["table", "--dims", "4,x"], "'4,x' is not a list of dimensions; type --dims 64,128,256, say."),
        (["table", "--dims", "0"], "'0' is not a list of dimensions"),
        (["bm25"], "bm25 is a lexical model, without dense vectors; name a dense one."),
    ],
)
def test_mistakes_are_one_sentence(harness, tmp_path: Path, words: list[str], message: str) -> None:
    case = Case(tmp_path)
    done = harness("compress", words[0], case.folder, *words[1:], "--plugin", case.plugin)
    assert (done.code, done.out) == (2, "")
    assert message in done.err.splitlines()[-1]


def test_the_ladder_leaves_out_what_rescoring_would_not_change() -> None:
    assert default_dims(384) == [384, 192, 96, 48]
    assert default_dims(100) == [100, 50]
    full, asymmetric = (settings(8, [4], how) for how in ("full", "asymmetric"))
    assert [s for s in full if s.precision == "float32"] == [
        *(Setting(8, "float32", ""), Setting(4, "float32", ""), Setting(4, "float32", "full"))
    ]
    assert {s.precision for s in asymmetric if s.rescoring} == {"int8", "binary"}


def test_the_plot_is_the_same_for_the_same_rows() -> None:
    rows = [LadderRow(d, "int8", how, d, d / 500, 0.0, None, 1.0) for d in (384, 96) for how in ("", "full")]
    found = [("a<b", "x", rows), ("m", "x", rows[:1])]
    assert drawing(found) == drawing(found)
    root = ElementTree.fromstring(drawing(found))
    points = [element for element in root.iter() if element.tag.endswith("circle") and element.get("r") == "3.5"]
    assert len(points) == 5
    heights = [float(point.get("cy") or 0) for point in points[:2]]  # by bytes: the better one is higher up
    assert heights[0] > heights[1]


def test_rows_that_another_program_wrote_are_as_good_as_none(tmp_path: Path) -> None:
    row = {
        "dim": 8,
        "precision": "int8",
        "rescoring": "",
        "bytes": 8,
        "score": 0.5,
        "difference": 0,
        "interval": [0, 1],
    }
    row |= {"queries_per_second": 2.0}
    for change in (
        {},
        {"precision": "int4"},
        {"dim": 0},
        {"score": 10**400},
        {"interval": "ab"},
        {"more": 1},
        {"dim": 8.0},
    ):
        (tmp_path / "compression.json").write_text(json.dumps({"key": "k", "rows": [row | change]}))
        assert len(read_rows(tmp_path)) == (not change), change
    (tmp_path / "compression.json").write_text(json.dumps({"key": "k", "rows": [row]}))
    assert read_rows(tmp_path, "other") == {}
    assert [*read_rows(tmp_path, "k")] == [Setting(8, "int8", "")]
