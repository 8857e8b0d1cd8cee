"""``harness report`` as a command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from harness.types import UserError
from harness_reports.cli.report import command as report
from tests.reports.factory import Results
from tests.reports.rendering import rendered


def run(results: Results, *arguments: str) -> Result:
    return CliRunner().invoke(report, ["--results", str(results.store.root), *arguments])


def test_skipped_results_are_named_after_the_report(results: Results) -> None:
    results.add("m", "a", 0.5)
    assert run(results).exit_code == 0
    assert run(results).stderr == ""
    for name, text in (("torn", b'{"schema": 1'), ("old", b"{}")):
        (results.store.root / name / "a").mkdir(parents=True)
        (results.store.root / name / "a" / "result.json").write_bytes(text)
    results.add("nan", "a", 0.5, seconds={"search": "fast"})
    results.add("list", "a", 0.5, geometry=[])
    for form in ([], ["--json"], ["--format", "csv"]):
        ended = run(results, *form)
        assert ended.exit_code == 1
        assert "m" in ended.stdout
        lines = ended.stderr.splitlines()
        assert len(lines) == 4
        for name, reason in (
            ("torn", "not readable JSON"),
            ("old", "it lacks schema"),
            ("nan", "its seconds hold 'fast' for search"),
            ("list", "its geometry should be a JSON object"),
        ):
            path = str(results.store.root / name / "a" / "result.json")
            assert [line for line in lines if path in line and reason in line], reason
    assert rendered(run(results).stdout)[0]["nDCG@10"].rows == [["m", "50.00", "-0.7128"]]


PROBE = """
import sys
from harness.cli.main import main
try:
    main(sys.argv[1:])
finally:
    heavy = {"torch", "faiss", "sentence_transformers", "datasets", "transformers", "bm25s", "ir_measures", "pandas"}
    print("loaded:", sorted(heavy & set(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize("form", ["markdown", "csv", "json"])
def test_the_command_loads_nothing_heavy(results: Results, tmp_path: Path, form: str) -> None:
    results.add("bm25", "pydocs", 0.5)
    given = ["--json"] if form == "json" else ["--format", form]
    command = [sys.executable, "-c", PROBE, "report", "--results", str(results.store.root), *given]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (ended.returncode, ended.stderr) == (0, "loaded: []\n")
    assert "bm25" in ended.stdout


def test_the_command_says_what_to_type(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROBE, "report"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "harness benchmark -m bm25 --suite demo --results results" in ended.stderr


def test_a_plug_in_file_that_is_missing(results: Results, tmp_path: Path) -> None:
    results.add("bm25", "pydocs", 0.5)
    ended = run(results, "--plugin", str(tmp_path / "none.py"))
    assert isinstance(ended.exception, UserError)
    assert "There is no plug-in file" in str(ended.exception)


def test_json_and_csv_through_the_command(results: Results) -> None:
    results.add("bm25", "pydocs", 0.5)
    told = json.loads(run(results, "--json", "--suite", "demo").stdout)
    assert [average["average"] for average in told["averages"]] == ["demo (1 of 1)"]
    assert [row["model"] for row in told["rows"]] == ["bm25"]
    header, *rows = run(results, "--format", "csv").stdout_bytes.split(b"\r\n")
    assert header.startswith(b"model,dataset,split,")
    assert [row.split(b",")[0] for row in rows] == [b"bm25", b""]


def test_results_without_scores_of_queries_are_one_line_and_no_fault(results: Results) -> None:
    for model in ("one", "two", "three"):
        for dataset in ("x", "y"):
            results.add(model, dataset, queries={"a": 0.25, "b": 0.5, "c": 1.0})
            (results.store.folder(model, dataset) / "per_query.parquet").unlink()
    for more in ([], ["--json"], ["--baseline", "one"]):
        ended = run(results, *more)
        assert ended.exit_code == 0
        [line] = ended.stderr.splitlines()
        assert line.startswith("note: 6 results lack per_query.parquet (")
        assert line.endswith("intervals, ranks and tests need the queries' scores in it, means do not")
    assert "- 6 results lack per" in run(results).stdout
    (results.store.folder("one", "x") / "per_query.parquet").write_bytes(b"torn")
    ended = run(results)
    assert ended.exit_code == 1
    assert [line.partition(":")[0] for line in ended.stderr.splitlines()] == ["note", "skipped"]
