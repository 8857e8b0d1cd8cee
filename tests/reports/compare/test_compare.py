"""``harness compare``: what it finds, says and refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from scipy import stats

from harness.datasets.corpus import open_corpus
from harness.types import UserError
from harness_reports.cli.compare import command
from harness_reports.compare import compare as compare_module
from harness_reports.data.paired import family, overall
from harness_reports.data.per_query import Evidence
from tests.reports.factory import Results
from tests.reports.rendering import rendered
from tests.reports.test_report import PROBE


def scored(seed: int, n: int = 60, shift: float = 0.0, names: str = "q") -> dict[str, float]:
    """Values of a model that are those of another shifted, and some noise."""
    hard = np.random.default_rng(1).uniform(0.2, 0.6, n)
    noise = np.random.default_rng(seed).normal(shift, 0.1, n)
    return {f"{names}{row}": float(value) for row, value in enumerate(np.clip(hard + noise, 0, 1))}


@pytest.fixture
def three(results: Results) -> Results:
    for dataset in ("scifact", "fiqa", "mine"):
        results.add("base", dataset, queries=scored(2), run={"q0": ["d1", "d2"], "q1": ["d3"]})
        results.add("better", dataset, queries=scored(3, shift=0.15), run={f"q{n}": ["d2", f"e{n}"] for n in range(60)})
    results.add("same", "scifact", queries=scored(4))
    return results


def run(results: Results, *arguments: str) -> Result:
    return CliRunner().invoke(command, [*arguments, "--results", str(results.store.root)])


def told(results: Results, *arguments: str) -> dict[str, Any]:
    ended = run(results, *arguments, "--json")
    assert ended.exit_code == 0, (ended.output, ended.exception)
    content: dict[str, Any] = json.loads(ended.stdout)
    return content


def test_one_contrast_in_all_its_figures(three: Results) -> None:
    content = told(three, "base", "better", "-d", "scifact")
    (found,) = content["contrasts"]
    first, second = (np.array([*scored(seed, shift=shift).values()]) for seed, shift in ((3, 0.15), (2, 0)))
    apart = first - second
    theirs = stats.ttest_rel(first, second)
    assert (found["model"], found["against"], found["dataset"], found["queries"]) == ("better", "base", "scifact", 60)
    assert found["difference"] == pytest.approx(apart.mean())
    assert (found["mean"], found["mean_against"]) == pytest.approx((first.mean(), second.mean()))
    assert (found["t"], found["p_t"]) == pytest.approx((theirs.statistic, theirs.pvalue))
    assert found["effect_size"] == pytest.approx(apart.mean() / apart.std(ddof=1))
    assert (found["wins"], found["ties"], found["losses"]) == ((apart > 0).sum(), 0, (apart < 0).sum())
    assert found["interval"] == pytest.approx(theirs.confidence_interval(), abs=0.002)
    assert (found["holm_t"], found["real"]) == (found["p_t"], True)
    power = stats.nct.sf(stats.t.isf(0.025, 59), 59, found["smallest_effect"] / apart.std(ddof=1) * 60**0.5)
    assert power == pytest.approx(0.8)


def test_the_family_is_all_pairs_on_all_datasets(three: Results) -> None:
    content = told(three, "base", "better", "same")
    found = {(c["model"], c["against"], c["dataset"]): c for c in content["contrasts"]}
    assert [*found] == [
        *(("better", "base", dataset) for dataset in ("fiqa", "scifact", "mine")),
        ("same", "base", "scifact"),
        ("same", "better", "scifact"),
    ]
    p = sorted(c["p_randomisation"] for c in found.values())
    assert min(c["holm_randomisation"] for c in found.values()) == pytest.approx(5 * p[0])
    assert found["same", "base", "scifact"]["holm_randomisation"] == pytest.approx(p[-1])
    assert not found["same", "base", "scifact"]["real"]
    assert content["warnings"] == [f"{dataset}: same is not compared (no result)" for dataset in ("fiqa", "mine")]
    (whole, *_) = content["overall"]
    assert whole["datasets"] == ["fiqa", "scifact", "mine"]
    assert whole["difference"] == pytest.approx(np.mean([c["difference"] for c in list(found.values())[:3]]))
    assert whole["here"][0] < whole["difference"] < whole["here"][1]


def test_a_group_counts_once(results: Results) -> None:
    rng = np.random.default_rng(1)
    from harness.datasets.catalog import catalogue

    members = catalogue().groups["cqadupstack"]
    scores = {name: {"a": rng.uniform(0, 1, 20), "b": rng.uniform(0, 1, 20)} for name in (*members, "scifact")}
    (found,) = overall(scores, ["a", "b"])
    assert found.datasets == ("scifact", "cqadupstack")
    means = {name: (values["b"] - values["a"]).mean() for name, values in scores.items()}
    group = np.mean([means[member] for member in members])
    assert found.difference == pytest.approx((group + means["scifact"]) / 2)
    (alone,) = overall({name: scores[name] for name in members}, ["a", "b"])
    assert alone.datasets == members


def test_different_queries_are_said_loudly(results: Results) -> None:
    results.add("one", "x", queries=scored(1, 30))
    results.add("two", "x", queries={**scored(2, 28), "other": 0.5}, manifest={"dataset": {"fingerprint": {"q": 2}}})
    ended = run(results, "one", "two")
    assert ended.exit_code == 0
    sentence = "the query sets differ: 3 queries are left out that not every model has, 28 are compared"
    assert sentence in ended.stderr
    assert ended.stdout.index(sentence) < ended.stdout.index("## Dataset by dataset")
    assert rendered(ended.stdout)[0]["Dataset by dataset"].rows[0][3] == "28 (of 31)"
    assert "the models saw different versions of it" in ended.stdout
    results.add("three", "x", queries={"elsewhere": 1.0})
    refused = run(results, "one", "three")
    assert isinstance(refused.exception, UserError)
    assert "have nDCG@10 for the same queries of any dataset" in str(refused.exception)


def test_markdown_has_the_figures_of_the_json(three: Results) -> None:
    content = told(three, "base", "better", "same")
    tables, words = rendered(run(three, "base", "better", "same").stdout)
    table = tables["Dataset by dataset"]
    for row, found in zip(table.rows, content["contrasts"], strict=True):
        shown = dict(zip(table.header, row, strict=True))
        assert [shown[key] for key in ("dataset", "model", "against")] == [
            found[key] for key in ("dataset", "model", "against")
        ]
        assert shown["difference"] == f"{100 * found['difference']:+.2f}"
        assert shown["mean"] == f"{100 * found['mean']:.2f}"
        assert shown["95% interval"] == " to ".join(f"{100 * end:+.2f}" for end in found["interval"])
        assert shown["wins/ties/losses"] == f"{found['wins']}/{found['ties']}/{found['losses']}"
        for column, key in (("p", "p_randomisation"), ("p (Holm)", "holm_randomisation"), ("p of t", "p_t")):
            assert shown[column] == ("<0.0001" if found[key] < 0.0001 else f"{found[key]:.4f}")
        assert shown["smallest effect"] == f"{100 * found['smallest_effect']:.2f}"
    assert {name for name, column in table.bold if column == "difference"} == {"scifact", "fiqa", "mine"}
    over = tables["Over the datasets both have"]
    for row, found in zip(over.rows, content["overall"], strict=True):
        several = found["elsewhere"]
        assert row[3] == f"{100 * found['difference']:+.2f}"
        assert row[5] == (" to ".join(f"{100 * end:+.2f}" for end in several) if several else "-")
    assert "4 of 5 differences are shown to be real" in words


def test_the_queries_that_moved_most(results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = tmp_path / "corpus.jsonl"
    records = [{"_id": name, "title": title, "text": f"all of {name}"} for name, title in (("d1", "A | b"), ("d2", ""))]
    corpus.write_text("".join(json.dumps(record) + "\n" for record in records))
    home = tmp_path / "home"
    with open_corpus(corpus, home / "corpora") as opened:
        content = {"dataset": {"fingerprint": {"corpus": opened.sha256}}}
    results.add("one", "x", queries={"a": 0.5, "b": 1.0, "c": 0.0, "d": 0.2, "e": 0.1}, manifest=content,
                run={"b": ["d1", "d2"], "c": ["d1"], "d": ["d9"]})  # fmt: skip
    results.add("two", "x", queries={"a": 0.5, "b": 0.0, "c": 1.0, "d": 0.7, "e": 0.0}, manifest=content,
                run={"b": ["d2"], "c": ["d2", "d1"], "d": ["d9"]})  # fmt: skip
    monkeypatch.setenv("HARNESS_HOME", str(home))
    moves = told(results, "one", "two")["moves"]
    assert [(move["query_id"], move["value"] - move["value_against"]) for move in moves] == [
        ("c", 1), ("b", -1), ("d", pytest.approx(0.5)),
    ]  # fmt: skip
    assert moves[0]["text"] == "text of c"
    assert moves[0]["first"] == [{"id": "d2", "text": "all of d2"}, {"id": "d1", "text": "A | b"}]
    assert moves[1]["first_against"] == [{"id": "d1", "text": "A | b"}, {"id": "d2", "text": "all of d2"}]
    assert moves[2]["first"] == [{"id": "d9", "text": ""}]
    tables, words = rendered(run(results, "one", "two", "--queries", "1").stdout)
    assert tables["x: two against one"].rows == [["1", "d1: A | b", "d2: all of d2"], ["2", "-", "d1: A | b"]]
    assert "+100.00 (from 0.00 to 100.00), query c: text of c" in words
    assert told(results, "one", "two", "--queries", "0")["moves"] == []
    corpus.write_text("changed")
    assert {found["text"] for move in told(results, "one", "two")["moves"] for found in move["first"]} == {""}
    assert "`harness doctor" in run(results, "one", "two").stdout


@pytest.mark.parametrize("odd", ["Café\u00a0X", "a\u2028b", "\u2029", "a\x85", "\x1cb", "#5", '"q"'])
def test_ids_with_what_python_takes_for_white_space(results: Results, odd: str) -> None:
    """Runs are split at ASCII white space alone; a query id may begin with the sign of a comment."""
    for model, value in (("one", 0.0), ("two", 1.0)):
        results.add(model, "x", queries={odd: value, "b": 0.5}, run={odd: [odd, "d"], "b": ["d", odd]})
    found = told(results, "one", "two")
    assert found["moves"][0]["query_id"] == odd
    assert [each["id"] for each in found["moves"][0]["first"]] == [odd, "d"]


def test_damaged_files_are_named_and_left_out(three: Results) -> None:
    folder = three.store.folder("better", "fiqa")
    (folder / "per_query.parquet").write_bytes(b"PAR1")
    (three.store.folder("better", "mine") / "run.trec.gz").write_bytes(b"\x1f\x8bnone")
    ended = run(three, "base", "better")
    assert ended.exit_code == 1
    assert f"skipped: {folder / 'per_query.parquet'}: its checksum is not that of the result" in ended.stderr
    assert "fiqa" not in ended.stdout.split("## Over")[0].split("## Dataset")[1]
    assert (
        f"skipped: {three.store.folder('better', 'mine') / 'run.trec.gz'}: its checksum is not that of the result"
        in ended.stderr
    )
    assert run(three, "base", "better", "-d", "mine").exit_code == 1
    assert run(three, "base", "better", "-d", "mine", "--queries", "0").exit_code == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["base"], "needs two or more different models"),
        (["base", "base"], "needs two or more different models"),
        (["base", "beter"], "There is no result of a model 'beter' in "),
        (["base", "beter"], "did you mean better?"),
        (["base", "better", "-d", "fica"], "There is no result on a dataset 'fica'"),
        (["base", "better", "--measure", "nDCG@1"], "did you mean nDCG@10?"),
        (["base", "same", "-d", "mine"], "harness benchmark -m base -m same -d mine --results"),
    ],
)
def test_mistakes(three: Results, words: list[str], sentence: str) -> None:
    ended = run(three, *words)
    assert isinstance(ended.exception, UserError)
    assert sentence in str(ended.exception)
    assert ended.stdout == ""


def test_the_command_ends_with_2_and_loads_nothing_heavy(three: Results, tmp_path: Path) -> None:
    for words, code, loaded in ((["base", "nope"], 2, "[]"), (["base", "better"], 0, "[]")):
        line = [sys.executable, "-c", PROBE, "compare", *words, "--results", str(three.store.root)]
        ended = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert ended.returncode == code, ended.stderr
        assert ended.stderr.endswith(f"loaded: {loaded}\n")


def test_names_are_escaped(results: Results) -> None:
    name = "a|b <script>*x*</script>"
    results.add("base", "x_y_", queries=scored(1))
    results.add(name, "x_y_", queries=scored(2, shift=0.2))
    text = run(results, "base", name).stdout
    assert "<script>" not in text.replace(r"\<script", "")
    table = rendered(text)[0]["Dataset by dataset"]
    assert table.rows[0][:3] == ["x_y_", name, "base"]


def test_options_in_any_order(results: Results) -> None:
    for model in ("bm25", "bm25:b=0.75,k1=1.2"):
        results.add(model, "x", queries=scored(len(model)))
    assert told(results, "bm25", "bm25:k1=1.2,b=0.75")["models"] == ["bm25", "bm25:b=0.75,k1=1.2"]
    assert isinstance(run(results, "bm25", "bm25:k1=1.2").exception, UserError)


def test_equal_results_have_no_smallest_effect(results: Results) -> None:
    """There is no spread to estimate it from; 0.00 would say that the smallest difference shows."""
    for name in ("one", "two"):
        results.add(name, "x", queries=scored(4))
    tables, _ = rendered(run(results, "one", "two").stdout)
    table = tables["Dataset by dataset"]
    assert dict(zip(table.header, table.rows[0], strict=True))["smallest effect"] == "-"


def test_one_query_says_nothing_and_is_no_error(results: Results) -> None:
    results.add("one", "x", queries={"a": 0.5})
    results.add("two", "x", queries={"a": 0.6})
    content = told(results, "one", "two")
    found = content["contrasts"][0]
    assert (found["interval"], found["smallest_effect"], found["p_randomisation"], found["real"]) == (
        None,
        None,
        1,
        False,
    )
    row = rendered(run(results, "one", "two").stdout)[0]["Dataset by dataset"].rows[0]
    assert row[7:9] == ["-", "-"]


def test_a_table_of_null_experiments_rarely_finds_anything() -> None:
    """1,000 tables of 3 models on 3 datasets, none better than another: at most 5% show a difference as real."""
    false_t = false_randomisation = 0
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        scores = {}
        for dataset, n in (("a", 20), ("b", 60), ("c", 300)):
            hard = rng.uniform(0, 1, n)
            values = {m: (rng.random(n) < hard) * rng.choice([1, 0.63, 0.5, 0.39], n) for m in "xyz"}
            scores[dataset] = values
        found = family(scores, "xyz", samples=100)
        false_randomisation += any(each.real for each in found)
        false_t += any(each.holm_t < 0.05 for each in found)
        assert all(each.smallest_effect < inf for each in found)
    assert false_randomisation <= 50
    assert false_t <= 50


def partial(results: Results, model: str, dataset: str, seed: int, **more: Any) -> None:
    results.add(model, dataset, queries=scored(seed, 20, **more))


def test_partial_runs_are_not_averaged_with_whole_ones(three: Results) -> None:
    whole = told(three, "base", "better")
    for dataset in ("scifact:limit=20", "other:limit=20"):
        partial(three, "base", dataset, 5)
        partial(three, "better", dataset, 6, shift=0.3)
    content = told(three, "base", "better")
    assert content["overall"] == whole["overall"]
    assert content["contrasts"] == whole["contrasts"]
    [warning] = content["warnings"]
    assert warning.startswith("left out, since there are whole results: other:limit=20, scifact:limit=20")
    assert warning in run(three, "base", "better").stderr
    content = told(three, "base", "better", "-d", "scifact", "-d", "scifact:limit=20")
    assert [one["datasets"] for one in content["overall"]] == [["scifact"]]
    assert len(content["contrasts"]) == 2
    assert "not in the difference over the datasets: scifact:limit=20" in content["warnings"]


def test_partial_runs_alone_are_compared_with_a_warning(results: Results) -> None:
    for dataset in ("one:limit=20", "two:limit=20", "two:limit=10"):
        partial(results, "base", dataset, 5)
        partial(results, "better", dataset, 6, shift=0.3)
    content = told(results, "base", "better")
    assert [one["datasets"] for one in content["overall"]] == [["one:limit=20"]]  # the queries of two would count twice
    assert len(content["contrasts"]) == 3
    assert content["warnings"] == [
        "one:limit=20, two:limit=10, two:limit=20 are on some of the queries only, or with another setting than the "
        "dataset's",
        "not in the difference over the datasets: two:limit=10, two:limit=20",
    ]


def test_other_versions_of_a_dataset_are_in_no_average(three: Results) -> None:
    for model, seed in (("base", 2), ("better", 3)):
        newer = {"dataset": {"fingerprint": {"corpus": model}}}
        three.add(model, "mine", queries=scored(seed), manifest=newer)
    content = told(three, "base", "better")
    assert [one["datasets"] for one in content["overall"]] == [["fiqa", "scifact"]]
    assert "not in the difference over the datasets: mine" in content["warnings"]
    alone = told(three, "base", "better", "-d", "mine")
    assert alone["overall"] == []
    assert run(three, "base", "better", "-d", "mine").exit_code == 0


@pytest.mark.parametrize(
    ("measure", "documents", "said"),
    [
        ("Bpref", 7302, True),
        ("AP", 7302, True),
        ("R@5000", 7302, True),
        ("R@5000", 900, False),
        ("AP@1000", 7302, False),
    ],
)
def test_how_deep_the_runs_are_is_said_where_the_measure_does_not(
    results: Results, measure: str, documents: int, said: bool
) -> None:
    for model, seed in (("base", 2), ("better", 3)):
        results.add(model, "x", queries=scored(seed), counts={"documents": documents})
    evidence = Evidence(results.read())
    found = [*compare_module._depth(evidence, ["base", "better"], ["x"], measure)]
    assert found == ([f"x: {measure} is over runs that are 1,000 documents deep"] if said else [])
