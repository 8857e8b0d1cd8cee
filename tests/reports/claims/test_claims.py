"""``harness claims``: verdicts, their intervals, what is missing, and faults of the file."""

from __future__ import annotations

import csv
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from harness.cli.main import State, cli
from harness.datasets.catalog import catalogue
from harness.metrics.significance import difference_interval, mean_interval
from harness.registry.manager import load_registry
from harness.types import UserError
from harness_reports.claims import criteria
from harness_reports.claims.evaluate import holds
from harness_reports.claims.model import SHIPPED, find_claims
from harness_reports.cli.claims import command
from tests.reports.factory import PANEL, Results
from tests.reports.test_report import PROBE

REGISTRY = load_registry()
Claims = Callable[..., Result]


@pytest.fixture
def claims(results: Results, tmp_path: Path) -> Claims:
    """Runs the command on a file with that text, or on a shipped one."""

    def run(text: str, *more: str) -> Result:
        if text not in ("brief", "published"):
            (tmp_path / "paper.toml").write_text(text)
            text = str(tmp_path / "paper.toml")
        words = [text, "--results", str(results.store.root), *more]
        return CliRunner().invoke(command, words, obj=State(_registry=REGISTRY), catch_exceptions=False)

    return run


def judged(claims: Claims, typed: str, *more: str, head: str = "", tail: str = "") -> dict[str, Any]:
    text = f"{head}\n[[claim]]\nname = 'it'\ncriterion = \"{typed}\"\n{tail}\n"
    done = claims(text, "--json", *more)
    assert done.exit_code == 0, done.output
    [found] = json.loads(done.stdout)["claims"]
    return dict(found)


def scores(values: np.ndarray) -> Mapping[str, float]:
    return {f"q{number}": float(value) for number, value in enumerate(values)}


def fill(results: Results, gap: float, queries: int = 200, noise: float = 0.1) -> dict[str, np.ndarray]:
    """Two models on one dataset; the first is better by about the gap."""
    rng = np.random.default_rng(1)
    low = rng.uniform(0.2, 0.6, queries)
    high = np.clip(low + gap + noise * rng.standard_normal(queries), 0, 1)
    results.add("mpnet", "scifact", queries=scores(high))
    results.add("minilm", "scifact", queries=scores(low))
    return {"mpnet": 100 * high, "minilm": 100 * low}


def test_met_with_value_and_interval(claims: Claims, results: Results) -> None:
    values = fill(results, 0.05)
    found = judged(claims, "mpnet - minilm on scifact >= 1.0")
    assert (found["verdict"], found["beyond_noise"]) == ("met", True)
    assert found["value"] == pytest.approx((values["mpnet"] - values["minilm"]).mean())
    expected = difference_interval([values["mpnet"]], [values["minilm"]])
    assert found["interval"] == pytest.approx([expected.low, expected.high])
    assert found["values"] == pytest.approx({name: own.mean() for name, own in values.items()})
    assert judged(claims, "mpnet - minilm on scifact <= 1.0")["verdict"] == "not met"
    assert judged(claims, "mpnet - minilm - 1 < 0 on scifact")["threshold"] == 1.0


def test_queries_that_share_documents_are_clusters(claims: Claims, results: Results) -> None:
    rng = np.random.default_rng(5)
    codes = np.arange(160) // 4
    low = rng.uniform(0.2, 0.6, 160)
    high = np.clip(low + 0.02 + rng.normal(0, 0.05, 40)[codes] + rng.normal(0, 0.05, 160), 0, 1)
    groups = {f"q{number}": str(code) for number, code in enumerate(codes)}
    for model, own in (("mpnet", high), ("minilm", low)):
        results.add(model, "scifact", queries=scores(own), groups=groups)
    found = judged(claims, "mpnet - minilm on scifact >= 1.0")
    gap = 100 * (high - low)
    by_cluster = gap.reshape(40, 4).mean(axis=1)
    expected = mean_interval([by_cluster])
    assert found["interval"] == pytest.approx([expected.low, expected.high])
    effect = (by_cluster.var(ddof=1) / 40) / (gap.var(ddof=1) / 160)
    assert f"design effect {effect:.2f}: queries that share relevant documents count as clusters" in found["notes"]


