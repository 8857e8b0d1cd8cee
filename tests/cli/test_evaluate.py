"""``harness evaluate``."""

from __future__ import annotations

import gzip
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import pytrec_eval
from click.testing import CliRunner, Result

from harness.cli.evaluate import command as evaluate
from harness.types import UserError
from tests.conftest import Done

QRELS = "q1 0 a 1\nq1 0 b 0\nq2 0 c 2\nq3 0 a 1\n"
RUN = "q1 Q0 a 1 1.0 t\nq1 Q0 b 2 1.0 t\nq2 Q0 c 1 3 t\nx Q0 a 1 1 t\n"


def invoke(folder: Path, *more: str, run: str = RUN, qrels: str = QRELS) -> Result:
    (folder / "run").write_text(run)
    (folder / "qrels").write_text(qrels)
    arguments = ["--run", str(folder / "run"), "--qrels", str(folder / "qrels"), *more]
    return CliRunner().invoke(evaluate, arguments, catch_exceptions=False)


def test_json_equals_trec_eval(tmp_path: Path) -> None:
    found = json.loads(invoke(tmp_path, "--json", "--per-query").stdout)
    run = {"q1": {"a": 1.0, "b": 1.0}, "q2": {"c": 3.0}}
    qrels = {"q1": {"a": 1, "b": 0}, "q2": {"c": 2}, "q3": {"a": 1}}
    expected = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut_10"}).evaluate(run)
    values = {query: expected.get(query, {}).get("ndcg_cut_10", 0.0) for query in qrels}
    assert {query: row["nDCG@10"] for query, row in found["per_query"].items()} == pytest.approx(values)
    assert found["measures"]["nDCG@10"] == pytest.approx(sum(values.values()) / 3)
    assert found["per_query"]["q1"]["RR@10"] == 0.5
    assert found["counts"] == {"judged": 3, "missing": 1, "unjudged": 1}
    assert "per_query" not in json.loads(invoke(tmp_path, "--json").stdout)


def test_table(tmp_path: Path) -> None:
    result = invoke(tmp_path, "--measures", "RR@10 P@1", "--per-query")
    header, *rows, blank, counts = result.stdout.splitlines()
    assert header.split() == ["query", "RR@10", "P@1"]
    assert [row.split() for row in rows] == [
        ["q1", "0.5000", "0.0000"],
        ["q2", "1.0000", "1.0000"],
        ["q3", "0.0000", "0.0000"],
        ["mean", "0.5000", "0.3333"],
    ]
    assert len({len(line) for line in [header, *rows]}) == 1, "columns are not aligned"
    assert blank == ""
    assert counts.startswith(
        "3 judged queries, 1 of them missing from the run (counted 0); 1 queries of the run without"
    )
    assert len(invoke(tmp_path).stdout.splitlines()) == 4


def test_gzipped_run_and_beir_qrels(tmp_path: Path) -> None:
    (tmp_path / "run.gz").write_bytes(gzip.compress(RUN.encode()))
    (tmp_path / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tb\t1\n")
    arguments = ["--run", str(tmp_path / "run.gz"), "--qrels", str(tmp_path / "test.tsv"), "--json"]
    found = json.loads(CliRunner().invoke(evaluate, arguments, catch_exceptions=False).stdout)
    assert found["measures"]["RR@10"] == 1.0


def test_standard_input_and_pipes(tmp_path: Path) -> None:
    """A run that can be read once only, plain and gzipped; messages name where it came from."""
    expected = json.loads(invoke(tmp_path, "--json").stdout)
    qrels = ["--qrels", str(tmp_path / "qrels"), "--json"]
    for content in (RUN.encode(), gzip.compress(RUN.encode())):
        found = CliRunner().invoke(evaluate, ["--run", "-", *qrels], input=content, catch_exceptions=False)
        assert json.loads(found.stdout) == expected
    with pytest.raises(UserError, match=r"^Line 1 of standard input has 2 columns"):
        CliRunner().invoke(evaluate, ["--run", "-", *qrels], input="q1 a\n", catch_exceptions=False)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=[RUN])
    writer.start()
    found = CliRunner().invoke(evaluate, ["--run", str(pipe), *qrels], catch_exceptions=False)
    writer.join()
    assert json.loads(found.stdout) == expected


def test_what_was_tolerated_is_told(tmp_path: Path) -> None:
    run = "# by x\n#q2 Q0 c 1 3 t\nq1 Q0 a 1 1.00000002 t\nq1 Q0 b 2 1.00000001 t and more\n"
    done = invoke(tmp_path, "--json", "--measures", "RR", run=run, qrels=QRELS + "q1 0 a 1\n#q2 0 a 1\n")
    found = json.loads(done.stdout)
    assert found["measures"]["RR"] == 1 / 3
    assert found["notes"] == [
        "qrels: 1 of its lines begin with # and are comments, as for trec_eval 10.0",
        "1 lines of qrels repeat an earlier judgement word for word; they count once",
        "run: 1 of its lines begin with # and are comments, as for trec_eval 10.0",
        "run: in 1 of its queries the order depends on digits that float32 drops; scores are compared as doubles, as "
        "by trec_eval 10.0, while trec_eval 9 and pytrec_eval round to float32",
    ]
    assert [line.removeprefix("note: ") for line in done.stderr.splitlines()] == found["notes"]
    assert json.loads(invoke(tmp_path, "--json").stdout)["notes"] == []


