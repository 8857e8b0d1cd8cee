"""``harness release``: a checkpoint -> a folder ready for the hub."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from harness.cli.flags import note
from harness.cli.options import examples, json_option
from harness.cli.output import print_json, progress_bar


@click.command(
    "release",
    **examples(
        "harness release runs/isotropy/seed42 -o path/to/release",
        "harness release path/to/checkpoint -o out --name organisation/name",
    ),
)
@click.argument("source", type=click.Path(path_type=Path), metavar="CHECKPOINT|RUN")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The folder to make.")
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    default=Path("results"),
    show_default=True,
    help="Where the card's numbers are looked for.",
)
@click.option("--name", default="", help="On the hub: NAME or ORG/NAME (default: the folder's name).")
@click.option("--licence", default="apache-2.0", show_default=True, help="Identifier of the licence you give it.")
@json_option
def command(source: Path, output: Path, results: Path, name: str, licence: str, as_json: bool) -> None:
    """Make a folder for the hub: model, card with measured results, manifest.

    The copy is loaded and compared by sentence-transformers alone. Uploading is left to you: the command is printed.
    """
    from harness_training.release.release import release

    with progress_bar() as progress:
        made = release(source.expanduser(), output.expanduser(), results, name=name, licence=licence, progress=progress)
    measured = len({cell["dataset"] for cell in made.manifest["results"]})
    if not measured:
        note(f"no result in {results} belongs to this checkpoint, so the card shows none")
    if "/" not in made.manifest["name"]:
        note("the card's example loads the model by its bare name; give --name ORG/NAME for the hub")
    upload = shlex.join(made.upload)
    if as_json:
        return print_json({"folder": str(made.folder), "upload": upload, "manifest": made.manifest})
    click.echo(f"{made.folder}: {len(made.manifest['files']) + 1} files; measured datasets in the card: {measured}")
    click.echo(f"Read README.md there, then upload it yourself: {upload}")
