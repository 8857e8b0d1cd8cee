"""``harness compare``: models against each other, query by query, from stored results alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from harness.cli.flags import note
from harness.cli.folding import shown
from harness.cli.options import completing, examples, results_option
from harness.cli.output import end_with_skipped, progress_bar
from harness_reports.data.leaderboard import MEASURE


@click.command(
    "compare",
    **examples(
        "harness compare bm25 minilm",
        "harness compare bm25 bm25:fields=multifield -d pydocs --queries 10",
    ),
)
@click.argument("models", nargs=-1, metavar="MODEL MODEL ...", shell_complete=completing("results"))
@results_option
@click.option("-d", "--dataset", "datasets", multiple=True, help="Only this dataset; may be repeated.")
@click.option("--measure", default=MEASURE, show_default=True, help="One of the measures that the results hold.")
@click.option(
    "--queries",
    type=click.IntRange(0),
    default=3,
    show_default=True,
    help="How many queries that moved most to show per dataset.",
)
@click.option("--seeds", is_flag=True, help="Training runs that differ in their seed alone as one model, their mean.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of Markdown.")
@click.pass_context
def command(
    ctx: click.Context,
    models: tuple[str, ...],
    results: Path,
    datasets: tuple[str, ...],
    measure: str,
    queries: int,
    seeds: bool,
    as_json: bool,
) -> None:
    """Which differences between models are real, query by query.

    The first model is the baseline. Names are those of `harness report`. Files that cannot be read are named on stderr
    and left out; the exit code is then 1.
    """
    from harness.cli.main import State
    from harness.storage.atomic import dump_json
    from harness_reports.compare.clean import clean
    from harness_reports.compare.compare import compare, with_documents
    from harness_reports.compare.render import content, markdown
    from harness_reports.compare.unjudged import unjudged
    from harness_reports.data.leaderboard import read_leaderboard
    from harness_reports.data.per_query import Evidence

    home = ctx.ensure_object(State).home
    evidence = Evidence(read_leaderboard(results, seeds=seeds), home)
    found = compare(evidence, models, datasets, measure=measure, moves=queries)
    found = with_documents(found, evidence, home / "corpora")
    with progress_bar() as progress:
        found = replace(found, unjudged=unjudged(found, evidence, home, progress), clean=clean(found, evidence))
    click.echo(dump_json(content(found)).decode() if as_json else shown(markdown(found)), nl=False)
    for warning in found.warnings:
        click.echo(f"warning: {warning}", err=True)
    for sentence in filter(None, (evidence.lacking, evidence.unclustered)):
        note(sentence)
    end_with_skipped([*evidence.board.skipped, *evidence.skipped.values()])
