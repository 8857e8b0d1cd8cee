"""``harness evaluate``: measures for any TREC run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from harness.atomic import dump_json
from harness.columns import regular_file
from harness.kilt import KEYS, evaluate_kilt
from harness.kilt import MEASURES as KILT
from harness.measure import MEASURES, Scores, measure, measure_names
from harness.qrels import read_judgements
from harness.run import Ranking, RunNotes, read_run
from harness.spec import Qrels, UserError

FILE = click.Path(path_type=Path)


@click.command("evaluate")
@click.option(
    "--run",
    "run_path",
    type=FILE,
    required=True,
    help="TREC run, plain or gzipped, or - (stdin); with --kilt a guess.",
)
@click.option("--qrels", "qrels_path", type=FILE, help="Judgements: TREC's 4 columns or BEIR's .tsv.")
@click.option("--kilt", "gold_path", type=FILE, help="Gold file of KILT instead: its measures of a guess.")
@click.option(
    "--kilt-keys", default=",".join(KEYS), show_default=True, help="What makes two provenances of KILT the same."
)
@click.option(
    "--measures", "names", help=f"Names as in ir_measures [default: {' '.join(MEASURES)}; KILT: {' '.join(KILT)}]"
)
@click.option("--per-query", is_flag=True, help="Show every judged query as well.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    run_path: Path,
    qrels_path: Path | None,
    gold_path: Path | None,
    kilt_keys: str,
    names: str | None,
    per_query: bool,
    as_json: bool,
) -> None:
    """Evaluate a TREC run.

    The rules of trec_eval 10.0: documents are ordered by score, then by id descending; judged queries missing from the
    run count 0; queries of the run without judgements are left out.
    """
    if (qrels_path is None) == (gold_path is None):
        raise UserError("Give either --qrels, for a TREC run, or --kilt, for a guess in KILT's format.")
    notes: list[str] = []
    with regular_file(run_path) as run:
        if gold_path is not None:
            keys = [key.strip() for key in kilt_keys.split(",")]
            scores = evaluate_kilt(gold_path, run, re.split(r"[\s,]+", names.strip()) if names else KILT, keys=keys)
        elif qrels_path is not None:
            with regular_file(qrels_path) as qrels:
                scores = _measured(run, qrels, measure_names(names) if names else MEASURES, notes)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    if as_json:
        click.echo(dump_json(_content(scores, per_query, notes)), nl=False)
    else:
        click.echo(_table(scores, per_query))


def _measured(run_path: Path, qrels_path: Path, measures: tuple[str, ...], notes: list[str]) -> Scores:
    qrels, tolerated = read_judgements(qrels_path)
    met: list[str] = []
    found = RunNotes()
    scores = measure(qrels, _noting(read_run(run_path, known=qrels, notes=found), met), measures)
    if not any(query_id in qrels for query_id in met):
        raise UserError(_mismatch(run_path, met, qrels_path, qrels))
    notes += [*tolerated, *found.sentences(run_path.name)]
    return scores


def _noting(rankings: Iterable[Ranking], met: list[str]) -> Iterator[Ranking]:
    for ranking in rankings:
        met.append(ranking.query_id)
        yield ranking


def _mismatch(run_path: Path, met: list[str], qrels_path: Path, qrels: Qrels) -> str:
    judged = list(qrels)
    if not met:
        return f"{run_path} holds no rankings; name a TREC run (query Q0 document rank score tag)."
    if {text.strip().lstrip("0").lower() for text in met} & {text.strip().lstrip("0").lower() for text in judged}:
        cause = "the ids differ in leading zeros or upper case only"
    elif set(met) & {doc_id for judgements in qrels.values() for doc_id in judgements}:
        cause = "the run's queries are documents in the qrels: its columns may be swapped"
    else:
        cause = "they are probably of different datasets or splits"
    return (
        f"{run_path} (queries {', '.join(met[:5])}{' ...' if len(met) > 5 else ''}) and {qrels_path} "
        f"(queries {', '.join(judged[:5])}{' ...' if len(judged) > 5 else ''}) share no query id: {cause}; "
        f"name the qrels that belong to this run."
    )


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