def test_a_point_estimate_inside_the_noise_says_so_and_what_would_decide(claims: Claims, results: Results) -> None:
    values = fill(results, 0.018, noise=0.1)
    difference = values["mpnet"] - values["minilm"]
    assert 0 < difference.mean() < 1.5
    found = judged(claims, "mpnet > minilm on scifact")
    assert (found["verdict"], found["beyond_noise"]) == ("met", False)
    error = difference.std(ddof=1) / np.sqrt(200)
    [spans, least] = found["need"]
    assert "about" in spans
    assert "more queries" in spans
    more = int(spans.split("about ")[1].split()[0].replace(",", ""))
    assert more == pytest.approx(200 * ((1.97 * error / difference.mean()) ** 2 - 1), rel=0.15)
    # a t-test at 5% with 80% power: (1.97 + 0.84) standard errors
    assert float(least.rsplit(" ", 1)[1]) == pytest.approx(2.82 * error, rel=0.02)
    text = claims("[[claim]]\nname = 'it'\ncriterion = \"mpnet > minilm on scifact\"").stdout
    assert "| met, but not beyond noise |" in text
    high = judged(claims, f"mpnet - minilm on scifact >= {difference.mean() + 0.1:.3f}")
    assert (high["verdict"], high["beyond_noise"]) == ("not met", False)
    at = judged(claims, f"mpnet - minilm on scifact >= {difference.mean() - 1e-6:.9f}")
    assert "no number of further queries" in at["need"][0]


def test_a_suite_is_the_mean_of_its_entries_and_its_interval_draws_datasets(
    claims: Claims, results: Results, trio: tuple[str, ...]
) -> None:
    rng = np.random.default_rng(2)
    arrays = {}
    for number, dataset in enumerate(trio):
        arrays[dataset] = rng.uniform(0, 1, 40 + 20 * number)
        results.add("mpnet", dataset, queries=scores(arrays[dataset]))
        results.add("minilm", dataset, queries=scores(arrays[dataset] / 2))
    per_set = [100 * arrays[dataset] for dataset in trio]
    found = judged(claims, "mpnet - minilm >= 1", head='on = "trio"')
    assert found["value"] == pytest.approx(np.mean([values.mean() / 2 for values in per_set]))
    halves = [values / 2 for values in per_set]
    for over, new_datasets in (("datasets", True), ("queries", False)):
        found = judged(claims, "mpnet - minilm on trio >= 1", tail=f'over = "{over}"')
        expected = mean_interval(halves, new_datasets=new_datasets)
        assert found["interval"] == pytest.approx([expected.low, expected.high], rel=1e-6)
    more = judged(claims, f"mpnet - minilm >= {np.mean([h.mean() for h in halves]) - 0.5:.4f} on trio")
    assert more["beyond_noise"] is False
    assert "datasets like these" in more["need"][0]


def test_a_group_counts_once(claims: Claims, results: Results) -> None:
    members = catalogue().groups["cqadupstack"]
    for number, dataset in enumerate(members):
        results.add("mpnet", dataset, queries=scores(np.full(10 + number, number / 20)))
    found = judged(claims, "mpnet > 1 on cqadupstack")
    assert found["value"] == pytest.approx(100 * np.mean([number / 20 for number in range(12)]))


def test_figures_that_are_no_measures(claims: Claims, results: Results, trio: tuple[str, ...]) -> None:
    for number, dataset in enumerate(trio):
        results.add("mpnet", dataset, 0.5, geometry={"documents": {**PANEL, "isotropy": 0.5 + number / 10}})
        results.add("minilm", dataset, 0.5, geometry={"documents": {**PANEL, "isotropy": 0.1}})
    criterion = "geometry.documents.isotropy of mpnet > minilm on"
    one = judged(claims, f"{criterion} scifact")
    assert (one["verdict"], one["value"]) == ("met", pytest.approx(0.4))
    assert one["interval"] is one["beyond_noise"] is None
    assert "no interval: it is one figure per dataset and model" in one["notes"]
    all_three = judged(claims, f"{criterion} trio")
    assert all_three["value"] == pytest.approx(0.5)
    assert all_three["interval"][0] < 0.5 < all_three["interval"][1]
    with pytest.raises(UserError, match=r"line 4, column 14: There is no figure 'geometry.documents.isotorpy'; did"):
        judged(claims, "geometry.documents.isotorpy of mpnet > 0 on trio")


