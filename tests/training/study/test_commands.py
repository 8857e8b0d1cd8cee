"""The commands of a study are ones that ``harness`` has, whoever executes them."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from harness.cli.main import State, cli
from harness.datasets.catalog import suite
from harness.registry.manager import load_registry
from harness_reports.claims.parser import Known, read_claims
from harness_training.experiment.plans import plans
from harness_training.study import commands
from harness_training.study.commands import Parallel
from harness_training.study.definition import StudyFolder
from harness_training.study.parser import find_study, read_study


def parsed(words: list[str]) -> dict[str, object]:
    """The parameters of a command line, as click reads them."""
    name, *rest = words
    command = cli.get_command(click.Context(cli, obj=State()), name)
    if isinstance(command, click.Group):
        command, rest = command.commands[rest[0]], rest[1:]
    assert command
    return command.make_context(name, rest).params


@pytest.mark.parametrize("name", ["brief", "small"])
def test_every_command_line_is_valid(name: str, tmp_path: Path) -> None:
    study, folder = read_study(find_study(name), load_registry()), StudyFolder(tmp_path / name)
    labels = [study.label(plan) for plan in study.plans]
    for one in study.data:
        assert parsed(commands.data_words(one, folder))["folder"] == folder.path / "data" / one.name
    training = commands.train_words(study, folder, Parallel())
    assert parsed(training)["seeds"] == study.seeds
    assert parsed(commands.benchmark_words(study, folder, labels, Parallel()))["models"] == (*labels, *study.baselines)
    assert [parsed(words)["form"] for words in commands.report_words(study, folder)] == [*commands.REPORTS.values()]
    assert all(parsed(words) for _, words in commands.claims_words(study, folder))


def test_gpus_and_clusters_are_used_through_the_options_of_train_and_benchmark(tmp_path: Path) -> None:
    study, folder = read_study(find_study("brief"), load_registry()), StudyFolder(tmp_path)
    several = Parallel("processes")
    assert parsed(commands.train_words(study, folder, several))["one_per_gpu"]
    assert "--executor processes" in " ".join(commands.benchmark_words(study, folder, [], several))
    cluster = Parallel("ray", "auto", 4)
    train = parsed(commands.train_words(study, folder, cluster))
    assert (train["executor"], train["address"], train["cpus_per_task"]) == ("ray", "auto", 4)
    assert "--executor ray --address auto --cpus-per-task 4" in " ".join(
        commands.benchmark_words(study, folder, [], cluster)
    )


def test_the_files_that_the_commands_read_say_what_the_study_says(tmp_path: Path) -> None:
    study, folder = read_study(find_study("small"), load_registry()), StudyFolder(tmp_path)
    commands.write_inputs(study, folder)
    for name, settings in study.experiments.items():
        [plan] = plans(str(folder.experiment(name)), (), (), 1)
        assert (plan.experiment, plan.run, plan.settings) == (name, "seed42", settings)
    assert suite(str(folder.suite)).datasets == ("pydocs",)
    known = Known({"bm25", "minilm"}, {"pydocs"}, {"geometry.documents.isotropy"})
    claims = read_claims(folder.claims, known)
    assert [claim.name for claim in claims.claims] == ["primary", "more isotropic", "better than its start"]
    assert claims.models["isotropy"] == ("isotropy:run=seed42", "isotropy:run=seed43")
    assert claims.claims[0].criterion.factors == {"isotropy": 1.0, "baseline": -1.0}
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.toml")}
    commands.write_inputs(study, folder)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.toml")} == before
