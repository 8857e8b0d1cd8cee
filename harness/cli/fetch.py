"""``harness fetch``."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.main import State
from harness.cli.options import (
    completing,
    json_option,
    offline_option,
    pass_state,
    plugin_option,
    print_json,
    progress_bar,
)
from harness.spec import UserError


@click.command("fetch")
@click.argument("names", nargs=-1, required=True, shell_complete=completing("models"))
@offline_option
@plugin_option
@json_option
@pass_state
def command(state: State, /, names: tuple[str, ...], offline: bool, plugins: tuple[Path, ...], as_json: bool) -> None:
    """Bring the weights of models, or build datasets, ahead of time. Weights are verified."""
    from harness.catalog import built
    from harness.fetch import obtain
    from harness.registry import unknown

    registry = state.registry(plugins)
    for name in names:
        if name not in registry.models and name not in registry.datasets:
            raise UserError(unknown("model or dataset", name, [*registry.models, *registry.datasets]))
    home = state.made_home
    folders: dict[str, str | None] = {}
    with progress_bar() as progress:
        for name in names:
            if name not in registry.models:
                folders[name] = str(built(registry.datasets[name], home, progress))
                continue
            weights = registry.models[name].spec.weights
            folders[name] = str(obtain(weights, home, offline=offline, progress=progress)) if weights else None
    if as_json:
        print_json(folders)
        return
    for name, folder in folders.items():
        click.echo(f"{name}: {folder or 'needs nothing fetched'}")
