"""``harness benchmark``: models x datasets -> results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.endpoint_options import EndpointOptions, endpoint_options
from harness.cli.executor_options import Executor, executor_options
from harness.cli.flags import note
from harness.cli.options import (
    completing,
    dataset_options,
    datasets_option,
    depth_option,
    examples,
    results_option,
    search_options,
    suites_option,
)
from harness.cli.output import end_with_failed, print_json, print_table, tell_failed
from harness.cli.session import Session, required, search_limits, session_options
from harness.types import Storage, UserError

if TYPE_CHECKING:
    from harness.datasets.beir import Dataset
    from harness.evaluation.pipeline import Cell
    from harness.registry.model_ref import ModelRef
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
@datasets_option
@suites_option
@dataset_options
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    help="For every dense model and reranker named.",
)
@click.option("--query-prompt", metavar="TEXT", help="Put before every query, by every model that takes one; or @FILE.")
@click.option("--document-prompt", metavar="TEXT", help="Likewise before every document.")
@search_options
@click.option(
    "--index",
    "indexes",
    multiple=True,
    metavar="FACTORY",
    help="Search dense models with this FAISS index too (sparse ones with seismic, multi-vector ones with plaid), and "
    "say what it costs.",
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
@endpoint_options
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
@session_options
def command(
    session: Session,
    /,
    models: tuple[str, ...],
    datasets: tuple[str, ...],
    suites: tuple[str, ...],
    dtype: str | None,
    query_prompt: str | None,
    document_prompt: str | None,
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
    executor: Executor,
    base_url: str | None,
    max_tokens: int | None,
    max_cost: float | None,
    **choice: Any,
) -> None:
    """Evaluate every model on every dataset.

    Finished cells are reused when nothing they depend on has changed; an interrupted run resumes. Further measures are
    computed from the stored runs and added to the results.
    """
    if force:
        _forget_checks(session)
    endpoint = EndpointOptions(base_url, max_tokens, max_cost)
    refs = endpoint.passed_to(session.models(models, dtype, storage))
    refs = with_prompts(refs, query=query_prompt, document=document_prompt)
    required(refs)
    budget = endpoint.budget(refs, alone=executor.kind == "in-process")
    names, recipes = chosen_measures(measures, depth), _recipes(indexes, searches, refs)
    run = executor.benchmark([*session.state.plugins, *session.plugins])
    limits, cells = search_limits(memory, search_device), []
    with _logging(log or executor.log(session.state.home)), session.progress_bar():
        shared = _remote(session, store)
        opened = session.open_datasets(datasets, suites, rehash=force, **choice)
        for sentence in dataset_notes(opened, names, depth):
            note(sentence)
        searching: dict[str, Any] = {"measures": names, "k": depth, "limits": limits, "indexes": recipes}
        searching["budget"] = budget
        for cell in run(refs, opened, session.settings(results, force=force, shared=shared, **searching)):
            cells.append(cell)
            tell(cell)
        if shared:
            shared.flush()
    if budget.requests:
        note(f"sent to endpoints: {budget.summary()}")
    if session.as_json:
        print_json([_content(cell) for cell in cells])
    else:
        print_table([_row(cell, names) for cell in cells], floatfmt=".4f", missingval="-")
    end_with_failed(cells)


def with_prompts(refs: Sequence[ModelRef], **given: str | None) -> list[ModelRef]:
    """The models with these prompts by role (text or ``@file``); UserError where none of them takes a prompt."""
    from harness.registry.option_values import text_or_file

    for role, text in given.items():
        if text is None:
            continue
        option = f"{role}_prompt"
        if not any(ref.takes(option) for ref in refs):
            labels = ", ".join(ref.label for ref in refs)
            raise UserError(f"No model takes a prompt: --{role}-prompt sets the option {option}, which {labels} lacks.")
        refs = [ref.passing(**{option: text_or_file(text, f"--{role}-prompt")}) for ref in refs]
    return [*refs]


def _forget_checks(session: Session) -> None:
    """Makes the hashes of weights be computed again."""
    from harness.download.local_weights import clear_hash_cache

    clear_hash_cache(session.state.home)


def _logging(file: Path | None) -> AbstractContextManager[object]:
    """Logs events to the file, if there is one, while the block runs."""
    from harness.system.log_file import log_to_file
    from harness.system.paths import make_folder

    if file is None:
        return nullcontext()
    make_folder(file.absolute().parent, "choose another file with --log")
    return log_to_file(file)


def _remote(session: Session, url: str | None) -> Any:
    """The remote cache behind the local one; None without a URL."""
    from harness.storage.remote import open_remote_cache

    return open_remote_cache(url, session.home, note, session.progress, offline=session.offline) if url else None


def dataset_notes(datasets: Iterable[Dataset], measures: Sequence[str], depth: int) -> Iterator[str]:
    """Notes on the datasets, and on metrics that have no cutoff."""
    from harness.metrics.depth import depth_notes

    for dataset in datasets:
        yield from (f"{dataset.label}: {sentence}" for sentence in dataset.notes)
        yield from depth_notes(measures, depth, len(dataset.corpus) - dataset.exclude_self, dataset.label)


def tell(cell: Cell) -> None:
    """Reports how a cell ended, on stderr and in the log."""
    from harness.evaluation.encode_rate import rate_sentence as rate_sentence
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
    """The measures that ``--measures`` names; by default the usual ones that a run of that depth can give."""
    from harness.metrics.depth import fits
    from harness.metrics.measures import MEASURES, measure_names

    return measure_names(text) if text else tuple(name for name in MEASURES if fits(name, depth, depth + 1))


def _recipes(
    factories: tuple[str, ...], searches: tuple[str, ...], refs: Iterable[ModelRef]
) -> tuple[IndexConfig, ...]:
    """The approximate indexes to build; models that none of them fits are searched without one, and a note says so."""
    from harness.search.index_config import parse_index_config

    if len(searches) not in (0, 1, len(factories)):
        raise UserError(
            f"There are {len(searches)} --index-search for {len(factories)} --index; give one for all, or one for each "
            f"in the same order ('' for none)."
        )
    given = searches * len(factories) if len(searches) == 1 else searches or ("",) * len(factories)
    if searches and not factories:
        raise UserError("--index-search is for an index; name one, as in --index IVF64,Flat.")
    recipes = dict.fromkeys(
        parse_index_config(factory, search) for factory, search in zip(factories, given, strict=True)
    )
    kinds = {recipe.vectors: None for recipe in recipes}
    for ref in refs if recipes else ():
        if ref.vectors not in kinds:
            note(f"--index is for {' and '.join(kinds)} models; {ref.label} is searched without it")
    return tuple(recipes)


def _content(cell: Cell) -> dict[str, Any]:
    stated = {"model": cell.model, "dataset": cell.dataset, "cell": cell.status, "reason": cell.reason}
    return {**dict(cell.result or {}), **stated} | ({"traceback": cell.trace} if cell.trace else {})


def _row(cell: Cell, names: tuple[str, ...]) -> dict[str, Any]:
    result: Any = cell.result or {}
    measures = result.get("measures", {})
    documents = result.get("geometry", {}).get("documents", {})
    row: dict[str, Any] = {"model": cell.model, "dataset": cell.dataset, "status": cell.status}
    index = result.get("index", {}).get("served", {})
    recall = {"recall@10": index["recall@10"]} if index else {}
    return row | {name: measures.get(name) for name in names} | {"isotropy": documents.get("isotropy")} | recall
