"""``harness benchmark``: models x datasets -> results."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.executor_options import Executor, executor_options
from harness.cli.flags import examples, note
from harness.cli.main import State
from harness.cli.options import (
    chosen_models,
    completing,
    dataset_options,
    depth_option,
    json_option,
    offline_option,
    pass_state,
    plugin_option,
    print_json,
    print_table,
    progress_bar,
    required,
    results_option,
    search_limits,
    search_options,
    suites_option,
    tell_failed,
)
from harness.system.paths import made
from harness.types import Storage, UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from harness.datasets.beir import Dataset
    from harness.evaluation.pipeline import Cell
    from harness.search.index_config import IndexConfig


@click.command(
    "benchmark",
    **examples(
        "harness benchmark -m bm25 -m minilm --suite demo",
        "harness benchmark -m bm25:k1=1.2,b=0.75 -d path/to/folder --limit 100",
    ),
)
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    shell_complete=completing("models"),
    help='Name, path to a checkpoint, NAME:key=value,..., "rrf(NAME,NAME)".',
)
@click.option(
    "-d",
    "--dataset",
    "datasets",
    multiple=True,
    shell_complete=completing("datasets", "groups"),
    help="Name, or path to a folder in BEIR format.",
)
@suites_option
@dataset_options
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    help="For every dense model and reranker named.",
)
@search_options
@click.option(
    "--index",
    "indexes",
    multiple=True,
    metavar="FACTORY",
    help="Search dense models with this FAISS index too, and say what it costs against exact search.",
)
@click.option(
    "--index-search",
    "searches",
    multiple=True,
    metavar="NAME=N,...",
    help="Its search parameters, as in nprobe=16; one for all, or one for each --index in order.",
)
@click.option("--measures", help='ir_measures names, as in "nDCG@10 P@5"; added to those that a result holds already.')
@depth_option
@executor_options
@results_option
@click.option(
    "--store",
    envvar="HARNESS_STORE",
    metavar="URL",
    help="Folder or URL (s3://, gs://, az://, https://, file://) that machines share vectors in.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Compute finished cells again (stored vectors are still used); corpora and weights are hashed again, too.",
)
@click.option(
    "--log",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="HARNESS_LOG",
    help="Append what happens to this file, as JSON lines; it rotates at 10 MB [of workers: $HARNESS_HOME/logs].",
)
@offline_option
@plugin_option
@json_option
@pass_state
def command(
    state: State,
    /,
    models: tuple[str, ...],
    datasets: tuple[str, ...],
    suites: tuple[str, ...],
    dtype: str | None,
    storage: Storage,
    memory: int,
    search_device: str,
    indexes: tuple[str, ...],
    searches: tuple[str, ...],
    measures: str | None,
    depth: int,
    results: Path,
    store: str | None,
    force: bool,
    log: Path | None,
    offline: bool,
    plugins: tuple[Path, ...],
    as_json: bool,
    executor: Executor,
    **choice: Any,
) -> None:
    """Evaluate every model on every dataset.

    Finished cells are reused when nothing they depend on has changed; an interrupted run resumes. Further measures are
    computed from the stored runs and added to the results.
    """
    from harness.download.weights import forget
    from harness.evaluation.open_datasets import open_all
    from harness.evaluation.pipeline import Settings
    from harness.results.store import ResultStore
    from harness.storage.remote import open_shared
    from harness.system.log_file import journal

    registry = state.registry(plugins)
    if force:
        forget(state.home)
    refs = chosen_models(registry, models, dtype, storage)
    required(refs)
    names = chosen_measures(measures, depth)
    recipes = _recipes(indexes, searches)
    for ref in refs if recipes else ():
        if not ref.has_vectors:
            note(f"--index is for dense models; {ref.label} is searched as ever")
    log = log or executor.log(state.home)
    if log:
        made(log.absolute().parent, "choose another file with --log")
    run = executor.benchmark([*state.plugins, *plugins])
    cells = []
    with journal(log) if log else nullcontext(), progress_bar() as progress:
        shared = open_shared(store, state.made_home, note, progress, offline=offline) if store else None
        opened = open_all(
            datasets,
            suites,
            registry,
            state.made_home,
            offline=offline,
            rehash=force,
            progress=progress,
            note=note,
            **choice,
        )
        for sentence in _dataset_notes(opened, names, depth):
            note(sentence)
        settings = Settings(
            home=state.home,
            results=ResultStore(made(results, "choose another folder with --results")),
            measures=names,
            k=depth,
            limits=search_limits(memory, search_device),
            indexes=recipes,
            force=force,
            offline=offline,
            shared=shared,
            command=state.command,
            progress=progress,
        )
        for cell in run(refs, opened, settings):
            cells.append(cell)
            _tell(cell)
        if shared:
            shared.settle()
    if as_json:
        print_json(
            [
                {**(c.result or {}), "model": c.model, "dataset": c.dataset, "cell": c.status, "reason": c.reason}
                | ({"traceback": c.trace} if c.trace else {})
                for c in cells
            ]
        )
    else:
        print_table([_row(c, names) for c in cells], floatfmt=".4f", missingval="-")
    if any(c.status == "failed" for c in cells):
        sys.exit(1)


def _dataset_notes(datasets: Iterable[Dataset], measures: Sequence[str], depth: int) -> Iterator[str]:
    """What to know of the datasets, and of metrics that have no cutoff."""
    from harness.metrics.depth import depth_notes

    for dataset in datasets:
        yield from (f"{dataset.label}: {sentence}" for sentence in dataset.notes)
        yield from depth_notes(measures, depth, len(dataset.corpus) - dataset.exclude_self, dataset.label)


def _tell(cell: Cell) -> None:
    """How a cell ended, on stderr and in the log."""
    from harness.evaluation.encode_rate import sentence as rate_sentence
    from harness.results.frame import unanswered
    from harness.system.log import note as log_event

    for rate in cell.result["manifest"]["run"]["encoding"] if cell.result and cell.status == "ok" else ():
        note(f"{cell.dataset}: {rate_sentence(rate)}")
    if cell.replaced:
        note(replaced(cell))
    if cell.result and (sentence := unanswered(cell.result)):
        note(f"{cell.model} on {cell.dataset}: {sentence}")
    if cell.status == "cached":
        log_event("reused", model=cell.model, dataset=cell.dataset)
    tell_failed([cell])


def replaced(cell: Cell) -> str:
    """Why a stored result was replaced."""
    return f"{cell.model} on {cell.dataset}: the {cell.replaced} has changed; the stored result is replaced"


def chosen_measures(text: str | None, depth: int) -> tuple[str, ...]:
    """Those that ``--measures`` names, else the usual ones that runs of that depth give."""
    from harness.metrics.depth import fits
    from harness.metrics.measures import MEASURES, measure_names

    return measure_names(text) if text else tuple(name for name in MEASURES if fits(name, depth, depth + 1))


def _recipes(factories: tuple[str, ...], searches: tuple[str, ...]) -> tuple[IndexConfig, ...]:
    from harness.search.index_config import parse_index_config

    if len(searches) not in (0, 1, len(factories)):
        raise UserError(
            f"There are {len(searches)} --index-search for {len(factories)} --index; give one for all, or one for each "
            f"in the same order ('' for none)."
        )
    given = searches * len(factories) if len(searches) == 1 else searches or ("",) * len(factories)
    if searches and not factories:
        raise UserError("--index-search is for an index; name one, as in --index IVF64,Flat.")
    return tuple(
        dict.fromkeys(parse_index_config(factory, search) for factory, search in zip(factories, given, strict=True))
    )


def _row(cell: Any, names: tuple[str, ...]) -> dict[str, Any]:
    measures = cell.result["measures"] if cell.result else {}
    documents = (cell.result or {}).get("geometry", {}).get("documents", {})
    row = {"model": cell.model, "dataset": cell.dataset, "status": cell.status}
    index = (cell.result or {}).get("index", {}).get("served", {})
    recall = {"recall@10": index["recall@10"]} if index else {}
    return row | {name: measures.get(name) for name in names} | {"isotropy": documents.get("isotropy")} | recall