def test_what_is_missing_is_named_with_the_command(claims: Claims, results: Results, trio: tuple[str, ...]) -> None:
    results.add("mpnet", "scifact", 0.5)
    results.add("mpnet", "arguana")
    found = judged(claims, "mpnet - 'rrf(bm25,minilm)' >= 1.0 on trio")
    assert (found["verdict"], found["value"], found["interval"]) == ("not measured", None, None)
    first, second = (shlex.split(need) for need in found["need"])
    root = str(results.store.root)
    assert first == ["harness", "benchmark", "-m", "mpnet", "-d", "arguana", "-d", "fiqa", "--results", root]
    assert second == ["harness", "benchmark", "-m", "rrf(bm25,minilm)", "--suite", "trio", "--results", root]
    for words in (first, second):
        cli.get_command(None, words[1]).make_context(words[1], words[2:])  # type: ignore[union-attr, arg-type]
    assert any("failed on arguana" in note for note in found["notes"])
    other = judged(claims, "nDCG@20 of mpnet > 1 on scifact")
    assert "'nDCG@10 R@100 R@1000 AP@1000 RR@10 Judged@10 nDCG@20'" in other["need"][0]


def test_a_licence_that_is_needed_is_named(claims: Claims, results: Results) -> None:
    results.add("mpnet", "scifact", 0.5)
    assert "a licence for robust04" in judged(claims, "mpnet > 1 on robust04")["need"][1]


def test_coverage_counts_entries(claims: Claims, results: Results, trio: tuple[str, ...]) -> None:
    results.add("mpnet", "scifact", 0.5)
    head = 'on = "trio"\n[models]\nmpnet = "mpnet"\nminilm = "minilm"'
    found = judged(claims, "all 3 measured", head=head)
    assert (found["verdict"], found["value"], found["threshold"]) == ("not met", 1, 6)
    assert len(found["need"]) == 2
    assert judged(claims, "mpnet measured on scifact")["verdict"] == "met"
    with pytest.raises(UserError, match="line 6, column 18: it says 18 datasets, but trio has 3"):
        judged(claims, "all 18 measured", head='on = "trio"\n[models]\nmpnet = "mpnet"')


def test_models_are_mapped_and_their_seeds_averaged(claims: Claims, results: Results) -> None:
    rng = np.random.default_rng(3)
    runs = {f"ours@{seed}": rng.uniform(0, 1, 50) for seed in "abc"}
    for label, values in runs.items():
        results.add(label, "scifact", queries=scores(values))
    results.add("bm25", "scifact", queries=scores(np.full(50, 0.1)))
    more = [word for label in runs for word in ("--model", f"isotropy={label}")]
    found = judged(claims, "isotropy - bm25 > 1 on scifact", *more)
    assert found["values"]["isotropy"] == pytest.approx(100 * np.mean([*runs.values()]))
    expected = difference_interval([100 * np.stack([*runs.values()])], [np.full(50, 10.0)])
    assert found["interval"] == pytest.approx([expected.low, expected.high])
    assert any("mean of 3 results" in note for note in found["notes"])
    listed = ", ".join(f'"{label}"' for label in runs)
    same = judged(claims, "isotropy - bm25 > 1 on scifact", head=f"[models]\nisotropy = [{listed}]")
    assert same["interval"] == found["interval"]
    only = judged(
        claims, "isotropy > 1 on scifact", "--model", "isotropy=ours@b", head=f"[models]\nisotropy = [{listed}]"
    )
    assert only["value"] == pytest.approx(100 * runs["ours@b"].mean())
    for wrong, said in (
        ("isotropi=ours@a", "There is no model in .* 'isotropi'; did you mean isotropy"),
        ("isotropy=theirs", "There is no model 'theirs'"),
        ("isotropy", "There is no model 'isotropy'|There is no model ''"),
    ):
        with pytest.raises(UserError, match=said):
            judged(claims, "isotropy > 1 on scifact", "--model", wrong)


