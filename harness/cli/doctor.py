"""``harness doctor``."""

from __future__ import annotations

from typing import Any

import click

from harness.cli.main import State
from harness.cli.options import dataset_options, json_option, pass_state, print_json, progress_bar


@click.command("doctor")
@click.argument("dataset")
@dataset_options
@json_option
@pass_state
def command(state: State, /, dataset: str, as_json: bool, **choice: Any) -> None:
    """Examine a dataset: duplicates, empty texts, dangling judgements, ids on both sides."""
    from harness.catalog import open_named
    from harness.doctor import examine

    with progress_bar() as progress:
        report = examine(open_named(dataset, state.registry(), state.home, progress=progress, **choice))
    if as_json:
        print_json(report.to_dict())
        return
    for finding in report.findings:
        click.echo(f"{finding.severity}: {finding.sentence}")
