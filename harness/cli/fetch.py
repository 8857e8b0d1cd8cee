"""``harness fetch``."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.main import State
from harness.cli.options import json_option, offline_option, pass_state, plugin_option, print_json, progress_bar
from harness.spec import UserError


@click.command("fetch")
@click.argument("names", nargs=-1, required=True)
@click.option(
    "--from", "source", type=click.Path(path_type=Path), help="Folder with the original files of a licensed dataset."
)
@offline_option
@plugin_option
@json_option
@pass_state
def command(
    state: State,
    /,
    names: tuple[str, ...],
    source: Path | None,
    offline: bool,
    plugins: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Bring the weights of models, or build datasets, ahead of time. Weights are verified.

    Of a dataset that only its owner gives, tell whom to ask, and with --from convert the original files.
    """
    from harness.gated import CONVERTERS

    if source or (len(names) == 1 and names[0] in CONVERTERS):
        return _gated(state, names, source, as_json)
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


def _gated(state: State, names: tuple[str, ...], source: Path | None, as_json: bool) -> None:
    """Converts a licensed dataset, or tells how to come by it and fails."""
    from harness.gated import CONVERTERS, INSTRUCTIONS, account, convert, converted

    name = names[0]
    if len(names) > 1 or name not in CONVERTERS:
        raise UserError(f"--from goes with one licensed dataset: harness fetch {'|'.join(CONVERTERS)} --from FOLDER.")
    if source:
        with progress_bar() as progress:
            folder = convert(name, source.expanduser().resolve(), state.made_home, progress)
    elif (found := converted(name, state.home)) is None:
        click.echo(INSTRUCTIONS[name], err=as_json)
        raise UserError(
            f"{name} needs its owner's leave, so nothing was fetched; with the files at hand, type: "
            f"harness fetch {name} --from FOLDER"
        )
    else:
        folder = found
    if as_json:
        print_json({name: str(folder)})
        return
    click.echo("\n".join([f"{name}: {folder}", *account(folder)]))
