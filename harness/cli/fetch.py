"""``harness fetch``."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.main import State
from harness.cli.options import json_option, offline_option, pass_state, plugin_option, print_json, progress_bar


@click.command("fetch")
@click.argument("names", nargs=-1, required=True)
@offline_option
@plugin_option
@json_option
@pass_state
def command(state: State, /, names: tuple[str, ...], offline: bool, plugins: tuple[Path, ...], as_json: bool) -> None:
    """Bring the weights of models, or build datasets, ahead of time; verified, resumed by running it again."""
    from harness.catalog import built
    from harness.fetch import obtain

    registry = state.registry(plugins)
    folders: dict[str, str | None] = {}
    with progress_bar() as progress:
        for name in names:
            if name in registry.datasets and name not in registry.models:
                folders[name] = str(built(registry.datasets[name], state.home, progress))
                continue
            weights = registry.model(name).spec.weights
            folders[name] = str(obtain(weights, state.home, offline=offline, progress=progress)) if weights else None
    if as_json:
        print_json(folders)
        return
    for name, folder in folders.items():
        click.echo(f"{name}: {folder or 'needs nothing fetched'}")
