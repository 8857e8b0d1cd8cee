"""``harness index``: what is served, from what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.cli.flags import examples
from harness.cli.main import State
from harness.cli.options import (
    completing,
    dataset_choice,
    json_option,
    offline_option,
    pass_state,
    plugin_option,
    print_json,
    print_table,
    progress_bar,
)
from harness.types import UserError


@click.group("index")
def command() -> None:
    """Indexes of a model's vectors, for use outside the harness."""


@command.command(
    "export",
    **examples(
        "harness index export -m minilm -d pydocs -o exported",
        "harness index export -m minilm -d pydocs -o exported --index HNSW32",
    ),
)
@click.option(
    "-m", "--model", required=True, shell_complete=completing("models"), help="Name, path, NAME:key=value,..."
)
@click.option("-d", "--dataset", required=True, shell_complete=completing("datasets"), help="Name, or path.")
@click.option("--index", "factory", default="Flat", show_default=True, metavar="FACTORY", help="Any FAISS index.")
@click.option(
    "--index-search", "parameters", default="", metavar="NAME=N,...", help="Parameters to recommend, as in nprobe=16."
)
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder to make; it must not hold anything."
)
@dataset_choice()
@offline_option
@plugin_option
@json_option
@pass_state
def export_command(
    state: State,
    /,
    model: str,
    dataset: str,
    factory: str,
    parameters: str,
    output: Path,
    offline: bool,
    plugins: tuple[Path, ...],
    as_json: bool,
    **choice: Any,
) -> None:
    """Write a dataset's vectors as a plain FAISS file, with the document ids.

    The folder holds index.faiss, ids.json (a list; item i is the document of row i) and about.json, which says how to
    ask.
    The index is built in memory, whole; Flat takes 4 bytes for every dimension of every document.
    """
    from harness.evaluation.open_datasets import open_named
    from harness.models.runner import Prepared
    from harness.search.index_config import parse_index_config
    from harness.search.index_export import export_index, refuse_existing

    registry = state.registry(plugins)
    ref = registry.model(model)
    if not ref.has_vectors:
        raise UserError(f"{model} is a {ref.spec.kind} model, which has no vectors; name a dense one with -m.")
    ref.require()
    recipe = parse_index_config(factory, parameters)
    refuse_existing(output)
    home = state.made_home
    with progress_bar() as progress:
        opened = open_named(dataset, registry, home, offline=offline, progress=progress, **choice)
        recipe.check(len(opened.corpus), opened.label)
        about = export_index(Prepared(ref, home, offline=offline, progress=progress), opened, recipe, output)
    if as_json:
        print_json(about)
        return
    record = about["index"]
    shown = {"folder": str(output), "index": factory, "documents": record["documents"], "MiB": record["bytes"] / 2**20}
    print_table([shown], floatfmt=".1f")