def test_runs_of_an_experiment_are_its_seeds(claims: Claims, results: Results) -> None:
    for seed, score in ((1, 0.3), (2, 0.5)):
        record = {"name": "isotropy", "passed": {"run": f"s{seed}"}, "fingerprint": {"files": seed}}
        for dataset in ("scifact", "fiqa")[:seed]:
            results.add(f"isotropy:run=s{seed}", dataset, score, manifest={"model": record})
    newest = {"name": "isotropy", "passed": {}, "fingerprint": {"files": 2}}
    results.add("isotropy", "scifact", 0.5, manifest={"model": newest})
    assert judged(claims, "isotropy > 1 on scifact")["value"] == pytest.approx(40.0)
    one = judged(claims, "isotropy > 1 on fiqa")
    assert one["value"] == pytest.approx(50.0)
    assert "left out because datasets are missing: isotropy:run=s1" in one["notes"]
    record = {"name": "isotropy", "passed": {"run": "s1"}, "fingerprint": {"files": 1}}
    results.add("isotropy|depth=9:run=s1", "scifact", 0.1, manifest={"model": record, "k": 9})
    results.add("isotropy|Flat:run=s1", "scifact", 0.1, manifest={"model": record}, index={"factory": "Flat"})
    assert judged(claims, "isotropy > 1 on scifact")["value"] == pytest.approx(40.0)


def test_versions_of_a_dataset_are_not_compared(claims: Claims, results: Results) -> None:
    fill(results, 0.05)
    results.add("mpnet", "scifact", 0.9, manifest={"dataset": {"fingerprint": {"corpus": "other"}}})
    found = judged(claims, "mpnet > minilm on scifact")
    assert found["verdict"] == "not measured"
    assert "different versions of scifact" in found["notes"][0]
    assert judged(claims, "mpnet > 1 on scifact")["verdict"] == "met"


def test_expected_values(claims: Claims, results: Results) -> None:
    values = fill(results, 0.1)
    mean = values["mpnet"].mean()

    def rows(lines: str, value: float) -> dict[str, Any]:
        text = f"[[expected]]\nmodel = 'mpnet'\nsource = 'a paper'\n{lines}\nvalues = {{ scifact = {value:.4f} }}\n"
        [row] = json.loads(claims(text, "--json").stdout)["expected"]
        return dict(row)

    near, far = mean + 0.5, mean + 20
    assert rows("", mean + 0.04)["verdict"] == "met"
    assert (rows("", near)["verdict"], rows("", near)["beyond_noise"]) == ("not met", False)
    assert rows("reproduction = true", near)["beyond_noise"] is True
    assert (rows("", far)["verdict"], rows("", far)["beyond_noise"]) == ("not met", True)
    assert rows("tolerance = 0.6", near)["verdict"] == "met"
    assert (rows("relation = '>='", mean - 0.5)["verdict"], rows("relation = '>='", mean - 0.5)["beyond_noise"]) == (
        "met",
        False,
    )
    assert rows("relation = '>='", near)["verdict"] == "not met"
    assert rows("", near)["source"] == "a paper"
    text = "[[expected]]\nmodels = ['mpnet', 'bm25']\nsource = 's'\n"
    text += "[expected.values]\nfiqa = 1\nscifact = { value = 2, source = 't' }\n"
    done = claims(text).stdout
    assert "Not measured: 3 of 4 values (mpnet 1, bm25 2); --all lists them." in done
    assert done.count("not measured |") == 0
    assert claims(text, "--all").stdout.count("not measured |") == 3
    assert [row["source"] for row in json.loads(claims(text, "--json").stdout)["expected"]] == ["s", "s", "t", "t"]