@pytest.mark.parametrize(
    ("run", "qrels", "said"),
    [
        (
            "".join(f"r{i} Q0 d 1 1 t\n" for i in range(9)),
            QRELS,
            r"r0, r1, r2, r3, r4 \.\.\.\).*\(queries q1, q2, q3\)",
        ),
        ("001 Q0 d 1 1 t\n", "1 0 d 1\n", "leading zeros or upper case"),
        ("Q1 Q0 d 1 1 t\n", QRELS, "leading zeros or upper case"),
        ("a Q0 q1 1 1 t\n", QRELS, "columns may be swapped"),
        ("r Q0 d 1 1 t\n", QRELS, "different datasets or splits"),
        ("", QRELS, "holds no rankings"),
    ],
)
def test_no_query_in_common(tmp_path: Path, run: str, qrels: str, said: str) -> None:
    """Both sides' first five ids and the likely cause, in one sentence."""
    with pytest.raises(UserError, match=said):
        invoke(tmp_path, run=run, qrels=qrels)


def test_mistakes_come_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean nDCG@10"):
        invoke(tmp_path, "--measures", "ndcg@10")
    with pytest.raises(UserError, match="There is no file"):
        CliRunner().invoke(evaluate, ["--run", "none", "--qrels", str(tmp_path / "qrels")], catch_exceptions=False)


@pytest.mark.parametrize("packed", [False, True])
def test_wrong_judgements_are_told_before_the_run_is_read(
    packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.cli.evaluate.read_run", lambda *_: pytest.fail("the run was read"))
    content = "".join(f"r{number} Q0 d{rank} {rank} 1 t\n" for number in range(50) for rank in range(20))
    (tmp_path / "run.gz").write_bytes(gzip.compress(content.encode()) if packed else content.encode())
    (tmp_path / "qrels").write_text(QRELS)
    arguments = ["--run", str(tmp_path / "run.gz"), "--qrels", str(tmp_path / "qrels")]
    with pytest.raises(UserError, match="share no query id"):
        CliRunner().invoke(evaluate, arguments, catch_exceptions=False)


def test_one_judged_query_at_the_end_is_enough(tmp_path: Path) -> None:
    run = "".join(f"r{number} Q0 d 1 1 t\n" for number in range(50)) + "\n\nq2 Q0 c 1 3 t\n"
    found = json.loads(invoke(tmp_path, "--json", run=run).stdout)
    assert found["counts"] == {"judged": 3, "missing": 2, "unjudged": 50}
    with pytest.raises(UserError, match=r"Line 1 of .* has 2 columns"):
        invoke(tmp_path, run="r1 d\n")


def test_judgements_of_a_dataset_by_name_folder_or_file(
    harness: Callable[..., Done], toy: Path, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "named.py").write_text(NAMED.format(folder=str(toy)))
    (toy / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tlung\t1\n")
    done = harness("benchmark", "-m", "bm25", "-d", toy, "--json")
    ndcg = json.loads(done.out)[0]["measures"]["nDCG@10"]
    run = "results/bm25/toy/run.trec.gz"
    for named in ("named-set", toy, "toy", "toy/qrels/test.tsv"):
        done = harness("evaluate", "--run", run, "--qrels", named, "--json", "--plugin", tmp_path / "named.py")
        assert done.code == 0, done.err
        assert json.loads(done.out)["measures"]["nDCG@10"] == ndcg
    dev = [harness("evaluate", "--run", run, *more, "--json") for more in
           (("--qrels", "toy", "--split", "dev"), ("--qrels", "toy/qrels/dev.tsv"))]  # fmt: skip
    assert dev[0].out == dev[1].out
    assert json.loads(dev[0].out)["counts"]["judged"] == 1
    for words, said in (
        (
            ("--qrels", "named-sett"),
            ["There is no file named-sett", "no dataset 'named-sett'", "did you mean named-set"],
        ),
        (("--qrels", "fiqa", "--offline"), ["fiqa is not on this machine"]),
        (("--qrels", "cqadupstack"), ["cqadupstack stands for 12 datasets"]),
        (("--qrels", "toy", "--split", "train"), ["'train'", "it has dev, test"]),
        (("--qrels", "toy/qrels/dev.tsv", "--split", "dev"), ["--split is for a dataset", "dev.tsv is a file"]),
    ):
        done = harness("evaluate", "--run", run, *words, "--plugin", tmp_path / "named.py")
        assert done.code == 2
        assert all(word in done.err for word in said), done.err


NAMED = """
import shutil

from harness import DatasetSpec, hookimpl

def build(folder):
    shutil.copytree({folder!r}, folder, dirs_exist_ok=True)

@hookimpl
def harness_datasets():
    yield DatasetSpec("named-set", "the toy", build=f"{{__name__}}:build")
"""
