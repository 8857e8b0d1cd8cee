"""``harness suites``."""

from __future__ import annotations

import click

from harness.cli.options import examples, json_option
from harness.cli.output import print_json, print_table


@click.command(
    "suites",
    **examples(
        "harness suites",
        "harness suites --json",
    ),
)
@json_option
def command(as_json: bool) -> None:
    """List the suites: named choices of datasets with one average each."""
    from harness.datasets import catalog

    rows = [
        {"name": name, "size": len(members), "datasets": list(members)}
        for name, members in catalog.catalogue().suites.items()
    ]
    print_json(rows) if as_json else print_table([{**row, "datasets": ", ".join(row["datasets"])} for row in rows])  # type: ignore[arg-type]
