"""``harness export``: stored results in the formats of other tools."""

from __future__ import annotations

from pathlib import Path

import click

from harness import UserError
from harness.cli.options import completing, examples, results_option
from harness.cli.output import end_with_skipped


@click.command(
    "export",
    **examples(
        "harness export --format mteb -o exported",
        "harness export --format every-eval-ever --organisation Lab -o exported",
    ),
)
@results_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["mteb", "eval-results", "every-eval-ever"]),
    required=True,
    help="A folder for mteb.ResultCache, .eval_results files for the hub, or records of Every Eval Ever.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The folder to write into.")
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    shell_complete=completing("results"),
    help="Only this row (default: all).",
)
@click.option("--suite", shell_complete=completing("suites"), help="Only this suite's datasets.")
@click.option("--organisation", metavar="NAME", help="With every-eval-ever: who measured.")
@click.option(
    "--relation",
    type=click.Choice(["first_party", "third_party", "collaborative", "other"]),
    default="other",
    show_default=True,
    help="With every-eval-ever: what they are to those who made the models.",
)
@click.pass_context
def command(
    ctx: click.Context,
    results: Path,
    form: str,
    output: Path,
    models: tuple[str, ...],
    suite: str | None,
    organisation: str | None,
    relation: str,
) -> None:
    """Write stored results in the formats of other tools: MTEB, the hub, Every Eval Ever.

    Failed cells and those over some of the queries are left out. Results that cannot be read are named on stderr; the
    exit code is then 1.
    """
    from harness.cli.main import State
    from harness.datasets.catalog import unknown
    from harness_reports.data.leaderboard import read_leaderboard
    from harness_reports.data.per_query import Evidence
    from harness_reports.export.every_eval_ever import write_records
    from harness_reports.export.hub import on_the_hub, write_hub
    from harness_reports.export.mteb import write_mteb

    if form == "every-eval-ever" and not (organisation or "").strip():
        raise UserError("A record of Every Eval Ever says who measured; add --organisation NAME.")
    board = read_leaderboard(results, suite)
    for name in models:
        if name not in board.models:
            raise UserError(unknown("row", name, board.models))
    rows = [cell for cell in board.rows() if not models or cell.model in models]
    cells = [cell for cell in rows if cell.score is not None and not cell.apart]
    if form == "eval-results":
        foreign = sorted({cell.dataset for cell in cells if not on_the_hub(cell)})
        cells = [cell for cell in cells if on_the_hub(cell)]
        if foreign:
            click.echo(f"left out: {', '.join(foreign)}: no benchmark on the hub", err=True)
    if odd := [f"{cell.model} on {cell.dataset}" for cell in rows if cell.score is None or cell.apart]:
        click.echo(f"left out: {', '.join(odd)}: failed, partial, of an unusual setting or without nDCG@10", err=True)
    if not cells:
        raise UserError(f"None of the results in {results} can be exported as {form}; measure a dataset of beir18.")
    evidence = Evidence(board, ctx.ensure_object(State).home)
    if form == "every-eval-ever":
        written = write_records(cells, output, evidence, str(organisation), relation)
    else:
        written = (write_mteb if form == "mteb" else write_hub)(cells, output)
    for path in written:
        click.echo(path)
    end_with_skipped([*board.skipped, *evidence.skipped.values()])
