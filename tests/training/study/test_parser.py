"""Study files: every mistake is one sentence with its place, before any work starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.registry.manager import load_registry
from harness_training.study.parser import SHIPPED, find_study, read_study

SMALL = (SHIPPED / "small.toml").read_text()


def test_shipped_studies_are_sound() -> None:
    registry = load_registry()
    studies = {file.stem: read_study(file, registry) for file in SHIPPED.glob("*.toml")}
    assert set(studies) == {"brief", "small"}
    brief = studies["brief"]
    assert [plan.experiment for plan in brief.plans] == ["baseline", "isotropy", "frozen"]
    assert brief.experiments["isotropy"].isotropy_weight == 1.0
    assert brief.experiments["frozen"].freeze_base
    assert len(brief.entries) == 19  # BEIR's 18 and MS MARCO
    assert brief.data[0].words == ("data", "msmarco", "--triplets", "500000")
    assert find_study("brief.toml") == find_study("brief") == SHIPPED / "brief.toml"


def test_an_experiments_own_lines_come_after_the_common_settings(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(SMALL.replace("frozen = { epochs = 3 }", "stronger = { isotropy_weight = 5, epochs = 2 }"))
    study = read_study(file, load_registry())
    assert study.experiments["stronger"].isotropy_weight == 5
    assert study.experiments["stronger"].dim == study.experiments["baseline"].dim == 256
    assert [study.label(plan) for plan in study.plans[2:5]] == [
        "isotropy:run=seed42",
        "isotropy:run=seed43",
        "isotropy:experiment=stronger,run=seed42",
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[training]", "[trainig]", "line {line}, column 1: There is no key 'trainig'"),
        ("seeds = 2", "seeds = 0", "line {line}, column 1: seeds is 0, but it must be a number of runs"),
        ("dim = 256", "dims = 256", "line {line}, column 1: There is no setting 'dims'; did you mean dim."),
        ("dim = 256", "dim = 0", "line {line}, column 1: dim cannot be set: 0 is below 1"),
        ("limit = 640 }\niso", "limits = 640 }\niso", ", column 14: There is no setting 'limits'"),
        (
            'base = "minilm"',
            'base = "minilmm"',
            "line {line}, column 1: There is no model 'minilmm'; did you mean minilm.",
        ),
        ("limit = 1600", "limits = 1600", "line {line}, column 1: No such option '--limits'"),
        ('mine = "pydocs-train"', 'mine = "pydoc"', "line {line}, column 1: There is no dataset or folder 'pydoc'"),
        ('mine = "pydocs-train"', 'dig = "pydocs-train"', "[data.docstrings] needs exactly one of set, msmarco, mine"),
        ('"bm25", "minilm"', '"bm52", "minilm"', "line {line}, column 1: There is no model 'bm52'"),
        ('["pydocs"]', '["pydcos"]', "line {line}, column 1: There is no dataset or folder 'pydcos'"),
        ('["pydocs"]', "[]", "nothing is evaluated; add suites or datasets"),
        (
            'experiment = "isotropy"',
            'experiment = "sotropy"',
            "There is no experiment 'sotropy'; did you mean isotropy.",
        ),
        ('against = "baseline"', 'against = "isotropy"', "There is no other model in this study 'isotropy'"),
        ('against = "baseline"', 'against = "bm25"\non = "scifact"', "There is no dataset or suite in this study 'sci"),
        (
            'against = "baseline"',
            'against = "bm25"\nover = "runs"',
            'over is \'runs\', but it must be "datasets" or "q',
        ),
        ("isotropy > minilm on pydocs", "isotropy > > minilm on pydocs", "the criterion cannot be read"),
        ("isotropy > minilm on pydocs", "isotropi > minilm on pydocs", "There is no model 'isotropi'"),
        ('title = "', 'claims = "nowhere"\ntitle = "', "There is no claims file nowhere"),
        ("[primary]", "[[claim]]", "[primary] is missing"),
        ("[primary]", "[primary", "is not TOML"),
    ],
)
def test_a_mistake_is_a_sentence_with_its_place(old: str, new: str, said: str, harness, tmp_path: Path) -> None:
    assert old in SMALL
    file = tmp_path / "mine.toml"
    file.write_text(SMALL.replace(old, new))
    done = harness("study", "run", file)
    assert done.code == 2
    line = SMALL[: SMALL.index(old)].count("\n") + 1
    assert said.format(line=line) in done.err
    assert len(done.err.splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"home", "mine.toml"}


def test_a_study_that_does_not_exist_is_named(harness) -> None:
    done = harness("study", "plan", "larger")
    assert done.code == 2
    assert "There is no study file larger; those that come with the harness are brief and small" in done.err
    assert "small: A small study on embedded data" in harness("study", "list").out
    assert harness("study", "show", "small").out == SMALL
