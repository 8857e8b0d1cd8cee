"""``harness import``: external results as rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from harness.cli.options import completing, dataset_options, examples, results_option
from harness.cli.output import end_with_skipped, print_json, print_table
from harness.cli.session import Session, session_options
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
@session_options
def command(
    session: Session,
    /,
    run_path: Path | None,
    folder: Path | None,
    label: str | None,
    dataset: str | None,
    trained_on: tuple[str, ...],
    measures: str | None,
    results: Path,
    **choice: Any,
) -> None:
    """Import external results as rows, which are marked as imported.

    A TREC run is measured like any other, with intervals and tests. MTEB's results hold means only, so their rows have
    no intervals. A result that was measured here is never replaced.
    """
    if (run_path is None) == (folder is None):
        raise UserError(
            "Name one thing to import: --run FILE --model LABEL -d DATASET, or --mteb FOLDER with MTEB's results."
        )
    store = ResultStore(results)
    if folder is not None:
        if dataset or trained_on or measures or any(value is not None for value in choice.values()):
            raise UserError("MTEB's results name their datasets themselves; leave out what is said of a dataset.")
        return _mteb(session, folder, label, store)
    if not label or not dataset or run_path is None:
        raise UserError(f"Say what the row is called and what the run is of: --run {run_path} --model LABEL -d NAME")
    _run(session, run_path, label, dataset, store, trained_on, measures, **choice)


def _run(
    session: Session,
    run_path: Path,
    label: str,
    dataset: str,
    store: ResultStore,
    trained_on: tuple[str, ...],
    measures: str | None,
    **choice: Any,
) -> None:
    from harness.metrics.measures import MEASURES, measure_names
    from harness.results.frame import unanswered
    from harness.results.import_ import import_run
    from harness.storage.columns import regular_file

    with regular_file(run_path) as run, session.progress_bar(), session.open_dataset(dataset, **choice) as opened:
        names = measure_names(measures) if measures else MEASURES
        command = session.state.command
        found = import_run(run, label, opened, store, measures=names, trained_on=trained_on, command=command)
        if sentence := unanswered(found):
            click.echo(f"note: {sentence}", err=True)
        _print([found], store, session.as_json)


def _mteb(session: Session, folder: Path, label: str | None, store: ResultStore) -> None:
    from harness.results.import_mteb import import_mteb

    done = import_mteb(folder, store, model=label, command=session.state.command)
    _print(done.results, store, session.as_json)
    if done.others:
        click.echo(f"left out: {len(done.others)} scores without nDCG@10, which are not retrieval", err=True)
    end_with_skipped(done.skipped)


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
