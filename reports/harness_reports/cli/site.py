"""``harness site``: a static site of stored results."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.flags import note
from harness.cli.options import completing, examples
from harness.cli.output import end_with_skipped, progress_bar


@click.command(
    "site",
    **examples(
        "harness site results -o public",
        "harness site results -o public --title 'Our board' --suite nano",
    ),
)
@click.argument("results", type=click.Path(path_type=Path), default=Path("results"))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("public"),
    show_default=True,
    help="The folder to write into.",
)
@click.option("--title", default="Retrieval leaderboard", show_default=True, help="The site's title.")
@click.option("--suite", shell_complete=completing("suites"), help="Only this suite's datasets.")
@click.option(
    "--comparisons",
    type=click.IntRange(0),
    default=100,
    show_default=True,
    metavar="N",
    help="How many pairs of models get a page, those of the best models first.",
)
def command(results: Path, output: Path, title: str, suite: str | None, comparisons: int) -> None:
    """Write a static site from stored results: a page for each model, dataset and comparison, a feed, and JSON.

    RESULTS is the folder that results are kept in (default: results). A folder that exists must be empty or be one
    that this command wrote; other files in it stay. Results that cannot be read are named on stderr; the exit code is
    then 1.
    """
    from harness_reports.site.build import build
    from harness_reports.site.writer import check_folder, write_site

    check_folder(output)
    with progress_bar() as progress:
        built = build(results, title, suite, comparisons, progress)
    write_site(built.files, output)
    click.echo(output / "index.html")
    if built.left_out:
        note(f"{built.left_out} further pairs of models have no page; --comparisons raises the limit")
    end_with_skipped(built.skipped)
