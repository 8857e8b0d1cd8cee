"""``harness index``: indexes for a search server, of the vectors that were measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.cli.options import completing, dataset_choice, examples
from harness.cli.output import print_json, print_table
from harness.cli.session import Session, session_options
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
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder to create; it must be empty."
)
@dataset_choice()
@session_options
def export_command(
    session: Session,
    /,
    model: str,
    dataset: str,
    factory: str,
    parameters: str,
    output: Path,
    **choice: Any,
) -> None:
    """Write a dataset's vectors as a plain FAISS file, with the document ids.

    The folder holds index.faiss, ids.json (a list; item i is the document of row i) and about.json, which says how to
    search it. The index is built in memory; Flat takes 4 bytes for every dimension of every document.
    """
    from harness.search.index_config import parse_index_config
    from harness.search.index_export import export_index, refuse_existing

    ref = session.dense_model(model)
    recipe = parse_index_config(factory, parameters)
    if recipe.vectors != "dense":
        raise UserError(f"{factory} is no FAISS index, and only those are exported; name one, as in --index HNSW32.")
    refuse_existing(output)
    with session.progress_bar():
        opened = session.open_dataset(dataset, **choice)
        recipe.check(len(opened.corpus), opened.label)
        about = export_index(session.prepared(ref), opened, recipe, output)
    if session.as_json:
        print_json(about)
        return
    record = about["index"]
    shown = {"folder": str(output), "index": factory, "documents": record["documents"], "MiB": record["bytes"] / 2**20}
    print_table([shown], floatfmt=".1f")