CLAIM = "[[claim]]\nname = 'x'\n"
VALUES = "[[expected]]\nmodel = 'bm25'\nsource='s'\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "claims nothing"),
        (CLAIM + "criterion = 'mpnet > 1'", "line 3, column 1.*names no dataset or suite"),
        (CLAIM + "criterion = 'mpnet > 1 on scifcat'", "line 3, column 27: .*did you mean scifact"),
        (CLAIM + "criterion = 'mpnet > 1 on'", "line 3, column 26: the criterion cannot be read: it ends"),
        (CLAIM + "criterion = 'mpnnet > 1 on fiqa'", "line 3, column 14: .*'mpnnet'; did you mean mpnet"),
        (CLAIM + "criterion = 'mpnet-bm25 > 1 on fiqa'", "column 14: .*has blanks around it"),
        (CLAIM + "criterion = 'nDGC@10 of mpnet > 1 on fiqa'", "line 3, column 14: .*did you mean nDCG@10"),
        ("measure = 'nope'\n" + CLAIM + "criterion = 'mpnet > 1 on fiqa'", "line 1, column 1: .*no measure 'nope'"),
        (CLAIM + "criterion = 3", "line 3, column 1: criterion is 3, but it must be text"),
        ("[[claim]]\ntext = 'x'", "line 1, column 1: .*needs a name"),
        (CLAIM + "text = 'y'\n  nane = 1", "line 4, column 3: There is no key 'nane'; did you mean name"),
        ("[claim]\nname = 'x'", r"line 1, column 1: claim must be tables"),
        ("[[expected]]\nvalues = { fiqa = 1 }", "line 1, column 1: .*either model or models"),
        ("[[expected]]\nmodel = 'bm25'\nvalues = { fiqa = 1 }", "line 3, column 12: a value needs a source"),
        (VALUES + "values = { fiqa = nan }", "line 4, column 12: .*finite number"),
        (VALUES + "values = { fiqa = true }", "line 4, column 12: .*finite number"),
        (VALUES + "relation = '>'\nvalues = { fiqa = 1 }", "line 4, .*relation is '>'"),
        ("[[expected]]\nmodel = 'bm26'\nsource='s'\nvalues = { fiqa = 1 }", "line 2, .*'bm26'; did you mean bm25"),
        (VALUES + "values = { fiqua = 1 }", "line 4, column 12: .*mean fiqa"),
        ("[models]\nx = []", "line 2, column 1: a model is a label"),
        ("[models]\nx = 5", "line 2, column 1: x is 5"),
        ("models = 5", "line 1, column 1: models is 5, but it must be a table"),
        ("a = ", r"not TOML \(.*line 1"),
    ],
)  # fmt: skip
def test_faults_have_a_line_and_a_column(claims: Claims, results: Results, text: str, said: str) -> None:
    results.add("mpnet", "scifact", 0.5)
    with pytest.raises(UserError, match=f"(?s)paper.toml.*{said}"):
        claims(text)


def test_others_are_declared(claims: Claims, results: Results) -> None:
    results.add("bm25", "scifact", 0.5)
    head = 'datasets = ["their set"]\n[models]\n"their model" = "their model"'
    assert judged(claims, "'their model' > 1 on 'their set'", head=head)["verdict"] == "not measured"


def test_unreadable_results_are_named_with_exit_1(claims: Claims, results: Results) -> None:
    fill(results, 0.1)
    (results.store.folder("minilm", "scifact") / "per_query.parquet").write_bytes(b"torn")
    done = claims("[[claim]]\nname = 'it'\ncriterion = 'mpnet > minilm on scifact'")
    assert done.exit_code == 1
    assert "per_query.parquet" in done.stderr
    assert "scores per query are missing or damaged" in done.stdout


def test_names_are_shown_as_they_are(claims: Claims, results: Results) -> None:
    name = "<b>|*x*"
    results.add(name, "scifact", 0.5)
    done = claims(f"title = '{name}'\n[[claim]]\nname = '{name}'\ncriterion = \"'{name}' > 1 on scifact\"").stdout
    assert "\\<b\\>\\|\\*x\\*" in done
    [row] = [line for line in done.splitlines() if line.startswith("| \\<b")]
    assert row.replace("\\|", "").count("|") == 6


def test_which_file(tmp_path: Path) -> None:
    assert find_claims("brief").parent == SHIPPED
    with pytest.raises(UserError, match="There is no claims file beief; those that come with the harness are brief"):
        find_claims("beief")


def test_the_brief_is_evaluated(claims: Claims, results: Results) -> None:
    rng = np.random.default_rng(4)
    suites = catalogue()
    labels = [label for name in suites.suites["beir18"] for label in suites.groups.get(name, (name,))]
    for number, dataset in enumerate(labels):
        low = rng.uniform(0.2, 0.7, 30)
        trained = {"training": {"seed": 1}}
        for model, gain in (("baseline", 0.0), ("isotropy", 0.03), ("frozen", -0.02), ("mpnet", -0.05), ("bm25", -0.1)):
            values = low + gain + 0.01 * rng.standard_normal(30)
            panel = {**PANEL, "isotropy": gain - number, "isotropy_debiased": -gain}
            parts = {"geometry": {"documents": panel}, "manifest": {"model": trained}}
            results.add(model, dataset, queries=scores(values), **parts)
    done = claims("brief", "--json")
    assert done.exit_code == 0, done.output
    found = {claim["name"]: claim for claim in json.loads(done.stdout)["claims"]}
    verdicts = {name: claim["verdict"] for name, claim in found.items()}
    assert verdicts["minimum: retrieval"] == verdicts["strong: retrieval"] == verdicts["top: retrieval"] == "met"
    assert verdicts["minimum: isotropy"] == verdicts["strong: datasets"] == "met"
    assert verdicts["isotropy shapes the embeddings"] == "not met"
    assert verdicts["top: release"] == "not decidable"
    assert found["strong: datasets"]["value"] == 54
    assert found["minimum: retrieval"]["value"] == pytest.approx(3, abs=0.5)
    assert any("one training run each" in note for note in found["minimum: retrieval"]["notes"])
    [row] = [
        row
        for row in json.loads(done.stdout)["expected"]
        if (row["model"], row["place"], row["measure"]) == ("isotropy", "beir18", "nDCG@10")
    ]
    assert row["threshold"] == 49.2


