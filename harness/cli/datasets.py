"""``harness datasets``."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.main import State, one_line
from harness.cli.options import json_option, pass_state, plugin_option, print_json, print_table
from harness.spec import DatasetSpec, PluginError


@click.command("datasets")
@plugin_option
@json_option
@pass_state
def command(state: State, /, plugins: tuple[Path, ...], as_json: bool) -> None:
    """List the datasets known by name; any folder in BEIR format can be given by path instead."""
    rows = [
        {
            "name": name,
            "status": _status(spec, state.home),
            "split": spec.split,
            "exclude_self": spec.exclude_self,
            "summary": spec.summary,
            **({"citation": spec.citation, "licence": spec.licence} if as_json else {}),
        }
        for name, spec in sorted(state.registry(plugins).datasets.items())
    ]
    print_json(rows) if as_json else print_table(rows)


def _status(spec: DatasetSpec, home: Path) -> str:
    from harness.catalog import place

    try:
        return "ready" if place(spec, home).is_dir() else "built on first use"
    except PluginError as error:
        return f"broken: {one_line(str(error))}"
