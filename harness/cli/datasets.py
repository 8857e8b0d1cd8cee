"""``harness datasets``."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.main import State
from harness.cli.options import json_option, pass_state, plugin_option, print_json, print_table


@click.command("datasets")
@plugin_option
@json_option
@pass_state
def command(state: State, /, plugins: tuple[Path, ...], as_json: bool) -> None:
    """List the datasets known by name; any folder in BEIR format can be given by path instead."""
    from harness.catalog import place

    rows = [
        {
            "name": name,
            "status": "ready" if place(spec, state.home).is_dir() else "built on first use",
            "split": spec.split,
            "exclude_self": spec.exclude_self,
            "summary": spec.summary,
            **({"citation": spec.citation, "licence": spec.licence} if as_json else {}),
        }
        for name, spec in sorted(state.registry(plugins).datasets.items())
    ]
    print_json(rows) if as_json else print_table(rows)