def test_published_values_are_those_of_the_sources(shared: Path) -> None:
    names = {"pyserini:bm25-flat": "bm25", "pyserini:bm25-multifield": "bm25:fields=multifield"}
    names |= {"all-mpnet-base-v2": "mpnet", "all-MiniLM-L6-v2": "minilm"}
    content = tomllib.loads((SHIPPED / "published.toml").read_text())
    shipped = {
        ((each.get("models") or [each["model"]])[0], dataset): (value, each["source"])
        for each in content["expected"]
        for dataset, value in each["values"].items()
    }
    with (shared / "reference" / "published_beir.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["dataset"] != "webis-touche2020-v3"]
    assert len(rows) == len(shipped)
    for row in rows:
        value, source = shipped[names.get(row["model"], row["model"]), row["dataset"].removesuffix("-dev")]
        assert value == pytest.approx(100 * float(row["ndcg_at_10"]), abs=1e-9)
        if "arXiv" not in row["source"]:
            assert row["source"].startswith(source.removesuffix("TASK.json"))


def test_a_reproduction_that_is_off_is_shown(claims: Claims, results: Results) -> None:
    results.add("bm25", "scifact", 0.6789)
    results.add("bm25:fields=multifield", "scifact", 0.6789)
    done = claims("published")
    assert done.exit_code == 0
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if "| scifact" in line
    ]
    assert [(row[0], row[5], row[7]) for row in rows] == [
        ("bm25", "+0.00", "met"),
        ("bm25:fields=multifield", "+1.42", "not met"),
    ]
    assert done.stdout.count("\n|") < 6
    assert "of 436 values" in done.stdout


def test_holds() -> None:
    assert holds(0.1 + 0.2, ">=", 0.3)
    assert not holds(0.1 + 0.2, ">", 0.3)
    assert holds(0.3, "<=", 0.1 + 0.2)
    assert not holds(0.3, "<", 0.1 + 0.2)
    assert holds(1.05, "=", 1.0, 0.05)
    assert not holds(1.06, "=", 1.0, 0.05)


def test_the_file_that_is_documented_is_one(claims: Claims, results: Results) -> None:
    page = (Path(__file__).parents[3] / "docs" / "claims.md").read_text()
    [shown] = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    [grammar] = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    for line in grammar.splitlines():
        rule = re.sub(r"\b(MEASURE|MODEL|PLACE)\b", "NAME", " ".join(line.split()))
        assert rule in " ".join((criteria.__doc__ or "").split()), line
    results.add("mpnet", "scifact", 0.5)
    found = json.loads(claims(shown, "--json").stdout)
    assert [claim["verdict"] for claim in found["claims"]] == [
        "not measured",
        "not measured",
        "not met",
        "not decidable",
    ]
    assert [row["source"] for row in found["expected"]] == ["their table 2", "their table 3"]


@pytest.mark.parametrize("name", ["brief", "published"])
def test_the_shipped_files_load_nothing_heavy(results: Results, tmp_path: Path, name: str) -> None:
    results.add("bm25", "scifact", queries={"q1": 0.5, "q2": 0.75})
    command = [sys.executable, "-c", PROBE, "claims", name, "--results", str(results.store.root)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    loaded = ended.stderr.splitlines()[-1]
    assert ended.returncode == 0, ended.stderr
    for heavy in ("torch", "faiss", "sentence_transformers", "transformers", "bm25s", "pandas"):
        assert f"'{heavy}'" not in loaded
    assert "bm25" in ended.stdout
