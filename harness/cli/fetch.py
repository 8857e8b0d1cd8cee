"""``harness fetch``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.flags import examples
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
from harness.types import UserError

if TYPE_CHECKING:
    from harness.registry.manager import Registry


@click.command(
    "fetch",
    **examples(
        "harness fetch minilm scifact",
        "harness fetch robust04 --from path/to/originals",
    ),
)
@click.argument("names", nargs=-1, shell_complete=completing("models", "datasets", "groups"))
@click.option("--suite", "suites", multiple=True, shell_complete=completing("suites"), help="Every dataset of a suite.")
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    help="Folder with the original files of a dataset under licence, to convert them.",
)
@offline_option
@plugin_option
@json_option
@pass_state
def command(
    state: State,
    /,
    names: tuple[str, ...],
    suites: tuple[str, ...],
    source: Path | None,
    offline: bool,
    plugins: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Bring datasets and the weights of models ahead of time. All of it is verified.

    For a dataset under licence, this says who grants access and what to put where (the exit code is then 2), and with
    --from converts the original files.
    """
    if source is not None:
        return _print(_converted(state, names, suites, source), as_json)
    from harness.datasets.acquire import obtain as dataset
    from harness.datasets.catalog import status
    from harness.download.hub_models import obtain as snapshot
    from harness.download.pinned_models import obtain as model

    registry = state.registry(plugins)
    wanted = _wanted(names, suites, registry)
    home = state.made_home
    gated = [n for n in wanted if n in registry.datasets and status(registry.datasets[n], home) == "needs licence"]
    folders: dict[str, Path | None] = {}
    with progress_bar() as progress:
        for name in wanted:
            folders[name] = None
            if name in gated:
                continue
            if name in registry.datasets:
                spec, known = registry.datasets[name], registry.datasets.values()
                folders[name] = dataset(spec, home, offline=offline, known=known, progress=progress)
            elif name not in registry.models:
                repository = registry.model(name).repository
                folders[name] = snapshot(repository, home, offline=offline, renew=True, progress=progress)
            elif weights := registry.models[name].spec.files.weights:
                folders[name] = model(weights, home, offline=offline, progress=progress)
    _print(folders if as_json else {name: folder for name, folder in folders.items() if name not in gated}, as_json)
    for name in gated:
        click.echo(registry.datasets[name].instructions.strip() + "\n", err=as_json)
    if gated:
        raise UserError(
            f"{', '.join(gated)} not fetched: a licence is needed; do what is said above, then type: "
            f"harness fetch {gated[0]} --from FOLDER"
        )


def _wanted(names: tuple[str, ...], suites: tuple[str, ...], registry: Registry) -> list[str]:
    """Models and datasets, groups taken apart; folders among a suite's entries are here already."""
    from harness.datasets.catalog import looks_like_path, suite, unknown
    from harness.evaluation.open_datasets import expand

    known = {*registry.models, *registry.datasets, *registry.groups}
    listed = [entry for text in suites for entry in suite(text).datasets]
    wanted = expand([*names, *(entry for entry in listed if entry in known or not looks_like_path(entry))], registry)
    if not wanted:
        raise UserError("Nothing to fetch is named; type: harness fetch NAME, or harness fetch --suite NAME")
    for name in wanted:
        if name not in known and not ((":" in name or "/" in name) and registry.model(name).spec.files.repository):
            raise UserError(unknown("model or dataset", name, known))
    return wanted


def _converted(state: State, names: tuple[str, ...], suites: tuple[str, ...], source: Path) -> dict[str, Path | None]:
    from harness.datasets.converters import CONVERTERS, convert

    if len(names) != 1 or suites or names[0] not in CONVERTERS:
        raise UserError(
            f"--from goes with one dataset under licence: harness fetch {'|'.join(CONVERTERS)} --from FOLDER."
        )
    with progress_bar() as progress:
        return {names[0]: convert(names[0], source.expanduser().resolve(), state.made_home, progress)}


def _print(folders: dict[str, Path | None], as_json: bool) -> None:
    from harness.datasets.converters import CONVERTERS, summary

    if as_json:
        return print_json({name: folder and str(folder) for name, folder in folders.items()})
    for name, folder in folders.items():
        click.echo(f"{name}: {folder or 'needs nothing fetched'}")
        if folder and name in CONVERTERS:
            click.echo("\n".join(summary(folder)))
