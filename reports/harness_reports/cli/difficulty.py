"""``harness difficulty``: do scores or the lengths of query vectors predict which queries are hard?"""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.flags import note
from harness.cli.folding import shown
from harness.cli.options import completing, examples, results_option
from harness.cli.output import end_with_skipped


@click.command(
    "difficulty",
    **examples(
        "harness difficulty -m bm25 -d pydocs",
        "harness difficulty --json",
    ),
)
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    shell_complete=completing("results"),
    help="A row of `harness report`; may be repeated.",
)
@click.option("-d", "--dataset", "datasets", multiple=True, help="Only this dataset; may be repeated.")
@results_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the risk-coverage curves.")
@click.pass_context
def command(
    ctx: click.Context, models: tuple[str, ...], datasets: tuple[str, ...], results: Path, as_json: bool
) -> None:
    """Which queries are hard, as far as the scores tell.

    Rank correlation of each predictor with nDCG@10 and its risk-coverage curve, from stored runs. Files that cannot be
    read are named on stderr and left out; the exit code is then 1.
    """
    from dataclasses import asdict

    from harness.cli.main import State
    from harness.storage.atomic import dump_json
    from harness_reports.analysis.query_difficulty import difficulties, section
    from harness_reports.data.leaderboard import read_leaderboard
    from harness_reports.data.per_query import Evidence

    evidence = Evidence(read_leaderboard(results))
    found = difficulties(evidence, models, datasets, ctx.ensure_object(State).home)
    if as_json:
        click.echo(dump_json([{**asdict(one), "interval": one.interval.ends} for one in found]), nl=False)
    else:
        click.echo(shown(section(found)), nl=False)
    if evidence.lacking:
        note(evidence.lacking)
    end_with_skipped([*evidence.board.skipped, *evidence.skipped.values()])
