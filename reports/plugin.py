"""``harness report``: leaderboards from stored results alone."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from harness import hookimpl


@click.command("report")
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    default=Path("results"),
    show_default=True,
    help="Where results are kept.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["markdown", "csv", "html"]),
    default="markdown",
    show_default=True,
    help="How the tables are printed; html: one page to explore.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="A file instead of the screen.")
@click.option(
    "--runs", type=click.Path(path_type=Path), help="With html: the folder of training runs whose curves it shows."
)
@click.option("--suite", help="Only this suite's datasets, all of them, with its average.")
@click.option("--plugin", "plugins", multiple=True, type=click.Path(path_type=Path), help="A plug-in file to load too.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the rows of the csv form and the averages as JSON instead."
)
@click.pass_context
def report(
    ctx: click.Context,
    results: Path,
    form: str,
    output: Path | None,
    runs: Path | None,
    suite: str | None,
    plugins: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Tables of nDCG@10, geometry and cost from stored results.

    Results that cannot be read are named on stderr and left out; the exit code is then 1.
    """
    from harness.atomic import dump_json, write_file
    from harness.cli.main import State
    from reports.leaderboard import read_leaderboard
    from reports.markdown import markdown
    from reports.rows import content, csv_text

    if plugins:
        ctx.ensure_object(State).registry(plugins)
    board = read_leaderboard(results, suite)
    if form == "html" and not as_json:
        from reports.evidence import Evidence
        from reports.page import page

        text = page(board, Evidence(board), runs=runs, suite=suite or "")
    else:
        text = dump_json(content(board)).decode() if as_json else csv_text(board) if form == "csv" else markdown(board)
    if output:
        write_file(output, lambda stream: stream.write(text.encode()))
    else:
        click.echo(text, nl=False)
    for skipped in board.skipped:
        click.echo(f"skipped: {skipped.path}: {skipped.reason}", err=True)
    if board.skipped:
        sys.exit(1)


@hookimpl
def harness_commands(group: click.Group) -> None:
    """Adds ``harness report``."""
    group.add_command(report)
