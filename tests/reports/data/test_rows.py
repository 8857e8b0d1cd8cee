"""Flat rows, for pandas and as JSON."""

from __future__ import annotations

import csv
import io

import pandas

from harness_reports.data.rows import content, csv_text
from tests.reports.factory import HUBNESS, PANEL, Results


def test_csv_comes_back_exactly_through_pandas(results: Results) -> None:
    results.add('a "quoted", name\nin two lines', "x", 0.1 + 0.2)
    results.add("bm25", "x", 1 / 3)
    results.add("failing", "x:limit=5", reason="no, never")
    board = results.read()
    frame = pandas.read_csv(io.StringIO(csv_text(board)), float_precision="round_trip")
    assert frame["model"].tolist() == [*board.models]
    dense, bm25, failed = (
        (frame.iloc[i] for i in range(3)) if board.models[0] != "bm25" else (frame.iloc[i] for i in (1, 0, 2))
    )
    assert dense["measures.nDCG@10"] == 0.1 + 0.2
    assert bm25["measures.nDCG@10"] == 1 / 3
    assert dense["geometry.documents.isotropy"] == PANEL["isotropy"]
    assert dense["geometry.queries.isotropy"] == 0.12349
    assert bm25["geometry.hubness.skewness"] == HUBNESS["skewness"]
    assert (dense["seconds.encode_queries"], bm25["seconds.index"]) == (0.256, 2.5)
    assert (dense["counts.documents"], dense["manifest.run.peak_memory_bytes"]) == (7302, 3 << 29)
    assert dense["manifest.model.fingerprint.dtype"] == "bfloat16"
    assert failed["status"] == "failed"
    assert failed["reason"] == "no, never"
    assert frame["partial"].tolist() == [False, False, True]
    assert pandas.isna([bm25["geometry.documents.isotropy"], failed["measures.nDCG@10"], dense["seconds.index"]]).all()
    assert not [name for name in map(str, frame) if "eigenvalues" in name or "definitions" in name]


def test_csv_is_rfc_4180(results: Results) -> None:
    results.add('a "b", c', "x", 0.5)
    text = csv_text(results.read())
    assert text.count("\r\n") == text.count("\n") == 2
    assert '"a ""b"", c"' in text
    assert len({len(row) for row in csv.reader(io.StringIO(text))}) == 1


def test_json_has_the_rows_of_csv_and_the_averages(results: Results, trio: tuple[str, ...]) -> None:
    for dataset in trio:
        results.add("m", dataset, 0.25, in_domain=True)
    results.add("n", "fiqa", 0.1)
    told = content(results.read())
    table = csv.DictReader(io.StringIO(csv_text(results.read())))
    assert [{k: "" if v is None else str(v) for k, v in row.items()} for row in told["rows"]] == list(table)
    assert told["averages"] == [
        {"model": m, "average": "trio (3 of 3)", "measure": "nDCG@10", "value": v, "measured": n, "in_domain": i,
         "datasets": list(trio)}
        for m, v, n, i in (("m", 0.25, 3, True), ("n", None, 1, False))
    ]  # fmt: skip
    assert told["skipped"] == []
