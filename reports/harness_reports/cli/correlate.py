"""``harness correlate``: rank correlation of isotropy with nDCG@10 over stored results."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.folding import shown
from harness.cli.options import completing, examples, results_option
from harness.cli.output import end_with_skipped


@click.command(
    "correlate",
    **examples(
        "harness correlate",
        "harness correlate --suite beir14 --json",
    ),
)
@results_option
@click.option("--suite", shell_complete=completing("suites"), help="Only this suite's datasets.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(results: Path, suite: str | None, as_json: bool) -> None:
    """Rank correlation of isotropy with nDCG@10, with interval.

    Across models, and across the post-hoc transforms of each model that `harness transform` left. Where `harness
    compress` has run, also of the geometry with the loss by compression. Results that cannot be read are named on
    stderr and left out; the exit code is then 1.
    """
    from dataclasses import asdict

    from harness.storage.atomic import dump_json
    from harness_reports.analysis import compression_loss
    from harness_reports.analysis.isotropy_vs_ndcg import associations, section, sentence
    from harness_reports.data.leaderboard import read_leaderboard

    board = read_leaderboard(results, suite)
    found, losses = associations(board), compression_loss.losses(board)
    if as_json:
        content = [{**asdict(one), "interval": one.interval.ends} for one in found]
        both = {"associations": content, "sentence": sentence(found)}
        click.echo(dump_json(both | compression_loss.content(losses)), nl=False)
    else:
        parts = [section(found), *([compression_loss.section(losses)] if losses else [])]
        click.echo(shown("\n".join(parts)), nl=False)
    end_with_skipped(board.skipped)
