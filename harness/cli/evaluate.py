"""``harness evaluate``: measures for any TREC run."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path
from typing import Any

import click

from harness.cli.options import completing, examples
from harness.cli.session import Session, session_options
from harness.datasets.catalog import from_ir_datasets, unknown
from harness.metrics.kilt import KEYS, evaluate_kilt
from harness.metrics.kilt import MEASURES as KILT
from harness.metrics.measures import MEASURES, Scores, measure, measure_names
from harness.metrics.other_qrels import mismatch, unjudged
from harness.metrics.qrels import Judgements, read_judgements
from harness.metrics.ranking import RunNotes, read_run
from harness.storage.atomic import dump_json
from harness.storage.columns import regular_file
from harness.types import UserError

FILE = click.Path(path_type=Path)


@click.command(
    "evaluate",
    **examples(
        "harness evaluate --run results/bm25/pydocs/run.trec.gz --qrels pydocs",
        "harness evaluate --run run.trec --qrels qrels.tsv --measures 'MAP P@5'",
    ),
)
@click.option(
    "--run",
    "run_path",
    type=FILE,
    required=True,
    help="TREC run, plain or gzipped, or - (stdin); with --kilt a guess.",
)
@click.option(
    "--qrels",
    metavar="FILE|DATASET",
    shell_complete=completing("datasets"),
    help="Judgements: a file in TREC's 4 columns or BEIR's .tsv, or what stands after -d.",
)
@click.option("--split", help="Of a dataset: which qrels/SPLIT.tsv (default: what the dataset says, else test).")
@click.option("--kilt", "gold_path", type=FILE, help="Gold file of KILT instead: its measures of a guess.")
@click.option(
    "--kilt-keys", default=",".join(KEYS), show_default=True, help="What makes two provenances of KILT the same."
)
@click.option(
    "--measures", "names", help=f"Names as in ir_measures [default: {' '.join(MEASURES)}; KILT: {' '.join(KILT)}]"
)
@click.option("--per-query", is_flag=True, help="Show every judged query as well.")
@session_options
def command(
    session: Session,
    /,
    run_path: Path,
    qrels: str | None,
    split: str | None,
    gold_path: Path | None,
    kilt_keys: str,
    names: str | None,
    per_query: bool,
) -> None:
    """Evaluate a TREC run.

    The rules of trec_eval 10.0: documents are ordered by score, then by id descending; judged queries missing from the
    run count 0; queries of the run without judgements are left out.
    """
    if (qrels is None) == (gold_path is None):
        raise UserError("Give either --qrels, for a TREC run, or --kilt, for a guess in KILT's format.")
    notes: list[str] = []
    with regular_file(run_path) as run:
        if gold_path is not None:
            keys = [key.strip() for key in kilt_keys.split(",")]
            scores = evaluate_kilt(gold_path, run, re.split(r"[\s,]+", names.strip()) if names else KILT, keys=keys)
        elif qrels is not None:
            measures = measure_names(names) if names else MEASURES
            judgements = _judgements(session, qrels, split)
            scores = _measured(run, qrels, judgements, measures, notes)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    if session.as_json:
        click.echo(dump_json(_content(scores, per_query, notes)), nl=False)
    else:
        click.echo(_table(scores, per_query))


def _judgements(session: Session, text: str, split: str | None) -> Judgements:
    """The judgements of a file, or of a dataset by its name or folder; UserError if there is neither."""
    path = Path(text)
    if path.exists() and not path.is_dir():
        if split:
            raise UserError(f"--split is for a dataset, and {text} is a file; name the file of that split.")
        with regular_file(path) as file:
            return read_judgements(file)
    registry = session.registry
    if not (path.is_dir() or text in {*registry.datasets, *registry.groups} or from_ir_datasets(text)):
        known = unknown("dataset", text, [*registry.datasets, *registry.groups])
        raise UserError(f"There is no file {text}; check the path, or name a dataset. {known}")
    with session.progress_bar(), session.open_dataset(text, split=split) as dataset:
        return Judgements(dataset.qrels, [])


def _measured(
    run_path: Path, named: str, judgements: Judgements, measures: tuple[str, ...], notes: list[str]
) -> Scores:
    qrels = judgements.qrels
    if met := unjudged(run_path, qrels):  # before the run is read whole
        raise UserError(mismatch(run_path, met, named, qrels))
    found = RunNotes()
    rankings = read_run(run_path, known=qrels, notes=found)
    if (first := next(rankings, None)) is None:
        raise UserError(f"{run_path} holds no rankings; name a TREC run (query Q0 document rank score tag).")
    scores = measure(qrels, chain([first], rankings), measures)
    notes += [*judgements.notes, *found.sentences(run_path.name)]
    return scores


def _content(scores: Scores, per_query: bool, notes: list[str]) -> dict[str, Any]:
    content: dict[str, Any] = {
        "measures": scores.mean(),
        "counts": {"judged": scores.judged, "missing": scores.missing, "unjudged": scores.unjudged},
        "notes": notes,
    }
    if per_query:
        rows = zip(scores.query_ids, scores.values.tolist(), strict=True)
        content["per_query"] = {query_id: dict(zip(scores.measures, row, strict=True)) for query_id, row in rows}
    return content


def _table(scores: Scores, per_query: bool) -> str:
    rows = [("mean", list(scores.mean().values()))]
    if per_query:
        rows = [*zip(scores.query_ids, scores.values.tolist(), strict=True), *rows]
    cells = [["query", *scores.measures], *([name, *(f"{value:.4f}" for value in row)] for name, row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join([name.ljust(widths[0]), *map(str.rjust, row, widths[1:])]) for name, *row in cells]
    counts = (
        f"{scores.judged} judged queries, {scores.missing} of them missing from the run (counted 0); "
        f"{scores.unjudged} queries of the run without judgements (left out)"
    )
    return "\n".join([*lines, "", counts])
