"""``harness datasets``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from harness.cli.flags import one_line, show_trace
from harness.cli.main import State
from harness.cli.options import examples, json_option, pass_state, plugin_option
from harness.cli.output import print_json, print_table
from harness.types import DatasetSpec, PluginError


@click.command(
    "datasets",
    **examples(
        "harness datasets",
        "harness datasets --json",
    ),
)
@plugin_option
@json_option
@pass_state
def command(state: State, /, plugins: tuple[Path, ...], as_json: bool) -> None:
    """List the datasets known by name; any folder in BEIR format can be given by path instead.

    Status: ready; built on first use; needs fetch; needs licence (`harness fetch NAME` says how to get it). A name with
    a slash is part of a group, whose name means all of them. Plug-ins that failed to load are listed as broken.
    """
    registry, rows = state.registry(plugins), list[dict[str, Any]]()
    for name, spec in sorted(registry.datasets.items()):
        counts = asdict(spec.counts) if spec.counts else {}
        row = {"name": name, "status": _status(spec, state.home), "documents": counts.get("documents")}
        row |= {"queries": counts.get("queries"), "split": spec.split, "exclude_self": spec.exclude_self}
        row["summary"] = spec.summary
        if as_json:
            row |= {"judgements": counts.get("judgements"), "tokens": spec.tokens or None, "citation": spec.citation}
            row |= {"licence": spec.licence, "sources": [asdict(source) for source in spec.sources]}
        rows.append(row)
    for broken in registry.broken:  # what datasets it has is not known
        show_trace(broken.trace)
        rows.append({**dict.fromkeys(rows[0]), "name": broken.plugin, "status": "broken", "summary": broken.reason})
    print_json(rows) if as_json else print_table(rows, intfmt=",", missingval="")


def _status(spec: DatasetSpec, home: Path) -> str:
    from harness.datasets.catalog import status

    try:
        return status(spec, home)
    except PluginError as error:
        return f"broken: {one_line(str(error))}"
