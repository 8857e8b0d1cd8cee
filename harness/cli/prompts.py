"""``harness prompts``: many prompts for queries, one encoding of the documents."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.flags import note
from harness.cli.options import completing, dataset_options, examples, results_option, search_options
from harness.cli.output import print_json, print_table, tell_failed
from harness.cli.session import Session, required, search_limits, session_options
from harness.types import Storage

if TYPE_CHECKING:
    from harness.evaluation.prompt_spread import PromptSpread


@click.command(
    "prompts",
    **examples(
        "harness prompts minilm pydocs -f prompts.txt",
        "harness prompts path/to/checkpoint path/to/folder -f prompts.txt --json",
    ),
)
@click.argument("model", shell_complete=completing("models"))
@click.argument("dataset", shell_complete=completing("datasets"))
@click.option(
    "-f",
    "--file",
    "file",
    required=True,
    type=click.Path(path_type=Path),
    help=r"One query prompt a line, blanks at its end included; \n is a line break, empty lines are skipped.",
)
@dataset_options
@search_options
@results_option
@session_options
def command(
    session: Session,
    /,
    model: str,
    dataset: str,
    file: Path,
    storage: Storage,
    memory: int,
    search_device: str,
    results: Path,
    **choice: Any,
) -> None:
    """What nDCG@10 a model has with each of several query prompts, and how far they spread.

    Documents are encoded once. Every prompt is a result like any other, MODEL:query_prompt=..., and is compared with
    the model as it is named, query by query.
    """
    from harness.evaluation.pipeline import benchmark
    from harness.evaluation.prompt_spread import MEASURE, prompt_spread, read_prompts, with_prompts
    from harness.results.store import read_clusters, read_per_query

    prompts = read_prompts(file)
    ref = session.registry.model(model).stored(storage)
    refs = with_prompts(ref, prompts)
    required(refs)
    with session.progress_bar():
        opened = session.open_dataset(dataset, **choice)
        settings = session.settings(results, limits=search_limits(memory, search_device))
        for sentence in opened.notes:
            note(f"{opened.label}: {sentence}")
        cells = [cell for each in refs for cell in benchmark([each], [opened], settings)]  # one model at a time
    tell_failed(cells)
    if any(cell.status == "failed" for cell in cells):
        sys.exit(1)
    folders = [settings.results.folder(cell.model, cell.dataset) for cell in cells]
    values = [read_per_query(folder, MEASURE) for folder in folders]
    found = prompt_spread(prompts, [cell.model for cell in cells], values, read_clusters(folders[0]))
    if session.as_json:
        print_json({"model": ref.label, "dataset": opened.label, "measure": MEASURE, **found.content()})
    else:
        _print(found, opened.label)


def _print(found: PromptSpread, dataset: str) -> None:
    from harness.evaluation.prompt_spread import MEASURE, ends, shown_rows

    print_table([*shown_rows(found)], disable_numparse=True)
    count = len(found.rows) - 1
    said = [
        f"{MEASURE} on {dataset} over {count} prompt{'s' * (count != 1)}: {found.least:.4f} to {found.greatest:.4f}"
    ]
    if found.deviation is not None:
        said[0] += f", standard deviation {found.deviation:.4f}"
        said.append(
            f"mean {found.mean:.4f}, 95% interval over prompts and queries like these {ends(found.interval, '.4f')}"
        )
        said.append(f"another prompt like these, on these queries: {ends(found.another, '.4f')}")
    change = found.best.difference or 0.0
    said.append(
        f"best against the model as named: {change:+.4f} {ends(found.best_interval)}, simultaneous over all prompts"
    )
    click.echo("\n" + "\n".join(f"{sentence}." for sentence in said))
