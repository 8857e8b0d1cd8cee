"""``harness doctor``."""

from __future__ import annotations

import sys
from typing import Any

import click

from harness.cli.options import completing, dataset_choice, examples
from harness.cli.output import print_json
from harness.cli.session import Session, session_options


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
@session_options
def command(session: Session, /, dataset: str, **choice: Any) -> None:
    """Examine a dataset: duplicates, empty texts, dangling judgements, ids on both sides.

    Exit code 1 when there is a problem, which would bias the metrics; a note is for information only.
    """
    from harness.datasets.doctor import examine

    with session.progress_bar():
        report = examine(session.open_dataset(dataset, **choice))
    if session.as_json:
        print_json(report.to_dict())
    else:
        for finding in report.findings:
            click.echo(f"{finding.severity}: {finding.sentence}")
    if any(finding.severity == "problem" for finding in report.findings):
        sys.exit(1)
