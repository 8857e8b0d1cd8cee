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
@click.argument("names", nargs=-1, shell_complete=completing("models", "datasets", "groups"))
@click.option("--suite", "suites", multiple=True, help="Every dataset of a suite.")
@offline_option
@plugin_option
@json_option
@pass_state
def command(
    state: State,
    /,
    names: tuple[str, ...],
    suites: tuple[str, ...],
    offline: bool,
    plugins: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Bring datasets and the weights of models ahead of time. All of it is verified.

    For a dataset under licence, this says who grants access and what to put where; the exit code is then 2.
    """
    from harness.catalog import looks_like_path, status, suite, unknown
    from harness.delivery import obtain as dataset
    from harness.fetch import obtain as model
    from harness.named import expand

    registry = state.registry(plugins)
    listed = [entry for text in suites for entry in suite(text).datasets]
    wanted = expand(
        [*names, *(e for e in listed if e in {*registry.datasets, *registry.groups} or not looks_like_path(e))],
        registry,
    )
    if not wanted:
        raise UserError("Nothing to fetch is named; type: harness fetch NAME, or harness fetch --suite NAME")
    for name in wanted:
        if name not in registry.models and name not in registry.datasets:
            known = [*registry.models, *registry.datasets, *registry.groups]
            raise UserError(unknown("model or dataset", name, known))
    home = state.made_home
    folders: dict[str, str | None] = {}
    gated = [n for n in wanted if n in registry.datasets and status(registry.datasets[n], home) == "needs licence"]
    with progress_bar() as progress:
        for name in wanted:
            if name in gated:
                folders[name] = None
            elif name in registry.datasets:
                spec, known_specs = registry.datasets[name], registry.datasets.values()
                folders[name] = str(dataset(spec, home, offline=offline, known=known_specs, progress=progress))
            else:
                weights = registry.models[name].spec.weights
                folders[name] = str(model(weights, home, offline=offline, progress=progress)) if weights else None
    if as_json:
        print_json(folders)
    else:
        for name, folder in folders.items():
            if name not in gated:
                click.echo(f"{name}: {folder or 'needs nothing fetched'}")
    for name in gated:
        click.echo(f"{registry.datasets[name].instructions.strip()}\n", err=True)
    if gated:
        raise UserError(
            f"{', '.join(gated)} not fetched: a licence is needed; do what is said above, then type: "
            f"harness fetch {gated[0]} --from FOLDER"
        )
