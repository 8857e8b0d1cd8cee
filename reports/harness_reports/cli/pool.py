"""``harness pool``: which unjudged documents to judge first, and results under the judgements that come back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.flags import note
from harness.cli.options import completing, examples, json_option, results_option
from harness.cli.output import end_with_skipped, print_json, print_table, progress_bar
from harness.types import UserError

if TYPE_CHECKING:
    from harness_reports.data.leaderboard import Leaderboard
    from harness_reports.data.per_query import Evidence
    from harness_reports.pool.choose import PoolCandidate

K = 10


@click.command(
    "pool",
    **examples(
        "harness pool bm25 minilm -d scifact -o judge.txt",
        "harness pool bm25 minilm -d scifact --read judge.txt",
    ),
)
@click.argument("models", nargs=-1, metavar="MODEL MODEL ...", shell_complete=completing("results"))
@results_option
@click.option("-d", "--dataset", help="The dataset, if the models share several.")
@click.option("--count", type=click.IntRange(1), default=50, show_default=True, help="How many documents to write.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="A file instead of the screen.")
@click.option(
    "--read",
    "filled",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file with grades: measure the stored runs again with these judgements added to the dataset's.",
)
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    models: tuple[str, ...],
    results: Path,
    dataset: str | None,
    count: int,
    output: Path | None,
    filled: Path | None,
    as_json: bool,
) -> None:
    """Which unjudged documents to judge first.

    Those in the first ten of two or more models, the documents that could take most of a lead in nDCG@10 first, as
    TREC's qrels with a ? for the grade and the texts in comments. With --read, the grades come back as an overlay:
    results named DATASET:overlay=FILE beside those without it.
    """
    from harness.cli.main import State
    from harness_reports.data.leaderboard import read_leaderboard
    from harness_reports.data.per_query import Evidence

    state = ctx.ensure_object(State)
    evidence = Evidence(read_leaderboard(results))
    named = [evidence.board.label(model) for model in models]
    chosen = _dataset(evidence.board, named, dataset, least=1 if filled else 2)
    if filled:
        _remeasure(evidence, named, chosen, filled, state, as_json)
    else:
        _write(evidence, named, chosen, count, output, state, as_json)
    end_with_skipped([*evidence.skipped.values()])


def _dataset(board: Leaderboard, models: list[str], named: str | None, least: int) -> str:
    """The dataset that is named, or the only one that all models, at least so many, have results of."""
    from harness.datasets.catalog import unknown

    for model in models:
        if model not in board.models:
            raise UserError(unknown("result of a model", model, board.models, f" in {board.root}"))
    if len({*models}) < max(least, len(models)):
        raise UserError("Name two or more different models, each once: harness pool bm25 minilm -d scifact, say.")
    cells = {**board.cells, **board.partial_cells}
    shared = [d for d in (*board.datasets, *board.partial_datasets) if all((model, d) in cells for model in models)]
    if named is not None and named not in shared:
        raise UserError(unknown("dataset that these models share", named, shared, f" in {board.root}"))
    usual = [label for label in shared if label in board.datasets] or shared
    if named is None and len(usual) != 1:
        raise UserError(f"These models share {', '.join(usual) or 'no dataset'}; name one of theirs with -d.")
    return named or usual[0]


def _write(
    evidence: Evidence, models: list[str], dataset: str, count: int, output: Path | None, state: Any, as_json: bool
) -> None:
    from harness.storage.atomic import write_file
    from harness_reports.compare.unjudged import read_judged
    from harness_reports.pool.choose import choose

    with progress_bar() as progress:
        progress(f"reading runs on {dataset}", 0, 0)
        judged = read_judged(evidence, models, dataset, f"nDCG@{K}", state.home)
        if judged is None or {*judged.first} != {*models}:
            end_with_skipped([*evidence.skipped.values()])
            raise UserError(
                f"The judgements of {dataset} or the runs of these models are not on this machine, or the models saw "
                f"different versions of it; run harness benchmark for them again here."
            )
        progress(f"choosing documents of {dataset}", 0, 0)
        candidates = choose(judged.qrels, judged.first, K)
    if not candidates:
        raise UserError(
            f"All documents in the first {K} of these models are judged on {dataset}: nothing is left open."
        )
    note(f"{len(candidates):,} documents in the first {K} are not judged; {min(count, len(candidates)):,} are written")
    if as_json:
        return print_json([each._asdict() for each in candidates[:count]])
    text = _text(evidence, models, dataset, candidates[:count], state.home / "corpora")
    if output:
        write_file(output, lambda stream: stream.write(text.encode()))
        click.echo(f"{output}: {min(count, len(candidates))} documents; fill in the grades, then add --read {output}")
    else:
        click.echo(text, nl=False)


def _text(evidence: Evidence, models: list[str], dataset: str, candidates: list[PoolCandidate], corpora: Path) -> str:
    from harness_reports.compare.documents import local_documents
    from harness_reports.pool.file import text

    cell = evidence.cell(models[0], dataset)
    sha256 = cell.get("manifest", "dataset", "fingerprint", "corpus") if cell else None
    documents = local_documents(corpora, str(sha256), [each.doc_id for each in candidates])
    title = f"Unjudged documents of {dataset} that could change the order of {', '.join(models)}, the first ones most"
    return text(title, candidates, evidence.texts(dataset), documents)


def _remeasure(evidence: Evidence, models: list[str], dataset: str, filled: Path, state: Any, as_json: bool) -> None:
    from harness.datasets.overlay import Overlay
    from harness.metrics.qrels import read_judgements
    from harness_reports.pool.file import OPEN
    from harness_reports.pool.remeasure import SHOWN, remeasure

    if not re.fullmatch(r"[\w.-]+", filled.stem):
        raise UserError(f"The results are named after the file; name {filled.name} with a-z, 0-9, -, _ and . alone.")
    overlay = Overlay(filled.stem, read_judgements(filled, ungraded=OPEN).qrels)
    with progress_bar() as progress:
        found = remeasure(evidence, models, dataset, overlay, state.home, command=state.command, progress=progress)
    if as_json:
        print_json([each._asdict() for each in found])
        return
    rows = [
        {"model": each.model, "dataset": each.dataset}
        | {
            heading: value
            for name in SHOWN
            for heading, value in ((name, each.before.get(name)), (f"{name} now", each.after[name]))
        }
        for each in found
    ]
    print_table(rows, floatfmt=".4f", missingval="-")
