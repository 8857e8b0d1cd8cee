"""``harness fetch``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.options import completing, examples
from harness.cli.output import print_json
from harness.cli.session import Session, session_options
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
@session_options
def command(session: Session, /, names: tuple[str, ...], suites: tuple[str, ...], source: Path | None) -> None:
    """Download datasets and the weights of models ahead of time, and verify them.

    For a dataset under licence, this says who grants access and what to put where (the exit code is then 2), and with
    --from converts the original files.
    """
    if source is not None:
        return _print(_converted(session, names, suites, source), session.as_json)
    from harness.datasets.catalog import status

    registry, home = session.registry, session.home
    wanted = _wanted(names, suites, registry)
    gated = [n for n in wanted if n in registry.datasets and status(registry.datasets[n], home) == "needs licence"]
    with session.progress_bar():
        folders = {name: None if name in gated else _obtained(session, name) for name in wanted}
    shown = folders if session.as_json else {name: folder for name, folder in folders.items() if name not in gated}
    _print(shown, session.as_json)
    for name in gated:
        click.echo(registry.datasets[name].instructions.strip() + "\n", err=session.as_json)
    if gated:
        raise UserError(
            f"{', '.join(gated)} not fetched: a licence is needed; do what is said above, then type: "
            f"harness fetch {gated[0]} --from FOLDER"
        )


def _obtained(session: Session, name: str) -> Path | None:
    """The folder of a dataset or a model, downloaded if need be; None for a model without files."""
    from harness.datasets.acquire import obtain as dataset
    from harness.datasets.catalog import from_ir_datasets
    from harness.download.hub_models import obtain as snapshot
    from harness.download.pinned_models import obtain as model

    registry, home = session.registry, session.home
    options: dict[str, Any] = {"offline": session.offline, "progress": session.progress}
    if spec := registry.datasets.get(name) or from_ir_datasets(name):
        return dataset(spec, home, known=registry.datasets.values(), **options)
    if name not in registry.models:
        return snapshot(registry.model(name).repository, home, renew=True, **options)
    weights = registry.models[name].spec.files.weights
    return model(weights, home, **options) if weights else None


def _wanted(names: tuple[str, ...], suites: tuple[str, ...], registry: Registry) -> list[str]:
    """Models and datasets to fetch, those of groups one by one; folders among a suite's entries need no download."""
    from harness.datasets.catalog import from_ir_datasets, looks_like_path, suite, unknown
    from harness.evaluation.open_datasets import expand

    known = {*registry.models, *registry.datasets, *registry.groups, *filter(from_ir_datasets, names)}
    listed = [entry for text in suites for entry in suite(text).datasets]
    wanted = expand([*names, *(entry for entry in listed if entry in known or not looks_like_path(entry))], registry)
    if not wanted:
        raise UserError("Nothing to fetch is named; type: harness fetch NAME, or harness fetch --suite NAME")
    for name in wanted:
        if name not in known and not ((":" in name or "/" in name) and registry.model(name).spec.files.repository):
            raise UserError(unknown("model or dataset", name, known))
    return wanted


def _converted(
    session: Session, names: tuple[str, ...], suites: tuple[str, ...], source: Path
) -> dict[str, Path | None]:
    from harness.datasets.converters import CONVERTERS, convert

    if len(names) != 1 or suites or names[0] not in CONVERTERS:
        raise UserError(
            f"--from goes with one dataset under licence: harness fetch {'|'.join(CONVERTERS)} --from FOLDER."
        )
    with session.progress_bar() as progress:
        return {names[0]: convert(names[0], source.expanduser().resolve(), session.home, progress)}


def _print(folders: dict[str, Path | None], as_json: bool) -> None:
    from harness.datasets.converters import CONVERTERS, summary

    if as_json:
        return print_json({name: folder and str(folder) for name, folder in folders.items()})
    for name, folder in folders.items():
        click.echo(f"{name}: {folder or 'needs nothing fetched'}")
        if folder and name in CONVERTERS:
            click.echo("\n".join(summary(folder)))
