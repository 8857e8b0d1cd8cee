"""``harness import``: other people's results as rows."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from harness.cli.flags import examples
from harness.cli.main import State
from harness.cli.options import (
    completing,
    dataset_options,
    json_option,
    offline_option,
    pass_state,
    plugin_option,
    print_json,
    print_table,
    progress_bar,
    results_option,
)
from harness.results.schema import Result
from harness.results.store import ResultStore
from harness.types import UserError

FILE = click.Path(path_type=Path)


@click.command(
    "import",
    **examples(
        "harness import --run run.trec --model theirs -d pydocs",
        "harness import --mteb path/to/mteb/results",
    ),
)
@click.option(
    "--run",
    "run_path",
    type=FILE,
    help="A TREC run, plain or gzipped, or - (stdin): measured on the dataset of -d.",
)
@click.option("--mteb", "folder", type=FILE, help="A folder with MTEB's results: MODEL/REVISION/TASK.json, or above.")
@click.option("--model", "-m", "label", help="What the row is called.")
@click.option("-d", "--dataset", "dataset", shell_complete=completing("datasets"), help="What the run was made on.")
@click.option("--trained-on", multiple=True, help="A dataset whose judgements the model saw; its cell is in-domain.")
@click.option("--measures", help='With --run: ir_measures names, as in "nDCG@10 P@5"; added to those it has already.')
@results_option
@dataset_options
@offline_option
@plugin_option
@json_option
@pass_state
def command(
    state: State,
    /,
    run_path: Path | None,
    folder: Path | None,
    label: str | None,
    dataset: str | None,
    trained_on: tuple[str, ...],
    measures: str | None,
    results: Path,
    offline: bool,
    plugins: tuple[Path, ...],
    as_json: bool,
    **choice: Any,
) -> None:
    """Take other people's results in as rows, marked as imported.

    A TREC run is measured as any other, with intervals and tests. MTEB's results hold means alone: their rows have no
    intervals. A result that was measured here is never replaced.
    """
    if (run_path is None) == (folder is None):
        raise UserError(
            "Name one thing to import: --run FILE --model LABEL -d DATASET, or --mteb FOLDER with MTEB's results."
        )
    store = ResultStore(results)
    if folder is not None:
        if dataset or trained_on or measures or any(value is not None for value in choice.values()):
            raise UserError("MTEB's results name their datasets themselves; leave out what is said of a dataset.")
        return _mteb(folder, label, store, state.command, as_json)
    from harness.evaluation.open_datasets import open_named
    from harness.metrics.measures import MEASURES, measure_names
    from harness.results.frame import unanswered
    from harness.results.import_ import import_run
    from harness.storage.columns import regular_file

    if not label or not dataset or run_path is None:
        raise UserError(f"Say what the row is called and what the run is of: --run {run_path} --model LABEL -d NAME")
    registry = state.registry(plugins)
    with (
        regular_file(run_path) as run,
        progress_bar() as progress,
        open_named(dataset, registry, state.made_home, offline=offline, progress=progress, **choice) as opened,
    ):
        names = measure_names(measures) if measures else MEASURES
        told = {"measures": names, "trained_on": trained_on, "command": state.command}
        found = import_run(run, label, opened, store, **told)  # type: ignore[arg-type]
        if sentence := unanswered(found):
            click.echo(f"note: {sentence}", err=True)
        _print([found], store, as_json)


def _mteb(folder: Path, label: str | None, store: ResultStore, typed: str, as_json: bool) -> None:
    from harness.results.import_mteb import import_mteb

    done = import_mteb(folder, store, model=label, command=typed)
    _print(done.results, store, as_json)
    if done.others:
        click.echo(f"left out: {len(done.others)} scores without nDCG@10, which are no retrieval", err=True)
    for one in done.skipped:
        click.echo(f"skipped: {one.place}: {one.reason}", err=True)
    if done.skipped:
        sys.exit(1)


def _print(results: Sequence[Result], store: ResultStore, as_json: bool) -> None:
    rows = [
        {
            "model": result["model"],
            "dataset": result["dataset"],
            "imported": result["imported"],
            "nDCG@10": result["measures"].get("nDCG@10"),
            "folder": str(store.folder(result["model"], result["dataset"])),
        }
        for result in results
    ]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(rows, floatfmt=".4f")
