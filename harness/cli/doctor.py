"""``harness doctor``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from harness.cli.flags import examples
from harness.cli.main import State
from harness.cli.options import (
    completing,
    dataset_choice,
    json_option,
    offline_option,
    pass_state,
    plugin_option,
    print_json,
    progress_bar,
)


@click.command(
    "doctor",
    **examples(
        "harness doctor pydocs",
        "harness doctor path/to/folder --split dev",
    ),
)
@click.argument("dataset", shell_complete=completing("datasets"))
@dataset_choice(
    limit="Only the first N judged queries, beside all documents.",
    exclude="Whether a query's own document is left out of its ranking (default: what the dataset says).",
)
@offline_option
@plugin_option
@json_option
@pass_state
def command(
    state: State, /, dataset: str, offline: bool, plugins: tuple[Path, ...], as_json: bool, **choice: Any
) -> None:
    """Examine a dataset: duplicates, empty texts, dangling judgements, ids on both sides.

    Exit code 1 when there is a problem (what bends the figures); a note is worth knowing and no more.
    """
    from harness.datasets.doctor import examine
    from harness.evaluation.open_datasets import open_named

    with progress_bar() as progress:
        registry, home = state.registry(plugins), state.made_home
        report = examine(open_named(dataset, registry, home, offline=offline, progress=progress, **choice))
    if as_json:
        print_json(report.to_dict())
    else:
        for finding in report.findings:
            click.echo(f"{finding.severity}: {finding.sentence}")
    if any(finding.severity == "problem" for finding in report.findings):
        sys.exit(1)
