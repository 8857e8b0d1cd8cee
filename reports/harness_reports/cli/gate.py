"""``harness gate``: for continuous integration, whether models have become worse than a baseline."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Literal, cast

import click

from harness.cli.folding import shown
from harness.cli.options import examples, json_option
from harness.cli.output import end_with_skipped, print_json
from harness_reports.data.leaderboard import MEASURE


@click.command(
    "gate",
    **examples(
        "harness gate results --baseline baseline-results",
        "harness gate results --baseline released --worse-than 1 --undecided fail",
    ),
)
@click.argument("results", type=click.Path(path_type=Path))
@click.option("--baseline", type=click.Path(path_type=Path), required=True, help="The results to compare with.")
@click.option(
    "--worse-than",
    type=click.FloatRange(0, 100),
    default=0.5,
    show_default=True,
    help="The loss that is tolerated, in points (1 is 0.01 of nDCG@10).",
)
@click.option("-m", "--model", "models", multiple=True, help="Only this model; may be repeated.")
@click.option("--baseline-model", help="The model in the baseline results, if it has another name there.")
@click.option("-d", "--dataset", "datasets", multiple=True, help="Only this dataset; may be repeated.")
@click.option("--measure", default=MEASURE, show_default=True, help="One of the measures that the results hold.")
@click.option(
    "--undecided",
    type=click.Choice(["pass", "fail"]),
    default="pass",
    show_default=True,
    help="What follows if the queries cannot tell whether a model lost more than that.",
)
@click.option(
    "--summary",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Append a summary in GitHub's Markdown to this file [default: $GITHUB_STEP_SUMMARY].",
)
@json_option
def command(
    results: Path,
    baseline: Path,
    worse_than: float,
    models: tuple[str, ...],
    baseline_model: str | None,
    datasets: tuple[str, ...],
    measure: str,
    undecided: str,
    summary: Path | None,
    as_json: bool,
) -> None:
    """Fail if a model is worse than its baseline beyond chance.

    Compares the results of each model with those of the same name in the baseline folder. Exit code 1 if a model lost
    more than the margin on a dataset, or over all, beyond chance, if a result is missing, or if the dataset changed.
    """
    from harness_reports.gate.gate import gate
    from harness_reports.gate.render import content, line
    from harness_reports.gate.render import summary as summarised

    choice = cast(Literal["pass", "fail"], undecided)
    found = gate(
        *(results, baseline, worse_than / 100),
        models=models,
        baseline_model=baseline_model,
        datasets=datasets,
        measure=measure,
        undecided=choice,
    )
    if place := summary or os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(place).open("a", encoding="utf-8") as stream:
            stream.write(summarised(found))
    if as_json:
        print_json(content(found))
    else:
        click.echo(shown(line(found)))
    for warning in found.warnings:
        click.echo(f"warning: {warning}", err=True)
    end_with_skipped([*found.evidence.board.skipped, *found.evidence.skipped.values()])
    if not found.passed:
        sys.exit(1)
