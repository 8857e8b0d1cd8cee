"""``harness report``: leaderboards from stored results alone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.flags import note
from harness.cli.folding import shown
from harness.cli.options import completing, examples, plugin_option, results_option

if TYPE_CHECKING:
    from harness_reports.data.leaderboard import Leaderboard
    from harness_reports.data.per_query import Evidence

FORMS = ("markdown", "latex", "html", "json", "csv")


@click.command(
    "report",
    **examples(
        "harness report --suite demo --baseline bm25",
        "harness report --format html > page.html",
    ),
)
@results_option
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMS),
    default="markdown",
    show_default=True,
    help="How the tables are printed; csv: the flat rows alone; json: rows, averages and tables; html: a page.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="A file instead of the screen.")
@click.option(
    "--runs", type=click.Path(path_type=Path), help="With html: the folder of training runs whose curves it shows."
)
@click.option("--title", metavar="TEXT", default="", help="With html: what the page is called.")
@click.option(
    "--suite", shell_complete=completing("suites"), help="Only this suite's datasets, all of them, with its average."
)
@click.option(
    "--baseline",
    metavar="MODEL",
    shell_complete=completing("results"),
    help="Mark what differs from this model beyond chance.",
)
@click.option("--full", is_flag=True, help="All tables and notes, also on a terminal, which shows the scores alone.")
@click.option("--seeds", is_flag=True, help="Training runs that differ in their seed alone as one row, their mean.")
@plugin_option
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.pass_context
def command(
    ctx: click.Context,
    results: Path,
    form: str,
    output: Path | None,
    runs: Path | None,
    title: str,
    suite: str | None,
    baseline: str | None,
    full: bool,
    seeds: bool,
    plugins: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Tables of nDCG@10, geometry and cost from stored results.

    Results that cannot be read, or that contradict another one, are named on stderr; the exit code is then 1.
    """
    from harness.cli.main import State
    from harness.storage.atomic import write_file
    from harness_reports.data.leaderboard import read_leaderboard
    from harness_reports.data.per_query import Evidence

    if plugins:
        ctx.ensure_object(State).registry(plugins)
    board = read_leaderboard(results, suite, seeds=seeds)
    evidence = Evidence(board, ctx.ensure_object(State).home)
    if form == "html" and not as_json:
        from harness_reports.html.page import page
        from harness_reports.tables.sections import report as sections

        told = sections(board, evidence, baseline)
        text = page(board, evidence, report=told, runs=runs, suite=suite or "", title=title)
    else:
        brief = on_terminal() and not (full or output)
        text = render(board, "json" if as_json else form, evidence, baseline, brief=brief)
    if output:
        write_file(output, lambda stream: stream.write(text.encode()))
    else:
        click.echo(shown(text) if form == "markdown" and not as_json else text, nl=False)
    for sentence in filter(None, (evidence.lacking, evidence.unclustered)):
        note(sentence)
    for warning in board.warnings():
        click.echo(f"warning: {warning}", err=True)
    skipped = [f"skipped: {one.place}: {one.reason}" for one in (*board.skipped, *evidence.skipped.values())]
    faults = [*skipped, *dict.fromkeys(f"disagree: {words}" for words in board.disputed.values())]
    for fault in faults:
        click.echo(fault, err=True)
    if faults:
        sys.exit(1)


def on_terminal() -> bool:
    """Whether the report is read on a terminal."""
    return sys.stdout.isatty()


def render(
    board: Leaderboard, form: str, evidence: Evidence, baseline: str | None = None, *, brief: bool = False
) -> str:
    """The board in one of `FORMS`; UserError if there is no such baseline. ``brief``: Markdown has the scores alone."""
    from harness.storage.atomic import dump_json
    from harness_reports.data.rows import content, csv_text
    from harness_reports.render.latex import latex
    from harness_reports.render.markdown import markdown
    from harness_reports.tables.sections import report as sections

    if form == "csv":
        return csv_text(board)
    built = sections(board, evidence, baseline, brief=brief and form == "markdown")
    if form == "json":
        return dump_json({**content(board), **built.content()}).decode()
    printed: Callable[..., str] = {"markdown": markdown, "latex": latex}[form]
    return printed(built)
