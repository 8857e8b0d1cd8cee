"""``harness suites``."""

from __future__ import annotations

import click

from harness.cli.options import json_option, print_json, print_table


@click.command("suites")
@json_option
def command(as_json: bool) -> None:
    """List the suites: named groups of datasets with one average each."""
    from harness.catalog import SUITES

    rows = [{"name": name, "size": len(members), "datasets": list(members)} for name, members in SUITES.items()]
    print_json(rows) if as_json else print_table([{**row, "datasets": ", ".join(row["datasets"])} for row in rows])  # type: ignore[arg-type]
